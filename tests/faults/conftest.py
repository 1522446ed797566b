"""Real processes, real signals, real files: one run in a temporary folder a test."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.sweeping import Run

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """MLflow 3.17 asks SQLAlchemy 2.1 for a loader that it deprecates; every other warning stays an error."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A run that does not exist yet. What a failed test leaves running is ended."""
    made = Run(tmp_path)
    yield made
    for pid in made.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for driver in made.drivers:
        driver.wait()
    shutil.rmtree(made.temporary, ignore_errors=True)
