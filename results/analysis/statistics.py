"""Means and differences of means with t-intervals (Student's and Welch's), and how many searches a difference takes.

Intervals of differences between searches hold for samples like those of the split, too: searches are crossed with
samples, as readers are with cases in radiology (Obuchowski and Rockette 1995; Gallas 2009).

Intervals are two-sided. The values are scores of training seeds, or of independent searches; they are taken as roughly
normal. A share, such as an accuracy, is counted on a number of samples, so its spread has a floor: see `discordance`.

Searches that have test splits of their own share training samples, so their scores are not independent: the variance of
the mean of J such scores is (1/J + test samples / training samples) s2, not s2 / J (Nadeau and Bengio 2003, "Inference
for the Generalization Error", section 4; for repeated cross-validation Bouckaert and Frank 2004).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

CONFIDENCE = 0.95
POWER = 0.8
CAUTION = 0.8  # with which the standard deviation is below the one that is planned with
FEWEST = 4  # searches of each arm from which on there is a verdict
ADVISED = 5  # searches of each arm, where there are too few
# Level of each look at a t-test over R = 4, 5, ..., N searches that errs in 5% over all looks (benchmarks/boundary.py).
REPEATED_LEVELS = {8: 0.0223, 12: 0.0152, 16: 0.0125}
MOST = 200  # searches of each arm that are looked at
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
    # The narrower interval of the equivalence test (TOST), which holds with 1 - 2 * (1 - CONFIDENCE).
    inner_low: float | None = None
    inner_high: float | None = None
    variance: float | None = None  # of the mean, from the spread within both sides
    sample_variance: float = 0.0  # of the mean, from the samples that the split happens to have
    freedom: float | None = None  # degrees of freedom of `variance`
    ratio: float = 0.0  # test samples for each training sample, of searches that share samples; 0: independent ones


def repeated_level(most: int) -> float:
    """The level of each look when searches are added until the answer is sure, up to `most` of each arm.

    Raises:
        ValueError: for more than the largest number that the levels are known for.
    """
    for last, level in REPEATED_LEVELS.items():
        if most <= last:
            return level
    raise ValueError(f"levels are known for up to {max(REPEATED_LEVELS)} searches, but got {most}")


def discordance(difference: float, samples: int) -> float:
    """The least variance of the difference of two shares that were counted on the same `samples`.

    Two models whose accuracies differ by d disagree on |d| * samples samples at least, and on one sample at least: the
    count is that of McNemar's test (Dietterich 1998). Without it, seeds that happen to agree would be certain.
    """
    return max(abs(difference), 1 / samples) / samples


def estimate(
    values: Sequence[float],
    *,
    share: bool = False,
    samples: int | None = None,
    least: float = -math.inf,
    most: float = math.inf,
    ratio: float = 0.0,
) -> Estimate:
    """Mean, standard deviation (n - 1) and 95% t-interval.

    Args:
        values: one a seed, or one a search.
        share: they are shares; the interval stays within 0..1.
        samples: on how many samples a share was counted; the interval is then never narrower than these allow.
        least: what no score can be below, such as 0 for a squared error.
        most: what no score can exceed, such as 1 for the explained share of a variance.
        ratio: test samples for each training sample, where values are of different test splits; 0: of the same one.

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
    floor = discordance(0.0, _tested(samples, n, ratio)) if share and samples else 0.0
    variance = max(sd**2 * (1 / n + ratio), floor if ratio else floor / n)
    margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * variance**0.5
    low, high = mean - margin, mean + margin
    if share and not ratio and 0 < mean < 1 and (low < 0 or high > 1):  # margins of few samples are too wide for it
        low, high = _on_logits(mean, margin)
    elif share:
        low, high = max(low, 0.0), min(high, 1.0)
    return Estimate(n, mean, sd, min(mean, max(low, least)), max(mean, min(high, most)))


