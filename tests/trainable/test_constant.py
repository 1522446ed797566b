"""What a constant prediction scores, counted by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import r2_score

from rungwise.trainable.data.dataset import Dataset, Split
from rungwise.trainable.export.constant_prediction import constant_scores

FEW = Split(np.zeros((2, 1), np.float32), np.zeros(2, np.int64))


def dataset(train: list[float], test: list[float], classes: tuple[str, ...]) -> Dataset:
    kind = np.int64 if classes else np.float32
    parts = [Split(np.zeros((len(y), 1), np.float32), np.array(y, kind)) for y in (train, test)]
    return Dataset("made", parts[0], FEW, parts[1], (0.0,), (1.0,), classes, "by hand")


def test_the_commonest_class_of_training_is_named_for_every_test_sample() -> None:
    scores = constant_scores(dataset([0, 1, 1, 1, 2], [1, 0, 1, 2, 2, 2, 1, 1], ("a", "b", "c")))
    assert scores["accuracy"] == 4 / 8
    shares = [2 / 8, 4 / 8, 2 / 8]  # one is added to each count
    assert scores["loss"] == pytest.approx(-(4 * math.log(shares[1]) + 4 * math.log(shares[0])) / 8)


def test_a_class_that_training_lacks_has_a_finite_loss() -> None:
    scores = constant_scores(dataset([0, 0, 0], [1, 1], ("a", "b")))
    assert scores == {"accuracy": 0.0, "loss": pytest.approx(math.log(5))}


def test_a_regression_says_the_mean_of_training() -> None:
    test = [1.0, 2.0, 6.0]
    scores = constant_scores(dataset([1.0, 3.0], test, ()))
    assert scores == {
        "loss": pytest.approx((1 + 0 + 16) / 3),
        "mse": pytest.approx((1 + 0 + 16) / 3),
        "mae": pytest.approx((1 + 0 + 4) / 3),
        "r2": pytest.approx(r2_score(test, [2.0, 2.0, 2.0])),
    }


def test_without_a_test_split_there_is_nothing_to_score() -> None:
    with pytest.raises(ValueError, match="'made' has none"):
        constant_scores(replace(dataset([0, 1], [0, 1], ("a", "b")), test=None))
