"""What a stopping rule is, and where its rungs lie. A rule knows no Ray, and is a function of the reports it has
seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from rungwise.results.record.definition import rung_steps
from rungwise.results.record.types import Decision


class Verdict(NamedTuple):
    """Whether a trial is stopped, and the comparison behind it: None when the trial was compared with nothing."""

    stop: bool
    decision: Decision | None = None


CONTINUE = Verdict(stop=False)
STOP = Verdict(stop=True)


class PendingReport(NamedTuple):
    """A report that arrived together with another and is judged after it."""

    trial: int
    step: int
    value: float


class StoppingRule(Protocol):
    """One arm's rule. Deterministic in the reports it has seen, so that a resumed sweep rebuilds it from the record."""

    def on_report(self, trial: int, step: int, value: float | None, pending: Sequence[PendingReport] = ()) -> Verdict:
        """Judge one report of a search trial.

        Args:
            trial: The trial's number; a second attempt at a trial has the same one and may repeat its reports.
            step: The report's index, from 1.
            value: The objective; None when it is not finite, which always stops the trial.
            pending: Reports that arrived together with this one. ASHA compares with them as well, so that the order
                within such a batch decides nothing; the median rule and patience judge reports in order.

        Returns:
            The verdict. Its decision has the rung in reports and the cutoff in the objective's own sign.
        """
        ...


@dataclass(frozen=True)
class RungSchedule:
    """Where the rungs lie. `grace`, `budget` and `patience` are in reports; `grace=None`: no trial is stopped early."""

    budget: int
    grace: int | None
    eta: float
    reports_per_epoch: int
    scheduler: str = "asha"
    patience: int | None = None
    fold_epochs: int | None = None  # epochs of a report, where a report is a fold

    def steps(self) -> list[float]:
        """The rungs in reports, lowest first, the full budget last. A rung may lie between two reports."""
        if self.grace is None or self.scheduler == "median":
            return [self.budget]
        return [*rung_steps(self.grace, self.budget, self.eta), self.budget]

    def epochs(self) -> list[float]:
        """The rungs in epochs."""
        return [self.to_epochs(step) for step in self.steps()]

    def to_epochs(self, step: float) -> float:
        """The epochs that a trial has trained at its report `step`."""
        return step * (self.fold_epochs or 1) / self.reports_per_epoch

    def place(self, epochs: float) -> str:
        """'at epoch 3', or 'after fold 2'."""
        return f"at epoch {epochs:g}" if self.fold_epochs is None else f"after fold {epochs / self.fold_epochs:g}"
