"""Timeline: when each trial ran, on which machine, coloured by how it ended."""

from __future__ import annotations

from collections.abc import Sequence

from rungwise.results.io.formatting import duration
from rungwise.results.record.types import State
from rungwise.results.report.plots.history import unit_of
from rungwise.results.report.plots.primitives import Figure, Json, View, brief, colour, safe, state_colour
from rungwise.results.report.snapshot import Attempt, Snapshot
from rungwise.text import plural

ROW = 18  # CSS pixels of a slot
TALLEST = 1400  # CSS pixels
RESUMED = "resumed by a later attempt"


def plot_timeline(snapshot: Snapshot) -> Figure | None:
    """A bar an attempt; a row for each trial that a machine trains at a time. None before any trial started."""
    if not snapshot.attempts:
        return None
    slots = assign_slots(snapshot.attempts)
    rows = sorted(set(slots))
    unit, seconds = unit_of(max(snapshot.worked(attempt.end) for attempt in snapshot.attempts))
    groups: dict[str, list[tuple[Attempt, tuple[str, int]]]] = {}
    for attempt, slot in zip(snapshot.attempts, slots, strict=True):
        groups.setdefault(attempt.trial.state.lower() if attempt.is_last else RESUMED, []).append((attempt, slot))
    order = [name for name in [*map(str.lower, State), RESUMED] if name in groups]
    data = [_bars(name, groups[name], rows, seconds, snapshot) for name in order]
    names = [brief(f"{machine} #{slot}") for machine, slot in rows]
    step = max(1, -(-len(rows) * ROW // (TALLEST - 120)))  # beyond the tallest figure not every row has its name
    layout: Json = {
        "xaxis": {"title": {"text": f"{unit} of work"}, "rangemode": "tozero"},
        "yaxis": {"tickvals": list(range(0, len(rows), step)), "ticktext": names[::step], "showgrid": False},
        "barmode": "overlay",
        "bargap": 0.15,
        "hovermode": "closest",
    }
    layout["yaxis"] |= {"range": [len(rows) - 0.5, -0.5], "zeroline": False}
    return Figure(
        "timeline",
        _finding(snapshot, slots),
        [View("timeline", data, layout)],
        "A bar is an attempt to train a trial, coloured by how the trial ended; a row is one trial at a time on a "
        "machine. Time between two sessions is left out. The record keeps the machine of a trial's last attempt only.",
        height=min(TALLEST, 120 + ROW * max(3, len(rows))),
    )


def machine_of(attempt: Attempt) -> str:
    """The host, of a worker 'host:pid'."""
    node = attempt.trial.node or "unknown machine"
    host, mark, process = node.rpartition(":")
    return host if mark and process.isdigit() else node


def assign_slots(attempts: Sequence[Attempt]) -> list[tuple[str, int]]:
    """(machine, slot from 1) of each attempt, so that those of one slot do not overlap: always the first free one."""
    free_from: dict[tuple[str, int], float] = {}
    slots: list[tuple[str, int]] = [("", 0)] * len(attempts)
    for index in sorted(range(len(attempts)), key=lambda i: (attempts[i].start, attempts[i].end)):
        attempt, machine, slot = attempts[index], machine_of(attempts[index]), 1
        while free_from.get((machine, slot), attempt.start) > attempt.start:
            slot += 1
        free_from[machine, slot] = attempt.end
        slots[index] = (machine, slot)
    return slots


def _bars(
    name: str,
    members: Sequence[tuple[Attempt, tuple[str, int]]],
    rows: Sequence[tuple[str, int]],
    seconds: float,
    snapshot: Snapshot,
) -> Json:
    places = {row: place for place, row in enumerate(rows)}
    starts = [snapshot.worked(attempt.start) / seconds for attempt, _ in members]
    ends = [snapshot.worked(attempt.end) / seconds for attempt, _ in members]
    look: Json = {"color": state_colour(members[0][0].trial.state)}
    if name == RESUMED:
        look = {"color": colour("warn"), "pattern": {"shape": "/", "fgcolor": colour("warn-wash"), "solidity": 0.4}}
    return {
        "type": "bar",
        "orientation": "h",
        "base": starts,
        "x": [end - start for start, end in zip(starts, ends, strict=True)],
        "y": [places[slot] for _, slot in members],
        "name": safe(f"{name} ({len(members)})"),
        "legendgroup": name,
        "marker": look,
        "meta": {"trials": [attempt.trial.trial for attempt, _ in members]},
        "customdata": [
            f"attempt {attempt.attempt} of {attempt.trial.attempts}, {duration(attempt.end - attempt.start)}, "
            f"{safe(attempt.trial.node or 'unknown machine') if attempt.is_last else 'machine not recorded'}"
            for attempt, _ in members
        ],
        "hovertemplate": "%{text}<br>%{customdata}<extra></extra>",
    }


def _finding(snapshot: Snapshot, slots: Sequence[tuple[str, int]]) -> str:
    trials = {attempt.trial.trial for attempt in snapshot.attempts}
    machines = {machine_of(attempt) for attempt in snapshot.attempts}
    resumed = sum(not attempt.is_last for attempt in snapshot.attempts)
    waiting = sum(entry.trial.attempts == 0 for entry in snapshot.entries)
    text = f"{plural(len(trials), 'trial')} on {plural(len(machines), 'machine')}"
    text += f", at most {len(set(slots))} at a time." if len(machines) == 1 else "."
    if resumed:
        text += f" {plural(resumed, 'attempt was', 'attempts were')} resumed by a later one."
    if waiting:
        text += f" Not shown: {waiting} that never started."
    return text
