"""The exporter process: it keeps up, finishes when asked, survives what kills others, and never harms the driver."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.demo import Rows, add, attempt, begin, damage, metrics

from rungwise.results.exporters.live import Follower
from rungwise.results.exporters.mlflow import export
from rungwise.results.record.types import State, SweepState
from rungwise.results.tables import parquet


def wait_for(condition: Callable[[], object], seconds: float = 600.0) -> None:
    """Until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.05)


def test_it_keeps_up_with_a_running_sweep_and_ctrl_c_does_not_end_it(out: Path, rows: Rows) -> None:
    record, session = begin(out / "demo")
    follower = Follower.start(out / "demo")
    with record:
        add(record, 1)
        attempt(record, 1, 0.5, 0.6)
        wait_for(lambda: len(rows("SELECT * FROM metrics")) == 12)
        os.kill(follower.pid, signal.SIGINT)
        attempt(record, 1, 0.7, first=3)
        record.end_trial(1, State.COMPLETED)
        record.end_session(session, SweepState.FINISHED)
    answer = follower.finish(timeout=600)
    assert answer["parquet"] is True
    assert answer["mlflow"] == "complete"
    assert answer["trials"] == 1
    assert answer["metrics"] == len(rows("SELECT * FROM metrics")) >= 18
    assert {status for (status,) in rows("SELECT status FROM runs")} == {"FINISHED"}
    assert parquet.read(out / "demo" / parquet.REPORTS).num_rows == 3


def test_a_dead_server_costs_seconds_and_no_row(run: Path) -> None:
    follower = Follower.start(run, "http://ada:sesame@127.0.0.1:9")
    assert "sesame" not in Path(f"/proc/{follower.pid}/cmdline").read_text()
    answer = follower.finish(timeout=200)  # MLflow's own patience is 247 s
    assert answer["parquet"] is True
    assert "cannot be reached" in answer["mlflow"]
    assert "sesame" not in str(answer)
    assert parquet.read(run / parquet.TRIALS).num_rows == 8
    assert not any(b"sesame" in path.read_bytes() for path in run.iterdir())


def test_a_server_that_hangs_is_left_at_the_deadline(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "rungwise.results.exporters.live._GRACE", 300.0
    )  # a busy machine takes its time to print the answer
    with closing(socket.create_server(("127.0.0.1", 0))) as server:  # accepts, and never answers
        server.settimeout(600)
        follower = Follower.start(run, f"http://127.0.0.1:{server.getsockname()[1]}")
        with server.accept()[0]:
            answer = follower.finish(timeout=304)
    assert answer["parquet"] is True
    assert answer["mlflow"] == "no answer within 4 s"


def test_whoever_waits_for_the_prompt_cuts_the_last_pass_short(run: Path) -> None:
    """Ctrl-C while the last pass runs: it was asked for with a minute, and ends within what an interrupted one gets."""
    looks = iter([600.0, 600.0])  # the signal comes while we wait
    with closing(socket.create_server(("127.0.0.1", 0))) as server:  # accepts, and never answers
        server.settimeout(600)
        follower = Follower.start(run, f"http://127.0.0.1:{server.getsockname()[1]}")
        with server.accept()[0]:
            answer = follower.finish(timeout=600, allowed=lambda: next(looks, 1.0))
    assert answer["mlflow"] == "the exporter gave no answer within 1 s"


def test_an_exporter_killed_half_way_is_completed_without_doubles(out: Path, rows: Rows) -> None:
    record, session = begin(out / "demo")
    with record:
        for trial in range(1, 13):
            add(record, trial)
            number = record.start_attempt(trial)
            for step in range(1, 101):
                record.add_report(trial, number, step, metrics(float(step), step / 100))
            record.end_trial(trial, State.COMPLETED)
        record.end_session(session, SweepState.FINISHED)
    rows(
        "CREATE TRIGGER half_way BEFORE INSERT ON metrics WHEN (SELECT count(*) FROM metrics) >= 3000 "
        "BEGIN SELECT raise(ABORT, 'not before it is killed'); END"
    )
    follower = Follower.start(out / "demo")
    wait_for(lambda: rows("SELECT count(*) FROM metrics")[0][0] >= 1200)
    os.kill(follower.pid, signal.SIGKILL)
    answer = follower.finish()
    rows("DROP TRIGGER half_way")
    assert answer["mlflow"] == "the exporter was killed (SIGKILL)"
    assert rows("SELECT count(*) FROM metrics")[0][0] < 12 * 100 * 6
    assert export(out / "demo").metrics < 12 * 100 * 6
    assert rows("SELECT count(*) FROM runs") == [(13,)]
    of_trials = "SELECT count(*) FROM metrics JOIN tags USING (run_uuid) WHERE tags.key = 'rungwise.trial'"
    assert rows(of_trials) == [(12 * (100 * 6 + 1),)]
    assert export(out / "demo").metrics == 0


def test_a_killed_drivers_follower_makes_the_last_export(out: Path, rows: Rows) -> None:
    program = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path\n"
        "from support.demo import add, attempt, begin; from rungwise.results.exporters.live import Follower\n"
        "record, session = begin(Path(sys.argv[1])); follower = Follower.start(Path(sys.argv[1]))\n"
        "add(record, 1); attempt(record, 1, 0.5)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    driver = subprocess.run(
        [sys.executable, "-c", program, str(out / "demo"), str(Path(__file__).parents[1])], check=False
    )
    assert driver.returncode == -signal.SIGKILL
    wait_for(lambda: rows("SELECT status FROM runs") == [("KILLED",)] * 2)
    assert parquet.read(out / "demo" / parquet.REPORTS).num_rows == 1


def test_a_folder_without_a_record_is_an_answer_not_an_exception(tmp_path: Path) -> None:
    answer = Follower.start(tmp_path).finish(timeout=600)
    assert answer["parquet"] == answer["mlflow"]
    assert "contains sweep.sqlite" in answer["mlflow"]


def test_a_damaged_record_is_an_answer_not_an_exception(run: Path) -> None:
    damage(run)
    answer = Follower.start(run).finish(timeout=600)
    assert "malformed" in answer["parquet"]
    assert "malformed" in answer["mlflow"]
