"""Means, differences and how sure one can be of them: Student's t, by scipy.

All intervals are two-sided 95% intervals of a mean over training seeds, for values that are roughly normal. A share,
such as an accuracy, has none that leaves 0..1: where Student's would, the interval is made on the logit scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONFIDENCE = 0.95
POWER = 0.8  # chance to see a difference, when seeds are counted that would be needed
MOST = 100_000  # more seeds than that nobody trains
_SAME = 1e-12  # spread, relative to the values, that is rounding


@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean of `n` values. One value has no spread and no interval: None."""

    n: int
    mean: float
    sd: float | None  # of the values, not of their mean
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of a minus mean of b. Without spread in the data there is an interval at most, and no p."""

    n: int  # pairs; when not paired, the values of the smaller side
    mean: float
    low: float | None
    high: float | None
    p: float | None  # two-sided, of this comparison alone
    paired: bool
    needed: int | None  # about so many seeds (pairs, or a side) see a difference of this size; None: > MOST, or unknown


def estimate(values: Sequence[float], *, share: bool = False) -> Estimate:
    """Mean, standard deviation (n - 1) and t-interval; a `share`'s is within 0..1. Raises ValueError for no value."""
    import numpy as np
    from scipy import stats

    if not values:
        raise ValueError("an estimate must have a value, but got none")
    mean = float(np.mean(values))
    if len(values) == 1:
        return Estimate(1, mean, None, None, None)
    sd = float(np.std(values, ddof=1))
    if _no_spread(sd, values):
        return Estimate(len(values), mean, sd, mean, mean)
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(CONFIDENCE)
    low, high = float(interval.low), float(interval.high)
    if share and 0 < mean < 1 and (low < 0 or high > 1):
        low, high = _on_logits(mean, (high - low) / 2)
    return Estimate(len(values), mean, sd, low, high)


def _on_logits(mean: float, margin: float) -> tuple[float, float]:
    """A share's interval mean +- margin, made on log(p / (1 - p)) by the delta method (Agresti 2013, 3.1.4)."""
    from scipy.special import expit, logit

    centre, wide = logit(mean), margin / (mean * (1 - mean))
    return float(expit(centre - wide)), float(expit(centre + wide))


def difference(
    a: Mapping[int, float], b: Mapping[int, float], comparisons: int = 1, *, share: bool = False
) -> Difference:
    """Compare values by seed: paired t when one side's seeds are all among the other's, else Welch's t.

    `comparisons`: how many are made together, for the number of seeds needed. The interval of two shares' difference
    ends at -1 and 1: no other difference is possible. Raises ValueError when a side is empty.
    """
    import numpy as np
    from scipy import stats

    if not a or not b:
        raise ValueError(f"both sides must have a value, but got {len(a)} and {len(b)}")
    shared = sorted(a.keys() & b.keys())
    paired = len(shared) == min(len(a), len(b)) >= 2
    x, y = np.array([a[seed] for seed in sorted(a)]), np.array([b[seed] for seed in sorted(b)])
    if paired:
        x, y = np.array([a[seed] for seed in shared]), np.array([b[seed] for seed in shared])
    n, mean = min(len(x), len(y)), float(x.mean() - y.mean())
    if n < 2:
        return Difference(n, mean, None, None, None, False, None)
    values = [*x.tolist(), *y.tolist()]
    spreads = [np.std(x - y, ddof=1)] if paired else [np.std(x, ddof=1), np.std(y, ddof=1)]
    if all(_no_spread(float(sd), values) for sd in spreads):
        mean = 0.0 if abs(mean) <= _SAME * max(map(abs, values)) else mean
        return Difference(n, mean, mean, mean, None, paired, None)
    result: Any = stats.ttest_rel(x, y) if paired else stats.ttest_ind(x, y, equal_var=False)
    interval = result.confidence_interval(CONFIDENCE)
    needed = seeds_needed(mean, [float(sd) for sd in spreads], (1 - CONFIDENCE) / comparisons)
    low, high = float(interval.low), float(interval.high)
    if share and all(0 <= value <= 1 for value in values):
        low, high = max(low, -1.0), min(high, 1.0)
    return Difference(n, mean, low, high, float(result.pvalue), paired, needed)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for being several (Holm 1979, Scand. J. Statist. 6:65). None stays None, and counts."""
    adjusted: list[float | None] = [None] * len(ps)
    so_far = 0.0
    known = sorted((p, index) for index, p in enumerate(ps) if p is not None)
    for rank, (p, index) in enumerate(known):
        so_far = max(so_far, min(1.0, p * (len(ps) - rank)))
        adjusted[index] = so_far
    return adjusted


def seeds_needed(mean: float, spreads: Sequence[float], alpha: float = 1 - CONFIDENCE) -> int | None:
    """The least n whose t-test sees a true difference of `mean` with probability POWER (non-central t).

    `spreads`: one standard deviation, of paired differences; or two, one a side with n values each (Welch).
    None when that takes more than MOST.
    """
    if mean == 0 or _power(MOST, mean, spreads, alpha) < POWER:
        return None
    low, high = 1, MOST  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(middle, mean, spreads, alpha) >= POWER else (middle, high)
    return high


def _power(n: int, mean: float, spreads: Sequence[float], alpha: float) -> float:
    from scipy import stats

    variances = [sd**2 for sd in spreads]
    # Welch-Satterthwaite; with one spread it is n - 1.
    freedom = (n - 1) * sum(variances) ** 2 / sum(v**2 for v in variances)
    centre = abs(mean) / math.sqrt(sum(variances) / n)
    critical = stats.t.ppf(1 - alpha / 2, freedom)
    seen = float(stats.nct.sf(critical, freedom, centre))
    if centre > 5:  # the wrong sign is impossible, and scipy's far tail is NaN
        return seen if math.isfinite(seen) else float(stats.norm.sf(critical - centre))
    return seen + float(stats.nct.cdf(-critical, freedom, centre))


def _no_spread(sd: float, values: Sequence[float]) -> bool:
    return sd <= _SAME * max(map(abs, values))
