"""Checks of a search space: its ranges, its choices, and every configuration that it can suggest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rungwise.distributions import (
    CategoricalDistribution,
    Distribution,
    FloatDistribution,
    IntDistribution,
    Scalar,
)
from rungwise.engine.experiment.space import (
    PROBES,
    DefineByRun,
    Space,
    distribution_to_optuna,
    has_ends,
    is_distribution,
    named,
)
from rungwise.engine.experiment.space import values as values_of
from rungwise.trainable.faults import ordinary, reason
from rungwise.trainable.protocol import Training

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def problems(space: Space, given: Mapping[str, Any], training: Training) -> list[str]:
    """Everything wrong with a space, given the hyperparameters that the sweep and one arm fix: one line each.

    Every choice and, of a range, both ends and what lies between (all of it, or `SAMPLES` of it) must be a legal
    configuration of the training; a function is tried `PROBES` times.
    """
    if callable(space):
        return _probe(space, given, training)
    lines: list[str] = []
    if not space:
        lines.append("a space must contain at least one hyperparameter, but got an empty dict")
    whole = training.whole_numbers(given)
    for name, distribution in space.items():
        if name in given:
            lines.append(f"a hyperparameter is either searched or fixed, but {name} is both (fixed={given[name]!r})")
        if wrong := _range_problem(name, distribution):
            lines.append(wrong)
            continue
        if name in whole and _is_real(distribution):
            lines.append(f"{name} takes whole numbers, but its range is one of real numbers; say IntDistribution")
            continue
        said = len(lines)
        for index, value in enumerate(values_of(distribution)):
            if index >= 2 and len(lines) > said and has_ends(distribution):
                break  # a line for each end, or for the first value between that will not do
            lines += [line for line in training.problems({**given, name: value}) if line not in lines]
    return lines


def _is_real(distribution: Distribution | BaseDistribution) -> bool:
    """Whether the range holds numbers that are not whole."""
    real = type(distribution).__name__ == "FloatDistribution"
    return real and any(value != int(value) for value in values_of(distribution))


def _type_problem(name: object, distribution: object) -> str | None:
    """What a range is made of that is none, before anything is compared."""
    if not isinstance(name, str):
        return f"a hyperparameter's name must be text, but got {name!r}"
    if not is_distribution(distribution):
        return (
            f"{name}: a range must be a FloatDistribution, an IntDistribution or a CategoricalDistribution, but got "
            f"{named(distribution)}"
        )
    match distribution:
        case CategoricalDistribution(choices):
            if not isinstance(choices, list | tuple):
                return f"{name}: choices must be a list, but got {named(choices)}"
            for choice in choices:
                if not isinstance(choice, Scalar):
                    way = f"; write {'-'.join(map(str, choice))!r}" if isinstance(choice, list | tuple) else ""
                    return f"{name}: a choice must be a boolean, a number or text, but got {named(choice)}{way}"
            if len(set(choices)) < len(choices):
                return f"{name}: choices must differ, but got {named(choices)}"
        case FloatDistribution(low, high, log, step) | IntDistribution(low, high, log, step):
            whole = isinstance(distribution, IntDistribution)
            kinds, words = (int, "a whole number") if whole else (int | float, "a number")
            for what, value in (("low", low), ("high", high), ("step", step)):
                if what == "step" and value is None and not whole:
                    continue
                if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
                    return f"{name}: {what} must be {words}, but got {named(value)}"
            if log not in (True, False):
                return f"{name}: log must be True or False, but got {named(log)}"
    return None


def _range_problem(name: str, distribution: Distribution | BaseDistribution) -> str | None:
    if wrong := _type_problem(name, distribution):
        return wrong
    match distribution:
        case FloatDistribution(low, high, log, _) | IntDistribution(low, high, log, _):
            if low > high:
                return f"{name}: low must be at most high, but got low={low}, high={high}"
            if log and low <= 0:
                return (
                    f"{name}: a log range cannot contain 0, but got low={low}, high={high}; "
                    "start above 0 and make 0 an arm of its own"
                )
            if log and distribution.step not in (None, 1):
                return f"{name}: log and step exclude each other, but got log=True, step={distribution.step}"
        case CategoricalDistribution(choices):
            if not choices:
                return f"{name}: choices must not be empty"
    try:
        distribution_to_optuna(distribution)
    except ValueError as error:
        return f"{name}: {error}"
    return None


def _probe(function: DefineByRun, given: Mapping[str, Any], training: Training) -> list[str]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # not a line for the study
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    lines: list[str] = []
    for _ in range(PROBES):
        try:
            with ordinary():
                values = dict(function(study.ask()))
        except optuna.TrialPruned:  # the function's word for a point that will not do
            continue
        except Exception as error:
            return [f"the space function {getattr(function, '__name__', '')!r} raised {reason(error)}"]
        lines += [
            f"a hyperparameter is either searched or fixed, but {name} is both (fixed={given[name]!r})"
            for name in values.keys() & given.keys()
        ]
        lines += training.problems({**given, **values})
    return list(dict.fromkeys(lines))
