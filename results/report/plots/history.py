"""The best score so far per arm, over trials and over working time."""

from __future__ import annotations

from collections.abc import Sequence

from rungwise.results.io.formatting import format_metric, metric_label
from rungwise.results.report.plots.primitives import (
    Figure,
    Json,
    View,
    arm_colour,
    arm_markers,
    axis,
    padded,
    safe,
    whole_ticks,
)
from rungwise.results.report.snapshot import Entry, Snapshot, first_ranked


def plot_history(snapshot: Snapshot) -> Figure | None:
    """Best value so far per arm, over the trials' numbers and over the hours that drivers worked."""
    rankable = [entry for entry in snapshot.search if entry.rankable]
    if not rankable:
        return None
    views = []
    low, high = _upper([entry.best for entry in rankable if entry.best is not None], snapshot.sign)
    unit, seconds = unit_of(max(snapshot.worked(entry.curve[-1][2]) for entry in rankable if entry.curve))
    for label, title in (("by trial", "trial"), ("by time", f"{unit} of work"), ("all scores", "trial")):
        data: list[Json] = []
        for index, arm in enumerate(snapshot.arms):
            points = [
                (snapshot.worked(_at_best(e)) / seconds if label == "by time" else e.number, e.best, e.number)
                for e in rankable
                if e.trial.arm == arm and e.best is not None
            ]
            if points:
                data += _steps(sorted(points), index, arm, snapshot)
        last = max(x for trace in data for x in trace["x"])
        for trace in data[1::2]:  # the lines go on to the end
            trace["x"].append(last)
            trace["y"].append(trace["y"][-1])
        limits = {} if label == "all scores" else {"range": [low, high]}
        xaxis = {"title": {"text": title}} | (whole_ticks(last) if title == "trial" else {})
        views.append(View(label, data, {"xaxis": xaxis, "yaxis": axis(snapshot.metric, **limits)}))
    worse = sum(not low <= entry.best <= high for entry in rankable if entry.best is not None)
    if not worse:
        views.pop()
    best_texts = [
        f"{arm}: {format_metric(best.best, snapshot.metric)} by trial {best.number}"
        for arm in snapshot.arms
        if (best := first_ranked([entry for entry in rankable if entry.trial.arm == arm]))
    ]
    return Figure(
        "history",
        f"Best {metric_label(snapshot.metric)} so far. " + "; ".join(best_texts) + ".",
        views,
        "Line: the best validation score so far in each arm. Dots: the best score of every trial. The best of "
        "many noisy scores is optimistic, increasingly so with more trials."
        + (f" Off this range: {worse} worse; “all scores” shows every trial." if worse else ""),
    )


def _steps(points: list[tuple[float, float, int]], index: int, arm: str, snapshot: Snapshot) -> list[Json]:
    best: list[float] = []
    for _, value, _ in points:
        best.append(value if not best else snapshot.sign * max(snapshot.sign * value, snapshot.sign * best[-1]))
    x, y, trials = ([point[i] for point in points] for i in range(3))
    dots = arm_markers(index, arm, x, y, trials, size=7, opacity=0.45) | {"showlegend": False}
    line = {"legendgroup": str(index), "name": safe(arm), "mode": "lines", "x": [*x], "y": best, "hoverinfo": "skip"}
    return [dots, line | {"line": {"color": arm_colour(index), "width": 2.5, "shape": "hv"}}]


def _at_best(entry: Entry) -> float:
    """When the trial reported its best value."""
    at = [when for epoch, value, when in entry.curve if value == entry.best and epoch == entry.best_epoch]
    return at[0] if at else entry.curve[-1][2]


def _upper(values: Sequence[float], sign: float) -> tuple[float, float]:
    """The range of the better half, with as much room again below it."""
    ranked = sorted(values, key=lambda value: sign * value)
    best, middle = ranked[-1], ranked[len(ranked) // 2]
    far = middle - sign * abs(best - middle)
    worst = max(far, ranked[0]) if sign > 0 else min(far, ranked[0])
    low, high = sorted((worst, best))
    return padded(low, high)


def unit_of(seconds: float) -> tuple[str, float]:
    """(name, seconds) of the unit in which so long a time is drawn."""
    if seconds > 2 * 3600:
        return "hours", 3600.0
    return ("minutes", 60.0) if seconds > 120 else ("seconds", 1.0)
