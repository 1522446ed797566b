"""The arms compared: means and intervals of fresh seeds or, before these, the scores of the search; and what the answer
claims, each arm's difference from the control with its interval, zero, and what is worth having."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rungwise.results.analysis.answer import Answer
from rungwise.results.analysis.findings import Comparison, Replicate
from rungwise.results.io.formatting import format_metric
from rungwise.results.io.metric_format import MetricFormat
from rungwise.results.report.plots.primitives import SYMBOLS, Figure, Json, View, arm_colour, axis, brief, colour, safe
from rungwise.results.report.snapshot import Snapshot
from rungwise.text import plural

_UNITS = {Replicate.SEED: "fresh seeds", Replicate.SEARCH: "searches, each with its own winner"}


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


def _bars(snapshot: Snapshot, answer: Answer) -> list[Bar]:
    if answer.confirmed:
        scored = [(arm.arm, list(arm.scores.values()), arm.score) for arm in answer.arms if arm.score]
        return [Bar(arm, values, score.mean, score.low, score.high) for arm, values, score in scored]
    rankable = [entry for entry in snapshot.search if entry.rankable]
    return [Bar(arm, [e.best for e in rankable if e.trial.arm == arm and e.best is not None]) for arm in snapshot.arms]


def plot_arms(snapshot: Snapshot, answer: Answer) -> Figure | None:
    """Dot and whisker for confirmed arms; before that, every full-length score of the search."""
    confirmed = answer.confirmed
    score_format = answer.format if confirmed else answer.objective_format
    bars = [bar for bar in _bars(snapshot, answer) if bar.values]
    if not bars:
        return None
    data: list[Json] = []
    metric = score_format.metric
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
        has_interval = bar.low is not None and bar.high is not None
        if bar.low is not None and bar.high is not None:
            whiskers |= {"symmetric": False, "array": [bar.high - bar.mean], "arrayminus": [bar.mean - bar.low]}
        text = f"{names[index]}: mean {format_metric(bar.mean, metric)}"
        text += f", 95% interval {_interval(bar, score_format)}" if has_interval else ""
        data.append(
            {"mode": "markers", "x": [bar.mean], "y": [index], "showlegend": False}
            | {"marker": {"color": arm_colour(index), "size": 14, "symbol": SYMBOLS[index % 8]}}
            | ({"error_x": whiskers} if has_interval else {})
            | {"hovertemplate": f"{text}, n={len(bar.values)}<extra></extra>"}
        )
    yaxis = {"tickvals": list(range(len(bars))), "ticktext": [brief(bar.arm) for bar in bars]}
    yaxis |= {"range": [len(bars) - 0.5, -0.5], "zeroline": False, "showgrid": False}
    layout = {"xaxis": axis(metric, title={"text": safe(score_format.measure)}), "yaxis": yaxis}
    text = "; ".join(
        f"{bar.arm}: {format_metric(bar.mean, metric)}"
        + (f" ({_interval(bar, score_format)})" if bar.low is not None else "")
        + f", n={len(bar.values)}"
        for bar in bars
        if bar.mean is not None
    )
    note = (
        f"Big mark: mean over {_UNITS[answer.replicate]}. Whisker: its 95% interval. Small dots: one each."
        if confirmed
        else "Every dot is one trial of the search, at its best report. No interval is drawn: scores that were "
        "searched for are not a sample of what to expect."
    )
    alt = text or "Best scores of the search per arm: " + "; ".join(
        f"{bar.arm}: {plural(len(bar.values), 'trial')} from {format_metric(min(bar.values), metric)} "
        f"to {format_metric(max(bar.values), metric)}"
        for bar in bars
    )
    return Figure("arms", alt, [View("arms", data, layout)], note, height=110 + 62 * len(bars))


def _jitter(index: int) -> float:
    """Spread that looks even and is the same on every page: the golden ratio's sequence, in [-1, 1]."""
    return 2.0 * ((index * 0.618033988749895) % 1.0) - 1.0


