"""A trial that another tool ran, and how it fits into this sweep's space."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.space import contains, distributions, replayed
from rungwise.errors import RungwiseError

BUDGET = ("epochs", "seed")  # what is no hyperparameter, although a trial may name it


class WarmStartError(RungwiseError, ValueError):
    """A point, a run or a study that this sweep cannot start from; the message is one line."""


@dataclass(frozen=True, slots=True)
class EarlierTrial:
    """A trial that another tool ran."""

    params: Mapping[str, Any]  # by name; numbers may be text, as in MLflow
    values: Mapping[str, float]  # {metric: value at its end}
    left_out: str | None = None  # why it cannot be taken, whatever the space
    distributions: Mapping[str, str] = field(default_factory=dict)  # Optuna's as JSON, where they are known


@dataclass(frozen=True, slots=True)
class Source:
    """What lies in one place: the trials, and what was decided in reading them, a line each."""

    name: str
    trials: list[EarlierTrial]
    notes: tuple[str, ...] = ()


def study_trial(experiment: Experiment, arm: str, trial: EarlierTrial, source: str) -> dict[str, Any] | str:
    """The trial as the record keeps it for this arm's studies; or why it does not fit.

    Parameters are matched by name. What the arm fixes must be the same where the trial says it.
    """
    if trial.left_out:
        return trial.left_out
    values = []
    for name in experiment.objectives:
        value = trial.values.get(name, math.nan)
        if not math.isfinite(value):
            return f"it has no finite {name}"
        if name.endswith("accuracy") and not 0 <= value <= 1:
            return f"{name} is {value:g} there, and a fraction of 1 here"
        values.append(value)
    if (epochs := trial.params.get("epochs")) is not None and _number(epochs) != experiment.epochs:
        return f"it trained for {epochs} epochs, and trials here for {experiment.epochs}"
    given = json.loads(json.dumps(experiment.given(arm)))
    for name, value in given.items():
        if name in trial.params and name not in BUDGET and not _is_same(trial.params[name], value):
            return f"{name} is {trial.params[name]!r} there and {value!r} here"
    fitting = _fitting(experiment, arm, trial, given)
    if isinstance(fitting, str):
        return fitting
    params, kinds = fitting
    return {
        "run": source, "state": "COMPLETE", "values": values, "intermediate": {}, "params": params,
        "distributions": kinds,
    }  # fmt: skip


def unused(experiment: Experiment, trials: Iterable[EarlierTrial]) -> list[str]:
    """Parameters of the trials that this sweep neither searches nor fixes."""
    known: set[str] = set()
    for arm in experiment.arms:
        space = experiment.space_of(arm)
        if callable(space) or experiment.trained_by.asks:
            return []
        known |= {*space, *experiment.given(arm)}
    return sorted({name for trial in trials for name in trial.params} - known - {*BUDGET})


def outside(name: str, kind: Any) -> str:
    """Why a trial does not fit whose value is not in the distribution; the same for all such trials."""
    from optuna.distributions import CategoricalDistribution

    if isinstance(kind, CategoricalDistribution):
        return f"{name} is none of {', '.join(map(str, kind.choices))}"
    steps = f" in steps of {kind.step:g}" if kind.step not in (None, 1) else ""
    return f"{name} lies outside {kind.low:g} to {kind.high:g}{steps}"


def _fitting(
    experiment: Experiment, arm: str, trial: EarlierTrial, given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]] | str:
    """(parameters, their distributions as JSON), or why there are none."""
    import optuna

    if experiment.trained_by.asks:  # whatever it asked for there
        if trial.distributions.keys() < trial.params.keys():
            return "its ranges are not known, and those of an objective are known only while it runs"
        kept = {name: value for name, value in trial.params.items() if name not in given}
        return kept, {name: trial.distributions[name] for name in kept}
    space = experiment.space_of(arm)
    if callable(space):
        try:
            fixed, _ = replayed(space, {name: _number(value) for name, value in trial.params.items()})
        except Exception as error:  # whatever the user's function raises
            return str(error)
        params, kinds = dict(fixed.params), fixed.distributions
    else:
        kinds, params = distributions(space), {}
        for name, kind in kinds.items():
            if name not in trial.params:
                return f"it has no {name}"
            value = _of_kind(kind, trial.params[name])
            if not contains(kind, value):
                return outside(name, kind)
            params[name] = value
    return params, {name: optuna.distributions.distribution_to_json(kind) for name, kind in kinds.items()}


def _of_kind(kind: Any, value: Any) -> Any:
    """The value as the distribution has it: a number of a text, a choice that is written alike; NaN of what is none."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(kind, CategoricalDistribution):
        return next((choice for choice in kind.choices if _is_same(choice, value)), value)
    number = _number(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or abs(number) > sys.float_info.max:
        return math.nan
    return int(number) if isinstance(kind, IntDistribution) and float(number).is_integer() else float(number)


def _number(value: Any) -> Any:
    """The number or truth value that a text says, or that a float is; anything else as it is."""
    if isinstance(value, str):
        try:
            value = json.loads(value.lower() if value in ("True", "False") else value)
        except (ValueError, RecursionError):
            return value
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _is_same(a: Any, b: Any) -> bool:
    """Whether two values are written alike; widths [128, 64] are 128-64."""
    texts = ["-".join(map(str, value)) if isinstance(value, list | tuple) else str(_number(value)) for value in (a, b)]
    return texts[0] == texts[1]
