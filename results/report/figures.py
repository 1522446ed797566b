"""Plots over time: history of the best, learning curves, arms, confusion. Each is plain data for plotly.js.

A colour is the name of one of page.css's variables, so that a plot follows the page from light to dark. A value from
the record that becomes text is escaped here: plotly.js reads tags in it.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rungwise.results.io.formatting import named, shown
from rungwise.results.io.metric_format import MetricFormat
from rungwise.results.record.types import State
from rungwise.results.report.snapshot import EPSILON, Entry, Snapshot, best_of, by_state

Json = dict[str, Any]
LABEL = 22  # characters of a name beside an axis
POINTS = 24_000  # of all learning curves together: more is drawn no better, and slowly
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "triangle-down", "pentagon")
_MARKS = {
    State.COMPLETED: "circle",
    State.STOPPED: "circle",
    State.DIVERGED: "x",
    State.FAILED: "square-open",
    State.LOST: "triangle-down-open",
    State.RUNNING: "triangle-right",
}
_QUIET = {State.COMPLETED, State.STOPPED}  # small ends: the lines say it


@dataclass(frozen=True)
class View:
    """One drawing of a figure; a figure with several has a button for each."""

    label: str
    data: list[Json]
    layout: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """What the page shows in one frame. `alt` says the finding in words; `note` says how to read it."""

    key: str
    alt: str
    views: Sequence[View]
    note: str = ""
    height: int = 380  # CSS pixels
    min_width: int = 0  # CSS pixels; a narrower page scrolls within the frame


def safe(value: object) -> str:
    """Text for plotly.js, which reads tags and entities."""
    return html.escape(str(value), quote=False)


def brief(value: object, most: int = LABEL) -> str:
    """A name for the edge of a plot: its beginning, when it is longer than `most` characters."""
    told = str(value)
    return safe(told if len(told) <= most else told[: most - 1] + "\N{HORIZONTAL ELLIPSIS}")


def colour(name: str) -> str:
    return f"var(--{name})"


def arm_colour(index: int) -> str:
    return colour(f"arm-{index % 8}")


def state_colour(state: State) -> str:
    return colour(f"state-{state.lower()}")


def axis(metric: str, **more: Any) -> Json:
    """An axis of the objective."""
    told: Json = {"title": {"text": safe(named(metric))}}
    if "accuracy" in metric:
        told["tickformat"] = ".4~%"
    return told | more


def category(values: Sequence[str], **more: Any) -> Json:
    """An axis of names, in the order given."""
    told: Json = {"type": "category", "categoryorder": "array", "categoryarray": [safe(value) for value in values]}
    if any(len(value) > LABEL for value in values):
        told |= {"tickvals": told["categoryarray"], "ticktext": [brief(value) for value in values]}
    return told | more


# -- history ---------------------------------------------------------------------------------------------------


def history(now: Snapshot) -> Figure | None:
    """Best value so far per arm, over the trials' numbers and over the hours that drivers worked."""
    able = [entry for entry in now.search if entry.able]
    if not able:
        return None
    views = []
    low, high = _upper([entry.best for entry in able if entry.best is not None], now.sign)
    unit, seconds = _unit(max(now.worked(entry.curve[-1][2]) for entry in able if entry.curve))
    for label, title in (("by trial", "trial"), ("by time", f"{unit} of work"), ("all scores", "trial")):
        data: list[Json] = []
        for index, arm in enumerate(now.arms):
            mine = []
            for entry in able:
                if entry.trial.arm == arm and entry.best is not None:
                    x = now.worked(_at_best(entry)) / seconds if label == "by time" else entry.number
                    mine.append((x, entry.best, entry.number))
            if mine:
                data += _steps(sorted(mine), index, arm, now)
        last = max(x for trace in data for x in trace["x"])
        for trace in data[1::2]:  # the lines go on to the end
            trace["x"].append(last)
            trace["y"].append(trace["y"][-1])
        limits = {} if label == "all scores" else {"range": [low, high]}
        views.append(View(label, data, {"xaxis": {"title": {"text": title}}, "yaxis": axis(now.metric, **limits)}))
    worse = sum(not low <= entry.best <= high for entry in able if entry.best is not None)
    if not worse:
        views.pop()
    words = [
        f"{arm}: {shown(best.best, now.metric)} by trial {best.number}"
        for arm in now.arms
        if (best := best_of([entry for entry in able if entry.trial.arm == arm]))
    ]
    return Figure(
        "history",
        f"Best {named(now.metric)} so far. " + "; ".join(words) + ".",
        views,
        "Line: the best validation score so far in each arm. Dots: the best score of every trial. A best of many "
        "noisy scores flatters: the more trials, the more."
        + (f" Off this range: {worse} worse; “all scores” shows every trial." if worse else ""),
    )


