"""How a search begins when something is known: points to try first (`--enqueue`), trials of earlier runs (`--like`).

Both are entered in the record when the run begins, so that a resumed search knows the same.
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
from rungwise.errors import RungwiseError
from rungwise.results.record.definition import Definition
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import RecordError, ReportRow, State, Trial
from rungwise.trainable.config import unknown

Points = dict[str, list[dict[str, Any]]]  # arm -> what it tries first


class Cold(RungwiseError, ValueError):
    """What was given is of no use to this sweep: one line."""


def points(experiment: Experiment, texts: Iterable[str]) -> Points:
    """Each `--enqueue` for each arm, without what the arm fixes. Raises Cold: the rule, the value, the valid range."""
    found: Points = {arm: [] for arm in experiment.arms}
    for text in texts:
        try:
            point = json.loads(text)
        except json.JSONDecodeError as error:
            raise Cold(f"--enqueue takes a JSON object, but got {text!r} ({error})") from None
        if not isinstance(point, dict) or not point:
            raise Cold(f"--enqueue takes a JSON object such as '{{\"lr\": 0.01}}', but got {text!r}")
        for arm in experiment.arms:
            mine = {name: value for name, value in point.items() if name not in experiment.fixes(arm)}
            if mine:
                found[arm].append(_checked(experiment.space_of(arm), mine))
    return found


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
        raise Cold(f"--enqueue must lie in the space, but got {json.dumps(point)}: {error}") from None
    if strange := [name for name in point if name not in trial.params]:
        raise Cold(f"--enqueue: {unknown('hyperparameter of the space', strange[0], list(trial.params))}")
    for name, value in point.items():
        if not contains(trial.distributions[name], value):
            raise Cold(f"--enqueue: {name} must lie in {trial.distributions[name]}, but got {value!r}")
    return point


def earlier(experiment: Experiment, runs: Iterable[Path], digest: str | None = None) -> dict[str, list[Any]]:
    """{arm: trials of `runs` that could have been its own}, as JSON: what is searched lies in range, what is fixed is
    equal. One that ran for the same budget is COMPLETE, another one counts with what it reported up to this budget.

    Raises Cold for a run that cannot be read, of another objective or other data (when `digest` is given), or of which
    no trial fits.
    """
    found: dict[str, list[Any]] = {arm: [] for arm in experiment.arms}
    for run in runs:
        try:
            with Reader(run) as reader:
                definition, trials, curves = reader.definition(), reader.trials("search"), reader.curves()
        except RecordError as error:
            raise Cold(f"--like takes the folder of a run, but {error}") from None
        _comparable(experiment, run, definition, digest)
        why, before = Counter[str](), sum(map(len, found.values()))
        for trial in trials:
            if trial.state not in (State.COMPLETED, State.STOPPED):
                continue
            for arm in experiment.arms:
                fitting = _fitting(experiment, arm, trial)
                if isinstance(fitting, str):
                    why[fitting] += 1
                elif one := _told(trial, curves.get(trial.trial, {}), experiment, definition):
                    found[arm].append({"run": run.name, **one, "params": fitting[0], "distributions": fitting[1]})
        if sum(map(len, found.values())) == before:
            common = f", most because {why.most_common(1)[0][0]}" if why else ""
            raise Cold(f"--like: none of the {len(trials)} trials of {run} fits into this space{common}")
    return found


def _comparable(experiment: Experiment, run: Path, definition: Definition, digest: str | None) -> None:
    theirs = definition.objectives
    if theirs != experiment.objectives:
        raise Cold(
            f"--like needs runs of the same objective, but {run} has {theirs} and this sweep {experiment.objectives}"
        )
    if definition.reports_per_epoch != experiment.reports_per_epoch:
        raise Cold(
            f"--like needs runs with as many reports an epoch, but {run} has {definition.reports_per_epoch} and "
            f"this sweep {experiment.reports_per_epoch}"
        )
    data = definition.data
    if digest is not None and data.digest != digest:
        raise Cold(f"--like needs runs on the same data, but {run} has other ones ({data.name})")


def _fitting(experiment: Experiment, arm: str, trial: Trial) -> tuple[dict[str, Any], dict[str, str]] | str:
    """The trial's parameters in the arm's space, and their distributions; or why it does not fit."""
    import optuna

    for name, value in json.loads(json.dumps(experiment.given(arm))).items():
        if name != "seed" and _plain(trial.config.get(name)) != _plain(value):
            return f"{name} is {trial.config.get(name)!r} there and {value!r} here"
    space = experiment.space_of(arm)
    if callable(space):
        try:
            fixed, _ = replayed(space, trial.params)
        except Exception as error:
            return str(error)
        params, kinds = dict(fixed.params), fixed.distributions
    else:
        kinds = distributions(space)
        params = {name: trial.params.get(name, _plain(trial.config.get(name))) for name in kinds}
        for name, kind in kinds.items():
            if not contains(kind, params[name]):
                return f"{name} is {params[name]!r} there, and not in {kind}"
    return params, {name: optuna.distributions.distribution_to_json(kind) for name, kind in kinds.items()}


def _plain(value: Any) -> Any:
    """Widths as the text that a choice would be."""
    return "-".join(map(str, value)) if isinstance(value, list) else value


def _told(
    trial: Trial, curve: Mapping[int, ReportRow], experiment: Experiment, definition: Definition
) -> dict[str, Any] | None:
    """State, values and intermediate values of a trial as this sweep's study takes them; None when it has none.

    `definition`: of the run that the trial is of.
    """
    names, budget = list(experiment.objectives), experiment.epochs * experiment.reports_per_epoch
    seen = {step: row.metrics for step, row in sorted(curve.items()) if step <= budget}
    rows = [(step, metrics) for step, metrics in seen.items() if all(name in metrics for name in names)]
    if not rows:
        return None
    whole = trial.state is State.COMPLETED and definition.epochs == experiment.epochs
    step, last = rows[-1]
    values = [last[name] for name in names] if whole and step == budget else None
    if len(names) > 1:
        return {"state": "COMPLETE", "values": values, "intermediate": {}} if values else None
    intermediate = {step: metrics[names[0]] for step, metrics in rows}
    state = "COMPLETE" if values else "PRUNED"
    return {"state": state, "values": values or [last[names[0]]], "intermediate": intermediate}


def problems(experiment: Experiment, like: Iterable[Path], enqueue: Iterable[str]) -> Iterator[str]:
    """What can be known to be wrong with both before the data is read."""
    for ask in (lambda: points(experiment, enqueue), lambda: earlier(experiment, like)):
        try:
            ask()
        except Cold as problem:
            yield str(problem)
