"""Real processes, real signals, real files: one run in a temporary folder a test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.sweeping import Run, stopping

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """MLflow 3.17 asks SQLAlchemy 2.1 for a loader that it deprecates; every other warning stays an error."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"))


@pytest.fixture
def run(tmp_path: Path, empty_store: Path) -> Iterator[Run]:
    """A run that does not exist yet, beside an MLflow store without runs."""
    with stopping(Run(tmp_path)) as made:
        made.out.mkdir()
        shutil.copy(empty_store, made.out / "mlflow.db")
        yield made
