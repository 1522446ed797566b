"""Several multilayer perceptrons of one shape as one batched network, with gradients written out by hand.

A step of a small network is dispatch as much as arithmetic. Here one operation serves B networks, each of which sees
its own batch, with its own dropout, label smoothing and weights; no number of one network enters another. Activations
lie side by side, (N, B, F), so that BatchNorm over B * F channels is one operation too.

Within `BatchedMLP` the networks' parameters and `.grad` are views into `trainable.packing.parameter_matrix`, so that
an optimiser, a penalty or a clipped norm acts on each of them as on a network alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from rungwise.trainable.config import Config
from rungwise.trainable.model import ACTIVATIONS, Dropout, dropout_threshold
from rungwise.trainable.packing.matmul import SMALL, small_products
from rungwise.trainable.packing.parameter_matrix import ParameterMatrix
from rungwise.trainable.training import compat

DRAWN = 2**19  # numbers of a layer's noise that a GPU draws at once, of 2 bytes


class Noise:
    """Dropout of one layer of B networks, each from its own generator.

    On the CPU the masks are those of `model.Dropout`. On a GPU, where a launch costs more than the numbers that it
    draws, bits are drawn for many steps at once; how many depends on the network's shape alone, so that a network has
    the same masks in every pack.
    """

    def __init__(
        self, layers: Sequence[Dropout | None], batch: int, features: int, device: torch.device, steps: int
    ) -> None:
        """
        Args:
            layers: of each network; None where it has no dropout.
            batch: samples a step, N.
            features: of the layer, F.
            device: of the networks.
            steps: for how many steps to draw at once.
        """
        self._layers = [(index, layer) for index, layer in enumerate(layers) if layer is not None and layer.p > 0]
        dropped = [0 if layer is None else dropout_threshold(layer.p) for layer in layers]
        size = batch * features
        self._steps = steps
        count = len(layers) if self._layers else 0
        self._draws = torch.zeros((count, self._steps, math.ceil(size / 4)), dtype=torch.int64, device=device)
        self._shape = (count, batch, features)
        self._bits = self._viewed(self._draws[:, 0])
        self._least = torch.tensor([d - 32768 for d in dropped], dtype=torch.int16, device=device).view(1, -1, 1)
        self._scale = torch.tensor([65536 / (65536 - d) for d in dropped], device=device).view(1, -1, 1)
        self._kept = torch.empty((batch, count, features), device=device)

    def __bool__(self) -> bool:
        return bool(self._layers)

    def prepare(self, step: int) -> None:
        """Draw the bits of a step, counted from 0 in its interval, unless they are there already."""
        if step % self._steps == 0:
            for index, layer in self._layers:
                self._draws[index].random_(-(2**63), None, generator=layer.generator)

    def mask(self, step: Tensor | None) -> Tensor:
        """(N, B, F): 0 with the network's probability p, else 1 / (1 - p). The next call overwrites it.

        step: int64 (1,), on the device; None on the CPU.
        """
        bits = self._bits
        if step is not None:
            bits = self._viewed(self._draws.index_select(1, step % self._steps).squeeze(1))
        return torch.ge(bits, self._least, out=self._kept).mul_(self._scale)

    def _viewed(self, draws: Tensor) -> Tensor:
        """One step's bits (N, B, F), as activations lie, of int64 (B, n)."""
        count, batch, features = self._shape
        return draws.view(torch.int16)[:, : batch * features].view(count, batch, features).transpose(0, 1)


