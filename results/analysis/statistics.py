"""Means and differences of means with t-intervals (Student's and Welch's), by scipy.

Intervals are two-sided. The values are scores of training seeds, or of independent searches; they are taken as roughly
normal. A share, such as an accuracy, is counted on a number of samples, so its spread has a floor: see `discordance`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
_ROUNDING = 1e-12  # spread, relative to the values, that is rounding


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
    """Mean of one side minus mean of the other. Without two values a side there is neither interval nor p."""

    n: int  # values of the first side
    n_other: int  # of the second
    mean: float
    low: float | None  # of the interval at 1 - (1 - CONFIDENCE) / comparisons
    high: float | None
    p: float | None  # two-sided, of the same test at the same level: below 1 - CONFIDENCE when 0 is outside
    comparisons: int  # made together: their intervals hold together with CONFIDENCE (Bonferroni)


def discordance(difference: float, samples: int) -> float:
    """The least variance of the difference of two shares that were counted on the same `samples`.

    Two models whose accuracies differ by d disagree on |d| * samples samples at least, and on one sample at least: the
    count is that of McNemar's test (Dietterich 1998). Without it, seeds that happen to agree would be certain.
    """
    return max(abs(difference), 1 / samples) / samples


def estimate(values: Sequence[float], *, share: bool = False, samples: int | None = None) -> Estimate:
    """Mean, standard deviation (n - 1) and 95% t-interval.

    Args:
        values: one a seed, or one a search.
        share: they are shares; the interval stays within 0..1.
        samples: on how many samples a share was counted; the interval is then never narrower than these allow.

    Raises:
        ValueError: for no value.
    """
    import numpy as np
    from scipy import stats

    if not values:
        raise ValueError("an estimate must have a value, but got none")
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Estimate(1, mean, None, None, None)
    sd = _spread(values)
    floor = discordance(0.0, samples) if share and samples else 0.0
    margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * (max(sd**2, floor) / n) ** 0.5
    low, high = mean - margin, mean + margin
    if share and 0 < mean < 1 and (low < 0 or high > 1):
        low, high = _on_logits(mean, margin)
    elif share:
        low, high = max(low, 0.0), min(high, 1.0)
    return Estimate(n, mean, sd, low, high)


def difference(
    a: Sequence[float], b: Sequence[float], comparisons: int = 1, *, share: bool = False, samples: int | None = None
) -> Difference:
    """Mean of `a` minus mean of `b` by Welch's t-test, with an interval that holds for all `comparisons` together.

    Sides are not paired: two configurations on the same training seed correlate by 0.16 only, which does not pay for
    the degrees of freedom, and a seed that was lost would decide about the method.

    Args:
        a: scores of one side, one a seed or one a search.
        b: those of the other.
        comparisons: how many are made together.
        share: they are shares; the interval stays within -1..1.
        samples: on how many samples shares were counted, both sides on the same ones; see `discordance`.

    Raises:
        ValueError: when a side is empty.
    """
    import numpy as np
    from scipy import stats

    if not a or not b:
        raise ValueError(f"both sides must have a value, but got {len(a)} and {len(b)}")
    mean = float(np.mean(a)) - float(np.mean(b))
    mean = 0.0 if abs(mean) <= _ROUNDING * max(map(abs, [*a, *b])) else mean
    if min(len(a), len(b)) < 2:
        return Difference(len(a), len(b), mean, None, None, None, comparisons)
    floor = discordance(mean, samples) / 2 if share and samples else 0.0  # half of it a side
    errors = [max(_spread(side) ** 2, floor) / len(side) for side in (a, b)]  # variances of the means
    variance = sum(errors)
    if variance == 0:
        return Difference(len(a), len(b), mean, mean, mean, None, comparisons)
    # Welch-Satterthwaite
    freedom = variance**2 / sum(error**2 / (len(side) - 1) for error, side in zip(errors, (a, b), strict=True))
    alpha = (1 - CONFIDENCE) / comparisons
    margin = float(stats.t.ppf(1 - alpha / 2, freedom)) * variance**0.5
    low, high = mean - margin, mean + margin
    if share:
        low, high = max(low, -1.0), min(high, 1.0)
    p = min(1.0, comparisons * 2 * float(stats.t.sf(abs(mean) / variance**0.5, freedom)))
    return Difference(len(a), len(b), mean, low, high, p, comparisons)


def _on_logits(mean: float, margin: float) -> tuple[float, float]:
    """A share's interval mean +- margin, made on log(p / (1 - p)) by the delta method (Agresti 2013, 3.1.4)."""
    from scipy.special import expit, logit

    centre, wide = logit(mean), margin / (mean * (1 - mean))
    return float(expit(centre - wide)), float(expit(centre + wide))


def _spread(values: Sequence[float]) -> float:
    """Standard deviation; 0 for values that differ by rounding."""
    import numpy as np

    sd = float(np.std(values, ddof=1))
    return 0.0 if sd <= _ROUNDING * max(map(abs, values)) else sd
