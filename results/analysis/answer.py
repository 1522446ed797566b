"""The answer to a sweep's question: how the arms compare, by how much, and how sure one can be of it.

A view of the record. Each search's best configurations were trained again on fresh seeds, and the one with the best
mean validation objective (`rank_candidates`) is its winner, judged by its test scores. With several searches an arm is
the spread of its winners: arms are compared. With one search it is that winner: two configurations are compared. A seed
whose training diverged or failed is an outcome and counts as what a constant prediction scores (intention to treat);
one that was LOST is missing until it is trained again. While test scores are not complete there is no verdict.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from rungwise.metric_names import without_split
from rungwise.results.analysis.best import LARGEST, best_report
from rungwise.results.analysis.budget.curves import budget_curves
from rungwise.results.analysis.budget.leads import find_budget_decisions
from rungwise.results.analysis.candidates import (
    Curves,
    collect_candidates,
    compute_optimism,
    count_failed,
    find_constant_score,
    find_failed_searches,
    find_winners,
    rank_candidates,
    refit_values,
    select_scores,
)
from rungwise.results.analysis.comparisons import (
    Family,
    collect_untuned,
    compare_arms,
    compare_untuned,
    sample_matrix,
    search_scores,
)
from rungwise.results.analysis.edges import edges
from rungwise.results.analysis.findings import (
    Arm,
    ArmBudgets,
    ArrivalOrder,
    BrokenConstraint,
    BudgetDecides,
    Candidate,
    Comparison,
    CrossValidation,
    FailedSearches,
    FailedSeeds,
    Findings,
    IntervalScope,
    KeptModel,
    MissingSeeds,
    Note,
    OneSeed,
    RepeatedLooks,
    Replicate,
    SampleError,
    SeedIgnored,
    SupersededSeeds,
    UntilSure,
    WinnersCurse,
    are_alternatives,
    seeds_by_state,
)
from rungwise.results.analysis.phrasing import answers, notes, verdicts
from rungwise.results.analysis.statistics import FEWEST, estimate, repeated_level
from rungwise.results.io.metric_format import MetricFormat
from rungwise.results.record.definition import Definition
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import Trial, last_metrics
from rungwise.text import plural

CONSTANT_SCORES = "constant_scores"  # key of the record's meta: what a constant prediction scores on the test split
LOOKS = "looks"  # key of the record's meta: after how many searches of each arm the test split was scored, each time
WORTH = "worth"  # key of the record's meta: {"value": the smallest difference of scores that is worth having}
NEGLIGIBLE = 5e-5  # optimism that would be shown as 0.00 points
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Answer(Findings):
    """What is known, and the sentences that say it."""

    @property
    def sentence(self) -> str:
        """All that is to be said at once: comparisons, failures, the best configuration."""
        return answers.whole_answer(self)

    def __str__(self) -> str:
        return self.sentence

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """In a notebook, and in IPython: the sentence, in place of a page of fields."""
        printer.text(self.sentence)

    @property
    def headlines(self) -> tuple[str, ...]:
        """A sentence for each comparison; of one arm its score."""
        return answers.headlines(self)

    @property
    def details(self) -> str:
        """What belongs to the headlines."""
        return answers.details(self)

    @property
    def note_texts(self) -> tuple[str, ...]:
        """What a careful reader wants to know before believing it, a line each."""
        return notes.note_texts(self)

    def comparison_text(self, comparison: Comparison) -> str:
        """One comparison in words."""
        return verdicts.comparison_text(comparison, self)

    def asdict(self) -> dict[str, Any]:
        """As JSON, with its sentences; seeds become text there."""
        note_fields = [{"note": type(note).__name__, **dataclasses.asdict(note)} for note in self.notes]
        return dataclasses.asdict(self) | {
            "notes": note_fields,
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
        worth, looks = (reader.meta(WORTH) or {}).get("value"), reader.meta(LOOKS) or []
    metric, mode = definition.metric, definition.mode
    of_arms = [trial for trial in trials if not trial.is_untuned]
    names = list(dict.fromkeys([*definition.arms, *(trial.arm for trial in of_arms)]))
    measured = metric.removeprefix("val_")
    if not any(measured in metrics for metrics in scores.values()):
        measured = "accuracy"  # a metric of the user's own is not scored on the test split
    tested = {
        trial: metrics[measured] for trial, metrics in scores.items() if abs(metrics.get(measured, math.nan)) <= LARGEST
    }

    by_arm = {name: [trial for trial in of_arms if trial.arm == name] for name in names}

    current = [trial for trial in trials if trial.trial not in superseded]

    def candidates_of(name: str) -> tuple[Candidate, ...]:
        return tuple(rank_candidates(collect_candidates(by_arm[name], superseded, curves, tested, definition), mode))

    candidates = {name: candidates_of(name) for name in names}
    winners = {name: find_winners(candidates[name], mode) for name in names}
    represented = [winner for of_arm in winners.values() for winner in of_arm.values()]
    complete = all(candidate.test.keys() == candidate.values.keys() for candidate in represented)
    split = "test" if represented and complete else "validation"
    higher = mode == "max" if split == "validation" or measured == metric.removeprefix("val_") else True
    unitless = definition.is_regression or definition.is_own  # the unit of a user's own loss is not known
    score_format = MetricFormat(measured if split == "test" else metric, split, higher, unitless)
    constant_score = find_constant_score(measured, constant, diagnosis, definition.data) if split == "test" else None
    samples = definition.data.samples(split)
    searches = max([definition.searches, *(trial.search for trial in trials)])
    replicate = Replicate.SEED if searches == 1 else Replicate.SEARCH
    ratio = definition.data.test_ratio or 0.0 if replicate is Replicate.SEARCH and split == "test" else 0.0

    # The built-in training's losses are squared errors and cross-entropies; a loss of one's own may be negative.
    least = 0.0 if not definition.is_own and without_split(metric) == "loss" else -math.inf
    bounds: dict[str, Any] = {"share": score_format.share, "samples": samples, "least": least}
    bounds |= {"most": score_format.most, "ratio": ratio}
    arms = []
    for name in names:
        chosen = next(iter(rank_candidates(list(winners[name].values()), mode)), None)
        failed_searches = find_failed_searches(by_arm[name], winners[name])
        if replicate is Replicate.SEED:
            values = select_scores(chosen, split, constant_score)
        else:
            values = search_scores(winners[name], failed_searches, split, constant_score)
        arms.append(
            Arm(
                arm=name,
                candidates=candidates[name],
                winners=winners[name],
                chosen=chosen,
                scores=values,
                score=estimate(list(values.values()), **bounds) if values else None,
                best_seen=best_report(name, current, curves, definition),
                optimism=compute_optimism(chosen, mode),
                failed={} if chosen else count_failed(by_arm[name]),
                failed_searches=len(failed_searches) if chosen else 0,
                **_spent(by_arm[name], curves),
            )
        )
    best = _best(arms, mode)
    keep = best.chosen if best else None
    finished = {keep.trials[seed]: value for seed, value in keep.values.items()} if keep else {}
    refitted = refit_values(keep.source, trials, superseded, curves, metric) if keep else {}
    seeds = finished | refitted
    feasible = {one: value for one, value in seeds.items() if definition.breach(last_metrics(curves[one])) is None}
    model = _extreme(feasible or seeds, mode) if keep else None
    distributions = {trial.trial: trial.distributions for trial in trials}
    most = definition.until_sure
    level = repeated_level(most) if most and replicate is Replicate.SEARCH else None
    family = Family(score_format, replicate, samples, worth, max(1, len(names) - 1), level, ratio)
    sample_scores = reader.sample_scores(measured) if split == "test" and replicate is Replicate.SEARCH else {}
    matrices = {
        arm.arm: sample_matrix(arm, sample_scores, measured, constant_score, samples) if sample_scores else None
        for arm in arms
    }
    fixes = definition.arms
    comparisons = tuple(
        replace(one, alternatives=are_alternatives(fixes.get(one.against, {}), fixes.get(one.arm, {})))
        for one in compare_arms(arms, family, matrices)
    )
    untuned = collect_untuned(trials, superseded, curves, tested, definition, constant_score)
    gain = None
    if untuned and split == "test" and arms and arms[0].chosen:
        sampled = partial(
            sample_matrix, packed=sample_scores, metric=measured, constant_score=constant_score, samples=samples
        )
        gain = compare_untuned(untuned, arms[0], family, sampled if sample_scores else _no_matrix, trials)
    crossed = bool(comparisons) and all(matrices[arm.arm] is not None for arm in arms if arm.scores)
    return Answer(
        metric=metric,
        mode=mode,
        split=split,
        format=score_format,
        objective_format=MetricFormat(metric, "validation", mode == "max", unitless),
        budget=_budget(definition, trials),
        worth=worth,
        until_sure=most,
        control=names[0] if names else None,
        replicate=replicate,
        constant_score=constant_score,
        arms=tuple(arms),
        comparisons=comparisons,
        best=best.arm if best else None,
        model=model,
        model_source=keep.source if keep else None,
        model_score=tested.get(model) if model and split == "test" else None,
        notes=(
            *_notes(arms, distributions, constant_score, searches),
            *([KeptModel(model, best.arm, len(finished), searches, len(refitted))] if model and best else []),
            *_interval_notes(arms, score_format, IntervalScope(replicate, len(names) - 1, crossed, ratio), samples),
            *([CrossValidation(definition.folds, definition.data.test_parts)] if definition.folds and best else []),
            *_spent_notes(arms),
            *(_budget_notes(definition, trials, curves) if searches >= FEWEST and len(names) > 1 and not ratio else []),
            *([UntilSure(most)] if level else []),
            *([RepeatedLooks(tuple(looks))] if len(looks) > 1 and searches > 1 and not level else []),
            *(_ignored_seeds(arms) if definition.is_own else []),
            *([ArrivalOrder()] if definition.order == "arrival" and represented else []),
        ),
        gain=gain,
        has_test=definition.has_test,
        folds=definition.folds,
        test_parts=definition.data.test_parts,
    )


def _no_matrix(_: Arm) -> None:
    """Of a record that does not say what each model scores on each sample."""


def _best(arms: Sequence[Arm], mode: str) -> Arm | None:
    """The arm most of whose searches found what keeps the constraints, then the one with the fewest failed seeds, then
    with the best mean over its searches; of one search each the one whose configuration ranks first."""
    if all(len(arm.winners) <= 1 for arm in arms):
        ranked = rank_candidates([arm.chosen for arm in arms if arm.chosen], mode)
        return next((arm for arm in arms if arm.chosen is ranked[0]), None) if ranked else None

    def rank(arm: Arm) -> tuple[bool, float, float]:
        winners = list(arm.winners.values())
        infeasible = 2 * sum(one.is_infeasible for one in winners) > len(winners)
        failed = [len(one.failed) / (len(one.failed) + len(one.values)) for one in winners] + [
            1.0
        ] * arm.failed_searches
        means = [one.validation.mean for one in winners if one.validation]
        mean = sum(means) / len(means)
        return infeasible, sum(failed) / len(failed), mean if mode == "min" else -mean

    return min((arm for arm in arms if arm.winners), key=rank, default=None)


def _extreme(values: Mapping[K, float], mode: str) -> K:
    """The key of the best value; of equal ones the first."""
    return (min if mode == "min" else max)(values, key=lambda key: values[key])


# -- notes -------------------------------------------------------------------------------------------------------


def _notes(
    arms: Sequence[Arm],
    distributions: Mapping[int, Mapping[str, str]],
    constant_score: float | None,
    searches: int,
) -> list[Note]:
    """What is to be said of the configurations: how they were found, where they lie, what became of their seeds."""
    notes: list[Note] = []
    for arm in arms:
        chosen = arm.chosen
        if chosen and chosen.validation and chosen.searched is not None and (arm.optimism or 0) > NEGLIGIBLE:
            optimism = arm.optimism or 0.0
            notes.append(WinnersCurse(arm.arm, chosen.source, chosen.searched, chosen.validation.mean, optimism))
    for arm in arms:
        if arm.chosen:
            control = None if arm is arms[0] else arms[0]
            notes += edges(arm, control, distributions.get(arm.chosen.source, {}))
    for arm in arms:
        for one in arm.candidates:
            is_chosen, outcomes = one in arm.winners.values(), len(one.values) + len(one.failed)
            if one.failed:
                states = seeds_by_state(one.failed)
                notes.append(FailedSeeds(arm.arm, one.source, is_chosen, states, outcomes, constant_score))
            if one.missing:
                states = seeds_by_state(one.missing)
                notes.append(MissingSeeds(arm.arm, one.source, is_chosen, states, outcomes + len(one.missing)))
            if one.breaches:
                notes.append(
                    BrokenConstraint(
                        arm.arm, one.source, len(one.breaches), outcomes, next(iter(one.breaches.values()))
                    )
                )
            if one.superseded:
                notes.append(SupersededSeeds(arm.arm, one.source, one.superseded))
        if arm.failed_searches:
            notes.append(FailedSearches(arm.arm, arm.failed_searches, searches, constant_score))
    return notes


def _budget_notes(definition: Definition, trials: Sequence[Trial], curves: Curves) -> list[BudgetDecides]:
    """Where the answer changes with the number of trials."""
    samples = definition.data.samples("validation")
    return find_budget_decisions(budget_curves(definition, trials, curves), definition, samples)


def _budget(definition: Definition, trials: Sequence[Trial]) -> str:
    """What each search of each arm had: '16 trials', or '3 to 4 of 16 trials' where the time budget ended it."""
    count = definition.trials
    if definition.budget == "epochs":
        return plural(definition.epochs_of_search, "epoch") if definition.epochs_of_search else ""
    if not count:
        return ""
    had = Counter(trial.study for trial in trials if trial.phase == "search")
    counts = [had[study] for study in definition.studies]
    fewest, most = min(counts, default=count), max(counts, default=count)
    if fewest >= count:
        return plural(count, "trial")
    some = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return f"{some} of {plural(count, 'trial')}"


def _spent(trials: Sequence[Trial], curves: Curves) -> dict[str, Any]:
    """Fields of an arm: what its searches had."""
    searched = [trial.trial for trial in trials if trial.phase == "search"]
    reached = [
        max((row.metrics.get("epoch", 0.0) for row in curves.get(one, {}).values()), default=0) for one in searched
    ]
    return {"trials": len(searched), "epochs": sum(epochs for epochs in reached if math.isfinite(epochs))}


def _spent_notes(arms: Sequence[Arm]) -> list[Note]:
    if len(arms) < 2 or not all(arm.trials for arm in arms) or not any(arm.score for arm in arms):
        return []
    return [ArmBudgets({arm.arm: arm.trials for arm in arms}, {arm.arm: arm.epochs for arm in arms})]


def _ignored_seeds(arms: Sequence[Arm]) -> list[Note]:
    """Of a training of the user's own: seeds that make no difference are no repetitions."""
    values = {arm.arm: list(arm.chosen.values.values()) for arm in arms if arm.chosen}
    return [SeedIgnored(arm, len(some)) for arm, some in values.items() if len(some) > 1 and len(set(some)) == 1]


def _interval_notes(
    arms: Sequence[Arm], score_format: MetricFormat, scope: IntervalScope, samples: int | None
) -> list[Note]:
    """What the intervals are over, and what they do not hold."""
    scored = [arm for arm in arms if arm.score]
    notes: list[Note] = [scope] if scored else []
    if scored and samples and score_format.share and not scope.ratio:
        shares = {arm.arm: min(max(0.0, arm.score.mean), 1.0) for arm in scored if arm.score}
        margins = {arm: 1.96 * math.sqrt(share * (1 - share) / samples) for arm, share in shares.items()}
        notes.append(SampleError(samples, margins))
    one_seed = [arm for arm in scored if arm.score and arm.score.n == 1 and scope.replicate is Replicate.SEED]
    return notes + [OneSeed(arm.arm) for arm in one_seed]
