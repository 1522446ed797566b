"""The score of a constant prediction, which a diverged training counts as."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rungwise.trainable.data.dataset import Dataset


def constant_scores(data: Dataset) -> dict[str, float]:
    """Scores on the test split of one prediction for all samples, chosen on the training split.

    Of classes the commonest one, with the classes' shares as probabilities; of a regression the targets' mean.

    Returns:
        The metrics of `trainable.export.test_evaluation.score`: accuracy and loss, or loss, mse, mae and r2.

    Raises:
        ValueError: when `data` has no test split.
    """
    if data.test is None:
        raise ValueError(f"a constant prediction is scored on the test split, but the dataset {data.name!r} has none")
    train, test = data.train.y, data.test.y
    if not data.classes:
        error = test.astype(np.float64) - float(train.mean(dtype=np.float64))
        mse, spread = float(np.mean(error**2)), float(np.var(test, dtype=np.float64))
        r2 = 1 - mse / spread if spread > 0 else 0.0
        return {"loss": mse, "mse": mse, "mae": float(np.mean(np.abs(error))), "r2": r2}
    counts = np.bincount(train, minlength=len(data.classes))  # (K,)
    probabilities = (counts + 1) / (counts + 1).sum()  # a class that training lacks has a finite loss
    return {
        "accuracy": float(np.mean(test == counts.argmax())),
        "loss": float(-np.log(probabilities[test]).mean()),
    }
