"""Lanes: a process that trains several trials dies, or their driver does, and no trial is lost or doubled."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.sweeping import Run, assert_mlflow, assert_tables, interrupt, wait_until

from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State

EPOCHS = 27
PACKED = ("--pack", "2", "--checkpoint-seconds", "0", "--trials", "3", "--epochs", str(EPOCHS), "--concurrency", "4")


def assert_whole(folder: Path, trials: int, epochs: int) -> None:
    """As `sweeping.assert_nothing_lost`, but that a step said again is the same to the rounding of sums only: a trial
    that goes on has other neighbours."""
    with Reader(folder) as reader:
        reader.verify()
        rows, curves, reports = reader.trials(), reader.curves(), list(reader.reports())
    assert [row.trial for row in rows] == list(range(1, trials + 1))
    assert {row.state for row in rows} <= {State.COMPLETED, State.STOPPED}
    for row in rows:
        last = epochs if row.state is State.COMPLETED else round(row.stop_rung or -1)
        assert sorted(curves[row.trial]) == list(range(1, last + 1))
    keys = [(report.trial, report.attempt, report.step) for report in reports]
    assert len(keys) == len(set(keys))
    said: dict[tuple[int, int], float] = {}
    for report in reports:
        loss = report.metrics["val_loss"]
        assert abs(said.setdefault((report.trial, report.step), loss) - loss) < 1e-2
    assert_tables(folder)
    assert_mlflow(folder)


def kill_lane(run: Run) -> None:
    """All that the process held go on from their checkpoints as the next attempt. Leaves the driver at work."""
    run.allow(16)
    driver = run.start(*PACKED)
    assert run.await_pause(driver), run.said
    assert wait_until(lambda: driver.poll() is not None or len(run.workers()) >= 2), run.said
    held = run.workers()
    process = held[0][1]
    run.allow(16, pause=1.0)  # the other process may take all of these before the new one reports
    os.kill(process, signal.SIGKILL)
    mates = {trial for trial, pid in held if pid == process}
    again = f"SELECT count(*) FROM reports WHERE attempt = 2 AND trial IN ({', '.join(map(str, mates))})"
    assert wait_until(lambda: driver.poll() is not None or run.query(again)[0][0]), run.said
    with Reader(run.folder) as reader:
        attempts = {row.trial: row.attempts for row in reader.trials()}
        kinds = {kind for _, kind, about, _ in reader.events() if about in mates}
    assert all(attempts[trial] == 2 for trial in mates if attempts[trial] != 1)
    assert 2 in attempts.values()
    assert set(attempts.values()) <= {0, 1, 2}
    assert {"retry", "restored"} <= kinds
    assert "lost its process; it resumes from its last checkpoint (try 1)" in run.said


def test_a_killed_lane_and_then_a_killed_driver_lose_no_trial_and_go_on_without_lanes(run: Run) -> None:
    kill_lane(run)
    (driver,) = run.drivers
    driver.kill()
    driver.wait()
    run.allow(None)
    assert run.finish(*PACKED[2:], "--concurrency", "1") == 0, run.said
    assert_whole(run.folder, 6, EPOCHS)


@pytest.mark.long  # how a packed sweep is interrupted; twin: faults/test_resume.py
def test_an_interrupted_packed_sweep_keeps_the_checkpoints_of_its_trials(run: Run) -> None:
    run.allow(12, pause=1.0)
    driver = run.start(*PACKED)
    assert run.await_pause(driver), run.said
    assert interrupt(driver) == 130, run.said
    run.allow(None)
    with Reader(run.folder) as reader:
        flying = {row.trial for row in reader.trials() if row.state is State.RUNNING}
        assert flying
        assert flying & reader.checkpoints().keys()
    assert run.finish(*PACKED) == 0, run.said
    assert_whole(run.folder, 6, EPOCHS)
