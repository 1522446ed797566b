"""Learning curves: the objective of every trial over its epochs, with the rungs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rungwise.results.io.formatting import metric_label
from rungwise.results.record.types import State
from rungwise.results.report.plots.primitives import Figure, Json, View, axis, colour, padded, state_colour, whole_ticks
from rungwise.results.report.snapshot import EPSILON, Entry, Snapshot, by_state
from rungwise.text import plural

POINTS = 24_000  # of all learning curves together: more is drawn no better, and slowly
_MARKS = {
    State.COMPLETED: "circle",
    State.STOPPED: "circle",
    State.DIVERGED: "x",
    State.FAILED: "square-open",
    State.LOST: "triangle-down-open",
    State.RUNNING: "triangle-right",
}
_QUIET = {State.COMPLETED, State.STOPPED}  # small ends: the lines say it


def plot_curves(snapshot: Snapshot) -> Figure | None:
    """The objective of every trial over its epochs, coloured by how it ended, with the rungs."""
    drawn = [entry for entry in snapshot.search if any(math.isfinite(value) for _, value, _ in entry.curve)]
    if not drawn:
        return None
    each = max(8, POINTS // len(drawn))
    thinned = any(len(entry.curve) > each for entry in drawn)
    whole, close = _ranges(drawn, snapshot.sign)
    views = [View("whole", _curve_traces(drawn, each, snapshot), _curve_layout(snapshot, whole))]
    if close[1] - close[0] < 0.6 * (whole[1] - whole[0]):
        views.append(View("close-up", views[0].data, _curve_layout(snapshot, close)))
    if len(snapshot.arms) > 1:
        views += [
            View(arm, _curve_traces(arm_entries, each, snapshot), _curve_layout(snapshot, whole))
            for arm in snapshot.arms
            if (arm_entries := [entry for entry in drawn if entry.trial.arm == arm])
        ]
    off = sum(any(math.isfinite(v) and not whole[0] <= v <= whole[1] for _, v, _ in entry.curve) for entry in drawn)
    blank = len(snapshot.search) - len(drawn)
    counts = ", ".join(f"{len(members)} {state.lower()}" for state, members in by_state(snapshot.search).items())
    rungs = ", ".join(f"{rung:g}" for rung in snapshot.rungs[:-1])
    return Figure(
        "curves",
        f"{metric_label(snapshot.metric).capitalize()} over epochs of {plural(len(drawn), 'trial')}: {counts}."
        + (f" Rungs at epoch {rungs}." if rungs else " No rungs: no trial was compared on the way."),
        views,
        "One line per trial. Dashed vertical lines are rungs, where ASHA compares trials; curves that end on one were "
        "stopped there."
        + (f" Curves are thinned to {each} points each." if thinned else "")
        + (f" Partly off this range: {plural(off, 'curve')}." if off else "")
        + (f" Not drawn: {plural(blank, 'trial')} without a finite score." if blank else ""),
        height=430,
    )


def _curve_traces(entries: Sequence[Entry], each: int, snapshot: Snapshot) -> list[Json]:
    data: list[Json] = []
    order = [State.STOPPED, State.LOST, State.FAILED, State.DIVERGED, State.RUNNING, State.COMPLETED]
    entries_by_state = by_state(entries)
    for state in order:
        members = entries_by_state.get(state, [])
        points: list[tuple[float | None, float | None, int | None]] = []  # (epoch, value, trial); None ends a line
        ends: list[tuple[float, float, int]] = []
        for entry in members:
            if finite := [(epoch, value) for epoch, value, _ in entry.curve if math.isfinite(value)]:
                thinned = _thinned(finite, each, snapshot.rungs)
                points += [*((epoch, value, entry.number) for epoch, value in thinned), (None, None, None)]
                ends.append((*finite[-1], entry.number))
        if not ends:
            continue
        x, y, trials = ([point[i] for point in points] for i in range(3))
        group = {"legendgroup": state.lower(), "name": f"{state.lower()} ({len(ends)})"}
        faint = len(entries) > 60
        line: Json = {"color": state_colour(state), "width": 1.2 if faint else 1.6}
        if state in (State.RUNNING, State.LOST):
            line["dash"] = "dot"
        opacity = 0.45 if faint and state is State.STOPPED else 0.6 if faint else 0.85
        lines = {"mode": "lines", "x": x, "y": y, "line": line, "opacity": opacity, "connectgaps": False}
        data.append(group | lines | {"meta": {"trials": trials}})
        marker: Json = {"color": state_colour(state), "symbol": _MARKS[state], "size": 5 if state in _QUIET else 9}
        marker["line"] = {"width": 1.5, "color": state_colour(state)}
        last_x, last_y, ended = ([end[i] for end in ends] for i in range(3))
        dots = {"mode": "markers", "x": last_x, "y": last_y, "marker": marker, "showlegend": False, "opacity": opacity}
        data.append(group | dots | {"meta": {"trials": ended}})
    return data


def _thinned(points: list[tuple[float, float]], each: int, rungs: Sequence[float]) -> list[tuple[float, float]]:
    """At most about `each` of the points: the first, the last, those at rungs, and evenly spaced ones."""
    if len(points) <= each:
        return points
    last = len(points) - 1
    keep = {round(i * last / (each - 1)) for i in range(each)}
    for rung in rungs:
        keep |= {i for i, (epoch, _) in enumerate(points) if abs(epoch - rung) < EPSILON}
    return [points[i] for i in sorted(keep)]


def _curve_layout(snapshot: Snapshot, limits: tuple[float, float]) -> Json:
    shapes, notes = [], []
    for index, rung in enumerate(snapshot.rungs[:-1], 1):
        shapes.append(
            {"type": "line", "x0": rung, "x1": rung, "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
            | {"line": {"color": colour("muted"), "width": 1, "dash": "dash"}}
        )
        notes.append(
            {"x": rung, "y": 1, "yref": "paper", "yanchor": "bottom", "text": f"rung {index}", "showarrow": False}
            | {"font": {"size": 11, "color": colour("muted")}}
        )
    epochs = {"range": [0, snapshot.epochs * 1.03], **whole_ticks(snapshot.epochs)} if snapshot.epochs else {}
    xaxis = {"title": {"text": "epochs"}, "showgrid": False, **epochs}
    layout = {"xaxis": xaxis, "yaxis": axis(snapshot.metric, range=list(limits)), "hovermode": "closest"}
    return layout | {"shapes": shapes, "annotations": notes}


def _ranges(entries: Sequence[Entry], sign: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """(lowest, highest) of the axis: of everything but wild outliers, and of the better half of the last values."""
    values = sorted(value for entry in entries for _, value, _ in entry.curve if math.isfinite(value))
    lasts = sorted(v for entry in entries for _, v, _ in entry.curve[-1:] if math.isfinite(v))
    lasts = lasts or values
    low, high = values[0], values[-1]
    if sign < 0:  # a loss may explode: its wildest percent is cut off
        high = min(high, max(3 * values[len(values) // 2], values[math.floor(0.98 * (len(values) - 1))]))
        close = (low, lasts[len(lasts) // 2])
    else:
        low = max(low, min(values[math.ceil(0.01 * (len(values) - 1))], values[len(values) // 2]))
        close = (lasts[len(lasts) // 2], high)
    return padded(low, high), padded(*close)
