"""What the terminal says at the end, from records that are counted by hand."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from support.confirmed import L2, NO_L2, begun, searched, sweep, two_arms
from support.demo import begin, fill

from rungwise.results.cli.show import run_table
from rungwise.results.exporters.loggers.settings import KEY, LogSettings
from rungwise.results.io.formatting import duration
from rungwise.results.progress.summary import summarise
from rungwise.results.record.reader import Reader
from rungwise.results.record.sessions import worked_seconds
from rungwise.results.record.types import State, SweepState


def lines_of(folder: Path, *, idle: bool = False) -> list[str]:
    with Reader(folder) as reader:
        return summarise(reader, folder, {"mlflow": "complete"}, idle=idle).splitlines()


def test_the_summary_tells_the_answer_and_what_the_search_and_the_confirmation_cost(tmp_path: Path) -> None:
    lines = lines_of(two_arms(tmp_path / "run"))
    with Reader(tmp_path / "run") as reader:
        worked = duration(worked_seconds(reader))
    assert lines[0] == f"run: finished after {worked}"
    assert worked in list(run_table([tmp_path / "run"]).columns[5].cells)  # of `rungwise list`
    text = " ".join(lines)
    assert "The configuration found with L2 has 0.30 points more test accuracy than the one found with no L2" in text
    assert "best    no L2: val_accuracy 98.50% in the search (trial 1, epoch 2) with lr=0.01" in lines
    assert "best    L2: val_accuracy 99.00% in the search (trial 2, epoch 2) with lr=0.003" in lines
    assert "trials  3 completed (of 8: 4 in each of 2 arms)" in lines
    # 3 trials of 2 epochs instead of 4, and 15 confirmations of 2
    assert "epochs  6 of 12 trained in the search (early stopping saved 50%), 30 more to confirm" in lines
    notes = [line for line in lines if line.startswith("note")]
    assert [note.partition(". ")[0] for note in notes] == [
        "note    Budget of the searches: no L2: 1 trial, 2 epochs; L2: 2 trials, 4 epochs"
    ]
    again = lines_of(tmp_path / "run", idle=True)  # the same command, which found it finished
    assert again == [f"run: already finished, nothing to do; it took {worked}", *lines[1:]]


def test_what_a_verdict_would_take_has_a_time_at_the_pace_of_the_run(tmp_path: Path) -> None:
    single = two_arms(tmp_path / "single")
    made = begun(tmp_path / "several", 4, worth=0.03)
    scores = {"no L2": (0.90, 0.92, 0.94, 0.96), "L2": (0.91, 0.90, 0.95, 0.94)}
    for arm, values in scores.items():
        searched(made, arm, values)
    made.record.end_session(1, SweepState.FINISHED)
    made.record.close()
    said = {}
    for folder in (single, tmp_path / "several"):
        with sqlite3.connect(folder / "sweep.sqlite") as database:
            database.execute("UPDATE sessions SET started = 1000, ended = 1064")
        (said[folder.name],) = (line for line in lines_of(folder) if line.startswith("more    "))
    assert said["single"] == "more    --searches 5 would take at most 4 min 16 s more"  # four times 64 s
    found = re.fullmatch(r"more    --searches (\d+) would take about (.*) more", said["several"])
    assert found is not None
    assert found[2] == duration(16 * (int(found[1]) - 4))


def test_the_command_for_mlflow_is_as_short_as_the_runs_folder_is_near(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_arms(tmp_path / "runs" / "run")
    assert lines_of(tmp_path / "runs" / "run")[-1].endswith(f" sqlite:///{tmp_path}/runs/mlflow.db")
    monkeypatch.chdir(tmp_path)
    assert lines_of(Path("runs/run"))[-1].endswith(" sqlite:///runs/mlflow.db")


def test_a_configuration_with_next_to_nothing_of_what_its_arm_adds_is_noted(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run")
    made.score(made.confirmed("no L2", made.search("no L2", 0.98, lr=0.01), NO_L2), NO_L2)
    made.score(made.confirmed("L2", made.search("L2", 0.98, l2=4e-7), L2), L2)
    made.record.end_session(1, SweepState.FINISHED)
    made.record.close()
    note = "note    The l2 that was found with L2 (4e-07 of 1e-07 to 0.01) is as good as none, which is what no L2 has."
    assert note in lines_of(tmp_path / "run")


@pytest.mark.parametrize(("training", "note"), [("function", True), ("built-in", False)])
def test_a_training_of_the_users_that_ignores_its_seed_is_told_so(tmp_path: Path, training: str, note: bool) -> None:
    made = sweep(tmp_path / "run", arms={"all": {}}, training={"kind": training})
    made.confirmed("all", made.search("all", 0.98, lr=0.01), [0.97] * 3)
    made.record.end_session(1, SweepState.FINISHED)
    made.record.close()
    lines = lines_of(tmp_path / "run")
    told = (
        "note    All 3 seeds of all gave the same number: training seems to ignore trial.seed, so there is no interval"
    )
    assert any(line.startswith(told) for line in lines) is note


@pytest.mark.parametrize(
    ("command", "resume"),
    [
        (["python", "mine.py", "--trials", "8"], r"resume  \S*python mine.py --trials 8"),
        (["python", "/usr/bin/rungwise", "demo", "--trials", "8"], r"resume  \S*rungwise demo --trials 8"),
        (["python", "/usr/rungwise/__main__.py", "demo"], r"resume  \S*rungwise demo"),
        (["python", "/usr/lib/ipykernel_launcher.py", "-f", "kernel.json"], "resume  run the same cell again"),
    ],
)
def test_a_sweep_that_was_stopped_says_what_continues_it(tmp_path: Path, command: list[str], resume: str) -> None:
    made = sweep(tmp_path / "run")
    made.record.start_session({"command": command})
    made.record.end_session(2, SweepState.INTERRUPTED)
    made.record.close()
    assert re.fullmatch(resume, lines_of(tmp_path / "run")[-1])


def test_early_stopping_saved_nothing_of_a_budget_that_the_search_made_small(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run", epochs=8)
    made.search("no L2", 0.9, 0.91, epochs=2)
    made.search("no L2", 0.9, state=State.STOPPED, epochs=3)
    made.record.end_session(1, SweepState.FINISHED)
    made.record.close()
    assert "epochs  3 of 5 trained in the search (early stopping saved 40%)" in lines_of(tmp_path / "run")


def test_each_logger_has_a_line_that_shows_or_completes_it(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    record, session = begin(folder)
    with record:
        fill(record)
        settings = LogSettings(loggers=("tensorboard", "wandb", "mine.py:log"))
        record.set_meta(KEY, settings.to_json())
        record.end_session(session, SweepState.FINISHED)
    exported = {"tensorboard": "complete", "wandb": "no key", "mine.py:log": "complete", "notes": ["wandb: a is b"]}
    with Reader(folder) as reader:
        lines = summarise(reader, folder, exported, idle=False).splitlines()
    assert f"tensorboard tensorboard --logdir {folder}/tensorboard" in lines
    assert any(line.startswith("wandb   incomplete (no key); later: ") and "export" in line for line in lines)
    assert "log     complete" in lines
    assert "note    wandb: a is b" in lines
    assert not any(line.startswith("mlflow") for line in lines)
