"""Sleeping trials: the busy share against one counted by hand, and a real sweep of four slots."""

from __future__ import annotations

import pytest
from scale import Options, Sample, measured, sweep


def test_the_busy_share_counts_from_when_the_slots_are_full_to_the_end() -> None:
    # Two slots, 2 s a report; full when the second trial (at 1) has had its 2 s: from 3 to 13, five spans of 2 s.
    reports = [2.0, 3.5, 4.5, 5.5, 6.5, 8.0, 9.5, 12.0]
    samples = [Sample(at, at / 4, at / 2, at, 100 + at) for at in (0.0, 4.0, 8.0, 12.0, 14.0)]
    row = measured(2, 2.0, Options(), reports, [0.5, 1.0, 4.0, 14.0], 13.0, samples)
    assert row.fifths == (1.0, 1.0, 0.5, 0.5, 0.5)  # 2, 2, 1, 1 and 1 reports of 2 s in 2 slots x 2 s
    assert row.busy == pytest.approx(7 * 2 / (2 * 10))
    assert (row.reports, row.trials) == (pytest.approx(0.7), pytest.approx(0.1))
    assert (row.loop, row.driver, row.others) == (0.25, 0.5, 1.0)
    assert row.memory == 114


@pytest.mark.long  # 30 s each
@pytest.mark.parametrize("own", [False, True])
def test_four_slots_that_take_half_a_second_a_report_are_kept_busy(own: bool) -> None:
    row = sweep(4, 0.5, Options(minutes=0.4, own=own))
    assert 0.5 < row.busy <= 1.05
    assert row.reports == pytest.approx(row.busy * 4 / 0.5)
    assert 0 < row.loop <= row.driver < 2
    assert row.trials > 0
