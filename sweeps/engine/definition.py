"""What makes a run the run of this sweep: kept in its record, and compared when the same name is used again."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.record import Trial, to_json
from results.redaction import Verbatim, redacted, redacted_uri
from sweeps.engine import space
from sweeps.engine.options import OWN, Options
from sweeps.engine.sweep import Sweep
from trainable.versions import package_version

if TYPE_CHECKING:
    from trainable.data import Dataset

_PACKAGES = ("rungwise", "ray", "optuna", "torch", "mlflow", "pyarrow", "numpy")
_MAY_CHANGE = {"trials", "question", "sampler", "sampler_options"}  # between two drivers of one run


def definition(sweep: Sweep, options: Options, data: Dataset) -> Verbatim:
    """The sweep as JSON: what was asked, of which data, within which budget."""
    return Verbatim({
        "name": options.name,
        "sweep": sweep.name,
        "question": " ".join((sweep.question or "").split()),
        "metric": sweep.metric,
        "mode": sweep.mode,
        "trials": options.trials,
        "epochs": options.epochs,
        "reports_per_epoch": sweep.reports_per_epoch,
        "grace": options.grace,
        "eta": options.eta,
        "scheduler": options.scheduler,
        "sampler": options.sampler,
        **({"samplers": samplers} if (samplers := _samplers(sweep)) else {}),
        **({"sampler_options": dict(sweep.sampler_options)} if sweep.sampler_options else {}),
        **({"objectives": sweep.objectives} if sweep.also else {}),
        **({"patience": options.patience} if options.patience is not None else {}),
        **({"max_parameters": options.max_parameters} if options.max_parameters is not None else {}),
        "seed": options.seed,
        "arms": {
            arm: {name: _text(value) if space.is_distribution(value) else value for name, value in says.items()}
            for arm, says in sweep.arms.items()
        },
        "fixed": dict(sweep.fixed),
        "space": space.to_json(sweep.space),
        **_model(sweep.model_name),
        "data": {
            "name": data.name,
            "digest": data.digest,
            "source": data.source,
            "shape": list(data.shape),
            "classes": list(data.classes),
            "train": len(data.train),
            "validation": len(data.validation),
            "test": len(data.test) if data.test else 0,
        },
    })  # fmt: skip


def _samplers(sweep: Sweep) -> dict[str, str]:
    """Each arm's sampler, where they differ."""
    if not isinstance(sweep.sampler, Mapping):
        return {}
    return {arm: sampler if isinstance(sampler, str) else OWN for arm, sampler in sweep.sampler.items()}


def _text(distribution: Any) -> str:
    (text,) = space.to_json({"": distribution}).values()
    return str(text)


def _model(name: str) -> dict[str, Any]:
    """What is kept of a model that is not the default one: its name, or a function's (`sweeps.engine.models`)."""
    if ":" not in name:
        return {} if name == "mlp" else {"model": name}
    return {"model": {"function": name.rpartition(":")[2]}}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What keeps `now` from continuing a run that was defined as `before`: 'key: old -> new', a line each."""
    before, now = _compared(before, now), _compared(json.loads(to_json(now)), before)  # as the record holds it
    found = []
    for key in before.keys() | now.keys() - _MAY_CHANGE:
        if key in _MAY_CHANGE or before.get(key) == now.get(key):
            continue
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            if "drawn" in old and old["function"] == new.get("function"):
                found.append(f"{key}: the function suggests other ranges or other values than when the run began")
                continue
            found += [
                f"{key}.{name}: {old.get(name, 'absent')} -> {new.get(name, 'absent')}"
                for name in sorted(old.keys() | new.keys())
                if old.get(name) != new.get(name)
            ]
        else:
            found.append(f"{key}: {old} -> {new}")
    return sorted(found)


def _compared(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Without how its functions are written: of a space counts what it draws, where both know that, and what a model
    builds is compared by `sweeps.engine.models`."""
    found = dict(one)
    if isinstance(model := one.get("model"), dict):
        found["model"] = {"function": model["function"]}
    mine, theirs = one.get("space", {}), other.get("space", {})
    if "function" in mine:
        both = mine.get("by") is not None and mine.get("by") == theirs.get("by")
        left_out = {"source"} if both else {"drawn", "by"}
        found["space"] = {name: value for name, value in mine.items() if name not in left_out}
    return found


def widening_problems(sweep: Sweep, before: Mapping[str, Any], trials: Iterable[Trial]) -> list[str]:
    """Why the sweep's space does not contain the one it had `before`; [] when it does.

    A dict must hold every old hyperparameter with a range around the old one; a function must be able to suggest
    every trial that was tried.
    """
    if callable(sweep.space):
        return [problem for trial in trials if (problem := _cannot_suggest(sweep.space, trial))]
    import optuna

    old = {name: optuna.distributions.json_to_distribution(text) for name, text in before["space"].items()}
    new = space.distributions(sweep.space)
    found = [f"{name}: the old space has it, the new one must too" for name in old.keys() - new.keys()]
    found += [f"{name}: the earlier trials have no value for it" for name in new.keys() - old.keys()]
    return found + [
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


def session_info() -> dict[str, Any]:
    """Who drives: host, process, command line without secrets, versions, commit."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "command": command_line(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {package: package_version(package) for package in _PACKAGES},
        "commit": _commit(),
    }


def command_line() -> list[str]:
    """The command that was typed, with any password in it starred out."""
    words = [sys.argv[0], *sys.argv[1:]]
    for index, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if equals and "://" in value and "://" not in flag:
            words[index] = f"{flag}={redacted_uri(value)}"
        else:
            words[index] = redacted_uri(word) if "://" in word else redacted(word)
    return ["python", *words]


def _commit() -> str | None:
    """The git commit of the sweep script, with '+' when there are uncommitted changes; None outside a checkout."""
    where = Path(sys.argv[0]).resolve().parent
    git = ["git", "-C", str(where)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")
