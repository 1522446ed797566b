"""The arms in numbers: seen in the search, confirmed, compared."""

from __future__ import annotations

from rungwise.results.analysis.answer import Answer
from rungwise.results.analysis.findings import Arm
from rungwise.results.io.formatting import conjunction, settings, shown
from rungwise.results.report.page import Html, join, table, tag
from rungwise.results.report.plots.arms import Bar
from rungwise.results.report.snapshot import Entry, Snapshot


def arm_bars(now: Snapshot, found: Answer) -> list[Bar]:
    if not found.confirmed:
        able: dict[str, list[Entry]] = {arm: [] for arm in now.arms}
        for entry in now.search:
            if entry.able:
                able[entry.trial.arm].append(entry)
        return [Bar(arm, [entry.best for entry in mine if entry.best is not None]) for arm, mine in able.items()]
    return [
        Bar(arm.arm, list(arm.scores.values()), arm.score.mean, arm.score.low, arm.score.high)
        for arm in found.arms
        if arm.score
    ]


def arm_table(now: Snapshot, found: Answer) -> Html:
    """Per arm: seen in the search, confirmed, the gap between them, the score that counts, the settings."""
    if not found.arms:
        return Html("")
    heads = ["arm", "trials", "best seen"]
    if found.confirmed:
        heads += ["same settings in the search", "confirmed on validation", "winner's-curse gap"]
        heads += [found.measure] if found.split == "test" else []
        heads += ["95% interval", "sd", "n", "settings"]
    rows = []
    for arm in found.arms:
        row: list[object] = [arm.arm, sum(entry.trial.arm == arm.arm for entry in now.search)]
        row.append(shown(arm.seen, found.metric))
        if found.confirmed:
            row += _confirmed_cells(arm, found) or [_unconfirmed(arm), *[""] * (len(heads) - 4)]
        rows.append(row)
    compared = [
        (f"{one.arm} against {one.against}", one.verdict, found.comparison_text(one)) for one in found.comparisons
    ]
    return join(
        [
            table(heads, rows, "arms in numbers", "figures"),
            table(("comparison", "verdict", "in words"), compared, "comparisons of arms") if len(compared) > 1 else "",
        ]
    )


def _confirmed_cells(arm: Arm, found: Answer) -> list[object]:
    """What the arm's table says of its chosen configuration; nothing without one."""
    chosen, score = arm.chosen, arm.score
    if chosen is None or score is None:
        return []
    objective, optimism = found.objective_format, arm.optimism
    cells: list[object] = [
        shown(chosen.searched, found.metric),
        shown(chosen.validation.mean, found.metric) if chosen.validation else "",
        objective.amount(optimism) if optimism and optimism > 0 else "",
    ]
    cells += [tag("b", found.format.value(score.mean))] if found.split == "test" else []
    if score.low is None or score.high is None:
        cells += ["none: one seed", ""]
    else:
        cells.append(found.format.interval(score.low, score.high))
        cells.append("" if score.sd is None else found.format.amount(score.sd))
    return [*cells, score.n, settings(chosen.params)]


def _unconfirmed(arm: Arm) -> str:
    if not arm.failed:
        return "nothing confirmed"
    return conjunction([f"{count} {state.lower()}" for state, count in arm.failed.items()])
