"""What a sweep cost: time, epochs against running all to the end, forecast against actual, and the audit of ASHA."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from results.amounts import duration, moment, short, size
from results.page import Html, join, pairs, table, tag
from results.record import State
from results.snapshot import Entry, Snapshot


def wall_seconds(now: Snapshot) -> float:
    """Seconds that drivers worked, all sessions together."""
    return sum(end - start for start, end in now.spans)


def saved(entries: list[Entry], budget: float) -> tuple[float, float]:
    """(epochs trained, epochs if all had run to the end) of trials that ended; a failed one counts in neither."""
    ended = [entry for entry in entries if entry.trial.state.ended and entry.trial.state is not State.FAILED]
    return sum(entry.epochs or 0.0 for entry in ended), budget * len(ended)


def time_and_cost(now: Snapshot) -> Html:
    """Per phase: trials, epochs, time. Per session: when and how long."""
    if not now.sessions and not now.entries:
        return Html("")
    rows = []
    for phase in dict.fromkeys(entry.trial.phase for entry in now.entries):
        mine = [entry for entry in now.entries if entry.trial.phase == phase]
        trained, full = saved(mine, now.epochs)
        rows.append(
            (
                phase,
                len(mine),
                f"{trained:,.6g}",
                f"{full:,.6g}",
                f"{1 - trained / full:.0%}" if full else "",
                duration(sum(entry.seconds or 0.0 for entry in mine)),
            )
        )
    heads = ("phase", "trials", "epochs trained", "if all ran to the end", "saved", "training time")
    wall, work = wall_seconds(now), sum(entry.seconds or 0.0 for entry in now.entries)
    summary = [("wall time", duration(wall)), ("training time of all trials", duration(work))]
    if wall > 0:
        summary.append(("trials training at a time, on average", f"{work / wall:.2g}"))
        summary.append(("reports", f"{now.reports:,} ({now.reports / wall:.3g} per second)"))
    sessions = [
        (
            session.session,
            session.state.lower(),
            moment(session.started),
            duration(end - start),
            session.info.get("host"),
        )
        for session, (start, end) in zip(now.sessions, now.spans, strict=True)
    ]
    if sessions and now.sessions[-1].state != now.state:
        last = sessions[-1]
        sessions[-1] = (last[0], f"{now.state.lower()} (its driver died)", *last[2:])
    return join(
        [
            pairs(summary),
            table(heads, rows, "epochs and time per phase", "figures") if rows else "",
            table(("session", "state", "started", "wall time", "host"), sessions, "driver sessions")
            if sessions
            else "",
            tag("p", "Epochs count the trials that ended; time includes attempts that were repeated."),
        ]
    )


def forecast(now: Snapshot, folder_bytes: int | None) -> Html:
    """What was forecast before the sweep against what it took; nothing without a forecast."""
    told = now.meta.get("forecast")
    if not isinstance(told, Mapping) or not told:
        return Html("")
    actual = {
        "epochs": sum(entry.epochs or 0.0 for entry in now.entries),
        "seconds": wall_seconds(now),
        "device_hours": sum(entry.seconds or 0.0 for entry in now.entries) / 3600,
        "bytes": float(folder_bytes) if folder_bytes is not None else None,
    }
    rows = []
    for name, value in told.items():
        known = actual.get(name)
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        ratio = f"{known / value - 1:+.0%}" if number and known is not None and value else ""
        rows.append((_named(name), _amount(name, value), "" if known is None else _amount(name, known), ratio))
    running = now.state == "RUNNING" or any(not entry.trial.state.ended for entry in now.entries)
    return join(
        [
            table(
                ("", "forecast", "so far" if running else "actual", "difference"),
                rows,
                "forecast and actual",
                "figures",
            ),
            tag("p", "Device-hours are the trials' training time."),
        ]
    )


def audit(now: Snapshot) -> Html:
    """The audit of ASHA, whatever it holds; nothing when there was none."""
    told = now.meta.get("audit")
    if not told:
        return Html("")
    return nested(told, "audit of ASHA")


def nested(told: Any, caption: str) -> Html:
    """Any JSON value as lists and tables."""
    if isinstance(told, Mapping):
        return pairs((_named(str(name)), nested(value, str(name))) for name, value in told.items())
    if isinstance(told, list) and told and all(isinstance(row, Mapping) for row in told):
        heads = list(dict.fromkeys(str(name) for row in told for name in row))
        rows = [[nested(row.get(name, ""), name) for name in heads] for row in told]
        return table([_named(name) for name in heads], rows, caption)
    if isinstance(told, list):
        return join([", ".join(short(value) for value in told)])
    return join([short(told)])


def _named(name: str) -> str:
    return {"seconds": "wall time", "device_hours": "device-hours", "bytes": "disk"}.get(name, name.replace("_", " "))


def _amount(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return short(value)
    if name == "seconds":
        return duration(value)
    if name == "bytes":
        return size(value)
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
