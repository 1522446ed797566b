"""All parameters of several networks of one shape in one place.

As a matrix, a row for each network, what an optimiser does to every number of every network is one operation. Apart,
each parameter's values of all networks lie side by side, as batched products on a CPU like them best.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain

import torch
from torch import Tensor, nn

from rungwise.trainable.model import weights

ALIGN = 16  # numbers: every parameter begins on a cache line


class Rows:
    """`values` and `gradients`, float32 (B, P). The networks' own parameters and `.grad` are views of them, until
    `release`.

    The first `decayed` columns are the weights that regularisers act on. Columns between parameters are 0 and stay 0.
    Apart, neither holds: the same memory is laid out otherwise, and only `of` makes sense of it.
    """

    def __init__(self, models: Sequence[nn.Module], *, apart: bool) -> None:
        regularised = {id(weight) for weight in weights(models[0])}
        named = sorted(models[0].named_parameters(), key=lambda pair: id(pair[1]) not in regularised)
        self._own = [[model.get_parameter(name) for name, _ in named] for model in models]
        self._shapes = [parameter.shape for _, parameter in named]
        sizes = [shape.numel() for shape in self._shapes]
        *begins, self._width = accumulate((size + -size % ALIGN for size in sizes), initial=0)
        self._columns = [slice(begin, begin + size) for begin, size in zip(begins, sizes, strict=True)]
        self.decayed, self._apart = [*begins, self._width][len(regularised)], apart
        self.values = self.gathered([[parameter.data for parameter in own] for own in self._own])
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

    def gathered(self, parts: Sequence[Sequence[Tensor | None]]) -> Tensor:
        """(B, P): of each network what belongs to its parameters; None is 0."""
        found = torch.zeros((len(parts), self._width), device=self._own[0][0].device)
        places = chain.from_iterable(self._each(found))
        pairs = [(a, b) for a, b in zip(places, chain.from_iterable(parts), strict=True) if b is not None]
        if pairs:
            torch._foreach_copy_([place for place, _ in pairs], [part for _, part in pairs])
        return found

    def taken(self, numbers: Tensor) -> list[list[Tensor]]:
        """Of (B, P), copies of what belongs to each network's parameters; a network's share one memory."""
        found = [torch.empty(self._width, device=numbers.device) for _ in numbers]
        copies = [self._parts(row) for row in found]
        torch._foreach_copy_(list(chain.from_iterable(copies)), list(chain.from_iterable(self._each(numbers))))
        return copies

    def release(self) -> None:
        """Give each network its parameters."""
        for own, values in zip(self._own, self.taken(self.values), strict=True):
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
