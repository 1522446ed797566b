"""Intervals, differences, Holm and power, against tables and hand-counted numbers."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy import stats

from results.intervals import MOST, difference, estimate, holm, seeds_needed
from results.wording import Wording

# Student's t, 0.975 quantile, from a printed table.
T = {1: 12.706, 2: 4.303, 4: 2.776, 8: 2.306}


def test_an_estimate_is_counted_by_hand() -> None:
    found = estimate([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.n, found.mean) == (5, 3.0)
    assert found.sd == pytest.approx(math.sqrt(2.5))
    assert found.low == pytest.approx(3 - T[4] * math.sqrt(2.5 / 5), abs=1e-3)
    assert found.high == pytest.approx(3 + T[4] * math.sqrt(2.5 / 5), abs=1e-3)


def test_one_value_has_no_interval_and_none_is_refused() -> None:
    found = estimate([0.98])
    assert (found.n, found.mean, found.sd, found.low, found.high) == (1, 0.98, None, None, None)
    with pytest.raises(ValueError, match="must have a value, but got none"):
        estimate([])


def test_equal_values_have_an_interval_of_no_width() -> None:
    found = estimate([0.1 + 0.2, 0.3, 0.3])  # differ by rounding
    assert found.low == found.high == found.mean


def test_shared_seeds_are_paired() -> None:
    a, b = {1: 3.0, 2: 5.0, 3: 10.0}, {1: 2.0, 2: 3.0, 3: 7.0}  # differences 1, 2, 3
    found = difference(a, b)
    assert found.paired
    assert (found.n, found.mean) == (3, 2.0)
    assert found.low == pytest.approx(2 - T[2] / math.sqrt(3), abs=1e-3)
    assert found.high == pytest.approx(2 + T[2] / math.sqrt(3), abs=1e-3)
    assert found.p == pytest.approx(stats.ttest_1samp([1, 2, 3], 0).pvalue)


def test_seeds_of_their_own_are_compared_by_welch() -> None:
    a, b = {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0, 5: 5.0}, {6: 2.0, 7: 4.0, 8: 6.0, 9: 8.0, 10: 10.0}
    found = difference(a, b)
    assert not found.paired
    assert (found.n, found.mean) == (5, -3.0)
    # variances 2.5 and 10: error sqrt(2.5), freedom 2.5^2 / (0.5^2 / 4 + 2^2 / 4) = 5.882
    margin = stats.t.ppf(0.975, 5.882352941) * math.sqrt(2.5)
    assert (found.low, found.high) == (pytest.approx(-3 - margin), pytest.approx(-3 + margin))


def test_a_seed_that_one_side_lacks_leaves_the_other_pairs() -> None:
    found = difference({1: 3.0, 2: 5.0, 3: 10.0, 4: 99.0}, {1: 2.0, 2: 3.0, 3: 7.0})
    assert (found.paired, found.n, found.mean) == (True, 3, 2.0)
    assert not difference({1: 3.0, 2: 5.0, 3: 10.0}, {1: 2.0, 2: 3.0, 4: 7.0}).paired


def test_swapping_the_sides_negates_the_difference() -> None:
    draw = random.Random(0)
    for case in range(50):
        a = {seed: draw.gauss(0.98, 0.01) for seed in range(draw.randint(2, 6))}
        b = {seed + case % 3: draw.gauss(0.97, 0.02) for seed in range(draw.randint(2, 6))}
        there, back = difference(a, b), difference(b, a)
        assert there.low is not None
        assert there.high is not None
        assert there.mean == pytest.approx(-back.mean)
        assert (there.low, there.high) == (pytest.approx(-(back.high or 0)), pytest.approx(-(back.low or 0)))
        assert there.p == pytest.approx(back.p)
        assert (there.n, there.paired, there.needed) == (back.n, back.paired, back.needed)
        assert there.low < there.mean < there.high
        assert (there.low <= 0 <= there.high) == ((there.p or 0) >= 0.05)


def test_without_spread_there_is_a_difference_and_no_p() -> None:
    same = difference({1: 0.98, 2: 0.97}, {1: 0.98, 2: 0.97})
    assert (same.mean, same.low, same.high, same.p, same.needed) == (0.0, 0.0, 0.0, None, None)
    rounding = difference({1: 0.3, 2: 0.3}, {1: 0.1 + 0.2, 2: 0.1 + 0.2})
    assert (rounding.mean, rounding.p) == (0.0, None)
    shifted = difference({1: 0.98, 2: 0.97}, {1: 0.88, 2: 0.87})
    assert (shifted.low, shifted.high, shifted.p) == (shifted.mean, shifted.mean, None)
    assert shifted.mean == pytest.approx(0.1)


def test_one_seed_has_a_difference_and_no_interval() -> None:
    found = difference({1: 0.9}, {1: 0.8, 2: 0.7})
    assert (found.n, found.low, found.high, found.p, found.paired) == (1, None, None, None, False)
    assert found.mean == pytest.approx(0.15)
    with pytest.raises(ValueError, match="both sides must have a value, but got 0 and 1"):
        difference({}, {1: 0.9})


def test_holm_corrects_as_in_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == [pytest.approx(p) for p in (0.03, 0.06, 0.06, 0.02)]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.01, None]) == [0.02, None]  # it was looked at


# Cohen 1988, tables 2.3 and 2.4: two-sided alpha 0.05, power 0.8.
@pytest.mark.parametrize(("size", "paired", "apart"), [(0.2, 199, 394), (0.5, 34, 64), (0.8, 15, 26)])
def test_the_seeds_needed_are_cohens(size: float, paired: int, apart: int) -> None:
    assert seeds_needed(size, [1.0]) == paired
    assert seeds_needed(-size, [1.0, 1.0]) == apart
    assert seeds_needed(size * 7, [7.0]) == paired


def test_more_comparisons_and_more_power_take_more_seeds() -> None:
    one, five = seeds_needed(0.5, [1.0], 0.05), seeds_needed(0.5, [1.0], 0.01)
    assert one is not None
    assert five is not None
    assert five > one


def test_a_difference_that_nobody_could_see_needs_no_number() -> None:
    assert seeds_needed(0.0, [1.0]) is None
    assert seeds_needed(1e-6, [1.0]) is None
    assert seeds_needed(1e6, [1.0]) == 2  # two seeds at least
    assert (seeds_needed(0.01, [1.0]) or MOST) < MOST


def test_a_shares_interval_is_students_until_it_would_leave_0_to_1() -> None:
    inside = [0.98, 0.981, 0.982, 0.981, 0.981]
    assert estimate(inside, share=True) == estimate(inside)
    near = estimate([0.9987, 0.9999, 0.9995], share=True)
    student = estimate([0.9987, 0.9999, 0.9995])
    assert student.high is not None
    assert student.high > 1
    assert near.low is not None
    assert near.high is not None
    # logit 0.999367: 7.364; margin 4.3027 * 0.000611 / sqrt(3) = 0.001518, / (p (1 - p)) = 2.399
    assert near.low == pytest.approx(1 / (1 + math.exp(-(7.3644 - 2.399))), rel=1e-4)
    assert near.high == pytest.approx(1 / (1 + math.exp(-(7.3644 + 2.399))), rel=1e-4)


@pytest.mark.parametrize(("mean", "sd"), [(0.99, 0.004), (0.97, 0.015), (0.02, 0.01)])
def test_95_percent_of_such_intervals_hold_the_mean(mean: float, sd: float) -> None:
    """5,000 samples of five seeds each, from a beta distribution near an end."""
    random = np.random.default_rng(3)
    count = mean * (1 - mean) / sd**2 - 1
    draws = random.beta(mean * count, (1 - mean) * count, (5000, 5))
    found = [estimate(row.tolist(), share=True) for row in draws]
    held = np.mean([one.low <= mean <= one.high for one in found if one.low is not None and one.high is not None])
    assert 0.90 < held <= 0.99


def test_a_difference_of_shares_ends_at_1() -> None:
    found = difference({1: 0.01, 2: 0.99}, {1: 0.5, 2: 0.45}, share=True)
    assert (found.low, found.high) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(0.98234, 0.98236, ("98.23", "98.24")), (0.9823, 0.9824, ("98.23", "98.24")), (-0.00001, 0.0, ("-0.01", "0.00"))],
)
def test_the_ends_of_an_interval_are_rounded_outward(low: float, high: float, shown: tuple[str, str]) -> None:
    assert Wording("val_accuracy", "test", True).bounds(low, high) == shown
