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


def wall_seconds(now: Snapshot) -> float:
    """Seconds that drivers worked, all sessions together."""
    return sum(end - start for start, end in now.spans)


def epochs_of(entries: list[Entry], budget: float) -> EpochCount:
    """Epochs trained by trials that ended, and without early stopping."""
    return epoch_count(((entry.trial, entry.epochs or 0.0) for entry in entries), budget)


def time_and_cost(now: Snapshot) -> Html:
    """Per phase: trials, epochs, time. Per session: when and how long."""
    if not now.sessions and not now.entries:
        return Html("")
    rows = []
    for phase in dict.fromkeys(entry.trial.phase for entry in now.entries):
        mine = [entry for entry in now.entries if entry.trial.phase == phase]
        count = epochs_of(mine, now.epochs)
        rows.append(
            (
                phase,
                len(mine),
                f"{count.trained:,.6g}",
                f"{count.full:,.6g}",
                "" if count.saved is None else percent(count.saved),
                duration(sum(entry.seconds or 0.0 for entry in mine)),
            )
        )
    heads = ("phase", "trials", "epochs trained", "epochs in full", "saved", "training time")
    wall, work = wall_seconds(now), sum(entry.seconds or 0.0 for entry in now.entries)
    summary = [("wall time", duration(wall)), ("training time of all trials", duration(work))]
    if wall > 0:
        summary.append(("trials in training at a time, on average", f"{work / wall:.2g}"))
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
            table(("session", "state", "started", "wall time", "host"), sessions, "driver sessions", "figures")
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
    rows = []
    for name, value in told.items():
        if value is None:
            continue
        known = _actual(now, folder_bytes).get(name) or _held(now, told).get(name)
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        ratio = f"{100 * (known / value - 1):+.0f}%" if number and known is not None and value else ""
        rows.append((_named(name), _amount(name, value), "" if known is None else _amount(name, known), ratio))
    unfinished = now.state != SweepState.FINISHED or any(not entry.trial.state.ended for entry in now.entries)
    heads = ("", "forecast", "so far" if unfinished else "actual", "difference")
    return table(heads, rows, "forecast and actual", "figures")


def _actual(now: Snapshot, folder_bytes: int | None) -> dict[str, float]:
    epochs = sum(entry.epochs or 0.0 for entry in now.entries)
    work = sum(entry.seconds or 0.0 for entry in now.entries)
    known = {"epochs": epochs, "seconds": wall_seconds(now), "bytes": float(folder_bytes or 0)}
    return known | ({"seconds_an_epoch": work / epochs} if epochs else {})


def _held(now: Snapshot, told: Mapping[str, Any]) -> dict[str, float]:
    """Device-hours and money: the forecast says how many devices a sweep holds, and their price."""
    try:
        hours = wall_seconds(now) * float(told["device_hours"]) / float(told["seconds"])
        price = float(told.get("money") or 0.0) / float(told["device_hours"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return {}
    return {"device_hours": hours} | ({"money": hours * price} if price else {})


def audited(now: Snapshot, found: Audit | None) -> Html:
    """What became of stopped trials that were trained on; and an audit that the record keeps, whatever it holds."""
    kept = now.meta.get("audit")
    parts = [nested(kept, "audit of ASHA")] if kept else []
    if found:
        rungs = [
            (epochs(rung.epoch), rung.n, "unknown" if rung.correlation is None else f"{rung.correlation:.2f}")
            for rung in found.rungs
        ]
        lost = "unknown" if found.regret is None else change(found.regret, now.metric)
        parts += [
            tag("p", _verdict(found, now.metric)),
            pairs(
                [
                    ("stopped trials", found.stopped),
                    ("trained to the end after all", found.audited),
                    ("epochs saved by stopping", f"{found.epochs_saved:,.6g} ({percent(found.share_saved)})"),
                    ("regret", lost),
                    ("grace that it suggests", "none" if found.grace is None else epochs(found.grace)),
                ]
            ),
            table(("rung", "n", "rank correlation with the end"), rungs, "how well each rung foresees the end"),
        ]
    return join(parts)


def _verdict(found: Audit, metric: str) -> str:
    if found.regret is None:
        return "No trial was allowed to finish, so nothing can be compared with those that were stopped."
    if found.winner is not None:
        return (
            f"Early stopping stopped a winner: trial {found.winner} would have beaten the best finished trial by "
            f"{change(found.regret, metric)}."
        )
    return f"None of the {found.audited} audited trials would have beaten the best that was allowed to finish."


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
