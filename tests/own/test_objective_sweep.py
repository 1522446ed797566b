"""Whole sweeps of an Optuna objective through Ray: processes are killed, and no parameter is lost or changed."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.sweeping import SESSION_SECONDS, Run, assert_nothing_lost, stopping, wait_until

from rungwise.engine.execution.remaining_work import checkpoint_root, has_work
from rungwise.engine.experiment.command_line import parse
from rungwise.engine.experiment.experiment import resolve
from rungwise.results.analysis.answer import answer
from rungwise.results.exporters.optuna_study import studies
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.results.tables import parquet

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

SCRIPT = '''"""Do more layers help?"""
import os
import time
from pathlib import Path

import optuna

from rungwise import Sweep, main

GATE = Path(os.environ["PACE"], "closed")


def objective(trial):
    layers = trial.suggest_int("layers", 1, 3)
    widths = [trial.suggest_categorical("width_0", [8, 16, 32])]
    while trial.number in (3, 6) and GATE.exists():
        time.sleep(0.02)
    widths += [trial.suggest_categorical(f"width_{index}", [8, 16, 32]) for index in range(1, layers)]
    lr = trial.suggest_float("lr", 1e-3, 1e-1, log=True)
    trial.set_user_attr("widths", widths)
    for epoch in range(9):
        score = sum(widths) / 96 - abs(lr - 0.01) + epoch / 10 + trial.seed % 100 / 1e4
        trial.report(score, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return score


SWEEP = Sweep(name="tiny", question=__doc__, objective=objective, mode="maximize", trials=8, epochs=9)
if __name__ == "__main__":
    main(SWEEP)
'''


@pytest.fixture
def run(tmp_path: Path, empty_store: Path) -> Iterator[Run]:
    with stopping(Run(tmp_path, script=SCRIPT)) as made:
        made.out.mkdir()
        shutil.copy(empty_store, made.out / "mlflow.db")
        yield made


def process_of(run: Run, trial: int, attempt: int) -> int | None:
    """The process of the trial's attempt, once it has asked for all that comes before the gate."""
    for text, attempts, node in run.query(f"SELECT params, attempts, node FROM trials WHERE trial = {trial}"):
        if attempts == attempt and node is not None and len(json.loads(text)) == 2:
            pid = int(node.rpartition(":")[2])
            return pid if Path(f"/proc/{pid}").exists() else None
    return None


def params(run: Run) -> dict[int, dict[str, Any]]:
    return {trial: json.loads(text) for trial, text in run.query("SELECT trial, params FROM trials")}


def test_a_killed_worker_and_a_killed_driver_lose_and_change_no_parameter(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = run.home / "pace" / "closed"
    gate.touch()
    driver = run.start("--concurrency", "2")
    assert wait_until(lambda: driver.poll() is not None or process_of(run, 3, 1)), run.said
    pid, first = process_of(run, 3, 1), params(run)[3]
    assert pid is not None, run.said
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: driver.poll() is not None or process_of(run, 3, 2)), run.said
    before = params(run)
    assert before[3] == first
    driver.kill()
    driver.wait()
    gate.unlink()
    flags = ("--concurrency", "2", "--confirm-configs", "1", "--confirm-seeds", "2")
    assert run.start(*flags).wait(SESSION_SECONDS) == 0, run.said
    after = params(run)
    for number, known in before.items():
        assert known.items() <= after[number].items()
    assert_nothing_lost(run.folder, 8 + 2, 9, metric="value")
    assert_views_hold_the_parameters(run)
    with Reader(run.folder) as reader:
        rows = reader.trials()
        assert rows[2].attempts == 3
        assert answer(reader).best == "all"
    assert all(len(row.params) == row.params["layers"] + 2 for row in rows if row.state is State.COMPLETED)
    assert {row.state for row in rows[:8]} == {State.COMPLETED, State.STOPPED}
    confirmed = [row for row in rows if row.phase == "confirm"]
    assert [row.params for row in confirmed] == [after[row.source or 0] for row in confirmed]
    assert [row.attempts for row in confirmed] == [1, 1]
    monkeypatch.setenv("PACE", str(gate.parent))
    sweep = runpy.run_path(str(run.script))["SWEEP"]
    options = parse(sweep, ["--out", str(run.out), *flags])
    assert not has_work(run.folder, resolve(sweep, options), checkpoint_root(options))


def assert_views_hold_the_parameters(run: Run) -> None:
    """The exported study, Parquet and MLflow have what the record has, the conditional ones included."""
    with Reader(run.folder) as reader:
        rows = reader.trials()
        (study,) = studies(reader).values()
    searched = [row for row in rows if row.phase == "search"]
    assert [trial.params for trial in study.trials] == [row.params for row in searched]
    states = {State.COMPLETED: "COMPLETE", State.STOPPED: "PRUNED"}
    assert [trial.state.name for trial in study.trials] == [states[row.state] for row in searched]
    assert all(
        trial.user_attrs["widths"] == [trial.params[f"width_{index}"] for index in range(trial.params["layers"])]
        for trial in study.trials
    )
    table = parquet.read(run.folder / parquet.TRIALS).to_pylist()
    for row, line in zip(rows, table, strict=True):
        stored = {name.removeprefix("params_"): value for name, value in line.items() if name.startswith("params_")}
        assert {name: value for name, value in stored.items() if value is not None}.items() >= row.params.items()
    assert mlflow_params(run) == {row.trial: {name: str(value) for name, value in row.params.items()} for row in rows}


def mlflow_params(run: Run) -> dict[int, dict[str, str]]:
    """{trial: its suggested params in the store}"""
    with closing(sqlite3.connect(run.out / "mlflow.db")) as db:
        rows = db.execute(
            "SELECT tags.value, params.key, params.value FROM params JOIN tags USING (run_uuid) "
            "WHERE tags.key = 'rungwise.trial' AND (params.key = 'layers' OR params.key = 'lr' OR params.key LIKE "
            "'width%')"
        ).fetchall()
    found: dict[int, dict[str, str]] = {}
    for trial, name, value in rows:
        found.setdefault(int(trial), {})[name] = value
    return found
