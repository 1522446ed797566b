"""Parts that several sentences of an answer have in common."""

from __future__ import annotations

from collections.abc import Mapping

from rungwise.results.analysis.findings import (
    Arm,
    Findings,
    Replicate,
)
from rungwise.results.analysis.statistics import CONFIDENCE
from rungwise.results.io.formatting import conjunction
from rungwise.results.io.metric_format import MetricFormat
from rungwise.results.record.types import State
from rungwise.text import plural

PERCENT = f"{CONFIDENCE:.0%}"
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


def signed(mean: float, score_format: MetricFormat) -> str:
    """'0.30 points more test accuracy', '0.204 nats less test loss'"""
    return f"{score_format.amount(mean)} {'less' if mean < 0 else 'more'} {score_format.measure}"


def counted(count: int, replicate: Replicate, *, shared: bool = False) -> str:
    """The unit of `count` of them. `shared`: searches train on each other's test samples, and are not independent."""
    unit = _COUNTED[replicate][count > 1]
    return unit.removeprefix("independent ") if shared else unit


def judged_text(findings: Findings, searches: int) -> str:
    """' by 5-fold cross-validation, each tested on another fifth of the samples'; "" without folds."""
    if not findings.folds:
        return ""
    text = f" by {findings.folds}-fold cross-validation"
    if findings.test_parts is None or findings.replicate is Replicate.SEED:
        return text
    another = "another" if searches <= findings.test_parts else "a"
    return f"{text}, each tested on {another} {ordinal(findings.test_parts)} of the samples"


def states_text(states: Mapping[State, int]) -> str:
    """'2 diverged and 1 failed'"""
    without = ("gave no score", "gave no score")
    return conjunction([f"{count} {_ENDED.get(state, without)[count > 1]}" for state, count in states.items()])


def failure_text(arm: Arm) -> str:
    """Why nothing of an arm has a score."""
    what, count = ("confirmation" if arm.candidates else "trial"), sum(arm.failed.values())
    if count == 1:
        return f"its only {what} {next(iter(arm.failed)).lower()}"
    return f"of its {plural(count, what)}, {states_text(arm.failed)}"


def ordinal(parts: int) -> str:
    """What one of so many equal parts is called: 'fifth'."""
    return {2: "half", 3: "third", 4: "quarter", 5: "fifth", 10: "tenth"}.get(parts, f"1/{parts}")
