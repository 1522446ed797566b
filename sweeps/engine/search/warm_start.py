"""Warm starts: points to try first (`--enqueue`), and trials of earlier runs for the sampler (`--warm-start`).

Both are entered in the record when the run begins, so that a resumed search starts from the same.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.space import Space, contains, distributions, replayed
from rungwise.engine.search.earlier import sources
from rungwise.engine.search.earlier.trial import EarlierTrial, Source, WarmStartError, outside, study_trial, unused
from rungwise.results.record.definition import Definition
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import RecordError, ReportRow, State, Trial
from rungwise.text import one_line, some_of, unknown

OF_ITS_NUMBER = "each search takes those of the search with its number, which had the same test samples"
LONGEST = 200  # characters of a reason, which may hold any value of the user's

Points = dict[str, list[dict[str, Any]]]  # arm -> what it tries first


def points(experiment: Experiment, texts: Iterable[str]) -> Points:
    """Each `--enqueue` for each arm, without the hyperparameters that the arm fixes.

    Raises WarmStartError with the rule, the value and the valid range.
    """
    arm_points: Points = {arm: [] for arm in experiment.arms}
    for text in texts:
        try:
            point = json.loads(text)
        except json.JSONDecodeError as error:
            raise WarmStartError(f"--enqueue takes a JSON object (got {text!r}: {error})") from None
        if not isinstance(point, dict) or not point:
            raise WarmStartError(f"--enqueue takes a JSON object such as '{{\"lr\": 0.01}}' (got {text!r})")
        for arm in experiment.arms:
            searched = {name: value for name, value in point.items() if name not in experiment.fixes(arm)}
            if searched:
                is_known = not experiment.trained_by.asks  # else the range is known when the objective asks
                arm_points[arm].append(_checked(experiment.space_of(arm), searched) if is_known else searched)
    return arm_points


def _checked(space: Space, point: dict[str, Any]) -> dict[str, Any]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # not a line for the study
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(point)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Optuna only warns of a value out of range
            trial = study.ask(None if callable(space) else distributions(space))
            if callable(space):
                space(trial)
    except Exception as error:
        raise WarmStartError(f"--enqueue must be within the space, but got {json.dumps(point)}: {error}") from None
    if foreign := [name for name in point if name not in trial.params]:
        raise WarmStartError(f"--enqueue: {unknown('hyperparameter of the space', foreign[0], list(trial.params))}")
    for name, value in point.items():
        if not contains(trial.distributions[name], value):
            raise WarmStartError(f"--enqueue: {name} must be within {trial.distributions[name]}, but got {value!r}")
    return point


Earlier = dict[str, list[Any]]  # arm -> trials as JSON


def earlier_trials(
    experiment: Experiment,
    places: Iterable[str | Path],
    digest: str | None = None,
    tracking_uri: str = "",
    notes: list[str] | None = None,
) -> Earlier:
    """{arm: trials that could have been its own}, as JSON: searched values lie in range, fixed ones are the same. One
    that ran for the same budget is COMPLETE, another one counts with its reports up to this budget.

    Args:
        experiment: What they must fit into.
        places: What `--warm-start` names: folders of runs, tables, Optuna storages, MLflow experiments.
        digest: Of this sweep's data, which runs must have had.
        tracking_uri: Of this sweep, where `mlflow:NAME` is looked for.
        notes: Gets a line for each place: how many trials were taken, and why others were not.

    Raises:
        WarmStartError: A place cannot be read, has another objective or other data (when `digest` is given), or none of
            its trials fits.
    """
    arm_trials: Earlier = {arm: [] for arm in experiment.arms}
    for place in places:
        if sources.is_run(place):
            name, count, fitting, more = _of_run(experiment, Path(place), digest)
        else:
            source = sources.read(str(place), experiment.objectives, tracking_uri)
            name, count, fitting, more = source.name, len(source.trials), *_of_source(experiment, source)
        taken: Earlier = {arm: [one for one in each if not isinstance(one, str)] for arm, each in fitting.items()}
        none = [each for each in zip(*fitting.values(), strict=True) if all(isinstance(one, str) for one in each)]
        reasons = Counter(str(each[0]) for each in none)  # of those that fit no arm
        if not any(taken.values()):
            common = f", most because {one_line(reasons.most_common(1)[0][0], LONGEST)}" if reasons else ""
            raise WarmStartError(f"--warm-start: none of the {count} trials of {name} fits into this space{common}")
        for arm, each in taken.items():
            arm_trials[arm] += each
        if notes is not None:
            notes.append(_note(name, count, taken, reasons, more))
    return arm_trials


def _note(name: str, count: int, taken: Earlier, reasons: Counter[str], more: Iterable[str]) -> str:
    """How many trials of a place were taken, and why others were not: the three most frequent reasons."""
    arms = ", ".join(f"{len(each)} for {arm}" for arm, each in taken.items()) if len(taken) > 1 else ""
    parts = [f"--warm-start {name}: {arms or sum(map(len, taken.values()))} of {count} trials taken"]
    parts += [f"{number} left out because {one_line(why, LONGEST)}" for why, number in reasons.most_common(3)]
    if rest := sum(reasons.values()) - sum(number for _, number in reasons.most_common(3)):
        parts.append(f"{rest} left out for other reasons")
    return "; ".join([*parts, *more])


def _of_run(
    experiment: Experiment, run: Path, digest: str | None
) -> tuple[str, int, dict[str, list[dict[str, Any] | str]], list[str]]:
    """(name, trials, {arm: trials as JSON, or why they do not fit}, notes) of a run's folder."""
    try:
        with Reader(run) as reader:
            definition, trials, curves = reader.definition(), reader.trials("search"), reader.curves()
    except RecordError as error:
        raise WarmStartError(f"--warm-start takes the folder of a run, but {error}") from None
    _require_comparable(experiment, run, definition, digest)
    found: dict[str, list[dict[str, Any] | str]] = {arm: [] for arm in experiment.arms}
    # Other searches validated on the samples that a search is tested on: it learns from those of its number alone.
    is_nested = definition.data.test_parts is not None
    for trial in trials:
        for arm in experiment.arms:
            if trial.state not in (State.COMPLETED, State.STOPPED):
                found[arm].append(f"it is {trial.state.lower()}")
                continue
            fitting = _fitting(experiment, arm, trial)
            if isinstance(fitting, str):
                found[arm].append(fitting)
            elif outcome := _to_study_trial(trial, curves.get(trial.trial, {}), experiment, definition):
                found[arm].append(
                    {"run": run.name, **outcome, "params": fitting[0], "distributions": fitting[1]}
                    | ({"search": trial.search} if is_nested else {})
                )
            else:
                found[arm].append("it reported nothing within this budget")
    return str(run), len(trials), found, [OF_ITS_NUMBER] if is_nested else []


