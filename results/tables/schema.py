"""Columns of the tables: types, units and descriptions of what reports and trials hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rungwise.results.record.definition import Definition
from rungwise.results.record.types import State
from rungwise.trainable.messages import FOLD

UTC = pa.timestamp("us", tz="UTC")

PHASE_ORDER = {"search": 0, "confirm": 1, "refit": 2, "untuned": 3}  # of lists of trials; the others follow

# name -> (unit, description) of the metrics that every trial of ours reports; they are columns even when empty
METRICS: dict[str, tuple[str, str]] = {
    "epoch": ("epochs", "training progress when the report was sent"),
    "train_loss": ("nats/sample", "data loss on the training set, without the penalty"),
    "penalty": ("nats/sample", "L1 and L2 penalty added to the training loss"),
    "val_loss": ("nats/sample", "data loss on the validation set"),
    "val_accuracy": ("fraction", "share of the validation set classified correctly"),
    "lr": ("step size", "learning rate of the last step"),
    "seconds": ("s", "time that this report's training and evaluation took"),
}
# those that some report: of a regression, and objectives beside the metric
_OTHERS = {
    "val_mse": ("target^2", "mean squared error on the validation set"),
    "val_mae": ("target", "mean absolute error on the validation set"),
    "val_r2": ("fraction", "share of the target's variance on the validation set that the model explains"),
    "parameters": ("numbers", "what the model learns"),
    "seconds_per_epoch": ("s", "time that an epoch of training and its evaluations took"),
}
# a regression's loss is its squared error; it learns the target in standard deviations
_OF_REGRESSION = {
    "train_loss": ("target^2", "mean squared error on the training set, without the penalty"),
    "penalty": ("sd^2", "L1 and L2 penalty added to the training loss, which is of the standardised target"),
    "val_loss": ("target^2", "mean squared error on the validation set"),
}
_OF_OWN = {name: METRICS[name] for name in ("epoch", "seconds")}  # ours in a training of the user's own
REPORT_FIELDS: dict[str, tuple[pa.DataType, str, str]] = {
    "trial": (pa.int64(), "", "number of the trial in the run"),
    "attempt": (pa.int64(), "", "which start of the trial sent it, 1 = the first"),
    "step": (pa.int64(), "reports", "index of the report within the trial, from 1"),
    "at": (UTC, "UTC", "when the driver recorded it"),
    "rung": (pa.float64(), "epochs", "rung at which the scheduler compared it; NULL between rungs"),
    "cutoff": (pa.float64(), "objective", "what the objective was compared with at that rung"),
    "stopped": (pa.bool_(), "", "whether the scheduler stopped the trial at that rung"),
    "seq": (pa.int64(), "", "order of arrival over the whole run"),
}
TRIAL_FIELDS: dict[str, tuple[pa.DataType, str, str]] = {
    "trial": (pa.int64(), "", "number of the trial in the run"),
    "arm": (pa.string(), "", "which of the compared alternatives it belongs to"),
    "search": (pa.int64(), "", "which independent search of the arm it belongs to, from 1"),
    "phase": (pa.string(), "", "search; confirm, refit, untuned (on fresh seeds) or audit"),
    "source": (pa.int64(), "", "the search trial that a confirmation, a refit or an audit repeats"),
    "state": (pa.string(), "", ", ".join(State)),
    "stop_rung": (pa.float64(), "epochs", "rung at which the scheduler stopped it"),
    "cutoff": (pa.float64(), "objective", "what its objective was compared with at stop_rung"),
    "reason": (pa.string(), "", "why it ended, one line"),
    "rank": (
        pa.int64(),
        "",
        "place by best_value within its phase, 1 = best; NULL unless it may be best",
    ),
    "best_value": (pa.float64(), "objective", "best finite value of the objective"),
    "best_step": (pa.int64(), "reports", "report of best_value"),
    "best_epoch": (pa.float64(), "epochs", "training progress at best_value"),
    "epochs": (pa.float64(), "epochs", "training progress at the last report"),
    "seconds": (pa.float64(), "s", "training time of all attempts"),
    "attempts": (pa.int64(), "", "how often it was started"),
    "node": (pa.string(), "", "host of the last attempt"),
    "device": (pa.string(), "", "device of the last attempt"),
    "seed": (pa.int64(), "", "seed of weights, sample order and noise"),
    "started": (UTC, "UTC", "start of the first attempt"),
    "ended": (UTC, "UTC", "end of the trial"),
}


def schema_field(name: str, kind: pa.DataType, unit: str, description: str) -> pa.Field:
    return pa.field(name, kind, metadata={"unit": unit, "description": description})


def metric_about(name: str, definition: Definition) -> tuple[str, str]:
    """Unit and description."""
    if name.startswith(FOLD) and definition.folds:
        unit, text = metric_about(name.removeprefix(FOLD), replace(definition, folds=0))
        return unit, f"{text}, in the last fold alone"
    if definition.folds and name.startswith(("val_", "train_")):
        unit, text = metric_about(name, replace(definition, folds=0))
        return unit, f"{text}, mean over the folds so far"
    if definition.is_own:
        return _OF_OWN.get(name, ("", "metric reported by the trial"))
    descriptions = {**METRICS, **_OTHERS, **(_OF_REGRESSION if definition.is_regression else {})}
    return descriptions.get(name, ("", "metric reported by the trial"))


def column_of(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # a NaN is the text 'nan' in SQLite
        return pa.array([None if value is None else float(value) for value in values], kind)


def timestamps(seconds: pa.Array) -> pa.Array:
    """Seconds since the epoch -> microseconds, UTC."""
    return pc.round(pc.multiply(seconds, 1e6)).cast(pa.int64()).cast(UTC)
