"""The samples of each optimiser step, and their order."""

from __future__ import annotations

import torch
from torch import Tensor

from rungwise.text import plural
from rungwise.trainable.config import Config
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.training.state import State, generator


def steps_per_epoch(config: Config, samples: int) -> int:
    """Optimiser steps an epoch: whole batches only; a batch is never larger than the training split.

    Raises:
        ValueError: when an epoch has fewer steps than reports.
    """
    steps = samples // min(config.batch_size, samples)
    if steps < config.reports_per_epoch:
        raise ValueError(
            f"an epoch must have at least as many steps as reports, but got {plural(steps, 'step')} "
            f"({plural(samples, 'sample')}, batch_size={config.batch_size}) and "
            f"reports_per_epoch={config.reports_per_epoch}"
        )
    return steps


def bounds(state: State, samples: int) -> tuple[int, int]:
    """The steps of the current epoch that lead to the next report: the first, and the one after the last."""
    steps, part = steps_per_epoch(state.config, samples), state.step % state.config.reports_per_epoch
    return steps * part // state.config.reports_per_epoch, steps * (part + 1) // state.config.reports_per_epoch


def interval(state: State, data: Tensors) -> tuple[Tensor, int]:
    """The steps up to the next report: indices of samples (steps, batch) on the data's device, and the number of the
    first step in the trial, from 0."""
    config, samples = state.config, len(data.y_train)
    batch, epoch = min(config.batch_size, samples), state.step // config.reports_per_epoch
    first, last = bounds(state, samples)
    order = torch.randperm(samples, generator=generator("cpu", config.seed, "order", epoch))
    batches = order[first * batch : last * batch].view(-1, batch).to(data.device)
    return batches, epoch * steps_per_epoch(config, samples) + first
