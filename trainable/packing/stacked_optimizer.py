"""Optimiser steps of several trials at once, on the rows of their parameter matrix.

On a GPU a launch costs more than its arithmetic: all trials of one kind of optimiser are stepped element by element, so
that the number of operations grows neither with that of trials nor with that of layers. The formulas are those of
torch.optim; penalties are those of `model.add_penalty_gradient`, norms those of `clip_grad_norm_`. On a CPU
`training.optimizers.SequentialOptimizer` is faster: its kernels pass over memory once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from rungwise.trainable.config import Config
from rungwise.trainable.packing.parameter_matrix import ParameterMatrix
from rungwise.trainable.training.optimizers import learning_rate
from rungwise.trainable.training.state import State

ADAM = ("exp_avg_sq", 0.999, 1e-8)  # name of the running square, its decay, and epsilon
SQUARES = {"adam": ADAM, "adamw": ADAM, "rmsprop": ("square_avg", 0.99, 1e-8)}
AVERAGES = {"sgd": "momentum_buffer", "rmsprop": "momentum_buffer", "adam": "exp_avg", "adamw": "exp_avg"}
PENALTIES = ("l1", "l2", "weight_decay", "clip_norm")


class StackedOptimizer:
    """Steps trials of one kind of optimiser at once. `release` gives each trial its optimiser's state again."""

    def __init__(
        self,
        states: Sequence[State],
        matrix: ParameterMatrix,
        part: slice,
        firsts: Sequence[int],
        steps: Sequence[int],
        taken: int,
    ) -> None:
        """A step waits for nothing from the host.

        Args:
            states: of the trials, of one kind of optimiser.
            matrix: of the parameters of all trials of the pack.
            part: the rows of these trials.
            firsts: the number of each trial's next optimiser step, from 0.
            steps: optimiser steps of each trial's whole budget.
            taken: how many steps will be taken.
        """
        self._states, self._kind, self._matrix = states, states[0].config.optimizer, matrix
        self._values, self._gradients = matrix.values[part], matrix.gradients[part]
        self._own = [matrix.parameters(index) for index in range(part.start, part.stop)]
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
        """Compute what follows from a step's number alone, for all coming steps: (steps, 3, B, 1). Row `_at` is the
        next. The three are the learning rate, the factor of the direction, and the number added to a root."""
        numbers = [range(first, first + self._taken) for first in self._firsts]
        rates = torch.tensor(
            [
                [learning_rate(c, n, budget) for n in own]
                for c, own, budget in zip(configs, numbers, steps, strict=True)
            ],
            dtype=torch.float64,
        )
        self.rates = rates[:, -1].tolist()  # of the last step
        scales, eps = rates, torch.full_like(rates, SQUARES[self._kind][2] if self._square is not None else 0.0)
        if self._kind in ("adam", "adamw"):  # Kingma and Ba 2015, algorithm 1: averages that began at 0
            taken = torch.tensor([list(own) for own in numbers], dtype=torch.float64) + 1
            momenta = torch.tensor([config.momentum for config in configs], dtype=torch.float64).unsqueeze(1)
            root = (1 - ADAM[1] ** taken).sqrt()  # times it, above and below: one operation less a step
            scales, eps = rates * root / (1 - momenta**taken), ADAM[2] * root
        device = self._values.device
        self._scheduled = torch.stack([rates.t(), -scales.t(), eps.t()], 1).float().unsqueeze(3).to(device)
        self._at = torch.zeros(1, dtype=torch.int64, device=device)

    def _column(self, numbers: Sequence[float]) -> Tensor:
        """(B, 1): one number for each row."""
        return torch.tensor(numbers, dtype=torch.float32, device=self._values.device).view(-1, 1)

    def _state(self, name: str) -> Tensor:
        """(B, P): the named state of all parameters; zeros where there is none yet."""
        optimizers = [state.optimizer for state in self._states]
        return self._matrix.gather(
            [[each.state[p].get(name) for p in own] for each, own in zip(optimizers, self._own, strict=True)]
        )

    @torch.no_grad()
    def step(self) -> None:
        """Take each trial's next optimiser step."""
        values, gradients, decayed = self._values, self._gradients, slice(0, self._matrix.decayed)
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
        """(B, P): what is subtracted from the parameters, but for its factor."""
        average = self._average
        if self._square is None:
            return average.mul_(self._momentum).add_(gradients)
        decay = SQUARES[self._kind][1]
        square = self._square.mul_(decay).addcmul_(gradients, gradients, value=1 - decay)
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
            factor = torch.where(self._clip.isinf(), 1.0, factor)  # a norm that is not finite leaves the others alone
            gradients.mul_(factor)

    def release(self) -> None:
        """Give each trial's optimiser its state, as torch.optim keeps it."""
        averages = self._matrix.copies(self._average)
        squares = self._matrix.copies(self._square) if self._square is not None else []
        reached = [[float(first + self._taken)] * len(self._own[0]) for first in self._firsts]
        steps = torch.tensor(reached, device="cpu" if self._kind == "rmsprop" else self._values.device)
        for slot, (state, own) in enumerate(zip(self._states, self._own, strict=True)):
            parts_of: dict[str, list[Tensor]] = {}
            if self._kind in ("adam", "adamw") or state.config.momentum > 0:
                parts_of[AVERAGES[self._kind]] = averages[slot]
            if self._square is not None:
                parts_of |= {SQUARES[self._kind][0]: squares[slot], "step": list(steps[slot].unbind())}
            for name, parts in parts_of.items():
                for parameter, part in zip(own, parts, strict=True):
                    state.optimizer.state[parameter][name] = part


def stack_optimizers(
    states: Sequence[State], matrix: ParameterMatrix, firsts: Sequence[int], steps: Sequence[int], taken: int
) -> list[StackedOptimizer]:
    """One optimiser for each kind. Trials of one kind must lie side by side; for the arguments see its `__init__`."""
    stacked = []
    begin = 0
    for _, same_kind in groupby(state.config.optimizer for state in states):
        part = slice(begin, begin + len(list(same_kind)))
        stacked.append(StackedOptimizer(states[part], matrix, part, firsts[part], steps[part], taken))
        begin = part.stop
    return stacked
