"""The record as two Arrow tables: `trials`, one row a trial, and `reports`, one row a report.

A column's name fixes its type for good: metrics are float64, a hyperparameter's type is its field's, and a new
hyperparameter is a new column. NaN and infinities are values that were reported; NULL says that nothing was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rungwise.results.analysis.pareto import front
from rungwise.results.io.garbage import rare_collections
from rungwise.results.record.database import FORMAT
from rungwise.results.record.definition import Definition
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State, Trial
from rungwise.results.record.validation import Invalid

UTC = pa.timestamp("us", tz="UTC")
NEVER_BEST = frozenset({State.DIVERGED, State.FAILED, State.LOST})
_CHUNK = 1024  # rows turned into columns at a time: their objects stay in the cache, 25 % faster than 65536
_TYPES = {"float": pa.float64(), "int": pa.int64(), "bool": pa.bool_(), "str": pa.string()}  # of hyperparameters
_FITS = {pa.float64(): int | float, pa.int64(): int, pa.bool_(): bool, pa.string(): str}

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
_REPORT_FIELDS: dict[str, tuple[pa.DataType, str, str]] = {
    "trial": (pa.int64(), "", "number of the trial in the run"),
    "attempt": (pa.int64(), "", "which start of the trial sent it, 1 = the first"),
    "step": (pa.int64(), "reports", "index of the report within the trial, from 1"),
    "at": (UTC, "UTC", "when the driver recorded it"),
    "rung": (pa.float64(), "epochs", "rung at which the scheduler compared it; NULL between rungs"),
    "cutoff": (pa.float64(), "objective", "what the objective was compared with at that rung"),
    "stopped": (pa.bool_(), "", "whether the scheduler stopped the trial at that rung"),
    "seq": (pa.int64(), "", "order of arrival over the whole run"),
}
_TRIAL_FIELDS: dict[str, tuple[pa.DataType, str, str]] = {
    "trial": (pa.int64(), "", "number of the trial in the run, in the order of dealing"),
    "arm": (pa.string(), "", "which answer of the sweep it belongs to"),
    "phase": (pa.string(), "", "search, confirm or audit"),
    "source": (pa.int64(), "", "the search trial that a confirmation or an audit repeats"),
    "state": (pa.string(), "", ", ".join(State)),
    "stop_rung": (pa.float64(), "epochs", "rung at which the scheduler stopped it"),
    "cutoff": (pa.float64(), "objective", "what its objective was compared with at stop_rung"),
    "reason": (pa.string(), "", "why it ended, one line"),
    "rank": (pa.int64(), "", "place by best_value within its phase, 1 = best; NULL for diverged, failed and lost"),
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


@dataclass(frozen=True, slots=True)
class Tables:
    """Both tables of one consistent state of the record."""

    trials: pa.Table
    reports: pa.Table


def tables(reader: Reader) -> Tables:
    """Read the record once and turn it into `trials` and `reports`, ordered by their keys."""
    with reader.snapshot(), rare_collections():
        definition = reader.definition()
        described = reader.meta("hyperparameters") or {}
        trials = reader.trials()
        reports = _reports(reader, definition)
        version = _version(reader)
    about = {
        b"rungwise.run": definition.name.encode(),
        b"rungwise.format": str(FORMAT).encode(),
        b"rungwise.definition": json.dumps(definition.to_json()).encode(),
        b"rungwise.version": version.encode(),
    }
    with reader.refusing():
        summary = _trials(trials, reports, definition, described)
    return Tables(summary.replace_schema_metadata(about), reports.replace_schema_metadata(about))


def _version(reader: Reader) -> str:
    """The version of Rungwise that drove the run last."""
    sessions = reader.sessions()
    versions = sessions[-1].info.get("versions") if sessions else None
    return str(versions.get("rungwise", "unknown")) if isinstance(versions, dict) else "unknown"


# -- reports ---------------------------------------------------------------------------------------------------


def _reports(reader: Reader, definition: Definition) -> pa.Table:
    names, chunks = reader.report_chunks(_CHUNK)
    whole = {"seq", "trial", "attempt", "step", "stopped"}
    raw = {name: pa.int64() if name in whole else pa.float64() for name in names}  # what SQLite holds
    columns: dict[str, list[pa.Array]] = {name: [] for name in names}
    for rows in chunks:
        for name, values in zip(names, zip(*rows, strict=True), strict=True):
            columns[name].append(_column(values, raw[name]))
    order = ["trial", "attempt", "step", *METRICS]
    order += [name for name in names if name not in order and name not in _REPORT_FIELDS]
    order += ["at", "rung", "cutoff", "stopped", "seq"]
    schema = pa.schema([_report_field(name, definition) for name in order])
    length = sum(map(len, columns["seq"]))
    arrays = []
    for field in schema:
        if field.name in columns:
            column = pa.chunked_array(columns.pop(field.name), raw[field.name]).combine_chunks()
            arrays.append(_timestamps(column) if field.type == UTC else column.cast(field.type))
        else:
            arrays.append(pa.nulls(length, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _report_field(name: str, definition: Definition) -> pa.Field:
    if name in _REPORT_FIELDS:
        return _field(name, *_REPORT_FIELDS[name])
    return _field(name, pa.float64(), *_metric(name, definition))


def _metric(name: str, definition: Definition) -> tuple[str, str]:
    """Unit and description."""
    known = {**METRICS, **_OTHERS, **(_OF_REGRESSION if definition.is_regression else {})}
    return known.get(name, ("", "metric reported by the trial"))


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # a NaN is the text 'nan' in SQLite
        return pa.array([None if value is None else float(value) for value in values], kind)


def _timestamps(seconds: pa.Array) -> pa.Array:
    """Seconds since the epoch -> microseconds, UTC."""
    return pc.round(pc.multiply(seconds, 1e6)).cast(pa.int64()).cast(UTC)


# -- trials ----------------------------------------------------------------------------------------------------


def _trials(
    trials: Sequence[Trial], reports: pa.Table, definition: Definition, described: Mapping[str, Any]
) -> pa.Table:
    metric, mode = definition.metric, definition.mode
    known = set(_TRIAL_FIELDS) - {"rank", "best_value", "best_step", "best_epoch", "epochs", "seconds", "seed"}
    values: dict[str, list[Any] | pa.Array] = {name: [getattr(trial, name) for trial in trials] for name in known}
    values["seed"] = [trial.config.get("seed") for trial in trials]
    summary = _summary(np.array([trial.trial for trial in trials], dtype=np.int64), reports, metric, mode)
    values.update(summary)
    values["rank"] = _ranks(trials, values["best_value"], mode)
    fields = [_field(name, *spec) for name, spec in _TRIAL_FIELDS.items()]
    at = 1 + [field.name for field in fields].index("reason")
    for name, kind, column in _hyperparameters(trials, described):
        about = described.get(name, {})
        field = _field(f"params_{name}", kind, about.get("unit", ""), about.get("help", "hyperparameter"))
        fields.insert(at, field)
        values[field.name] = column
        at += 1
    fields.append(_field(f"best_{metric}", pa.float64(), *_about(metric, "best finite value of", definition)))
    values[f"best_{metric}"] = values["best_value"]
    if len(definition.objectives) > 1:
        fields.append(_field("pareto", pa.bool_(), "", "whether no other completed trial of the search beats it"))
        values["pareto"] = _on_front(trials, summary, definition.objectives)
    fields += [
        _field(name, pa.float64(), *_about(name.removeprefix("last_"), "last reported value of", definition))
        for name in summary
        if name.startswith("last_")
    ]
    arrays = []
    for field in fields:
        column = values[field.name]
        if field.type == UTC:
            column = _timestamps(pa.array(column, pa.float64()))
        arrays.append(column if isinstance(column, pa.Array) else _column(column, field.type))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _on_front(trials: Sequence[Trial], summary: Mapping[str, pa.Array], objectives: Mapping[str, str]) -> list[bool]:
    columns = [summary[f"last_{name}"].to_pylist() for name in objectives if f"last_{name}" in summary]
    rows = {
        index: values
        for index, values in enumerate(zip(*columns, strict=True))
        if trials[index].phase == "search" and trials[index].state is State.COMPLETED
        if len(columns) == len(objectives) and all(value is not None and math.isfinite(value) for value in values)
    }
    best = front(rows, list(objectives.values()))
    return [index in best for index in range(len(trials))]


def _about(metric: str, what: str, definition: Definition) -> tuple[str, str]:
    unit, description = _metric(metric, definition)
    return unit, f"{what} {metric}: {description}"


def _summary(trials: np.ndarray, reports: pa.Table, metric: str, mode: str) -> dict[str, pa.Array]:
    """best_*, last_*, epochs and seconds of each trial; `trials` is sorted, and so are `reports` by their key."""
    trial, attempt, step = (reports[name].to_numpy() for name in ("trial", "attempt", "step"))
    names = [field.name for field in reports.schema if field.name not in _REPORT_FIELDS]
    columns = {name: reports[name].to_numpy() for name in names}  # NULL reads as NaN here
    slot = np.searchsorted(trials, trial)
    seconds = np.bincount(slot, weights=np.nan_to_num(columns["seconds"]), minlength=len(trials))

    # The last attempt's word on each step: sort by (trial, step, attempt), keep the last of each (trial, step).
    order = np.arange(len(trial)) if (attempt == 1).all() else np.lexsort((attempt, step, trial))
    last_word = np.ones(len(order), dtype=bool)
    same = (trial[order][1:] == trial[order][:-1]) & (step[order][1:] == step[order][:-1])
    last_word[:-1] = ~same
    rows = order[last_word]

    last = _pick(slot[rows], rows, len(trials))  # row of each trial's last report, -1 when there is none
    result = {"seconds": pa.array(seconds, mask=last < 0), "epochs": _take(reports, "epoch", last)}
    objective = columns.get(metric, np.full(len(trial), np.nan))
    finite = rows[np.isfinite(objective[rows])]
    best_first = np.lexsort((step[finite], -objective[finite] if mode == "max" else objective[finite], slot[finite]))
    best = _pick(slot[finite][best_first][::-1], finite[best_first][::-1], len(trials))
    known = metric in columns
    result["best_value"] = _take(reports, metric, best) if known else pa.nulls(len(trials), pa.float64())
    result["best_step"] = _take(reports, "step", best)
    result["best_epoch"] = _take(reports, "epoch", best)
    for name in names:
        result[f"last_{name}"] = _take(reports, name, last)
    return result


def _pick(slot: np.ndarray, rows: np.ndarray, length: int) -> np.ndarray:
    """The last of `rows` in each slot, -1 where there is none."""
    chosen = np.full(length, -1, dtype=np.int64)
    chosen[slot] = rows  # NumPy keeps the last of repeated indices
    return chosen


def _take(reports: pa.Table, name: str, rows: np.ndarray) -> pa.Array:
    taken = reports[name].take(pa.array(rows, mask=rows < 0))
    return taken.combine_chunks() if isinstance(taken, pa.ChunkedArray) else taken


def _ranks(trials: Sequence[Trial], best: pa.Array, mode: str) -> list[int | None]:
    """1 = best of its phase; equal values in the order of dealing. A diverged, failed or lost trial has none."""
    sign = -1.0 if mode == "max" else 1.0
    ranks: list[int | None] = [None] * len(trials)
    seen: dict[str, int] = {}
    values = best.to_pylist()
    able = [i for i, trial in enumerate(trials) if trial.state not in NEVER_BEST and values[i] is not None]
    for i in sorted(able, key=lambda i: (sign * values[i], i)):
        ranks[i] = seen[trials[i].phase] = seen.get(trials[i].phase, 0) + 1
    return ranks


def _hyperparameters(
    trials: Sequence[Trial], described: Mapping[str, Any]
) -> Iterator[tuple[str, pa.DataType, list[Any]]]:
    """(name, type, values) of everything that was set: the whole Config, and suggestions that are not in it."""
    whole = [{**trial.params, **trial.config} for trial in trials]
    floats = {name for trial in trials for name, text in trial.distributions.items() if '"FloatDistribution"' in text}
    for name in dict.fromkeys(chain(described, *whole)):
        values = [config.get(name) for config in whole]
        declared = described.get(name, {}).get("type", "float" if name in floats else None)
        kind = _TYPES[declared] if declared in _TYPES else _kind(values)
        column = [_scalar(value, kind) for value in values]
        for trial, value in zip(trials, column, strict=True):
            if value is not None and not isinstance(value, _FITS[kind]):
                raise Invalid(f"trial {trial.trial}: {name} must be {kind}, but is {value!r:.80}")
        yield name, kind, column


def _kind(values: Iterable[Any]) -> pa.DataType:
    """The Arrow type of a hyperparameter. Config has validated the values, so a float field holds floats only."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64()
    if kinds and kinds <= {int, float}:
        return pa.float64()
    return pa.string()


def _scalar(value: Any, kind: pa.DataType) -> Any:
    if value is None or kind != pa.string():
        return value
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _field(name: str, kind: pa.DataType, unit: str, description: str) -> pa.Field:
    return pa.field(name, kind, metadata={"unit": unit, "description": description})
