"""Packs: several trials trained at once as one batched network. Of small networks a step costs little more than of one.

    for group in groups(states):
        reports = train_together(group, data)     # one report interval of each

A trial in a pack trains as `train` would train it: the same samples in the same order, the same noise, penalties and
optimiser steps, from and to the same `State`. So it may enter and leave a pack, or train alone, after every report. To
stack the states and to separate them again costs about a millisecond a trial and interval.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Sequence

import torch
from torch import Tensor

from rungwise.trainable.config import Config
from rungwise.trainable.data.tensors import EVALUATION_BATCH, Tensors, normalise
from rungwise.trainable.faults import is_out_of_memory
from rungwise.trainable.model import Dropout
from rungwise.trainable.packing.batched_mlp import BatchedMLP
from rungwise.trainable.packing.cuda_graph import forget, repeat
from rungwise.trainable.packing.stacked_optimizer import StackedOptimizer, stack_optimizers
from rungwise.trainable.report import Report
from rungwise.trainable.training.batches import bounds, interval, steps_per_epoch
from rungwise.trainable.training.optimizers import SequentialOptimizer
from rungwise.trainable.training.state import State, generator

Stepper = SequentialOptimizer | StackedOptimizer
READY_BYTES, READY_SHARE = 2**28, 1 / 8  # of a process's own copy of the samples: on a CPU; of what a GPU has free
NEARLY = 1.1  # times the least time a trial


def unpackable(config: Config, data: Tensors) -> str | None:
    """Why a trial cannot be packed; None when it can."""
    if config.model != "mlp":
        return f"only model='mlp' can be packed, but got model={config.model!r}"
    if config.augments:
        return "a trial with augmentation cannot be packed: its random numbers are torch's own"
    if data.embedded:
        return "a network with embedded columns cannot be packed"
    if data.target is not None:
        return "a regression cannot be packed"
    if config.class_weights != "none":
        return "a trial with class weights cannot be packed"
    if data.functions:
        return "a loop with functions of your own cannot be packed"
    return None


def shape(config: Config) -> tuple[Hashable, ...]:
    """Hyperparameters that trials must have in common to be packed."""
    return config.hidden, config.activation, config.batch_norm, config.batch_size, config.precision


def groups(states: Iterable[State], data: Tensors, most: int = 10**9) -> list[list[State]]:
    """Divide states into packs of at most `most`: of one shape, and with equally many steps to their next report."""
    packs: dict[Hashable, list[State]] = {}
    for state in states:
        first, last = bounds(state, len(data.y_train))
        packs.setdefault((shape(state.config), last - first), []).append(state)
    return [pack[first : first + most] for pack in packs.values() for first in range(0, len(pack), most)]


def fastest(data: Tensors, limit: int, config: Config | None = None) -> int:
    """Measure how many trials of one shape to train together: half a second on a CPU, whose caches decide.

    Args:
        data: to train on.
        limit: the largest number.
        config: the shape; the default network's if not given.

    Returns:
        The smallest number whose time a trial is within 10 % of the least, since small packs report sooner. 1 for data
        that cannot be packed.
    """
    config = config or Config()
    if limit < 2 or unpackable(config, data):
        return 1
    size = min(config.batch_size, len(data.y_train))
    cost: dict[int, float] = {}
    count = 1
    while count <= limit and (count < 4 or cost[count // 2] < 1.05 * min(cost.values())):  # past the best: no further
        try:
            cost[count] = _cost([State.fresh(config, data) for _ in range(count)], data, size)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            break
        count *= 2
    forget()  # the largest pack's memory
    enough = NEARLY * min(cost.values(), default=0.0)
    return next((count for count in sorted(cost) if cost[count] <= enough), 1)


def _cost(states: Sequence[State], data: Tensors, size: int) -> float:
    """Seconds a trial, of some steps with `size` samples each."""
    count, on_cpu = len(states), data.device.type == "cpu"
    # On a CPU the least CPU time of some turns, as other processes start at the same moment. On a GPU about as many
    # steps as an interval has, since the first ones, and recording one, take long.
    clock, turns, timed = (time.process_time, 4, 8) if on_cpu else (time.perf_counter, 1, 320)
    batched = BatchedMLP([s.model for s in states], [s.config for s in states], size, apart=on_cpu)
    steppers = _optimizers(states, batched, [0] * count, [10**6] * count, None if on_cpu else 3 + timed)
    draw = generator("cpu", 0, "fastest")  # other rows at each step, as in training
    batches = torch.randint(len(data.y_train), (turns, timed, count, size), generator=draw).to(data.device)
    _interval(batches[0, :3], batched, steppers, data)
    if not on_cpu:
        _scores(batched, data)  # needs more memory than a step
    durations = []
    for turn in batches:
        started = clock()
        _interval(turn, batched, steppers, data)
        durations.append(clock() - started)
    return min(durations) / count


def train_together(states: Sequence[State], data: Tensors) -> list[Report]:
    """Advance all states to their next report, in place.

    Args:
        states: of one of `groups`, none of them at its end.
        data: on the CPU or a CUDA device.

    Returns:
        The reports of `train.train_alone`, to the rounding of sums, except that a GPU draws dropout's noise for many
        steps at once. `seconds` is a trial's share of the time.

    Raises:
        ValueError: for states that cannot be trained together.
        torch.OutOfMemoryError: when the GPU has no memory for so many.
    """
    for state in states:
        if problem := unpackable(state.config, data):
            raise ValueError(problem)
        if state.step >= state.config.reports:
            raise ValueError(f"a trial of {state.config.reports} reports cannot train beyond them")
    if len(groups(states, data)) > 1:
        raise ValueError("trials that train together must be of one shape and have as many steps to their report")
    side_by_side = sorted(states, key=lambda state: state.config.optimizer)
    try:
        reports = _together(side_by_side, data, one_by_one=data.device.type == "cpu")
    except torch.OutOfMemoryError:
        forget()  # fewer are tried next
        raise
    report_of = {id(state): report for state, report in zip(side_by_side, reports, strict=True)}
    return [report_of[id(state)] for state in states]


def _together(states: Sequence[State], data: Tensors, *, one_by_one: bool) -> list[Report]:
    """As `train_together`, for sorted states: those of one kind of optimiser lie side by side, unless `one_by_one`."""
    started = time.perf_counter()
    for state in states:
        noise = generator(data.device, state.config.seed, "noise", state.step)
        for module in state.model.modules():
            if isinstance(module, Dropout):
                module.generator = noise
    intervals = [interval(state, data) for state in states]
    batches = torch.stack([batches for batches, _ in intervals], 1)  # (steps, B, N)
    steps, _, batch = batches.shape
    batched = BatchedMLP([s.model for s in states], [s.config for s in states], batch, apart=one_by_one)
    budgets = [state.config.epochs * steps_per_epoch(state.config, len(data.y_train)) for state in states]
    firsts = [first for _, first in intervals]
    steppers = _optimizers(states, batched, firsts, budgets, None if one_by_one else steps)
    losses = _interval(batches, batched, steppers, data)
    scored = _scores(batched, data)
    batched.release(steps)
    for stepper in steppers:
        stepper.release()
    seconds = (time.perf_counter() - started) / len(states)
    rates = [rate for stepper in steppers for rate in stepper.rates]
    return [
        state.report(loss, lr, {"loss": val_loss, "accuracy": accuracy}, seconds)
        for state, lr, loss, (val_loss, accuracy) in zip(states, rates, losses, scored, strict=True)
    ]


def _optimizers(
    states: Sequence[State], batched: BatchedMLP, firsts: Sequence[int], budgets: Sequence[int], taken: int | None
) -> Sequence[Stepper]:
    """What steps all trials: one after the other, or, where the number of steps is given, at once."""
    if taken is None:
        return [SequentialOptimizer(states, firsts, budgets)]
    return stack_optimizers(states, batched.matrix, firsts, budgets, taken)


def scored_together(states: Sequence[State], data: Tensors) -> list[tuple[float, float]]:
    """The mean cross-entropy and accuracy of each trial on the validation split, as in its reports."""
    batched = BatchedMLP([s.model for s in states], [s.config for s in states], 1, apart=data.device.type == "cpu")
    scored = _scores(batched, data)
    batched.release(0)
    return scored


def _interval(batches: Tensor, batched: BatchedMLP, steppers: Sequence[Stepper], data: Tensors) -> list[float]:
    """Take the optimiser steps; returns each trial's mean data loss."""
    _, count, batch = batches.shape
    ready = _ready(batched, data)
    source = ready[0] if ready else data.x_train
    rows = torch.empty((count * batch, *source.shape[1:]), dtype=source.dtype, device=data.device)
    x = rows if ready else torch.empty(rows.shape, device=data.device)
    total = torch.zeros(count, device=data.device)

    def step(index: Tensor, number: Tensor | None) -> None:
        torch.index_select(source, 0, index, out=rows)
        if x is not rows:
            normalise(rows, data.mean, data.std, out=x)
        y = data.y_train.index_select(0, index)
        total.add_(batched.gradients(x.view(count, batch, -1), y.view(count, batch), number))
        for stepper in steppers:
            stepper.step()

    if data.device.type == "cuda":
        repeat(step, batches.flatten(1), batched.prepare)
    else:
        for number, index in enumerate(batches.flatten(1)):
            batched.prepare(number)
            step(index, None)
    losses: list[float] = (total / len(batches)).tolist()
    return losses


