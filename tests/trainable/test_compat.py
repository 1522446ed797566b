"""Every private name of torch has a public fallback that computes the same."""

from __future__ import annotations

import ast
import copy
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rungwise.trainable.config import Config
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.model import ACTIVATIONS, build
from rungwise.trainable.packing.matmul import fast_products
from rungwise.trainable.packing.pack import train_together
from rungwise.trainable.training import compat
from rungwise.trainable.training.optimizers import build_optimizer, prepare_step
from rungwise.trainable.training.state import State, generator

TRAINABLE = Path(__file__).parents[2] / "trainable"


@pytest.fixture(autouse=True)
def forget_choices() -> Iterator[None]:
    """What a process has chosen is chosen again, and its products are those of before."""
    settings = torch.backends.mkldnn.matmul
    precision = settings.fp32_precision
    forget_all()
    yield
    forget_all()
    settings.fp32_precision = precision


def forget_all() -> None:
    for function in (compat.fused_step, compat.activation_backward, compat.batch_norm):
        function.cache_clear()


def broken(*_: Any, **__: Any) -> Any:
    raise TypeError("takes other arguments in this version")


def test_no_other_file_uses_a_private_name_of_torch() -> None:
    private = re.compile(r"torch\.(ops\b|(\w+\.)*_)")
    using = {
        str(file.relative_to(TRAINABLE))
        for file in TRAINABLE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and private.match(ast.unparse(node))
    }
    assert using == {"training/compat.py"}


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_without_its_kernel_an_optimiser_takes_the_same_steps(monkeypatch: pytest.MonkeyPatch, optimizer: str) -> None:
    config = Config(hidden=(8,), optimizer=optimizer, weight_decay=0.01)
    model = build(config, (20,), 4, generator("cpu", 0, "weights"))
    twin = copy.deepcopy(model)
    first, second = build_optimizer(model, config), build_optimizer(twin, config)
    step = prepare_step(first)
    assert compat.fused_step(type(first)) is not None
    forget_all()
    _, names, expected = compat._FUSED_STEPS[type(second)]
    monkeypatch.setitem(compat._FUSED_STEPS, type(second), (broken, names, expected))
    assert compat.fused_step(type(second)) is None
    fallback = prepare_step(second)
    draw = generator("cpu", 0, "data")
    for _ in range(3):
        x, y = torch.randn(32, 20, generator=draw), torch.randint(4, (32,), generator=draw)
        for network, take in ((model, step), (twin, fallback)):
            network.zero_grad()
            F.cross_entropy(network(x), y).backward()
            take(0.01)
    for ours, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, other)


def test_a_kernel_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    _, names, expected = compat._FUSED_STEPS[torch.optim.SGD]
    monkeypatch.setitem(compat._FUSED_STEPS, torch.optim.SGD, (lambda *_: None, names, expected))
    assert compat.fused_step(torch.optim.SGD) is None


