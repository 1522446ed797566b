"""What a model scores on each sample of a split, packed: one bit of an accuracy, a float32 of any other metric.

The mean over samples is the score itself. Two arms' models are scored on the same samples, and only these bits say how
much of a difference is due to which samples the split happens to have.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.train import outputs_of


@torch.no_grad()
def pack_sample_scores(model: nn.Module, data: Tensors, precision: str = "fp32") -> dict[str, tuple[int, bytes]]:
    """What the model scores on each sample of the validation split.

    Args:
        model: the trained network.
        data: its validation split is scored.
        precision: "fp32" or "bf16".

    Returns:
        {metric: number of samples, packed scores}, of the metrics of `trainable.train.scores`.
    """
    y = data.y_validation
    outputs = outputs_of(model, data.x_validation, data.mean, data.std, precision)
    if data.target is None:
        right = (outputs.argmax(1) == y).cpu().numpy()
        loss = _float32(F.cross_entropy(outputs, y, reduction="none"))
        return {"accuracy": (len(y), np.packbits(right).tobytes()), "loss": (len(y), loss)}
    error = outputs[:, 0].double() * data.target[1] + data.target[0] - y.double()
    squared = error.square()
    spread = (y.double() - y.double().mean()).square().mean()
    explained = 1 - squared / spread if spread > 0 else torch.zeros_like(squared)
    values = {"loss": squared, "mse": squared, "mae": error.abs(), "r2": explained}
    return {metric: (len(y), _float32(of_metric)) for metric, of_metric in values.items()}


def _float32(values: Tensor) -> bytes:
    return values.cpu().numpy().astype("<f4").tobytes()
