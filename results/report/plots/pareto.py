"""The Pareto front on the page: a plot and a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rungwise.results.analysis.pareto import Point, amount
from rungwise.results.io.formatting import assignments, metric_label
from rungwise.results.report.page import Table
from rungwise.results.report.plots.primitives import Figure, View, arm_markers, axis, colour


def plot_pareto(points: Sequence[Point], arms: Sequence[str]) -> Figure | None:
    """The first objective over each other one; the front is a line."""
    if not points:
        return None
    first, *others = points[0].values
    views = []
    for other in others:
        data: list[dict[str, Any]] = []
        for index, arm in enumerate(arms):
            arm_points = [point for point in points if point.trial.arm == arm]
            if arm_points:
                x, y = ([point.values[name] for point in arm_points] for name in (other, first))
                size = [11 if point.front else 7 for point in arm_points]
                opacity = [1.0 if point.front else 0.45 for point in arm_points]
                trials = [point.trial.trial for point in arm_points]
                data.append(arm_markers(index, arm, x, y, trials, size=size, opacity=opacity))
        edge = sorted((point.values[other], point.values[first]) for point in points if point.front)
        line = {"mode": "lines", "name": "front", "x": [x for x, _ in edge], "y": [y for _, y in edge]}
        data.append(line | {"line": {"color": colour("muted"), "width": 1.5, "dash": "dot"}, "hoverinfo": "skip"})
        views.append(View(metric_label(other), data, {"xaxis": axis(other), "yaxis": axis(first)}))
    count = sum(point.front for point in points)
    return Figure(
        "pareto",
        f"{metric_label(first).capitalize()} over {' and '.join(metric_label(other) for other in others)} "
        f"of {len(points)} completed trials; {count} of them are on the Pareto front.",
        views,
        "A dot is a completed trial with its last values; a large one is on the front: no other is as good in every "
        "objective and better in one. Early stopping looked at the first objective only.",
    )


def pareto_table(points: Sequence[Point]) -> Table:
    """The front as a table."""
    names = list(points[0].values) if points else []
    rows = [
        [
            point.trial.trial,
            point.trial.arm,
            *(amount(point.values[name], name) for name in names),
            assignments(point.trial.params),
        ]
        for point in points
        if point.front
    ]
    return Table("the Pareto front", ["trial", "arm", *map(metric_label, names), "settings"], rows)
