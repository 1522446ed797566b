"""Whether a run may be continued: differences between its definition and the requested one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from rungwise.engine.experiment import space
from rungwise.results.record.definition import Definition
from rungwise.results.record.types import Trial
from rungwise.results.record.writer import to_json

_MAY_CHANGE = {
    "trials",
    "searches",
    "until_sure",
    "worth",
    "order",
    "question",
    "sampler",
    "sampler_options",
}  # between two drivers of one run
_PROGRAM = {"program": "program", "arguments": "program_arguments", "test_program": "test"}  # {key: field of a Sweep}


def differences(before: Definition, now: Definition) -> list[str]:
    """What keeps `now` from continuing a run that was defined as `before`: 'key: old -> new', a line each."""
    kept, asked = before.to_json(), json.loads(to_json(now.to_json()))  # as the record holds it
    olds, news = _compared(kept, asked), _compared(asked, kept)
    lines = []
    for key in (olds.keys() | news.keys()) - _MAY_CHANGE:
        old, new = olds.get(key), news.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            if "drawn" in old and old["function"] == new.get("function"):
                lines.append(f"{key}: the function suggests other ranges or other values than when the run began")
                continue
            lines += [
                f"{key}.{name}: {old.get(name, 'absent')} -> {new.get(name, 'absent')}"
                for name in sorted(old.keys() | new.keys())
                if old.get(name) != new.get(name)
            ]
        else:
            lines.append(f"{key}: {old} -> {new}")
    return sorted(lines)


def program_changes(before: Definition, now: Definition) -> list[str]:
    """What of a program is another than when the run began, a line each; [] where the record does not say."""
    old, new = before.training, json.loads(to_json(now.training))
    if "program" not in old or "program" not in new:
        return []
    found = []
    for key, called in _PROGRAM.items():
        if (then := _words(old.get(key))) != (asked := _words(new.get(key))):
            found.append(f"{called}: {then} -> {asked}")
    files = old["files"], new["files"]
    changed = [name for name in files[0] if name in files[1] and files[0][name] != files[1][name]]
    return found + [f"the file {name} is another than when the run began" for name in changed]


def _words(said: object) -> str:
    return shlex.join(said) if isinstance(said, list) else "absent" if said is None else repr(said)


def _compared(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Without how its functions are written: of a space counts what it draws, where both know that, what a model builds
    is compared by `engine.experiment.own_models`, and a program by `program_changes`."""
    found = {"budget": "trials", **one}  # which the record leaves out
    if training := one.get("training"):
        found["training"] = {name: value for name, value in training.items() if name not in (*_PROGRAM, "files")}
        if "program" in training and "program" in other.get("training", {}):
            del found["training"]["name"]
    if isinstance(model := one.get("model"), dict):
        found["model"] = {"function": model["function"]}
    mine, theirs = one.get("space", {}), other.get("space", {})
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping) and "function" in mine:
        both = mine.get("by") is not None and mine.get("by") == theirs.get("by")
        left_out = {"source"} if both else {"drawn", "by"}
        found["space"] = {name: value for name, value in mine.items() if name not in left_out}
    return found


def widening_problems(wider: space.Space, before: Definition, trials: Iterable[Trial]) -> list[str]:
    """Why the space `wider` does not contain the one that the run had `before`; [] when it does.

    A dict must hold every old hyperparameter with a range around the old one; a function must be able to suggest
    every trial that was tried.
    """
    if callable(wider):
        return [problem for trial in trials if (problem := _cannot_suggest(wider, trial))]
    import optuna

    texts = before.space
    if isinstance(texts, str) or "source" in texts:
        return ["the old space is a function, the new one must be one too"]
    old = {name: optuna.distributions.json_to_distribution(text) for name, text in texts.items()}
    new = space.distributions(wider)
    lines = [f"{name}: the old space has it, the new one must too" for name in old.keys() - new.keys()]
    lines += [f"{name}: the earlier trials have no value for it" for name in new.keys() - old.keys()]
    return lines + [
        f"{name}: {new[name]} must contain {old[name]}"
        for name in old.keys() & new.keys()
        if not _contains(new[name], old[name])
    ]


def _contains(new: Any, old: Any) -> bool:
    if type(new) is not type(old):
        return False
    if hasattr(old, "choices"):
        return set(old.choices) <= set(new.choices)
    same = new.log == old.log and new.step == old.step
    return bool(same and new.low <= old.low and new.high >= old.high)


def _cannot_suggest(function: space.DefineByRun, trial: Trial) -> str | None:
    try:
        space.replayed(function, trial.params)
    except Exception as error:
        return f"trial {trial.trial} ({trial.params}) could not be suggested: {error}"
    return None
