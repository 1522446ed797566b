"""Sentences of comparisons: verdicts with the budget that they hold for."""

from __future__ import annotations

from rungwise.results.analysis.findings import (
    Comparison,
    Findings,
    Verdict,
)
from rungwise.results.analysis.phrasing.parts import PERCENT, counted, failure_text, judged_text, signed
from rungwise.results.analysis.statistics import (
    ADVISED,
    CONFIDENCE,
    FEWEST,
    MOST,
    REPEATED_LEVELS,
    Difference,
    samples_suffice,
)
from rungwise.results.io.metric_format import MetricFormat
from rungwise.text import plural


def comparison_text(comparison: Comparison, findings: Findings) -> str:
    """One comparison in words."""
    arm, control = comparison.arm, comparison.against
    arms = {arm.arm: arm for arm in findings.arms}
    found = comparison.difference
    match comparison.verdict:
        case Verdict.ARM_FAILED:
            return f"{arm} lost against {control}: {failure_text(arms[arm])}."
        case Verdict.CONTROL_FAILED:
            return f"{control} lost against {arm}: {failure_text(arms[control])}."
        case Verdict.BOTH_FAILED:
            return f"Neither {arm} nor {control} works: {failure_text(arms[arm])}; {failure_text(arms[control])}."
        case Verdict.NO_TEST_SCORES:
            if not findings.has_test:
                return f"No verdict on {arm} against {control}: the sweep has no function that scores a test split."
            return f"No verdict on {arm} against {control} yet: the test scores are missing."
    assert found is not None
    if comparison.verdict is Verdict.ONE_SEARCH:
        size = signed(found.mean, findings.format)
        what = f"The configuration found with {arm} has {size} than the one found with {control}"
        return f"{what} ({interval_text(found, findings)}, for these two configurations)."
    return _verdict_text(comparison, found, findings)


def _verdict_text(comparison: Comparison, found: Difference, findings: Findings) -> str:
    """A verdict over independent searches, with the budget that it holds for."""
    arm, control, score = comparison.arm, comparison.against, findings.format
    budget = f"with {findings.budget} each" if findings.budget else "of this budget"
    kind = "searches" if found.ratio else "independent searches"
    searches = f"{found.n} {kind} per arm" if found.n == found.n_other else f"{found.n} and {found.n_other} {kind}"
    searches += judged_text(findings, found.n)
    worth = None if findings.worth is None else score.amount(findings.worth)
    match comparison.verdict:
        case Verdict.NO_DIFFERENCE:
            assert found.inner_low is not None
            assert found.inner_high is not None
            between = between_text(found.inner_low, found.inner_high, control, score)
            percent = PERCENT if findings.until_sure else f"{1 - 2 * (1 - CONFIDENCE):.0%}"
            inner = f"{percent} interval; worth having: {worth}"
            return f"{arm} makes no difference worth having: {between} ({inner}), {budget}. {searches}."
        case Verdict.CANNOT_TELL:
            if found.low is None or found.high is None:
                return f"Cannot tell yet whether {arm} makes a difference: {searches}, so no interval."
            between = f"{between_text(found.low, found.high, control, score)} ({PERCENT} interval)"
            if not score.tells(found.low, found.high):
                between = "its searches score too differently for an interval"
            yet = " yet" if comparison.needed or findings.worth is None else ""  # no number of searches would tell
            text = f"Cannot tell{yet} whether {arm} makes a difference: {between}, {budget}; "
            return f"{text}{searches.replace('independent ', '')}. {_needed(comparison, found, findings)}".rstrip()
    assert found.low is not None
    assert found.high is not None
    first, last = score.bounds(*((-found.high, -found.low) if found.mean < 0 else (found.low, found.high)))
    interval = f"({PERCENT} interval {first} to {last}{' less' if found.mean < 0 else ''})"
    if comparison.small:
        little = f"but by less than the {worth} worth having: {score.change(abs(found.mean))}"
        text = f"{arm} {comparison.verdict_text}, {little} {interval}, {budget}. {searches}"
    else:
        size = signed(found.mean, score)
        text = f"{arm} {comparison.verdict_text}: {size} than {control} {interval}, {budget}. {searches}"
    seeds = {len(one.values) + len(one.failed) for each in findings.arms for one in each.winners.values()}
    if len(seeds) == 1:
        text += f", {plural(seeds.pop(), 'fresh seed')} each"
    return f"{text}; {arm} won {comparison.won} of {comparison.pairs}."


def between_text(low: float, high: float, control: str, score: MetricFormat) -> str:
    """'between 0.06 points less and 0.08 more test accuracy than no L2'"""
    first, last = score.bounds(low, high)
    unit = f" {score.unit}".rstrip()
    if low < 0 < high:
        return f"between {first.removeprefix('-')}{unit} less and {last} more {score.measure} than {control}"
    ends = (last.removeprefix("-"), first.removeprefix("-"), "less") if high <= 0 else (first, last, "more")
    return f"between {ends[0]} and {ends[1]}{unit} {ends[2]} {score.measure} than {control}"


def few_text(found: Difference) -> str:
    """Why a difference whose interval excludes 0 has no verdict; "" for any other."""
    excludes = found.low is not None and found.high is not None and not found.low <= 0 <= found.high
    return f"a verdict takes {FEWEST} searches or more" if excludes and min(found.n, found.n_other) < FEWEST else ""


def _needed(comparison: Comparison, found: Difference, findings: Findings) -> str:
    """What it would take, of a comparison that is open."""
    if min(found.n, found.n_other) < FEWEST:
        return f"A verdict takes {FEWEST} searches or more: --searches {comparison.needed or ADVISED}."
    if findings.worth is None:
        return ""
    worth = findings.format.amount(findings.worth)
    if comparison.needed is None and found.ratio:
        return f"However many searches there are, so few samples do not show a difference of {worth}."
    if comparison.needed is None and not samples_suffice(found, findings.worth):
        return f"This test split is too small to resolve {worth}, however many searches there are: use a larger one."
    if comparison.needed is None:
        return (
            f"Searches score too differently for {MOST} of them to show a difference of {worth}: more --trials make "
            "them more alike, more --confirm-seeds average out the luck of a seed."
        )
    more = comparison.needed - min(found.n, found.n_other)
    most = max(REPEATED_LEVELS)
    is_offered = comparison.needed <= most and not findings.folds
    until_sure = f", or --until-sure {most}, which stops when the answer is clear" if is_offered else ""
    return (
        f"Resolving a difference of {worth} would take about {comparison.needed} searches ({more} more): "
        f"--searches {comparison.needed}{until_sure}."
    )


def interval_text(found: Difference, findings: Findings) -> str:
    """'95% interval 0.21 to 0.39, over 5 seeds', counted in the direction of the difference."""
    seeds = (
        f"over {found.n} {counted(found.n, findings.replicate)}"
        if found.n == found.n_other
        else f"over {found.n} and {found.n_other} {counted(2, findings.replicate)}"
    )
    if found.low is None or found.high is None:
        return f"{seeds}: no interval"
    if not findings.format.tells(found.low, found.high):
        return f"{seeds}, which differ too much for an interval"
    if found.low == found.high:
        return f"{seeds}, each side's all alike"
    less = found.mean < 0
    low, high = (-found.high, -found.low) if less else (found.low, found.high)
    first, last = findings.format.bounds(low, high)
    same, other = ("less", "more") if less else ("more", "less")
    ends = f"{first.removeprefix('-')} {other} to {last} {same}" if low < 0 else f"{first} to {last} {same}"
    return f"{PERCENT} interval {ends}, {seeds}"
