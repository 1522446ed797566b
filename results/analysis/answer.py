"""The answer to a sweep's question: how the arms' configurations compare, by how much, and how sure one can be of it.

A view of the record. Each arm's best configurations were trained again on fresh seeds. An arm is represented by the one
with the best mean validation objective (`rank_candidates`), judged by its test scores. A seed whose training diverged
or failed is an outcome and counts as what a constant prediction scores (intention to treat); one that was LOST is
missing until it is trained again. While scores on the test split are not complete there is no verdict.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rungwise.results.analysis import phrasing
from rungwise.results.analysis.best import LARGEST, best_report
from rungwise.results.analysis.candidates import (
    collect_candidates,
    compute_optimism,
    count_failed,
    find_constant_score,
    rank_candidates,
    select_scores,
)
from rungwise.results.analysis.edges import edges
from rungwise.results.analysis.findings import (
    Arm,
    Candidate,
    Comparison,
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
    seeds_by_state,
    verdict_of,
)
from rungwise.results.analysis.statistics import difference, estimate
from rungwise.results.io.metric_format import MetricFormat
from rungwise.results.record.reader import Reader

CONSTANT_SCORES = "constant_scores"  # key of the record's meta: what a constant prediction scores on the test split
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Answer(Findings):
    """What is known, and the sentences that say it."""

    @property
    def sentence(self) -> str:
        """All that is to be said at once: comparisons, failures, the best configuration."""
        return phrasing.whole_answer(self)

    @property
    def headlines(self) -> tuple[str, ...]:
        """A sentence for each comparison; of one arm its score."""
        return phrasing.headlines(self)

    @property
    def details(self) -> str:
        """What belongs to the headlines."""
        return phrasing.details(self)

    @property
    def note_texts(self) -> tuple[str, ...]:
        """What a careful reader wants to know before believing it, a line each."""
        return phrasing.note_texts(self)

    def comparison_text(self, comparison: Comparison) -> str:
        """One comparison in words."""
        return phrasing.comparison_text(comparison, self)

    def asdict(self) -> dict[str, Any]:
        """As JSON, with its sentences; seeds become text there."""
        notes = [{"note": type(note).__name__, **dataclasses.asdict(note)} for note in self.notes]
        return dataclasses.asdict(self) | {
            "notes": notes,
            "sentence": self.sentence,
            "headlines": self.headlines,
            "note_texts": self.note_texts,
        }


def answer(reader: Reader) -> Answer:
    """Read the record and answer; whatever is missing there is None here, and the sentence says what is missing."""
    with reader.snapshot():
        definition = reader.definition()
        trials, curves, scores = reader.trials(), reader.curves(), reader.scores("test")
        superseded = reader.superseded()
        constant, diagnosis = reader.meta(CONSTANT_SCORES) or {}, reader.meta("test") or {}
    metric, mode = definition.metric, definition.mode
    names = list(dict.fromkeys([*definition.arms, *(trial.arm for trial in trials)]))
    measured = metric.removeprefix("val_")
    if not any(measured in metrics for metrics in scores.values()):
        measured = "accuracy"  # a metric of the user's own is not scored on the test split
    tested = {
        trial: metrics[measured] for trial, metrics in scores.items() if abs(metrics.get(measured, math.nan)) <= LARGEST
    }

    def candidates_of(name: str) -> tuple[Candidate, ...]:
        arm_trials = [trial for trial in trials if trial.arm == name]
        return tuple(rank_candidates(collect_candidates(arm_trials, superseded, curves, tested, metric), mode))

    candidates = {name: candidates_of(name) for name in names}
    chosen = {name: next((c for c in candidates[name] if c.validation), None) for name in names}
    represented = [candidate for candidate in chosen.values() if candidate]
    complete = all(candidate.test.keys() == candidate.values.keys() for candidate in represented)
    split = "test" if represented and complete else "validation"
    higher = mode == "max" if split == "validation" or measured == metric.removeprefix("val_") else True
    regression = definition.is_regression
    score_format = MetricFormat(measured if split == "test" else metric, split, higher, regression)
    constant_score = find_constant_score(measured, constant, diagnosis, definition.data) if split == "test" else None
    samples = definition.data.samples(split)

    arms = []
    for name in names:
        values = select_scores(chosen[name], split, constant_score)
        arms.append(
            Arm(
                arm=name,
                candidates=candidates[name],
                chosen=chosen[name],
                scores=values,
                score=estimate(list(values.values()), share=score_format.share, samples=samples) if values else None,
                best_seen=best_report(name, trials, curves, metric, mode),
                optimism=compute_optimism(chosen[name], mode),
                failed={} if chosen[name] else count_failed([t for t in trials if t.arm == name]),
            )
        )
    best = _best(arms, mode)
    keep = best.chosen if best else None
    model = keep.trials[_extreme(keep.values, mode)] if keep else None
    distributions = {trial.trial: trial.distributions for trial in trials}
    comparisons = _compare(arms, score_format, samples)
    return Answer(
        metric=metric,
        mode=mode,
        split=split,
        format=score_format,
        objective_format=MetricFormat(metric, "validation", mode == "max", regression),
        control=names[0] if names else None,
        replicate=Replicate.SEED,
        constant_score=constant_score,
        arms=tuple(arms),
        comparisons=comparisons,
        best=best.arm if best else None,
        model=model,
        notes=(
            *_notes(arms, distributions, constant_score),
            *([KeptModel(model, best.arm, len(keep.values))] if model and best and keep else []),
            *_interval_notes(arms, score_format, len(names) - 1, samples),
        ),
    )


def _best(arms: Sequence[Arm], mode: str) -> Arm | None:
    """The arm whose chosen configuration ranks first: seeds that failed count here, too."""
    ranked = rank_candidates([arm.chosen for arm in arms if arm.chosen], mode)
    return next((arm for arm in arms if arm.chosen is ranked[0]), None) if ranked else None


def _extreme(values: Mapping[K, float], mode: str) -> K:
    """The key of the best value; of equal ones the first."""
    return (min if mode == "min" else max)(values, key=lambda key: values[key])


# -- comparisons -------------------------------------------------------------------------------------------------


def _compare(arms: Sequence[Arm], score_format: MetricFormat, samples: int | None) -> tuple[Comparison, ...]:
    """Every arm against the control, the first one: one family of comparisons, whatever became of the arms."""
    if not any(arm.chosen for arm in arms):
        return ()
    control, *others = arms
    compared = []
    for arm in others:
        verdict = _without_scores(arm, control) if not (arm.chosen and control.chosen) else None
        if verdict:
            compared.append(Comparison(arm.arm, control.arm, verdict, None))
        elif not (arm.chosen and control.chosen):
            continue  # not confirmed yet
        elif score_format.split == "validation":
            compared.append(Comparison(arm.arm, control.arm, Verdict.NO_TEST_SCORES, None))
        else:
            a, b = list(arm.scores.values()), list(control.scores.values())
            interval = difference(a, b, len(others), share=score_format.share, samples=samples)
            verdict = verdict_of(interval, Replicate.SEED, score_format.higher)
            compared.append(Comparison(arm.arm, control.arm, verdict, interval))
    return tuple(compared)


def _without_scores(arm: Arm, control: Arm) -> Verdict | None:
    if arm.failed and control.failed:
        return Verdict.BOTH_FAILED
    if arm.failed and control.chosen:
        return Verdict.ARM_FAILED
    return Verdict.CONTROL_FAILED if control.failed and arm.chosen else None


# -- notes -------------------------------------------------------------------------------------------------------


def _notes(
    arms: Sequence[Arm], distributions: Mapping[int, Mapping[str, str]], constant_score: float | None
) -> list[Note]:
    """What is to be said of the configurations: how they were found, where they lie, what became of their seeds."""
    notes: list[Note] = []
    for arm in arms:
        chosen = arm.chosen
        if chosen and chosen.validation and chosen.searched is not None and arm.optimism and arm.optimism > 0:
            notes.append(WinnersCurse(arm.arm, chosen.source, chosen.searched, chosen.validation.mean, arm.optimism))
    for arm in arms:
        if arm.chosen:
            control = None if arm is arms[0] else arms[0]
            notes += edges(arm, control, distributions.get(arm.chosen.source, {}))
    for arm in arms:
        for one in arm.candidates:
            is_chosen, outcomes = one is arm.chosen, len(one.values) + len(one.failed)
            if one.failed:
                states = seeds_by_state(one.failed)
                notes.append(FailedSeeds(arm.arm, one.source, is_chosen, states, outcomes, constant_score))
            if one.missing:
                states = seeds_by_state(one.missing)
                notes.append(MissingSeeds(arm.arm, one.source, is_chosen, states, outcomes + len(one.missing)))
            if one.superseded:
                notes.append(SupersededSeeds(arm.arm, one.source, one.superseded))
    return notes


def _interval_notes(
    arms: Sequence[Arm], score_format: MetricFormat, comparisons: int, samples: int | None
) -> list[Note]:
    """What the intervals are over, and what they do not hold."""
    scored = [arm for arm in arms if arm.score]
    notes: list[Note] = [IntervalScope(Replicate.SEED, comparisons)] if scored else []
    if scored and samples and score_format.share:
        shares = {arm.arm: min(max(0.0, arm.score.mean), 1.0) for arm in scored if arm.score}
        margins = {arm: 1.96 * math.sqrt(share * (1 - share) / samples) for arm, share in shares.items()}
        notes.append(SampleError(samples, margins))
    return notes + [OneSeed(arm.arm) for arm in scored if arm.score and arm.score.n == 1]
