"""Rules that compare a trial with no other: patience, and none at all."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rungwise.engine.schedulers.base import CONTINUE, STOP, PendingReport, RungSchedule, Verdict
from rungwise.results.record.types import Decision


class NoStopping:
    """Stops only a trial whose objective is not finite."""

    def on_report(self, trial: int, step: int, value: float | None, pending: Sequence[PendingReport] = ()) -> Verdict:
        """See `StoppingRule`."""
        return STOP if value is None else CONTINUE


class Patience:
    """Stops a trial whose objective has not improved for `patience` reports (Prechelt 1998, early stopping)."""

    def __init__(self, schedule: RungSchedule, mode: str) -> None:
        assert schedule.patience is not None
        self._schedule, self._patience = schedule, schedule.patience
        self._sign = 1.0 if mode == "max" else -1.0
        self._best: dict[int, tuple[float, int]] = {}  # trial -> best score so far, and its step

    def on_report(self, trial: int, step: int, value: float | None, pending: Sequence[PendingReport] = ()) -> Verdict:
        """See `StoppingRule`."""
        if value is None:
            return STOP
        best, best_step = self._best.get(trial, (-math.inf, 0))
        score = self._sign * value
        if score > best:
            self._best[trial] = (score, step)
        elif step - best_step >= self._patience and step < self._schedule.budget:
            epochs = self._schedule.to_epochs(step - best_step)
            reason = f"not better than {self._sign * best:.6g} for {epochs:g} epochs"
            return Verdict(True, Decision(float(step), self._sign * best, True, reason))
        return CONTINUE
