"""A user's own model before anything is trained: whether it can be, tried on a few samples, and what it is made of."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainable.batches import normalise
from trainable.config import Config
from trainable.data import Dataset, Split, Tensors
from trainable.faults import ordinary, users_own
from trainable.model import OutputError, require_logits
from trainable.reference import function
from trainable.state import State
from trainable.train import autocast, data_loss

SAMPLES = 8


def rehearse(config: Config, data: Dataset) -> dict[str, Any]:
    """Build the config's model, let it learn from the first samples and be kept as a checkpoint; returns what it is.

    Nothing is printed, and torch's global random numbers are left alone. Raises OutputError for a model that makes no
    logits (B, K), in training or in evaluation, and whatever else it raises.
    """
    count = min(max(config.batch_size, 2), SAMPLES, len(data.train))
    few = Split(data.train.x[:count], data.train.y[:count])
    tensors = Tensors.of(replace(data, train=few, validation=few, test=None), "cpu")
    shape = (count, tensors.classes)
    with ordinary(), _silence(), torch.random.fork_rng(devices=[]):
        state = State.fresh(config, tensors)
        made = structure(config, state.model)
        x = normalise(tensors.x_train, tensors.mean, tensors.std)
        with autocast(x.device, config.precision):
            outputs = state.model.train()(x)
        require_logits(outputs, shape, config)
        torch.autograd.backward(data_loss(outputs, tensors.y_train, tensors, config.label_smoothing))
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
    SHA-256}}, the last of the user's own files that its function and layers come from."""
    layers = {name: _layer(module) for name, module in model.named_modules(remove_duplicate=False)}
    tensors: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, value in [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]:
        same = first.setdefault(id(value), name)
        tensors[name] = f"the same as {same}" if same != name else f"{str(value.dtype)[6:]} {tuple(value.shape)}"
    sources = {_source(one) for one in (function(config.model), *map(type, model.modules()))}
    files = {Path(source) for source in sources if source and users_own(source) and Path(source).is_file()}
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)}
    return {"layers": layers, "tensors": tensors, "files": digests}


def _source(made: Any) -> str | None:
    try:
        return inspect.getsourcefile(made)
    except TypeError:  # written in C
        return None


def _layer(module: nn.Module) -> str:
    """A layer's type; of torch's own with its settings, as they print them."""
    kind = type(module)
    return f"{kind.__name__}({module.extra_repr()})" if kind.__module__.startswith("torch.") else kind.__qualname__


def _are_probabilities(outputs: Tensor) -> bool:
    outputs = outputs.float()
    return bool((outputs >= 0).all() and ((outputs.sum(1) - 1).abs() < 1e-3).all())


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """What a model prints or warns of is for its trials to say."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
