"""The same command gives the same tables and the same sentence: at any concurrency, with pauses, and killed."""

from __future__ import annotations

import signal
from pathlib import Path

from support.sweeping import SCRIPT, Run, assert_nothing_lost, identity, interrupt, stopping, wait_until

from rungwise.results.analysis.answer import answer
from rungwise.results.record.reader import Reader

FLAGS = ("--searches", "2", "--trials", "4", "--epochs", "3", "--order", "fixed", "--checkpoint-seconds", "0")
CONFIRMED = ("--confirm-seeds", "2")
LONGEST_PAUSE = "0.1"  # seconds before a report


def sentence(folder: Path) -> str:
    with Reader(folder) as reader:
        return answer(reader).sentence


def test_concurrency_pauses_and_a_kill_change_neither_the_tables_nor_the_sentence(tmp_path: Path) -> None:
    with stopping(Run(tmp_path, script=SCRIPT)) as run:
        run.environment["JITTER"] = LONGEST_PAUSE
        assert run.finish(*FLAGS, *CONFIRMED, "--concurrency", "1", "--name", "at-1") == 0, run.said
        run.allow(14)  # of some 40 reports
        killed = run.start(*FLAGS, *CONFIRMED, "--concurrency", "2")
        assert run.await_pause(killed), run.said
        begun = "SELECT 1 FROM trials WHERE state = 'RUNNING' AND attempts > 0"
        assert wait_until(lambda: run.query(begun)), run.said  # it is committed within a second
        assert interrupt(killed, signal.SIGKILL) == -signal.SIGKILL
        run.await_silence()
        run.allow(None)
        assert run.finish(*FLAGS, *CONFIRMED, "--concurrency", "2") == 0, run.said
        with Reader(run.folder) as reader:
            assert any(trial.attempts > 1 for trial in reader.trials())
            assert reader.definition().order == "fixed"
        wanted = identity(run.out / "at-1")
        assert [trial["search"] for trial in wanted[0] if trial["phase"] == "search"].count(2) == 2 * 4
        assert identity(run.folder) == wanted
        assert sentence(run.folder) == sentence(run.out / "at-1")
        for folder in (run.folder, run.out / "at-1"):
            assert_nothing_lost(folder, len(wanted[0]), 3)
