"""The search space: which hyperparameters are searched, and between which bounds.

A space is a dict of distributions, or a define-by-run function of an Optuna trial that returns the hyperparameters
(https://optuna.readthedocs.io, "Pythonic search space"), for widths per layer and other conditions.

The three distributions here have the names and arguments of `optuna.distributions`, which are accepted too. They
differ in one thing: a bad range does not raise where it is written, but is reported by `problems` together with
everything else that is wrong with the sweep. They also keep Optuna's import out of `--help`.
"""

from __future__ import annotations

import inspect
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainable import config as hyper

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FixedTrial, Trial

Scalar = bool | int | float | str | None


@dataclass(frozen=True)
class FloatDistribution:
    """A real number in [low, high]; uniform, or uniform in its logarithm, or on a grid of `step`."""

    low: float
    high: float
    log: bool = False
    step: float | None = None


@dataclass(frozen=True)
class IntDistribution:
    """A whole number in [low, high], both included."""

    low: int
    high: int
    log: bool = False
    step: int = 1


@dataclass(frozen=True)
class CategoricalDistribution:
    """One of `choices`: booleans, numbers, strings."""

    choices: Sequence[Scalar]


Distribution = FloatDistribution | IntDistribution | CategoricalDistribution
DefineByRun = Callable[["Trial"], Mapping[str, Any]]
Space = Mapping[str, "Distribution | BaseDistribution"] | DefineByRun

PROBES = 16  # random draws of a define-by-run space that are checked before the sweep starts


def is_distribution(value: object) -> bool:
    """Whether a value is a range or a choice, ours or Optuna's."""
    return isinstance(value, Distribution) or any(cls.__name__ == "BaseDistribution" for cls in type(value).__mro__)


def to_optuna(space: Space) -> dict[str, BaseDistribution] | DefineByRun:
    """The same space as Optuna takes it. Raises ValueError for a bad range, as Optuna does."""
    return space if callable(space) else distributions(space)


def distributions(space: Mapping[str, Distribution | BaseDistribution]) -> dict[str, BaseDistribution]:
    """A dict of distributions as Optuna's."""
    return {name: _to_optuna(distribution) for name, distribution in space.items()}


def _to_optuna(distribution: Distribution | BaseDistribution) -> BaseDistribution:
    from optuna import distributions as od

    match distribution:
        case FloatDistribution(low, high, log, step):
            return od.FloatDistribution(low, high, log=log, step=step)
        case IntDistribution(low, high, log, step):
            return od.IntDistribution(low, high, log=log, step=step)
        case CategoricalDistribution(choices):
            return od.CategoricalDistribution(tuple(choices))
    return distribution


def replayed(function: DefineByRun, params: Mapping[str, Any]) -> FixedTrial:
    """The trial in which `function` was suggested `params`. Raises what the function does, and for a value out of
    range, of which Optuna only warns, that warning."""
    import optuna

    trial = optuna.trial.FixedTrial(dict(params))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function(trial)  # type: ignore[arg-type]  # it has the methods of a Trial
    return trial


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether `value` lies in the range, or is one of the choices."""
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except (ValueError, TypeError):
        return False


def to_json(space: Space) -> dict[str, Any]:
    """What the record keeps of a space: {name: distribution as JSON}, or a function's name and source."""
    if callable(space):
        return {"function": getattr(space, "__name__", repr(space)), "source": source(space)}
    from optuna.distributions import distribution_to_json

    return {name: distribution_to_json(_to_optuna(distribution)) for name, distribution in space.items()}


def source(function: Callable[..., object]) -> str:
    try:
        return textwrap.dedent(inspect.getsource(function))
    except OSError:  # typed at a prompt
        return repr(function)


def problems(space: Space, given: Mapping[str, Any]) -> list[str]:
    """Everything wrong with a space, given the hyperparameters that the sweep and one arm fix: one line each.

    Both ends of every range, and every choice, must be a legal `Config`; a function is tried `PROBES` times.
    """
    if callable(space):
        return _probe(space, given)
    found: list[str] = []
    if not space:
        found.append("a space holds at least one hyperparameter, but got an empty dict")
    for name, distribution in space.items():
        if name in given and name in hyper.config_class(given).model_fields:
            found.append(f"a hyperparameter is either searched or fixed, but {name} is both (fixed={given[name]!r})")
        if wrong := _range_problem(name, distribution):
            found.append(wrong)
            continue
        for value in ends(distribution):
            found += [line for line in hyper.problems({**given, name: value}) if line not in found]
    return found


def _range_problem(name: str, distribution: Distribution | BaseDistribution) -> str | None:
    match distribution:
        case FloatDistribution(low, high, log, _) | IntDistribution(low, high, log, _):
            if low > high:
                return f"{name}: low <= high must hold, but got low={low}, high={high}"
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
        _to_optuna(distribution)
    except ValueError as error:
        return f"{name}: {error}"
    return None


def ends(distribution: Distribution | BaseDistribution) -> list[Any]:
    """Both ends of a range, all choices of a choice. Raises ValueError for a bad range."""
    from optuna.distributions import CategoricalDistribution as Choice

    known = _to_optuna(distribution)
    if isinstance(known, Choice):
        return list(known.choices)
    return [known.low, known.high]  # type: ignore[attr-defined]


def _probe(function: DefineByRun, given: Mapping[str, Any]) -> list[str]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # not a line for the study
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found: list[str] = []
    for _ in range(PROBES):
        try:
            values = dict(function(study.ask()))
        except optuna.TrialPruned:  # the function's word for a point that will not do
            continue
        except Exception as error:
            return [f"the space function {getattr(function, '__name__', '')!r} raised {type(error).__name__}: {error}"]
        found += [
            f"a hyperparameter is either searched or fixed, but {name} is both (fixed={given[name]!r})"
            for name in values.keys() & given.keys()
        ]
        found += hyper.problems({**given, **values})
    return list(dict.fromkeys(found))
