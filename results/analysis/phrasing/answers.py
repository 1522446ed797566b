"""The sentences of a whole answer."""

from __future__ import annotations

from rungwise.results.analysis.findings import (
    Arm,
    Findings,
    Replicate,
    Verdict,
)
from rungwise.results.analysis.phrasing.gain import gain_text
from rungwise.results.analysis.phrasing.notes import is_of_winner, seed_text
from rungwise.results.analysis.phrasing.parts import PERCENT, counted, failure_text
from rungwise.results.analysis.phrasing.verdicts import comparison_text
from rungwise.results.analysis.statistics import Estimate
from rungwise.results.io.formatting import conjunction, metric_label, settings
from rungwise.results.io.metric_format import MetricFormat
from rungwise.results.record.definition import SEARCHES


def whole_answer(findings: Findings) -> str:
    """Everything that is to be said at once."""
    if not findings.confirmed:
        return f"No answer yet. {details(findings)}"
    return " ".join(
        [*(comparison_text(comparison, findings) for comparison in findings.comparisons), details(findings)]
    )


def headlines(findings: Findings) -> tuple[str, ...]:
    """A sentence for each comparison; without one, all that is known."""
    texts = tuple(comparison_text(comparison, findings) for comparison in findings.comparisons)
    return texts or (details(findings),)


def details(findings: Findings) -> str:
    """What belongs to the comparisons: what they cannot tell, failures, the best configuration."""
    if not findings.confirmed:
        return _nothing_confirmed(findings)
    parts = [*_limits(findings), *(seed_text(note, findings) for note in findings.notes if is_of_winner(note))]
    if waiting := [arm.arm for arm in findings.arms if not arm.chosen and not arm.failed]:
        parts.append(f"Nothing of {conjunction(waiting)} is confirmed yet, so it is not compared.")
    best = next((arm for arm in findings.arms if arm.arm == findings.best), None)
    if best and best.chosen and best.score:
        of = f"Best by validation is {best.arm}: " if len(findings.arms) > 1 else ""
        level = level_text(best.score, findings.format, findings.replicate, shared=findings.test_parts is not None)
        parts.append(f"{of}{level}, with {settings(best.chosen.params)}.")
        parts += _ahead_on_test(best, findings)
    if findings.gain:
        parts.append(gain_text(findings.gain, findings))
    if findings.split == "validation":
        some = all(arm.chosen.test for arm in findings.arms if arm.chosen)
        lack = "Not all of these models are scored on the test split yet" if some else "There are no test scores yet"
        lack = lack if findings.has_test else "The sweep has no function test"
        parts.append(f"{lack}: this is a validation score, by which configurations were chosen.")
    return " ".join(parts)


def _ahead_on_test(best: Arm, findings: Findings) -> list[str]:
    """The arm whose test scores are better than those of the best one by validation. Without this line, the name of the
    latter puzzles beside an interval that leans the other way."""
    score = findings.format
    scored = {arm.arm: arm.score.mean for arm in findings.arms if arm.score}
    if findings.split != "test" or best.arm not in scored:
        return []
    ahead = (max if score.higher else min)(scored, key=lambda arm: scored[arm])
    if score.value(scored[ahead]) == score.value(scored[best.arm]):
        return []
    return [f"On the test split, by which nothing is chosen, {ahead} is ahead: {score.value(scored[ahead])}."]


def level_text(
    score: Estimate, score_format: MetricFormat, replicate: Replicate = Replicate.SEED, *, shared: bool = False
) -> str:
    """'98.31% test accuracy (n=5 seeds, 95% interval 98.23 to 98.39%)'. `shared`: as for `counted`."""
    value = f"{score_format.value(score.mean)} {score_format.measure}"
    count = f"n={score.n} {counted(score.n, replicate, shared=shared)}"
    if score.low is None or score.high is None:
        return f"{value} ({count}, so no interval)"
    if score.low == score.high:
        return f"{value} ({count}, all alike)"
    if not score_format.tells(score.low, score.high):
        return f"{value} ({count}, which differ too much for an interval)"
    return f"{value} ({count}, {PERCENT} interval {score_format.interval(score.low, score.high)})"


def _nothing_confirmed(findings: Findings) -> str:
    seen = [f"{arm.arm} {findings.objective_format.value(arm.seen)}" for arm in findings.arms if arm.seen is not None]
    failed = [f"{arm.arm} lost: {failure_text(arm)}." for arm in findings.arms if arm.failed]
    if not seen:
        return " ".join(["No trial has reported.", *failed])
    return " ".join(
        ["Nothing is confirmed.", f"Best {metric_label(findings.metric)} in the search: {', '.join(seen)}.", *failed]
    )


def _limits(findings: Findings) -> list[str]:
    """What the comparisons do not tell, once for all of them."""
    open_ones = [comparison for comparison in findings.comparisons if comparison.verdict is Verdict.ONE_SEARCH]
    arms = [comparison.arm for comparison in open_ones]
    if not arms:
        return []
    several = len(arms) > 1
    arm_text = "any of them" if several else arms[0]
    helps = "is better" if any(comparison.alternatives for comparison in open_ones) else "helps"
    texts = [
        f"Whether {arm_text} {helps} cannot be told from one search per arm: another search finds other "
        f"configurations. --searches {SEARCHES} tells."
    ]
    if several:
        texts.insert(0, f"The {PERCENT} intervals hold for the {len(findings.arms) - 1} comparisons together.")
    return texts
