"""Folds: which samples a search is tested on and a fold is validated on, and a trial that trains one model a fold."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rungwise.trainable.config import Config
from rungwise.trainable.data.data_source import DataSource
from rungwise.trainable.data.raw import DataError
from rungwise.trainable.data.table.columns import Columns
from rungwise.trainable.folds.assignment import TESTED, FoldPlan, divide, divide_groups
from rungwise.trainable.folds.fold_run import FoldRun
from rungwise.trainable.folds.folded_data import load_folded
from rungwise.trainable.folds.training import FoldedTraining
from rungwise.trainable.messages import StudyKey, TrialAssignment, TrialEnd, TrialResult
from rungwise.trainable.resources import ONE_CORE
from rungwise.trainable.worker.trial_run import WorkerContext

CONFIG = {"seed": 3, "hidden": (4,), "batch_size": 16, "epochs": 2, "lr": 0.05}


def test_parts_have_equal_shares_of_every_class_and_do_not_depend_on_the_order_of_drawing() -> None:
    strata = np.array([0] * 53 + [1] * 20 + [2] * 7)
    parts = divide(strata, 5, (1,))
    shares = np.array([np.bincount(strata[parts == part], minlength=3) for part in range(5)])
    assert (np.ptp(shares, axis=0) <= 1).all()
    assert np.ptp(shares.sum(1)) <= 1
    assert (parts == divide(strata, 5, (1,))).all()
    assert (parts != divide(strata, 5, (2,))).any()


def test_no_group_is_in_two_parts_and_parts_are_of_about_one_size() -> None:
    groups = np.repeat(np.arange(30), np.random.default_rng(0).integers(1, 12, 30))
    parts = divide_groups(groups, np.zeros(len(groups), np.int64), 5, (0,))
    assert all(len(set(parts[groups == group])) == 1 for group in range(30))
    assert np.ptp(np.bincount(parts)) <= 11


@pytest.mark.parametrize("of_class", [(5, 5), (20, 5), (5, 10, 15)])
def test_groups_of_one_class_are_divided_as_evenly_as_samples_are(of_class: tuple[int, ...]) -> None:
    """Patients who are ill or not: five of them give each of five parts one."""
    strata = np.repeat(np.repeat(np.arange(len(of_class)), of_class), 4)
    for seed in range(20):
        parts = divide_groups(np.arange(len(strata)) // 4, strata, 5, (seed,))
        shares = np.array([np.bincount(strata[parts == part], minlength=len(of_class)) for part in range(5)])
        assert (shares == np.array(of_class) * 4 // 5).all()


def test_five_searches_are_tested_on_every_sample_once_and_never_train_on_their_own() -> None:
    plan = FoldPlan(4, np.repeat([0, 1], [60, 41]))
    tests = np.array([plan.is_test(search) for search in range(1, 6)])
    assert (tests.sum(0) == 1).all()
    assert (plan.is_test(6) != tests).any(1).all()  # another division
    for search in (1, 2, 6):
        folds = plan.folds_of(search)
        assert ((folds == TESTED) == plan.is_test(search)).all()
        assert set(folds) == {TESTED, 0, 1, 2, 3}
    assert (plan.folds_of(1) != plan.folds_of(1, seed=8)).any()
    assert ((plan.folds_of(1, seed=8) == TESTED) == plan.is_test(1)).all()


def test_a_test_split_that_the_data_has_stays_the_test_of_all_searches(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 3)), np.arange(60) % 2
    parts = {"x": x[:40], "y": y[:40], "x_validation": x[40:50], "y_validation": y[40:50], "x_test": x[50:]}
    np.savez(tmp_path / "a.npz", **parts, y_test=y[50:])
    data = load_folded(DataSource(str(tmp_path / "a.npz")), 5)
    assert not data.plan.is_nested
    assert all(np.allclose(data.whole(search).test.x, x[50:]) for search in (1, 2))  # type: ignore[union-attr]
    assert sorted(len(data.fold(1, number).validation) for number in range(1, 6)) == [10] * 5


def table(path: Path, rows: int = 100, **columns: Any) -> DataSource:
    """A table whose first column is 0..N-1 in disorder, so that samples are told apart."""
    import pyarrow as pa
    import pyarrow.csv

    random = np.random.default_rng(1)
    order = random.permutation(rows) + 0.5
    values = {"number": order, "kind": [f"k{int(one) % 3}" for one in order], "label": np.arange(rows) % 2, **columns}
    pyarrow.csv.write_csv(pa.table(values), path)
    return DataSource(str(path))


def test_columns_are_encoded_by_the_training_part_of_each_fold(tmp_path: Path) -> None:
    rare = ["rare" if row == 7 else "common" if row % 2 else "other" for row in range(100)]
    data = load_folded(table(tmp_path / "t.csv", word=rare), 5)
    widths = {data.fold(1, number).shape for number in range(1, 6)}
    assert len(widths) == (1 if data.plan.is_test(1)[7] else 2)  # without the row, there is no such category
    for number in (1, 2):
        part = data.fold(2, number)
        assert part.encoder is not None
        assert np.allclose(part.train.x.mean(0)[part.encoder.scaled], np.asarray(part.mean)[part.encoder.scaled])
        assert part.test is None
    numbers = {name: set(part.x[:, 0].tolist()) for name, part in _parts(data).items()}
    assert not numbers["train"] & numbers["validation"]
    assert not numbers["test"] & (numbers["train"] | numbers["validation"])


def _parts(data: Any) -> dict[str, Any]:
    fold, whole = data.fold(1, 1), data.whole(1)
    return {"train": fold.train, "validation": fold.validation, "test": whole.test}


def test_groups_stay_together_in_test_parts_and_folds(tmp_path: Path) -> None:
    patients = [f"p{row // 4}" for row in range(100)]
    source = table(tmp_path / "t.csv", patient=patients)
    data = load_folded(DataSource(source.name, Columns(group="patient")), 5)
    for search in (1, 4):
        folds = data.plan.folds_of(search)
        assert all(len(set(folds[4 * group : 4 * group + 4])) == 1 for group in range(25))


@pytest.mark.parametrize(
    ("columns", "folds", "says"),
    [
        ({"label": [0] * 95 + [1] * 5}, 5, "needs 7 samples or more of each class.*'1' has 5"),
        ({}, 50, "needs 100 samples or more besides those of the test, 2 a fold, but .* has 80: take fewer folds"),
        ({"group": ["a", "b", "c", "d"] * 25}, 5, "needs more groups.*but --group makes 4 groups"),
        ({"group": [*range(10)], "label": [0, 1] * 5}, 5, "needs more groups.*makes 10 groups of 10 samples"),
        ({"group": [*range(20)] * 5, "label": ([1] + [0] * 19) * 5}, 5, "leaves one with '0' alone: only 1 group has"),
        ({"time": [*range(100)]}, 5, "--folds validates on samples of any time, with models trained on later ones"),
    ],
)
def test_samples_that_cannot_be_divided_are_refused_in_one_line(
    tmp_path: Path, columns: dict[str, Any], folds: int, says: str
) -> None:
    source = table(tmp_path / "t.csv", len(next(iter(columns.values()), range(100))), **columns)
    roles = Columns(**{name: name for name in ("group", "time") if name in columns})
    with pytest.raises(DataError, match=says):
        load_folded(DataSource(source.name, roles), folds)


# -- a trial ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def training() -> FoldedTraining:
    return FoldedTraining(DataSource("wine"), folds=3)


def begin(training: FoldedTraining, folder: Path, phase: str = "search", **more: Any) -> FoldRun:
    prepared, device = training.prepare(training.load().search, ONE_CORE)
    context = WorkerContext(prepared, ("val_accuracy",), None, str(folder), 0.0, device)
    config = Config(**CONFIG).model_dump(mode="json")
    return training.start(TrialAssignment(1, "all", phase, config, search=2, **more), context)


def results_of(run: FoldRun) -> list[TrialResult]:
    return [run.finalize_result(result) for result in run.results()]


def numbers_of(results: list[TrialResult]) -> list[dict[str, float]]:
    return [{name: value for name, value in one.metrics.items() if name != "seconds"} for one in results]


def test_a_trial_reports_the_mean_over_its_folds_after_each(training: FoldedTraining, tmp_path: Path) -> None:
    results = results_of(begin(training, tmp_path))
    assert [one.step for one in results] == [1, 2, 3]
    assert [one.metrics["epoch"] for one in results] == [2, 4, 6]
    assert [one.state for one in results] == [None, None, TrialEnd.COMPLETED]
    alone = [one.metrics["fold_val_accuracy"] for one in results]
    for count, one in enumerate(results, 1):
        assert one.objective == pytest.approx(math.fsum(alone[:count]) / count)
    assert len(set(alone)) > 1


@pytest.mark.parametrize("after", [1, 2])
def test_a_trial_that_is_cut_off_goes_on_at_its_fold_with_the_same_numbers(
    training: FoldedTraining, tmp_path: Path, after: int
) -> None:
    whole = numbers_of(results_of(begin(training, tmp_path / "whole")))
    run = begin(training, tmp_path / "cut")
    results = run.results()
    known = {}
    for _ in range(after):
        done = run.finalize_result(next(results))
        assert done.checkpoint is not None  # of every fold: checkpoint_seconds is 0
        known[done.checkpoint.step] = done.checkpoint.sha256
    again = begin(training, tmp_path / "cut", attempt=2, reported=after, checkpoints=known)
    rest = results_of(again)
    assert [one.step for one in rest] == [*range(after + 1, 4)]
    assert rest[0].restored == after
    assert numbers_of(rest) == whole[after:]


def test_a_confirmed_trial_leaves_a_model_of_all_that_its_search_may_see(
    training: FoldedTraining, tmp_path: Path
) -> None:
    run = begin(training, tmp_path, "confirm")
    results = results_of(run)
    last = results[-1]
    assert [one.metrics["epoch"] for one in results] == [2, 4, 8]  # three folds, and the model
    assert last.checkpoint is not None
    assert last.checkpoint.step == 4
    file = run._store.file(4)
    assert file is not None
    data, study = training.load().full, {1: StudyKey("all", 2)}
    kept, config = (file, last.checkpoint.sha256), run.assignment.config
    scores = training.score({1: kept}, {1: config}, study, data, ONE_CORE)
    assert 0 <= scores.scores[1]["accuracy"] <= 1
    assert scores.samples == {}  # searches are tested on different samples
    test = data.whole(2).test
    right = scores.scores[1]["accuracy"] * len(test)
    assert right == pytest.approx(round(right))
    saved = training.export(kept, config, {}, training.data_of(data, 2), ONE_CORE)
    assert "weights.safetensors" in saved.files
    assert set(training.constant_scores(data)) == {"accuracy", "loss"}
