"""The arms in numbers: seen in the search, confirmed, compared."""

from __future__ import annotations

from markupsafe import Markup

from rungwise.results.analysis.answer import Answer
from rungwise.results.analysis.findings import Arm
from rungwise.results.io.formatting import conjunction, format_metric, settings
from rungwise.results.report.page import Table
from rungwise.results.report.snapshot import Snapshot


def arm_table(snapshot: Snapshot, answer: Answer) -> Table:
    """Per arm: seen in the search, confirmed, the gap between them, the score that counts, the settings."""
    heads = ["arm", "trials", "best seen"]
    if answer.confirmed:
        heads += ["same settings in the search", "confirmed on validation", "winner's-curse gap"]
        heads += [answer.measure] if answer.split == "test" else []
        heads += ["95% interval", "sd", "n", "settings"]
    rows: list[list[object]] = []
    for arm in answer.arms:
        trials = sum(entry.trial.arm == arm.arm for entry in snapshot.search)
        row = [arm.arm, trials, format_metric(arm.seen, answer.metric)]
        if answer.confirmed:
            row += _confirmed_cells(arm, answer) or [_unconfirmed(arm), *[""] * (len(heads) - 4)]
        rows.append(row)
    return Table("arms in numbers", heads, rows)


def comparison_table(answer: Answer) -> Table:
    """Each comparison of arms in words."""
    rows = [
        (f"{comparison.arm} against {comparison.against}", comparison.verdict_text, answer.comparison_text(comparison))
        for comparison in answer.comparisons
    ]
    return Table("comparisons of arms", ("comparison", "verdict", "in words"), rows, figures=False)


def _confirmed_cells(arm: Arm, answer: Answer) -> list[object]:
    """What the arm's table says of its chosen configuration; nothing without one."""
    chosen, score, optimism = arm.chosen, arm.score, arm.optimism
    if chosen is None or score is None:
        return []
    cells: list[object] = [
        format_metric(chosen.searched, answer.metric),
        format_metric(chosen.validation.mean, answer.metric) if chosen.validation else "",
        answer.objective_format.amount(optimism) if optimism and optimism > 0 else "",
    ]
    cells += [Markup("<b>{}</b>").format(answer.format.value(score.mean))] if answer.split == "test" else []
    if score.low is None or score.high is None:
        cells += ["none: one seed", ""]
    else:
        cells.append(answer.format.interval(score.low, score.high))
        cells.append("" if score.sd is None else answer.format.amount(score.sd))
    return [*cells, score.n, settings(chosen.params)]


def _unconfirmed(arm: Arm) -> str:
    return conjunction([f"{count} {state.lower()}" for state, count in arm.failed.items()]) or "nothing confirmed"
