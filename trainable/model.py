"""The networks and their regularisers: a multilayer perceptron, a convolutional network, or a user's own network.

To add one, write a function like `cnn`, name it in `MODELS` here and in `trainable.config`. Its randomness is an
argument. Regularisers follow Goodfellow et al. 2016, chapter 7, and act on the weights of Linear and Conv layers only.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from rungwise.errors import RungwiseError
from rungwise.trainable.config import Config, unfit
from rungwise.trainable.import_path import arguments, import_function

Layers = OrderedDict[str, nn.Module]
Layer = TypeVar("Layer", nn.Linear, nn.Conv2d, nn.Embedding)
Embedded = Sequence[tuple[int, int]]  # (column, how many vectors)

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
}


def dropout_threshold(p: float) -> int:
    """How many of the 65536 values of 16 random bits drop an element: at most all but one."""
    return min(round(p * 65536), 65535)


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014) whose noise comes from `generator`; the identity in eval mode.

    An element is dropped when 16 random bits fall below round(65536 p): p holds to within 1/131072. Four elements
    share one 64-bit draw, which takes a fifth of the time of `bernoulli_` on the CPU.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None  # set by `train`; None = torch's global one
        self._bits: Tensor | None = None  # one step's random bits, int16, like the last x

    def forward(self, x: Tensor) -> Tensor:
        """(B, F) -> (B, F)"""
        return x * self.noise(x) if self.training and self.p > 0 else x

    def noise(self, x: Tensor) -> Tensor:
        """A mask like `x`: 0 with probability p, else 1 / (1 - p)."""
        if self._bits is None or self._bits.shape != x.shape or self._bits.device != x.device:
            self._draws = torch.empty(math.ceil(x.numel() / 4), dtype=torch.int64, device=x.device)
            self._bits = self._draws.view(torch.int16)[: x.numel()].view(x.shape)
        self._draws.random_(-(2**63), None, generator=self.generator)  # all 64 bits
        dropped = dropout_threshold(self.p)  # scaling by the share that is left keeps the expectation exact
        kept = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        torch.ge(self._bits, dropped - 32768, out=kept)
        return kept.mul_(65536 / (65536 - dropped))

    def extra_repr(self) -> str:
        return f"p={self.p}"


class ChannelDropout(Dropout):
    """Dropout of whole channels (Tompson et al. 2015): one draw for each sample and channel."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)"""
        return x * self.noise(x[:, :, :1, :1].contiguous()) if self.training and self.p > 0 else x


def build(
    config: Config,
    shape: tuple[int, ...],
    classes: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
    embedded: Embedded = (),
) -> nn.Module:
    """The config's model on the CPU: (B, *shape) -> logits (B, classes), initialised from `generator` alone.

    `dtype` is that of the samples, where a model of the user's own takes them as they are; `embedded` are the columns
    of a table that hold numbers of categories (`TableEncoder.embedded`), of which an MLP learns vectors.

    Weights and biases of Linear and Conv layers are uniform in +-1/sqrt(fan_in), torch's own default (He et al. 2015
    with a = sqrt 5). Raises ValueError for a model that does not fit the samples.
    """
    if config.model == "mlp":
        return mlp(config, shape, classes, generator, embedded)
    if config.model in MODELS:
        return MODELS[config.model](config, shape, classes, generator)
    return _own(config, shape, classes, generator, dtype)


def mlp(
    config: Config, shape: tuple[int, ...], classes: int, generator: torch.Generator, embedded: Embedded = ()
) -> nn.Sequential:
    """A multilayer perceptron. Each hidden layer is Linear, BatchNorm, activation, Dropout."""
    layers, width = Layers(flatten=nn.Flatten()), math.prod(shape)
    if embedded:
        layers["embeddings"] = Embeddings(embedded, config.embedding, generator)
        width += len(embedded) * (config.embedding - 1)
    if config.input_dropout > 0:
        layers["input_dropout"] = Dropout(config.input_dropout)
    _add_hidden(layers, config, width, classes, generator)
    return nn.Sequential(layers)


