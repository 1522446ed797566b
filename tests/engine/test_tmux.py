"""The live view of whole sweeps, as tmux draws it on terminals of 60, 100 and 200 columns."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.sweeping import SCRIPT, Run, stopping, wait_until

from rungwise.results.record.reader import Reader
from rungwise.results.record.types import SweepState

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux: scripts/system-packages.sh")

ROWS = 40
FLAGS = (
    "--epochs",
    "3",
    "--concurrency",
    "2",
    "--confirm-configs",
    "1",
    "--confirm-seeds",
    "2",
    "--untuned-seeds",
    "0",
    "--loggers",
)
CLOCK = r"(\d+ h )?(\d+ min )?\d+ (s|min) elapsed"


class Screen:
    """A terminal of tmux whose shell runs commands in the environment of a `Run`."""

    def __init__(self, run: Run, columns: int) -> None:
        self.run = run
        self._server = ("tmux", "-f", os.devnull, "-S", str(run.temporary / "tmux"))
        environment = {key: value for key, value in run.environment.items() if key not in ("COLUMNS", "LINES")}
        self._tmux("new-session", "-d", "-x", str(columns), "-y", str(ROWS), "sh", environment=environment)
        self.type("PS1='prompt> '", "Enter")
        self.await_text(r"prompt>\s*\Z")

    def _tmux(self, *command: str, environment: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            [*self._server, *command], env=environment, cwd=self.run.home, check=True, capture_output=True, text=True
        )
        return done.stdout

    @property
    def text(self) -> str:
        """What is on the screen now."""
        return self._tmux("capture-pane", "-p")

    @property
    def lines(self) -> list[str]:
        return [line for line in self.text.splitlines() if line]

    @property
    def has_cursor(self) -> bool:
        return self._tmux("display-message", "-p", "#{cursor_flag}") == "1\n"

    def type(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def start(self, *flags: str) -> None:
        command = [sys.executable, str(self.run.script), "--out", str(self.run.out), *FLAGS, *flags]
        (self.run.home / "sweep.sh").write_text(f"exec {shlex.join(command)}")
        self.type("clear; sh sweep.sh; echo exit code $?", "Enter")

    def await_text(self, pattern: str) -> str:
        """The screen as soon as `pattern` is on it."""
        found = []

        def shown() -> bool:
            text = self.text
            if matches := re.search(pattern, text):
                found.append(text)
            return bool(matches)

        assert wait_until(shown), f"{pattern!r} does not appear:\n{self.text}"
        return found[0]

    def kill(self) -> None:
        self._tmux("kill-server")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with stopping(Run(tmp_path, script=SCRIPT.replace('name="tiny"', 'name="tiny_sweep_with_a_long_name"'))) as one:
        one.folder = one.out / "tiny_sweep_with_a_long_name"
        yield one


@pytest.fixture
def screen(run: Run, request: pytest.FixtureRequest) -> Iterator[Screen]:
    shown = Screen(run, request.param)
    yield shown
    shown.kill()


def tables(text: str) -> list[list[str]]:
    """The words of each line; columns are two spaces or more apart."""
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]


@pytest.mark.parametrize("screen", [60], indirect=True)
def test_on_60_columns_each_part_of_the_view_has_lines_of_its_own_and_the_sweep_ends_on_a_clean_screen(
    run: Run, screen: Screen
) -> None:
    run.allow(4)
    screen.start("--scheduler", "none")
    begins = screen.await_text("Ray is starting")
    assert "0/8" not in begins
    text = screen.await_text(r"trial \d +search +(plain|L2) +[12] +\d")
    rows = tables(text)
    title = next(place for place, row in enumerate(rows) if row[0].startswith("tiny_sweep_with_a_long_name on data"))
    assert re.match(CLOCK, " ".join([*rows[title][1:], *rows[title + 1]])), text
    assert ["compared at", "reached it", "stopped there"] not in rows  # no scheduler, no rungs but the end
    assert ["running", "phase", "arm", "epoch", "val_accuracy"] in rows
    assert re.search(r"[01]/8 trials", text)
    assert "…" not in text
    run.allow(18 - run.tickets)  # of the search's 24, with two trials in flight
    last = screen.await_text(r"[567]/8 trials \([567] completed\)")
    assert re.search(r"elapsed, about (\d+ min )?\d+ s left", " ".join(last.split())), last
    run.allow(26 - run.tickets)
    again = screen.await_text(r"trial \d+ +confirm +(plain|L2) +[12] +\d")
    # Those of the search alone; the other arm's may not have ended.
    assert re.search(r"([5678])/8 trials \(\1 completed\)", again), again
    run.allow(None)
    end = screen.await_text("exit code 0")
    assert "running" not in end  # the view makes room for the summary
    assert "tiny_sweep_with_a_long_name: finished after" in " ".join(end.split())
    assert screen.has_cursor


@pytest.mark.parametrize("screen", [100], indirect=True)
def test_on_100_columns_a_second_ctrl_c_leaves_a_clean_screen(run: Run, screen: Screen) -> None:
    run.allow(2)  # of two trials in flight, the first of their arms: both go on
    screen.start()
    text = screen.await_text(r"trial \d +search +(plain|L2) +[12] +\d")
    rows = tables(text)
    assert any(row[0] == "tiny_sweep_with_a_long_name on data.npz" and re.match(CLOCK, row[1]) for row in rows), text
    rungs = rows.index(["compared at", "reached it", "stopped there"])
    assert [row[0] for row in rows[rungs + 1 : rungs + 3]] == ["epoch 1", "epoch 3"], text
    assert rows[rungs + 2][2] == "(the end)"
    screen.type("C-c")
    screen.await_text("stopping; Ctrl-C once more quits at once. The same command resumes.")
    screen.type("C-c")
    screen.await_text("exit code 130")
    screen.type("echo still here", "Enter")
    screen.await_text("\nstill here")
    shell = ("tmux", "sh")
    assert wait_until(lambda: all(line.startswith(shell) for line in run.processes().values())), run.processes()
    assert screen.lines[-1].strip() == "prompt>"
    assert screen.has_cursor
    assert "Traceback" not in screen.text


@pytest.mark.parametrize("screen", [200], indirect=True)
def test_on_200_columns_the_tables_stand_beside_each_other_and_ctrl_c_tells_how_to_resume(
    run: Run, screen: Screen
) -> None:
    run.allow(2)  # of two trials in flight, the first of their arms: both go on
    screen.start()
    text = screen.await_text(r"trial \d +search +(plain|L2) +[12] +\d")
    heads = [row for row in tables(text) if row[0] == "arm"]
    assert heads == [["arm", "best val_accuracy", "trial", "compared at", "reached it", "stopped there",
                      "running", "phase", "arm", "epoch", "val_accuracy"]]  # fmt: skip
    screen.type("C-c")
    run.allow(None)
    end = screen.await_text("exit code 130")
    assert re.search(r"resume +\S*python \S*tiny.py --out", end), end
    assert "Traceback" not in end
    assert screen.has_cursor
    with Reader(run.folder) as reader:
        assert reader.state() is SweepState.INTERRUPTED
