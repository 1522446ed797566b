"""A dataset as tensors on the device of a training, and the normalisation of its samples.

    data = Tensors.of(dataset, "cpu")         # once a process, kept over many trials

Samples are normalised on the device: per batch (`train.py`), or once where there is memory for it (`pack.py`).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from rungwise.trainable.data.dataset import Dataset
from rungwise.trainable.data.raw import Array
from rungwise.trainable.training.loop_functions import NO_FUNCTIONS, LoopFunctions

EVALUATION_BATCH = 512  # as fast as 2048, and activations take a quarter of the memory


def normalise(x: Tensor, mean: Tensor, std: Tensor, out: Tensor | None = None) -> Tensor:
    """(B, C, H, W) uint8 or (B, F) float32 -> float32 of mean 0 and standard deviation 1 over the training split.

    Where `mean` is empty, samples are taken as they are, whatever their type.
    """
    if not mean.numel():
        return x if out is None else out.copy_(x)
    out = torch.empty_like(x, dtype=torch.float32) if out is None else out
    return out.copy_(x).sub_(mean).div_(std)


@dataclass(frozen=True)
class Tensors:
    """A dataset's training and validation split, resident on one device.

    On the CPU these share the dataset's memory: nothing may write to them.

    Args:
        x_train: raw samples, uint8 (N, C, H, W) or float32 (N, F); with `preprocess="none"` of any shape.
        y_train: labels, int64 (N,); of a regression float32 targets, in their own unit.
        x_validation: as x_train.
        y_validation: as y_train.
        mean: of the training split, float32 (C, 1, 1) or (F,); empty: samples are taken as they are.
        std: as mean.
        classes: numbers that a model returns for a sample. Of a regression 1, in standard deviations from the mean.
        target: mean and standard deviation of a regression's targets; None for classes.
        functions: of the user's, in place of parts of the loop.
        embedded: (column, how many vectors) of each column that holds the numbers of categories.
    """

    x_train: Tensor
    y_train: Tensor
    x_validation: Tensor
    y_validation: Tensor
    mean: Tensor
    std: Tensor
    classes: int
    target: tuple[float, float] | None = None
    functions: LoopFunctions = NO_FUNCTIONS
    embedded: tuple[tuple[int, int], ...] = ()
    _ready: dict[torch.dtype, tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def shape(self) -> tuple[int, ...]:
        """One sample: (C, H, W) or (F,)."""
        return tuple(self.x_train.shape[1:])

    @property
    def input_dtype(self) -> torch.dtype:
        """Of what a model is given."""
        return torch.float32 if self.mean.numel() else self.x_train.dtype

    @property
    def device(self) -> torch.device:
        return self.x_train.device

    @cached_property
    def balanced_weights(self) -> Tensor:
        """Weights (K,) of the classes, by which all count the same in a loss: N / (K n_k)."""
        counts = torch.bincount(self.y_train, minlength=self.classes).clamp(min=1)
        return (len(self.y_train) / (self.classes * counts)).float()

    def has_ready(self, dtype: torch.dtype) -> bool:
        """Whether the samples that `ready` returns are made already."""
        return dtype in self._ready

    def ready(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Both splits' samples, normalised and flat, (N, F) in `dtype`. Made by the first call and stored."""
        if dtype not in self._ready:
            self._ready[dtype] = (self._normalised(self.x_train, dtype), self._normalised(self.x_validation, dtype))
        return self._ready[dtype]

    def _normalised(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        out = torch.empty((len(x), x.shape[1:].numel()), dtype=dtype, device=x.device)
        for start in range(0, len(x), EVALUATION_BATCH):
            part = slice(start, start + EVALUATION_BATCH)
            out[part] = normalise(x[part], self.mean, self.std).flatten(1)
        return out

    @classmethod
    def of(cls, dataset: Dataset, device: torch.device | str) -> Tensors:
        """The dataset on `device`; without a copy when that is the CPU. Its test split stays behind."""

        def put(array: Array) -> Tensor:
            with warnings.catch_warnings():
                # Object-store arrays are read-only and torch cannot say so; training only reads them.
                warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
                return torch.from_numpy(array).to(device)

        def statistic(values: tuple[float, ...]) -> Tensor:
            found = torch.tensor(values, dtype=torch.float32, device=device)
            return found.view(-1, *[1] * (len(dataset.shape) - 1)) if values else found

        return cls(
            x_train=put(dataset.train.x),
            y_train=put(dataset.train.y),
            x_validation=put(dataset.validation.x),
            y_validation=put(dataset.validation.y),
            mean=statistic(dataset.mean),
            std=statistic(dataset.std),
            classes=len(dataset.classes) or 1,
            target=dataset.target,
            functions=dataset.functions,
            embedded=() if dataset.encoder is None else dataset.encoder.embedded,
        )
