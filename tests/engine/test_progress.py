"""What a user sees while a sweep runs."""

import io
import re
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from results.record import Record, State
from sweeps.engine import progress
from sweeps.engine.progress import Board, LiveView, PlainView, View, clock, view


def board(**changes: object) -> Board:
    """Eight trials of 4 epochs in two arms, rungs at 1, 2 and 4."""
    given = {"trials": 8, "arms": ["a", "b"], "rungs": [1.0, 2.0, 4.0], "sign": 1, "metric": "val_accuracy"}
    return Board(**{**given, **changes})  # type: ignore[arg-type]


def test_a_board_counts_trials_epochs_and_rungs() -> None:
    seen = board()
    seen.started(1, "a")
    seen.started(2, "b")
    seen.reported(1, 1, 0.5)
    seen.reported(2, 1, 0.25)
    seen.ended(2, State.STOPPED)
    seen.reported(1, 2, 0.75)
    seen.started(3, "a")
    seen.reported(3, 1, 0.625)
    assert seen.done == 1
    assert seen.states == Counter({State.STOPPED: 1})
    assert sorted(seen.running) == [1, 3]
    assert seen.epochs == seen.epochs_here == 4
    assert seen.reached == Counter({1.0: 3, 2.0: 1})
    assert seen.stopped == Counter({1.0: 1})
    assert seen.best == {"a": (0.75, 1), "b": (0.25, 2)}
    assert (seen.running[1].epoch, seen.running[1].objective) == (2, 0.75)


def test_a_report_that_passes_two_rungs_counts_at_both() -> None:
    seen = board()
    seen.started(1, "a")
    seen.reported(1, 4, 0.5)
    assert seen.reached == Counter({1.0: 1, 2.0: 1, 4.0: 1})


def test_the_best_is_the_smallest_when_the_objective_is_minimised() -> None:
    seen = board(sign=-1)
    seen.started(1, "a")
    seen.started(2, "a")
    seen.reported(1, 1, 0.5)
    seen.reported(2, 1, 0.25)
    seen.reported(1, 2, 0.375)
    assert seen.best == {"a": (0.25, 2)}


def test_a_trials_best_report_counts_not_its_last() -> None:
    seen = board()
    seen.started(1, "a")
    seen.reported(1, 1, 0.75)
    seen.reported(1, 2, 0.5)
    assert seen.best == {"a": (0.75, 1)}


def test_the_earlier_of_two_equal_trials_is_best() -> None:
    seen = board()
    for number in (1, 2):
        seen.started(number, "a")
        seen.reported(number, 1, 0.5)
    assert seen.best == {"a": (0.5, 1)}


@pytest.mark.parametrize("state", [State.DIVERGED, State.FAILED, State.LOST])
def test_a_trial_that_diverged_failed_or_was_lost_is_never_best(state: State) -> None:
    seen = board()
    for number, score in ((1, 0.5), (2, 0.75)):
        seen.started(number, "a")
        seen.reported(number, 1, score)
    seen.reported(2, 2, None)
    assert seen.best == {"a": (0.75, 2)}  # while it looks well
    seen.ended(2, state)
    assert seen.best == {"a": (0.5, 1)}


def test_a_second_attempts_repeated_epochs_are_not_counted_again() -> None:
    seen = board()
    seen.started(1, "a")
    seen.reported(1, 1, 0.5)
    seen.reported(1, 2, 0.5)
    seen.started(1, "a")  # its process died
    for epoch in (1, 2, 3):
        seen.reported(1, epoch, 0.5)
    assert seen.epochs == 3
    assert seen.reached == Counter({1.0: 1, 2.0: 1})


def test_the_time_left_is_the_mean_epochs_of_an_ended_trial_times_those_to_come_over_the_rate() -> None:
    seen = board(trials=4, since=time.monotonic() - 10)
    assert seen.seconds_left is None  # nothing ended: nothing to guess from
    for number, epochs in ((1, 4), (2, 2)):
        seen.started(number, "a")
        seen.reported(number, epochs, 0.5)
        seen.ended(number, State.COMPLETED)
    seen.started(3, "a")
    seen.reported(3, 1, 0.5)
    # 7 epochs in 10 s; an ended trial took 3; two are to come and one of their epochs is done: 5 epochs at 0.7 / s.
    assert seen.rate == pytest.approx(0.7, rel=0.01)
    assert seen.seconds_left == pytest.approx(5 / 0.7, rel=0.01)


