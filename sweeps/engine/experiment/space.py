"""The search space: which hyperparameters are searched, and between which bounds.

A space is a dict of distributions, or a define-by-run function of an Optuna trial that returns the hyperparameters
(https://optuna.readthedocs.io, "Pythonic search space"), for widths per layer and other conditions.

Its distributions are those of `rungwise.distributions`; Optuna's are accepted too.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from rungwise.distributions import (
    CategoricalDistribution,
    Distribution,
    FloatDistribution,
    IntDistribution,
)
from rungwise.results.io.paths import shown
from rungwise.text import DEEPEST, printable, size_problem
from rungwise.trainable.faults import ordinary

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FixedTrial, Trial

DefineByRun = Callable[["Trial"], Mapping[str, Any]]
Space = Mapping[str, "Distribution | BaseDistribution"] | DefineByRun

SAMPLES = 64  # values of a range that are checked, when it has more
PROBES = 16  # random draws of a define-by-run space that are checked before the sweep starts


def plain(value: Any) -> Any:
    """The value with Python's own numbers and text in place of NumPy's, torch's and those of an enumeration, in
    mappings, lists and ranges too."""
    if hasattr(value, "dtype") and getattr(value, "shape", None) == ():
        return value.item()
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Enum) and isinstance(value.value, bool | int | float | str):
        return value.value
    if type(value) is dict:
        return {plain(name): plain(one) for name, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if isinstance(value, Distribution):
        return replace(value, **{each.name: plain(getattr(value, each.name)) for each in fields(value)})
    return value


def is_distribution(value: object) -> bool:
    """Whether a value is a range or a choice, ours or Optuna's."""
    return isinstance(value, Distribution) or any(cls.__name__ == "BaseDistribution" for cls in type(value).__mro__)


def to_optuna(space: Space) -> dict[str, BaseDistribution] | DefineByRun:
    """The same space as Optuna takes it. Raises ValueError for a bad range, as Optuna does."""
    return space if callable(space) else distributions(space)


def distributions(space: Mapping[str, Distribution | BaseDistribution]) -> dict[str, BaseDistribution]:
    """A dict of distributions as Optuna's."""
    return {name: distribution_to_optuna(distribution) for name, distribution in space.items()}


def distribution_to_optuna(distribution: Distribution | BaseDistribution) -> BaseDistribution:
    from optuna import distributions as od

    match distribution:
        case FloatDistribution(low, high, log, step):
            return od.FloatDistribution(low, high, log=log, step=step)
        case IntDistribution(low, high, log, step):
            return od.IntDistribution(low, high, log=log, step=step)
        case CategoricalDistribution(choices):
            return od.CategoricalDistribution(tuple(choices))
    return distribution


def replayed(function: DefineByRun, params: Mapping[str, Any]) -> tuple[FixedTrial, dict[str, Any]]:
    """The trial in which `function` was suggested `params`, and what it makes of them. Raises what the function does,
    for a value out of range, of which Optuna only warns, that warning, and ValueError for a value of another type."""
    import optuna

    trial = optuna.trial.FixedTrial(dict(params))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = dict(function(trial))  # type: ignore[arg-type]  # it has the methods of a Trial
    for name, kind in trial.distributions.items():
        if not contains(kind, trial.params[name]):
            raise ValueError(f"{name} must be within {kind}, but is {trial.params[name]!r}")
    return trial, values


