"""Which of two arms is ahead beyond chance, with which number of trials of a search."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rungwise.results.analysis.budget.curves import BudgetCurve
from rungwise.results.analysis.findings import BudgetDecides
from rungwise.results.analysis.statistics import FEWEST, difference
from rungwise.results.record.definition import Definition


def find_budget_decisions(
    curves: Sequence[BudgetCurve], definition: Definition, samples: int | None
) -> list[BudgetDecides]:
    """Comparisons with the control whose winner depends on the budget: each side is ahead beyond chance somewhere."""
    notes = []
    for arm, leads in find_leads(curves, definition, samples).items():
        ahead = [(trials, lead) for trials, lead in leads if lead]
        if not ahead or len({lead for _, lead in ahead}) == 1:
            continue
        last = ahead[-1][1]
        until = max(trials for trials, lead in ahead if lead != last)
        start = min(trials for trials, lead in ahead if trials > until)
        control = curves[0].arm
        first, later = (control, arm) if last > 0 else (arm, control)
        notes.append(BudgetDecides(first, until, later, start))
    return notes


def find_leads(
    curves: Sequence[BudgetCurve], definition: Definition, samples: int | None
) -> dict[str, list[tuple[int, int]]]:
    """{arm: [(trials, 1 when it is ahead of the control there beyond chance, -1 when the control is, else 0)]}.

    The intervals of the differences are Welch's over searches, and hold for all arms together at one number of trials,
    not for all numbers together. Fewer than FEWEST searches tell nothing.

    Args:
        curves: the control's first.
        definition: of the sweep.
        samples: of the validation split.
    """
    if not curves or curves[0].arm != next(iter(definition.arms), None):
        return {}
    control, *others = curves
    references = {point.trials: point for point in control.points}
    share, comparisons = "accuracy" in definition.metric, max(1, len(definition.arms) - 1)
    leads: dict[str, list[tuple[int, int]]] = {}
    for curve in others:
        if min(curve.searches, control.searches) < FEWEST:
            continue
        leads[curve.arm] = []
        for point in curve.points:
            if reference := references.get(point.trials):
                found = difference(point.values, reference.values, comparisons, share=share, samples=samples)
                assert found.low is not None
                assert found.high is not None
                beyond = 0 if found.low <= 0 <= found.high else math.copysign(1, found.mean)
                leads[curve.arm].append((point.trials, int(definition.sign * beyond)))
    return leads
