"""A report: one row of numbers from a trial that trains. No torch here: the driver reads reports too."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

SCORES = ("loss", "accuracy", "mse", "mae", "r2")  # of a split, by our own metrics

MODES: dict[str, Literal["max", "min"]] = {  # which way is better, of each that may be an objective
    "train_loss": "min",
    "penalty": "min",
    "val_loss": "min",
    "val_accuracy": "max",
    "seconds": "min",
    "val_mse": "min",
    "val_mae": "min",
    "val_r2": "max",
    "parameters": "min",  # these two are reported when they are objectives (`trainable.worker.trial_run`)
    "seconds_per_epoch": "min",
}


@dataclass(frozen=True, slots=True)
class Report:
    """One row a trial sends. Losses are nats a sample, `seconds` wall time of training and validation.

    Of a regression, losses are mean squared errors in the target's unit, and there is no accuracy.
    """

    step: int
    epoch: float
    train_loss: float
    penalty: float
    val_loss: float
    val_accuracy: float | None
    lr: float
    seconds: float
    val_mse: float | None = None  # of a regression, as all below
    val_mae: float | None = None
    val_r2: float | None = None
    others: Mapping[str, float] = field(default_factory=dict)  # the user's own metrics, val_<name>

    @property
    def finite(self) -> bool:
        """False when the trial has diverged."""
        numbers = (self.train_loss, self.penalty, self.val_loss, self.val_accuracy)
        return all(math.isfinite(number) for number in numbers if number is not None)

    def asdict(self) -> dict[str, Any]:
        """{field: value}, without fields that do not apply; the user's own metrics are fields among the others."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "others"}
        return {name: value for name, value in values.items() if value is not None} | dict(self.others)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The report of which `asdict` made `values`."""
        own = {each.name for each in dataclasses.fields(cls)}
        others = {name: value for name, value in values.items() if name not in own}
        return cls(**{"val_accuracy": None, **{n: v for n, v in values.items() if n in own}}, others=others)
