"""The answer to a sweep's question: which arm is better, by how much, and how sure one can be. A view of the record.

Each arm's best configurations were trained again on fresh seeds. An arm is represented by the one with the best mean
validation objective (`_ranked`), judged by its test scores; while these are not complete, by its validation objectives,
and it says so.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeVar

from results.definition import Definition
from results.intervals import CONFIDENCE, Difference, Estimate, difference, estimate, holm
from results.record import Reader, ReportRow, State, Trial
from results.tables import NEVER_BEST
from results.wording import Wording, settings

LARGEST = 1e150  # a score beyond has no square, so no spread; neither has what is not finite
OTHER_NETWORK = "of another network"  # why a seed does not count
FEW = 6  # arms up to which all pairs are compared
Curves = Mapping[int, Mapping[int, ReportRow]]
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One configuration of an arm, trained again on fresh seeds."""

    source: int  # the search trial that found it
    params: dict[str, Any]
    config: dict[str, Any]  # without the seed
    searched: float | None  # the search trial's last validation objective
    trials: dict[int, int]  # seed -> confirmation trial, of those that finished
    values: dict[int, float]  # seed -> last validation objective
    validation: Estimate | None  # of `values`
    test: dict[int, float]  # seed -> test score
    dropped: dict[str, int]  # how many confirmation trials do not count, by state or `OTHER_NETWORK`


@dataclass(frozen=True, slots=True)
class Arm:
    """What is known of one arm; `candidates` are sorted, and the first one with a value is the chosen one."""

    arm: str
    candidates: tuple[Candidate, ...]
    chosen: Candidate | None
    score: Estimate | None  # of the chosen one, on the answer's split
    seen: float | None  # the best validation objective that any of its search trials reported
    flattered: float | None  # how much better the chosen one did in the search than on fresh seeds: the winner's curse


@dataclass(frozen=True, slots=True)
class Comparison:
    """The scores of `arm` minus those of `against`. `verdict` is one of better, worse, unknown."""

    arm: str
    against: str
    difference: Difference
    p_holm: float | None  # corrected for the comparisons made together
    together: int  # how many those are
    verdict: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Answer:
    """All that the record says about the question. Scores are fractions and nats; `unit` is for people."""

    metric: str  # the validation objective
    mode: str  # max or min
    split: str  # test, or validation while there are no test scores
    measure: str  # such as "test accuracy"
    scale: float  # from a score to its unit: 100 for accuracies
    unit: str  # of a difference
    control: str | None  # the first arm
    arms: tuple[Arm, ...]
    comparisons: tuple[Comparison, ...]  # every arm against the control
    pairs: tuple[Comparison, ...]  # every two arms, when they are at most FEW and more than 2
    best: str | None  # the arm with the best mean validation objective
    model: int | None  # confirmation trial of that arm with the best one: the model to keep
    sentence: str
    notes: tuple[str, ...]  # what a careful reader wants to know before he believes it
    wording: Wording  # how its scores are told

    def asdict(self) -> dict[str, Any]:
        """As JSON; seeds become text there."""
        return dataclasses.asdict(self)

    def arm(self, name: str) -> Arm:
        """The arm of that name. Raises KeyError."""
        return {arm.arm: arm for arm in self.arms}[name]


def answer(reader: Reader) -> Answer:
    """Read the record and answer; whatever is missing there is None here, and the sentence says what is missing."""
    with reader.snapshot():
        definition = reader.definition()
        trials, curves, scores = reader.trials(), reader.curves(), reader.scores("test")
        superseded = reader.superseded()
    metric, mode = definition.metric, definition.mode
    names = list(dict.fromkeys([*definition.arms, *(trial.arm for trial in trials)]))
    measured = metric.removeprefix("val_")
    if not any(measured in known for known in scores.values()):
        measured = "accuracy"  # a metric of the user's own is not scored on the test split
    tested = {
        trial: known[measured] for trial, known in scores.items() if abs(known.get(measured, math.nan)) <= LARGEST
    }

    def candidates(name: str) -> tuple[Candidate, ...]:
        mine = [trial for trial in trials if trial.arm == name]
        return tuple(_ranked(_candidates(mine, superseded, curves, tested, metric), mode))

    found = {name: candidates(name) for name in names}
    chosen = {name: next((c for c in found[name] if c.validation), None) for name in names}
    represented = [candidate for candidate in chosen.values() if candidate]
    complete = all(candidate.test.keys() == candidate.values.keys() for candidate in represented)
    split = "test" if represented and complete else "validation"
    higher = mode == "max" if split == "validation" or measured == metric.removeprefix("val_") else True
    regression = definition.is_regression
    wording = Wording(measured if split == "test" else metric, split, higher, regression)

    arms = tuple(_arm(name, found[name], chosen[name], wording, _seen(name, trials, curves, metric, mode), mode)
                 for name in names)  # fmt: skip
    control, others = next(iter(names), None), names[1:]
    data = {arm.arm: _values(arm.chosen, split) for arm in arms if arm.chosen}
    with_control = [(other, control) for other in others if other in data and control in data and control is not None]
    every_two = [(b, a) for a, b in combinations(data, 2)] if 2 < len(names) <= FEW else []
    comparisons = _compare(with_control, data, wording)
    best = _best(arms, mode)
    keep = best.chosen if best else None
    return Answer(
        metric=metric,
        mode=mode,
        split=split,
        measure=wording.measure,
        scale=wording.scale,
        unit=wording.unit,
        control=control,
        arms=arms,
        comparisons=comparisons,
        pairs=_compare(every_two, data, wording),
        best=best.arm if best else None,
        model=keep.trials[_extreme(keep.values, mode)] if keep else None,
        sentence=_sentence(arms, comparisons, best, wording, metric),
        wording=wording,
        notes=_notes(arms, definition, wording, Wording(metric, "validation", mode == "max", regression)),
    )


