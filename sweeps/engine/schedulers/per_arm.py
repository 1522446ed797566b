"""Tune's scheduler: one stopping rule per search. Its state is rebuilt from the record when a run resumes.

The unit of the resource here is the report: rungs are whole numbers of reports, so that a fraction of an epoch compares
exactly, and a fold is a report.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Set
from dataclasses import replace
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.schedulers.base import PendingReport, RungSchedule, StoppingRule
from rungwise.engine.schedulers.budget import SearchBudget
from rungwise.engine.schedulers.patience import Patience
from rungwise.engine.schedulers.registry import SCHEDULERS
from rungwise.results.record.types import Decision, ReportRow, Trial
from rungwise.trainable.messages import StudyKey, TrialAssignment, TrialResult


class Rungs(FIFOScheduler):
    """Passes every report to the stopping rules of its search, so that no search's trials stop another's."""

    def __init__(
        self, studies: Iterable[StudyKey], schedule: RungSchedule, mode: str, *, oldest_first: bool = False
    ) -> None:
        """`oldest_first`: a free process trains the trial that has waited longest; otherwise Tune chooses the newest
        one, whose suggestion is based on the most results."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.schedule = schedule
        self._waiting: deque[Any] | None = deque() if oldest_first else None  # Tune trials
        kind = SCHEDULERS["none" if schedule.grace is None else schedule.scheduler]
        self._rules: dict[StudyKey, list[StoppingRule]] = {key: [kind(schedule, mode)] for key in studies}
        if schedule.patience is not None:
            for rules in self._rules.values():
                rules.append(Patience(schedule, mode))
        self.budget: SearchBudget | None = None  # at whose end a trial is stopped
        self.unwanted: Set[int] = frozenset()  # trials that a user has stopped
        self._decisions: dict[int, Decision] = {}
        self._pending: dict[StudyKey, list[PendingReport]] = {}  # registered and not judged yet

    def replay(self, trials: Iterable[Trial], reports: Iterable[ReportRow], metric: str) -> None:
        """Fill the rungs from the record, in the order in which the reports came."""
        studies = {trial.trial: trial.study for trial in trials if trial.phase == "search"}
        for report in reports:
            if report.trial in studies and math.isfinite(value := report.metrics.get(metric, math.nan)):
                self.judge(studies[report.trial], report.trial, report.step, value)
        self._decisions.clear()

    def judge(self, study: StudyKey, number: int, step: int, value: float | None) -> str:
        """Tune's verdict on trial `number` of `study` with objective `value` at report `step`."""
        pending = self._pending[study] = [report for report in self._pending.get(study, ()) if report.trial != number]
        verdicts = [rule.on_report(number, step, value, pending) for rule in self._rules[study]]
        verdict = next((verdict for verdict in verdicts if verdict.stop), verdicts[0])
        if (decision := verdict.decision) is not None:
            self._decisions[number] = replace(decision, rung=self.schedule.to_epochs(decision.rung))
        return str(TrialScheduler.STOP if verdict.stop else TrialScheduler.CONTINUE)

    def register_batch(self, cohort: Iterable[tuple[TrialAssignment, TrialResult]]) -> None:
        """Announce results that arrived together and are judged next: each is compared with all the others, so that
        their order has no influence."""
        self._pending = {study: [] for study in self._rules}
        for assignment, result in cohort:
            value = result.objective
            if value is not None and assignment.phase == "search" and not result.is_stale(assignment):
                self._pending[assignment.study].append(PendingReport(assignment.trial, result.step, value))

    def take_decision(self, number: int) -> Decision | None:
        """Remove and return the decision on the trial's latest report; None if that was not at a rung."""
        return self._decisions.pop(number, None)

    def verdict(self, assignment: TrialAssignment, result: TrialResult) -> str:
        """Tune's verdict on a trial's result."""
        if result.is_stale(assignment) or result.asks is not None:
            return str(TrialScheduler.CONTINUE)
        if not result.step:  # a trial that failed before its first report
            return str(TrialScheduler.STOP)
        if assignment.phase != "search":  # a repeat runs to its end
            return str(TrialScheduler.CONTINUE)
        verdict = self.judge(assignment.study, assignment.trial, result.step, result.objective)
        cut = self._is_cut(assignment, result)
        if result.is_judged:
            return str(TrialScheduler.STOP) if cut else verdict
        self._decisions.pop(assignment.trial, None)  # the rung has its value, as a resumed sweep would enter it
        return str(TrialScheduler.CONTINUE)

    def _is_cut(self, assignment: TrialAssignment, result: TrialResult) -> bool:
        """Whether the trial ends here for another reason than its score, which is then entered."""
        if self.budget is None or not result.is_judged:
            return False
        self.budget.report(assignment.study, assignment.trial, result.step)
        decision = self._decisions.get(assignment.trial)
        if decision and decision.stopped:
            return False
        if assignment.trial in self.unwanted:
            why = "rungwise stop"
        elif self.budget.is_cut(assignment.study):
            why = "the time budget ended the search" if self.budget.is_over else "its search has trained all its epochs"
        else:
            return False
        rung = self.schedule.to_epochs(result.step)
        self._decisions[assignment.trial] = Decision(rung, None, True, why)
        return True

    # -- Tune's side -------------------------------------------------------------------------------------------

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return self.verdict(TrialAssignment.from_tune(trial.config), TrialResult.from_tune(result))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if self._waiting is not None:
            self._waiting.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        # FIFOScheduler walks all trials there ever were at every turn of the loop; Tune starts pending ones itself, and
        # prefers the newest. A search whose one trial waited until the end would then go on alone.
        while self._waiting and self._waiting[0].status != "PENDING":
            self._waiting.popleft()
        return self._waiting[0] if self._waiting else None


def rung_schedule(experiment: Experiment) -> RungSchedule:
    """The experiment's rungs, in reports."""
    patience = experiment.patience
    return RungSchedule(
        budget=experiment.trial_reports,
        grace=None if experiment.scheduler == "none" else experiment.to_reports(experiment.grace),
        eta=experiment.eta,
        reports_per_epoch=experiment.reports_per_epoch,
        scheduler=experiment.scheduler,
        fold_epochs=experiment.epochs if experiment.folds else None,
        patience=None if patience is None else experiment.to_reports(patience),
    )
