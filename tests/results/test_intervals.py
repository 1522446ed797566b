"""Intervals and differences, against tables, scipy and hand-counted numbers."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from rungwise.results.analysis.statistics import difference, estimate
from rungwise.results.io.metric_format import MetricFormat

# Student's t, 0.975 quantile, from a printed table.
T = {1: 12.706, 2: 4.303, 4: 2.776, 8: 2.306}


def test_an_estimate_is_counted_by_hand() -> None:
    found = estimate([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.n, found.mean) == (5, 3.0)
    assert found.sd == pytest.approx(math.sqrt(2.5))
    assert found.low == pytest.approx(3 - T[4] * math.sqrt(2.5 / 5), abs=1e-3)
    assert found.high == pytest.approx(3 + T[4] * math.sqrt(2.5 / 5), abs=1e-3)


def test_an_interval_stays_within_what_a_score_can_be() -> None:
    assert estimate([1.0, 5.0], least=0.0, most=9.0) == replace(estimate([1.0, 5.0]), low=0.0, high=9.0)


def test_one_value_has_no_interval_and_none_is_refused() -> None:
    found = estimate([0.98])
    assert (found.n, found.mean, found.sd, found.low, found.high) == (1, 0.98, None, None, None)
    with pytest.raises(ValueError, match="must have a value, but got none"):
        estimate([])


def test_equal_values_have_an_interval_of_no_width() -> None:
    found = estimate([0.1 + 0.2, 0.3, 0.3])  # differ by rounding
    assert found.low == pytest.approx(found.mean, abs=1e-15)
    assert found.high == pytest.approx(found.mean, abs=1e-15)


def test_a_share_that_is_counted_on_few_samples_is_known_no_better_than_these_allow() -> None:
    """The sd is one sample of 100 at least: margin 4.303 * 0.01 / sqrt(3)."""
    alike = estimate([0.9, 0.9, 0.9], share=True, samples=100)
    assert (alike.sd, alike.mean) == (0.0, pytest.approx(0.9))
    assert alike.low == pytest.approx(0.9 - T[2] * 0.01 / math.sqrt(3), abs=1e-5)
    assert alike.high == pytest.approx(0.9 + T[2] * 0.01 / math.sqrt(3), abs=1e-5)
    assert estimate([1.0, 1.0], share=True, samples=100).high == 1.0
    spread = [0.8, 0.9, 0.95]
    assert estimate(spread, share=True, samples=100) == estimate(spread, share=True)  # it is wider by itself


def test_sides_are_compared_by_welch() -> None:
    a, b = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 4.0, 6.0, 8.0, 10.0]
    found = difference(a, b)
    assert (found.n, found.n_other, found.mean) == (5, 5, -3.0)
    # variances 2.5 and 10: error sqrt(2.5), freedom 2.5^2 / (0.5^2 / 4 + 2^2 / 4) = 5.882
    margin = stats.t.ppf(0.975, 5.882352941) * math.sqrt(2.5)
    assert (found.low, found.high) == (pytest.approx(-3 - margin), pytest.approx(-3 + margin))
    assert found.p == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)


def test_sides_of_different_size_are_compared_as_scipy_does() -> None:
    a, b = [3.0, 5.0, 10.0, 7.0], [2.0, 3.0]
    found, wanted = difference(a, b), stats.ttest_ind(a, b, equal_var=False)
    assert (found.n, found.n_other) == (4, 2)
    assert found.p == pytest.approx(wanted.pvalue)
    assert found.low == pytest.approx(wanted.confidence_interval(0.95).low)


def test_several_comparisons_have_intervals_that_hold_together() -> None:
    a, b = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 4.0, 6.0, 8.0, 10.0]
    alone, together = difference(a, b), difference(a, b, 3)
    wanted = stats.ttest_ind(a, b, equal_var=False)
    assert together.low == pytest.approx(wanted.confidence_interval(1 - 0.05 / 3).low)
    assert together.p == pytest.approx(3 * (alone.p or 0))
    assert difference(a, a, 3).p == 1.0


def test_swapping_the_sides_negates_the_difference_and_p_agrees_with_the_interval() -> None:
    draw = random.Random(0)
    for case in range(50):
        a = [draw.gauss(0.98, 0.01) for _ in range(draw.randint(2, 6))]
        b = [draw.gauss(0.97, 0.02) for _ in range(draw.randint(2, 6))]
        given = {"share": True, "samples": 100 if case % 2 else 10_000}
        there, back = difference(a, b, 1 + case % 3, **given), difference(b, a, 1 + case % 3, **given)  # type: ignore[arg-type]
        assert there.low is not None
        assert there.high is not None
        assert there.mean == pytest.approx(-back.mean)
        assert (there.low, there.high) == (pytest.approx(-(back.high or 0)), pytest.approx(-(back.low or 0)))
        assert there.p == pytest.approx(back.p)
        assert there.low < there.mean < there.high
        assert (there.low <= 0 <= there.high) == ((there.p or 0) >= 0.05)


def test_seeds_that_all_differ_alike_are_neither_certain_nor_worthless() -> None:
    """1 point on 10,000 samples: at least 100 samples are discordant, so the sd of a pair is 0.1 points."""
    same = difference([0.98] * 5, [0.97] * 5, share=True, samples=10_000)
    assert same.mean == pytest.approx(0.01)
    # Two sides with half that variance each: freedom 2 (n - 1) = 8
    assert same.high == pytest.approx(0.01 + T[8] * 0.001 / math.sqrt(5), abs=1e-6)
    nearly = difference([0.98] * 4 + [0.9801], [0.97] * 5, share=True, samples=10_000)
    assert nearly.low == pytest.approx(same.low, rel=0.01)  # one sample more or less changes next to nothing
    zero = difference([0.98] * 5, [0.98] * 5, share=True, samples=10_000)
    assert zero.high == pytest.approx(T[8] * 1e-4 / math.sqrt(5), abs=1e-6)  # one sample


def test_a_wider_spread_than_the_least_one_is_left_as_it_is() -> None:
    a, b = [0.983, 0.981, 0.985], [0.980, 0.984, 0.982]
    assert difference(a, b, share=True, samples=10_000) == difference(a, b)


def test_values_without_spread_that_are_no_shares_have_an_interval_of_no_width() -> None:
    shifted = difference([0.98, 0.98], [0.88, 0.88])
    assert (shifted.low, shifted.high, shifted.p) == (shifted.mean, shifted.mean, None)
    rounding = difference([0.3, 0.3], [0.1 + 0.2, 0.1 + 0.2])
    assert (rounding.mean, rounding.low, rounding.p) == (0.0, 0.0, None)


def test_one_value_has_a_difference_and_no_interval() -> None:
    found = difference([0.9], [0.8, 0.7])
    assert (found.n, found.n_other, found.low, found.high, found.p) == (1, 2, None, None, None)
    assert found.mean == pytest.approx(0.15)
    with pytest.raises(ValueError, match="both sides must have a value, but got 0 and 1"):
        difference([], [0.9])


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
    found = difference([0.01, 0.99], [0.5, 0.45], share=True)
    assert (found.low, found.high) == (-1.0, 1.0)


@pytest.mark.parametrize("samples", [359, 10_000])
def test_an_interval_of_two_configurations_holds_their_difference(samples: int) -> None:
    """2,000 pairs of five seeds that are counted on samples: intervals with the floor are no narrower than 95%."""
    random = np.random.default_rng(5)
    held = 0
    for _ in range(2000):
        a, b = (random.binomial(samples, share, 5) / samples for share in (0.975, 0.97))
        found = difference(a.tolist(), b.tolist(), share=True, samples=samples)
        held += found.low is not None and found.high is not None and found.low <= 0.005 <= found.high
    assert 0.935 < held / 2000 <= 0.985


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.98234, 0.98236, ("98.234", "98.236")),
        (0.9823, 0.9842, ("98.23", "98.42")),
        (0.98231, 0.98419, ("98.23", "98.42")),
        (0.00084, 0.0021, ("0.08", "0.21")),
        (-0.00001, 0.0021, ("-0.01", "0.21")),
        (-0.00219, -0.0005, ("-0.22", "-0.05")),
        (0.1, 0.9, ("10.00", "90.00")),
    ],
)
def test_the_ends_of_an_interval_are_rounded_outward(low: float, high: float, shown: tuple[str, str]) -> None:
    assert MetricFormat("val_accuracy", "test", True).bounds(low, high) == shown


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(0.19288, 0.21512, ("0.192", "0.216")), (-0.00119, 0.0192, ("-0.002", "0.020")), (0.5, 0.5, ("0.5", "0.5"))],
)
def test_an_interval_of_a_loss_has_two_digits_of_its_half_width(
    low: float, high: float, shown: tuple[str, str]
) -> None:
    assert MetricFormat("val_loss", "test", False).bounds(low, high) == shown


def test_an_explained_share_of_the_variance_has_no_interval_beyond_1() -> None:
    values = [0.99, 0.95, 0.99, 0.92]
    assert (estimate(values).high or 0) > 1
    assert estimate(values, most=1.0).high == 1.0
    assert estimate(values, most=1.0).low == estimate(values).low
    assert MetricFormat("r2", "test", True).most == 1.0
    assert MetricFormat("val_r2", "validation", True).most == 1.0
    assert MetricFormat("mse", "test", False).most == math.inf
