"""Importance of each hyperparameter as a bar with its interval."""

from __future__ import annotations

from rungwise.results.io.formatting import epochs, percent
from rungwise.results.report.importance import (
    ALL_ARMS,
    CONFIDENCE,
    EVALUATOR,
    LEAST,
    TARGET_QUANTILE,
    Importance,
    ImportanceAnalysis,
)
from rungwise.results.report.plots.primitives import Figure, Json, View, category, colour, safe
from rungwise.text import plural

MOST = 20  # bars of a view; the rest are counted in words


def plot_importances(analysis: ImportanceAnalysis) -> Figure | None:
    """A bar a hyperparameter, the longest first; a view an arm."""
    computed = [importance for importance in analysis.importances if importance.shares]
    if not computed:
        return None
    views = [_view(importance) for importance in computed]
    left_out = max(len(importance.shares) for importance in computed) - MOST
    return Figure(
        "importances",
        " ".join(_finding(importance) for importance in computed),
        views,
        f"Importance: how much a hyperparameter decides whether a trial is among the best {percent(TARGET_QUANTILE)} "
        f"({EVALUATOR}, Optuna's default; of completed trials the figures of optuna-dashboard). Whisker: "
        f"{percent(CONFIDENCE)} bootstrap interval over trials. Where whiskers overlap, the order is not known. Early "
        "stopping lets only good trials complete, among which what decided before may count little."
        + (f" The {left_out} least important ones are left out." if left_out > 0 else ""),
        height=150 + 30 * max(len(view.data[0]["y"]) for view in views),
    )


def list_missing(analysis: ImportanceAnalysis) -> list[str]:
    """Words for what has no importances, and for what has them at a rung because too few trials completed."""
    lines = []
    firsts = {importance.view: importance for importance in reversed(analysis.importances)}
    for importance in analysis.importances:
        view = _label(importance)
        if importance.why:
            lines.append(f"{view}: {importance.why}.")
        elif importance.completed < LEAST and importance is firsts[importance.view]:
            lines.append(
                f"{view}: of completed trials there are too few to say (n={importance.completed}, {LEAST} are needed); "
                f"the figure compares the {plural(importance.n, 'trial')} that reached {epochs(importance.rung or 0)}."
            )
    return lines


def _view(importance: Importance) -> View:
    order = sorted(importance.shares, key=lambda name: -importance.shares[name])[:MOST]
    shares = [importance.shares[name] for name in order]
    ends = [importance.intervals[name] for name in order]
    whisker: Json = {"type": "data", "symmetric": False, "color": colour("ink"), "thickness": 1.5, "width": 5}
    whisker["array"] = [high - share for share, (_, high) in zip(shares, ends, strict=True)]
    whisker["arrayminus"] = [share - low for share, (low, _) in zip(shares, ends, strict=True)]
    bars: Json = {"type": "bar", "orientation": "h", "x": shares, "y": [safe(name) for name in order]}
    bars |= {"marker": {"color": colour("step-2")}, "error_x": whisker}
    bars["customdata"] = [f"{percent(low)} to {percent(high)}" for low, high in ends]
    bars["hovertemplate"] = f"%{{y}}: %{{x:.0%}} (%{{customdata}}), n={importance.n}<extra></extra>"
    xaxis = {"title": {"text": "share of importance"}, "tickformat": ".0%", "range": [0, 1.02]}
    layout = {"xaxis": xaxis, "yaxis": category(order, showgrid=False, autorange="reversed"), "bargap": 0.4}
    at = "" if importance.rung is None else f", at {epochs(importance.rung)}"
    return View(_label(importance) + at, [bars], layout)


def _finding(importance: Importance) -> str:
    ranked = sorted(importance.shares.items(), key=lambda item: -item[1])[:3]
    texts = []
    for name, share in ranked:
        low, high = importance.intervals[name]
        texts.append(f"{name} {percent(share)} ({percent(low)} to {percent(high)})")
    trials = "completed trials" if importance.rung is None else f"trials at {epochs(importance.rung)}"
    return f"{_label(importance)}, {importance.n} {trials}: {', '.join(texts)}."


def _label(importance: Importance) -> str:
    return {"all": "All trials", ALL_ARMS: "All arms"}.get(importance.view, importance.view)
