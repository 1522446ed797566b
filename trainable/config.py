"""Hyperparameters of a trial: each with its unit, its range and a line of help.

A `Config` is frozen and validated. It comes from one flat dict (an Optuna suggestion, `--one`, a sweep's
`fixed`), so a hyperparameter that is not a field here does not exist: `problems()` names the nearest one.

A model of the user's own is a function of a Config, or of a subclass that declares the model's own hyperparameters:

    class Wide(Config):
        factor: int = hyperparameter(2, "", "how many times wider", ge=1)

    def wide(config: Wide) -> nn.Module: ...
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from rungwise.text import unknown
from rungwise.trainable.faults import reason
from rungwise.trainable.import_path import ModelError, import_function

MODELS = ("mlp", "cnn")  # built by trainable/model.py
AUGMENTATION = ("shift", "rotation", "flip", "erasing")  # done by trainable/data/augment.py; 0 = off


def _widths(value: object) -> object:
    """Accept "256-128" beside (256, 128): Optuna's categorical choices must be scalars."""
    if isinstance(value, str):
        try:
            return tuple(int(part) for part in value.split("-") if part.strip())
        except ValueError as error:
            rule = f"widths must be whole numbers with dashes between, such as '256-128', but got {value!r}"
            raise ValueError(rule) from error
    return value


Width = Annotated[int, Field(ge=1)]
Widths = Annotated[tuple[Width, ...], BeforeValidator(_widths)]


def hyperparameter(default: Any, unit: str, description: str, **bounds: Any) -> Any:
    """A field of a Config.

    Args:
        default: its value where nothing else is given.
        unit: such as "pixels"; "" for none.
        description: one line of help.
        bounds: pydantic's: ge, gt, le, lt.
    """
    return Field(default, description=description, json_schema_extra={"unit": unit}, **bounds)


class Config(BaseModel):
    """One hyperparameter set of the regularised network, an MLP 784-128-64-10 on MNIST by default.

    Regularisers follow the textbook (Goodfellow et al. 2016, chapter 7) and act on the weights of Linear and
    Conv layers only, never on biases or BatchNorm's gamma and beta.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str = hyperparameter("mlp", "", "mlp, cnn, or a function of your own: module:function, file.py:function")
    hidden: Widths = hyperparameter(
        (128, 64), "units", "widths of the hidden layers, first to last; (256, 128) or '256-128'"
    )
    embedding: int = hyperparameter(
        8, "numbers", "size of a category's vector, of the columns that --embed names", ge=1
    )
    channels: Widths = hyperparameter(
        (32, 64), "channels", "cnn: channels of each block, first to last; each block halves height and width"
    )
    convolutions: int = hyperparameter(1, "layers", "cnn: convolutions in a block", ge=1)
    kernel: int = hyperparameter(3, "pixels", "cnn: side of a convolution's kernel", ge=1)
    channel_dropout: float = hyperparameter(0.0, "probability", "cnn: share of a block's channels dropped", ge=0, lt=1)
    activation: Literal["relu", "leaky_relu", "gelu", "silu", "elu", "tanh"] = hyperparameter(
        "relu", "", "non-linearity after each hidden layer"
    )
    batch_norm: bool = hyperparameter(True, "", "BatchNorm after each hidden Linear and Conv, before the activation")
    dropout: float = hyperparameter(0.0, "probability", "share of hidden activations dropped", ge=0, lt=1)
    input_dropout: float = hyperparameter(0.0, "probability", "share of inputs dropped", ge=0, lt=1)
    l1: float = hyperparameter(0.0, "1/weight", "adds l1 * sum(|w|) to the loss", ge=0)
    l2: float = hyperparameter(0.0, "1/weight^2", "adds l2 * sum(w^2) to the loss", ge=0)
    weight_decay: float = hyperparameter(
        0.0, "1/step", "the optimiser's own decay: coupled for sgd, adam, rmsprop; decoupled for adamw", ge=0
    )
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = hyperparameter("adam", "", "update rule")
    lr: float = hyperparameter(1e-3, "step size", "peak learning rate", gt=0)
    momentum: float = hyperparameter(0.9, "", "momentum of sgd and rmsprop; beta1 of adam and adamw", ge=0, lt=1)
    schedule: Literal["constant", "cosine", "one-cycle"] = hyperparameter(
        "constant", "", "learning rate over the trial's epochs"
    )
    batch_size: int = hyperparameter(128, "samples", "samples per step", ge=1)
    class_weights: Literal["none", "balanced"] = hyperparameter(
        "none", "", "balanced: samples of rare classes count more in the training loss, N / (K n_k)"
    )
    label_smoothing: float = hyperparameter(0.0, "probability", "mass moved from the true label to all", ge=0, lt=1)
    shift: float = hyperparameter(0.0, "pixels", "training images are shifted by up to this", ge=0)
    rotation: float = hyperparameter(0.0, "degrees", "training images are rotated by up to this", ge=0, le=180)
    flip: float = hyperparameter(0.0, "probability", "share of training images mirrored, left to right", ge=0, le=1)
    erasing: float = hyperparameter(0.0, "probability", "share of training images with a box erased", ge=0, le=1)
    clip_norm: float = hyperparameter(0.0, "gradient norm", "clips the global gradient norm; 0 = off", ge=0)
    epochs: int = hyperparameter(6, "epochs", "full budget of the trial; the schedule ends here", ge=1)
    reports_per_epoch: int = hyperparameter(1, "reports", "reports an epoch: rungs may be finer than an epoch", ge=1)
    precision: Literal["fp32", "bf16"] = hyperparameter("fp32", "", "bf16 = autocast matrix products to bfloat16")
    seed: int = hyperparameter(0, "", "initial weights, order of samples, dropout and augmentation", ge=0, lt=2**63)

    @field_validator("model")
    @classmethod
    def _known_model(cls, value: str) -> str:
        if value not in MODELS and ":" not in value:
            raise ValueError(f"{unknown('model', value, list(MODELS))}; or module:function, file.py:function")
        return value

    @model_validator(mode="after")
    def _kernel_has_a_middle(self) -> Self:
        if self.model == "cnn" and self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd with model='cnn', but got kernel={self.kernel}")
        return self

    @model_validator(mode="after")
    def _batch_has_statistics(self) -> Self:
        if self.batch_norm and (self.hidden or self.model != "mlp") and self.batch_size < 2:
            raise ValueError(f"batch_size must be at least 2 with batch_norm=True, but got {self.batch_size}")
        return self

    @property
    def augments(self) -> bool:
        """Whether training images are changed."""
        return any(getattr(self, name) for name in AUGMENTATION)

    @property
    def reports(self) -> int:
        """Number of reports of a trial that is not stopped."""
        return self.epochs * self.reports_per_epoch


def config_class(values: Mapping[str, object]) -> type[Config]:
    """Config, or the subclass that the model's function takes. Raises ModelError when it cannot be imported."""
    name = values.get("model", "mlp")
    if not isinstance(name, str) or ":" not in name:
        return Config
    model = import_function(name)
    try:
        hints = typing.get_type_hints(model)
    except Exception as error:  # an annotation that does not resolve
        raise ModelError(f"the annotations of {name!r} must mean something, but {reason(error)}") from error
    kind = hints.get(next(iter(inspect.signature(model).parameters)), Config)
    return kind if isinstance(kind, type) and issubclass(kind, Config) else Config


