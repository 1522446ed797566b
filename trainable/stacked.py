"""The optimiser steps of trials that train together, once their gradients are there.

On a CPU one trial after the other: the kernels of `trainable.update` pass over memory once. On a GPU, where a launch
costs more than its arithmetic, all trials of a kind at once, element by element on their stacks: the number of
operations does not grow with that of trials. Same formulas: torch.optim's, penalties as in
`model.add_penalty_gradient`, norms as in `clip_grad_norm_`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from trainable.config import Config
from trainable.model import add_penalty_gradient, weights
from trainable.schedule import learning_rate
from trainable.state import State
from trainable.update import update

Stack = tuple[str, Tensor, Tensor]  # name, values (B, ...), gradients (B, ...)
ADAM = ("exp_avg_sq", 0.999, 1e-8)  # the running square's name, how much of it is kept, and epsilon
SQUARES = {"adam": ADAM, "adamw": ADAM, "rmsprop": ("square_avg", 0.99, 1e-8)}
AVERAGES = {"sgd": "momentum_buffer", "rmsprop": "momentum_buffer", "adam": "exp_avg", "adamw": "exp_avg"}
PENALTIES = ("l1", "l2", "weight_decay", "clip_norm")


class OneByOne:
    """A trial after the other, each with its own optimiser."""

    def __init__(self, states: Sequence[State], firsts: Sequence[int], steps: Sequence[int]) -> None:
        """`firsts`: the number of each one's next optimiser step; `steps`: of its whole budget."""
        self._trials = [(state.config, weights(state.model), list(state.model.parameters())) for state in states]
        self._updates = [update(state.optimizer) for state in states]
        self._firsts, self._steps, self._taken = firsts, steps, 0
        self.rates = [state.config.lr for state in states]

    def step(self) -> None:
        """Take each one's next optimiser step."""
        for index, (config, regularised, parameters) in enumerate(self._trials):
            if config.l1 > 0 or config.l2 > 0:
                add_penalty_gradient(regularised, config)
            if config.clip_norm > 0:
                nn.utils.clip_grad_norm_(parameters, config.clip_norm)
            self.rates[index] = learning_rate(config, self._firsts[index] + self._taken, self._steps[index])
            self._updates[index](self.rates[index])
        self._taken += 1

    def release(self) -> None:
        """Nothing to do: each optimiser has its own state."""


