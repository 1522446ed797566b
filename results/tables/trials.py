"""The table `trials`: one row a trial with its outcome, its hyperparameters and a summary of its reports."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from rungwise.results.analysis.pareto import front
from rungwise.results.io.formatting import exact
from rungwise.results.record.definition import Definition
from rungwise.results.record.types import NEVER_BEST, State, Trial
from rungwise.results.record.validation import Invalid
from rungwise.results.tables.schema import (
    REPORT_FIELDS,
    TRIAL_FIELDS,
    UTC,
    column_of,
    metric_about,
    schema_field,
    timestamps,
)

_TYPES = {"float": pa.float64(), "int": pa.int64(), "bool": pa.bool_(), "str": pa.string()}  # of hyperparameters
_FITS = {pa.float64(): int | float, pa.int64(): int, pa.bool_(): bool, pa.string(): str}


def trials_table(
    trials: Sequence[Trial],
    reports: pa.Table,
    definition: Definition,
    described: Mapping[str, Any],
    scores: Mapping[int, Mapping[str, float]],
    superseded: Set[int] = frozenset(),
) -> pa.Table:
    """The table. `scores`: trial -> {metric: what it scores on the test split}. Trials of a network that another one
    has replaced (`superseded`) have no rank."""
    metric, mode = definition.metric, definition.mode
    copied = set(TRIAL_FIELDS) - {"rank", "best_value", "best_step", "best_epoch", "epochs", "seconds", "seed"}
    values: dict[str, list[Any] | pa.Array] = {name: [getattr(trial, name) for trial in trials] for name in copied}
    values["seed"] = [trial.config.get("seed") for trial in trials]
    summary = _summary(np.array([trial.trial for trial in trials], dtype=np.int64), reports, definition)
    values.update(summary)
    breaches = _breaches(summary, definition)
    excluded = [breach or trial.trial in superseded for trial, breach in zip(trials, breaches, strict=True)]
    steps = summary["best_step"].to_pylist() if definition.folds else [0] * len(trials)
    values["rank"] = _ranks(trials, summary["best_value"], excluded, steps, mode)
    fields = [schema_field(name, *spec) for name, spec in TRIAL_FIELDS.items()]
    at = 1 + [field.name for field in fields].index("reason")
    for name, kind, column in _hyperparameters(trials, described):
        about = described.get(name, {})
        field = schema_field(f"params_{name}", kind, about.get("unit", ""), about.get("help", "hyperparameter"))
        fields.insert(at, field)
        values[field.name] = column
        at += 1
    fields.append(schema_field(f"best_{metric}", pa.float64(), *_about(metric, "best finite value of", definition)))
    values[f"best_{metric}"] = values["best_value"]
    if len(definition.objectives) > 1:
        fields.append(
            schema_field(
                "pareto",
                pa.bool_(),
                "",
                "whether no other completed trial beats it; False where it breaks a constraint",
            )
        )
        values["pareto"] = _on_front(trials, summary, definition.objectives, breaches)
    fields += [
        schema_field(name, pa.float64(), *_about(name.removeprefix("last_"), "last reported value of", definition))
        for name in summary
        if name.startswith("last_")
    ]
    for name in sorted({name for each in scores.values() for name in each}):
        fields.append(schema_field(f"test_{name}", pa.float64(), *_about(name, "on the test split:", definition)))
        values[f"test_{name}"] = [scores.get(trial.trial, {}).get(name) for trial in trials]
    arrays = []
    for field in fields:
        column = values[field.name]
        if field.type == UTC:
            column = timestamps(pa.array(column, pa.float64()))
        arrays.append(column if isinstance(column, pa.Array) else column_of(column, field.type))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _breaches(summary: Mapping[str, pa.Array], definition: Definition) -> list[bool]:
    """Whether each trial's last report breaks a constraint."""
    columns = {
        name: summary[f"last_{name}"].to_pylist() for name in definition.constraints if f"last_{name}" in summary
    }
    rows = [
        {name: values[index] for name, values in columns.items() if values[index] is not None}
        for index in range(len(summary["seconds"]))
    ]
    return [definition.breach(row) is not None for row in rows]


