"""`prepare_step` against torch.optim itself."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from rungwise.trainable.config import Config
from rungwise.trainable.model import build
from rungwise.trainable.training.optimizers import build_optimizer, prepare_step
from rungwise.trainable.training.state import generator


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_ten_steps_are_torch_optims_own_bit_for_bit(optimizer: str, momentum: float) -> None:
    config = Config(hidden=(16, 8), optimizer=optimizer, momentum=momentum, weight_decay=0.01)
    model = build(config, (20,), 4, generator("cpu", 0, "weights"))
    theirs = copy.deepcopy(model)
    ours_optimizer, their_optimizer = build_optimizer(model, config), build_optimizer(theirs, config)
    draw = generator("cpu", 0, "data")
    step = prepare_step(ours_optimizer)
    for number in range(10):
        if number == 6:  # a new interval
            step = prepare_step(ours_optimizer)
        x, y = torch.randn(32, 20, generator=draw), torch.randint(4, (32,), generator=draw)
        lr = 0.01 / (1 + number)
        for one in (model, theirs):
            for parameter in one.parameters():
                parameter.grad = None
            F.cross_entropy(one(x), y).backward()
        step(lr)
        for group in their_optimizer.param_groups:
            group["lr"] = lr
        their_optimizer.step()
        for ours, other in zip(model.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(ours, other)
    mine, their = ours_optimizer.state_dict()["state"], their_optimizer.state_dict()["state"]
    assert mine.keys() == their.keys()
    for index, values in their.items():
        for name, value in values.items():
            assert (mine[index][name] is None) if value is None else torch.equal(mine[index][name], value), name


def test_a_parameter_without_a_gradient_stays_as_it_is() -> None:
    config = Config(hidden=(4,), optimizer="adamw", weight_decay=0.5)
    model = build(config, (3,), 2, generator("cpu", 0, "weights"))
    used, unused = model.get_parameter("linear1.weight"), model.get_parameter("logits.weight")
    before = [used.clone(), unused.clone()]
    used.grad = torch.ones_like(used)
    prepare_step(build_optimizer(model, config))(0.1)
    assert not torch.equal(used, before[0])
    assert torch.equal(unused, before[1])


def test_the_compiler_is_not_imported_to_train() -> None:
    script = """
import sys
from rungwise.trainable.config import Config
from rungwise.trainable.data.dataset import load
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.train import train
list(train(Config(hidden=(8,), epochs=1, dropout=0.1), Tensors.of(load("digits").without_test(), "cpu")))
assert "rungwise.trainable.training.optimizers" in sys.modules
assert not {"torch._dynamo", "sympy"} & set(sys.modules), "two to three seconds of every worker's start"
"""
    subprocess.run([sys.executable, "-c", script], check=True)
