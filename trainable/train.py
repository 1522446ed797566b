"""The training loop of one trial: a generator of reports that knows no Ray, no MLflow and no files.

    for report in train(config, data):
        print(report)

Randomness is stateless: epoch e's order of samples comes from (seed, "order", e), an interval's dropout noise
from (seed, "noise", report), and draws from torch's global stream (augmentation, a user's own layers) from
(seed, "global", report). Nothing inside an interval waits for the device.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rungwise.trainable.config import Config
from rungwise.trainable.data import memory
from rungwise.trainable.data.augment import augmentation
from rungwise.trainable.data.tensors import EVALUATION_BATCH, Tensors, normalise
from rungwise.trainable.model import Dropout, cancelled_biases, decaying, derived, penalty, require_logits, weights
from rungwise.trainable.packing.matmul import fast_products
from rungwise.trainable.packing.pack import train_together, unpackable
from rungwise.trainable.report import Report
from rungwise.trainable.training.batches import interval, steps_per_epoch
from rungwise.trainable.training.loop_functions import NO_FUNCTIONS, LoopFunctionError
from rungwise.trainable.training.optimizers import SequentialOptimizer
from rungwise.trainable.training.state import State, generator


def pick_device(spec: str = "auto") -> torch.device:
    """The device that `spec` names: `auto` is CUDA, else the CPU; other names are torch's."""
    if spec != "auto":
        return torch.device(spec)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def prepare_process(threads: int, spec: str = "cpu") -> torch.device:
    """Set up this process for training. `train` leaves all of it to its caller.

    Float32 products take TF32 on a GPU (as good here, several times as fast) and the fastest float32 kernels on a CPU;
    memory that is freed stays with the process.

    Args:
        threads: of a matrix product.
        spec: see `pick_device`.

    Returns:
        The device to train on.
    """
    torch.set_num_threads(threads)
    device = pick_device(spec)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    fast_products()
    memory.keep()
    return device


def restore_defaults() -> None:
    """Reset torch's and NumPy's global settings, which the code of an earlier trial in this process may have changed.

    Gradients are recorded, new tensors are float32 on the CPU, no algorithm is refused, and NumPy's errors are
    warnings.
    """
    np.seterr(divide="warn", over="warn", under="ignore", invalid="warn")
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    if torch.are_deterministic_algorithms_enabled():  # saying so imports a compiler, for 0.5 s
        torch.use_deterministic_algorithms(False)
    torch.autograd.set_detect_anomaly(False)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """The context of a forward pass. With `precision` "bf16" matrix products are in bfloat16, weights in float32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@torch.no_grad()
def evaluate(
    model: nn.Module, x: Tensor, y: Tensor, mean: Tensor, std: Tensor, precision: str = "fp32"
) -> tuple[float, float]:
    """Score a classifier in eval mode.

    Args:
        model: logits (B, K) of samples (B, ...); its mode is put back.
        x: raw samples, uint8 (N, C, H, W) or float32 (N, F).
        y: labels, int64 (N,).
        mean: of the training split, as in `Tensors`.
        std: as `mean`.
        precision: "fp32" or "bf16".

    Returns:
        Mean cross-entropy in nats, without label smoothing, and accuracy, 0..1.
    """
    loss = torch.zeros((), device=x.device)
    correct = torch.zeros((), dtype=torch.int64, device=x.device)
    batches = _outputs(model, x, mean, std, precision)
    for logits, labels in zip(batches, torch.split(y, EVALUATION_BATCH), strict=True):
        loss += F.cross_entropy(logits.float(), labels, reduction="sum")
        correct += (logits.argmax(1) == labels).sum()
    return loss.item() / len(x), correct.item() / len(x)


def scores(model: nn.Module, data: Tensors, precision: str = "fp32") -> dict[str, float]:
    """Scores on the validation split, in eval mode: loss and accuracy; of a regression loss, mse, mae and r2.

    Losses are nats a sample; those of a regression are in the unit of its targets.
    """
    x, y = data.x_validation, data.y_validation
    if data.functions.metrics or data.functions.loss:
        return _own_scores(model, data, precision)
    if data.target is None:
        loss, accuracy = evaluate(model, x, y, data.mean, data.std, precision)
        return {"loss": loss, "accuracy": accuracy}
    outputs = outputs_of(model, x, data.mean, data.std, precision)[:, 0].double()
    error = outputs * data.target[1] + data.target[0] - y.double()
    mse = error.square().mean().item()
    spread = (y.double() - y.double().mean()).square().mean().item()
    r2 = 1 - mse / spread if spread > 0 else 0.0
    return {"loss": mse, "mse": mse, "mae": error.abs().mean().item(), "r2": r2}


@torch.no_grad()
def _own_scores(model: nn.Module, data: Tensors, precision: str) -> dict[str, float]:
    """The same with the user's loss and metrics, which see the whole split at once."""
    functions, y = data.functions, data.y_validation
    values = scores(model, replace(data, functions=NO_FUNCTIONS), precision)
    outputs = outputs_of(model, data.x_validation, data.mean, data.std, precision)
    if data.target is None:
        if functions.loss:
            values["loss"] = float(_scalar(functions.loss(outputs, y)))
        return values | functions.scored(outputs, y)
    mean, sd = data.target
    if functions.loss:
        values["loss"] = float(_scalar(functions.loss(outputs[:, 0], (y - mean) / sd)))
    return values | functions.scored(outputs[:, 0] * sd + mean, y)


