"""A killed driver, a killed worker, Ctrl-C: the same command goes on, and nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from typing import Any

import pytest
from support.sweeping import Run, assert_nothing_lost, assert_tables, identity, wait_until

from rungwise.engine.cluster.driver_folder import OWNER
from rungwise.results.analysis.answer import Answer, answer
from rungwise.results.model import model_folder
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State, SweepState

# -- one run, struck twice --------------------------------------------------------------------------------------

STRUCK = ("--checkpoint-seconds", "0", "--trials", "2", "--epochs", "27", "--scheduler", "none")
EXPORTER = f"{sys.executable} -P -m rungwise.results.exporters.live"


def kill_worker(run: Run, driver: subprocess.Popen[str]) -> None:
    """Its trial goes on from its checkpoint as the next attempt, and no other trial notices."""
    assert wait_until(lambda: driver.poll() is not None or run.tickets == 12 + 2), run.said  # both wait
    assert wait_until(lambda: driver.poll() is not None or (run.reports() == 12 and run.workers())), run.said
    ((trial, pid), *_) = run.workers()
    ((steps,),) = run.query(f"SELECT max(step) FROM reports WHERE trial = {trial}")
    os.kill(pid, signal.SIGKILL)
    for turn in range(steps + 1):  # one report of both: the next attempt says first what its checkpoint remembers
        waiting = 12 + 2 + 1 + 2 * turn
        assert wait_until(lambda waiting=waiting: driver.poll() is not None or run.tickets == waiting), run.said
        run.allow(0)
    again = f"SELECT min(step) FROM reports WHERE trial = {trial} AND attempt = 2"
    assert wait_until(lambda: driver.poll() is not None or run.query(again)[0][0] is not None), run.said
    assert run.query(again)[0][0] > 1  # from a checkpoint, not from the start
    assert f"trial {trial} lost its process; it resumes from its last checkpoint (try 1)" in run.said
    with Reader(run.folder) as reader:
        assert [about for _, kind, about, _ in reader.events() if kind == "retry"] == [trial]
        begun = {row.trial: row.attempts for row in reader.trials() if row.attempts}
        assert begun == {1: 1, 2: 1} | {trial: 2}


def press_ctrl_c_twice(run: Run, driver: subprocess.Popen[str]) -> None:
    """It ends at once, and no committed report is lost."""
    committed = run.query("SELECT trial, attempt, step FROM reports ORDER BY seq")
    # Again and again: two that come before the driver has seen one are one.
    assert wait_until(lambda: driver.poll() is not None or os.killpg(driver.pid, signal.SIGINT)), run.said
    assert driver.wait() == 130, run.said
    assert "interrupted after" not in run.said  # that is how the first one alone would have ended
    assert run.query("SELECT trial, attempt, step FROM reports ORDER BY seq")[: len(committed)] == committed
    run.await_silence(except_for=EXPORTER)
    run.await_silence()  # the exporter ends by itself, when its last pass is done
    with Reader(run.folder) as reader:
        reader.verify()
        assert {row.state for row in reader.trials()} == {State.RUNNING}  # to be continued
        assert reader.state() is SweepState.RUNNING


def test_a_killed_worker_and_a_second_ctrl_c_lose_and_double_nothing(run: Run) -> None:
    run.allow(12)
    driver = run.start(*STRUCK)
    kill_worker(run, driver)
    press_ctrl_c_twice(run, driver)
    run.allow(None)
    assert run.finish(*STRUCK) == 0, run.said
    assert_nothing_lost(run.folder, 4, 27)
    run.await_silence()
    # Of the Ray that was killed, at most what its last processes held on to is left, for the next driver to clear.
    assert len(list(run.temporary.glob("rw-*"))) <= 1
    assert all((folder / OWNER).exists() for folder in run.temporary.glob("rw-*"))


# -- many kills ---------------------------------------------------------------------------------------------------

TRIALS, EPOCHS = 8, 9
PARALLEL = ("--checkpoint-seconds", "0.1", "--trials", str(TRIALS // 2))


def kill_and_go_on(run: Run, kills: int, seed: int, flags: tuple[str, ...] = PARALLEL) -> int:
    """Kill the driver `kills` times at moments drawn over the whole sweep, then let it finish; kills that struck."""
    draw = random.Random(seed)
    struck = reached = 0
    least = 2 * EPOCHS + TRIALS - 2  # reports of a sweep: the first trial of each arm is never stopped
    for moment in sorted(int(draw.uniform(0, least)) for _ in range(kills)):
        run.allow(moment - reached)  # the sweep cannot end before: all together are fewer than it needs
        reached = moment
        driver = run.start(*flags)
        if run.await_pause(driver):
            time.sleep(draw.uniform(0, 1.5))  # the record is committed once a second: hit what lies between, too
        struck += driver.poll() is None
        driver.kill()
        driver.wait()
    run.allow(None)
    assert run.finish(*flags) == 0, run.said
    return struck


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_200_kills_in_ten_sweeps_lose_and_double_nothing(run: Run, seed: int) -> None:
    assert kill_and_go_on(run, kills=20, seed=seed) == 20
    assert_nothing_lost(run.folder, TRIALS, EPOCHS)
    run.await_silence()


CONFIRMING = ("--checkpoint-seconds", "0.1", "--trials", "2", "--epochs", "3", "--scheduler", "none")
CONFIRMING += ("--confirm-configs", "1", "--confirm-seeds", "2")
COMPLETED = "SELECT (SELECT count(*) FROM trials WHERE phase = 'confirm' AND state = 'COMPLETED')"
LONG = 900.0  # seconds; nothing takes so long
MOMENTS = {  # what is committed when the kill is due, at least; it strikes up to a second later
    "search": "SELECT count(*) >= 4 FROM reports",
    "confirmation begins": "SELECT count(*) > 0 FROM trials WHERE phase = 'confirm'",
    "one is confirmed": f"{COMPLETED} >= 1",
    "all are confirmed": f"{COMPLETED} >= 4",
    "scored": "SELECT count(*) > 0 FROM scores",
    "the model is kept": "SELECT count(*) > 0 FROM meta WHERE key = 'test'",
    "the session ended": "SELECT state != 'RUNNING' FROM sessions ORDER BY session DESC LIMIT 1",
}


def kill_in_every_phase(run: Run, seed: int, flags: tuple[str, ...]) -> int:
    """Kill driver and exporter once in every phase of a whole command, then let it finish; kills that struck.

    A phase that an earlier kill came too late for is struck as soon as the next driver has begun its session.
    """
    draw, struck = random.Random(seed), 0
    for moment in MOMENTS.values():
        before = len(run.query("SELECT 1 FROM sessions"))
        driver = run.start(*flags)

        def due(moment: str = moment, before: int = before, driver: Any = driver) -> bool:
            begun = len(run.query("SELECT 1 FROM sessions")) > before
            return driver.poll() is not None or (begun and run.query(moment)[0][0])

        assert wait_until(due, LONG), run.said
        time.sleep(draw.uniform(0, 1.0))
        struck += driver.poll() is None
        for pid, line in run.processes().items():
            if pid == driver.pid or EXPORTER in line:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        driver.wait()
    assert run.start(*flags).wait(LONG) == 0, run.said
    return struck


def assert_answered(run: Run) -> Answer:
    """All that is confirmed is scored, and model/, MLflow's model and the report are those of the answer."""
    with Reader(run.folder) as reader:
        found = answer(reader)
        rows, curves = reader.trials(), reader.curves()
        assert model_folder.difference(reader, found) is None
        assert (reader.meta("test") or {})["trial"] == found.model
    assert found.split == "test"
    assert [row.trial for row in rows] == list(range(1, 9))
    assert {row.state for row in rows} == {State.COMPLETED}
    assert all(sorted(curves[row.trial]) == [1, 2, 3] for row in rows)
    assert all(arm.chosen and len(arm.chosen.test) == 2 for arm in found.arms)
    assert (run.folder / "report.html").is_file()
    assert_tables(run.folder)
    with closing(sqlite3.connect(run.out / "mlflow.db")) as db:
        assert db.execute("SELECT count(*) FROM registered_models").fetchone() == (1,)
        assert db.execute("SELECT count(*) FROM model_versions").fetchone()[0] >= 1
    doctor = [sys.executable, "-P", "-m", "rungwise", "doctor", str(run.folder)]
    done = subprocess.run(doctor, env=run.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{run.folder}: no problems found\n")
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Answer:
    whole = Run(tmp_path_factory.mktemp("undisturbed"))
    assert whole.start(*CONFIRMING, "--concurrency", "1").wait(LONG) == 0, whole.said
    return assert_answered(whole)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_28_kills_from_the_search_to_the_registered_model_reach_the_answer_of_an_undisturbed_sweep(
    run: Run, undisturbed: Answer, seed: int
) -> None:
    assert kill_in_every_phase(run, seed, (*CONFIRMING, "--concurrency", "1")) >= 5
    assert assert_answered(run) == undisturbed
    run.await_silence(LONG)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_28_kills_of_a_packed_sweep_from_the_search_to_the_registered_model_reach_an_answer(
    run: Run, seed: int
) -> None:
    assert kill_in_every_phase(run, seed, (*CONFIRMING, "--concurrency", "2", "--pack", "2")) >= 5
    assert_answered(run)
    run.await_silence(LONG)


# -- the sequential identity -------------------------------------------------------------------------------------

SEQUENTIAL = ("--concurrency", "1", "--trials", "3", "--epochs", "18", "--checkpoint-seconds", "0.2")


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_a_sequential_sweep_killed_ten_times_equals_the_uninterrupted_one(run: Run, seed: int) -> None:
    assert run.finish(*SEQUENTIAL, "--name", "uninterrupted") == 0, run.said
    assert kill_and_go_on(run, kills=10, seed=seed, flags=SEQUENTIAL) == 10
    assert_nothing_lost(run.folder, 6, 18)
    assert identity(run.folder) == identity(run.out / "uninterrupted")