@pytest.mark.parametrize(
    ("name", "arguments", "options"),
    [
        ("add_", [1], {}),
        ("add_", ["list"], {"alpha": 2}),
        ("mul_", [0.9], {}),
        ("sqrt", [], {}),
        ("copy_", ["list"], {}),
        ("addcmul_", ["list", "list"], {"value": 0.1}),
        ("addcdiv_", ["list", "list"], {"value": 0.1}),
    ],
)
def test_without_the_call_for_many_tensors_each_has_its_own(
    monkeypatch: pytest.MonkeyPatch, name: str, arguments: list[Any], options: dict[str, Any]
) -> None:
    draw = generator("cpu", 0, "data")
    tensors = [torch.rand(size, generator=draw) + 1 for size in (3, 5)]
    others = [torch.rand(size, generator=draw) + 1 for size in (3, 5)]
    given = [others if argument == "list" else argument for argument in arguments]
    at_once = [tensor.clone() for tensor in tensors]
    returned = compat.foreach(name, at_once, *given, **options)
    monkeypatch.delattr(torch, f"_foreach_{name}")
    own = compat.foreach(name, tensors, *given, **options)
    for ours, other in zip([*at_once, *(returned or [])], [*tensors, *(own if returned else [])], strict=True):
        assert torch.equal(ours, other)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_without_its_backward_an_activation_has_the_same_gradient(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    kind = ACTIVATIONS[name]
    private = compat.activation_backward(kind)
    assert private is compat._ACTIVATION_BACKWARDS[kind]
    forget_all()
    monkeypatch.setitem(compat._ACTIVATION_BACKWARDS, kind, broken)
    x, gradient = torch.randn(2, 50, 7, generator=generator("cpu", 0, "data")).unbind()
    y = kind()(x)
    torch.testing.assert_close(compat.activation_backward(kind)(gradient, x, y), private(gradient, x, y))


def test_an_activations_backward_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(compat._ACTIVATION_BACKWARDS, nn.ReLU, lambda g, *_: g)
    assert compat.activation_backward(nn.ReLU) is not compat._ACTIVATION_BACKWARDS[nn.ReLU]


def test_a_pack_trains_the_same_by_public_functions_alone(monkeypatch: pytest.MonkeyPatch, tensors: Tensors) -> None:
    trials = [
        Config(hidden=(16, 8), batch_size=500, epochs=1, optimizer=optimizer, activation="gelu", dropout=0.2)
        for optimizer in ("sgd", "adamw", "rmsprop")
    ]

    def losses() -> list[float]:
        states = [State.fresh(config, tensors) for config in trials]
        return [report.val_loss for report in train_together(states, tensors)]

    private = losses()
    assert compat.batch_norm().forward is compat._native_forward
    forget_all()
    monkeypatch.setattr(compat, "_native_forward", broken)
    monkeypatch.setattr(compat, "_ACTIVATION_BACKWARDS", dict.fromkeys(compat._ACTIVATION_BACKWARDS, broken))
    monkeypatch.setattr(compat, "_FUSED_STEPS", {})
    monkeypatch.delattr(torch, "_foreach_copy_")
    assert compat.batch_norm().forward is compat._public_forward
    assert losses() == pytest.approx(private, rel=1e-3)


def test_without_a_setting_for_onednn_mkl_computes_the_products(
    monkeypatch: pytest.MonkeyPatch, tensors: Tensors
) -> None:
    config = Config(hidden=(16,), batch_size=500, epochs=1, optimizer="sgd")  # adam would scale rounding up to steps
    fast_products()
    (private,) = train_together([State.fresh(config, tensors)], tensors)
    monkeypatch.delattr(type(torch.backends.mkldnn), "matmul")
    assert compat.onednn_matmul() is None
    assert not fast_products()
    (public,) = train_together([State.fresh(config, tensors)], tensors)
    assert public.val_loss == pytest.approx(private.val_loss, rel=1e-4)


def test_where_torch_has_the_compiler_imported_an_optimiser_is_the_same() -> None:
    script = """
import sys, torch
from rungwise.trainable.config import Config
from rungwise.trainable.model import build
from rungwise.trainable.training.optimizers import build_optimizer
from rungwise.trainable.training.state import generator
if sys.argv[1] == "fallback":
    for name in ("add_param_group", "state_dict", "load_state_dict"):
        del getattr(torch.optim.Optimizer, name).__wrapped__
config = Config(hidden=(4,))
optimizer = build_optimizer(build(config, (3,), 2, generator("cpu", 0, "weights")), config)
assert ("torch._dynamo" in sys.modules) == (sys.argv[1] == "fallback")
print([{**group, "params": [p.tolist() for p in group["params"]]} for group in optimizer.param_groups])
"""
    printed = [
        subprocess.run([sys.executable, "-c", script, way], check=True, capture_output=True, text=True).stdout
        for way in ("private", "fallback")
    ]
    assert printed[0] == printed[1] != ""