@torch.no_grad()
def outputs_of(model: nn.Module, x: Tensor, mean: Tensor, std: Tensor, precision: str = "fp32") -> Tensor:
    """Outputs of the model for raw samples in eval mode, float32 (N, K). Arguments are those of `evaluate`."""
    return torch.cat([outputs.float() for outputs in _outputs(model, x, mean, std, precision)])


def _outputs(model: nn.Module, x: Tensor, mean: Tensor, std: Tensor, precision: str) -> Iterator[Tensor]:
    """Outputs of batches of EVALUATION_BATCH samples in turn; the model's mode is put back after the last one."""
    training = model.training
    model.eval()
    for samples in torch.split(x, EVALUATION_BATCH):
        with autocast(x.device, precision):
            outputs = model(normalise(samples, mean, std))
        yield outputs
    model.train(training)


def data_loss(outputs: Tensor, y: Tensor, data: Tensors, config: Config) -> Tensor:
    """The loss that training minimises: cross-entropy of logits (B, K) in nats, or of a regression the mean squared
    error in standard deviations of the targets; or the user's.

    Raises LoopFunctionError for a loss of the user's that is no scalar.
    """
    loss = data.functions.loss
    if data.target is None:
        if loss is None:
            weight = data.balanced_weights if config.class_weights == "balanced" else None
            return F.cross_entropy(outputs, y, weight, label_smoothing=config.label_smoothing)
        return _scalar(loss(outputs, y))
    standardised = (y - data.target[0]) / data.target[1]
    return _scalar((loss or F.mse_loss)(outputs[:, 0].float(), standardised))


def _scalar(loss: object) -> Tensor:
    if not isinstance(loss, Tensor) or loss.dim() != 0:
        raise LoopFunctionError(f"a loss must return a tensor of one number, but returned {_described(loss)}")
    return loss


def _described(value: object) -> str:
    return f"one of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def train(
    config: Config, data: Tensors, device: torch.device | str | None = None, *, state: State | None = None
) -> Iterator[Report]:
    """Train to `config.epochs` and yield a Report each 1/reports_per_epoch of an epoch.

    The stream ends early after a report that is not finite, which holds the true nan or inf.

    Args:
        config: the hyperparameters.
        data: both splits, on the device to train on.
        device: if given, must be the data's.
        state: advanced in place, so that a caller can save it between reports; a new one by default.

    Raises:
        ValueError: when data and device differ, or an epoch has fewer steps than reports.
        OutputError: for a model of the user's that returns no logits.
    """
    if device is not None and torch.device(device).type != data.device.type:
        raise ValueError(f"data must be on the training device, but is on {data.device}, not {device}")
    steps_per_epoch(config, len(data.y_train))
    state = state or State.fresh(config, data)
    # 1.2 times as fast as autograd on a CPU, and ten times on a GPU (docs/internals/packed.md).
    packable = data.device.type in ("cpu", "cuda") and unpackable(config, data) is None
    while state.step < config.reports:
        (report,) = train_together([state], data) if packable else [train_alone(state, data)]
        yield report
        if not report.finite:
            return


def train_alone(state: State, data: Tensors) -> Report:
    """Advance a state to its next report, in place, by autograd: any model, any regulariser."""
    config, started = state.config, time.perf_counter()
    with torch.random.fork_rng(devices=[data.device] if data.device.type == "cuda" else []):
        torch.manual_seed(generator("cpu", config.seed, "global", state.step).initial_seed())
        train_loss, lr = _interval(state, data)
    scored = scores(state.model, data, config.precision)
    return state.report(train_loss, lr, scored, time.perf_counter() - started)


def _interval(state: State, data: Tensors) -> tuple[float, float]:
    """Take the optimiser steps up to the next report. Returns their mean data loss and the last learning rate."""
    config, model = state.config, state.model
    steps = config.epochs * steps_per_epoch(config, len(data.y_train))
    batches, first = interval(state, data)
    batch = batches.shape[1]
    # Rows are gathered a batch at a time into one place: an epoch at once costs 40 MB of page faults.
    rows = torch.empty((batch, *data.shape), dtype=data.x_train.dtype, device=data.device)
    x = torch.empty((batch, *data.shape), dtype=data.input_dtype, device=data.device)
    noise = generator(data.device, config.seed, "noise", state.step)
    for module in model.modules():
        if isinstance(module, Dropout):
            module.generator = noise

    augment = augmentation(config, data.shape)
    model.train()
    parameters = list(model.parameters())
    stepper = SequentialOptimizer([state], [first], [steps], data.functions.schedule)
    cancelled = cancelled_biases(model)
    penalised = config.l1 + config.l2 > 0 and len(decaying(model)) > len(weights(model))
    total = torch.zeros((), device=data.device)
    for index in batches:
        torch.index_select(data.x_train, 0, index, out=rows)
        normalise(augment(rows) if augment else rows, data.mean, data.std, out=x)
        y = data.y_train.index_select(0, index)
        with autocast(data.device, config.precision):
            outputs = model(x)
            require_logits(outputs, (batch, data.classes), config)
            loss = data_loss(outputs, y, data, config)
        for parameter in parameters:
            parameter.grad = None
        torch.autograd.backward(loss + penalty(derived(model), config) if penalised else loss)
        for bias in cancelled:
            if bias.grad is not None:
                bias.grad.zero_()
        stepper.step()
        total += loss.detach()
    unit = 1.0 if data.target is None or data.functions.loss else data.target[1] ** 2
    return total.item() / len(batches) * unit, stepper.rates[0]
