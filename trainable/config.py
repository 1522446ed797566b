"""What one trial may be told: every hyperparameter with its unit, its range and a line of help.

A `Config` is frozen and validated. It comes from one flat dict (an Optuna suggestion, `--one`, a sweep's
`fixed`), so a hyperparameter that is not a field here does not exist: `problems()` names the nearest one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator


def _widths(value: object) -> object:
    """Accept "256-128" beside (256, 128): Optuna's categorical choices must be scalars."""
    if isinstance(value, str):
        try:
            return tuple(int(part) for part in value.split("-") if part.strip())
        except ValueError as error:
            raise ValueError("widths must be whole numbers with dashes between, such as '256-128'") from error
    return value


Width = Annotated[int, Field(ge=1)]


def _field(default: Any, unit: str, description: str, **bounds: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"unit": unit}, **bounds)


class Config(BaseModel):
    """One hyperparameter set of the regularised network, 784-128-64-10 on MNIST by default.

    Regularisers follow the textbook (Goodfellow et al. 2016, chapter 7) and act on the weights of Linear and
    Conv layers only, never on biases or BatchNorm's gamma and beta.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    hidden: Annotated[tuple[Width, ...], BeforeValidator(_widths)] = _field(
        (128, 64), "units", "widths of the hidden layers, first to last; (256, 128) or '256-128'"
    )
    activation: Literal["relu", "leaky_relu", "gelu", "silu", "elu", "tanh"] = _field(
        "relu", "", "non-linearity after each hidden layer"
    )
    batch_norm: bool = _field(True, "", "BatchNorm after each hidden Linear, before the activation")
    dropout: float = _field(0.0, "probability", "share of hidden activations dropped", ge=0, lt=1)
    input_dropout: float = _field(0.0, "probability", "share of inputs dropped", ge=0, lt=1)
    l1: float = _field(0.0, "1/weight", "adds l1 * sum(|w|) to the loss", ge=0)
    l2: float = _field(0.0, "1/weight^2", "adds l2 * sum(w^2) to the loss", ge=0)
    weight_decay: float = _field(
        0.0, "1/step", "the optimiser's own decay: coupled for sgd, adam, rmsprop; decoupled for adamw", ge=0
    )
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = _field("adam", "", "update rule")
    lr: float = _field(1e-3, "step size", "peak learning rate", gt=0)
    momentum: float = _field(0.9, "", "momentum of sgd and rmsprop; beta1 of adam and adamw", ge=0, lt=1)
    schedule: Literal["constant", "cosine", "one-cycle"] = _field(
        "constant", "", "learning rate over the trial's epochs"
    )
    batch_size: int = _field(128, "samples", "samples a step", ge=1)
    label_smoothing: float = _field(0.0, "probability", "mass moved from the true label to all", ge=0, lt=1)
    clip_norm: float = _field(0.0, "gradient norm", "clips the global gradient norm; 0 = off", ge=0)
    epochs: int = _field(6, "epochs", "full budget of the trial; the schedule ends here", ge=1)
    reports_per_epoch: int = _field(1, "reports", "reports an epoch: rungs may be finer than an epoch", ge=1)
    precision: Literal["fp32", "bf16"] = _field("fp32", "", "bf16 = autocast matrix products to bfloat16")
    seed: int = _field(0, "", "initial weights, order of samples, dropout noise", ge=0, lt=2**63)

    @model_validator(mode="after")
    def _batch_has_statistics(self) -> Self:
        if self.batch_norm and self.hidden and self.batch_size < 2:
            raise ValueError(f"batch_size >= 2 must hold with batch_norm=True, but got batch_size={self.batch_size}")
        return self

    @property
    def reports(self) -> int:
        """Number of reports a trial sends when nobody stops it."""
        return self.epochs * self.reports_per_epoch


def described() -> dict[str, dict[str, str]]:
    """{hyperparameter: {"type", "unit", "help"}}, for the metadata of tables; widths are kept as text, '256-128'."""
    kinds = {float: "float", int: "int", bool: "bool"}
    return {
        name: {
            "type": kinds.get(field.annotation, "str") if isinstance(field.annotation, type) else "str",
            "unit": str(field.json_schema_extra["unit"]) if isinstance(field.json_schema_extra, dict) else "",
            "help": field.description or "",
        }
        for name, field in Config.model_fields.items()
    }


def problems(values: Mapping[str, object]) -> list[str]:
    """Everything wrong with a flat dict of hyperparameters: one line each, rule, value and way out. [] = fine."""
    known = list(Config.model_fields)
    found = [unknown("hyperparameter", name, known) for name in values if name not in Config.model_fields]
    try:
        Config.model_validate({name: value for name, value in values.items() if name in Config.model_fields})
    except ValidationError as error:
        for item in error.errors():
            where = ".".join(str(part) for part in item["loc"])
            if where:
                found.append(f"{where}: {item['msg'].removeprefix('Value error, ').lower()}, but got {item['input']!r}")
            else:  # a rule between fields, which says its own values
                found.append(item["msg"].removeprefix("Value error, "))
    return found


def unknown(kind: str, name: str, known: list[str]) -> str:
    """One line that refuses `name` and names the nearest valid choice and all of them."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown {kind} {name!r}{hint} Known: {', '.join(sorted(known))}"
