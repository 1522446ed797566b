"""The optimiser of a trial: how it is built, its learning rate at every step, and the step itself.

`torch.optim` spends more time in Python than in arithmetic on a network of 109,000 weights (torch 2.14, one core,
AdamW: 120 of 217 microseconds a step are look-ups, grouping by device and hooks). Here the same kernels are called on
the same state, that of torch.optim. The learning rate follows from the step alone, so that a restored trial needs no
state of a scheduler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rungwise.trainable.config import Config
from rungwise.trainable.model import add_penalty_gradient, decaying, weights
from rungwise.trainable.training import compat

if TYPE_CHECKING:
    from rungwise.trainable.training.state import State

WARM_UP = 0.3  # share of all steps
START = 1 / 25  # of the peak


def build_optimizer(model: nn.Module, config: Config) -> Optimizer:
    """The optimiser over two groups: regularised weights, which decay, and all the rest, which never does."""
    compat.skip_compiler_import()
    decayed = decaying(model)
    ids = {id(w) for w in decayed}
    rest = [p for p in model.parameters() if id(p) not in ids]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    betas = (config.momentum, 0.999)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, config.lr, momentum=config.momentum, fused=True)
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, config.lr, betas=betas, fused=True)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, config.lr, betas=betas, fused=True)
    return torch.optim.RMSprop(groups, config.lr, momentum=config.momentum, foreach=True)


def learning_rate(config: Config, step: int, steps: int) -> float:
    """The rate of optimiser step `step` (0-based) of `steps`.

    cosine: lr (1 + cos(pi t / T)) / 2, to 0 (Loshchilov and Hutter 2017, without restarts).
    one-cycle: linear from lr / 25 to lr over the first 30 %, then cosine to 0 (after Smith and Topin 2018).
    """
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "cosine":
        return config.lr * _cosine(step / steps)
    warm_up = WARM_UP * steps
    if step < warm_up:
        return config.lr * (START + (1 - START) * step / warm_up)
    return config.lr * _cosine((step - warm_up) / (steps - warm_up))


def _cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2


class SequentialOptimizer:
    """Steps the optimisers of several trials one after the other."""

    def __init__(
        self,
        states: Sequence[State],
        firsts: Sequence[int],
        steps: Sequence[int],
        schedule: Callable[[float], float] | None = None,
    ) -> None:
        """
        Args:
            states: of the trials, whose parameters and optimisers are stepped in place.
            firsts: the number of each trial's next optimiser step, from 0.
            steps: optimiser steps of each trial's whole budget.
            schedule: of the user's, in place of `Config.schedule`: share of all steps -> factor of the rate.
        """
        self._schedule = schedule
        self._trials = [(state.config, weights(state.model), list(state.model.parameters())) for state in states]
        self._steps = [prepare_step(state.optimizer) for state in states]
        self._firsts, self._budgets, self._taken = firsts, steps, 0
        self.rates = [state.config.lr for state in states]

    def step(self) -> None:
        """Take each trial's next optimiser step."""
        for index, (config, regularised, parameters) in enumerate(self._trials):
            if config.l1 > 0 or config.l2 > 0:
                add_penalty_gradient(regularised, config)
            if config.clip_norm > 0:
                nn.utils.clip_grad_norm_(parameters, config.clip_norm)
            step, steps = self._firsts[index] + self._taken, self._budgets[index]
            factor = self._schedule
            self.rates[index] = config.lr * factor(step / steps) if factor else learning_rate(config, step, steps)
            self._steps[index](self.rates[index])
        self._taken += 1

    def release(self) -> None:
        """Nothing to do: each optimiser has its own state."""


def prepare_step(optimizer: Optimizer) -> Callable[[float], None]:
    """A function of the learning rate that does what `optimizer.step()` does, bit for bit.

    Valid until other code replaces the optimiser's state: make a new one for every interval. On other devices than
    the CPU, and while a parameter has no gradient, it is `optimizer.step()`: there Python costs no time, or skips it.
    """
    groups = [group for group in optimizer.param_groups if group["params"]]
    on_cpu = all(parameter.device.type == "cpu" for group in groups for parameter in group["params"])
    kind: Any = type(optimizer)  # mypy: a class with `__hash__` for its instances is not Hashable to it
    fused = compat.fused_step(kind) if on_cpu else None
    prepared = [(group, group["params"], _states(optimizer, group, fused[1])) for group in groups] if fused else []

    @torch.no_grad()
    def step(lr: float) -> None:
        gradients = [[parameter.grad for parameter in parameters] for _, parameters, _ in prepared]
        if fused is None or any(gradient is None for some in gradients for gradient in some):
            for group in groups:
                group["lr"] = lr
            optimizer.step()
            return
        for (group, parameters, states), some in zip(prepared, gradients, strict=True):
            fused[0](group, parameters, some, states, lr)

    return step


def _states(optimizer: Optimizer, group: compat.Group, names: tuple[str, ...]) -> list[list[Tensor]]:
    """The named states of the group's parameters, made as torch.optim makes them: zeros."""
    if not group.get("momentum", True):
        names = tuple(name for name in names if name != "momentum_buffer")
    for parameter in group["params"] if names else ():
        state = optimizer.state[parameter]
        for name in names:
            if name not in state:
                state[name] = torch.zeros(()) if name == "step" else torch.zeros_like(parameter)
    return [[optimizer.state[parameter][name] for parameter in group["params"]] for name in names]
