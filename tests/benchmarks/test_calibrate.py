"""The fast part of `make calibrate`: an answer errs no more often than it says, and sees what is there."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import boundary
import calibrate
import identical_arms
import numpy as np
import pytest

from rungwise.results.analysis.findings import Verdict

EACH = 40  # records of a setting; seeds are fixed, so that the figures are the same every time


@pytest.fixture(scope="module")
def calibration() -> calibrate.Calibration:
    settings = [one for one in calibrate.SETTINGS if one.samples == 359]
    return calibrate.together([one for _, one in calibrate.calibrate(settings, EACH)])


def test_identical_arms_are_told_apart_in_at_most_5_percent_of_records(calibration: calibrate.Calibration) -> None:
    assert len(calibration.identical) == 16 * EACH
    assert calibration.false_verdicts <= 0.05
    assert {one.verdict for one in calibration.identical} > {Verdict.CANNOT_TELL, Verdict.NO_DIFFERENCE}


def test_a_difference_worth_having_is_called_none_in_at_most_5_percent(calibration: calibrate.Calibration) -> None:
    assert calibration.false_equivalences <= 0.05


def test_intervals_hold_the_difference_for_other_searches_and_other_samples(
    calibration: calibrate.Calibration,
) -> None:
    assert calibration.coverage >= 0.93
    wider = sum(one.width for one in calibration.identical) / len(calibration.identical)
    assert wider < 0.03  # and they are not held by being useless: an accuracy of 359 samples has a step of 0.003


def test_without_the_samples_variance_intervals_would_hold_it_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the crossing is for, where arms differ in taste: seeds and searches agree on a split that favours one."""
    monkeypatch.setattr(calibrate, "TASTE", 8.0)
    monkeypatch.setattr(calibrate, "_curve", cache(calibrate._curve.__wrapped__))
    calibrate.slope.cache_clear()
    setting = calibrate.Setting(0.0, 359, 12)
    crossed = calibrate.together([one for _, one in calibrate.calibrate([setting], EACH)])
    monkeypatch.setattr(calibrate.SyntheticRecord, "sample_scores", lambda *_: {})
    fixed = calibrate.together([one for _, one in calibrate.calibrate([setting], EACH)])
    assert crossed.coverage >= 0.93
    assert fixed.coverage < 0.8
    assert crossed.false_verdicts < fixed.false_verdicts
    calibrate.slope.cache_clear()


def test_the_samples_are_those_of_real_trainings() -> None:
    """Of 348 trainings of mnist_l2's network, 56 configurations on 6 seeds each."""
    split = calibrate.SyntheticSplit(200_000, np.random.default_rng(0))
    one, other = split.right("one", 0.0), split.right("one", 0.0)
    disagree = (one != other).mean()
    assert one.mean() == pytest.approx(0.982, abs=0.002)
    assert calibrate.accuracy(0.0) == pytest.approx(one.mean(), abs=0.002)
    assert disagree == pytest.approx(0.0107, abs=0.001)
    between_seeds = np.hypot(100 * (disagree / 2 / 10_000) ** 0.5, calibrate.SEED_SD)  # on 10,000 samples
    assert between_seeds == pytest.approx(0.078, abs=0.008)  # points


@pytest.mark.parametrize("planted", [0.0, 0.01])
def test_a_simulated_sweep_of_real_studies_and_rungs_has_a_verdict(planted: float) -> None:
    found, _ = identical_arms.simulated_answer(1, planted, identical_arms.Effort(searches=4))
    (comparison,) = found.comparisons
    assert comparison.difference is not None
    assert comparison.pairs == 4
    assert found.arms[0].chosen != found.arms[1].chosen  # identical arms have searches of their own
    assert (comparison.verdict is Verdict.HELPS) == (planted > 0)


def test_a_simulated_sweep_adds_searches_until_it_is_sure_and_keeps_those_it_had() -> None:
    quick = identical_arms.Effort(searches=4, trials=3, until_sure=6, worth=1e-5)  # no equivalence is seen
    found = {planted: identical_arms.simulated(1, planted, quick) for planted in (0.0, 0.01)}
    assert (found[0.01].verdict, found[0.01].searches) == (Verdict.HELPS, 4)
    assert (found[0.0].verdict, found[0.0].searches) == (Verdict.CANNOT_TELL, 6)
    four = identical_arms.simulated(1, 0.0, replace(quick, until_sure=0))
    assert [some[:4] for some in found[0.0].truths] == list(four.truths)
    assert found[0.0].epochs > four.epochs > 2 * 4 * 2 * 6
    assert found[0.01].half_width > identical_arms.simulated(1, 0.01, replace(quick, until_sure=0)).half_width


def test_sweeps_that_differ_by_their_seed_are_compared_by_their_verdicts() -> None:
    helps, hurts, unknown = Verdict.HELPS, Verdict.HURTS, Verdict.CANNOT_TELL
    assert identical_arms.agreement([helps, hurts, helps, unknown], [helps, helps, unknown, unknown]) == (2, 1)
    sides = [identical_arms.side(one) for one in (helps, hurts, unknown, Verdict.NO_DIFFERENCE)]
    assert sides == [helps, hurts, None, None]
    assert identical_arms.simulated(1) != identical_arms.simulated(2)
    assert identical_arms.simulated(1) == identical_arms.simulated(1)


@pytest.mark.parametrize("most", boundary.REPEATED_LEVELS)
def test_looks_at_the_level_of_the_table_err_in_5_percent_together(most: int) -> None:
    errs = float((boundary.smallest_p(most, paths=20_000, seed=1) <= boundary.REPEATED_LEVELS[most]).mean())
    assert 0.045 < errs < 0.055
