"""A dataset on the device where it is trained on, and how its samples become the numbers that a network takes.

    data = Tensors.of(dataset, "cpu")         # once a process, kept over many trials

Samples are normalised on the device: per batch (`train.py`), or once, where memory is plenty (`pack.py`).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rungwise.trainable.data.dataset import Dataset
from rungwise.trainable.data.raw import Array

EVALUATION_BATCH = 512  # as fast as 2048, and activations take a quarter of the memory


def normalise(x: Tensor, mean: Tensor, std: Tensor, out: Tensor | None = None) -> Tensor:
    """(B, C, H, W) uint8 or (B, F) float32 -> float32 of mean 0 and standard deviation 1 over the training split."""
    out = torch.empty_like(x, dtype=torch.float32) if out is None else out
    return out.copy_(x).sub_(mean).div_(std)


@dataclass(frozen=True)
class Tensors:
    """A dataset's training and validation split, resident on one device.

    x: uint8 (N, C, H, W) or float32 (N, F); y: int64 (N,); mean, std: float32 (C, 1, 1) or (F,). For a regression y is
    float32, in its own unit, and a model makes one number, in standard deviations from the mean (`target`).
    On the CPU these share the dataset's memory: nothing may write to them.
    """

    x_train: Tensor
    y_train: Tensor
    x_validation: Tensor
    y_validation: Tensor
    mean: Tensor
    std: Tensor
    classes: int  # numbers that a model makes of a sample
    target: tuple[float, float] | None = None  # of a regression: mean and standard deviation
    _kept: dict[torch.dtype, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """One sample: (C, H, W) or (F,)."""
        return tuple(self.x_train.shape[1:])

    @property
    def device(self) -> torch.device:
        return self.x_train.device

    def has_ready(self, dtype: torch.dtype) -> bool:
        """Whether `ready` costs nothing any more."""
        return dtype in self._kept

    def ready(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Both splits' samples normalised, (N, F), as products in `dtype` take them. Made when first asked for, and
        kept."""
        if dtype not in self._kept:
            self._kept[dtype] = (self._normalised(self.x_train, dtype), self._normalised(self.x_validation, dtype))
        return self._kept[dtype]

    def _normalised(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        out = torch.empty((len(x), x.shape[1:].numel()), dtype=dtype, device=x.device)
        for start in range(0, len(x), EVALUATION_BATCH):
            part = slice(start, start + EVALUATION_BATCH)
            out[part] = normalise(x[part], self.mean, self.std).flatten(1)
        return out

    @classmethod
    def of(cls, dataset: Dataset, device: torch.device | str) -> Tensors:
        """Put `dataset` on `device`; without a copy when that is the CPU."""

        def put(array: Array) -> Tensor:
            with warnings.catch_warnings():
                # Object-store arrays are read-only and torch cannot say so; training only reads them.
                warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
                return torch.from_numpy(array).to(device)

        broadcast = (-1, *[1] * (len(dataset.shape) - 1))
        return cls(
            x_train=put(dataset.train.x),
            y_train=put(dataset.train.y),
            x_validation=put(dataset.validation.x),
            y_validation=put(dataset.validation.y),
            mean=torch.tensor(dataset.mean, dtype=torch.float32, device=device).view(broadcast),
            std=torch.tensor(dataset.std, dtype=torch.float32, device=device).view(broadcast),
            classes=len(dataset.classes) or 1,
            target=dataset.target,
        )
