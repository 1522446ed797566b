"""What made a sweep: question, data, budget, space, arms, seeds, versions, commit, command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from rungwise.results.io.formatting import moment, short, size
from rungwise.results.io.redaction import redacted
from rungwise.results.record.types import Session
from rungwise.results.report.page import Html, join, pairs, raw, table, tag
from rungwise.results.report.snapshot import Snapshot

_BUDGET = ("trials", "epochs", "reports_per_epoch", "scheduler", "grace", "eta", "sampler", "seed", "metric", "mode")
_SHOWN = {*_BUDGET, "name", "sweep", "question", "arms", "fixed", "space", "data"}


def provenance(snapshot: Snapshot) -> Html:
    """All that is needed to run it again."""
    definition = snapshot.definition.to_json()
    about = [("run", snapshot.name), ("sweep", snapshot.definition.sweep), ("run id", snapshot.meta.get("id"))]
    about += [(name.replace("_", " "), short(definition[name])) for name in _BUDGET if name in definition]
    about += [(name.replace("_", " "), _json(value)) for name, value in definition.items() if name not in _SHOWN]
    parts: list[Html] = [pairs((name, value) for name, value in about if value not in (None, ""))]
    if space := _space(snapshot):
        parts += [tag("h3", "Space"), space]
    if arms := snapshot.definition.arms:
        rows = [(name, _settings(fixes) or "nothing more") for name, fixes in arms.items()]
        parts += [tag("h3", "Arms"), table(("arm", "fixes"), rows, "arms and what they fix")]
    if fixed := snapshot.definition.fixed:
        settings = [(name, _json(value), *_meaning(snapshot, name)) for name, value in fixed.items()]
        parts += [
            tag("h3", "Fixed"),
            table(("hyperparameter", "value", "unit", "meaning"), settings, "fixed hyperparameters"),
        ]
    if data := snapshot.definition.data.to_json():
        parts += [tag("h3", "Data"), pairs((name, _json(value)) for name, value in data.items())]
    if snapshot.sessions:
        parts.append(tag("h3", "Made by"))
        parts += [_session(session) for session in snapshot.sessions[-3:]]
        if len(snapshot.sessions) > 3:
            parts.append(tag("p", f"The last 3 of {len(snapshot.sessions)} sessions are shown."))
    return join(parts)


def _space(snapshot: Snapshot) -> Html:
    space = snapshot.definition.space
    if not space:
        return Html("")
    if not isinstance(space, Mapping):
        return tag("pre", str(space), tabindex=0)
    rows = []
    for name, value in space.items():
        low, high, scale = _range(value)
        rows.append((name, low, high, scale, *_meaning(snapshot, name)))
    heads = ("hyperparameter", "from", "to", "scale", "unit", "meaning")
    return table(heads, rows, "searched hyperparameters")


def _range(value: Any) -> tuple[str, str, str]:
    """(from, to, scale) of a distribution as Optuna writes it; choices stand in the first."""
    try:
        read = json.loads(value) if isinstance(value, str) else value
        given = read["attributes"]
        if "choices" in given:
            return ", ".join(map(short, given["choices"])), "", "choices"
    except (ValueError, KeyError, TypeError):  # the source of a function
        return str(value), "", ""
    kind = "whole numbers" if read.get("name", "").startswith("Int") else "linear"
    scale = "logarithmic" if given.get("log") else kind
    step = given.get("step")
    if step and not (read.get("name", "").startswith("Int") and step == 1):
        scale += f", steps of {step:g}"
    return short(given.get("low")), short(given.get("high")), scale


def _meaning(snapshot: Snapshot, name: str) -> tuple[str, str]:
    about = snapshot.about.get(name, {})
    return str(about.get("unit", "")), str(about.get("help", ""))


def _session(session: Session) -> Html:
    value = dict(session.info)
    command = value.pop("command", None)
    versions = value.pop("versions", None)
    rows: list[tuple[object, object]] = [("started", moment(session.started))]
    if command:
        words = shlex.join(map(str, command)) if isinstance(command, list) else str(command)
        words = redacted(words)  # an earlier version may have kept a password
        rows.append(("command", tag("code", raw(words))))
    if versions:
        rows.append(("versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
    rows += [(_names(name), _json(value, name)) for name, value in value.items()]
    return pairs(rows)


def _names(name: str) -> str:
    return {"commit": "git commit", "pid": "process id"}.get(name, name.replace("_", " "))


def _json(value: Any, name: str = "") -> str:
    if isinstance(value, Mapping):
        return _settings(value)
    if isinstance(value, list):
        return ", ".join(map(short, value))
    return size(value) if name.endswith("bytes") and isinstance(value, int) else short(value)


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {short(value)}" for name, value in values.items())