def _of_source(experiment: Experiment, source: Source) -> tuple[dict[str, list[dict[str, Any] | str]], list[str]]:
    """({arm: trials as JSON, or why they do not fit}, notes) of what another tool ran."""
    found = {
        arm: [study_trial(experiment, arm, trial, source.name) for trial in source.trials] for arm in experiment.arms
    }
    notes = list(source.notes)
    if others := unused(experiment, source.trials):
        notes.append(f"not used: {some_of(others)}, which this sweep neither searches nor fixes")
    if silent := _unsaid(experiment, source.trials):
        notes.append(f"taken to be as here, as it does not say: {some_of(silent)}")
    return found, notes


def _unsaid(experiment: Experiment, trials: Iterable[EarlierTrial]) -> list[str]:
    """What arms fix, and the trials do not name."""
    said = {name for trial in trials for name in trial.params}
    return sorted({name for arm in experiment.arms for name in experiment.fixes(arm)} - said)


def _require_comparable(experiment: Experiment, run: Path, definition: Definition, digest: str | None) -> None:
    if definition.objectives != experiment.objectives:
        raise WarmStartError(
            f"--warm-start needs runs of the same objective, but {run} has {definition.objectives} and this sweep "
            f"{experiment.objectives}"
        )
    if definition.folds != experiment.folds:
        raise WarmStartError(
            f"--warm-start needs runs with as many folds, but {run} has {definition.folds} and this sweep "
            f"{experiment.folds}"
        )
    if experiment.folds and definition.epochs != experiment.epochs:
        raise WarmStartError(
            f"--warm-start needs runs with as many epochs a fold, but {run} has {definition.epochs} and this sweep "
            f"{experiment.epochs}"
        )
    if definition.reports_per_epoch != experiment.reports_per_epoch:
        raise WarmStartError(
            f"--warm-start needs runs with as many reports an epoch, but {run} has {definition.reports_per_epoch} and "
            f"this sweep {experiment.reports_per_epoch}"
        )
    data = definition.data
    if digest is not None and data.digest != digest:
        raise WarmStartError(f"--warm-start needs runs on the same data, but {run} has other ones ({data.name})")


