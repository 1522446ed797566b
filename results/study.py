"""The Optuna study of each arm, rebuilt from the record: for the sampler on resume, for importances and plots."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from results.record import Reader, ReportRow, State, Trial, is_infeasible

if TYPE_CHECKING:
    import optuna


def studies(reader: Reader) -> dict[str, optuna.Study]:
    """{arm: study} of the search phase, in memory, trials in the order of dealing; an arm without trials has a study.

    States follow the table in DESIGN.md: STOPPED is PRUNED, DIVERGED, FAILED and LOST are FAIL, and a trial in flight
    stays RUNNING. A COMPLETE trial's value is the objective at its last report, not the best one on the way: all
    COMPLETE trials were trained for the same budget, so last values are compared at equal epochs, and a maximum over
    noisy reports would flatter trials that fluctuate. A COMPLETE trial whose last objective is missing or not finite
    becomes FAIL, because Optuna knows no value for it. A trial that had no memory to begin is PRUNED without a value,
    the worst there is to TPE, which overlooks a FAIL and would try the like again.

    Intermediate steps are report steps; non-finite values are left out. Of a step reported by several attempts the
    last attempt's word counts.
    """
    import optuna
    from optuna.study import StudyDirection

    with reader.snapshot():
        definition = reader.meta("definition") or {}
        trials = reader.trials("search")
        curves = reader.curves()
    metric = str(definition.get("metric", "val_accuracy"))
    direction = StudyDirection.MINIMIZE if definition.get("mode") == "min" else StudyDirection.MAXIMIZE
    arms = dict.fromkeys([*definition.get("arms", {}), *(trial.arm for trial in trials)])
    with _quiet():
        made = {arm: optuna.create_study(study_name=arm, direction=direction) for arm in arms}
    for trial in trials:
        made[trial.arm].add_trial(_frozen(trial, curves.get(trial.trial, {}), metric))
    return made


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's line for each study that is created."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _frozen(trial: Trial, curve: dict[int, ReportRow], metric: str) -> optuna.trial.FrozenTrial:
    import optuna
    from optuna.trial import TrialState

    reported = {step: row.metrics.get(metric, math.nan) for step, row in sorted(curve.items())}
    finite = {step: value for step, value in reported.items() if math.isfinite(value)}
    state = {
        State.COMPLETED: TrialState.COMPLETE,
        State.STOPPED: TrialState.PRUNED,
        State.RUNNING: TrialState.RUNNING,
    }.get(trial.state, TrialState.FAIL)
    value: float | None = None
    if state is TrialState.COMPLETE:
        value = next(reversed(reported.values()), math.nan)
        if not math.isfinite(value):
            state, value = TrialState.FAIL, None
    elif state is TrialState.PRUNED:
        value = next(reversed(finite.values()), None)
    elif trial.state is State.FAILED and is_infeasible(trial.reason) and not finite:
        state = TrialState.PRUNED
    frozen = optuna.trial.create_trial(
        state=state,
        value=value,
        params=dict(trial.params),
        distributions={
            name: optuna.distributions.json_to_distribution(text) for name, text in trial.distributions.items()
        },
        user_attrs={"trial": trial.trial, "state": str(trial.state), "reason": trial.reason},
        intermediate_values=finite,
    )
    # create_trial dates everything now; the record knows when it was.
    frozen.datetime_start = datetime.fromtimestamp(trial.started or trial.created)
    if state.is_finished():
        frozen.datetime_complete = datetime.fromtimestamp(trial.ended or trial.created)
    return frozen
