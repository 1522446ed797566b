"""What a sweep cost: time, epochs against running all to the end, forecast against actual, and the audit of ASHA."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rungwise.results.analysis.audit import Audit
from rungwise.results.analysis.epochs import EpochCount, epoch_count
from rungwise.results.io.formatting import change, duration, epochs, moment, percent, short, size
from rungwise.results.record.types import SweepState
from rungwise.results.report.page import Html, join, pairs, table, tag
from rungwise.results.report.snapshot import Entry, Snapshot


def wall_seconds(snapshot: Snapshot) -> float:
    """Seconds that drivers worked, all sessions together."""
    return sum(end - start for start, end in snapshot.spans)


def epochs_of(entries: list[Entry], budget: float) -> EpochCount:
    """Epochs trained by trials that ended, and without early stopping."""
    return epoch_count(((entry.trial, entry.epochs or 0.0) for entry in entries), budget)


def time_and_cost(snapshot: Snapshot) -> Html:
    """Per phase: trials, epochs, time. Per session: when and how long."""
    if not snapshot.sessions and not snapshot.entries:
        return Html("")
    rows = []
    for phase in dict.fromkeys(entry.trial.phase for entry in snapshot.entries):
        entries = [entry for entry in snapshot.entries if entry.trial.phase == phase]
        count = epochs_of(entries, snapshot.epochs)
        rows.append(
            (
                phase,
                len(entries),
                f"{count.trained:,.6g}",
                f"{count.full:,.6g}",
                "" if count.saved is None else percent(count.saved),
                duration(sum(entry.seconds or 0.0 for entry in entries)),
            )
        )
    heads = ("phase", "trials", "epochs trained", "epochs in full", "saved", "training time")
    wall, work = wall_seconds(snapshot), sum(entry.seconds or 0.0 for entry in snapshot.entries)
    summary = [("wall time", duration(wall)), ("training time of all trials", duration(work))]
    if wall > 0:
        summary.append(("trials in training at a time, on average", f"{work / wall:.2g}"))
        summary.append(("reports", f"{snapshot.reports:,} ({snapshot.reports / wall:.3g} per second)"))
    sessions = [
        (
            session.session,
            session.state.lower(),
            moment(session.started),
            duration(end - start),
            session.info.get("host"),
        )
        for session, (start, end) in zip(snapshot.sessions, snapshot.spans, strict=True)
    ]
    if sessions and snapshot.sessions[-1].state != snapshot.state:
        last = sessions[-1]
        sessions[-1] = (last[0], f"{snapshot.state.lower()} (its driver died)", *last[2:])
    return join(
        [
            pairs(summary),
            table(heads, rows, "epochs and time per phase", "figures") if rows else "",
            table(("session", "state", "started", "wall time", "host"), sessions, "driver sessions", "figures")
            if sessions
            else "",
            tag("p", "Epochs count the trials that ended; time includes attempts that were repeated."),
        ]
    )


def forecast(snapshot: Snapshot, folder_bytes: int | None) -> Html:
    """What was forecast before the sweep against what it took; nothing without a forecast."""
    forecasts = snapshot.meta.get("forecast")
    if not isinstance(forecasts, Mapping) or not forecasts:
        return Html("")
    rows = []
    for name, value in forecasts.items():
        if value is None:
            continue
        actual = _actual(snapshot, folder_bytes).get(name) or _held(snapshot, forecasts).get(name)
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        ratio = f"{100 * (actual / value - 1):+.0f}%" if number and actual is not None and value else ""
        rows.append((_named(name), _amount(name, value), "" if actual is None else _amount(name, actual), ratio))
    unfinished = snapshot.state != SweepState.FINISHED or any(not entry.trial.state.ended for entry in snapshot.entries)
    heads = ("", "forecast", "so far" if unfinished else "actual", "difference")
    return table(heads, rows, "forecast and actual", "figures")


def _actual(snapshot: Snapshot, folder_bytes: int | None) -> dict[str, float]:
    epochs = sum(entry.epochs or 0.0 for entry in snapshot.entries)
    work = sum(entry.seconds or 0.0 for entry in snapshot.entries)
    amounts = {"epochs": epochs, "seconds": wall_seconds(snapshot), "bytes": float(folder_bytes or 0)}
    return amounts | ({"seconds_an_epoch": work / epochs} if epochs else {})


def _held(snapshot: Snapshot, forecasts: Mapping[str, Any]) -> dict[str, float]:
    """Device-hours and money: the forecast says how many devices a sweep holds, and their price."""
    try:
        hours = wall_seconds(snapshot) * float(forecasts["device_hours"]) / float(forecasts["seconds"])
        price = float(forecasts.get("money") or 0.0) / float(forecasts["device_hours"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return {}
    return {"device_hours": hours} | ({"money": hours * price} if price else {})


def audited(snapshot: Snapshot, result: Audit | None) -> Html:
    """What became of stopped trials that were trained on; and an audit that the record keeps, whatever it holds."""
    recorded = snapshot.meta.get("audit")
    parts = [nested(recorded, "audit of ASHA")] if recorded else []
    if result:
        rungs = [
            (epochs(rung.epoch), rung.n, "unknown" if rung.correlation is None else f"{rung.correlation:.2f}")
            for rung in result.rungs
        ]
        lost = "unknown" if result.regret is None else change(result.regret, snapshot.metric)
        parts += [
            tag("p", _verdict(result, snapshot.metric)),
            pairs(
                [
                    ("stopped trials", result.stopped),
                    ("trained to the end after all", result.audited),
                    ("epochs saved by stopping", f"{result.epochs_saved:,.6g} ({percent(result.share_saved)})"),
                    ("regret", lost),
                    ("grace that it suggests", "none" if result.grace is None else epochs(result.grace)),
                ]
            ),
            table(("rung", "n", "rank correlation with the end"), rungs, "how well each rung foresees the end"),
        ]
    return join(parts)


def _verdict(result: Audit, metric: str) -> str:
    if result.regret is None:
        return "No trial was allowed to finish, so nothing can be compared with those that were stopped."
    if result.winner is not None:
        return (
            f"Early stopping stopped a winner: trial {result.winner} would have beaten the best finished trial by "
            f"{change(result.regret, metric)}."
        )
    return f"None of the {result.audited} audited trials would have beaten the best that was allowed to finish."


def nested(value: Any, caption: str) -> Html:
    """Any JSON value as lists and tables."""
    if isinstance(value, Mapping):
        return pairs((_named(str(name)), nested(value, str(name))) for name, value in value.items())
    if isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
        heads = list(dict.fromkeys(str(name) for row in value for name in row))
        rows = [[nested(row.get(name, ""), name) for name in heads] for row in value]
        return table([_named(name) for name in heads], rows, caption)
    if isinstance(value, list):
        return join([", ".join(short(value) for value in value)])
    return join([short(value)])


_NAMES = {"seconds": "wall time", "seconds_an_epoch": "time an epoch", "device_hours": "device-hours", "bytes": "disk"}


def _named(name: str) -> str:
    return _NAMES.get(name, name.replace("_", " "))


def _amount(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return short(value)
    if name in ("seconds", "seconds_an_epoch"):
        return duration(value)
    if name == "bytes":
        return size(value)
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