def _ready(batched: BatchedMLP, data: Tensors) -> tuple[Tensor, Tensor] | None:
    """Both splits normalised, where there is memory for a copy: in bfloat16, and on a GPU in float32. Else None:
    on a CPU all processes share the raw data, and to normalise a batch costs little."""
    device = data.device
    if device.type not in ("cpu", "cuda") or (device.type == "cpu" and not batched.accepts_bf16_inputs):
        return None
    kind = torch.bfloat16 if batched.accepts_bf16_inputs else torch.float32
    if not data.has_ready(kind):
        size = kind.itemsize * (data.x_train.numel() + data.x_validation.numel())
        if size > (READY_BYTES if device.type == "cpu" else READY_SHARE * torch.cuda.mem_get_info(device)[0]):
            return None
    return data.ready(kind)


@torch.no_grad()
def _scores(batched: BatchedMLP, data: Tensors) -> list[tuple[float, float]]:
    """Each network's mean cross-entropy and accuracy on the validation split."""
    ready, y = _ready(batched, data), data.y_validation
    x = ready[1] if ready else data.x_validation
    loss = torch.zeros(batched.count, device=x.device)
    correct = torch.zeros(batched.count, dtype=torch.int64, device=x.device)
    for start in range(0, len(x), EVALUATION_BATCH):  # whatever their number: sums have the same bits then
        part = slice(start, start + EVALUATION_BATCH)
        inputs = x[part] if ready else normalise(x[part], data.mean, data.std).flatten(1)
        logits = batched.logits(inputs)  # (N, B, K)
        true = y[part].view(-1, 1, 1).expand(-1, batched.count, 1)
        loss -= torch.log_softmax(logits, 2).gather(2, true).sum((0, 2))
        correct += (logits.argmax(2) == true[:, :, 0]).sum(0)
    accuracy = correct.double() / len(x)
    return list(zip((loss / len(x)).tolist(), accuracy.tolist(), strict=True))
