"""The same name again: more trials, a wider space, a fresh start; and a second Ctrl-C in the middle of the first."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.sweeping import SCRIPT, Run, assert_nothing_lost, wait_until

from results.answer import answer
from results.record import FILE, Reader, State, SweepState
from results.study import studies
from trainable.checkpoints import FOLDER

EPOCHS = ("--epochs", "3")
EXPORTER = f"{sys.executable} -P -m results follow"
LR = "FloatDistribution(1e-3, 1e-1, log=True)"


def ends(folder: Path) -> list[Any]:
    """What is recorded of the trials that ended, with all their reports."""
    with Reader(folder) as reader:
        return [(row, reader.curves().get(row.trial)) for row in reader.trials() if row.state.ended]


def respace(run: Run, lr: str) -> None:
    assert LR in SCRIPT
    run.script.write_text(SCRIPT.replace(LR, lr) % {"data": str(run.home / "data.npz")})


def test_more_trials_and_a_wider_space_extend_a_run_and_fresh_leaves_it_alone(run: Run) -> None:
    assert run.finish("--trials", "4", *EPOCHS) == 0, run.said
    first = ends(run.folder)
    assert len(first) == 4

    respace(run, "FloatDistribution(1e-4, 1.0, log=True)")
    assert run.finish("--trials", "6", *EPOCHS) == 2
    assert "holds a run of another definition" in run.said
    assert '"high": 0.1' in run.said.replace("\\", "")  # the difference
    respace(run, "FloatDistribution(1e-2, 1.0, log=True)")
    assert run.finish("--trials", "6", *EPOCHS, "--widen") == 2
    assert "lr: FloatDistribution(high=1.0, log=True, low=0.01, step=None) must contain" in run.said
    respace(run, "FloatDistribution(1e-4, 1.0, log=True)")
    assert run.finish("--trials", "6", *EPOCHS, "--widen") == 0, run.said
    assert ends(run.folder)[:4] == first  # not one of them again
    assert_nothing_lost(run.folder, 6, 3)
    with Reader(run.folder) as reader:
        assert [kind for _, kind, *_ in reader.events() if kind == "widened"] == ["widened"]
        known = studies(reader)
    assert sum(len(study.trials) for study in known.values()) == 6
    assert {study.trials[-1].distributions["lr"].high for study in known.values()} == {1.0}

    assert run.finish("--trials", "2", *EPOCHS) == 0, run.said  # fewer than there are: nothing is taken away
    assert_nothing_lost(run.folder, 6, 3)

    before = (run.folder / FILE).read_bytes()
    assert run.finish("--trials", "2", *EPOCHS, "--fresh") == 0, run.said
    assert_nothing_lost(run.out / "tiny-2", 2, 3)
    assert (run.folder / FILE).read_bytes() == before


def test_a_second_ctrl_c_ends_at_once_and_no_committed_report_is_lost(run: Run) -> None:
    flags = ("--trials", "4", "--epochs", "81", "--scheduler", "none", "--checkpoint-seconds", "0.2")
    run.allow(8, pause=1.0)
    driver = run.start(*flags)
    assert run.await_pause(driver), run.said
    assert wait_until(run.reports), run.said
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


@pytest.mark.long
def test_a_confirmed_model_that_is_damaged_before_it_is_scored_is_one_line_that_helps(run: Run) -> None:
    flags = ("--trials", "2", "--epochs", "2", "--confirm-configs", "1", "--confirm-seeds", "2")
    assert run.finish(*flags) == 0, run.said
    with Reader(run.folder) as reader:
        chosen = reader.meta("test")["trial"]
        known = reader.checkpoints()[chosen]
    shutil.rmtree(run.folder / "model")  # so that there is something left to do
    with closing(sqlite3.connect(run.folder / FILE)) as db:
        db.execute("DELETE FROM scores")
        db.commit()
    (file,) = (run.folder / FOLDER / str(chosen)).glob(f"{max(known)}-*.safetensors")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert run.finish(*flags) == 1
    (error,) = [line for line in run.said.splitlines() if line.startswith("error: ")]
    assert "could not be scored" in error
    assert str(file) in error
    assert f"python -m results doctor --mend {run.folder}" in error
    assert "Traceback" not in run.said
    doctor = [sys.executable, "-P", "-m", "results", "doctor", "--mend", str(run.folder)]
    subprocess.run(doctor, env=run.environment, check=False, capture_output=True)
    assert run.finish(*flags) == 0, run.said  # it is trained again
    with Reader(run.folder) as reader:
        assert answer(reader).split == "test"
