"""An optimiser's step at the price of its kernels.

`torch.optim` spends more time in Python than in arithmetic on a network of 109,000 weights (torch 2.14, one core,
AdamW: 120 of 217 microseconds a step are look-ups, grouping by device and hooks), and imports the compiler of
torch.compile, 2 s, before its first step. Here the same kernels are called on the same state, torch.optim's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

Group = dict[str, Any]
Kernel = Callable[[Group, list[Tensor], list[Tensor], list[list[Tensor]], float], None]


def update(optimizer: Optimizer) -> Callable[[float], None]:
    """A function of the learning rate that does what `optimizer.step()` does, bit for bit.

    Valid until somebody else replaces the optimiser's state: make a new one for every interval. On other devices than
    the CPU, and while a parameter has no gradient, it is `optimizer.step()`: there Python costs no time, or skips it.
    """
    groups = [group for group in optimizer.param_groups if group["params"]]
    kernel, names = _KERNELS.get(type(optimizer), (None, ()))
    if any(parameter.device.type != "cpu" for group in groups for parameter in group["params"]):
        kernel = None
    prepared = [(group, group["params"], _states(optimizer, group, names)) for group in groups] if kernel else []

    @torch.no_grad()
    def step(lr: float) -> None:
        gradients = [[parameter.grad for parameter in parameters] for _, parameters, _ in prepared]
        if kernel is None or any(gradient is None for some in gradients for gradient in some):
            for group in groups:
                group["lr"] = lr
            optimizer.step()
            return
        for (group, parameters, states), some in zip(prepared, gradients, strict=True):
            kernel(group, parameters, some, states, lr)

    return step


def without_compiler() -> None:
    """Keep torch.optim from importing torch._dynamo only to tell it to leave these methods alone (_compile.py)."""
    for name in ("add_param_group", "state_dict", "load_state_dict"):
        method = getattr(getattr(Optimizer, name, None), "__wrapped__", None)
        if method is not None and not hasattr(method, "__dynamo_disable"):
            method.__dynamo_disable = method


def _states(optimizer: Optimizer, group: Group, names: tuple[str, ...]) -> list[list[Tensor]]:
    """The named states of the group's parameters, made as torch.optim makes them: zeros."""
    if not group.get("momentum", True):
        names = tuple(name for name in names if name != "momentum_buffer")
    for parameter in group["params"] if names else ():
        state = optimizer.state[parameter]
        for name in names:
            if name not in state:
                state[name] = torch.zeros(()) if name == "step" else torch.zeros_like(parameter)
    return [[optimizer.state[parameter][name] for parameter in group["params"]] for name in names]


def _sgd(
    group: Group, parameters: list[Tensor], gradients: list[Tensor], states: list[list[Tensor]], lr: float
) -> None:
    torch._fused_sgd_(
        parameters,
        gradients,
        states[0] if states else [],
        weight_decay=group["weight_decay"],
        momentum=group["momentum"],
        lr=lr,
        dampening=group["dampening"],
        nesterov=group["nesterov"],
        maximize=False,
        is_first_step=False,
    )


def _adam(
    group: Group, parameters: list[Tensor], gradients: list[Tensor], states: list[list[Tensor]], lr: float
) -> None:
    means, squares, steps = states
    torch._foreach_add_(steps, 1)
    kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
    kernel(
        parameters,
        gradients,
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


def _rmsprop(
    group: Group, parameters: list[Tensor], gradients: list[Tensor], states: list[list[Tensor]], lr: float
) -> None:
    squares, steps, *buffers = states
    torch._foreach_add_(steps, 1)
    if group["weight_decay"] != 0:
        torch._foreach_add_(gradients, parameters, alpha=group["weight_decay"])
    torch._foreach_mul_(squares, group["alpha"])
    torch._foreach_addcmul_(squares, gradients, gradients, value=1 - group["alpha"])
    scale = torch._foreach_sqrt(squares)
    torch._foreach_add_(scale, group["eps"])
    if not buffers:
        torch._foreach_addcdiv_(parameters, gradients, scale, value=-lr)
        return
    torch._foreach_mul_(buffers[0], group["momentum"])
    torch._foreach_addcdiv_(buffers[0], gradients, scale)
    torch._foreach_add_(parameters, buffers[0], alpha=-lr)


_KERNELS: dict[type[Optimizer], tuple[Kernel, tuple[str, ...]]] = {
    SGD: (_sgd, ("momentum_buffer",)),
    Adam: (_adam, ("exp_avg", "exp_avg_sq", "step")),
    AdamW: (_adam, ("exp_avg", "exp_avg_sq", "step")),
    RMSprop: (_rmsprop, ("square_avg", "step", "momentum_buffer")),
}
