"""A trained network between raw samples and probabilities, also made again from a model's folder.

A torch.export program is code of whoever made it: its JSON holds expressions that torch evaluates. Hyperparameters and
weights are numbers. So the networks of `trainable.model` are built from these here, and only what a user's own function
made needs its program.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn

from rungwise.trainable.config import MODELS, Config
from rungwise.trainable.data import memory
from rungwise.trainable.data.table.encoder import TableEncoder
from rungwise.trainable.data.tensors import normalise
from rungwise.trainable.model import build

MOST_LAYERS = 1000  # a description that asks for more is none of ours
HEADER = 2**20  # bytes of a file beside its tensors


class Classifier(nn.Module):
    """A model between raw samples and probabilities: (N, *shape) uint8, float32 or float64 -> (N, K) float32.

    With an empty `mean` samples, then of any type, go to the model as they are.
    Of a regression (N, 1), in the target's unit. `offset` (float64) is taken away before numbers become float32.
    """

    mean: Tensor
    std: Tensor
    offset: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        mean: Tensor,
        std: Tensor,
        target: tuple[float, float] | None = None,
        offset: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.target = target
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("offset", None if offset is None else torch.tensor(offset, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        if self.offset is not None:
            x = x.to(torch.float64) - self.offset
        logits: Tensor = self.model(normalise(x, self.mean, self.std))
        return logits.softmax(1) if self.target is None else logits * self.target[1] + self.target[0]


def can_rebuild(described: Mapping[str, Any]) -> bool:
    """Whether config.json says all that a network of ours needs; earlier versions kept no target's scale."""
    return described["config"].get("model", "mlp") in MODELS and (bool(described["classes"]) or "target" in described)


def rebuild(described: Mapping[str, Any], weights: Path) -> Classifier:
    """The network that config.json describes, with the weights of a safetensors file, on the CPU in eval mode.

    Neither can make it import anything or take more memory than the file has bytes. Raises ValueError, TypeError,
    KeyError, OSError or RuntimeError for what does not fit together.
    """
    config = Config.model_validate(described["config"])  # not `parse_config`, which imports what `model` names
    layers = len(config.hidden) + (len(config.channels) * config.convolutions if config.model == "cnn" else 0)
    if layers > MOST_LAYERS:
        raise ValueError(f"a network must have at most {MOST_LAYERS} layers, but config.json asks for {layers}")
    shape, table = _whole(described["shape"]), described.get("table")
    embedded = TableEncoder.from_json(table).embedded if table else ()
    with torch.device("meta"):  # takes no memory, whatever widths are asked for
        model = build(config, shape, len(described["classes"]) or 1, torch.Generator(), embedded=embedded)
    expected = model.state_dict()
    _require_size(weights, sum(value.numel() * value.element_size() for value in expected.values()))
    tensors = load(weights.read_bytes())
    for name in expected.keys() & tensors.keys():
        if tensors[name].dtype != expected[name].dtype:
            raise ValueError(f"{name} must be {expected[name].dtype}, but is {tensors[name].dtype}")
    model.load_state_dict(tensors, assign=True)
    broadcast = (-1, *[1] * (len(shape) - 1))
    mean, std = (
        torch.tensor(_numbers(described[name], shape[0]), dtype=torch.float32).view(broadcast)
        for name in ("mean", "std")
    )
    target: tuple[float, float] | None = None
    if described.get("target"):
        average, spread = _numbers(described["target"], 2)
        target = (average, spread)
    offset = _numbers(described["offset"], shape[0]) if described.get("offset") else None
    return Classifier(model, mean, std, target, offset).eval()


def _whole(shape: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(shape)
    if len(sizes) not in (1, 3) or not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(f"a sample's shape must be (C, H, W) or (F,), but config.json says {sizes}")
    return sizes


def _numbers(values: Sequence[float], count: int) -> list[float]:
    numbers = [float(value) for value in values]
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError(f"mean, std, target and offset must be finite numbers, {count} here, but got {numbers[:8]}")
    return numbers


def _require_size(weights: Path, expected: int) -> None:
    size = weights.stat().st_size
    if not expected <= size <= expected + HEADER:
        raise ValueError(f"{weights.name} must contain {expected:,} bytes of weights, but has {size:,} bytes")
    free = memory.free()
    if free is not None and size > memory.SHARE * free:
        raise ValueError(f"weights must fit into half of the free memory, but {weights.name} has {size:,} bytes")