def plot_differences(answer: Answer) -> Figure | None:
    """A mark and a whisker for each comparison; None before there is an interval."""
    compared = [one for one in answer.comparisons if one.difference is not None and one.difference.low is not None]
    if not compared:
        return None
    names = [arm.arm for arm in answer.arms]
    data = [trace for row, one in enumerate(compared) for trace in _traces(answer, one, row, names.index(one.arm))]
    better = "right" if answer.format.higher else "left"
    unit = f" ({answer.unit})" if answer.unit else ""
    layout: Json = {
        "xaxis": {
            "title": {"text": safe(f"difference in {answer.measure} from {answer.control}{unit}")},
            "zeroline": False,
        },
        "yaxis": {
            "tickvals": list(range(len(compared))),
            "ticktext": [brief(one.arm) for one in compared],
            "range": [len(compared) - 0.5, -0.5],
            "zeroline": False,
            "showgrid": False,
        },
        "shapes": _shapes(answer),
    }
    worth = (
        "" if answer.worth is None else f" The band is ± {answer.format.amount(answer.worth)}, what is worth having."
    )
    note = (
        "Whisker: the 95% interval. Thick line: the 90% interval, by which a difference is small. Small dots: "
        f"{_dots(answer)}. Further {better} is better than {answer.control}.{worth}"
    )
    alt = "; ".join(_words(answer, one) for one in compared)
    return Figure("differences", alt, [View("differences", data, layout)], note, height=120 + 56 * len(compared))


def _words(answer: Answer, one: Comparison) -> str:
    """'L2 minus no L2: 0.12 points (95% interval -0.02 to 0.25)'"""
    found = one.difference
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    low, high = answer.format.bounds(found.low, found.high)
    mean = f"{answer.format.change(found.mean)} {answer.unit}".rstrip()
    return f"{one.arm} minus {one.against}: {mean} (95% interval {low} to {high})"


def _dots(answer: Answer) -> str:
    if answer.replicate is Replicate.SEED:
        return "pairs of the same seed"
    if answer.test_parts is not None:
        return "searches of the same number, tested on the same samples (the interval is that of these pairs)"
    return "searches of the same number (they are independent: the interval is not that of pairs)"


def _traces(answer: Answer, one: Comparison, row: int, index: int) -> list[Json]:
    found, scale = one.difference, answer.scale
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    scores, control = answer.arm(one.arm).scores, answer.arm(one.against).scores
    pairs = [scale * (scores[key] - control[key]) for key in scores if key in control]
    low, high = (scale * bound for bound in (found.low, found.high))
    inner: list[Json] = []
    if found.inner_low is not None and found.inner_high is not None:
        ends = [scale * found.inner_low, scale * found.inner_high]
        line = {"color": arm_colour(index), "width": 7}
        inner = [
            {"mode": "lines", "x": ends, "y": [row, row], "showlegend": False, "line": line, "opacity": 0.45}
            | {"hoverinfo": "skip"}
        ]
    return [
        *inner,
        {
            "mode": "markers",
            "x": pairs,
            "y": [row + 0.28] * len(pairs),
            "showlegend": False,
            "marker": {"color": arm_colour(index), "size": 8, "opacity": 0.5},
            "hovertemplate": "%{x:.3f}<extra></extra>",
        },
        {
            "mode": "markers",
            "x": [scale * found.mean],
            "y": [row],
            "showlegend": False,
            "marker": {"color": arm_colour(index), "size": 14, "symbol": SYMBOLS[index % 8]},
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [high - scale * found.mean],
                "arrayminus": [scale * found.mean - low],
                "thickness": 2.5,
                "width": 9,
                "color": arm_colour(index),
            },
            "hovertemplate": f"{safe(_words(answer, one))}<extra></extra>",
        },
    ]


def _shapes(answer: Answer) -> list[Json]:
    """A line at zero, and the band of differences that are not worth having."""
    whole: Json = {"yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    line = {"type": "line", "x0": 0, "x1": 0, "line": {"color": colour("muted"), "width": 1.5}} | whole
    if answer.worth is None:
        return [line]
    width = answer.scale * answer.worth
    band = {"type": "rect", "x0": -width, "x1": width, "fillcolor": colour("wash"), "line": {"width": 0}} | whole
    return [band, line]