class Embeddings(nn.Module):
    """Columns that hold numbers of categories, replaced by vectors that are learned (Guo and Berkhahn 2016).

    The vectors begin uniform in +-1/sqrt(size), as weights of a layer of so many inputs do; that of number 0, which may
    come in use only, at zero. They have no L1 or L2 penalty.
    """

    def __init__(self, embedded: Embedded, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.columns = [column for column, _ in embedded]
        tables = [nn.Embedding(count, size, device="meta") for _, count in embedded]
        self.tables = nn.ModuleList(_initialised(table, size, generator) for table in tables)
        for table in tables:
            if not table.weight.is_meta:
                with torch.no_grad():
                    table.weight[0] = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """(B, F) -> (B, F + columns * (size - 1))"""
        parts, start = [], 0
        for column, table in zip(self.columns, self.tables, strict=True):
            parts += [x[:, start:column], table(x[:, column].long())]
            start = column + 1
        return torch.cat([*parts, x[:, start:]], 1)


def cnn(config: Config, shape: tuple[int, ...], classes: int, generator: torch.Generator) -> nn.Sequential:
    """A convolutional network: blocks of Conv, BatchNorm, activation (`convolutions` of each), channel Dropout and a
    2x2 maximum; then hidden layers as in an MLP. A Conv keeps height and width.
    """
    if wrong := unfit(config, shape):
        raise ValueError(wrong[0])
    layers = Layers()
    if config.input_dropout > 0:
        layers["input_dropout"] = Dropout(config.input_dropout)
    inputs, height, width = shape
    for block, outputs in enumerate(config.channels, 1):
        for index in range(1, config.convolutions + 1):
            name = f"{block}_{index}"
            layers[f"conv{name}"] = _convolution(inputs, outputs, config, generator)
            if config.batch_norm:
                layers[f"norm{name}"] = nn.BatchNorm2d(outputs)
            layers[f"activation{name}"] = ACTIVATIONS[config.activation]()
            inputs = outputs
        if config.channel_dropout > 0:
            layers[f"channel_dropout{block}"] = ChannelDropout(config.channel_dropout)
        layers[f"pool{block}"] = nn.MaxPool2d(2)
        height, width = height // 2, width // 2
    layers["flatten"] = nn.Flatten()
    _add_hidden(layers, config, inputs * height * width, classes, generator)
    return nn.Sequential(layers).to(memory_format=torch.channels_last)  # a third faster on the CPU


def parameters(model: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


MODELS = {"mlp": mlp, "cnn": cnn}


def _own(
    config: Config, shape: tuple[int, ...], classes: int, generator: torch.Generator, dtype: torch.dtype
) -> nn.Module:
    """The user's model: `function(config)`, or `function(config, shape, classes)` for a model of any data."""
    made = import_function(config.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        model = made(*(config, shape, classes)[: arguments(made)])
        if not isinstance(model, nn.Module):
            raise OutputError(
                f"a model's function must return a torch.nn.Module, but {config.model!r} returned {_described(model)}"
            )
        mode = model.training
        with torch.no_grad():
            outputs = model.eval()(torch.zeros(2, *shape, dtype=dtype))
    require_logits(outputs, (2, classes), config)
    return model.train(mode)


class OutputError(RungwiseError, ValueError):
    """A model whose output is not logits; the message has the expected and the actual output."""


def require_logits(outputs: object, shape: tuple[int, int], config: Config) -> None:
    """Raise OutputError unless `outputs`, the model's output for a batch, is a tensor of `shape`, (B, K)."""
    if isinstance(outputs, Tensor) and outputs.shape == shape:
        return
    raise OutputError(
        f"a model must return logits (B, {shape[1]}) for a batch of samples, but {config.model!r} returns "
        f"{_described(outputs)} for B = {shape[0]}"
    )


def _described(made: object) -> str:
    """A short description of a value."""
    if isinstance(made, Tensor):
        return str(tuple(made.shape))
    if isinstance(made, tuple | list):
        return f"a {type(made).__name__} of {', '.join(map(_described, made[:4]))}{', ...' if made[4:] else ''}"
    if isinstance(made, Mapping):
        return f"a {type(made).__name__} of {', '.join(map(repr, list(made)[:4]))}"
    if isinstance(made, type):
        return f"the class {made.__name__}, not an instance of it"
    return "None" if made is None else f"a {type(made).__name__}"


def _add_hidden(layers: Layers, config: Config, width: int, classes: int, generator: torch.Generator) -> None:
    """Hidden layers over `width` inputs, and the logits."""
    for index, units in enumerate(config.hidden, 1):
        layers[f"linear{index}"] = _linear(width, units, generator)
        if config.batch_norm:
            layers[f"norm{index}"] = nn.BatchNorm1d(units)
        layers[f"activation{index}"] = ACTIVATIONS[config.activation]()
        if config.dropout > 0:
            layers[f"dropout{index}"] = Dropout(config.dropout)
        width = units
    layers["logits"] = _linear(width, classes, generator)


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    return _initialised(nn.Linear(inputs, outputs, device="meta"), inputs, generator)


def _convolution(inputs: int, outputs: int, config: Config, generator: torch.Generator) -> nn.Conv2d:
    size = config.kernel
    bias = not config.batch_norm  # which has one of its own
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=bias, device="meta")
    return _initialised(layer, inputs * size**2, generator)


def _initialised(layer: Layer, fan_in: int, generator: torch.Generator) -> Layer:
    """Initialise a layer of the meta device: each parameter is drawn once, and not from torch's global stream."""
    bound = 1 / math.sqrt(fan_in)
    for name, parameter in list(layer.named_parameters()):  # `to_empty` would import sympy, 1 s
        drawn = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
        layer.register_parameter(name, nn.Parameter(drawn))
    return layer


def weights(model: nn.Module) -> list[nn.Parameter]:
    """The regularised weights: those of Linear and Conv layers, no bias, no BatchNorm. Tied weights count once."""
    candidates = [_own_weight(layer) for layer in _layers(model)]
    return list(dict.fromkeys(weight for weight in candidates if weight is not None))


def derived(model: nn.Module) -> list[Tensor]:
    """Weights of Linear and Conv layers that are computed from other parameters: by `weight_norm`, `spectral_norm`, or
    a mask. L1 and L2 penalise these, because the network uses them, and reach the parameters through the chain rule. A
    penalty on weight_norm's direction alone, whose length has no effect, would only change the learning rate (van
    Laarhoven 2017).

    Call it after a forward pass: spectral_norm's estimate is the one that the pass left.
    """
    tensors = []
    for layer in _layers(model):
        if _own_weight(layer) is None:
            chain = _chain(layer)
            mode = chain.training
            chain.eval()  # or spectral_norm would take a step of its power iteration
            tensors.append(cast(Tensor, layer.weight))
            chain.train(mode)
    return tensors


def decaying(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that weight decay acts on: `weights`, and the parameters from which `derived` ones are computed,
    because decay is a step of the optimiser on its own parameters."""
    parameters = list(weights(model))
    for layer in _layers(model):
        parameters += _chain(layer).parameters()
        if _own_weight(layer) is None:  # torch's older way: weight_g and weight_v, or weight_orig
            parameters += [p for name, p in layer.named_parameters(recurse=False) if name.startswith("weight_")]
    return list(dict.fromkeys(parameters))


def _own_weight(layer: nn.Module) -> nn.Parameter | None:
    """The weight of a layer; None if it is computed from other parameters."""
    return dict(layer.named_parameters(recurse=False)).get("weight")


def _chain(layer: nn.Module) -> nn.Module:
    """The modules that compute a parametrised layer's weight."""
    return cast(nn.ModuleDict, layer.parametrizations)["weight"] if is_parametrized(layer, "weight") else nn.Module()


def _layers(model: nn.Module) -> list[nn.Module]:
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return [module for module in model.modules() if isinstance(module, kinds)]


def cancelled_biases(model: nn.Module) -> list[nn.Parameter]:
    """Biases of Linear layers before a BatchNorm, which subtracts the mean again.

    Their gradient is 0. Rounding makes it about 1e-9, which adam and rmsprop would scale up to whole steps.
    """
    layers = list(model) if isinstance(model, nn.Sequential) else []
    pairs = [(a, b) for a, b in pairwise(layers) if isinstance(a, nn.Linear) and isinstance(b, nn.BatchNorm1d)]
    return [a.bias for a, _ in pairs if a.bias is not None]


def penalty(weights: Sequence[Tensor], config: Config) -> Tensor:
    """l1 * sum(|w|) + l2 * sum(w^2), a scalar. For reports; training adds its gradient directly."""
    total = torch.zeros((), device=weights[0].device if weights else None)
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
        if w.grad is None:  # a layer that the user's model does not use
            continue
        if config.l2 > 0:
            w.grad.add_(w, alpha=2 * config.l2)
        if config.l1 > 0:
            w.grad.add_(torch.sign(w), alpha=config.l1)
