"""Comparisons of arms with the control, and of the control with the defaults: intervals and verdicts.

The defaults are no arm: no family of comparisons counts them, nothing of them is ever best, and none of their models is
kept. Their trainings are grouped as the control's are, so many seeds for each of its searches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rungwise.results.analysis.candidates import Curves, collect_seeds, select_scores
from rungwise.results.analysis.findings import (
    Arm,
    Candidate,
    Comparison,
    Replicate,
    TuningGain,
    Verdict,
    is_small,
    seeds_by_state,
    verdict_of,
)
from rungwise.results.analysis.statistics import (
    ADVISED,
    FEWEST,
    Difference,
    crossed_difference,
    difference,
    estimate,
    resampled_difference,
    searches_needed,
)
from rungwise.results.io.metric_format import MetricFormat
from rungwise.results.record.definition import Definition
from rungwise.results.record.types import Trial

if TYPE_CHECKING:
    import numpy as np

SampleScores = Mapping[int, tuple[int, bytes]]  # trial -> number of samples, packed scores (`Reader.sample_scores`)


@dataclass(frozen=True, slots=True)
class Family:
    """What all comparisons of a sweep have in common."""

    format: MetricFormat  # of scores on the split
    replicate: Replicate
    samples: int | None  # of the split
    worth: float | None  # the smallest difference that is worth having
    comparisons: int  # whose intervals hold together
    level: float | None = None  # of a look among several
    ratio: float = 0.0  # test samples for each training sample, where each search has a test split of its own


def search_scores(
    winners: Mapping[int, Candidate], failed: Sequence[int], split: str, constant_score: float | None
) -> dict[int, float]:
    """{search: mean score of its winner on the split}. On the test split a search of which nothing trained to a score
    counts, where it is known as what."""
    scores = {search: list(select_scores(one, split, constant_score).values()) for search, one in winners.items()}
    if split == "test" and constant_score is not None:
        scores |= {search: [constant_score] for search in failed}
    return {search: sum(some) / len(some) for search, some in sorted(scores.items()) if some}


def sample_matrix(
    arm: Arm, packed: SampleScores, metric: str, constant_score: float | None, samples: int | None
) -> np.ndarray | None:
    """What an arm's searches score on each sample, means over seeds, (searches, samples); None where the record does
    not say it of every model. What failed scores the same on all samples."""
    import numpy as np

    rows = []
    for search in arm.scores:
        winner = arm.winners.get(search)
        found = [packed.get(trial) for trial in winner.trials.values()] if winner else []
        scores = [_unpacked(metric, *one) for one in found if one]
        count = samples or (len(scores[0]) if scores else 0)
        if len(scores) < len(found) or not count or any(len(one) != count for one in scores):
            return None
        failed = len(winner.failed) if winner else 1
        if failed and constant_score is not None:
            scores += [np.full(count, constant_score)] * failed
        rows.append(np.mean(scores, axis=0))
    return np.array(rows) if rows else None


def _unpacked(metric: str, samples: int, data: bytes) -> np.ndarray:
    import numpy as np

    if metric == "accuracy":
        return np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=samples).astype(np.float64)
    return np.frombuffer(data, dtype="<f4").astype(np.float64)


def compare_arms(
    arms: Sequence[Arm], family: Family, matrices: Mapping[str, np.ndarray | None]
) -> tuple[Comparison, ...]:
    """Every arm against the control, the first one: one family of comparisons, whatever became of the arms.

    Args:
        arms: the control first.
        family: what the comparisons have in common.
        matrices: {arm: `sample_matrix`}.
    """
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
        elif family.format.split == "validation":
            compared.append(Comparison(arm.arm, control.arm, Verdict.NO_TEST_SCORES, None))
        else:
            found = find_difference(arm, control, family, matrices)
            compared.append(_judged(arm, control, found, family))
    return tuple(compared)


def find_difference(arm: Arm, control: Arm, family: Family, matrices: Mapping[str, np.ndarray | None]) -> Difference:
    """Scores of the arm minus those of the control: of each pair of searches that have one test split; crossed with the
    samples where both have `matrices`."""
    share = family.format.share
    if family.ratio:
        pairs = [arm.scores[search] - control.scores[search] for search in arm.scores if search in control.scores]
        return resampled_difference(pairs, family.ratio, family.comparisons, share=share, samples=family.samples)
    a, b = matrices[arm.arm], matrices[control.arm]
    if a is not None and b is not None:
        return crossed_difference(a, b, family.comparisons, share=share, level=family.level)
    values = list(arm.scores.values()), list(control.scores.values())
    return difference(*values, family.comparisons, share=share, samples=family.samples, level=family.level)


def _judged(arm: Arm, control: Arm, found: Difference, family: Family) -> Comparison:
    verdict = verdict_of(found, family.replicate, family.format.higher, family.worth)
    if family.replicate is Replicate.SEED:
        return Comparison(arm.arm, control.arm, verdict, found)
    pairs = [search for search in arm.scores if search in control.scores]
    sign = 1 if family.format.higher else -1
    won = sum(sign * (arm.scores[search] - control.scores[search]) > 0 for search in pairs)
    needed = None
    if verdict is Verdict.CANNOT_TELL and min(found.n, found.n_other) < FEWEST:
        needed = ADVISED  # how far scores spread is not known from so few
    elif verdict is Verdict.CANNOT_TELL and family.worth is not None:
        needed = searches_needed(found, family.worth)
    small = is_small(found, family.worth)
    return Comparison(arm.arm, control.arm, verdict, found, small, won, len(pairs), needed)


def _without_scores(arm: Arm, control: Arm) -> Verdict | None:
    if arm.failed and control.failed:
        return Verdict.BOTH_FAILED
    if arm.failed and control.chosen:
        return Verdict.ARM_FAILED
    return Verdict.CONTROL_FAILED if control.failed and arm.chosen else None


def collect_untuned(
    trials: Sequence[Trial],
    superseded: Set[int],
    curves: Curves,
    tested: Mapping[int, float],
    definition: Definition,
    constant_score: float | None,
) -> Arm | None:
    """The trainings with the defaults in the form of an arm, whose searches are groups of seeds; None until all of them
    have a test score or another outcome."""
    known = [trial for trial in trials if trial.is_untuned and trial.trial not in superseded]
    groups = {
        search: collect_seeds(
            [trial for trial in known if trial.search == search], superseded, curves, tested, definition
        )
        for search in sorted({trial.search for trial in known})
    }
    if not groups or any(one.missing or one.test.keys() != one.values.keys() for one in groups.values()):
        return None
    if definition.searches == 1 and len(groups) == 1:
        (only,) = groups.values()
        failed = {} if constant_score is None else dict.fromkeys(only.failed, constant_score)
        scores = only.test | failed
    else:
        scores = search_scores(groups, (), "test", constant_score)
    score = estimate(list(scores.values())) if scores else None
    return Arm("untuned", (), groups, None, scores, score, None, None, {})


def compare_untuned(
    untuned: Arm, control: Arm, family: Family, matrix: Callable[[Arm], np.ndarray | None], trials: Sequence[Trial]
) -> TuningGain | None:
    """The control minus the defaults, in an interval of its own.

    Args:
        untuned: as `collect_untuned` returns it.
        control: the first arm, with its scores on the test split.
        family: of the comparisons of arms, for the format of scores and the unit of replication.
        matrix: what an arm's searches score on each sample (`comparisons.sample_matrix`).
        trials: of the record.
    """
    groups = untuned.winners.values()
    failed = {(search, seed): state for search, one in untuned.winners.items() for seed, state in one.failed.items()}
    states = seeds_by_state(dict(enumerate(failed.values())))
    seeds = sum(len(one.test) + len(one.failed) for one in groups)
    infeasible = next(
        (trial.failure.message for trial in trials if trial.is_untuned and trial.failure and trial.failure.constraint),
        None,
    )
    if infeasible or not any(one.test for one in groups):  # there is no size of a gain over what does not train
        return TuningGain(control.arm, None, None, None, states, seeds, infeasible)
    if untuned.score is None or not control.scores or not math.isfinite(untuned.score.mean):
        return None
    alone = replace(family, comparisons=1)
    crossed = family.replicate is Replicate.SEARCH
    matrices = {arm.arm: matrix(arm) if crossed else None for arm in (control, untuned)}
    found = find_difference(control, untuned, alone, matrices)
    verdict = verdict_of(found, family.replicate, family.format.higher)
    return TuningGain(control.arm, untuned.score, found, verdict, states, seeds, None)
