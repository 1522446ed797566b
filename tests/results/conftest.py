"""Runs in a temporary folder, beside an MLflow store of their own."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.browser import browser, show  # noqa: F401
from support.demo import Rows, begin, fill

from rungwise.results.record.types import SweepState

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """MLflow 3.17 asks SQLAlchemy 2.1 for a loader that it deprecates; every other warning stays an error."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"))


@pytest.fixture
def run(out: Path) -> Path:
    """A finished session's run with a trial in every state."""
    folder = out / "demo"
    record, session = begin(folder)
    with record:
        fill(record)
        record.end_session(session, SweepState.INTERRUPTED)
    return folder


@pytest.fixture
def out(tmp_path: Path, empty_store: Path) -> Path:
    """A folder for runs with an empty MLflow store in it."""
    folder = tmp_path / "runs"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


@pytest.fixture
def rows(out: Path) -> Rows:
    """Query the MLflow store behind MLflow's back."""

    def query(sql: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(out / "mlflow.db")) as database:
            return database.execute(sql, values).fetchall()

    return query


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A confirmed model's folder, as the last step of a sweep writes it: a small network that knows digits."""
    from rungwise.trainable.config import Config
    from rungwise.trainable.data.dataset import load
    from rungwise.trainable.data.tensors import Tensors
    from rungwise.trainable.export.saved_model import export
    from rungwise.trainable.export.test_evaluation import score
    from rungwise.trainable.train import train
    from rungwise.trainable.training.state import State

    data, folder = load("digits"), tmp_path_factory.mktemp("exported")
    config = Config(hidden=(32,), lr=0.01, epochs=6, batch_size=32, seed=13)
    tensors = Tensors.of(data.without_test(), "cpu")
    state = State.fresh(config, tensors)
    for _ in train(config, tensors, state=state):
        pass
    file = (folder / "16.safetensors", state.save(folder / "16.safetensors"))
    told = config.model_dump(mode="json")
    about = {"arm": "L2", "trial": 16, "test": score({16: file}, {16: told}, data, "cpu")[16]}
    export(file, told, data, folder / "model", about)
    return folder / "model"
