"""The network and its regularisers: a multilayer perceptron whose randomness is an argument.

Regularisers follow Goodfellow et al. 2016, chapter 7, and act on the weights of Linear and Conv layers only.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from trainable.config import Config

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
}


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014) whose noise comes from `generator`; the identity in eval mode.

    An element is dropped when 16 random bits fall below round(65536 p): p holds to within 1/131072. Four elements
    share one 64-bit draw, which takes a fifth of the time of `bernoulli_` on the CPU.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None  # set by `train`; None = torch's global one

    def forward(self, x: Tensor) -> Tensor:
        """(B, F) -> (B, F)"""
        return x * self.noise(x) if self.training and self.p > 0 else x

    def noise(self, x: Tensor) -> Tensor:
        """A mask like `x`: 0 with probability p, else 1 / (1 - p)."""
        dropped = round(self.p * 65536)
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
        draws.random_(-(2**63), None, generator=self.generator)  # all 64 bits
        bits = draws.view(torch.int16)[: x.numel()].view(x.shape)
        kept = torch.empty_like(x, requires_grad=False)
        # Scaling by what is really kept leaves the expectation exact. p near 1 keeps at least one in 65536.
        torch.ge(bits, min(dropped, 65535) - 32768, out=kept)
        return kept.mul_(65536 / (65536 - min(dropped, 65535)))

    def extra_repr(self) -> str:
        return f"p={self.p}"


def build(config: Config, shape: tuple[int, ...], classes: int, generator: torch.Generator) -> nn.Sequential:
    """An MLP on the CPU: (B, *shape) -> logits (B, classes), initialised from `generator` alone.

    Each hidden layer is Linear, BatchNorm, activation, Dropout. Linear's weights and biases are uniform in
    +-1/sqrt(fan_in), torch's own default (He et al. 2015 with a = sqrt 5).
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    if config.input_dropout > 0:
        layers["input_dropout"] = Dropout(config.input_dropout)
    width = math.prod(shape)
    for index, units in enumerate(config.hidden, 1):
        layers[f"linear{index}"] = _linear(width, units, generator)
        if config.batch_norm:
            layers[f"norm{index}"] = nn.BatchNorm1d(units)
        layers[f"activation{index}"] = ACTIVATIONS[config.activation]()
        if config.dropout > 0:
            layers[f"dropout{index}"] = Dropout(config.dropout)
        width = units
    layers["logits"] = _linear(width, classes, generator)
    return nn.Sequential(layers)


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(
        device="cpu"
    )  # drawn once, and not from torch's global stream
    bound = 1 / math.sqrt(inputs)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer


def weights(model: nn.Module) -> list[nn.Parameter]:
    """What regularisers act on: weights of Linear and Conv layers, no bias, no BatchNorm."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return [cast(nn.Parameter, module.weight) for module in model.modules() if isinstance(module, kinds)]


def penalty(weights: Sequence[Tensor], config: Config) -> Tensor:
    """l1 * sum(|w|) + l2 * sum(w^2), a scalar. For reports; training adds its gradient directly."""
    total = torch.zeros((), device=weights[0].device)
    for w in weights:
        if config.l1 > 0:
            total = total + config.l1 * w.abs().sum()
        if config.l2 > 0:
            total = total + config.l2 * w.square().sum()
    return total


@torch.no_grad()
def add_penalty_gradient(weights: Sequence[Tensor], config: Config) -> None:
    """Add the penalty's gradient, l1 * sign(w) + 2 * l2 * w, to each weight's `.grad`, in place.

    The same as backward through `penalty`, at a third of the cost; sign(0) = 0 is the subgradient torch takes too.
    """
    for w in weights:
        assert w.grad is not None
        if config.l2 > 0:
            w.grad.add_(w, alpha=2 * config.l2)
        if config.l1 > 0:
            w.grad.add_(torch.sign(w), alpha=config.l1)
