"""Is an early rung predictive: the rank correlation of each rung's scores with those at the last rung."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rungwise.results.analysis.audit import FEWEST, FORESIGHT, rank_correlation
from rungwise.results.io.formatting import epochs
from rungwise.results.report.plots.primitives import Figure, Json, View, colour
from rungwise.results.report.snapshot import Entry, Snapshot


@dataclass(frozen=True)
class RungCorrelation:
    """Spearman's rho between the scores at `rung` and at the last rung, over the `n` trials that reached both."""

    rung: float  # epochs
    n: int
    rho: float | None  # None: too few trials, or no differences
    interval: tuple[float, float] | None  # 95%


def correlate_rungs(entries: Sequence[Entry], rungs: Sequence[float]) -> list[RungCorrelation]:
    """Of each rung but the last."""
    found = []
    for rung in rungs[:-1]:
        pairs = [
            (early, late)
            for entry in entries
            if (early := entry.at(rung)) is not None and (late := entry.at(rungs[-1])) is not None
        ]
        rho = rank_correlation(pairs)
        found.append(RungCorrelation(rung, len(pairs), rho, None if rho is None else _interval(rho, len(pairs))))
    return found


def plot_rungs(snapshot: Snapshot) -> Figure | None:
    """A dot a rung with its interval; None without two rungs, or where no correlation is known."""
    found = correlate_rungs(snapshot.search, snapshot.rungs)
    known = [one for one in found if one.rho is not None]
    if not known:
        return None
    labels = [f"{epochs(one.rung)} (n={one.n})" for one in known]
    rhos = [one.rho or 0.0 for one in known]
    whisker: Json = {"type": "data", "symmetric": False, "color": colour("ink"), "thickness": 1.5, "width": 5}
    ends = [one.interval or (rho, rho) for one, rho in zip(known, rhos, strict=True)]
    whisker["array"] = [high - rho for rho, (_, high) in zip(rhos, ends, strict=True)]
    whisker["arrayminus"] = [rho - low for rho, (low, _) in zip(rhos, ends, strict=True)]
    dots: Json = {"mode": "markers", "x": rhos, "y": labels, "error_x": whisker}
    dots |= {"marker": {"color": colour("accent"), "size": 11}, "hovertemplate": "%{y}: %{x:.2f}<extra></extra>"}
    layout: Json = {
        "xaxis": {"title": {"text": "rank correlation with the end"}, "range": [-1.05, 1.05], "zeroline": True},
        "yaxis": {"type": "category", "range": [len(known) - 0.5, -0.5], "showgrid": False},
        "hovermode": "closest",
    }
    layout["xaxis"]["zerolinecolor"] = colour("muted")
    return Figure(
        "rungs",
        foresight_text(found, snapshot.rungs[-1]),
        [View("rungs", [dots], layout)],
        "Spearman's rank correlation between the scores of the same trials at a rung and at the last one, with its 95% "
        "interval. Trials that were stopped are missing: the order of the good ones is harder to foresee.",
        height=130 + 44 * len(known),
    )


def foresight_text(found: Sequence[RungCorrelation], last: float) -> str:
    """One sentence: which rungs foresee the end."""
    known = [one for one in found if one.rho is not None]
    if not known:
        return ""
    first = known[0]
    text = (
        f"The order of trials after {epochs(first.rung)} agrees with the one after {epochs(last)} with a rank "
        f"correlation of {first.rho:.2f} (n={first.n})"
    )
    if first.interval is not None and first.interval[0] < 0 < first.interval[1]:
        text += ": with so few trials it cannot be told whether this rung is predictive"
    elif (first.rho or 0.0) >= FORESIGHT:
        text += ": it is predictive"
    elif first.interval is not None and first.interval[1] >= FORESIGHT:
        text += ": it is somewhat predictive; how much cannot be told from so few trials"
    else:
        better = next((one for one in known if (one.rho or 0.0) >= FORESIGHT), None)
        text += ": it is not very predictive"
        text += f"; from {epochs(better.rung)} on the order is ({better.rho:.2f}, n={better.n})" if better else ""
    missing = [one for one in found if one.rho is None]
    if missing:
        names = " and ".join(f"{epochs(one.rung)} (n={one.n})" for one in missing)
        text += f". At {names} fewer than {FEWEST} different trials are known"
    return text + "."


def _interval(rho: float, n: int) -> tuple[float, float] | None:
    """95%, by Fisher's transformation with the variance 1.06 / (n - 3) of Fieller, Hartley and Pearson (1957)."""
    if n < 4 or abs(rho) >= 1:
        return None
    half = 1.96 * math.sqrt(1.06 / (n - 3))
    return math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)
