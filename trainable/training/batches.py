"""What an optimiser step is given: which samples, and in which order."""

from __future__ import annotations

import torch
from torch import Tensor

from rungwise.trainable.config import Config
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.training.state import State, generator


def steps_per_epoch(config: Config, samples: int) -> int:
    """Optimiser steps an epoch: whole batches only; a batch is never larger than the training split."""
    steps = samples // min(config.batch_size, samples)
    if steps < config.reports_per_epoch:
        raise ValueError(
            f"reports_per_epoch <= steps an epoch must hold, but got reports_per_epoch={config.reports_per_epoch} and "
            f"{steps} steps ({samples} samples, batch_size={config.batch_size})"
        )
    return steps


def bounds(state: State, samples: int) -> tuple[int, int]:
    """The steps of its epoch that lead to the state's next report: from, to."""
    steps, part = steps_per_epoch(state.config, samples), state.step % state.config.reports_per_epoch
    return steps * part // state.config.reports_per_epoch, steps * (part + 1) // state.config.reports_per_epoch


def interval(state: State, data: Tensors) -> tuple[Tensor, int]:
    """The steps up to the next report: samples (steps, batch) on the data's device, and the first step's number."""
    config, samples = state.config, len(data.y_train)
    batch, epoch = min(config.batch_size, samples), state.step // config.reports_per_epoch
    first, last = bounds(state, samples)
    order = torch.randperm(samples, generator=generator("cpu", config.seed, "order", epoch))
    batches = order[first * batch : last * batch].view(-1, batch).to(data.device)
    return batches, epoch * steps_per_epoch(config, samples) + first
