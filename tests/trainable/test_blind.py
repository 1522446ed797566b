"""Nothing before a sweep's last step can read the test split."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from rungwise.trainable.data.dataset import load
from rungwise.trainable.worker.worker import TrialWorker

ROOT = Path(__file__).parents[2]
MAY = {
    "trainable/data/dataset.py",  # makes it, and takes it away
    "trainable/folds/folded_data.py",  # likewise, where the data has one; else each search has a part of its own
    "sweeps/engine/experiment/experiment.py",  # these name the user's own function that scores
    "sweeps/engine/validation/fields.py",
    "trainable/own/objective.py",
    "trainable/own/program/training.py",
    "trainable/own/training.py",
    "trainable/own/function.py",
    "trainable/training/builtin.py",  # refuses it to trials, and counts its samples
    "trainable/export/test_evaluation.py",  # these three run in the last step
    "trainable/export/constant_prediction.py",
}


def test_a_trial_that_is_handed_the_test_split_refuses_to_start() -> None:
    whole = load("digits")
    assert whole.test is not None
    trial = TrialWorker.__new__(TrialWorker)
    with pytest.raises(ValueError, match="test split"):
        trial.setup({"trial": 1, "arm": "all", "phase": "search", "config": {}}, data=whole)


def test_only_the_last_step_names_the_test_split_in_its_code() -> None:
    found = set()
    for room in ("sweeps", "trainable"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and node.attr == "test":
                    found.add(path.relative_to(ROOT).as_posix())
    assert found == MAY