class Stacked:
    """Trials of one optimiser kind, in the order of their stacks, which `release` gives their state again."""

    def __init__(
        self, states: Sequence[State], stacks: Sequence[Stack], firsts: Sequence[int], steps: Sequence[int], taken: int
    ) -> None:
        """As `OneByOne`; `taken`: how many steps will be taken. A step waits for nothing from the host."""
        self._states, self._kind = states, states[0].config.optimizer
        self._values, self._gradients = [stack[1] for stack in stacks], [stack[2] for stack in stacks]
        regularised = {id(parameter) for parameter in weights(states[0].model)}
        own = [[state.model.get_parameter(name) for state in states] for name, _, _ in stacks]
        self._own, self._regularised = own, [id(some[0]) in regularised for some in own]
        self._firsts, self._taken = firsts, taken
        self._average = [self._state(some, AVERAGES[self._kind]) for some in own]
        self._square = [self._state(some, SQUARES[self._kind][0]) for some in own] if self._kind in SQUARES else []
        configs = [state.config for state in states]
        self._momentum = self._column([config.momentum for config in configs])
        self._decay = self._column([config.weight_decay for config in configs])
        self._l1 = self._column([config.l1 for config in configs])
        self._l2 = self._column([2 * config.l2 for config in configs])
        self._clip = self._column([config.clip_norm or torch.inf for config in configs])
        self._has = {name: any(getattr(config, name) > 0 for config in configs) for name in PENALTIES}
        self._schedule(configs, steps)

    def _schedule(self, configs: Sequence[Config], steps: Sequence[int]) -> None:
        """What the coming steps take from the step's number alone, (steps, B) on the device: row `_at` is the next."""
        self.rates = [config.lr for config in configs]  # of the last step
        rates, scales, roots = [], [], []
        for number in range(self._taken):
            numbers = [first + number for first in self._firsts]
            self.rates = [learning_rate(c, n, budget) for c, n, budget in zip(configs, numbers, steps, strict=True)]
            rates.append(self.rates)
            if self._kind in ("adam", "adamw"):  # Kingma and Ba 2015, algorithm 1: averages that began at 0
                keep = SQUARES[self._kind][1]
                scales.append(
                    [r / (1 - c.momentum ** (n + 1)) for r, c, n in zip(self.rates, configs, numbers, strict=True)]
                )
                roots.append([(1 - keep ** (n + 1)) ** 0.5 for n in numbers])
        self._rates, self._scales = self._column(rates), -self._column(scales or rates)
        self._roots = self._column(roots) if roots else None
        self._at = torch.zeros(1, dtype=torch.int64, device=self._rates.device)

    def _column(self, numbers: Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
        """(B,), or a row of them for every step, on the device."""
        return torch.tensor(numbers, dtype=torch.float32, device=self._values[0].device)

    def _state(self, own: Sequence[Tensor], name: str) -> Tensor:
        """(B, ...): the named state of one parameter of all trials; zeros where there is none yet."""
        found = [state.optimizer.state[p].get(name) for state, p in zip(self._states, own, strict=True)]
        return torch.stack([p.data.new_zeros(p.shape) if f is None else f for p, f in zip(own, found, strict=True)])

    @torch.no_grad()
    def step(self) -> None:
        """Take each one's next optimiser step."""
        self._penalise()
        self._clip_norms()
        lr, scale = self._rates.index_select(0, self._at), self._scales.index_select(0, self._at)
        root = None if self._roots is None else self._roots.index_select(0, self._at)
        self._at.add_(1)
        for index, (value, gradient) in enumerate(zip(self._values, self._gradients, strict=True)):
            if self._has["weight_decay"] and self._regularised[index]:
                if self._kind == "adamw":
                    value.mul_(like(1 - lr * self._decay, value))
                else:
                    gradient.addcmul_(value, like(self._decay, value))
            value.addcmul_(self._direction(index, gradient, root), like(scale, value))

    def _direction(self, index: int, gradient: Tensor, root: Tensor | None) -> Tensor:
        """What is taken from the parameters, times the rate."""
        average, momentum = self._average[index], like(self._momentum, gradient)
        if self._kind == "sgd":
            return average.mul_(momentum).add_(gradient)
        _, keep, eps = SQUARES[self._kind]
        square = self._square[index].mul_(keep).addcmul_(gradient, gradient, value=1 - keep)
        if root is None:
            return average.mul_(momentum).addcdiv_(gradient, square.sqrt().add_(eps))
        average.lerp_(gradient, 1 - momentum)
        return average / square.sqrt().div_(like(root, square)).add_(eps)

    def _penalise(self) -> None:
        for value, gradient, regularised in zip(self._values, self._gradients, self._regularised, strict=True):
            if regularised and self._has["l2"]:
                gradient.addcmul_(value, like(self._l2, value))
            if regularised and self._has["l1"]:
                gradient.addcmul_(value.sign(), like(self._l1, value))

    def _clip_norms(self) -> None:
        if self._has["clip_norm"]:
            norm = sum(gradient.square().flatten(1).sum(1) for gradient in self._gradients)
            assert isinstance(norm, Tensor)
            factor = (self._clip / (norm.sqrt() + 1e-6)).clamp(max=1.0)
            factor = torch.where(self._clip.isinf(), 1.0, factor)  # a norm that is none is nobody else's
            for gradient in self._gradients:
                gradient.mul_(like(factor, gradient))

    def release(self) -> None:
        """Give each trial's optimiser its state, as torch.optim keeps it."""
        for index, some in enumerate(self._own):
            for slot, (state, parameter) in enumerate(zip(self._states, some, strict=True)):
                kept = state.optimizer.state[parameter]
                if self._kind in ("adam", "adamw") or state.config.momentum > 0:
                    kept[AVERAGES[self._kind]] = self._average[index][slot].clone()
                if self._square:
                    kept[SQUARES[self._kind][0]] = self._square[index][slot].clone()
                    steps = float(self._firsts[slot] + self._taken)
                    on = parameter.device if self._kind != "rmsprop" else "cpu"
                    kept["step"] = torch.tensor(steps, dtype=torch.float32, device=on)


def optimisers(
    states: Sequence[State], stacks: Sequence[Stack], firsts: Sequence[int], steps: Sequence[int], taken: int | None
) -> list[OneByOne | Stacked]:
    """What takes all trials' steps: one after the other, or, if it is said how many are `taken`, on the stacks; then
    trials of one kind must lie side by side."""
    if taken is None:
        return [OneByOne(states, firsts, steps)]
    found: list[OneByOne | Stacked] = []
    begin = 0
    for _, some in groupby(state.config.optimizer for state in states):
        part = slice(begin, begin + len(list(some)))
        mine = [(name, values[part], gradients[part]) for name, values, gradients in stacks]
        found.append(Stacked(states[part], mine, firsts[part], steps[part], taken))
        begin = part.stop
    return found


def like(column: Tensor, stack: Tensor) -> Tensor:
    """(B,) or (1, B) -> (B, 1, ...), to go with a stack (B, ...)."""
    return column.view(-1, *[1] * (stack.dim() - 1))
