"""ASHA with a memory: which rung and which cutoff stopped whom, per arm, rebuilt from the record on resume.

Ray Tune's `AsyncHyperBandScheduler` (Li et al. 2020) decides; this wraps it. The unit of the resource here is the
report: rungs are whole numbers of reports, so that a fraction of an epoch compares exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from results.record import Decision, ReportRow, Trial
from sweeps.engine.outcome import OBJECTIVE, objective


@dataclass(frozen=True)
class Ladder:
    """Where the rungs lie. `grace` and `budget` are in reports; `grace=None` means that nobody is stopped."""

    budget: int
    grace: int | None
    eta: float
    reports_per_epoch: int

    def rungs(self) -> list[float]:
        """The rungs in epochs, lowest first, the full budget last."""
        steps: list[float] = []
        if self.grace is not None:
            step: float = self.grace
            while step < self.budget:
                steps.append(step)
                step *= self.eta
        return [step / self.reports_per_epoch for step in [*steps, self.budget]]


@dataclass(frozen=True)
class _Key:
    """All that ASHA looks at in a Tune trial. Our number outlives the Tune trial, so a rung counts a trial once."""

    trial_id: str


_NOBODY: Any = None  # ASHA is handed a controller, and never looks at it


class Asha(AsyncHyperBandScheduler):
    """One arm's ASHA. It mends two things of Ray's:

    - a NaN passes every rung, because `nan < cutoff` is false, and an infinite score counts as best in mode min;
      here a non-finite objective stops its trial at once and enters no rung;
    - a stop leaves no trace; here `judge` returns the rung and the cutoff.
    """

    def __init__(self, ladder: Ladder, grace: int, mode: str) -> None:
        self._sign = 1.0 if mode == "max" else -1.0
        super().__init__(
            time_attr="step",
            metric=OBJECTIVE,
            mode=mode,
            max_t=ladder.budget,
            grace_period=grace,
            reduction_factor=ladder.eta,
        )

    def judge(self, number: int, step: int, value: float | None) -> tuple[str, Decision | None]:
        """Tell the rungs that trial `number` reached `value` at report `step`; None is a non-finite value.

        Returns Tune's verdict, and the decision when the trial stood at a rung for the first time: rung in reports,
        cutoff in the objective's own sign.
        """
        if value is None:
            return TrialScheduler.STOP, None
        if step >= self._max_t:  # reaching the budget is COMPLETED, never STOPPED
            return TrialScheduler.CONTINUE, None
        key: Any = _Key(str(number))
        if key.trial_id not in self._trial_info:
            self.on_trial_add(_NOBODY, key)
        bracket = self._trial_info[key.trial_id]
        rung = next((m for m, seen in bracket._rungs if step >= m and key.trial_id not in seen), None)
        cutoff = None
        if rung is not None:
            against = bracket.cutoff(dict(bracket._rungs)[rung])
            cutoff = None if against is None else float(against) * self._sign
        verdict = self.on_trial_result(_NOBODY, key, {self._time_attr: step, OBJECTIVE: value})
        if rung is None:
            return verdict, None
        return verdict, Decision(float(rung), cutoff, verdict == TrialScheduler.STOP)


class Rungs(FIFOScheduler):
    """Deals every report to the ASHA of its arm, so that no arm's trials stop another's."""

    def __init__(self, arms: Iterable[str], ladder: Ladder, mode: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ladder = ladder
        self._arms = {arm: None if ladder.grace is None else Asha(ladder, ladder.grace, mode) for arm in arms}
        self._decisions: dict[int, Decision] = {}

    def replay(self, trials: Iterable[Trial], reports: Iterable[ReportRow], metric: str) -> None:
        """Fill the rungs from the record, in the order in which the reports came."""
        arms = {trial.trial: trial.arm for trial in trials if trial.phase == "search"}
        for report in reports:
            if report.trial in arms and math.isfinite(value := report.metrics.get(metric, math.nan)):
                self.judge(arms[report.trial], report.trial, report.step, value)
        self._decisions.clear()

    def judge(self, arm: str, number: int, step: int, value: float | None) -> str:
        """Tune's verdict on trial `number` of `arm` with objective `value` at report `step`."""
        asha = self._arms[arm]
        if asha is None:
            return str(TrialScheduler.CONTINUE if value is not None else TrialScheduler.STOP)
        verdict, decision = asha.judge(number, step, value)
        if decision is not None:
            rung = decision.rung / self.ladder.reports_per_epoch
            self._decisions[number] = Decision(rung, decision.cutoff, decision.stopped)
        return verdict

    def take_decision(self, number: int) -> Decision | None:
        """What was decided on the trial's latest report, once; None when it stood at no rung."""
        return self._decisions.pop(number, None)

    # -- Tune's side -------------------------------------------------------------------------------------------

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if "step" not in result:  # a trial that failed before its first report
            return str(TrialScheduler.STOP)
        if trial.config["phase"] != "search":  # a repeat runs to its end
            return str(TrialScheduler.CONTINUE)
        return self.judge(trial.config["arm"], trial.config["trial"], result["step"], objective(result))

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        # FIFOScheduler walks all trials there ever were at every turn of the loop; Tune starts pending ones itself.
        return None
