"""The median stopping rule (Golovin et al. 2017, "Google Vizier", section 3.2.2).

tests/engine/test_schedulers.py holds it against Ray's `MedianStoppingRule` (2.60).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from statistics import median

from rungwise.engine.schedulers.base import CONTINUE, STOP, PendingReport, RungSchedule, Verdict
from rungwise.results.record.types import Decision

MIN_OTHER_TRIALS = 3  # Ray's default


class _Curve:
    """One trial's reports: the best score so far, and running means from the grace period on."""

    def __init__(self) -> None:
        self.last_step, self.best = 0, -math.inf
        self._steps: list[int] = []
        self._sums: list[float] = [0.0]  # of the first n scores

    def add(self, step: int, score: float, grace: int) -> None:
        self.last_step, self.best = step, max(self.best, score)
        if step >= grace:
            self._steps.append(step)
            self._sums.append(self._sums[-1] + score)

    def mean_until(self, step: int) -> float | None:
        """The mean of the scores from the grace period to `step`; None when there is none."""
        count = bisect_right(self._steps, step)
        return self._sums[count] / count if count else None


class Median:
    """A trial stops when its best report so far is worse than the median of the means that at least three other trials
    had up to the same step. From the first rung on, at every report."""

    def __init__(self, schedule: RungSchedule, mode: str) -> None:
        assert schedule.grace is not None
        self._budget, self._grace = schedule.budget, schedule.grace
        self._sign = 1.0 if mode == "max" else -1.0
        self._curves: dict[int, _Curve] = {}

    def on_report(self, trial: int, step: int, value: float | None, pending: Sequence[PendingReport] = ()) -> Verdict:
        """See `StoppingRule`."""
        if value is None:
            return STOP
        curve = self._curves.setdefault(trial, _Curve())
        if step <= curve.last_step:  # a second attempt repeats a report
            return CONTINUE
        curve.add(step, self._sign * value, self._grace)
        if step < self._grace or step >= self._budget:
            return CONTINUE
        others = (other for other in self._curves.values() if other is not curve and other.last_step >= step)
        means = [mean for other in others if (mean := other.mean_until(step)) is not None]
        if len(means) < MIN_OTHER_TRIALS:
            return CONTINUE
        cutoff = median(means)
        stopped = curve.best < cutoff
        return Verdict(stopped, Decision(float(step), self._sign * cutoff, stopped))
