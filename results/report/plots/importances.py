"""Importance of each hyperparameter as bars, one bar a rung."""

from __future__ import annotations

from rungwise.results.io.formatting import epochs, percent
from rungwise.results.report.importance import QUANTILE, ImportanceAnalysis
from rungwise.results.report.plots.primitives import Figure, Json, View, category, colour, safe


def plot_importances(analysis: ImportanceAnalysis) -> Figure | None:
    """Bars per hyperparameter, one a rung; a view an arm."""
    views = []
    for name in dict.fromkeys(importance.view for importance in analysis.importances):
        computed = [importance for importance in analysis.importances if importance.view == name and importance.shares]
        if not computed:
            continue
        order = sorted(computed[-1].shares, key=lambda each: -computed[-1].shares[each])
        data: list[Json] = [
            {
                "type": "bar",
                "orientation": "h",
                "x": [importance.shares.get(each, 0.0) for each in order],
                "y": [safe(each) for each in order],
                "name": f"{epochs(importance.rung)} (n={importance.n})",
                "legendgroup": str(index),
                "marker": {"color": colour(f"step-{min(4, 4 - len(computed) + index + 1)}")},
                "hovertemplate": f"%{{y}}: %{{x:.0%}} at {epochs(importance.rung)}, n={importance.n}<extra></extra>",
            }
            for index, importance in enumerate(computed)
        ]
        layout = {
            "xaxis": {"title": {"text": "share of importance"}, "tickformat": ".0%", "rangemode": "tozero"},
            "yaxis": category(order, showgrid=False, autorange="reversed"),
            "barmode": "group",
            "bargap": 0.25,
        }
        views.append(View(name, data, layout))
    if not views:
        return None
    method_text = (
        "how much of the differences between trials each explains (fANOVA)"
        if analysis.method == "fANOVA"
        else f"how much each decides whether a trial is among the best {percent(QUANTILE)} (PED-ANOVA)"
    )
    rankings = []
    for view in views:
        last = [
            importance for importance in analysis.importances if importance.view == view.label and importance.shares
        ][-1]
        ranked = sorted(last.shares.items(), key=lambda item: -item[1])[:3]
        rankings.append(
            f"{view.label}, at {epochs(last.rung)} (n={last.n}): "
            + ", ".join(f"{name} {percent(share)}" for name, share in ranked)
        )
    most = max(len(view.data[0]["y"]) * len(view.data) for view in views)
    return Figure(
        "importances",
        "; ".join(rankings) + ".",
        views,
        f"At each rung: {method_text}, from the scores at that rung's epoch of all trials that got there. "
        "With few trials this is a hint. Later rungs know only trials that were good earlier.",
        height=min(760, 150 + 22 * most),
    )


def list_missing(analysis: ImportanceAnalysis) -> list[str]:
    """Words for the rungs without importances."""
    return [
        f"{importance.view if importance.view != 'all' else 'All trials'}, {epochs(importance.rung)}: {importance.why}"
        for importance in analysis.importances
        if not importance.shares and importance.why
    ]
