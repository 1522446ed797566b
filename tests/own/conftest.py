"""One run in a temporary folder a test, as for tests/faults; other people's libraries may warn."""

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
def run(request: pytest.FixtureRequest, tmp_path: Path, empty_store: Path) -> Iterator[Run]:
    """A run of the script that the parameter names, beside an MLflow store without runs."""
    script = (HERE / "scripts/after" / request.param).read_text()
    with stopping(Run(tmp_path, script=script)) as made:
        made.out.mkdir()
        shutil.copy(empty_store, made.out / "mlflow.db")
        yield made
