"""What a sweep cost: time, epochs against running all to the end, forecast against actual, and the audit of ASHA."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from rungwise.results.analysis.audit import Audit
from rungwise.results.analysis.epochs import EpochCount, epoch_count
from rungwise.results.io.formatting import count, duration, epochs, moment, percent, short, size
from rungwise.results.record.types import SweepState
from rungwise.results.report.page import Table, label
from rungwise.results.report.snapshot import Entry, Snapshot


def wall_seconds(snapshot: Snapshot) -> float:
    """Seconds that drivers worked, all sessions together."""
    return sum(end - start for start, end in snapshot.spans)


def training_seconds(entries: Iterable[Entry]) -> float:
    return sum(entry.seconds or 0.0 for entry in entries)


def epochs_of(entries: list[Entry], snapshot: Snapshot) -> EpochCount:
    """Epochs trained by trials that ended, and without early stopping."""
    reached = ((entry.trial, entry.epochs or 0.0) for entry in entries)
    return epoch_count(reached, snapshot.epochs, snapshot.definition.folds)


def totals(snapshot: Snapshot) -> list[tuple[str, str]]:
    """(name, value) of what all sessions took together."""
    wall, work = wall_seconds(snapshot), training_seconds(snapshot.entries)
    made = [("wall time", duration(wall)), ("training time of all trials", duration(work))]
    if wall > 0:
        made.append(("trials in training at a time, on average", f"{work / wall:.2g}"))
        made.append(("reports", f"{snapshot.reports:,} ({snapshot.reports / wall:.3g} per second)"))
    return made


def phase_table(snapshot: Snapshot) -> Table:
    """Trials, epochs and time of each phase."""
    rows = []
    for phase in dict.fromkeys(entry.trial.phase for entry in snapshot.entries):
        entries = [entry for entry in snapshot.entries if entry.trial.phase == phase]
        trials = epochs_of(entries, snapshot)
        saved = "" if trials.saved is None else percent(trials.saved)
        trained, full = count(trials.trained), count(trials.full)
        rows.append((phase, len(entries), trained, full, saved, duration(training_seconds(entries))))
    heads = ("phase", "trials", "epochs trained", "epochs in full", "saved", "training time")
    return Table("epochs and time per phase", heads, rows)


def session_table(snapshot: Snapshot) -> Table:
    """When each driver worked, and how long."""
    rows = []
    for session, (start, end) in zip(snapshot.sessions, snapshot.spans, strict=True):
        state = session.state.lower()
        latest = session is snapshot.sessions[-1]
        if session.state == SweepState.RUNNING and not (latest and snapshot.state == SweepState.RUNNING):
            state = "interrupted (its driver died or was stopped at once)"
        elif latest and session.state != snapshot.state:
            state = snapshot.state.lower()
        host = session.info.get("host")
        rows.append((session.session, state, moment(session.started), duration(end - start), host))
    return Table("driver sessions", ("session", "state", "started", "wall time", "host"), rows)


def forecast_table(snapshot: Snapshot, folder_bytes: int) -> Table:
    """What was forecast before the sweep against what it took; empty without a forecast."""
    forecasts = snapshot.meta.get("forecast")
    forecasts = forecasts if isinstance(forecasts, Mapping) else {}
    actual_amounts = _actual(snapshot, folder_bytes) | _held(snapshot, forecasts)
    rows = []
    for name, value in forecasts.items():
        if value is None:
            continue
        actual = actual_amounts.get(name)
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        ratio = f"{100 * (actual / value - 1):+.0f}%" if number and actual is not None and value else ""
        rows.append((label(name), _amount(name, value), "" if actual is None else _amount(name, actual), ratio))
    unfinished = snapshot.state != SweepState.FINISHED or any(not entry.trial.state.ended for entry in snapshot.entries)
    heads = ("", "forecast", "so far" if unfinished else "actual", "difference")
    return Table("forecast and actual", heads, rows)


def _actual(snapshot: Snapshot, folder_bytes: int) -> dict[str, float]:
    trained, work = sum(entry.epochs or 0.0 for entry in snapshot.entries), training_seconds(snapshot.entries)
    amounts = {"epochs": trained, "seconds": wall_seconds(snapshot), "bytes": float(folder_bytes)}
    return amounts | ({"seconds_an_epoch": work / trained} if trained else {})


def _held(snapshot: Snapshot, forecasts: Mapping[str, Any]) -> dict[str, float]:
    """Device-hours and money: the forecast says how many devices a sweep holds, and their price."""
    try:
        hours = wall_seconds(snapshot) * float(forecasts["device_hours"]) / float(forecasts["seconds"])
        price = float(forecasts.get("money") or 0.0) / float(forecasts["device_hours"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return {}
    return {"device_hours": hours} | ({"money": hours * price} if price else {})


def audit_table(result: Audit | None) -> Table:
    """How well each rung foresees the end."""
    rows = [
        (epochs(rung.epoch), rung.n, "unknown" if rung.correlation is None else f"{rung.correlation:.2f}")
        for rung in (result.rungs if result else ())
    ]
    heads = ("rung", "n", "rank correlation with the end")
    return Table("how well each rung foresees the end", heads, rows, figures=False)


def _amount(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return short(value)
    if name in ("seconds", "seconds_an_epoch"):
        return duration(value)
    if name == "bytes":
        return size(value)
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
