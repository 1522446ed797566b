"""The parameters of several networks of one shape as a matrix.

With a row for each network, one operation does what an optimiser does to every number of every network. With `apart`
the values that a parameter has in all networks lie side by side, which is fastest for batched products on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, chain

import torch
from torch import Tensor, nn

from rungwise.trainable.model import weights
from rungwise.trainable.training.compat import foreach

ALIGN = 16  # numbers: every parameter begins on a cache line


class ParameterMatrix:
    """`values` and `gradients`, float32 (B, P). The networks' own parameters and `.grad` are views of them, until
    `release`.

    The first `decayed` columns are the weights that regularisers act on. Columns between parameters are 0 and stay 0.
    With `apart` neither holds: the same memory is laid out otherwise, and only `of` reads it.
    """

    def __init__(self, models: Sequence[nn.Module], *, apart: bool) -> None:
        regularised = {id(weight) for weight in weights(models[0])}
        named = sorted(models[0].named_parameters(), key=lambda pair: id(pair[1]) not in regularised)
        self._own = [[model.get_parameter(name) for name, _ in named] for model in models]
        self._shapes = [parameter.shape for _, parameter in named]
        sizes = [shape.numel() for shape in self._shapes]
        *begins, self._width = accumulate((math.ceil(size / ALIGN) * ALIGN for size in sizes), initial=0)
        self._columns = [slice(begin, begin + size) for begin, size in zip(begins, sizes, strict=True)]
        self.decayed, self._apart = [*begins, self._width][len(regularised)], apart
        self.values = self.gather([[parameter.data for parameter in own] for own in self._own])
        self.gradients = torch.zeros_like(self.values)
        stacks = zip(self._stacks(self.values), self._stacks(self.gradients), strict=True)
        self._named = dict(zip((name for name, _ in named), stacks, strict=True))
        for own, values, slopes in zip(self._own, self._each(self.values), self._each(self.gradients), strict=True):
            for parameter, value, slope in zip(own, values, slopes, strict=True):
                parameter.data, parameter.grad = value, slope

    def parameters(self, index: int) -> list[nn.Parameter]:
        """One network's own, in the order of the columns."""
        return self._own[index]

    def of(self, name: str) -> tuple[Tensor, Tensor]:
        """Views of a parameter of all networks, and of its gradient: (B, ...) each."""
        return self._named[name]

    def gather(self, parts: Sequence[Sequence[Tensor | None]]) -> Tensor:
        """(B, P): of each network what belongs to its parameters; None is 0."""
        gathered = torch.zeros((len(parts), self._width), device=self._own[0][0].device)
        places = chain.from_iterable(self._each(gathered))
        pairs = [(a, b) for a, b in zip(places, chain.from_iterable(parts), strict=True) if b is not None]
        if pairs:
            foreach("copy_", [place for place, _ in pairs], [part for _, part in pairs])
        return gathered

    def copies(self, numbers: Tensor) -> list[list[Tensor]]:
        """Of (B, P), copies of what belongs to each network's parameters; a network's share one memory."""
        copies = [self._parts(torch.empty(self._width, device=numbers.device)) for _ in numbers]
        foreach("copy_", list(chain.from_iterable(copies)), list(chain.from_iterable(self._each(numbers))))
        return copies

    def release(self) -> None:
        """Give each network its parameters."""
        for own, values in zip(self._own, self.copies(self.values), strict=True):
            for parameter, value in zip(own, values, strict=True):
                parameter.data, parameter.grad = value, None

    def _stacks(self, numbers: Tensor) -> list[Tensor]:
        """Views of each parameter of all networks."""
        count, columns = len(numbers), zip(self._columns, self._shapes, strict=True)
        if self._apart:
            flat = numbers.view(-1)
            return [flat[count * c.start : count * c.stop].view(count, *shape) for c, shape in columns]
        return [numbers[:, c].view(count, *shape) for c, shape in columns]

    def _each(self, numbers: Tensor) -> list[tuple[Tensor, ...]]:
        """Views of each network's parameters."""
        return list(zip(*(stack.unbind() for stack in self._stacks(numbers)), strict=True))

    def _parts(self, row: Tensor) -> list[Tensor]:
        """Views of each parameter of one network, of numbers that lie in the order of the columns."""
        return [row[c].view(shape) for c, shape in zip(self._columns, self._shapes, strict=True)]
