"""Sentences of an answer, made last and in this one place: `findings` holds what they say as data."""

from __future__ import annotations

from collections.abc import Mapping

from rungwise.results.analysis.findings import (
    Arm,
    AsGoodAsNone,
    Comparison,
    EdgeOfSpace,
    FailedSeeds,
    Findings,
    IntervalScope,
    KeptModel,
    MissingSeeds,
    Note,
    OneSeed,
    Replicate,
    SampleError,
    SupersededSeeds,
    Verdict,
    WinnersCurse,
)
from rungwise.results.analysis.statistics import CONFIDENCE, Difference, Estimate
from rungwise.results.io.formatting import conjunction, metric_label, settings
from rungwise.results.io.metric_format import MetricFormat
from rungwise.results.record.types import State

_PERCENT = f"{CONFIDENCE:.0%}"
_ENDED = {
    State.DIVERGED: ("diverged", "diverged"),
    State.FAILED: ("failed", "failed"),
    State.LOST: ("was lost", "were lost"),
    State.RUNNING: ("is running", "are running"),
}
_COUNTED = {
    Replicate.SEED: ("seed", "seeds"),
    Replicate.SEARCH: ("independent search per arm", "independent searches per arm"),
}


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
    parts = [*_limits(findings), *(_seed_text(note, findings) for note in findings.notes if _of_chosen(note))]
    if waiting := [arm.arm for arm in findings.arms if not arm.chosen and not arm.failed]:
        parts.append(f"Nothing of {conjunction(waiting)} is confirmed yet, so it is not compared.")
    best = next((arm for arm in findings.arms if arm.arm == findings.best), None)
    if best and best.chosen and best.score:
        of = f"Best by validation is {best.arm}: " if len(findings.arms) > 1 else ""
        level = level_text(best.score, findings.format, findings.replicate)
        parts.append(f"{of}{level}, with {settings(best.chosen.params)}.")
    if findings.split == "validation":
        some = all(arm.chosen.test for arm in findings.arms if arm.chosen)
        lack = "Not all of these models are scored on the test split yet" if some else "There are no test scores yet"
        parts.append(f"{lack}: this is a validation score, by which configurations were chosen.")
    return " ".join(parts)


def comparison_text(comparison: Comparison, findings: Findings) -> str:
    """One comparison in words."""
    arm, control = comparison.arm, comparison.against
    arms = {arm.arm: arm for arm in findings.arms}
    found = comparison.difference
    match comparison.verdict:
        case Verdict.ARM_FAILED:
            return f"{arm} lost against {control}: {_failure(arms[arm])}."
        case Verdict.CONTROL_FAILED:
            return f"{control} lost against {arm}: {_failure(arms[control])}."
        case Verdict.BOTH_FAILED:
            return f"Neither {arm} nor {control} works: {_failure(arms[arm])}; {_failure(arms[control])}."
        case Verdict.NO_TEST_SCORES:
            return f"No verdict on {arm} against {control} yet: the test scores are missing."
    assert found is not None
    size = _signed(found.mean, findings.format)
    if comparison.verdict is Verdict.ONE_SEARCH:
        what = f"The configuration found with {arm} has {size} than the one found with {control}"
        return f"{what} ({_interval(found, findings)}, for these two configurations)."
    if comparison.verdict is Verdict.CANNOT_TELL:
        return (
            f"Cannot tell yet whether {arm} makes a difference: {size} than {control} ({_interval(found, findings)})."
        )
    return f"{arm} {comparison.verdict}: {size} than {control} ({_interval(found, findings)})."


def level_text(score: Estimate, score_format: MetricFormat, replicate: Replicate = Replicate.SEED) -> str:
    """'98.31% test accuracy (n=5 seeds, 95% interval 98.23 to 98.39%)'"""
    value = f"{score_format.value(score.mean)} {score_format.measure}"
    count = f"n={score.n} {_counted(score.n, replicate)}"
    if score.low is None or score.high is None:
        return f"{value} ({count}, so no interval)"
    if score.low == score.high:
        return f"{value} ({count}, all alike)"
    if not score_format.tells(score.low, score.high):
        return f"{value} ({count}, which differ too much for an interval)"
    return f"{value} ({count}, {_PERCENT} interval {score_format.interval(score.low, score.high)})"


def note_texts(findings: Findings) -> tuple[str, ...]:
    """The notes in words, a line each, but for those that the answer's sentences say already."""
    return tuple(note_text(note, findings) for note in findings.notes if not _of_chosen(note))


