"""What each field of a `Sweep` may hold. Looked at first, so that nothing else meets None, text or a class instead.

NumPy's numbers have become Python's by then (`Sweep`).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from rungwise.engine.experiment.space import is_distribution, named
from rungwise.engine.experiment.sweep import TRAININGS, Sweep
from rungwise.trainable.data.table.columns import Columns

Rule = tuple[Callable[[Any], bool], str]  # whether a value is one, and what it must be


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return _whole(value) or (isinstance(value, float) and not math.isinf(value))  # a NaN is refused with the rule


def _text(value: object) -> bool:
    return isinstance(value, str)


def _name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _mapping(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def _words(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_text, value)) and bool(value[0])


def _functions(value: object) -> bool:
    return _mapping(value) and all(map(callable, value.values()))  # type: ignore[attr-defined]


def _constraints(value: object) -> bool:
    return _mapping(value) and all(_limit(limit) for limit in value.values())  # type: ignore[attr-defined]


def _limit(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and value[0] in ("<=", ">=") and _finite(value[1])


def _finite(value: object) -> bool:
    return _number(value) and math.isfinite(value)  # type: ignore[arg-type]


def _function(value: object) -> bool:
    return callable(value) and not inspect.isclass(value)


def _or_none(rule: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or rule(value)


TEXT: Rule = (_text, "text")
WHOLE: Rule = (_whole, "a whole number")
NUMBER: Rule = (_number, "a number")
OPTIONS: Rule = (_mapping, "a dict of names and values")
SAMPLERS = "a sampler's name, a function of a seed, or a dict of one for each arm"
RULES: dict[str, Rule] = {
    "name": TEXT,
    "space": (lambda value: _mapping(value) or _function(value), "a dict of ranges, or a function of a trial"),
    "question": (_or_none(_text), "text"),
    "fixed": OPTIONS,
    "arms": OPTIONS,
    "model": (lambda value: _text(value) or callable(value), "a model's name, or a function of a Config"),
    "train": (_or_none(callable), "a function of (config, trial)"),
    "objective": (_or_none(_function), "a function of a trial"),
    "program": (_or_none(_words), "a list of words, such as ['python', 'train.py']"),
    "program_arguments": (_or_none(_text), "text"),
    "test": (_or_none(lambda value: callable(value) or _words(value)), "a function of (config, trial), or a program"),
    "data": (
        _or_none(lambda value: _text(value) or callable(value)),
        "a dataset's name, or a function without arguments",
    ),
    "columns": (lambda value: isinstance(value, Columns), "Columns(...), which rungwise exports"),
    "preprocess": TEXT,
    "metrics": (_functions, "a dict of names and functions of (outputs, targets)"),
    "loss": (_or_none(callable), "a function of (outputs, targets)"),
    "optimizer": (_or_none(callable), "a function of (model, config); a name of ours is a hyperparameter"),
    "schedule": (_or_none(callable), "a function of a share of all steps; a name of ours is a hyperparameter"),
    "data_per_worker": (lambda value: isinstance(value, bool), "True or False"),
    "metric": (_name, "a metric's name"),
    "mode": (_or_none(_text), "'max' or 'min', or left out"),
    "objectives": (_mapping, "a dict of metrics and 'max' or 'min', or a list of metrics"),
    "constraints": (_constraints, 'a dict of metrics and limits, such as {"latency_ms": ("<=", 5)}'),
    "max_parameters": (_or_none(_whole), "a whole number"),
    "sampler": (lambda value: _text(value) or _mapping(value) or not isinstance(value, type | None), SAMPLERS),
    "sampler_options": OPTIONS,
    "scheduler": TEXT,
    "patience": (_or_none(_number), "a number"),
    "trial_timeout": (_or_none(_number), "a number of minutes"),
    "confirm_configs": (_or_none(_whole), "a whole number"),
    "confirm_seeds": (_or_none(_whole), "a whole number"),
    "refit_seeds": (_or_none(_whole), "a whole number"),
    "untuned_seeds": (_or_none(_whole), "a whole number"),
    "trials": WHOLE,
    "searches": (_or_none(_whole), "a whole number"),
    "worth": (_or_none(_number), "a number"),
    "epochs": WHOLE,
    "folds": WHOLE,
    "reports_per_epoch": WHOLE,
    "grace": NUMBER,
    "eta": NUMBER,
}


def problems(sweep: object) -> list[str]:
    """One line for each field that holds what it cannot."""
    if not isinstance(sweep, Sweep):
        return [f"main takes a Sweep, but got {named(sweep)}"]
    lines = []
    for each in fields(sweep):
        fits, words = RULES[each.name]
        if not fits(value := getattr(sweep, each.name)):
            lines.append(f"{each.name} must be {words}, but got {named(value)}")
    if not lines:
        lines = _training_problems(sweep)
        lines += [line for arm, says in sweep.arms.items() if (line := _arm_problem(arm, says))]
        if sweep.metric in sweep.objectives:
            lines.append(f"objectives must differ, but {sweep.metric} is listed twice")
        lines += [line for where, values in _values(sweep) for line in _value_problems(where, values)]
    return lines


def _training_problems(sweep: Sweep) -> list[str]:
    """What does not go together of a training of the user's own."""
    given = sweep.trainings
    if len(given) > 1:
        return [f"a sweep has one training, but got {' and '.join(given)}; leave one of them out"]
    lines = []
    if not given and (callable(sweep.data) or sweep.test is not None or sweep.data_per_worker):
        ways = ", ".join(f"{name}=" for name in TRAININGS)
        lines.append(f"test, data_per_worker and data as a function are for a training of your own: say one of {ways}")
    if given and sweep.data_per_worker and not callable(sweep.data):
        lines.append(f"data_per_worker is for data as a function, but data is {sweep.data!r}; leave it out")
    functions = {name: getattr(sweep, name) for name in ("train", "objective", "test")}
    lines += [
        f"{name} must be a function or a generator, but is async; call asyncio.run(...) in a function of your own"
        for name, function in functions.items()
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    ]
    loop = [name for name in ("metrics", "loss", "optimizer", "schedule") if given and getattr(sweep, name)]
    lines += [
        f"{name} is for the built-in training, and {given[0]} is your own: leave one of them out" for name in loop
    ]
    if "program" not in given and sweep.program_arguments is not None:
        lines.append("program_arguments is for a program, but none is given")
    if "objective" in given and (callable(sweep.space) or sweep.space):
        lines.append("an objective asks for its hyperparameters by trial.suggest_float and so on; leave space out")
    return lines


def _arm_problem(arm: str, says: object) -> str | None:
    return None if _mapping(says) else f"arm {arm!r} must be a dict of names and values, but got {named(says)}"


def _values(sweep: Sweep) -> list[tuple[str, Mapping[str, Any]]]:
    arms = [(f"arm {arm!r}", says) for arm, says in sweep.arms.items() if _mapping(says)]
    return [("fixed", sweep.fixed), *arms, ("sampler_options", sweep.sampler_options)]


def _value_problems(where: str, values: Mapping[str, Any]) -> list[str]:
    """What the record could not keep, as it is no JSON."""
    return [
        f"{where}: {name} must be a finite number, text, a boolean or a list of them, but got {named(value)}"
        for name, value in values.items()
        if not _json(value) and not (is_distribution(value) and where.startswith("arm "))
    ]


def _json(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_json, value))
    if isinstance(value, Mapping):
        return _mapping(value) and all(map(_json, value.values()))
    return value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))