# -- arms --------------------------------------------------------------------------------------------------------


def _candidates(
    trials: Sequence[Trial], superseded: Set[int], curves: Curves, tested: Mapping[int, float], metric: str
) -> list[Candidate]:
    """An arm's configurations that were trained again. Of another network than the one that was accepted since
    (`superseded`) no seed counts, nor what it scored in the search."""
    by_source: dict[int, list[Trial]] = {}
    for trial in trials:
        if trial.phase == "confirm" and trial.source is not None:
            by_source.setdefault(trial.source, []).append(trial)
    sources = {trial.trial: trial for trial in trials}
    made = []
    for source, repeats in sorted(by_source.items()):
        values: dict[int, float] = {}
        numbers: dict[int, int] = {}
        dropped: dict[str, int] = {}
        for trial in repeats:
            value = _last(curves.get(trial.trial, {}), metric)
            if trial.trial in superseded:
                dropped[OTHER_NETWORK] = dropped.get(OTHER_NETWORK, 0) + 1
            elif trial.state is State.COMPLETED and value is not None:
                told = trial.config.get("seed")
                seed = told if isinstance(told, int) else trial.trial
                values[seed], numbers[seed] = value, trial.trial
            else:
                dropped[str(trial.state)] = dropped.get(str(trial.state), 0) + 1
        config = {name: value for name, value in repeats[0].config.items() if name != "seed"}
        made.append(
            Candidate(
                source=source,
                params=sources[source].params if source in sources else repeats[0].params,
                config=config,
                searched=None if source in superseded else _last(curves.get(source, {}), metric),
                trials=numbers,
                values=values,
                validation=estimate(list(values.values()), share="accuracy" in metric) if values else None,
                test={seed: tested[trial] for seed, trial in numbers.items() if trial in tested},
                dropped=dropped,
            )
        )
    return made


def _ranked(candidates: Sequence[Candidate], mode: str) -> list[Candidate]:
    """Best first: the fewest seeds that ended badly, as a share; then the best mean, less one standard error of it.

    The record grows, so candidates may have different numbers of seeds: a mean of few is a luckier one, and a seed that
    is missing or LOST is not the configuration's fault. All share one standard deviation, so that with equal numbers
    the mean decides.
    """
    spread = [c.validation for c in candidates if c.validation and c.validation.n > 1]
    freedom = sum(one.n - 1 for one in spread)
    sd = math.sqrt(sum((one.n - 1) * (one.sd or 0.0) ** 2 for one in spread) / freedom) if freedom else 0.0

    def rank(candidate: Candidate) -> tuple[float, float, int]:
        found = candidate.validation
        if found is None:
            return math.inf, math.inf, candidate.source
        bad = sum(candidate.dropped.get(state, 0) for state in (State.DIVERGED, State.FAILED))
        mean = found.mean if mode == "min" else -found.mean
        return bad / (bad + found.n), mean + sd / math.sqrt(found.n), candidate.source

    return sorted(candidates, key=rank)


def _arm(
    name: str,
    candidates: tuple[Candidate, ...],
    chosen: Candidate | None,
    wording: Wording,
    seen: float | None,
    mode: str,
) -> Arm:
    values = list(_values(chosen, wording.split).values()) if chosen else []
    flattered = None
    if chosen and chosen.searched is not None and chosen.validation:
        flattered = (chosen.searched - chosen.validation.mean) * (1 if mode == "max" else -1)
    return Arm(name, candidates, chosen, estimate(values, share=wording.share) if values else None, seen, flattered)


def _values(candidate: Candidate, split: str) -> dict[int, float]:
    return candidate.test if split == "test" else candidate.values


def _last(curve: Mapping[int, ReportRow], metric: str) -> float | None:
    value = curve[max(curve)].metrics.get(metric, math.nan) if curve else math.nan
    return value if abs(value) <= LARGEST else None


