"""The Optuna study of each arm, rebuilt from the record: for the sampler on resume, for importances and plots."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rungwise.results.record.reader import Reader
from rungwise.results.record.types import ATTRIBUTES, ReportRow, State, Trial, last_metrics
from rungwise.results.record.validation import Invalid
from rungwise.trainable.messages import StudyKey

if TYPE_CHECKING:
    import optuna


def studies(reader: Reader) -> dict[StudyKey, optuna.Study]:
    """{search of an arm: study} of the search phase, in memory, trials in the order of dealing; one without trials has
    a study, too.

    States follow the table in DESIGN.md: STOPPED is PRUNED, DIVERGED, FAILED and LOST are FAIL, and a trial in flight
    stays RUNNING. A COMPLETE trial's value is the objective at its last report, not the best one on the way: all
    COMPLETE trials were trained for the same budget, so last values are compared at equal epochs, and a maximum over
    noisy reports would flatter trials that fluctuate. A COMPLETE trial whose last objective is missing or not finite
    becomes FAIL, because Optuna knows no value for it. A trial that had no memory to begin is PRUNED without a value,
    the worst there is to TPE, which overlooks a FAIL and would try the like again.

    Intermediate steps are report steps; non-finite values are left out. Of a step reported by several attempts the
    last attempt's value counts. A study of several objectives has no intermediate values, which Optuna does not take.

    A study begins with the trials of other runs that `--warm-start` named, which have no user attribute `trial`; by
    nested folds with those of the search of its number alone. And it has what its sampler kept of its trials and
    itself. What an objective set by `set_user_attr` is a user attribute.
    """
    import optuna
    from optuna.study import StudyDirection

    with reader.snapshot():
        definition = reader.definition()
        trials = reader.trials("search")
        curves = reader.curves()
        told = [(kind, t, data) for _, kind, t, data in reader.events() if t is not None]
        events = [(t, data) for kind, t, data in told if kind == "sampler"]
        earlier = reader.meta("earlier") or {}
    objectives = definition.objectives
    directions = [StudyDirection.MINIMIZE if mode == "min" else StudyDirection.MAXIMIZE for mode in objectives.values()]
    keys = dict.fromkeys([*definition.studies, *(trial.study for trial in trials)])
    searches = max((key.search for key in keys), default=1)
    with quiet_optuna():
        made = {key: optuna.create_study(study_name=key.name(searches), directions=directions) for key in keys}
    with reader.refusing(), _known_to_optuna():
        for key, study in made.items():
            for one in earlier.get(key.arm, []):
                if one.get("search", key.search) == key.search:
                    study.add_trial(_of_another_run(one))
        set_by_user: dict[int, dict[str, Any]] = {}
        for kind, number, data in told:
            if kind == ATTRIBUTES:
                set_by_user.setdefault(number, {}).update(data["values"])
        attributes = {trial: dict(data["kept"]) for trial, data in events}
        for trial in trials:
            curve = curves.get(trial.trial, {})
            violated = definition.violations(last_metrics(curve))
            known = attributes.get(trial.trial, {}) | {f"constraints:{name}": by for name, by in violated.items()}
            frozen = _frozen(trial, curve, list(objectives), known)
            frozen.user_attrs = {**set_by_user.get(trial.trial, {}), **frozen.user_attrs}
            made[trial.study].add_trial(frozen)
        study_of = {trial.trial: trial.study for trial in trials}
        for number, data in events:
            study = made[study_of[number]]
            for name, value in data["shared"].items():
                study._storage.set_study_system_attr(study._study_id, name, value)
    return made


def kept(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Of what a sampler attaches to a trial, what a resumed search needs and the record may hold.

    CMA-ES attaches its state as a pickle, and pickles are code: it finds its state again from the trials. Parameters
    are in the record anyway, and so is the grid.
    """
    left_out = ("optimizer", "relative_params", "search_space", "constraints")
    return {name: value for name, value in attributes.items() if not any(word in name for word in left_out)}


def distributions_of(texts: Mapping[str, str]) -> dict[str, optuna.distributions.BaseDistribution]:
    """Optuna's distributions from JSON."""
    from optuna.distributions import json_to_distribution

    return {name: json_to_distribution(text) for name, text in texts.items()}


def _of_another_run(one: Mapping[str, Any]) -> optuna.trial.FrozenTrial:
    import optuna

    return optuna.trial.create_trial(
        state=optuna.trial.TrialState[one["state"]],
        values=one["values"],
        params=one["params"],
        distributions=distributions_of(one["distributions"]),
        intermediate_values={int(step): value for step, value in one["intermediate"].items()},
        user_attrs={"run": one["run"]},
    )


@contextmanager
def _known_to_optuna() -> Iterator[None]:
    """What Optuna cannot take, or the record lacks, is the record's fault: it wrote them as Optuna gave them."""
    try:
        yield
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise Invalid(f"its trials make no study: {type(error).__name__}: {error}") from error


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Without Optuna's lines, such as one for each study that is created."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _frozen(
    trial: Trial, curve: dict[int, ReportRow], objectives: list[str], attributes: dict[str, Any]
) -> optuna.trial.FrozenTrial:
    import optuna
    from optuna.trial import TrialState

    metric, *others = objectives
    reported = {step: row.metrics.get(metric, math.nan) for step, row in sorted(curve.items())}
    finite = {step: value for step, value in reported.items() if math.isfinite(value)}
    state = {
        State.COMPLETED: TrialState.COMPLETE,
        State.STOPPED: TrialState.PRUNED,
        State.RUNNING: TrialState.RUNNING,
    }.get(trial.state, TrialState.FAIL)
    values: list[float] | None = None
    if state is TrialState.COMPLETE:
        last = last_metrics(curve)
        values = [last.get(name, math.nan) for name in objectives]
        if not all(map(math.isfinite, values)):
            state, values = TrialState.FAIL, None
    elif state is TrialState.PRUNED and not others:
        values = [next(reversed(finite.values()))] if finite else None
    elif trial.failure is not None and trial.failure.kind.is_infeasible and not finite:
        state = TrialState.PRUNED
    broken = trial.failure.constraint if trial.failure is not None else None
    frozen = optuna.trial.create_trial(
        state=state,
        values=values,
        params={name: trial.params[name] for name in trial.distributions},
        distributions=distributions_of(trial.distributions),
        user_attrs={"trial": trial.trial, "state": str(trial.state), "reason": trial.reason},
        intermediate_values={} if others else finite,
        system_attrs=attributes | ({f"constraints:{broken.name}": broken.violation} if broken else {}),
    )
    # create_trial dates everything now; the record knows when it was.
    frozen.datetime_start = datetime.fromtimestamp(trial.started or trial.created)
    if state.is_finished():
        frozen.datetime_complete = datetime.fromtimestamp(trial.ended or trial.created)
    return frozen
