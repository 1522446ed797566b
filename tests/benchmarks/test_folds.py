"""Synthetic sweeps by cross-validation, on tables that are drawn anew."""

from __future__ import annotations

import folds
import numpy as np


def test_a_table_is_searched_by_folds_and_each_search_tested_on_its_own_part() -> None:
    first, again, other = (folds.outcome(seed, "equal", rows=100, searches=4) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    corrected, plain = first.found["corrected"], first.found["paired t"]
    assert corrected.mean == plain.mean
    assert corrected.low is not None
    assert plain.low is not None
    assert corrected.mean - corrected.low > plain.mean - plain.low


def test_networks_learn_what_a_table_says_and_a_second_block_says_more() -> None:
    one = folds.outcome(0, "better", rows=400, searches=2)
    assert 0.6 < one.accuracy < 0.9
    assert one.truth > 0
    x, y = folds.table(50, np.random.default_rng(0))
    assert x.shape == (50, 10)
    assert set(y) == {0, 1}
