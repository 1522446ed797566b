"""The arms in numbers: seen in the search, confirmed, compared."""

from __future__ import annotations

from rungwise.results.analysis.answer import Answer
from rungwise.results.analysis.findings import Arm
from rungwise.results.io.formatting import conjunction, format_metric, settings
from rungwise.results.report.page import Html, join, table, tag
from rungwise.results.report.plots.arms import Bar
from rungwise.results.report.snapshot import Entry, Snapshot


def arm_bars(snapshot: Snapshot, findings: Answer) -> list[Bar]:
    if not findings.confirmed:
        rankable: dict[str, list[Entry]] = {arm: [] for arm in snapshot.arms}
        for entry in snapshot.search:
            if entry.rankable:
                rankable[entry.trial.arm].append(entry)
        return [
            Bar(arm, [entry.best for entry in entries if entry.best is not None]) for arm, entries in rankable.items()
        ]
    return [
        Bar(arm.arm, list(arm.scores.values()), arm.score.mean, arm.score.low, arm.score.high)
        for arm in findings.arms
        if arm.score
    ]


def arm_table(snapshot: Snapshot, findings: Answer) -> Html:
    """Per arm: seen in the search, confirmed, the gap between them, the score that counts, the settings."""
    if not findings.arms:
        return Html("")
    heads = ["arm", "trials", "best seen"]
    if findings.confirmed:
        heads += ["same settings in the search", "confirmed on validation", "winner's-curse gap"]
        heads += [findings.measure] if findings.split == "test" else []
        heads += ["95% interval", "sd", "n", "settings"]
    rows = []
    for arm in findings.arms:
        row: list[object] = [arm.arm, sum(entry.trial.arm == arm.arm for entry in snapshot.search)]
        row.append(format_metric(arm.seen, findings.metric))
        if findings.confirmed:
            row += _confirmed_cells(arm, findings) or [_unconfirmed(arm), *[""] * (len(heads) - 4)]
        rows.append(row)
    compared = [
        (f"{comparison.arm} against {comparison.against}", comparison.verdict, findings.comparison_text(comparison))
        for comparison in findings.comparisons
    ]
    return join(
        [
            table(heads, rows, "arms in numbers", "figures"),
            table(("comparison", "verdict", "in words"), compared, "comparisons of arms") if len(compared) > 1 else "",
        ]
    )


def _confirmed_cells(arm: Arm, findings: Answer) -> list[object]:
    """What the arm's table says of its chosen configuration; nothing without one."""
    chosen, score = arm.chosen, arm.score
    if chosen is None or score is None:
        return []
    objective, optimism = findings.objective_format, arm.optimism
    cells: list[object] = [
        format_metric(chosen.searched, findings.metric),
        format_metric(chosen.validation.mean, findings.metric) if chosen.validation else "",
        objective.amount(optimism) if optimism and optimism > 0 else "",
    ]
    cells += [tag("b", findings.format.value(score.mean))] if findings.split == "test" else []
    if score.low is None or score.high is None:
        cells += ["none: one seed", ""]
    else:
        cells.append(findings.format.interval(score.low, score.high))
        cells.append("" if score.sd is None else findings.format.amount(score.sd))
    return [*cells, score.n, settings(chosen.params)]


def _unconfirmed(arm: Arm) -> str:
    if not arm.failed:
        return "nothing confirmed"
    return conjunction([f"{count} {state.lower()}" for state, count in arm.failed.items()])
