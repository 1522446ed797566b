"""Parallel coordinates: a line a trial over its hyperparameters to its score."""

from __future__ import annotations

from rungwise.results.io.formatting import epochs, format_metric, metric_label
from rungwise.results.report.importance import ARM, ImportanceAnalysis
from rungwise.results.report.plots.primitives import Figure, Json, View, brief, colour, safe
from rungwise.results.report.plots.space.scales import ChoiceScale, scale_of
from rungwise.results.report.snapshot import Snapshot
from rungwise.text import plural

AXES = 8
NOT_SEARCHED = -0.3  # the place of a trial without the hyperparameter: a band of its own below the scale
_DIVIDE = -0.17  # between the scale and that band
_LINES = ("q-1", "q-2", "q-3", "q-4", "q-5")  # worst fifth to best fifth


def plot_parallel(analysis: ImportanceAnalysis, snapshot: Snapshot) -> Figure | None:
    """Every trial as a line over its hyperparameters, coloured by the fifth its score falls into."""
    if analysis.rung is None or len(analysis.level) < 2:
        return None
    shown = analysis.names[: AXES - 1]
    names = [*([ARM] if len(snapshot.arms) > 1 else []), *shown]
    cut, beyond = len(shown) < len(analysis.names), len(snapshot.search) - len(analysis.level)
    entries = [entry for entry, _ in analysis.level]
    scales = [ChoiceScale(ARM, snapshot.arms) if name == ARM else scale_of(entries, name) for name in names]
    values = [value for _, value in analysis.level]
    low, high = min(values), max(values)
    order = sorted(analysis.level, key=lambda item: snapshot.sign * item[1])
    classes = min(5, len(order))
    data: list[Json] = []
    for group in range(classes):
        members = order[group * len(order) // classes : (group + 1) * len(order) // classes]
        x: list[float | None] = []
        y: list[float | None] = []
        trials: list[int | None] = []
        for entry, value in members:
            for i, scale in enumerate(scales):
                settings = {ARM: entry.trial.arm} if scale.name == ARM else entry.trial.params
                x.append(i)
                y.append(scale.place(settings[scale.name]) if scale.name in settings else NOT_SEARCHED)
            x += [len(scales), None]
            y += [(value - low) / (high - low) if high > low else 0.5, None]
            trials += [entry.number] * (len(scales) + 1) + [None]
        best = group == classes - 1
        tone = _LINES[5 - classes + group]
        opacity = 0.95 if best else 0.7 if len(order) < 100 else 0.4
        look = {"line": {"color": colour(tone), "width": 2.4 if best else 1.2}, "opacity": opacity}
        look["marker"] = {"size": 5 if best else 3, "color": colour(tone)}
        trace = {"mode": "lines+markers", "x": x, "y": y, "name": _fifth(group, classes), "legendgroup": str(group)}
        data.append(trace | look | {"meta": {"trials": trials}})
    notes = [_label(i, place, text) for i, scale in enumerate(scales) for place, text in scale.labels()]
    notes += [_label(len(scales), i, format_metric(end, snapshot.metric)) for i, end in enumerate((low, high))]
    lacking = [
        i
        for i, scale in enumerate(scales)
        if scale.name != ARM and any(scale.name not in entry.trial.params for entry in entries)
    ]
    notes += [_label(i, NOT_SEARCHED, "not searched") for i in lacking]
    bands: list[Json] = [
        {"type": "rect", "x0": i - 0.3, "x1": i + 0.3, "y0": NOT_SEARCHED - 0.1, "y1": _DIVIDE, "layer": "below"}
        | {"fillcolor": colour("wash"), "line": {"width": 1, "color": colour("faint"), "dash": "dot"}}
        for i in lacking
    ]
    titles = [brief(name) for name in names] + [safe(metric_label(snapshot.metric))]
    xaxis = {"tickvals": list(range(len(titles))), "ticktext": titles, "range": [-0.35, len(titles) - 0.55]}
    xaxis |= {"side": "top", "showgrid": True, "gridcolor": colour("faint"), "gridwidth": 1.5, "zeroline": False}
    bottom = NOT_SEARCHED - 0.12 if lacking else -0.08
    layout: Json = {"xaxis": xaxis, "yaxis": {"visible": False, "range": [bottom, 1.08]}}
    layout |= {"annotations": notes, "shapes": bands}
    layout["hovermode"] = "closest"
    return Figure(
        "parallel",
        f"{plural(len(order), 'trial')} that reached {epochs(analysis.rung)} as lines over "
        f"{', '.join(names)} and {metric_label(snapshot.metric)}.",
        [View("parallel", data, layout)],
        "One line per trial, from hyperparameter to hyperparameter, to its score at the right."
        + (" A trial that did not search a hyperparameter passes the box below its axis." if lacking else "")
        + (f" Left out: {plural(len(analysis.names) - len(shown), 'less important hyperparameter')}." if cut else "")
        + (
            f" Left out: {plural(beyond, 'trial')} of the search that did not reach {epochs(analysis.rung)}."
            if beyond
            else ""
        ),
        height=480 if lacking else 440,
        hint="Drag over a part of an axis to keep only the trials that pass there; a double click keeps all again. The "
        "legend's buttons hide and show a part of the trials. A click on a point opens its trial.",
        min_width=96 * len(titles),
    )


def _label(x: float, y: float, text: str) -> Json:
    look = {"showarrow": False, "xanchor": "left", "xshift": 4, "bgcolor": colour("veil"), "borderpad": 1}
    return look | {"x": x, "y": y, "text": brief(text), "font": {"size": 11, "color": colour("ink")}}


def _fifth(group: int, classes: int) -> str:
    if group == classes - 1:
        return "best fifth" if classes == 5 else "best"
    if group == 0:
        return "worst fifth" if classes == 5 else "worst"
    return f"{classes - group}{ {2: 'nd', 3: 'rd'}.get(classes - group, 'th') } best"
