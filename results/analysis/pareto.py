"""Several objectives: the trials that no other one beats in all of them, the Pareto front. A view of the record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rungwise.results.io.formatting import format_metric, setting
from rungwise.results.record.definition import Definition
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import ReportRow, State, Trial, last_metrics

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Point:
    """A completed trial of the search that breaks no constraint, with its last value of every objective."""

    trial: Trial
    values: dict[str, float]  # objective -> value
    front: bool


def front(points: Mapping[K, Sequence[float]], modes: Sequence[str]) -> set[K]:
    """Those of `points` that no other point beats: as good in every objective, and better in one."""
    signs = [1.0 if mode == "max" else -1.0 for mode in modes]
    signed = {
        key: tuple(sign * value for sign, value in zip(signs, values, strict=True)) for key, values in points.items()
    }
    return {
        key
        for key, point in signed.items()
        if not any(
            other != point and all(o >= m for o, m in zip(other, point, strict=True)) for other in signed.values()
        )
    }


def points(reader: Reader) -> list[Point]:
    """All completed trials of a search for several objectives that break no constraint, best by the first one first;
    [] for one objective."""
    with reader.snapshot():
        definition, trials, curves = reader.definition(), reader.trials("search"), reader.curves()
    return of(definition, trials, curves)


def of(definition: Definition, trials: Sequence[Trial], curves: Mapping[int, Mapping[int, ReportRow]]) -> list[Point]:
    """The same of what was read."""
    objectives = definition.objectives
    if len(objectives) < 2:
        return []
    values: dict[int, list[float]] = {}
    for trial in trials:
        curve = curves.get(trial.trial, {})
        last = last_metrics(curve)
        last_values = [last.get(name, math.nan) for name in objectives]
        completed = trial.phase == "search" and trial.state is State.COMPLETED
        if completed and all(map(math.isfinite, last_values)) and definition.breach(last) is None:
            values[trial.trial] = last_values
    best = front(values, list(objectives.values()))
    sign = 1 if next(iter(objectives.values())) == "max" else -1
    points_ = [
        Point(trial, dict(zip(objectives, values[trial.trial], strict=True)), trial.trial in best)
        for trial in trials
        if trial.trial in values
    ]
    return sorted(points_, key=lambda point: -sign * next(iter(point.values.values())))


def amount(value: float, metric: str) -> str:
    """A value of an objective as text; counts in full."""
    return f"{value:,.0f}" if metric == "parameters" else format_metric(value, metric)


def lines(found: Sequence[Point]) -> list[str]:
    """The front for the terminal, a line each."""
    return [
        f"front   {', '.join(f'{name} {amount(value, name)}' for name, value in point.values.items())} "
        f"(trial {point.trial.trial}) with {', '.join(f'{k}={setting(v)}' for k, v in point.trial.params.items())}"
        for point in found
        if point.front
    ]