def note_text(note: Note, findings: Findings) -> str:
    """One note in words."""
    score, objective = findings.format, findings.objective_format
    match note:
        case WinnersCurse(arm, source, searched, confirmed, optimism):
            return (
                f"Winner's curse, {arm}: trial {source} ended with {objective.value(searched)} {objective.measure} in "
                f"the search, the same settings average {objective.value(confirmed)} on fresh seeds: the search was "
                f"optimistic by {objective.amount(optimism)}."
            )
        case FailedSeeds() | MissingSeeds():
            return _seed_text(note, findings)
        case SupersededSeeds(arm, source, count):
            return f"Confirmations of {arm}, trial {source}, that do not count: {count} of another network."
        case EdgeOfSpace(arm, name, value, low, high):
            if low == 0 and value < high / 2:  # there is no less
                return f"The best configuration of {arm} has next to no {name} ({value:.3g} of 0 to {high:.3g})."
            return (
                f"The best configuration of {arm} lies at the edge of {name} ({value:.3g} of {low:.3g} to {high:.3g}): "
                "another range may change this answer."
            )
        case AsGoodAsNone(arm, name, value, low, high, control):
            return (
                f"The {name} that was found with {arm} ({value:.3g} of {low:.3g} to {high:.3g}) is as good as none, "
                f"which is what {control} has."
            )
        case IntervalScope(replicate, comparisons):
            return _scope(replicate, comparisons, findings)
        case SampleError(samples, margins):
            arms = ", ".join(f"{score.change(margin)} ({arm})" for arm, margin in margins.items())
            return (
                f"On another {samples:,} samples an accuracy would differ by about \N{PLUS-MINUS SIGN} "
                f"{arms if len(margins) > 1 else score.change(next(iter(margins.values())))} points. A difference "
                "changes by less, because all arms are scored on the same samples."
            )
        case OneSeed(arm):
            return f"{arm} has one seed, which has no spread: confirm on two or more for an interval."
        case KeptModel(trial, arm, seeds):
            which = f"the best by validation of {seeds} seeds of {arm}" if seeds > 1 else f"the only seed of {arm}"
            return f"The model that is kept is that of trial {trial}, {which}. Scores of arms are means over seeds."


# -- parts -----------------------------------------------------------------------------------------------------


def _nothing_confirmed(findings: Findings) -> str:
    seen = [f"{arm.arm} {findings.objective_format.value(arm.seen)}" for arm in findings.arms if arm.seen is not None]
    failed = [f"{arm.arm} lost: {_failure(arm)}." for arm in findings.arms if arm.failed]
    if not seen:
        return " ".join(["No trial has reported.", *failed])
    return " ".join(
        ["Nothing is confirmed.", f"Best {metric_label(findings.metric)} in the search: {', '.join(seen)}.", *failed]
    )


def _limits(findings: Findings) -> list[str]:
    """What the comparisons do not tell, once for all of them."""
    arms = [comparison.arm for comparison in findings.comparisons if comparison.verdict is Verdict.ONE_SEARCH]
    if not arms:
        return []
    several = len(arms) > 1
    arm_text = "any of them" if several else arms[0]
    texts = [
        f"Whether {arm_text} helps cannot be told from one search per arm: another search finds other configurations."
    ]
    if several:
        texts.insert(0, f"The {_PERCENT} intervals hold for the {len(findings.arms) - 1} comparisons together.")
    return texts


def _scope(replicate: Replicate, comparisons: int, findings: Findings) -> str:
    if replicate is Replicate.SEARCH:
        return f"Intervals are {_PERCENT} t-intervals over independent searches, on this {findings.split} split."
    together = (
        f" Those of differences are widened to hold for all {comparisons} comparisons together (Bonferroni)."
        if comparisons > 1
        else ""
    )
    return (
        f"Intervals are {_PERCENT} t-intervals over training seeds (differences: Welch's), for these configurations "
        f"and this {findings.split} split; another search would add to them.{together}"
    )


def _signed(mean: float, score_format: MetricFormat) -> str:
    """'0.30 points more test accuracy', '0.204 nats less test loss'"""
    return f"{score_format.amount(mean)} {'less' if mean < 0 else 'more'} {score_format.measure}"


def _interval(found: Difference, findings: Findings) -> str:
    """'95% interval 0.21 to 0.39, over 5 seeds', counted in the direction of the difference."""
    seeds = (
        f"over {found.n} {_counted(found.n, findings.replicate)}"
        if found.n == found.n_other
        else f"over {found.n} and {found.n_other} {_counted(2, findings.replicate)}"
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
    return f"{_PERCENT} interval {ends}, {seeds}"


def _of_chosen(note: Note) -> bool:
    return isinstance(note, FailedSeeds | MissingSeeds) and note.chosen


def _seed_text(note: Note, findings: Findings) -> str:
    """Confirmations that have no score, and what follows."""
    assert isinstance(note, FailedSeeds | MissingSeeds)
    of = f"{note.seeds} confirmations of {note.arm}" + ("" if note.chosen else f", trial {note.source}")
    if isinstance(note, MissingSeeds):
        until = "until the same command has trained it again" if State.LOST in note.states else "yet"
        return f"Of {of}, {_states(note.states)}: not counted {until}."
    if note.counted_as is not None:
        counted = f"each counts as {findings.format.value(note.counted_as)}, what a constant prediction scores"
    elif findings.split == "validation":
        counted = "none of them has a score"
    else:
        counted = "left out, as the record does not say what a constant prediction scores"
    return f"Of {of}, {_states(note.states)}; {counted}."


def _states(states: Mapping[State, int]) -> str:
    """'2 diverged and 1 failed'"""
    without = ("gave no score", "gave no score")
    return conjunction([f"{count} {_ENDED.get(state, without)[count > 1]}" for state, count in states.items()])


def _failure(arm: Arm) -> str:
    """Why nothing of an arm has a score."""
    what, count = ("confirmation" if arm.candidates else "trial"), sum(arm.failed.values())
    if count == 1:
        return f"its only {what} {next(iter(arm.failed)).lower()}"
    return f"of its {count} {what}s, {_states(arm.failed)}"


def _counted(count: int, replicate: Replicate) -> str:
    return _COUNTED[replicate][count > 1]
