"""The scripts of tests/own/scripts as whole commands: what they leave, and what survives kills and Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
from contextlib import closing

import conversions
import optuna
import pytest
from support.sweeping import Run, assert_nothing_lost, every_process, interrupt, wait_until

from rungwise.results.analysis.answer import answer
from rungwise.results.exporters.optuna_study import studies
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State, SweepState
from rungwise.results.tables import parquet

TRIALS, EPOCHS = 6, 5  # scikit-learn's has five folds
SHORT = ("--name", "tiny", "--trials", str(TRIALS), "--epochs", str(EPOCHS), "--checkpoint-seconds", "0")
CONFIRMED = (*SHORT, "--confirm-configs", "1", "--confirm-seeds", "2", "--eta", "2", "--concurrency", "1")
STRUCK = (*SHORT, "--scheduler", "none", "--concurrency", "1")
NAMES = conversions.names()
WHOLE = ("xgboost_trees.py",)
FAULTS = ()  # all of them are in the long set; test_program.py kills a worker of a user's own each time


def some(names: list[str], often: tuple[str, ...]) -> list[object]:
    return [name if name in often else pytest.param(name, marks=pytest.mark.long) for name in names]


def saves(name: str) -> bool:
    """Whether the script keeps checkpoints: a trial of one that does not starts again."""
    text = (conversions.SCRIPTS / "after" / name).read_text()
    return any(word in text for word in ("trial.save", "ReportCallback", "RUNGWISE_SAVE"))


def metric_of(run: Run) -> str:
    found = re.search(r'metric="(\w+)"', run.script.read_text())
    assert found is not None
    return found[1]


@pytest.mark.parametrize("run", some(NAMES, WHOLE), indirect=True)
def test_a_script_tells_record_optuna_mlflow_and_parquet_the_same_and_is_confirmed(run: Run) -> None:
    assert run.finish(*CONFIRMED) == 0, run.said
    metric = metric_of(run)
    assert_nothing_lost(run.folder, TRIALS + 2, EPOCHS, metric=metric)  # MLflow and Parquet equal the record
    with Reader(run.folder) as reader:
        searched = [row for row in reader.trials() if row.phase == "search"]
        curves, found, (study,) = reader.curves(), answer(reader), studies(reader).values()
    stopped = [row for row in searched if row.state is State.STOPPED]
    assert stopped
    words = {State.COMPLETED: optuna.trial.TrialState.COMPLETE, State.STOPPED: optuna.trial.TrialState.PRUNED}
    assert [trial.state for trial in study.trials] == [words[row.state] for row in searched]
    for trial, row in zip(study.trials, searched, strict=True):
        told = [report.metrics[metric] for _, report in sorted(curves[row.trial].items())]
        assert list(trial.intermediate_values.values()) == told
        assert trial.params == row.params
    with closing(sqlite3.connect(run.out / "mlflow.db")) as db:
        query = "SELECT m.value FROM metrics m JOIN tags t USING (run_uuid) WHERE t.key = 'rungwise.trial'"
        chosen = f"{query} AND t.value = ? AND m.key = ? ORDER BY m.step"
        kept = db.execute(chosen, (str(stopped[0].trial), metric)).fetchall()
    told = [report.metrics[metric] for _, report in sorted(curves[stopped[0].trial].items())]
    assert [value for (value,) in kept] == told
    table = parquet.read(run.folder / parquet.REPORTS).to_pylist()
    assert [line[metric] for line in table if line["trial"] == stopped[0].trial] == told
    (arm,) = found.arms
    assert arm.chosen is not None
    assert arm.chosen.validation.n == 2
    assert "95% interval" in found.sentence
    assert found.format.unit == ""  # of a loss of theirs
    assert "95% interval" in " ".join(run.said.split())
    assert (run.folder / "model/config.json").is_file()
    run.await_silence()


@pytest.mark.parametrize("run", some(list(filter(saves, NAMES)), FAULTS), indirect=True)
def test_a_script_survives_a_killed_worker_and_a_killed_driver(run: Run) -> None:
    run.allow(EPOCHS + 2)
    driver = run.start(*STRUCK)
    assert run.await_pause(driver), run.said
    kill_worker(run, driver)
    driver.kill()
    driver.wait()
    run.allow(None)
    assert run.finish(*STRUCK) == 0, run.said
    assert_nothing_lost(run.folder, TRIALS, EPOCHS, metric=metric_of(run), exact=False)
    run.await_silence()


@pytest.mark.long
@pytest.mark.parametrize("run", ["torchrun_digits.py"], indirect=True)
def test_ctrl_c_ends_torchrun_and_the_processes_of_both_ranks(run: Run) -> None:
    driver = run.start("--name", "tiny", "--trials", "4", "--epochs", "1000000", "--concurrency", "1")
    assert run.await_reports(driver, 2), run.said
    ranks = [environment for _, _, environment in every_process() if is_rank(environment, run)]
    assert len(ranks) == 2
    assert interrupt(driver) == 130, run.said
    run.await_silence()
    with Reader(run.folder) as reader:
        assert reader.state() is SweepState.INTERRUPTED


def is_rank(environment: bytes, run: Run) -> bool:
    variables = environment.split(b"\0")
    return f"TMPDIR={run.temporary}".encode() in variables and any(v.startswith(b"LOCAL_RANK=") for v in variables)


def kill_worker(run: Run, driver: subprocess.Popen[str]) -> None:
    """Its trial goes on from what its own code saved, as the next attempt."""
    while not wait_until(run.workers, 5.0):  # until one that waits has two checkpoints in the record
        run.allow(1)
        assert run.await_pause(driver), run.said
    ((trial, pid), *_) = run.workers()
    os.kill(pid, signal.SIGKILL)
    run.allow(EPOCHS)  # what it says again is not recorded again
    again = f"SELECT min(step) FROM reports WHERE trial = {trial} AND attempt = 2"
    assert wait_until(lambda: driver.poll() is not None or run.query(again)[0][0] is not None), run.said
    assert run.query(again)[0][0] > 1
    with Reader(run.folder) as reader:
        assert [about for _, kind, about, _ in reader.events() if kind == "retry"] == [trial]