def difference(
    a: Sequence[float],
    b: Sequence[float],
    comparisons: int = 1,
    *,
    share: bool = False,
    samples: int | None = None,
    level: float | None = None,
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
        level: as for `crossed_difference`.

    Raises:
        ValueError: when a side is empty.
    """
    import numpy as np

    if not a or not b:
        raise ValueError(f"both sides must have a value, but got {len(a)} and {len(b)}")
    mean = float(np.mean(a)) - float(np.mean(b))
    mean = 0.0 if abs(mean) <= _ROUNDING * max(map(abs, [*a, *b])) else mean
    if min(len(a), len(b)) < 2:
        return Difference(len(a), len(b), mean, None, None, None, comparisons)
    floor = discordance(mean, samples) / 2 if share and samples else 0.0  # half of it a side
    sides = [(max(_spread(side) ** 2, floor) / len(side), len(side)) for side in (a, b)]
    return _welch(mean, sides, 0.0, comparisons, level, share=share)


def crossed_difference(
    a: np.ndarray, b: np.ndarray, comparisons: int = 1, *, share: bool = False, level: float | None = None
) -> Difference:
    """Mean of `a` minus mean of `b` over independent searches, for other searches and for other samples.

    With s2 the variance between the searches of a side (search and seeds, on this split), and e2 what else varies
    between searches on a sample, the mean has the variance s2 / R of each side and, from the samples,
    (var_i d_i - e2_a / R_a - e2_b / R_b) / n of the differences d_i on sample i. The degrees of freedom are those of
    the searches (Welch-Satterthwaite). s2 is at least e2 / n: searches that happen to agree on n samples are not alike.

    Args:
        a: scores of one side, (searches, samples).
        b: those of the other, on the same samples.
        comparisons: how many are made together.
        share: they are shares; the interval stays within -1..1.
        level: of a look among several (`repeated_level`), for the interval and for equivalence; None: a single look.

    Raises:
        ValueError: when a side is empty, or the samples differ.
    """
    if not len(a) or not len(b) or a.shape[1] != b.shape[1]:
        raise ValueError(f"both sides must have scores on the same samples, but got {a.shape} and {b.shape}")
    differences = a.mean(axis=0) - b.mean(axis=0)  # (samples,)
    samples, mean = a.shape[1], float(differences.mean())
    mean = 0.0 if abs(mean) <= _ROUNDING * float(max(abs(a).max(), abs(b).max())) else mean
    if min(len(a), len(b)) < 2:
        return Difference(len(a), len(b), mean, None, None, None, comparisons)
    floor = discordance(mean, samples) / 2 if share else 0.0
    sides, rest = [], 0.0
    for side in (a, b):
        between = _spread(side.mean(axis=1).tolist()) ** 2
        within = max(0.0, float(side.var(axis=0, ddof=1).mean()) - between)
        sides.append((max(between, within / samples, floor) / len(side), len(side)))
        rest += within / len(side)
    varied = float(differences.var(ddof=1)) if samples > 1 else 0.0
    return _welch(mean, sides, max(0.0, varied - rest) / samples, comparisons, level, share=share)


def resampled_difference(
    differences: Sequence[float],
    ratio: float,
    comparisons: int = 1,
    *,
    share: bool = False,
    samples: int | None = None,
) -> Difference:
    """The mean of `differences` by the corrected resampled t-test, for other samples like these and other searches.

    Args:
        differences: one a search; both sides are trained and tested on the same samples there.
        ratio: test samples for each training sample.
        comparisons: how many are made together.
        share: they are of shares; the interval stays within -1..1.
        samples: of each test split, on which shares were counted; see `discordance`.

    Raises:
        ValueError: for no difference.
    """
    import numpy as np

    if not differences:
        raise ValueError("a mean difference must have a value, but got none")
    count, mean = len(differences), float(np.mean(differences))
    mean = 0.0 if abs(mean) <= _ROUNDING * max(map(abs, differences)) else mean
    if count < 2:
        return Difference(count, count, mean, None, None, None, comparisons, ratio=ratio)
    floor = discordance(mean, _tested(samples, count, ratio)) if share and samples else 0.0
    total, freedom = max(_spread(differences) ** 2 * (1 / count + ratio), floor), count - 1
    if total == 0:
        return Difference(count, count, mean, mean, mean, None, comparisons, mean, mean, 0.0, ratio=ratio)
    outer, p, inner = _t_test(mean, total, freedom, comparisons, None, share=share)
    spread = total / (1 / count + ratio)
    return Difference(
        *(count, count, mean, *outer, p, comparisons, *inner),
        variance=spread / count,
        sample_variance=spread * ratio,
        freedom=freedom,
        ratio=ratio,
    )


def _tested(samples: int, count: int, ratio: float) -> int:
    """How many different samples `count` searches are tested on: of `samples` each, until all there are have had their
    turn."""
    return samples * min(count, round(1 / ratio) + 1) if ratio else samples


def searches_needed(found: Difference, worth: float) -> int | None:
    """The number of searches of each arm, more than there are, that would show a difference of `worth` with POWER; None
    when MOST would not: the split has too few samples, or scores spread too far.

    It is planned from that difference, never from the one that was seen: power at the observed effect says nothing that
    p does not say (Hoenig and Heisey 2001). The variance between searches is known from few of them, so its upper
    CAUTION limit is used (chi-square).
    """
    import math

    from scipy import stats

    if not found.variance or not found.freedom or not math.isfinite(found.freedom):
        return None
    upper = found.freedom / float(stats.chi2.ppf(1 - CAUTION, found.freedom))
    sides = found.variance * (2 / (1 / found.n + 1 / found.n_other)) * upper  # of both sides, one search each
    for count in range(max(FEWEST, max(found.n, found.n_other) + 1), MOST + 1):
        if found.ratio:
            total, freedom = sides * (1 / count + found.ratio), float(count - 1)
        else:
            between = sides / count
            total = between + found.sample_variance
            freedom = total**2 / (between**2 / (2 * (count - 1)))
        critical = float(stats.t.ppf(1 - (1 - CONFIDENCE) / found.comparisons / 2, freedom))
        if float(stats.nct.sf(critical, freedom, worth / math.sqrt(total))) >= POWER:
            return count
    return None


def samples_suffice(found: Difference, worth: float) -> bool:
    """Whether the split's samples alone, with searches without end, could show a difference of `worth` with POWER."""
    import math

    from scipy import stats

    critical = float(stats.norm.ppf(1 - (1 - CONFIDENCE) / found.comparisons / 2) + stats.norm.ppf(POWER))
    return worth >= critical * math.sqrt(found.sample_variance)


def _welch(
    mean: float,
    sides: Sequence[tuple[float, int]],
    sample_variance: float,
    comparisons: int,
    level: float | None,
    *,
    share: bool,
) -> Difference:
    """`sides`: the variance of each side's mean, and how many values it has."""
    import math

    (_, n), (_, n_other) = sides
    variance = sum(error for error, _ in sides)
    total = variance + sample_variance
    if total == 0:
        return Difference(n, n_other, mean, mean, mean, None, comparisons, mean, mean, 0.0)
    # Welch-Satterthwaite
    spread = sum(error**2 / (count - 1) for error, count in sides)
    freedom = variance**2 / spread if spread else math.inf
    total_freedom = total**2 / spread if spread else math.inf
    outer, p, inner = _t_test(mean, total, total_freedom, comparisons, level, share=share)
    return Difference(n, n_other, mean, *outer, p, comparisons, *inner, variance, sample_variance, freedom)


def _t_test(
    mean: float, variance: float, freedom: float, comparisons: int, level: float | None, *, share: bool
) -> tuple[tuple[float, float], float, tuple[float, float]]:
    """The interval of a difference, p, and the narrower interval of the equivalence test.

    Args:
        mean: the difference.
        variance: of it, above 0.
        freedom: degrees of freedom of its t-distribution.
        comparisons: how many are made together.
        level: as for `crossed_difference`.
        share: they are of shares; the intervals stay within -1..1.
    """
    from scipy import stats

    def bounds(alpha: float) -> tuple[float, float]:
        margin = float(stats.t.ppf(1 - alpha / comparisons / 2, freedom)) * variance**0.5
        low, high = mean - margin, mean + margin
        return (max(low, -1.0), min(high, 1.0)) if share else (low, high)

    outer = bounds(1 - CONFIDENCE if level is None else level)
    inner = bounds(2 * (1 - CONFIDENCE)) if level is None else outer
    return outer, min(1.0, comparisons * 2 * float(stats.t.sf(abs(mean) / variance**0.5, freedom))), inner


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