def test_a_board_shows_what_an_earlier_driver_reached(tmp_path: Path) -> None:
    with Record(tmp_path) as record:
        for number in (1, 2, 3):
            record.add_trial(number, arm="a", phase="search", config={}, params={}, distributions={})
            record.start_attempt(number)
        for number, epoch, score in ((1, 1, 0.5), (2, 1, 0.25), (1, 2, 0.75), (3, 1, 0.5)):
            record.add_report(number, 1, epoch, {"epoch": epoch, "val_accuracy": score})
        record.end_trial(2, State.STOPPED)
    seen = board()
    with Record.reader(tmp_path) as reader:
        seen.replay(reader.trials(), reader.curves())
    assert (seen.done, seen.running, seen.epochs, seen.epochs_here) == (1, {}, 4, 0)
    assert seen.best == {"a": (0.75, 1)}
    assert seen.reached == Counter({1.0: 3, 2.0: 1})
    assert seen.stopped == Counter({1.0: 1})
    seen.started(1, "a")  # carried on from epoch 2
    seen.reported(1, 3, 0.5)
    assert (seen.epochs, seen.epochs_here) == (5, 1)
    assert sorted(seen.running) == [1]


def test_the_line_says_it_all() -> None:
    seen = board(since=time.monotonic() - 2)
    seen.started(1, "a")
    seen.reported(1, 1, 0.5)
    seen.ended(1, State.STOPPED)
    seen.started(2, "b")
    line = seen.line()
    assert line.startswith(
        "1/8 trials ended (1 stopped); 1 in flight; best val_accuracy: a 0.5000 (trial 1); 0.50 epochs/s; about 1"
    )
    assert line.endswith("s left")  # 7 trials of 1 epoch at 0.5 a second
    assert board().line().startswith("0/8 trials ended; 0 in flight; no report yet; ")


def test_the_plain_view_prints_a_line_and_not_more_often_than_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    stream = io.StringIO()
    with PlainView(board(since=now), stream) as plain:
        plain.started(1, "a")
        for _ in range(250):  # four a second
            plain.reported(1, 1, 0.5)
            now += 0.25
    lines = stream.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["[0s]", "[10s]", "[20s]", "[30s]", "[40s]", "[50s]", "[1m00s]"]
    assert all("] 0/8 trials ended; 1 in flight; " in line for line in lines)
    assert all("best val_accuracy: a 0.5000" in line for line in lines[1:])
    assert "\x1b" not in stream.getvalue()


def test_quiet_shows_notes_only() -> None:
    stream = io.StringIO()
    with view(board(), quiet=True, stream=stream) as quiet:
        quiet.started(1, "a")
        quiet.reported(1, 1, 0.5)
        quiet.note("a node died [really]")
        quiet.ended(1, State.COMPLETED)
    assert stream.getvalue() == "a node died [really]\n"
    assert quiet.board.done == 1  # it counts all the same


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_plain_lines_and_a_terminal_the_picture() -> None:
    assert type(view(board(), quiet=False, stream=io.StringIO())) is PlainView
    assert type(view(board(), quiet=False, stream=Terminal())) is LiveView
    assert type(view(board(), quiet=True, stream=Terminal())) is View


def test_the_live_view_shows_the_board_on_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    seen = board(trials=100, arms=["no [bold]L2[/bold]", "L2"], since=time.monotonic() - 3700)
    terminal = Terminal()
    with LiveView(seen, terminal) as live:
        for number in range(1, 31):
            live.started(number, "L2" if number % 2 else "no [bold]L2[/bold]")
            live.reported(number, 2, number / 100)
        for number in range(1, 11):
            live.ended(number, State.STOPPED if number % 2 else State.DIVERGED)
        live.reported(30, 3, None)
        live.note("a note above the picture")
    written = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert max(map(len, re.split(r"[\r\n]", written))) <= 80
    assert "a note above the picture" in written
    console = Console(record=True, width=80, file=io.StringIO())
    console.print(live.render())
    text = console.export_text()
    rows = [line.split() for line in text.splitlines()]
    assert ["epoch", "1", "30", "0"] in rows
    assert ["epoch", "2", "30", "5"] in rows  # trials 1 3 5 7 9
    assert ["epoch", "4", "0", "0"] in rows
    assert ["L2", "0.2900", "29"] in rows
    assert ["no", "[bold]L2[/bold]", "0.3000", "30"] in rows  # an arm's name is no markup
    assert ["30", "no", "[bold]L2[/bold]", "3", "-"] not in rows  # only the first dozen in flight
    assert ["12", "no", "[bold]L2[/bold]", "2", "0.1200"] in rows
    assert "stopped 5" in text
    assert "diverged 5" in text
    assert "10/100 trials" in text
    assert "1h01m gone" in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (75, "1m15s"), (3600, "1h00m"), (90061, "25h01m")]
)
def test_a_clock_reads_as_people_say_it(seconds: float, text: str) -> None:
    assert clock(seconds) == text
