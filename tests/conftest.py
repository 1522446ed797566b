"""What holds for every test."""

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.sweeping import every_process, wait_until

from rungwise.results.exporters.mlflow_database import ensure
from rungwise.results.exporters.tracking_uri import VARIABLES

TAG = "RUNGWISE_TESTS"  # in the environment of what tests start: whose session it belongs to
LONGEST = ("test_resume", "test_order", "test_sweep", "test_kill", "test_packed", "test_scripts", "test_again",
           "test_disk", "test_signals", "test_watched", "test_objective_sweep", "test_program", "test_mlflow_server",
           "test_run", "test_bounds_of_own", "test_compat", "test_start", "test_aws", "test_mlflow_store",
           "test_install", "test_report_browser", "test_mlflow_model", "test_plan")  # fmt: skip
PYTHONS_OWN = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")  # these end with this process


def pytest_configure() -> None:
    """Collection imports torch, Ray and MLflow: no garbage, and to look for it takes a sixth of the time."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole sweeps, which mostly wait, come first, the longest of them first of all: at the end one would wait."""
    first = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: first.get(item.path.stem, len(first) + (item.path.parent.name != "faults")))


@pytest.fixture(scope="session", autouse=True)
def temporary() -> Iterator[Path]:
    """The temporary folder of what tests start. When the last test has ended, so have all processes, and no Ray has
    left its folder."""
    # Whoever is started in the background of a shell ignores SIGINT, and so does all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tempfile.gettempdir()  # this process keeps the usual one
    folder = Path(tempfile.mkdtemp(prefix="rwt-", dir="/tmp"))
    os.environ[TAG] = folder.name
    yield folder
    mark = f"{TAG}={folder.name}".encode()

    def left() -> list[str]:
        found = [line for _, line, environment in every_process() if mark in environment.split(b"\0")]
        return [line for line in found if not any(name in line for name in PYTHONS_OWN)]

    assert wait_until(lambda: not left()), f"still there: {left()}"
    assert list(folder.glob("rw-*")) == []
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, made once for all processes of this session: its migrations take 3 s."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    ensure(shared / "mlflow.db")  # one of those that come at the same time makes it
    return shared / "mlflow.db"


@pytest.fixture(autouse=True)
def own_temporary_folder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    """Machines of tests/cluster have disks of their own."""
    if request.node.get_closest_marker("cluster") is None:
        monkeypatch.setenv("TMPDIR", str(temporary))


@pytest.fixture(autouse=True)
def no_tracking_server_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test writes into its own folder, never to the MLflow server that the environment names."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
