"""Importance of each hyperparameter as bars, one bar a rung."""

from __future__ import annotations

from rungwise.results.io.formatting import epochs, percent
from rungwise.results.report.importance import QUANTILE, ImportanceAnalysis
from rungwise.results.report.plots.primitives import Figure, Json, View, category, colour, safe


def plot_importances(land: ImportanceAnalysis) -> Figure | None:
    """Bars per hyperparameter, one a rung; a view an arm."""
    views = []
    for name in dict.fromkeys(one.view for one in land.importances):
        told = [one for one in land.importances if one.view == name and one.shares]
        if not told:
            continue
        order = sorted(told[-1].shares, key=lambda each: -told[-1].shares[each])
        data: list[Json] = [
            {
                "type": "bar",
                "orientation": "h",
                "x": [one.shares.get(each, 0.0) for each in order],
                "y": [safe(each) for each in order],
                "name": f"{epochs(one.rung)} (n={one.n})",
                "legendgroup": str(index),
                "marker": {"color": colour(f"step-{min(4, 4 - len(told) + index + 1)}")},
                "hovertemplate": f"%{{y}}: %{{x:.0%}} at {epochs(one.rung)}, n={one.n}<extra></extra>",
            }
            for index, one in enumerate(told)
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
    how = (
        "how much of the differences between trials each explains (fANOVA)"
        if land.method == "fANOVA"
        else f"how much each decides whether a trial is among the best {percent(QUANTILE)} (PED-ANOVA)"
    )
    words = []
    for view in views:
        last = [one for one in land.importances if one.view == view.label and one.shares][-1]
        ranked = sorted(last.shares.items(), key=lambda item: -item[1])[:3]
        words.append(
            f"{view.label}, at {epochs(last.rung)} (n={last.n}): "
            + ", ".join(f"{name} {percent(share)}" for name, share in ranked)
        )
    most = max(len(view.data[0]["y"]) * len(view.data) for view in views)
    return Figure(
        "importances",
        "; ".join(words) + ".",
        views,
        f"At each rung: {how}, from the scores at that rung's epoch of all trials that got there. With few trials this "
        "is a hint. Later rungs know only trials that were good earlier.",
        height=min(760, 150 + 22 * most),
    )


def list_missing(land: ImportanceAnalysis) -> list[str]:
    """Words for the rungs without importances."""
    return [
        f"{one.view if one.view != 'all' else 'All trials'}, {epochs(one.rung)}: {one.why}"
        for one in land.importances
        if not one.shares and one.why
    ]
