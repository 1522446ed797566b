"""Our encoding of tables against scikit-learn's, on few repeats: docs/internals/performance.md has n = 20."""

from __future__ import annotations

import pytest
from preprocessing import compared


@pytest.mark.parametrize(
    ("table", "models"), [("breast cancer", ["LogisticRegression", "MLP"]), ("diabetes", ["Ridge", "MLP"])]
)
def test_our_preprocessing_is_not_worse_than_scikit_learns(table: str, models: list[str]) -> None:
    scores = compared(table, 5)
    assert list(scores) == models
    for model, rows in scores.items():
        ours, theirs = rows.mean(0)
        assert ours > 0.3, model
        assert ours >= theirs - 0.01, model