def parse_config(values: Mapping[str, Any]) -> Config:
    """A validated Config of the class that its model takes.

    Raises:
        pydantic.ValidationError: for an unknown hyperparameter, or a value that breaks a rule; `problems` says it in
            the user's words.
        ModelError: for a model that cannot be imported.
    """
    return config_class(values).model_validate(values)


def described(kind: type[Config] = Config) -> dict[str, dict[str, str]]:
    """{hyperparameter: {"type", "unit", "help"}}, for the metadata of tables; widths are kept as text, '256-128'."""
    kinds = {float: "float", int: "int", bool: "bool"}
    return {
        name: {
            "type": kinds.get(field.annotation, "str") if isinstance(field.annotation, type) else "str",
            "unit": str(field.json_schema_extra["unit"]) if isinstance(field.json_schema_extra, dict) else "",
            "help": field.description or "",
        }
        for name, field in kind.model_fields.items()
    }


def problems(values: Mapping[str, object]) -> list[str]:
    """Problems of a flat dict of hyperparameters: one line each, with rule, value and way out. [] = fine."""
    lines: list[str] = []
    try:
        kind = config_class(values)
    except ModelError as error:
        kind, lines = Config, [f"model: {error}"]
    names = list(kind.model_fields)
    lines += [unknown("hyperparameter", name, names) for name in values if name not in kind.model_fields]
    try:
        kind.model_validate({name: value for name, value in values.items() if name in kind.model_fields})
    except ValidationError as error:
        for item in error.errors():
            where = ".".join(str(part) for part in item["loc"])
            rule, value = item["msg"], repr(item["input"])
            ours = item["type"] == "value_error"  # a rule of a Config's own, which may contain the value
            rule = rule.removeprefix("Value error, ") if ours else rule[0].lower() + rule[1:]
            if not where:  # a rule between fields
                lines.append(rule)
            else:
                lines.append(f"{where}: {rule}" + ("" if value in rule else f", but got {value}"))
    return lines


def unfit(config: Config, shape: tuple[int, ...]) -> list[str]:
    """Problems of a config with samples of `shape`, (C, H, W) or (F,): one line each. [] = fine."""
    blocks = len(config.channels) if config.model == "cnn" else 0
    if len(shape) == 3:
        small = min(shape[1:]) < 2**blocks
        size = f"{shape[1]}x{shape[2]}"
        return [f"each block of a cnn halves an image, but {size} cannot be halved {blocks} times"] if small else []
    needs = {"model='cnn'": blocks, **{name: getattr(config, name) for name in AUGMENTATION}}
    return [f"{name} needs images, but a sample is {shape[0]} numbers" for name, needed in needs.items() if needed]