def _steps(points: list[tuple[float, float, int]], index: int, arm: str, now: Snapshot) -> list[Json]:
    best: list[float] = []
    for _, value, _ in points:
        best.append(value if not best else now.sign * max(now.sign * value, now.sign * best[-1]))
    x: list[float] = [point[0] for point in points]
    y = [point[1] for point in points]
    look = {"legendgroup": str(index), "name": safe(arm)}
    dots = look | {
        "mode": "markers",
        "x": x,
        "y": y,
        "showlegend": False,
        "marker": {"color": arm_colour(index), "symbol": SYMBOLS[index % 8], "size": 7, "opacity": 0.45},
        "meta": {"trials": [point[2] for point in points]},
    }
    line = look | {
        "mode": "lines",
        "x": list(x),
        "y": best,
        "line": {"color": arm_colour(index), "width": 2.5, "shape": "hv"},
        "hoverinfo": "skip",
    }
    return [dots, line]


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
    return _padded(low, high)


def _unit(seconds: float) -> tuple[str, float]:
    if seconds > 2 * 3600:
        return "hours", 3600.0
    return ("minutes", 60.0) if seconds > 120 else ("seconds", 1.0)


# -- learning curves -------------------------------------------------------------------------------------------


def curves(now: Snapshot) -> Figure | None:
    """The objective of every trial over its epochs, coloured by how it ended, with the rungs."""
    drawn = [entry for entry in now.search if any(math.isfinite(value) for _, value, _ in entry.curve)]
    if not drawn:
        return None
    each = max(8, POINTS // len(drawn))
    thinned = any(len(entry.curve) > each for entry in drawn)
    whole, close = _ranges(drawn, now.sign)
    views = [View("whole", _curve_traces(drawn, each, now), _curve_layout(now, whole))]
    if close[1] - close[0] < 0.6 * (whole[1] - whole[0]):
        views.append(View("close-up", views[0].data, _curve_layout(now, close)))
    if len(now.arms) > 1:
        views += [
            View(arm, _curve_traces(mine, each, now), _curve_layout(now, whole))
            for arm in now.arms
            if (mine := [entry for entry in drawn if entry.trial.arm == arm])
        ]
    counts = ", ".join(f"{len(found)} {state.lower()}" for state, found in by_state(now.search).items())
    rungs = ", ".join(f"{rung:g}" for rung in now.rungs[:-1])
    return Figure(
        "curves",
        f"{named(now.metric).capitalize()} over epochs of {len(drawn)} trials: {counts}."
        + (f" Rungs at epochs {rungs}." if rungs else " No rungs: no trial was compared on the way."),
        views,
        "One line a trial. Dashed uprights are the rungs at which ASHA compares trials; a line that ends at one was "
        "stopped there." + (f" Curves are thinned to {each} points each." if thinned else ""),
        height=430,
    )


def _curve_traces(entries: Sequence[Entry], each: int, now: Snapshot) -> list[Json]:
    data: list[Json] = []
    order = [State.STOPPED, State.LOST, State.FAILED, State.DIVERGED, State.RUNNING, State.COMPLETED]
    found = by_state(entries)
    for state in order:
        mine = found.get(state, [])
        x: list[float | None] = []
        y: list[float | None] = []
        trials: list[int | None] = []
        ends: list[tuple[float, float, int]] = []
        for entry in mine:
            finite = [(epoch, value) for epoch, value, _ in entry.curve if math.isfinite(value)]
            if not finite:
                continue
            for epoch, value in _thinned(finite, each, now.rungs):
                x.append(epoch)
                y.append(value)
                trials.append(entry.number)
            x.append(None)
            y.append(None)
            trials.append(None)
            ends.append((*finite[-1], entry.number))
        if not ends:
            continue
        group = {"legendgroup": state.lower(), "name": f"{state.lower()} ({len(ends)})"}
        faint = len(entries) > 60
        line: Json = {"color": state_colour(state), "width": 1.2 if faint else 1.6}
        if state in (State.RUNNING, State.LOST):
            line["dash"] = "dot"
        opacity = 0.45 if faint and state is State.STOPPED else 0.6 if faint else 0.85
        data.append(
            group
            | {"mode": "lines", "x": x, "y": y, "line": line, "opacity": opacity, "connectgaps": False}
            | {"meta": {"trials": trials}}
        )
        marker: Json = {"color": state_colour(state), "symbol": _MARKS[state], "size": 5 if state in _QUIET else 9}
        marker["line"] = {"width": 1.5, "color": state_colour(state)}
        data.append(
            group
            | {"mode": "markers", "x": [end[0] for end in ends], "y": [end[1] for end in ends], "marker": marker}
            | {"showlegend": False, "opacity": opacity, "meta": {"trials": [end[2] for end in ends]}}
        )
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


def _curve_layout(now: Snapshot, limits: tuple[float, float]) -> Json:
    shapes, notes = [], []
    for index, rung in enumerate(now.rungs[:-1], 1):
        shapes.append(
            {"type": "line", "x0": rung, "x1": rung, "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
            | {"line": {"color": colour("muted"), "width": 1, "dash": "dash"}}
        )
        notes.append(
            {"x": rung, "y": 1, "yref": "paper", "yanchor": "bottom", "text": f"rung {index}", "showarrow": False}
            | {"font": {"size": 11, "color": colour("muted")}}
        )
    return {
        "xaxis": {
            "title": {"text": "epochs"},
            "showgrid": False,
            "range": [0, now.epochs * 1.03] if now.epochs else None,
        },
        "yaxis": axis(now.metric, range=list(limits)),
        "shapes": shapes,
        "annotations": notes,
        "hovermode": "closest",
    }


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
    return _padded(low, high), _padded(*close)


def _padded(low: float, high: float) -> tuple[float, float]:
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return low - room, high + room


# -- arms ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """One arm of the arms' plot: single values, and mean and 95% interval where they are known."""

    arm: str
    values: Sequence[float]
    mean: float | None = None
    low: float | None = None
    high: float | None = None


def _interval(bar: Bar, score_format: MetricFormat) -> str:
    return "" if bar.low is None or bar.high is None else score_format.interval(bar.low, bar.high)


def arms(bars: Sequence[Bar], score_format: MetricFormat, confirmed: bool) -> Figure | None:
    """Dot and whisker for confirmed arms; before that, every full-length score of the search."""
    bars = [bar for bar in bars if bar.values]
    if not bars:
        return None
    data: list[Json] = []
    metric, split = score_format.metric, score_format.split
    names = [safe(bar.arm) for bar in bars]
    for index, bar in enumerate(bars):
        spread = [index + 0.22 * _jitter(i) + 0.18 for i in range(len(bar.values))]
        if not confirmed:
            spread = [index + 0.25 * _jitter(i) for i in range(len(bar.values))]
        data.append(
            {"mode": "markers", "x": list(bar.values), "y": spread, "showlegend": False}
            | {"marker": {"color": arm_colour(index), "size": 8 if confirmed else 9, "opacity": 0.5}}
            | {"hovertemplate": f"{names[index]}: %{{x}}<extra></extra>"}
        )
        if bar.mean is None:
            continue
        whiskers: Json = {"type": "data", "thickness": 2.5, "width": 9, "color": arm_colour(index)}
        known = bar.low is not None and bar.high is not None
        if bar.low is not None and bar.high is not None:
            whiskers |= {"symmetric": False, "array": [bar.high - bar.mean], "arrayminus": [bar.mean - bar.low]}
        words = f"{names[index]}: mean {shown(bar.mean, metric)}"
        words += f", 95% interval {_interval(bar, score_format)}" if known else ""
        data.append(
            {"mode": "markers", "x": [bar.mean], "y": [index], "showlegend": False}
            | {"marker": {"color": arm_colour(index), "size": 14, "symbol": SYMBOLS[index % 8]}}
            | ({"error_x": whiskers} if known else {})
            | {"hovertemplate": f"{words}, n={len(bar.values)}<extra></extra>"}
        )
    layout = {
        "xaxis": axis(
            metric, title={"text": safe(named(metric) if split in named(metric) else f"{split} {named(metric)}")}
        ),
        "yaxis": {
            "tickvals": list(range(len(bars))),
            "ticktext": [brief(bar.arm) for bar in bars],
            "range": [len(bars) - 0.5, -0.5],
        }
        | {"zeroline": False, "showgrid": False},
    }
    words = "; ".join(
        f"{bar.arm}: {shown(bar.mean, metric)}"
        + (f" ({_interval(bar, score_format)})" if bar.low is not None else "")
        + f", n={len(bar.values)}"
        for bar in bars
        if bar.mean is not None
    )
    note = (
        "Big mark: mean over fresh seeds. Whisker: its 95% interval. Small dots: the single seeds."
        if confirmed
        else "Every dot is one trial of the search, at its best report. No interval is drawn: scores that were "
        "searched for are not a sample of what to expect."
    )
    alt = words or "Best scores of the search per arm: " + "; ".join(
        f"{bar.arm}: {len(bar.values)} trials from {shown(min(bar.values), metric)} to {shown(max(bar.values), metric)}"
        for bar in bars
    )
    return Figure("arms", alt, [View("arms", data, layout)], note, height=110 + 62 * len(bars))


def _jitter(index: int) -> float:
    """Spread that looks even and is the same on every page: the golden ratio's sequence, in [-1, 1]."""
    return 2.0 * ((index * 0.618033988749895) % 1.0) - 1.0


# -- confusion -------------------------------------------------------------------------------------------------


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Counts on the test set: mistakes are coloured, the right ones on the diagonal are not."""
    size = len(matrix)
    names = [safe(name) for name in classes]
    wrong = [[None if i == j else count for j, count in enumerate(row)] for i, row in enumerate(matrix)]
    worst = sorted(((count, i, j) for i, row in enumerate(matrix) for j, count in enumerate(row) if i != j and count))
    total = sum(map(sum, matrix))
    right = sum(matrix[i][i] for i in range(size))
    data: list[Json] = [
        {
            "type": "heatmap",
            "z": wrong,
            "x": names,
            "y": names,
            "colorscale": [[0, colour("panel")], [0.15, colour("heat-1")], [1, colour("heat-2")]],
            "zmin": 0,
            "showscale": False,
            "xgap": 1,
            "ygap": 1,
            "hovertemplate": "%{z} of class %{y} taken for %{x}<extra></extra>",
        }
    ]
    notes: list[Json] = []
    if size <= 12:
        most = worst[-1][0] if worst else 1
        notes = [
            {"x": names[j], "y": names[i], "text": str(count), "showarrow": False}
            | {"font": {"size": 11, "color": colour(_ink(i == j, count / most))}}
            for i, row in enumerate(matrix)
            for j, count in enumerate(row)
            if count
        ]
    shares = [(matrix[i][i] / sum(row), i) for i, row in enumerate(matrix) if sum(row)]
    confused = ", ".join(f"{classes[i]} taken for {classes[j]} ({count} times)" for count, i, j in worst[::-1][:3])
    return Figure(
        "confusion",
        f"{right} of {total} test samples are right."
        + (f" Most frequent mistakes: {confused}." if confused else "")
        + (f" Weakest class: {classes[min(shares)[1]]}, {100 * min(shares)[0]:.1f}% right." if shares else ""),
        [
            View(
                "confusion",
                data,
                {
                    "xaxis": category(classes, title={"text": "predicted"}, showgrid=False, zeroline=False),
                    "yaxis": category(classes, title={"text": "true"}, autorange="reversed", showgrid=False),
                    "annotations": notes,
                },
            )
        ],
        "Rows: what it is. Columns: what the model says. Mistakes are coloured; the diagonal counts what is right.",
        height=480,
    )


def _ink(diagonal: bool, share: float) -> str:
    if diagonal:
        return "muted"
    return "on-heat" if share > 0.55 else "ink"
