"""The same command gives the same tables and the same sentence: at any concurrency, with pauses, and killed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.sweeping import SCRIPT, TIMES, Run, assert_nothing_lost, identity, interrupt, stopping, wait_until

from rungwise.results.analysis.answer import answer
from rungwise.results.record.reader import Reader
from rungwise.results.tables import parquet

FLAGS = ("--searches", "2", "--trials", "2", "--epochs", "3", "--order", "fixed", "--checkpoint-seconds", "0")
CONFIRMED = ("--confirm-seeds", "2", "--refit-seeds", "1", "--untuned-seeds", "1")
LONGEST_PAUSE = "0.1"  # seconds before a report


def sentence(folder: Path) -> str:
    with Reader(folder) as reader:
        return answer(reader).sentence


def table_bytes(folder: Path) -> bytes:
    """The trials' table as a Parquet file, without times, attempts and machines; nor the run's id and paths, which its
    metadata has."""
    table = parquet.read(folder / parquet.TRIALS).replace_schema_metadata(None)
    return parquet.content(table.drop_columns([name for name in table.column_names if name in TIMES]))


def kill(run: Run, reports: int, *flags: str) -> None:
    """Start the same command, and kill its driver with all that it started after so many more reports."""
    run.allow(reports)
    killed = run.start(*flags)
    assert run.await_pause(killed), run.said
    begun = "SELECT 1 FROM trials WHERE state = 'RUNNING' AND attempts > 0"
    assert wait_until(lambda: run.query(begun)), run.said  # it is committed within a second
    assert interrupt(killed, signal.SIGKILL) == -signal.SIGKILL
    run.await_silence()
    run.allow(None)


@pytest.mark.long
def test_concurrency_pauses_and_a_kill_change_neither_the_tables_nor_the_sentence(tmp_path: Path) -> None:
    with stopping(Run(tmp_path, script=SCRIPT)) as run:
        run.environment["JITTER"] = LONGEST_PAUSE
        assert run.finish(*FLAGS, *CONFIRMED, "--concurrency", "1", "--name", "at-1") == 0, run.said
        kill(run, 9, *FLAGS, *CONFIRMED, "--concurrency", "2")  # of some 50 reports
        assert run.finish(*FLAGS, *CONFIRMED, "--concurrency", "2") == 0, run.said
        with Reader(run.folder) as reader:
            assert any(trial.attempts > 1 for trial in reader.trials())
            assert reader.definition().order == "fixed"
        wanted = identity(run.out / "at-1")
        assert [trial["search"] for trial in wanted[0] if trial["phase"] == "search"].count(2) == 2 * 2
        assert identity(run.folder) == wanted
        assert sentence(run.folder) == sentence(run.out / "at-1")
        for folder in (run.folder, run.out / "at-1"):
            assert_nothing_lost(folder, len(wanted[0]), 3)


@pytest.mark.long
def test_five_runs_two_of_them_killed_twice_have_the_same_tables_byte_for_byte(tmp_path: Path) -> None:
    """What differs is left out: times, machines, processes, attempts, and the name of the run."""
    flags = ("--searches", "2", "--trials", "12", "--epochs", "2", "--order", "fixed", "--checkpoint-seconds", "0")
    runs = [("1", ()), ("2", ()), ("4", ()), ("2", (9, 40)), ("4", (21, 30))]
    told = []
    for number, (concurrency, kills) in enumerate(runs):
        home = tmp_path / f"{number}"
        home.mkdir()
        with stopping(Run(home, script=SCRIPT)) as run:
            run.environment["JITTER"] = LONGEST_PAUSE
            command = (*flags, *CONFIRMED, "--concurrency", concurrency)
            for reports in kills:
                kill(run, reports, *command)
            assert run.finish(*command) == 0, run.said
            with Reader(run.folder) as reader:
                assert len(reader.sessions()) == len(kills) + 1
            told.append((table_bytes(run.folder), sentence(run.folder)))
    assert told[0][0]
    assert [one == told[0] for one in told] == [True] * len(runs)
