"""The best report of each arm's search: what a sweep has seen, before anything is confirmed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rungwise.results.record.definition import Definition
from rungwise.results.record.types import NEVER_BEST, ReportRow, Trial, last_metrics

LARGEST = 1e150  # a score beyond has no square, so no spread; neither has what is not finite


@dataclass(frozen=True, slots=True)
class BestReport:
    """A trial's best value of the objective, and where it was reported."""

    trial: int
    epoch: float
    value: float
    params: dict[str, Any]


def best_report(
    arm: str, trials: Iterable[Trial], curves: Mapping[int, Mapping[int, ReportRow]], definition: Definition
) -> BestReport | None:
    """Of the arm's search trials that may be best and whose last report breaks no constraint, among reports that break
    none; of equal values the first trial's. None without a finite value.

    With folds, only the last report of a trial counts, and only of trials with the most folds: means over few are
    luckier.
    """
    metric = definition.metric

    def may_be_best(trial: Trial) -> bool:
        searched = trial.arm == arm and trial.phase == "search" and trial.state not in NEVER_BEST
        return searched and definition.breach(last_metrics(curves.get(trial.trial, {}))) is None

    searched = [trial for trial in trials if may_be_best(trial)]
    steps = [max(curves.get(trial.trial, {}), default=0) for trial in searched] if definition.folds else []
    least = max(steps, default=0)
    reports = (
        BestReport(trial.trial, row.metrics.get("epoch", float(step)), row.metrics[metric], trial.params)
        for trial in searched
        for step, row in sorted(curves.get(trial.trial, {}).items())
        if step >= least and metric in row.metrics
        if abs(row.metrics[metric]) <= LARGEST and definition.breach(row.metrics) is None
    )
    return (min if definition.mode == "min" else max)(reports, key=lambda report: report.value, default=None)