def _seen(arm: str, trials: Sequence[Trial], curves: Curves, metric: str, mode: str) -> float | None:
    able = [t.trial for t in trials if t.arm == arm and t.phase == "search" and t.state not in NEVER_BEST]
    told = [row.metrics.get(metric, math.nan) for number in able for row in curves.get(number, {}).values()]
    finite = [value for value in told if abs(value) <= LARGEST]
    return (min if mode == "min" else max)(finite, default=None)


def _best(arms: Sequence[Arm], mode: str) -> Arm | None:
    means = {arm.arm: arm.chosen.validation.mean for arm in arms if arm.chosen and arm.chosen.validation}
    name = _extreme(means, mode) if means else None
    return next((arm for arm in arms if arm.arm == name), None)


def _extreme(values: Mapping[K, float], mode: str) -> K:
    """The key of the best value; of equal ones the first."""
    return (min if mode == "min" else max)(values, key=lambda key: values[key])


# -- comparisons -------------------------------------------------------------------------------------------------


def _compare(
    pairs: Sequence[tuple[str, str]], data: Mapping[str, Mapping[int, float]], wording: Wording
) -> tuple[Comparison, ...]:
    found = [difference(data[a], data[b], len(pairs), share=wording.share) for a, b in pairs]
    corrected = holm([one.p for one in found])
    return tuple(
        _comparison(a, b, one, p, len(pairs), wording) for (a, b), one, p in zip(pairs, found, corrected, strict=True)
    )


def _comparison(a: str, b: str, found: Difference, p_holm: float | None, together: int, wording: Wording) -> Comparison:
    if p_holm is not None and p_holm < 1 - CONFIDENCE:
        verdict = "better" if (found.mean > 0) is wording.higher else "worse"
        text = wording.effect(a, b, found)
    else:
        verdict = "unknown"
        text = wording.no_effect(a, b, found, p_holm, together)
    return Comparison(a, b, found, p_holm, together, verdict, text)


# -- words -------------------------------------------------------------------------------------------------------


def _sentence(
    arms: Sequence[Arm], comparisons: Sequence[Comparison], best: Arm | None, wording: Wording, metric: str
) -> str:
    if best is None or best.chosen is None or best.score is None:
        seen = [f"{arm.arm} {wording.value(arm.seen)}" for arm in arms if arm.seen is not None]
        if not seen:
            return "No answer yet: no trial has reported."
        return f"No answer yet: nothing is confirmed. Best {metric} seen in the search: {', '.join(seen)}."
    parts = [one.sentence for one in comparisons]
    if len(parts) > 1:
        parts.append(f"p-values are corrected for {len(parts)} comparisons (Holm).")
    if missing := [arm.arm for arm in arms if not arm.chosen]:
        parts.append(f"Nothing of {' and '.join(missing)} is confirmed, so it is not compared.")
    of = f"Best by validation is {best.arm}: " if len(arms) > 1 else ""
    parts.append(f"{of}{wording.level(best.score)}, with {settings(best.chosen.params)}.")
    if wording.split == "validation":
        some = all(arm.chosen.test for arm in arms if arm.chosen)
        lack = "Not all of these models are scored on the test split yet" if some else "There are no test scores"
        parts.append(f"{lack}: these are validation scores, by which the configurations were chosen.")
    return " ".join(parts)


def _notes(arms: Sequence[Arm], definition: Definition, wording: Wording, validation: Wording) -> tuple[str, ...]:
    notes = [
        f"Winner's curse, {arm.arm}: trial {arm.chosen.source} ended with {validation.value(arm.chosen.searched)} "
        f"{validation.measure} in the search, the same settings with {validation.value(arm.chosen.validation.mean)} on "
        f"fresh seeds: the search flattered them by {validation.change(arm.flattered)} {validation.unit}".rstrip()
        + "."
        for arm in arms
        if arm.flattered is not None and arm.flattered > 0
        if arm.chosen and arm.chosen.searched is not None and arm.chosen.validation
    ]
    for arm in arms:
        for candidate in arm.candidates:
            if candidate.dropped:
                told = ", ".join(f"{count} {state}" for state, count in sorted(candidate.dropped.items()))
                notes.append(f"Confirmations of {arm.arm}, trial {candidate.source}, that do not count: {told}.")
    scores = [arm.score for arm in arms if arm.score]
    if scores:
        notes.append(
            f"Intervals are {100 * CONFIDENCE:g} % t-intervals over training seeds, for these configurations and this "
            f"{wording.split} split; another search would add to them."
        )
    count = definition.data.test if wording.split == "test" else definition.data.validation
    if scores and count and wording.scale == 100:
        share = min(max(0.0, scores[0].mean), 1.0)
        notes.append(
            f"Another {count:,} samples would move an accuracy by about \N{PLUS-MINUS SIGN} "
            f"{wording.change(1.96 * math.sqrt(share * (1 - share) / count))} points, and a difference by less: "
            "all arms are scored on the same samples."
        )
    if any(score.n == 1 for score in scores):
        notes.append("One seed has no spread: confirm on two or more for an interval.")
    return tuple(notes)