def _on_front(
    trials: Sequence[Trial], summary: Mapping[str, pa.Array], objectives: Mapping[str, str], breaches: Sequence[bool]
) -> list[bool]:
    columns = [summary[f"last_{name}"].to_pylist() for name in objectives if f"last_{name}" in summary]
    rows = {
        index: values
        for index, values in enumerate(zip(*columns, strict=True))
        if trials[index].phase == "search" and trials[index].state is State.COMPLETED and not breaches[index]
        if len(columns) == len(objectives) and all(value is not None and math.isfinite(value) for value in values)
    }
    best = front(rows, list(objectives.values()))
    return [index in best for index in range(len(trials))]


def _about(metric: str, what: str, definition: Definition) -> tuple[str, str]:
    unit, description = metric_about(metric, definition)
    return unit, f"{what} {metric}: {description}"


def _summary(trials: np.ndarray, reports: pa.Table, definition: Definition) -> dict[str, pa.Array]:
    """best_*, last_*, epochs and seconds of each trial; `trials` is sorted, and so are `reports` by their key."""
    metric, mode = definition.metric, definition.mode
    trial, attempt, step = (reports[name].to_numpy() for name in ("trial", "attempt", "step"))
    names = [field.name for field in reports.schema if field.name not in REPORT_FIELDS]
    columns = {name: reports[name].to_numpy() for name in names}  # NULL reads as NaN here
    slot = np.searchsorted(trials, trial)
    seconds = np.bincount(slot, weights=np.nan_to_num(columns["seconds"]), minlength=len(trials))

    # The last attempt's report of each step: sort by (trial, step, attempt), keep the last of each (trial, step).
    order = np.arange(len(trial)) if (attempt == 1).all() else np.lexsort((attempt, step, trial))
    last_word = np.ones(len(order), dtype=bool)
    same = (trial[order][1:] == trial[order][:-1]) & (step[order][1:] == step[order][:-1])
    last_word[:-1] = ~same
    rows = order[last_word]

    last = _pick(slot[rows], rows, len(trials))  # row of each trial's last report, -1 when there is none
    result = {"seconds": pa.array(seconds, mask=last < 0), "epochs": _take(reports, "epoch", last)}
    objective = columns.get(metric, np.full(len(trial), np.nan))
    finite = rows[np.isfinite(objective[rows])]
    better = step[finite], -objective[finite] if mode == "max" else objective[finite]
    if definition.folds:  # the mean over most of them
        better = better[1], -step[finite]
    best_first = np.lexsort((*better, slot[finite]))
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


def _ranks(
    trials: Sequence[Trial], best: pa.Array, excluded: Sequence[bool], steps: Sequence[int], mode: str
) -> list[int | None]:
    """1 = best of its phase; equal values in the order of dealing. A diverged, failed or lost trial has none, nor has
    one that is `excluded`. Those with the most `steps` come first: values compare after equally many folds."""
    sign = -1.0 if mode == "max" else 1.0
    ranks: list[int | None] = [None] * len(trials)
    last_rank: dict[str, int] = {}
    values = best.to_pylist()
    rankable = [
        i
        for i, trial in enumerate(trials)
        if trial.state not in NEVER_BEST and values[i] is not None and not excluded[i]
    ]
    for i in sorted(rankable, key=lambda i: (-steps[i], sign * values[i], i)):
        ranks[i] = last_rank[trials[i].phase] = last_rank.get(trials[i].phase, 0) + 1
    return ranks


def _hyperparameters(
    trials: Sequence[Trial], described: Mapping[str, Any]
) -> Iterator[tuple[str, pa.DataType, list[Any]]]:
    """(name, type, values) of everything that was set: the whole Config, and suggestions that are not in it."""
    configs = [{**trial.params, **trial.config} for trial in trials]
    floats = {name for trial in trials for name, text in trial.distributions.items() if '"FloatDistribution"' in text}
    for name in dict.fromkeys(chain(described, *configs)):
        values = [config.get(name) for config in configs]
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
    return exact(value)
