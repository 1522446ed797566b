"""The sentence about what tuning gained over the defaults."""

from __future__ import annotations

from rungwise.results.analysis.findings import Findings, TuningGain, Verdict
from rungwise.results.analysis.phrasing.parts import PERCENT, states_text
from rungwise.results.analysis.phrasing.verdicts import between_text, few_text, interval_text
from rungwise.results.analysis.statistics import Difference


def gain_text(gain: TuningGain, findings: Findings) -> str:
    """'Tuning gained 0.60 points (95% interval 0.40 to 0.80) over the defaults, which score 97.63%.'"""
    score = findings.format
    defaults = "the defaults" if len(findings.arms) < 2 else f"the defaults of {gain.arm}"
    if gain.infeasible:
        return f"Tuning is not compared with {defaults}: {gain.infeasible}."
    if gain.difference is None or gain.score is None:
        return f"Training with {defaults} fails: of {gain.seeds} trainings, {states_text(gain.failed)}."
    text = f"{_size(gain, gain.difference, defaults, findings)}, which score {score.value(gain.score.mean)}."
    if gain.failed:
        counted = findings.constant_score
        how = "left out" if counted is None else f"each counts as {score.value(counted)}"
        text += f" Of {gain.seeds} trainings with the defaults, {states_text(gain.failed)}: {how}."
    return text


def _size(gain: TuningGain, found: Difference, defaults: str, findings: Findings) -> str:
    score = findings.format
    if gain.verdict is Verdict.ONE_SEARCH:
        size = f"{score.amount(found.mean)} {'less' if found.mean < 0 else 'more'} {score.measure}"
        interval = interval_text(found, findings)
        return f"The configuration that the search found has {size} than {defaults} ({interval})"
    if found.low is None or found.high is None:
        return f"Cannot tell whether tuning gained anything over {defaults}"
    if gain.verdict is Verdict.CANNOT_TELL:
        if not score.tells(found.low, found.high):
            return f"Scores differ too much to tell whether tuning gained anything over {defaults}"
        between = between_text(found.low, found.high, defaults, score)
        few = f", and {why}" if (why := few_text(found)) else ""
        return f"Cannot tell whether tuning gained anything{few}: {between} ({PERCENT} interval)"
    did = "gained" if gain.verdict is Verdict.HELPS else "lost"
    over = "over" if gain.verdict is Verdict.HELPS else "against"
    first, last = score.bounds(*((-found.high, -found.low) if found.mean < 0 else (found.low, found.high)))
    return f"Tuning {did} {score.amount(found.mean)} ({PERCENT} interval {first} to {last}) {over} {defaults}"