def _fitting(experiment: Experiment, arm: str, trial: Trial) -> tuple[dict[str, Any], dict[str, str]] | str:
    """The trial's parameters in the arm's space, and their distributions; or why it does not fit."""
    import optuna

    asks, given = experiment.trained_by.asks, json.loads(json.dumps(experiment.given(arm)))
    config = {**trial.params, **trial.config} if asks else trial.config
    for name, value in given.items():
        if name != "seed" and _widths_as_text(config.get(name)) != _widths_as_text(value):
            return f"{name} is {config.get(name)!r} there and {value!r} here"
    if asks:  # whatever it asked for there
        params = {name: value for name, value in trial.params.items() if name not in given}
        return params, {name: text for name, text in trial.distributions.items() if name in params}
    space = experiment.space_of(arm)
    if callable(space):
        try:
            fixed, _ = replayed(space, trial.params)
        except Exception as error:
            return str(error)
        params, kinds = dict(fixed.params), fixed.distributions
    else:
        kinds = distributions(space)
        params = {name: trial.params.get(name, _widths_as_text(trial.config.get(name))) for name in kinds}
        for name, kind in kinds.items():
            if not contains(kind, params[name]):
                return outside(name, kind)
    return params, {name: optuna.distributions.distribution_to_json(kind) for name, kind in kinds.items()}


def _widths_as_text(value: Any) -> Any:
    """Widths as the text that a choice would be."""
    return "-".join(map(str, value)) if isinstance(value, list) else value


def _to_study_trial(
    trial: Trial, curve: Mapping[int, ReportRow], experiment: Experiment, definition: Definition
) -> dict[str, Any] | None:
    """State, values and intermediate values of a trial as this sweep's study takes them; None when it has none.

    `definition`: of the run that the trial is of.
    """
    names, budget = list(experiment.objectives), experiment.trial_reports
    reports = [(step, row.metrics) for step, row in sorted(curve.items()) if step <= budget]
    rows = [(step, metrics) for step, metrics in reports if all(name in metrics for name in names)]
    if not rows:
        return None
    full_budget = trial.state is State.COMPLETED and definition.epochs == experiment.epochs
    step, last = rows[-1]
    values = [last[name] for name in names] if full_budget and step == budget else None
    if len(names) > 1:
        return {"state": "COMPLETE", "values": values, "intermediate": {}} if values else None
    intermediate = {step: metrics[names[0]] for step, metrics in rows}
    state = "COMPLETE" if values else "PRUNED"
    return {"state": state, "values": values or [last[names[0]]], "intermediate": intermediate}


def problems(
    experiment: Experiment, places: Iterable[str | Path], enqueue: Iterable[str], tracking_uri: str
) -> Iterator[str]:
    """What is wrong with both, as far as it shows before the data is read: a line each."""
    for check in (
        lambda: points(experiment, enqueue),
        lambda: earlier_trials(experiment, places, tracking_uri=tracking_uri),
    ):
        try:
            check()
        except WarmStartError as problem:
            yield str(problem)
