"""Effect against budget: the best validation objective to expect after n trials of a search, arm by arm.

Which arm is ahead may depend on how long one searches (Dodge et al. 2019): where two curves cross, "A is better" means
nothing without a budget. A point of a curve is a mean over independent searches with its t-interval. What random search
has found after n trials does not depend on their order, so there the trials of all searches are pooled: the unbiased
estimator of Tang et al. 2020 (a U-statistic), with an interval by leaving out one search at a time (jackknife).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rungwise.results.analysis.best import LARGEST
from rungwise.results.analysis.statistics import Estimate, estimate
from rungwise.results.record.definition import Definition
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import NEVER_BEST, ReportRow, Trial, last_metrics

if TYPE_CHECKING:
    import numpy as np

MOST_POINTS = 60  # of a curve
Curves = Mapping[int, Mapping[int, ReportRow]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one trial of a search added."""

    best: float | None  # its best report of the objective; None: it has none that may count
    epochs: float  # it trained


@dataclass(frozen=True, slots=True)
class BudgetPoint:
    """The expected best after so many trials of each search."""

    trials: int
    epochs: float  # that they train, on average
    values: tuple[float, ...]  # the best of each search; of random search, values whose mean and spread stand for them
    expected: Estimate


@dataclass(frozen=True, slots=True)
class BudgetCurve:
    """The points of one arm, by number of trials."""

    arm: str
    searches: int
    pooled: bool  # trials of all searches together, as random search allows
    points: tuple[BudgetPoint, ...]


def read_budget_curves(reader: Reader) -> tuple[BudgetCurve, ...]:
    """The curves of a run's record."""
    with reader.snapshot():
        return budget_curves(reader.definition(), reader.trials(), reader.curves())


def budget_curves(definition: Definition, trials: Iterable[Trial], curves: Curves) -> tuple[BudgetCurve, ...]:
    """A curve for each arm of which a trial has ended, the control's first."""
    searched: dict[str, dict[int, list[Trial]]] = {arm: {} for arm in definition.arms}
    for trial in sorted(trials, key=lambda trial: trial.trial):
        if trial.phase == "search":
            searched.setdefault(trial.arm, {}).setdefault(trial.search, []).append(trial)
    found = []
    for arm, searches in searched.items():
        outcomes = [_outcomes(some, curves, definition) for some in searches.values()]
        pooled = definition.samplers.get(arm, definition.sampler) == "random"
        points = _points([some for some in outcomes if some], definition, pooled=pooled)
        if points:
            found.append(BudgetCurve(arm, points[-1].expected.n, pooled, points))
    return tuple(found)


def expected_best(values: Sequence[float] | np.ndarray, count: int, sign: float = 1.0) -> float:
    """The mean best of `count` of `values`, over all ways to choose them without replacement.

    Args:
        values: scores of independent random trials.
        count: 1 <= count <= len(values).
        sign: 1 when more is better, -1 when less is.
    """
    import numpy as np

    ranked, total = sign * np.sort(sign * np.asarray(values, dtype=float)), len(values)
    # The i-th from the bottom is the best of comb(i - 1, count - 1) of comb(total, count) choices: from the top down.
    rank = np.arange(total, count, -1)
    weights = np.concatenate([[1.0], np.cumprod((rank - count) / (rank - 1))]) * count / total
    return float(weights @ ranked[::-1][: len(weights)])


def _outcomes(trials: Sequence[Trial], curves: Curves, definition: Definition) -> list[Outcome]:
    """What the trials of one search added in turn, up to the first that has not ended."""
    outcomes = []
    for trial in trials:
        if not trial.state.ended:
            break
        curve = curves.get(trial.trial, {})
        values = [
            row.metrics[definition.metric]
            for step, row in curve.items()
            if step >= definition.folds  # all of them, where there are folds
            if abs(row.metrics.get(definition.metric, math.nan)) <= LARGEST and definition.breach(row.metrics) is None
        ]
        best = max(values, key=lambda value: definition.sign * value, default=None)
        epochs = last_metrics(curve).get("epoch", float(max(curve, default=0)))
        outcomes.append(Outcome(None if trial.state in NEVER_BEST else best, epochs))
    return outcomes


def _points(searches: Sequence[Sequence[Outcome]], definition: Definition, *, pooled: bool) -> tuple[BudgetPoint, ...]:
    """The points of an arm. A trial without a score counts as the worst of the arm: it was paid for."""
    import numpy as np

    length = min(map(len, searches), default=0)
    scored = [one.best for some in searches for one in some if one.best is not None]
    if not length or not scored:
        return ()
    sign = definition.sign
    worst = min(scored, key=lambda value: sign * value)
    values = np.array([[worst if one.best is None else one.best for one in some[:length]] for some in searches])
    epochs = np.array([[one.epochs for one in some[:length]] for some in searches])
    if pooled:
        longest = max(length, values.size // 2)  # beyond, few choices are left
        trained = float(epochs.mean()) * np.arange(1, longest + 1)
    else:
        longest = length
        best, trained = sign * np.maximum.accumulate(sign * values, axis=1), epochs.mean(axis=0).cumsum()
    points = []
    counts = range(1, longest + 1) if longest <= MOST_POINTS else np.geomspace(1, longest, MOST_POINTS).round()
    for count in sorted({int(count) for count in counts}):
        of_searches = pooled_values(values, count, sign) if pooled else best[:, count - 1].tolist()
        expected = estimate(of_searches, share="accuracy" in definition.metric)
        points.append(BudgetPoint(count, float(trained[count - 1]), tuple(of_searches), expected))
    return tuple(points)


def pooled_values(values: np.ndarray, count: int, sign: float) -> list[float]:
    """Of random search: a value for each search, whose mean is the pooled estimate, and whose variance over their
    number is the jackknife's of it. values: (searches, trials)."""
    import numpy as np

    searches = len(values)
    whole = expected_best(values.ravel(), count, sign)
    if searches == 1:
        return [whole]
    without = np.array([expected_best(np.delete(values, one, axis=0).ravel(), count, sign) for one in range(searches)])
    return [float(value) for value in whole + (searches - 1) * (without.mean() - without)]
