"""The optimiser steps of trials that train together, once their gradients are there.

On a CPU one trial after the other: the kernels of `trainable.training.optimizer_step` pass over memory once. On a GPU,
where a launch costs more than its arithmetic, all trials of a kind at once, element by element on their rows: the
number of operations grows neither with that of trials nor with that of layers. Same formulas: torch.optim's, penalties
as in `model.add_penalty_gradient`, norms as in `clip_grad_norm_`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from rungwise.trainable.config import Config
from rungwise.trainable.model import add_penalty_gradient, weights
from rungwise.trainable.packing.parameter_matrix import Rows
from rungwise.trainable.training.optimizer_step import update
from rungwise.trainable.training.schedule import learning_rate
from rungwise.trainable.training.state import State

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
    """Trials of one optimiser kind, `part` of the rows, which get their optimiser's state back with `release`."""

    def __init__(
        self, states: Sequence[State], rows: Rows, part: slice, firsts: Sequence[int], steps: Sequence[int], taken: int
    ) -> None:
        """As `OneByOne`; `taken`: how many steps will be taken. A step waits for nothing from the host."""
        self._states, self._kind, self._rows = states, states[0].config.optimizer, rows
        self._values, self._gradients = rows.values[part], rows.gradients[part]
        self._own = [rows.parameters(index) for index in range(part.start, part.stop)]
        self._firsts, self._taken = firsts, taken
        self._average = self._state(AVERAGES[self._kind])
        self._square = self._state(SQUARES[self._kind][0]) if self._kind in SQUARES else None
        configs = [state.config for state in states]
        self._momentum = self._column([config.momentum for config in configs])
        self._decay = self._column([config.weight_decay for config in configs])
        self._l1 = self._column([config.l1 for config in configs])
        self._l2 = self._column([2 * config.l2 for config in configs])
        self._clip = self._column([config.clip_norm or torch.inf for config in configs])
        self._has = {name: any(getattr(config, name) > 0 for config in configs) for name in PENALTIES}
        self._schedule(configs, steps)

    def _schedule(self, configs: Sequence[Config], steps: Sequence[int]) -> None:
        """What the coming steps take from the step's number alone, (steps, 3, B, 1): the rate; by what the direction is
        scaled; what is added to a root. Row `_at` is the next."""
        numbers = [range(first, first + self._taken) for first in self._firsts]
        rates = torch.tensor(
            [[learning_rate(c, n, all_) for n in some] for c, some, all_ in zip(configs, numbers, steps, strict=True)],
            dtype=torch.float64,
        )
        self.rates = rates[:, -1].tolist()  # of the last step
        scales, eps = rates, torch.full_like(rates, SQUARES[self._kind][2] if self._square is not None else 0.0)
        if self._kind in ("adam", "adamw"):  # Kingma and Ba 2015, algorithm 1: averages that began at 0
            taken = torch.tensor([list(some) for some in numbers], dtype=torch.float64) + 1
            momenta = torch.tensor([config.momentum for config in configs], dtype=torch.float64).unsqueeze(1)
            root = (1 - ADAM[1] ** taken).sqrt()  # times it, above and below: one operation less a step
            scales, eps = rates * root / (1 - momenta**taken), ADAM[2] * root
        device = self._values.device
        self._scheduled = torch.stack([rates.t(), -scales.t(), eps.t()], 1).float().unsqueeze(3).to(device)
        self._at = torch.zeros(1, dtype=torch.int64, device=device)

    def _column(self, numbers: Sequence[float]) -> Tensor:
        """(B, 1), to go with rows."""
        return torch.tensor(numbers, dtype=torch.float32, device=self._values.device).view(-1, 1)

    def _state(self, name: str) -> Tensor:
        """(B, P): the named state of all parameters; zeros where there is none yet."""
        found = [state.optimizer.state for state in self._states]
        return self._rows.gathered(
            [[kept[p].get(name) for p in own] for kept, own in zip(found, self._own, strict=True)]
        )

    @torch.no_grad()
    def step(self) -> None:
        """Take each one's next optimiser step."""
        values, gradients, decayed = self._values, self._gradients, slice(0, self._rows.decayed)
        self._penalise(values[:, decayed], gradients[:, decayed])
        self._clip_norms(gradients)
        rate, scale, eps = self._scheduled.index_select(0, self._at).squeeze(0).unbind()
        if self._has["weight_decay"]:
            if self._kind == "adamw":
                values[:, decayed].mul_(1 - rate * self._decay)
            else:
                gradients[:, decayed].addcmul_(values[:, decayed], self._decay)
        values.addcmul_(self._direction(gradients, eps), scale)
        self._at.add_(1)

    def _direction(self, gradients: Tensor, eps: Tensor) -> Tensor:
        """What is taken from the parameters, times the scale."""
        average = self._average
        if self._square is None:
            return average.mul_(self._momentum).add_(gradients)
        keep = SQUARES[self._kind][1]
        square = self._square.mul_(keep).addcmul_(gradients, gradients, value=1 - keep)
        if self._kind == "rmsprop":
            return average.mul_(self._momentum).addcdiv_(gradients, square.sqrt().add_(eps))
        average.lerp_(gradients, 1 - self._momentum)
        return average / square.sqrt().add_(eps)

    def _penalise(self, values: Tensor, gradients: Tensor) -> None:
        if self._has["l2"]:
            gradients.addcmul_(values, self._l2)
        if self._has["l1"]:
            gradients.addcmul_(values.sign(), self._l1)

    def _clip_norms(self, gradients: Tensor) -> None:
        if self._has["clip_norm"]:
            norm = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
            factor = (self._clip / (norm + 1e-6)).clamp(max=1.0)
            factor = torch.where(self._clip.isinf(), 1.0, factor)  # a norm that is none is nobody else's
            gradients.mul_(factor)

    def release(self) -> None:
        """Give each trial's optimiser its state, as torch.optim keeps it."""
        averages = self._rows.taken(self._average)
        squares = self._rows.taken(self._square) if self._square is not None else []
        reached = [[float(first + self._taken)] * len(self._own[0]) for first in self._firsts]
        steps = torch.tensor(reached, device="cpu" if self._kind == "rmsprop" else self._values.device)
        for slot, (state, own) in enumerate(zip(self._states, self._own, strict=True)):
            found = {}
            if self._kind in ("adam", "adamw") or state.config.momentum > 0:
                found[AVERAGES[self._kind]] = averages[slot]
            if self._square is not None:
                found |= {SQUARES[self._kind][0]: squares[slot], "step": list(steps[slot].unbind())}
            for name, parts in found.items():
                for parameter, part in zip(own, parts, strict=True):
                    state.optimizer.state[parameter][name] = part


def optimisers(
    states: Sequence[State], rows: Rows, firsts: Sequence[int], steps: Sequence[int], taken: int | None
) -> list[OneByOne | Stacked]:
    """What takes all trials' steps: one after the other, or, if it is said how many are `taken`, on the rows; then
    trials of one kind must lie side by side."""
    if taken is None:
        return [OneByOne(states, firsts, steps)]
    found: list[OneByOne | Stacked] = []
    begin = 0
    for _, some in groupby(state.config.optimizer for state in states):
        part = slice(begin, begin + len(list(some)))
        found.append(Stacked(states[part], rows, part, firsts[part], steps[part], taken))
        begin = part.stop
    return found
