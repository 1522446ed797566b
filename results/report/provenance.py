"""The provenance of a sweep: question, data, budget, space, arms, seeds, versions, commit, command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from rungwise.results.io.formatting import assignments, moment, setting, short, size
from rungwise.results.io.redaction import redacted
from rungwise.results.record.definition import DatasetSummary
from rungwise.results.record.types import Session
from rungwise.results.report.page import Table, label, values
from rungwise.results.report.snapshot import Snapshot

_BUDGET = (
    "trials",
    "epochs",
    "reports_per_epoch",
    "folds",
    "scheduler",
    "grace",
    "eta",
    "sampler",
    "seed",
    "metric",
    "mode",
)
_SHOWN = {*_BUDGET, "name", "sweep", "question", "arms", "fixed", "space", "data"}
_SESSIONS = 3  # that are shown, the last ones


def provenance(snapshot: Snapshot) -> dict[str, Any]:
    """All that is needed to run it again: the values of made.html.jinja."""
    definition = snapshot.definition
    text = definition.to_json()
    about = [("run", snapshot.name), ("sweep", definition.sweep), ("run id", snapshot.meta.get("id"))]
    about += [(name.replace("_", " "), short(text[name])) for name in _BUDGET if name in text]
    about += [(name.replace("_", " "), _text(value)) for name, value in text.items() if name not in _SHOWN]
    space = definition.space if isinstance(definition.space, Mapping) else {}
    ranges = [(name, *_range(value), *_meaning(snapshot, name)) for name, value in space.items()]
    fixed = [(name, _text(value), *_meaning(snapshot, name)) for name, value in definition.fixed.items()]
    arms = [(name, describe_settings(values) or "nothing more") for name, values in definition.arms.items()]
    meaning = ("unit", "meaning")
    return {
        "about": [(name, value) for name, value in about if value not in (None, "")],
        "space": Table("searched hyperparameters", ("hyperparameter", "from", "to", "scale", *meaning), ranges, False),
        "arms": Table("arms and what they set", ("arm", "sets"), arms, False),
        "fixed": Table("fixed hyperparameters", ("hyperparameter", "value", *meaning), fixed, False),
        "data": [(name, _text(value)) for name, value in definition.data.to_json().items() if name != "columns"],
        "columns": Table("columns of the table", ("column", "what was done"), _columns(definition.data), False),
        "shown": min(_SESSIONS, len(snapshot.sessions)),
        "sessions": _sessions(snapshot.sessions[-_SESSIONS:]),
    }


def _columns(data: DatasetSummary) -> list[tuple[str, str]]:
    return list((data.columns or {}).items())


def describe_settings(settings: Mapping[str, Any]) -> str:
    """What an arm says of hyperparameters: values, and ranges of its own."""
    return assignments({name: _ranged(value) for name, value in settings.items()})


def _ranged(value: Any) -> Any:
    """A value as it is; the range or the choices of a distribution in words."""
    if not (isinstance(value, str) and value.startswith("{") and '"attributes"' in value):
        return value
    low, high, scale = _range(value)
    return f"one of {low}" if scale == "choices" else f"{low} to {high} ({scale})"


def _range(value: Any) -> tuple[str, str, str]:
    """(from, to, scale) of a distribution as Optuna writes it; choices stand in the first."""
    try:
        read = json.loads(value) if isinstance(value, str) else value
        attributes = read["attributes"]
        if "choices" in attributes:
            return ", ".join(map(setting, attributes["choices"])), "", "choices"
    except (ValueError, KeyError, TypeError):  # the source of a function
        return str(value), "", ""
    whole = read.get("name", "").startswith("Int")
    scale = "logarithmic" if attributes.get("log") else "whole numbers" if whole else "linear"
    step = attributes.get("step")
    if step and not (whole and step == 1):
        scale += f", steps of {step:g}"
    return short(attributes.get("low")), short(attributes.get("high")), scale


def _meaning(snapshot: Snapshot, name: str) -> tuple[str, str]:
    about = snapshot.about.get(name, {})
    return str(about.get("unit", "")), str(about.get("help", ""))


def _sessions(sessions: Sequence[Session]) -> list[list[tuple[str, str]]]:
    """What the record says about each driver; what is the same of all of them, once and first."""
    each = [_session(session) for session in sessions]
    common = [row for row in each[0] if all(row in rows for rows in each)] if len(each) > 1 else []
    return [rows for rows in (common, *([row for row in rows if row not in common] for rows in each)) if rows]


def _session(session: Session) -> list[tuple[str, str]]:
    """(name, value) of what the record says about a driver."""
    value = dict(session.info)
    command, versions = value.pop("command", None), value.pop("versions", None)
    rows = [("started", moment(session.started))]
    if command:
        words = shlex.join(map(str, command)) if isinstance(command, list) else str(command)
        rows.append(("command", redacted(words)))  # an earlier version may have kept a password
    if versions:
        rows.append(("versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
    names = {"commit": "git commit", "pid": "process id"}
    return rows + [(names.get(name, label(name)), _text(value, name)) for name, value in value.items()]


def _text(value: Any, name: str = "") -> str:
    if isinstance(value, Mapping):
        return assignments(value)
    return size(value) if name.endswith("bytes") and isinstance(value, int) else values(value)