def suggest_value(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    """What the trial's study suggests for `name`; what it has suggested before, if it has. Raises what Optuna does."""
    from optuna import distributions as od

    match distribution:
        case od.FloatDistribution():
            return trial.suggest_float(
                name, distribution.low, distribution.high, log=distribution.log, step=distribution.step
            )
        case od.IntDistribution():
            return trial.suggest_int(
                name, distribution.low, distribution.high, log=distribution.log, step=distribution.step
            )
        case od.CategoricalDistribution():
            return trial.suggest_categorical(name, distribution.choices)
    raise TypeError(f"{name}: a range must be a float, an int or categories, but is {distribution}")


def asked_by_objective(_: Trial) -> dict[str, Any]:
    """The space of a sweep whose objective asks for its hyperparameters while it runs: nothing is suggested before."""
    return {}


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether `value` lies in the range, or is one of the choices; to Python True is 1, and here it is not."""
    from optuna import distributions as od

    try:
        number = distribution.to_internal_repr(value)
    except (ValueError, TypeError):  # of categories: none of them
        return False
    if isinstance(distribution, od.CategoricalDistribution):
        return isinstance(value, bool) == isinstance(distribution.to_external_repr(number), bool)
    if isinstance(value, bool) or not isinstance(distribution, od.FloatDistribution | od.IntDistribution):
        return False
    if not distribution.low <= number <= distribution.high:
        return False
    steps = (number - distribution.low) / (distribution.step or 1.0)
    return distribution.step is None or abs(steps - round(steps)) < 1e-8  # Optuna's own tolerance


def to_json(space: Space) -> dict[str, Any]:
    """What the record keeps of a space: {name: distribution as JSON}, or a function's name, its source, and a digest of
    what it makes of some draws, the same ones with the same Optuna: another source may be the same space.
    """
    if callable(space):
        kept = {"function": getattr(space, "__name__", repr(space)), "source": source(space)}
        drawn = _drawn(space)
        return kept if drawn != _drawn(space) else {**kept, **drawn}  # one that has random numbers of its own
    from optuna.distributions import distribution_to_json

    return {name: distribution_to_json(distribution_to_optuna(distribution)) for name, distribution in space.items()}


def source(function: Callable[..., object]) -> str:
    try:
        return textwrap.dedent(inspect.getsource(function))
    except OSError:  # typed at a prompt
        return repr(function)


def has_ends(distribution: Distribution | BaseDistribution) -> bool:
    return not hasattr(distribution, "choices")


def values(distribution: Distribution | BaseDistribution) -> list[Any]:
    """All choices; of a range both ends and up to `SAMPLES` values between, the whole range if it is a small one."""
    known: Any = distribution_to_optuna(distribution)
    if not has_ends(known):
        return list(known.choices)
    low, high, step = known.low, known.high, known.step
    if step is not None and not known.log:
        count = round((high - low) / step)
        near = range(min(count, SAMPLES // 2))  # neighbours too, where only each second one may be legal
        spread = (count * index // SAMPLES for index in range(SAMPLES))
        return list(dict.fromkeys([low, high, *(min(low + step * index, high) for index in sorted({*near, *spread}))]))
    share = [index / SAMPLES for index in range(1, SAMPLES)]
    if known.log:
        inner = [low * (high / low) ** part for part in share]
    else:
        inner = [low + (high - low) * part for part in share]
    if isinstance(low, int):
        inner = [round(value) for value in inner] + list(range(low, min(low + SAMPLES // 2, high)))
    return list(dict.fromkeys([low, high, *inner]))


def corners(space: Mapping[str, Distribution | BaseDistribution]) -> list[dict[str, Any]]:
    """The point of all low ends and first choices, and that of all high ends and last choices."""
    found = {name: values(distribution) for name, distribution in space.items()}
    low = {name: some[0] for name, some in found.items()}
    return [low, {name: some[1] if has_ends(space[name]) else some[-1] for name, some in found.items()}]


def _drawn(function: DefineByRun) -> dict[str, str]:
    import optuna

    found: list[Any] = []

    def seen(trial: Trial) -> Mapping[str, Any]:
        made = function(trial)
        found.append([dict(made), {name: repr(kind) for name, kind in trial.distributions.items()}])
        return made

    list(draws(seen, PROBES))
    text = json.dumps(found, sort_keys=True, default=repr)
    return {"drawn": hashlib.sha256(text.encode()).hexdigest(), "by": f"optuna {optuna.__version__}"}


def draws(function: DefineByRun, count: int) -> Iterator[dict[str, Any]]:
    """What a function makes of the first `count` random draws, without those that it refuses or cannot take."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # not a line for the study
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(count):
        values = None
        with contextlib.suppress(Exception), ordinary():  # `problems` says it
            values = dict(function(study.ask()))
        if values is not None:
            yield values


def suggested(function: DefineByRun) -> list[dict[str, Any]]:
    """What a function returns at its first random draws, and the ranges that it asks for there."""
    found: list[dict[str, Any]] = []

    def seen(trial: Trial) -> Mapping[str, Any]:
        made = function(trial)
        found.extend([dict(made), dict(trial.distributions)])
        return made

    list(draws(seen, PROBES))
    return found


def misnamed(given: Mapping[str, Any]) -> list[str]:
    """Names of hyperparameters, values and choices that the record would hold in another form: a line each."""
    names: list[tuple[str, object]] = []
    blank = ["a hyperparameter's name must not be blank"] if any(not str(name).strip() for name in given) else []
    for name, value in given.items():
        names.append(("a hyperparameter's name", name))
        names += [(f"a value of {printable(name)}", part) for part in getattr(value, "choices", [value])]
    return blank + unnameable(names) + _too_large(given)


def _too_large(given: Mapping[str, Any]) -> list[str]:
    """A line for each value, choice or bound that is more than the record takes."""
    lines = []
    for name, value in given.items():
        parts = getattr(value, "choices", [getattr(value, "low", value), getattr(value, "high", value)])
        if problem := size_problem(list(parts), DEEPEST - 1):
            lines.append(f"values of {printable(name)} {problem}")
    return lines


def unnameable(names: Iterable[tuple[str, object]]) -> list[str]:
    """A line for each (what it is, text) that is no name."""
    return [
        f"{what} must be one line without control characters or lone surrogates, but got {shown(name)}"
        for what, name in names
        if isinstance(name, str) and (printable(name) != name or "\n" in name or "\t" in name)
    ]


def named(value: object) -> str:
    """A value in a message: in one line, short, and with its type where that says more."""
    text = " ".join(repr(value).split())
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
