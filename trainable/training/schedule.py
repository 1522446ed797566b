"""Learning rates as functions of the step alone, so that a restored trial needs no scheduler's state."""

from __future__ import annotations

import math

from rungwise.trainable.config import Config

WARM_UP = 0.3  # share of all steps
START = 1 / 25  # of the peak


def learning_rate(config: Config, step: int, steps: int) -> float:
    """The rate of optimiser step `step` (0-based) of `steps`.

    cosine: lr (1 + cos(pi t / T)) / 2, to 0 (Loshchilov and Hutter 2017, without restarts).
    one-cycle: linear from lr / 25 to lr over the first 30 %, then cosine to 0 (after Smith and Topin 2018).
    """
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "cosine":
        return config.lr * _cosine(step / steps)
    warm_up = WARM_UP * steps
    if step < warm_up:
        return config.lr * (START + (1 - START) * step / warm_up)
    return config.lr * _cosine((step - warm_up) / (steps - warm_up))


def _cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2
