"""A report: one row of numbers from a trial that trains. No torch here: the driver reads reports too."""

from __future__ import annotations

import dataclasses
import math
import re
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
# Last words of names of metrics in general use: val_rmse, eval_loss, macro_f1.
_LESS = "loss nll error err mse rmse mae mape smape rmsle msle logloss mlogloss perplexity ppl wer cer brier fid"
_MORE = "accuracy acc f1 auc auroc auprc precision recall r2 iou miou dice map bleu ndcg mcc kappa psnr ssim"
_NEGATED = {"neg", "negative", "minus", "inverse"}  # neg_mean_squared_error of scikit-learn


def usual_mode(metric: str) -> Literal["max", "min"] | None:
    """Which way is better of a metric with this name; None where the name does not tell."""
    words = re.split(r"[^a-z0-9]+", metric.lower())
    if metric in MODES or not _NEGATED.isdisjoint(words):
        return MODES.get(metric)
    return "min" if words[-1] in _LESS.split() else "max" if words[-1] in _MORE.split() else None


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
