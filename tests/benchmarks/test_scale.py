"""Sleeping trials: the busy share against one counted by hand, and a real sweep of four slots."""

from __future__ import annotations

import pytest
from scale import Options, Sample, measured, sweep


def test_the_busy_share_counts_from_when_the_slots_are_full_to_one_report_before_the_end() -> None:
    # Two slots, 2 s a report; both have a trial at 3, and the end is at 15: five spans of 2 s from 3 to 13.
    reports = [3.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 14.0]  # each kept a slot busy for the 2 s before
    samples = [Sample(at, at / 4, at / 2, at, 100 + at) for at in (0.0, 4.0, 8.0, 12.0, 14.0)]
    row = measured(2, 2.0, Options(), reports, [0.5, 3.0, 7.0, 14.0], 15.0, samples)
    assert row.fifths == (3 / 4, 4 / 4, 2 / 4, 2 / 4, 2 / 4)
    assert row.busy == pytest.approx(13 / (2 * 10))
    assert (row.reports, row.trials) == (pytest.approx(0.7), pytest.approx(0.2))
    assert (row.loop, row.driver, row.others) == (0.25, 0.5, 1.0)
    assert row.memory == 114


@pytest.mark.long  # 30 s each
@pytest.mark.parametrize("own", [False, True])
def test_four_slots_that_take_half_a_second_a_report_are_kept_busy(own: bool) -> None:
    row = sweep(4, 0.5, Options(minutes=0.4, own=own))
    assert 0 < row.busy <= 1.05
    assert row.reports == pytest.approx(row.busy * 4 / 0.5)
    assert 0 < row.loop <= row.driver < 2
    assert row.trials > 0
