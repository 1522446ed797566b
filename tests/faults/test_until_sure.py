"""A real sweep that adds searches until its answer is sure, killed while it does."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.sweeping import Run, interrupt, stopping

from rungwise.results.analysis.answer import LOOKS, answer
from rungwise.results.record.reader import Reader

FLAGS = (
    *("--searches", "4", "--until-sure", "6", "--worth", "0.01", "--trials", "1", "--epochs", "1"),
    *("--confirm-seeds", "1", "--refit-seeds", "0", "--untuned-seeds", "0", "--scheduler", "none"),
)  # what is worth having is far below what so few test samples tell
FOUR = 2 * 4 * (1 + 1)  # reports of four searches of two arms, with their confirmations


@pytest.mark.long  # three passes of Tune; that searches are added is in engine/test_worth.py
def test_searches_are_added_to_the_last_and_a_killed_driver_goes_on_adding(tmp_path: Path) -> None:
    with stopping(Run(tmp_path)) as run:
        run.allow(FOUR + 1)
        killed = run.start(*FLAGS)
        assert run.await_pause(killed), run.said  # within the fifth
        assert interrupt(killed, signal.SIGKILL) == -signal.SIGKILL
        run.await_silence()
        run.allow(None)
        assert run.finish(*FLAGS) == 0, run.said
        with Reader(run.folder) as reader:
            assert reader.definition().searches == 6
            assert reader.meta(LOOKS) == [4, 5, 6]
            found = answer(reader)
        assert "6 searches per arm" in found.sentence
        assert found.comparisons[0].difference is not None
        assert found.comparisons[0].difference.n == 6
        assert run.finish(*FLAGS) == 0, run.said  # nothing is left to do
