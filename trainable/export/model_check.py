"""A user's own model before anything is trained: whether it can be, tried on a few samples, and what it is made of."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from rungwise.trainable.config import Config
from rungwise.trainable.data.dataset import Dataset, Split
from rungwise.trainable.data.tensors import Tensors, normalise
from rungwise.trainable.export.silence import silence
from rungwise.trainable.faults import ordinary, users_own
from rungwise.trainable.import_path import import_function
from rungwise.trainable.model import OutputError, require_logits
from rungwise.trainable.train import autocast, data_loss
from rungwise.trainable.training.state import State

SAMPLES = 8


def rehearse(config: Config, data: Dataset) -> dict[str, Any]:
    """Build the config's model, let it learn from the first samples and be kept as a checkpoint; returns what it is.

    Nothing is printed, and torch's global random numbers are left alone. Raises OutputError for a model that makes no
    logits (B, K), in training or in evaluation, or no new weights, and whatever else it raises.
    """
    count = min(max(config.batch_size, 2), SAMPLES, len(data.train))
    few = Split(data.train.x[:count], data.train.y[:count])
    tensors = Tensors.of(replace(data, train=few, validation=few, test=None), "cpu")
    shape = (count, tensors.classes)
    with ordinary(), silence(), torch.random.fork_rng(devices=[]):
        state = State.fresh(config, tensors)
        State.fresh(config, tensors)  # as the next trial does: raises when its weights are those of the first
        made = structure(config, state.model)
        x = normalise(tensors.x_train, tensors.mean, tensors.std)
        with autocast(x.device, config.precision):
            outputs = state.model.train()(x)
        require_logits(outputs, shape, config)
        torch.autograd.backward(data_loss(outputs, tensors.y_train, tensors, config))
        state.content()
        with torch.no_grad():
            outputs = state.model.eval()(x)
    require_logits(outputs, shape, config)
    if shape[1] > 1 and _are_probabilities(outputs):
        raise OutputError(
            f"a model must make logits (B, {shape[1]}) of a batch of samples, but {config.model!r} makes "
            f"probabilities; leave its last softmax out, as the loss has one"
        )
    return made


def structure(config: Config, model: nn.Module) -> dict[str, Any]:
    """What a model is made of, as JSON: {"layers": {name: type}, "tensors": {name: dtype and shape}, "files": {name:
    SHA-256}}, the last of the user's own files that its function and layers come from, and of what these import."""
    layers = {name: _layer(module) for name, module in model.named_modules(remove_duplicate=False)}
    tensors: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, value in [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]:
        same = first.setdefault(id(value), name)
        tensors[name] = f"the same as {same}" if same != name else f"{str(value.dtype)[6:]} {tuple(value.shape)}"
    build = import_function(config.model)
    build = inspect.unwrap(build.func if isinstance(build, functools.partial) else build)
    digests = _digests({build.__module__, *(type(module).__module__ for module in model.modules())})
    return {"layers": layers, "tensors": tensors, "files": digests}


def _digests(modules: set[str]) -> dict[str, str]:
    """{file: SHA-256} of the user's own modules among these, and of all that they import: what a layer computes may be
    a function or a number of another file. Files are named as their modules are, wherever the folder lies."""
    digests: dict[str, str] = {}
    left, seen = sorted(modules), set(modules)
    while left:
        module = sys.modules.get(left.pop())
        file = Path(getattr(module, "__file__", None) or "")
        if module is None or not users_own(str(file)) or not file.is_file():
            continue
        content = file.read_bytes()
        depth = module.__name__.count(".") + (file.stem == "__init__")
        digests["/".join(file.parts[-1 - depth :])] = hashlib.sha256(content).hexdigest()
        imported = _imports(content, module) - seen if file.suffix == ".py" else set()
        seen |= imported
        left += sorted(imported)
    return dict(sorted(digests.items()))


def _imports(source: bytes, module: ModuleType) -> set[str]:
    """Names of modules that a module's source imports, anywhere in it; some of them name no module."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = (module.__package__ or "").split(".")
            start = (
                [*package[: len(package) - node.level + 1], node.module or ""] if node.level else [node.module or ""]
            )
            base = ".".join(part for part in start if part)
            named |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return named | {name[:dot] for name in named for dot in range(len(name)) if name[dot] == "."}


def _layer(module: nn.Module) -> str:
    """A layer's type; of torch's own with its settings, as they print them."""
    kind = type(module)
    return f"{kind.__name__}({module.extra_repr()})" if kind.__module__.startswith("torch.") else kind.__qualname__


def _are_probabilities(outputs: Tensor) -> bool:
    outputs = outputs.float()
    return bool((outputs >= 0).all() and ((outputs.sum(1) - 1).abs() < 1e-3).all())
