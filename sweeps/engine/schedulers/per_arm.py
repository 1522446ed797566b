"""Schedulers with a memory: which rung and which cutoff stopped whom, per arm, rebuilt from the record on resume.

The unit of the resource here is the report: rungs are whole numbers of reports, so that a fraction of an epoch compares
exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from rungwise.engine.schedulers.rules import SCHEDULERS, Judge, Ladder, Patience
from rungwise.results.record.record import Decision, ReportRow, Trial
from rungwise.trainable.messages import TrialAssignment, TrialResult


class Rungs(FIFOScheduler):
    """Deals every report to the scheduler of its arm, so that no arm's trials stop another's."""

    def __init__(self, arms: Iterable[str], ladder: Ladder, mode: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ladder = ladder
        kind = SCHEDULERS["none" if ladder.grace is None else ladder.scheduler]
        self._arms: dict[str, list[Judge]] = {arm: [kind(ladder, mode)] for arm in arms}
        if ladder.patience is not None:
            for judges in self._arms.values():
                judges.append(Patience(ladder, mode))
        self._decisions: dict[int, Decision] = {}
        self._beside: dict[str, list[tuple[int, int, float]]] = {}  # arm -> announced and not judged yet

    def replay(self, trials: Iterable[Trial], reports: Iterable[ReportRow], metric: str) -> None:
        """Fill the rungs from the record, in the order in which the reports came."""
        arms = {trial.trial: trial.arm for trial in trials if trial.phase == "search"}
        for report in reports:
            if report.trial in arms and math.isfinite(value := report.metrics.get(metric, math.nan)):
                self.judge(arms[report.trial], report.trial, report.step, value)
        self._decisions.clear()

    def judge(self, arm: str, number: int, step: int, value: float | None) -> str:
        """Tune's verdict on trial `number` of `arm` with objective `value` at report `step`."""
        beside = self._beside[arm] = [other for other in self._beside.get(arm, ()) if other[0] != number]
        verdicts = [judge.judge(number, step, value, beside) for judge in self._arms[arm]]
        stop = next((one for one in verdicts if one[0] == TrialScheduler.STOP), verdicts[0])
        if (decision := stop[1]) is not None:
            self._decisions[number] = replace(decision, rung=decision.rung / self.ladder.reports_per_epoch)
        return stop[0]

    def announce(self, cohort: Iterable[tuple[TrialAssignment, TrialResult]]) -> None:
        """Trials and results that came together and are judged next: each is compared with all the others too, so that
        their order decides nothing."""
        self._beside = {arm: [] for arm in self._arms}
        for assignment, result in cohort:
            value = result.objective
            if value is not None and assignment.phase == "search" and not result.is_stale(assignment):
                self._beside[assignment.arm].append((assignment.trial, result.step, value))

    def take_decision(self, number: int) -> Decision | None:
        """What was decided on the trial's latest report, once; None when it stood at no rung."""
        return self._decisions.pop(number, None)

    def verdict(self, assignment: TrialAssignment, result: TrialResult) -> str:
        """Tune's verdict on what a trial says."""
        if result.is_stale(assignment):
            return str(TrialScheduler.CONTINUE)
        if not result.step:  # a trial that failed before its first report
            return str(TrialScheduler.STOP)
        if assignment.phase != "search":  # a repeat runs to its end
            return str(TrialScheduler.CONTINUE)
        return self.judge(assignment.arm, assignment.trial, result.step, result.objective)

    # -- Tune's side -------------------------------------------------------------------------------------------

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return self.verdict(TrialAssignment.from_tune(trial.config), TrialResult.from_tune(result))

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        # FIFOScheduler walks all trials there ever were at every turn of the loop; Tune starts pending ones itself.
        return None
