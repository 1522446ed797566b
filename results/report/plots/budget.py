"""Effect against budget: the best score to expect after so many trials, or epochs, of a search, arm by arm."""

from __future__ import annotations

from collections.abc import Sequence

from rungwise.results.analysis.budget.curves import BudgetCurve, BudgetPoint
from rungwise.results.analysis.budget.leads import find_leads
from rungwise.results.analysis.findings import BudgetDecides, Findings
from rungwise.results.analysis.phrasing.notes import note_text
from rungwise.results.io.formatting import metric_label
from rungwise.results.report.plots.primitives import Figure, Json, View, arm_colour, axis, safe, whole_ticks
from rungwise.results.report.snapshot import Snapshot
from rungwise.text import plural

_BAND = 0.16  # opacity


def plot_budget(curves: Sequence[BudgetCurve], snapshot: Snapshot, findings: Findings) -> Figure | None:
    """Means over searches with their t-intervals. None where nothing is averaged: `plot_history` has that."""
    averaged = [curve for curve in curves if len(curve.points) > 1 and (curve.searches > 1 or curve.pooled)]
    if not averaged:
        return None
    views = [
        View("by trials", data := _traces(averaged, snapshot, "trials"), _layout(snapshot, "trials of a search", data)),
        View("by epochs", data := _traces(averaged, snapshot, "epochs"), _layout(snapshot, "epochs of a search", data)),
    ]
    score = findings.objective_format
    ends = [
        f"{curve.arm}: {score.value(last.expected.mean)}{_interval(last, findings)} "
        f"after {plural(last.trials, 'trial')}"
        for curve in averaged
        for last in curve.points[-1:]
    ]
    leads = _leads(averaged, snapshot, findings)
    pooled = " The trials of all random searches are pooled (Tang et al. 2020)." if averaged[0].pooled else ""
    return Figure(
        "budget",
        f"Best {metric_label(snapshot.metric)} to expect. {'; '.join(ends)}. {leads}".strip(),
        views,
        "Line: the best validation score after that many trials, mean over the searches of an arm. Band: its 95% "
        f"t-interval, separately at each number of trials.{pooled} The best of many noisy scores is optimistic, in "
        "all arms alike.",
    )


def _interval(point: BudgetPoint, findings: Findings) -> str:
    low, high = point.expected.low, point.expected.high
    return "" if low is None or high is None else f" ({findings.objective_format.interval(low, high)})"


def _leads(curves: Sequence[BudgetCurve], snapshot: Snapshot, findings: Findings) -> str:
    """Who is ahead of the control beyond chance, and with which budgets."""
    decisions = [note_text(note, findings) for note in findings.notes if isinstance(note, BudgetDecides)]
    if decisions:
        return " ".join(decisions)
    texts = []
    definition = snapshot.definition
    for arm, leads in find_leads(curves, definition, definition.data.samples("validation")).items():
        control, last = curves[0].arm, leads[-1][0] if leads else 0
        ahead = [trials for trials, lead in leads if lead]
        if not ahead:
            texts.append(f"At no number of trials up to {last} do {arm} and {control} differ beyond chance.")
            continue
        winner = arm if any(lead > 0 for _, lead in leads) else control
        where = f"with {plural(ahead[0], 'trial')}" if len(ahead) == 1 else f"with {ahead[0]} to {ahead[-1]} trials"
        texts.append(f"{winner} is ahead of {control if winner == arm else arm} {where}, beyond chance.")
    return " ".join(texts)


def _traces(curves: Sequence[BudgetCurve], snapshot: Snapshot, unit: str) -> list[Json]:
    data: list[Json] = []
    for curve in curves:
        index = snapshot.arms.index(curve.arm)
        x = [float(point.trials) if unit == "trials" else point.epochs for point in curve.points]
        group = {"legendgroup": str(index)}  # its name is the line's: the legend shows what is named first
        banded = [(at, point.expected.low, point.expected.high) for at, point in zip(x, curve.points, strict=True)]
        edge = [(at, low) for at, low, _ in banded if low is not None]
        edge += [(at, high) for at, _, high in reversed(banded) if high is not None]
        if edge:
            outline = {"x": [at for at, _ in edge], "y": [value for _, value in edge], "mode": "lines"}
            fill = {"fill": "toself", "fillcolor": arm_colour(index), "line": {"width": 0}, "opacity": _BAND}
            data.append(group | outline | fill | {"hoverinfo": "skip", "showlegend": False})
        line = {"name": safe(curve.arm), "mode": "lines", "x": x, "y": [point.expected.mean for point in curve.points]}
        look = {"line": {"color": arm_colour(index), "width": 2.5}}
        data.append(
            group | line | look | {"hovertemplate": f"{safe(curve.arm)}: %{{y}} after %{{x}} {unit}<extra></extra>"}
        )
    return data


def _layout(snapshot: Snapshot, title: str, data: Sequence[Json]) -> Json:
    most = max(at for trace in data for at in trace["x"])
    xaxis = {"title": {"text": title}, "rangemode": "tozero", **whole_ticks(most)}
    return {"xaxis": xaxis, "yaxis": axis(snapshot.metric)}
