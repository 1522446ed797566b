"""MLflow's new store, whose maker is killed anywhere: absent or whole; one that MLflow left half made is set aside."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from support import store_making
from support.demo import begin, fill

from rungwise.results.cli.main import main
from rungwise.results.exporters.mlflow import export
from rungwise.results.exporters.mlflow_client import ExportError
from rungwise.results.exporters.mlflow_database import unusable
from rungwise.results.record.types import SweepState

KILLED = -9


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that have MLflow imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.store.tracking.sqlalchemy_store", "rungwise.results.exporters.mlflow"])
    return context


@pytest.fixture
def strike(processes: ForkServerContext) -> Callable[..., int | None]:
    """Run a function of `store_making` in a process of its own; its exit code."""

    def call(function: Callable[..., None], *arguments: Any) -> int | None:
        process = processes.Process(target=function, args=arguments)
        process.start()
        process.join(1800)
        return process.exitcode

    return call


@pytest.fixture
def run(tmp_path: Path) -> Path:
    record, session = begin(tmp_path / "runs" / "demo")
    with record:
        fill(record)
        record.end_session(session, SweepState.FINISHED)
    return tmp_path / "runs" / "demo"


@pytest.fixture
def half_made(run: Path, strike: Callable[..., int | None]) -> Path:
    """What MLflow leaves when it is killed within a migration."""
    database = run.parent / "mlflow.db"
    assert strike(store_making.make_in_place_and_die, database) == KILLED
    assert database.stat().st_size
    return database


def test_a_maker_killed_at_any_moment_leaves_nothing_that_the_next_one_could_stumble_over(
    tmp_path: Path, strike: Callable[..., int | None]
) -> None:
    database = tmp_path / "mlflow.db"
    for statement in (1, 150):
        assert strike(store_making.make_and_die, database, statement) == KILLED
        assert not database.exists()
    assert strike(store_making.make_and_die_at, database, "replace") == KILLED
    assert not database.exists()
    assert strike(store_making.make, database) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mlflow.db.lock", "mlflow.db"]
    assert unusable(database) is None


def test_makers_at_the_same_time_take_turns_and_one_makes_it(tmp_path: Path, processes: ForkServerContext) -> None:
    database = tmp_path / "mlflow.db"
    makers = [processes.Process(target=store_making.make, args=(database,)) for _ in range(2)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join(1800)
    assert [maker.exitcode for maker in makers] == [0, 0]
    assert unusable(database) is None
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("SELECT count(*) FROM experiments").fetchone() == (1,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_that_nobody_wrote_to_yet_is_made_whole(run: Path) -> None:
    (run.parent / "mlflow.db").touch()
    assert export(run).trials == 7


def test_a_store_that_mlflow_left_half_made_is_said_kept_aside_and_made_anew(
    run: Path, half_made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = half_made.read_bytes()
    with pytest.raises(ExportError, match=r"left half made.*rungwise doctor --fix /"):
        export(run)
    main(["doctor", str(run)])
    assert f"{half_made} was left half made, without a run in it" in capsys.readouterr().out
    assert half_made.read_bytes() == content
    main(["doctor", "--fix", str(run)])
    assert "half made, without a run in it: its maker was killed, or had no room; it will be kept aside (fixed)" in (
        " ".join(capsys.readouterr().out.split())
    )
    assert half_made.with_name("mlflow.db.broken-1").read_bytes() == content
    assert main(["doctor", str(run)]) == 0


def test_a_damaged_store_is_said_and_one_with_runs_that_another_mlflow_made_is_left_alone(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = run.parent / "mlflow.db"
    export(run)
    with closing(sqlite3.connect(database)) as db:
        db.execute("UPDATE alembic_version SET version_num = 'of another version'")
        db.commit()
    assert unusable(database) is None
    database.write_bytes(b"no database, but long enough to be looked at" * 1000)
    assert main(["doctor", str(run)]) == 1
    assert f"{database} is damaged (file is not a database); it will be kept aside" in capsys.readouterr().out


@pytest.mark.long
def test_a_first_export_killed_at_20_moments_is_completed_and_nothing_is_doubled(run: Path, tmp_path: Path) -> None:
    def call(database: Path, statement: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, store_making.__file__, str(run), str(database), str(statement)]
        paths = os.pathsep.join(path for path in sys.path if path)
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})

    whole = tmp_path / "whole.db"
    statements = int(call(whole, 0).stdout.split()[-1])
    wanted = _content(whole)
    for moment in range(20):
        database = tmp_path / f"{moment}.db"
        assert call(database, 1 + statements * moment // 20).returncode == KILLED
        done = call(database, 0)
        assert done.returncode == 0, done.stderr
        assert _content(database) == wanted


def _content(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What does not hold MLflow's own ids."""
    queries = (
        "SELECT key, value, timestamp, step, is_nan FROM metrics",
        "SELECT key, value FROM params",
        "SELECT status, start_time, end_time, name FROM runs",
        "SELECT name FROM experiments",
        "SELECT key, value FROM tags WHERE key NOT IN ('mlflow.parentRunId')",
    )
    with closing(sqlite3.connect(database)) as db:
        return {query: sorted(db.execute(query).fetchall(), key=str) for query in queries}


@pytest.fixture(autouse=True)
def no_other_store(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNGWISE_TRACKING_URI", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
