"""Any two hyperparameters: a scatter whose axes the reader chooses, coloured by the score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rungwise.results.io.formatting import epochs, metric_label
from rungwise.results.report.importance import ImportanceAnalysis
from rungwise.results.report.plots.primitives import SYMBOLS, Figure, Json, View, colour, safe
from rungwise.results.report.plots.space.hyperparameters import colour_bar, colour_scale, robust_range, title_with_unit
from rungwise.results.report.plots.space.scales import scale_of
from rungwise.results.report.snapshot import Entry, Snapshot
from rungwise.text import plural


def plot_pairs(analysis: ImportanceAnalysis, snapshot: Snapshot) -> Figure | None:
    """Every trial of the search; those without a score at the level are open marks. None below two hyperparameters."""
    if analysis.rung is None or len(analysis.names) < 2:
        return None
    scores = {entry.number: value for entry, value in analysis.level}
    low, high = robust_range(list(scores.values()), snapshot.sign)
    groups: list[list[Entry]] = []
    data: list[Json] = []
    for index, arm in enumerate(snapshot.arms):
        members = [entry for entry in snapshot.search if entry.trial.arm == arm and entry.number in scores]
        if members:
            marker: Json = {"color": [scores[entry.number] for entry in members], "size": 10, "cmin": low, "cmax": high}
            marker |= {"symbol": SYMBOLS[index % 8], "colorscale": colour_scale(snapshot.sign), "showscale": not data}
            marker["colorbar"] = colour_bar(snapshot.metric)
            marker["line"] = {"width": 1, "color": colour("muted")}
            groups.append(members)
            data.append(_trace(safe(arm), index, members, marker))
    others = [entry for entry in snapshot.search if entry.number not in scores]
    if others:
        marker = {"color": colour("muted"), "symbol": "circle-open", "size": 6}
        groups.append(others)
        data.append(_trace(f"no score at {epochs(analysis.rung)}", len(snapshot.arms), others, marker))
    axes = {name: _axis(name, groups, snapshot) for name in analysis.names}
    first, second = analysis.names[:2]
    for trace, x, y in zip(data, axes[first]["values"], axes[second]["values"], strict=True):
        trace |= {"x": x, "y": y}
    label = metric_label(snapshot.metric)
    layout = {"xaxis": axes[first]["layout"], "yaxis": axes[second]["layout"], "hovermode": "closest"}
    return Figure(
        "pairs",
        f"{label.capitalize()} at {epochs(analysis.rung)} over two hyperparameters of your choice.",
        [View("pairs", data, layout)],
        f"A dot is a trial, coloured by its score at {epochs(analysis.rung)}; its shape shows the arm. "
        + (f"Open grey: {plural(len(others), 'trial')} stopped earlier or without a score there." if others else ""),
        height=460,
        axes=axes,
    )


def _trace(name: str, index: int, members: Sequence[Entry], marker: Json) -> Json:
    look: Json = {"mode": "markers", "name": name, "legendgroup": str(index), "marker": marker}
    return look | {"meta": {"trials": [entry.number for entry in members]}}


def _axis(name: str, groups: Sequence[Sequence[Entry]], snapshot: Snapshot) -> Json:
    """The axis of a hyperparameter, and for each trace its values; None where it was not searched."""
    scale = scale_of([entry for group in groups for entry in group], name)

    def tick(entry: Entry) -> Any:
        return scale.tick(entry.trial.params[name]) if name in entry.trial.params else None

    return {
        "layout": scale.axis(title_with_unit(name, snapshot)),
        "values": [[tick(entry) for entry in group] for group in groups],
    }
