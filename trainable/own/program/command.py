"""The command line and the environment that give a program the hyperparameters of its trial."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rungwise.trainable.own.trial import Trial

PLACEHOLDER = re.compile(r"\{(\w+)\}")
TEMPLATE_FIELDS = ("name", "dashed", "value")  # `batch_size`, `batch-size` and its value


def command(words: Sequence[str], template: str | None, config: Mapping[str, Any]) -> list[str]:
    """The words of a command line with a trial's hyperparameters.

    Args:
        words: `{lr}` in them is replaced by the value; other braces stay.
        template: The form of a hyperparameter that has no such place, such as "--{name}={value}"; "" gives none.
            None: `--lr 0.003`, `--hidden 128 64` for a list, `--nesterov` for True, and nothing for False and None.
        config: The hyperparameters, with seed and epochs.
    """
    values = {name: value for name, value in config.items() if name != "reports_per_epoch"}
    placed = {name for word in words for name in PLACEHOLDER.findall(word) if name in values}

    def fill(match: re.Match[str]) -> str:
        return text_of(values[match[1]]) if match[1] in values else match[0]

    found = [PLACEHOLDER.sub(fill, word) for word in words]
    for name, value in values.items():
        if name not in placed:
            found += _usual(name, value) if template is None else _formatted(template, name, value)
    return found


def text_of(value: Any) -> str:
    """Text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def _usual(name: str, value: Any) -> list[str]:
    if value is None or value is False:
        return []
    if value is True:
        return [f"--{name}"]
    parts = value if isinstance(value, list | tuple) else [value]
    return [f"--{name}", *map(text_of, parts)]


def _formatted(template: str, name: str, value: Any) -> list[str]:
    fields = {"name": name, "dashed": name.replace("_", "-"), "value": text_of(value)}

    def fill(match: re.Match[str]) -> str:
        return fields.get(match[1], match[0])

    return [PLACEHOLDER.sub(fill, word) for word in template.split()]  # a value that holds spaces stays one word


def template_problems(template: str | None) -> list[str]:
    """What is wrong with a template, a line each."""
    if not template:
        return []
    unknown = [name for name in PLACEHOLDER.findall(template) if name not in TEMPLATE_FIELDS]
    if unknown or "{value}" not in template:
        return [
            "program_arguments must be a template with {value} and {name} (or {dashed}: - in place of _), such as "
            f"'--{{name}}={{value}}', but got {template!r}"
        ]
    return []


def missing_files(role: str, words: Sequence[str], folder: str) -> list[str]:
    """What of a command cannot be found on this machine, a line each.

    Args:
        role: What messages call the command.
        words: The command.
        folder: Its working directory.
    """
    if PLACEHOLDER.search(words[0]):
        return []
    there = str(Path(folder, words[0])) if os.sep in words[0] else words[0]
    if shutil.which(there, path=search_path()) is None:
        what = "an executable file" if os.sep in words[0] else "on the PATH, or a path such as ./train.sh"
        return [f"{role}: {words[0]!r} must be {what}, but is not there; it would run in {folder}"]
    script = next((word for word in words[1:] if word.endswith(".py")), None)
    if script and not script.startswith("-") and not PLACEHOLDER.search(script) and not Path(folder, script).exists():
        return [f"{role}: {script!r} must be a file, but is not there; it would run in {folder}"]
    return []


def search_path() -> str:
    """PATH of a program: `python` is the one that runs the sweep, and `torchrun` the one beside it."""
    return os.pathsep.join(filter(None, [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]))


def environment(trial: Trial, config: Mapping[str, Any], reports: Path, save: Path) -> dict[str, str]:
    """The environment of a program: this process's, and what RUNGWISE_* says of its trial.

    Args:
        trial: What it trains.
        config: Its hyperparameters, with seed and epochs.
        reports: Where it writes a JSON object a line.
        save: A folder into which it may write checkpoints.
    """
    said = {
        "RUNGWISE_REPORTS": str(reports),
        "RUNGWISE_SAVE": str(save),
        "RUNGWISE_CHECKPOINT": None if trial.checkpoint is None else str(trial.checkpoint),
        "RUNGWISE_SEED": str(trial.seed),
        "RUNGWISE_EPOCHS": str(trial.epochs),
        "RUNGWISE_TRIAL": str(trial.number),
        "RUNGWISE_ARM": trial.arm,
        "RUNGWISE_PHASE": trial.phase,
        "RUNGWISE_DEVICE": trial.device,
        "RUNGWISE_CONFIG": json.dumps(dict(config)),
    }
    inherited = {name: value for name, value in os.environ.items() if name not in said}
    return {**inherited, "PATH": search_path(), **{name: value for name, value in said.items() if value is not None}}
