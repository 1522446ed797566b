"""Whole sweeps with real trainings: of identical arms, and of arms that differ."""

from __future__ import annotations

import pytest
import real_arms


def test_a_small_sweep_searches_confirms_and_has_a_verdict() -> None:
    small = real_arms.sweep_of("digits", trials=2, epochs=2)
    several = real_arms.run_sweeps(range(1, 3), "digits", small)
    assert several[0] != several[1]
    for one in several:
        assert one.half_width > 0
        assert 2 * 4 * (2 + 2) <= one.epochs <= 2 * 4 * (2 * 2 + 2 * 2)  # of 8 searches, each of which stops some
    (alone,) = real_arms.run_sweeps(range(2, 3), "digits", small, pack=1)
    assert alone.epochs == pytest.approx(several[1].epochs, abs=4)  # sums differ in their order, in packs


def test_an_arm_that_trains_longer_is_told_from_one_that_does_not() -> None:
    (one,) = real_arms.run_sweeps(range(1), "epochs", real_arms.sweep_of("epochs"))
    assert one.verdict is real_arms.Verdict.HURTS


@pytest.mark.long
@pytest.mark.parametrize(("case", "sweeps"), [("digits", 60), ("epochs", 20)])
def test_the_answer_errs_as_seldom_as_it_says_and_sees_what_is_there(case: real_arms.Case, sweeps: int) -> None:
    """Of 60 sweeps of identical arms at most 7 say otherwise, and of 20 with a third of the epochs all say so."""
    assert real_arms.measure(real_arms.Options(case, sweeps)) == 0
