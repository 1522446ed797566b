"""Checks of spaces, arms and fixed values: their names, their ranges, and contradictions between them."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import Any

from rungwise.engine.experiment import space
from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.validation.ranges import problems as range_problems
from rungwise.trainable.protocol import BUDGET, RESERVED


def problems(experiment: Experiment) -> list[str]:
    arms, fixed = experiment.arm_objects, experiment.fixed
    lines = [] if arms else ["a sweep has at least one arm, but arms is empty"]
    is_function = callable(experiment.space_object)
    searched = {} if callable(experiment.space_object) else experiment.space_object
    lines += [
        f"{name} is the sweep's budget, not a hyperparameter; set it on the Sweep or as a flag"
        for name in BUDGET
        if any(name in where for where in (fixed, *arms.values())) or (name in searched and name != "epochs")
    ]
    if (budgets := searched.get("epochs")) is not None and space.is_distribution(budgets):
        lines += _budget_problems(experiment, budgets)
    for arm in arms:
        fixes = experiment.fixes(arm)
        lines += [
            f"an arm must not contradict fixed, but arm {arm!r} says {name}={value!r} and fixed {fixed[name]!r}"
            for name, value in fixes.items()
            if name in fixed and fixed[name] != value
        ]
        ranges = sorted(arms[arm].keys() - fixes.keys())
        if ranges and experiment.trained_by.asks:
            lines.append(f"an arm of an objective fixes values, but arm {arm!r} has a range for {', '.join(ranges)}")
        elif is_function and ranges:
            lines.append(
                f"an arm may search a range of its own when the space is a dict, but the space is a function and arm "
                f"{arm!r} has one for {', '.join(ranges)}"
            )
        given = experiment.given(arm)
        training = experiment.trained_by
        lines += [line for line in training.problems(given) if line not in lines]
        ranges_of_arm = experiment.space_of(arm)
        if not callable(ranges_of_arm):  # which names a function of a trial gives may differ from trial to trial
            lacking = training.missing({*given, *ranges_of_arm, *RESERVED})
            lines += [line for name in lacking if (line := f"{name} must be searched, fixed or in an arm") not in lines]
        model = {
            name: value for name, value in given.items() if name == "model" and not training.problems({name: value})
        }
        legal = {name: value for name, value in given.items() if not training.problems({**model, name: value})}
        lines += [line for line in range_problems(experiment.space_of(arm), legal, training) if line not in lines]
    return lines


def _budget_problems(experiment: Experiment, budgets: Any) -> list[str]:
    """Of a search over `epochs`, a trial's own budget: rungs compare trials at equal epochs, up to --epochs."""
    try:
        values = space.values(budgets)
    except ValueError:  # of a bad range, which `ranges.problems` describes
        return []
    if any(isinstance(value, str | bool) or value != int(value) or value < 1 for value in values):
        return ["a searched budget must be whole numbers of epochs from 1 up; say IntDistribution"]
    if max(values, default=0) > experiment.epochs:
        return [f"a searched budget must be at most --epochs {experiment.epochs}, but goes up to {max(values):g}"]
    return []


def name_problems(experiment: Experiment) -> list[str]:
    """Names that the record would hold in another form, so that a later driver would not know them again."""
    lines = space.unnameable(
        [("a sweep's name", experiment.sweep), *(("an arm's name", arm) for arm in experiment.arms)]
    )
    lines += [f"an arm's name must not be blank, but got {arm!r}" for arm in experiment.arms if not arm.strip()]
    searched = experiment.space_object
    ranges = space.suggested(searched) if callable(searched) else [searched]
    return lines + [
        line
        for given in (*ranges, experiment.fixed, *experiment.arm_objects.values())
        for line in space.misnamed(given)
    ]


def duplicate_keys(script: Path) -> list[str]:
    """Names given twice in a dict that the script writes into `Sweep(...)`: Python keeps the last, in silence."""
    if script.suffix != ".py" or not script.is_file():
        return []  # typed at a prompt
    lines = []
    calls = [node for node in ast.walk(ast.parse(script.read_bytes())) if isinstance(node, ast.Call)]
    for keyword in [keyword for call in calls if ast.unparse(call.func).endswith("Sweep") for keyword in call.keywords]:
        if isinstance(keyword.value, ast.Dict):
            names = Counter(key.value for key in keyword.value.keys if isinstance(key, ast.Constant))
            lines += [f"a name must be given once, but {keyword.arg} says {name!r} twice (line {keyword.value.lineno})"
                      for name, times in names.items() if times > 1]  # fmt: skip
    return lines
