"""The objective over one hyperparameter (slices) and over two (contour), at equal epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rungwise.results.io.formatting import epochs, format_metric, metric_label, setting
from rungwise.results.report.importance import LEAST_OF_LEVEL, ImportanceAnalysis
from rungwise.results.report.plots.primitives import Figure, Json, View, arm_markers, axis, brief, colour, safe
from rungwise.results.report.plots.space.scales import scale_of
from rungwise.results.report.snapshot import Entry, Snapshot

SLICES = 6
TITLE = 26  # characters that fit below the narrowest plot
_GRID = 36


def plot_slices(analysis: ImportanceAnalysis, snapshot: Snapshot) -> list[Figure]:
    """The objective over each hyperparameter, the most important first."""
    if analysis.rung is None:
        return []
    figures: list[Figure] = []
    for name in analysis.names[:SLICES]:
        points = [
            (entry, entry.trial.params[name], value) for entry, value in analysis.level if name in entry.trial.params
        ]
        if len(points) < 2:
            continue
        scale = scale_of([entry for entry, _, _ in points], name)
        data: list[Json] = []
        for index, arm in enumerate(snapshot.arms):
            arm_points = [point for point in points if point[0].trial.arm == arm]
            if arm_points:
                entries, settings, values = zip(*arm_points, strict=True)
                x, trials = [scale.tick(setting) for setting in settings], [entry.number for entry in entries]
                data.append(arm_markers(index, arm, x, values, trials, size=8, opacity=0.7))
        best = max(points, key=lambda point: snapshot.sign * point[2])
        low, high = robust_range([value for _, _, value in points], snapshot.sign)
        off = sum(not low <= value <= high for _, _, value in points)
        xaxis = scale.axis(title_with_unit(name, snapshot))
        layout = {"xaxis": xaxis, "yaxis": axis(snapshot.metric, range=[low, high])}
        alt = f"{metric_label(snapshot.metric).capitalize()} over {name} at {epochs(analysis.rung)}, n={len(points)}. "
        alt += f"Best: {format_metric(best[2], snapshot.metric)} at {name} = {setting(best[1])}."
        alt += f" Off this range: {off} worse." if off else ""
        figures.append(Figure(f"slice-{len(figures)}", alt, [View(name, data, layout)], height=300))
    return figures


def plot_contour(analysis: ImportanceAnalysis, snapshot: Snapshot) -> Figure | None:
    """The objective over the two most important numeric hyperparameters, smoothed between the trials."""
    if analysis.rung is None:
        return None
    numeric = [name for name in analysis.names if scale_of([entry for entry, _ in analysis.level], name).numeric]
    pairs = [(a, b) for i, a in enumerate(numeric[:3]) for b in numeric[i + 1 : 3]]
    views = []
    for a, b in pairs:
        points = [(entry, value) for entry, value in analysis.level if {a, b} <= entry.trial.params.keys()]
        if len(points) >= LEAST_OF_LEVEL:
            views.append(_contour(points, (a, b), snapshot))
    if not views:
        return None
    return Figure(
        "contour",
        f"{metric_label(snapshot.metric).capitalize()} over pairs of hyperparameters at {epochs(analysis.rung)}: "
        + ", ".join(v.label for v in views),
        views,
        "Dots are trials, coloured by their score; the surface is the mean of its neighbours' scores, weighted by "
        "nearness, and is left blank where no trial is near. The other hyperparameters vary, too.",
        height=440,
    )


def _contour(points: Sequence[tuple[Entry, float]], pair: tuple[str, str], snapshot: Snapshot) -> View:
    entries = [entry for entry, _ in points]
    a, b = (scale_of(entries, name) for name in pair)
    x, y = (np.array([s.place(e.trial.params[s.name]) for e in entries]) for s in (a, b))
    z = np.array([value for _, value in points])
    wide = 0.9 * len(points) ** (-1 / 6) * 0.29  # Scott's rule for a uniform sample in the unit square
    grid = np.linspace(0, 1, _GRID)
    distance = (grid[None, :, None] - x) ** 2 + (grid[:, None, None] - y) ** 2  # squared, (_GRID y, _GRID x, n)
    weights = np.exp(-distance / (2 * wide**2))
    mass = weights.sum(axis=2)
    surface = np.where(mass > 0.3, (weights @ z) / np.maximum(mass, 1e-12), np.nan)
    low, high = robust_range(z.tolist(), snapshot.sign)
    scale = colour_scale(snapshot.sign)
    look = {"colorscale": scale, "zmin": low, "zmax": high}
    surface_trace = look | {
        "type": "contour",
        "x": [a.at(u) for u in grid],
        "y": [b.at(u) for u in grid],
        "z": surface.tolist(),
        "connectgaps": False,
        "contours": {"coloring": "heatmap", "showlines": True},
        "line": {"width": 0.5, "color": colour("panel")},
        "colorbar": colour_bar(snapshot.metric),
        "hoverinfo": "skip",
    }
    dots: Json = {"mode": "markers", "showlegend": False}
    dots |= {
        "x": [a.tick(e.trial.params[a.name]) for e in entries],
        "y": [b.tick(e.trial.params[b.name]) for e in entries],
    }
    halo = dots | {"hoverinfo": "skip", "marker": {"color": "#ffffff", "size": 13}}
    marker = {"color": z.tolist(), "colorscale": scale, "cmin": low, "cmax": high, "size": 10}
    dots |= {
        "marker": marker | {"line": {"width": 1, "color": "#000000"}},
        "meta": {"trials": [e.number for e in entries]},
    }
    axes = {"xaxis": a.axis(title_with_unit(a.name, snapshot)), "yaxis": b.axis(title_with_unit(b.name, snapshot))}
    label = f"{a.name} × {b.name}"  # noqa: RUF001
    return View(label, [surface_trace, halo, dots], axes | {"hovermode": "closest"})


def colour_scale(sign: float) -> list[list[Any]]:
    """plotly.js' colorscale of scores: the better, the brighter."""
    return [[i / 4, colour(f"map-{i if sign > 0 else 4 - i}")] for i in range(5)]


def colour_bar(metric: str) -> Json:
    """The legend of such a scale."""
    bar: Json = {"title": {"text": safe(metric_label(metric)), "side": "right"}, "thickness": 12}
    return bar | ({"tickformat": ".4~%"} if "accuracy" in metric else {})


def robust_range(values: Sequence[float], sign: float) -> list[float]:
    """An axis' ends that a few very bad trials do not stretch."""
    ranked = sorted(values)
    low, high = ranked[0], ranked[-1]
    tenth, ninth = ranked[len(ranked) // 10], ranked[-1 - len(ranked) // 10]
    if sign > 0:
        low = max(low, tenth - 0.5 * (high - tenth))
    else:
        high = min(high, ninth + 0.5 * (ninth - low))
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return [low - room, high + room]


def title_with_unit(name: str, snapshot: Snapshot) -> str:
    """The title of a hyperparameter's axis."""
    unit = snapshot.about.get(name, {}).get("unit", "")
    return brief(f"{name} ({unit})" if unit else name, TITLE)