class BatchedMLP:
    """B networks that `model.mlp` built, of one shape, in training; `release` gives them their own memory again."""

    def __init__(
        self, models: Sequence[nn.Module], configs: Sequence[Config], batch: int, *, apart: bool = True
    ) -> None:
        """`batch`: samples a step, N. `apart`: see `ParameterMatrix`."""
        self._models, self._first, self.count = models, configs[0], len(models)
        depth = len(self._first.hidden) + 1
        self._names = [*(f"linear{layer}" for layer in range(1, depth)), "logits"]
        self.matrix = ParameterMatrix(models, apart=apart)
        self._weight = [self.matrix.of(f"{name}.weight") for name in self._names]  # (B, out, in)
        self._bias = [self.matrix.of(f"{name}.bias") for name in self._names]  # (B, out)
        self._norms = [self._norm(layer) for layer in range(1, depth)] if self._first.batch_norm else []
        activation: Any = ACTIVATIONS[self._first.activation]
        self._activate, self._activate_back = activation().forward, compat.activation_backward(activation)
        self._batch_norm = compat.batch_norm()
        device = self._weight[0][0].device
        self._smooth = any(config.label_smoothing for config in configs)
        self._smoothing = torch.tensor([config.label_smoothing for config in configs], device=device)
        self._dropouts = [
            [_child(model, "input_dropout") for model in models],
            *([_child(model, f"dropout{layer}") for model in models] for layer in range(1, depth)),
        ]
        widths = [self._weight[0][0].shape[2], *self._first.hidden]
        # As `graph.repeat` has a step's number for `mask` on a GPU only.
        steps = [max(1, DRAWN // (batch * width)) if device.type == "cuda" else 1 for width in widths]
        self._noise = [
            Noise(some, batch, width, device, n) for some, width, n in zip(self._dropouts, widths, steps, strict=True)
        ]
        self._low = self._first.precision == "bf16"
        self.accepts_bf16_inputs = self._low and not self._noise[0]
        on_cpu = device.type == "cpu" and compat.onednn_matmul() is not None
        self._products: list[Callable[[], AbstractContextManager[None]]] = [
            small_products if on_cpu and not self._low and weight[0][0].numel() < SMALL else nullcontext
            for weight in self._weight
        ]

    def _norm(self, layer: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Tensor, Tensor]:
        """Gamma, beta with their gradients, (B, F) each; running mean and variance, of B * F channels."""
        gamma, beta = (self.matrix.of(f"norm{layer}.{name}") for name in ("weight", "bias"))
        mean, variance = (
            torch.cat([model.get_buffer(f"norm{layer}.{name}") for model in self._models])
            for name in ("running_mean", "running_var")
        )
        return gamma, beta, mean, variance

    def release(self, steps: int) -> None:
        """Give each network its parameters and running statistics, `steps` optimiser steps after `__init__`."""
        self.matrix.release()
        for layer, (_, _, *running) in enumerate(self._norms, 1):
            norms = [model.get_submodule(f"norm{layer}") for model in self._models]
            for name, statistics in zip(("running_mean", "running_var"), running, strict=True):
                own = [norm.get_buffer(name) for norm in norms]
                compat.foreach("copy_", own, list(statistics.view(len(own), -1).unbind()))
            compat.foreach("add_", [norm.get_buffer("num_batches_tracked") for norm in norms], steps)

    # -- Training ------------------------------------------------------------------------------------------------

    def prepare(self, step: int) -> None:
        """Do what a recorded step cannot, before each step: draw noise. Steps are counted from 0 in their interval."""
        for noise in self._noise:
            noise.prepare(step)

    @torch.no_grad()
    def gradients(self, x: Tensor, y: Tensor, step: Tensor | None = None) -> Tensor:
        """Write every network's gradients of its own mean loss; returns the losses (B,), in nats.

        Args:
            x: float32 (B, N, F), or bfloat16 where `accepts_bf16_inputs`.
            y: int64 (B, N), the labels.
            step: int64 (1,), on the device, the number of the step that was prepared; None on a CPU.
        """
        count, samples = x.shape[:2]
        last = len(self._names) - 1
        inputs = x.transpose(0, 1)  # (N, B, F)
        kept: list[tuple[Any, ...]] = []
        if self._noise[0]:
            inputs = inputs * self._noise[0].mask(step)
        for layer in range(last + 1):
            low, z = self._product(inputs, layer)
            if layer == last:
                kept.append((low, z, z, z, None, ()))
                break
            flat = z.view(samples, -1)
            statistics: list[Tensor] = []
            hidden = flat
            if self._norms:
                (gamma, _), (beta, _), mean, variance = self._norms[layer]
                hidden, *statistics = self._batch_norm.forward(
                    flat, gamma.reshape(-1), beta.reshape(-1), (mean, variance), True
                )
            active = self._activate(hidden)
            noise = self._noise[layer + 1].mask(step) if self._noise[layer + 1] else None
            kept.append((low, flat, hidden, active, noise, statistics))
            inputs = active.view(z.shape)
            inputs = inputs if noise is None else inputs * noise
        losses, gradient = self._loss(z, y.t())
        for layer in range(last, -1, -1):
            low, flat, hidden, active, noise, statistics = kept[layer]
            if layer < last:
                gradient = gradient.transpose(0, 1)  # (N, B, F)
                gradient = gradient.contiguous() if noise is None else torch.mul(gradient, noise, out=noise)
                gradient = self._activate_back(gradient.view(flat.shape), hidden, active)
                gradient = self._norm_back(gradient, flat, layer, statistics).view(samples, count, -1)
            gradient = self._product_back(gradient, low, layer)
        return losses

    def _product(self, inputs: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Inputs (N, B, in) as the product took them, (B, N, in); and z (N, B, out)."""
        weight, inputs = self._weight[layer][0], inputs.transpose(0, 1)
        if self._low:
            inputs, weight = inputs.bfloat16(), weight.bfloat16()
        with self._products[layer]():
            z = torch.bmm(inputs, weight.transpose(1, 2)).transpose(0, 1)
        return inputs, torch.add(z, self._bias[layer][0], out=torch.empty(z.shape, device=z.device))

    def _product_back(self, gradient: Tensor, inputs: Tensor, layer: int) -> Tensor:
        """Write the gradients of a layer, from that of its outputs (N, B, out); returns its inputs', (B, N, in)."""
        weight, bias = self._weight[layer], self._bias[layer]
        if not self._norms or layer == len(self._names) - 1:
            torch.sum(gradient, 0, out=bias[1])  # else zero, as in `train`: the norm subtracts the mean
        gradient = gradient.transpose(0, 1)  # (B, N, out)
        if self._low:
            gradient = gradient.bfloat16()
            weight[1].copy_(torch.bmm(gradient.transpose(1, 2), inputs))
            return gradient if layer == 0 else torch.bmm(gradient, weight[0].bfloat16())
        with self._products[layer]():
            torch.bmm(gradient.transpose(1, 2), inputs, out=weight[1])
            return gradient if layer == 0 else torch.bmm(gradient, weight[0])

    def _norm_back(self, gradient: Tensor, flat: Tensor, layer: int, statistics: Sequence[Tensor]) -> Tensor:
        if not self._norms:
            return gradient
        gamma, beta, *running = self._norms[layer]
        gradient, by_gamma, by_beta = self._batch_norm.backward(
            gradient, flat, gamma[0].reshape(-1), (running[0], running[1]), statistics
        )
        gamma[1].copy_(by_gamma.view(gamma[1].shape))
        beta[1].copy_(by_beta.view(beta[1].shape))
        return gradient

    def _loss(self, logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy (B,) with label smoothing (Szegedy et al. 2016), and its gradient (N, B, K).

        logits: (N, B, K); y: (N, B).
        """
        samples, _, classes = logits.shape
        logp = torch.log_softmax(logits, 2)
        true = logp.gather(2, y.unsqueeze(2)).squeeze(2).mean(0)
        eps = self._smoothing
        losses = -((1 - eps) * true + eps * logp.mean((0, 2))) if self._smooth else -true
        gradient = logp.exp_()
        if self._smooth:
            gradient.sub_((eps / classes).view(1, -1, 1))
        gradient.scatter_add_(2, y.unsqueeze(2), (eps - 1).view(1, -1, 1).expand(samples, -1, 1))
        return losses, gradient.div_(samples)

    # -- Evaluation ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """(N, B, K) of x (N, F), as in `gradients`, which all networks see: without noise, with running statistics."""
        inputs = x.unsqueeze(1).expand(-1, len(self._models), -1)
        for layer in range(len(self._names)):
            _, z = self._product(inputs, layer)
            if layer == len(self._names) - 1:
                break
            flat = z.view(len(x), -1)
            if self._norms:
                (gamma, _), (beta, _), mean, variance = self._norms[layer]
                flat = self._batch_norm.forward(flat, gamma.reshape(-1), beta.reshape(-1), (mean, variance), False)[0]
            inputs = self._activate(flat).view(z.shape)
        return z


def _child(model: nn.Module, name: str) -> Dropout | None:
    child = dict(model.named_children()).get(name)
    return child if isinstance(child, Dropout) else None
