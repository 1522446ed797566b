"""What a model scores on each sample of a split, packed: one bit of an accuracy, a float32 of any other metric.

The mean over samples is the score itself. Two arms' models are scored on the same samples, and only these bits say how
much of a difference is due to which samples the split happens to have.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.train import outputs_of

ACCURACY = "accuracy"


@torch.no_grad()
def packed_sample_scores(model: nn.Module, data: Tensors, metric: str, precision: str = "fp32") -> tuple[int, bytes]:
    """Number of samples of the validation split, and the model's score on each of them.

    Args:
        model: the trained network.
        data: its validation split is scored.
        metric: one of those of `trainable.train.scores`.
        precision: "fp32" or "bf16".
    """
    y = data.y_validation
    outputs = outputs_of(model, data.x_validation, data.mean, data.std, precision)
    if data.target is None and metric == ACCURACY:
        right = (outputs.argmax(1) == y).cpu().numpy()
        return len(right), np.packbits(right).tobytes()
    if data.target is None:
        values = F.cross_entropy(outputs, y, reduction="none")
    else:
        error = outputs[:, 0].double() * data.target[1] + data.target[0] - y.double()
        values = error.abs() if metric == "mae" else error.square()
        if metric == "r2":
            spread = (y.double() - y.double().mean()).square().mean()
            values = 1 - values / spread if spread > 0 else torch.zeros_like(values)
    return len(y), values.cpu().numpy().astype("<f4").tobytes()
