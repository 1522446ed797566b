"""Private and unstable names of torch. Every use of one goes through a function here, which has a public fallback.

Each function says what is lost without the private name. A name that is missing, takes other arguments, or computes
something else than it does in the tested versions is not used; this is checked once a process, on a few numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

Group = dict[str, Any]
FusedStep = Callable[[Group, list[Tensor], list[Tensor], list[list[Tensor]], float], None]
ActivationBackward = Callable[[Tensor, Tensor, Tensor], Tensor]

BATCH_NORM = (0.1, 1e-5)  # momentum and epsilon: the defaults of torch.nn.BatchNorm1d


def skip_compiler_import() -> None:
    """Keep `torch.optim` from importing `torch._dynamo` only to exclude three of its methods from compilation.

    Private: the attribute `__dynamo_disable`, which `torch/_compile.py` looks for. Without it: the first optimiser of
    a process takes 2 s longer; its steps are the same.
    """
    for name in ("add_param_group", "state_dict", "load_state_dict"):
        method = getattr(getattr(Optimizer, name, None), "__wrapped__", None)
        if method is not None and not hasattr(method, "__dynamo_disable"):
            method.__dynamo_disable = method


def foreach(name: str, tensors: Sequence[Tensor], *arguments: Any, **options: Any) -> Any:
    """Apply a method of Tensor to many tensors by one call: `torch._foreach_<name>`, which torch documents as beta.

    Without it: one call for each tensor. The numbers are the same; a pack's interval on a GPU begins and ends later.

    Args:
        name: of the method, such as "add_".
        tensors: on whose elements it works.
        arguments: of the method; of a list each tensor gets its own element.
        options: keyword arguments of the method.
    """
    if (together := getattr(torch, f"_foreach_{name}", None)) is not None:
        return together(tensors, *arguments, **options)
    own = ([a[index] if isinstance(a, list) else a for a in arguments] for index in range(len(tensors)))
    return [getattr(tensor, name)(*each, **options) for tensor, each in zip(tensors, own, strict=True)]


@cache
def fused_step(kind: type[Optimizer]) -> tuple[FusedStep, tuple[str, ...]] | None:
    """One call that steps all parameters of a group on the CPU, and the names of the states that it takes, in order.

    Private: `torch._fused_sgd_`, `_fused_adam_`, `_fused_adamw_`. None when they are not usable: `Optimizer.step()`
    takes the same step to the bit. Without them: a step of a network of 109,000 weights takes twice as long.
    """
    if kind not in _FUSED_STEPS:
        return None
    step, names, expected = _FUSED_STEPS[kind]
    parameter, gradient = torch.ones(1, device="cpu"), torch.ones(1, device="cpu")
    states = [[torch.zeros(() if name == "step" else 1, device="cpu")] for name in names]
    group = {
        **dict.fromkeys(("momentum", "weight_decay", "dampening"), 0.0),
        "betas": (0.9, 0.999),
        "alpha": 0.99,
        "eps": 0.0,
        "nesterov": False,
        "decoupled_weight_decay": kind is AdamW,
    }
    try:
        with torch.no_grad():
            step(group, [parameter], [gradient], states, 0.01)
    except (AttributeError, TypeError, RuntimeError):
        return None
    return (step, names) if abs(parameter.item() - expected) < 1e-5 else None


def _step_sgd(
    group: Group, parameters: list[Tensor], gradients: list[Tensor], states: list[list[Tensor]], lr: float
) -> None:
    torch._fused_sgd_(
        parameters,
        gradients,
        states[0] if group["momentum"] else [],
        weight_decay=group["weight_decay"],
        momentum=group["momentum"],
        lr=lr,
        dampening=group["dampening"],
        nesterov=group["nesterov"],
        maximize=False,
        is_first_step=False,
    )


def _step_adam(
    group: Group, parameters: list[Tensor], gradients: list[Tensor], states: list[list[Tensor]], lr: float
) -> None:
    means, squares, steps = states
    foreach("add_", steps, 1)
    fused = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
    fused(
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


def _step_rmsprop(
    group: Group, parameters: list[Tensor], gradients: list[Tensor], states: list[list[Tensor]], lr: float
) -> None:
    squares, steps, *buffers = states
    foreach("add_", steps, 1)
    if group["weight_decay"] != 0:
        foreach("add_", gradients, parameters, alpha=group["weight_decay"])
    foreach("mul_", squares, group["alpha"])
    foreach("addcmul_", squares, gradients, gradients, value=1 - group["alpha"])
    scale = foreach("sqrt", squares)
    foreach("add_", scale, group["eps"])
    if not group["momentum"]:
        foreach("addcdiv_", parameters, gradients, scale, value=-lr)
        return
    foreach("mul_", buffers[0], group["momentum"])
    foreach("addcdiv_", buffers[0], gradients, scale)
    foreach("add_", parameters, buffers[0], alpha=-lr)


# The step, its states, and where it takes a parameter of 1 with a gradient of 1 at a learning rate of 0.01.
_FUSED_STEPS: dict[type[Optimizer], tuple[FusedStep, tuple[str, ...], float]] = {
    SGD: (_step_sgd, ("momentum_buffer",), 0.99),
    Adam: (_step_adam, ("exp_avg", "exp_avg_sq", "step"), 0.99),
    AdamW: (_step_adam, ("exp_avg", "exp_avg_sq", "step"), 0.99),
    RMSprop: (_step_rmsprop, ("square_avg", "step", "momentum_buffer"), 0.9),
}


@cache
def activation_backward(kind: type[nn.Module]) -> ActivationBackward:
    """The gradient of an activation's input, from (gradient of the output, input, output).

    Private: the signatures of `torch.ops.aten.*_backward`. Without them: autograd, which computes the output again.
    """
    forward = kind()

    def public(gradient: Tensor, x: Tensor, _output: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return _gradients(forward(x), gradient, [x])[0]

    x = torch.tensor([-1.5, -0.5, 0.5, 1.5], device="cpu", dtype=torch.float32)
    private = _ACTIVATION_BACKWARDS[kind]
    return private if _agree(private, public, x.flip(0), x, forward(x)) else public


aten = torch.ops.aten

_ACTIVATION_BACKWARDS: dict[type[nn.Module], ActivationBackward] = {
    nn.ReLU: lambda g, _, output: aten.threshold_backward(g, output, 0),
    nn.LeakyReLU: lambda g, x, _: aten.leaky_relu_backward(g, x, 0.01, False),
    nn.GELU: lambda g, x, _: aten.gelu_backward(g, x),
    nn.SiLU: lambda g, x, _: aten.silu_backward(g, x),
    nn.ELU: lambda g, x, _: aten.elu_backward(g, 1.0, 1.0, 1.0, False, x),
    nn.Tanh: lambda g, _, output: aten.tanh_backward(g, output),
}


class BatchNorm(NamedTuple):
    """BatchNorm1d of (N, F) as two functions.

    forward: (x, gamma, beta, running mean and variance, training) -> the output, and what `backward` needs of the
    batch; in training the running statistics move on.
    backward: (gradient, x, gamma, running mean and variance, what `forward` gave) -> gradients of x, gamma, beta.
    """

    forward: Callable[[Tensor, Tensor, Tensor, Sequence[Tensor], bool], Sequence[Tensor]]
    backward: Callable[[Tensor, Tensor, Tensor, Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor]]


@cache
def batch_norm() -> BatchNorm:
    """The two functions that torch has here.

    Private: `torch.ops.aten.native_batch_norm` and its backward, which takes the batch's statistics from the forward.
    Without them: autograd, which computes the output again.
    """
    x = torch.arange(6, device="cpu", dtype=torch.float32).view(3, 2)
    gamma, beta = torch.tensor([[1.0, 2.0], [0.5, 0.0]], device="cpu").unbind()

    def results(functions: BatchNorm) -> tuple[Tensor, ...]:
        running = (torch.zeros_like(gamma), torch.ones_like(gamma))
        output, *statistics = functions.forward(x, gamma, beta, running, True)
        return (output, *running, *functions.backward(x.flip(0).square(), x, gamma, running, statistics))

    private, public = BatchNorm(_native_forward, _native_backward), BatchNorm(_public_forward, _public_backward)
    return private if _agree(lambda: results(private), lambda: results(public)) else public


def _native_forward(
    x: Tensor, gamma: Tensor, beta: Tensor, running: Sequence[Tensor], training: bool
) -> Sequence[Tensor]:
    results: Sequence[Tensor] = aten.native_batch_norm(x, gamma, beta, *running, training, *BATCH_NORM)
    return results


def _native_backward(
    gradient: Tensor, x: Tensor, gamma: Tensor, running: Sequence[Tensor], statistics: Sequence[Tensor]
) -> Sequence[Tensor]:
    wanted = [True, True, True]
    gradients: Sequence[Tensor] = aten.native_batch_norm_backward(
        gradient, x, gamma, *running, *statistics, True, BATCH_NORM[1], wanted
    )
    return gradients


def _public_forward(
    x: Tensor, gamma: Tensor, beta: Tensor, running: Sequence[Tensor], training: bool
) -> Sequence[Tensor]:
    return (F.batch_norm(x, running[0], running[1], gamma, beta, training, *BATCH_NORM),)


def _public_backward(gradient: Tensor, x: Tensor, gamma: Tensor, *_: Sequence[Tensor]) -> Sequence[Tensor]:
    with torch.enable_grad():
        x, gamma = x.detach().requires_grad_(), gamma.detach().requires_grad_()
        beta = torch.zeros_like(gamma, requires_grad=True)  # its value changes no gradient
        return _gradients(F.batch_norm(x, None, None, gamma, beta, True, *BATCH_NORM), gradient, [x, gamma, beta])


def onednn_matmul() -> Any:
    """The settings of oneDNN's matrix products, whose `fp32_precision` says which kernels torch takes.

    Unstable: `torch.backends.mkldnn.matmul` came with torch 2.9. None where torch has no such setting or no oneDNN:
    MKL computes the products, on CPUs that are not Intel's at half the speed.
    """
    mkldnn = getattr(torch.backends, "mkldnn", None)
    settings = getattr(mkldnn, "matmul", None)
    return settings if mkldnn and mkldnn.is_available() and hasattr(settings, "fp32_precision") else None


def _gradients(output: Tensor, gradient: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """By autograd. Of a scalar: with `grad_outputs` autograd imports sympy, 1 s (torch 2.14)."""
    return torch.autograd.grad((output * gradient).sum(), inputs)


def _agree(private: Callable[..., Any], public: Callable[..., Any], *example: Tensor) -> bool:
    """Whether both compute the same tensors of an example."""
    try:
        with torch.no_grad():
            results = private(*example), public(*example)
    except (AttributeError, TypeError, RuntimeError):
        return False
    pairs = zip(*(result if isinstance(result, tuple) else (result,) for result in results), strict=True)
    return all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs)
