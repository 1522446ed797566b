"""The expert's loop: tensors in memory, normalised once, a fused optimiser, nothing read back inside an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import work
from torch import Tensor
from torch.nn import functional as F


def arrays(data: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (N, 784) float32 and y (N,) of the training and the validation split."""
    with np.load(data / "mnist.npz") as file:
        x, y, x_validation, y_validation = (torch.from_numpy(file[name]) for name in ("x", "y", "xv", "yv"))

    def scaled(pixels: Tensor) -> Tensor:
        return pixels.flatten(1).float().div_(255).sub_(0.1307).div_(0.3081)

    return scaled(x), y, scaled(x_validation), y_validation


def epochs(params: Mapping[str, Any], data: tuple[Tensor, Tensor, Tensor, Tensor], count: int) -> Iterator[float]:
    """Train an epoch a turn; yields the validation accuracy."""
    x, y, x_validation, y_validation = data
    model = work.network(params["dropout"])
    optimizer = work.optimizer_of(model, params["optimizer"], params["lr"], params["weight_decay"], fast=True)
    batch = params["batch_size"]
    steps = len(x) // batch
    for _ in range(count):
        model.train()
        for index in torch.randperm(len(x))[: steps * batch].view(steps, batch):
            loss = F.cross_entropy(model(x[index]), y[index])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            yield (model(x_validation).argmax(1) == y_validation).float().mean().item()
