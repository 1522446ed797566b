"""What a user sees while a sweep runs."""

import heapq
import io
import random
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from rungwise.results.io.terminal import Terminal as Plain
from rungwise.results.progress.board import Board
from rungwise.results.progress.live_view import LiveView, PlainView, View, view
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.results.record.writer import Record


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


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_the_time_left_is_what_the_trials_in_flight_and_to_come_take_at_the_pace_seen() -> None:
    clock = Clock()
    seen = board(trials=4, now=clock, since=0.0)
    assert seen.seconds_left is None  # nothing ended: nothing to guess from
    for number, begins in ((1, 0.0), (2, 8.0)):  # one at a time, 2 s an epoch
        clock.at = begins
        seen.started(number, "a")
        for epoch in (1, 2, 3, 4):
            clock.at = begins + 2.0 * epoch
            seen.reported(number, epoch, 0.5)
        seen.ended(number, State.COMPLETED)
    clock.at = 16.0
    seen.started(3, "a")
    clock.at = 17.0
    # 7 s of the third trial, 8 s of the fourth
    assert seen.seconds_left == pytest.approx(15)


def simulated(luck: random.Random, trials: int, slots: int, repeats: int, rungs: tuple[float, ...]) -> list[float]:
    """What the board guesses over what it then took, at each report of a sweep's second half.

    Trials differ in pace, a third of them passes a rung, and the repeats begin when the search has ended.
    """
    clock = Clock()
    seen = board(trials=trials, rungs=list(rungs), repeats=repeats, now=clock, since=0.0)
    clock.at = 5.0  # processes start
    events: list[tuple[float, int, float, str]] = []
    pace = {number: luck.lognormvariate(0.0, 0.2) for number in range(1, trials + repeats + 1)}
    to_deal = [(number, "search" if number <= trials else "confirm") for number in pace]

    def deal() -> None:
        while to_deal and len(seen.running) < slots:
            if to_deal[0][1] == "confirm" and any(one.phase == "search" for one in seen.running.values()):
                return
            number, phase = to_deal.pop(0)
            seen.started(number, "a", phase)
            heapq.heappush(events, (clock.at + pace[number], number, 1.0, phase))

    deal()
    guesses: list[tuple[float, float | None]] = []
    while events:
        clock.at, number, epoch, phase = heapq.heappop(events)
        seen.reported(number, epoch, 0.5)
        if epoch == rungs[-1]:
            seen.ended(number, State.COMPLETED)
        elif phase == "search" and epoch in rungs and luck.random() > 1 / 3:
            seen.ended(number, State.STOPPED)
        else:
            heapq.heappush(events, (clock.at + pace[number], number, epoch + 1, phase))
        deal()
        guesses.append((clock.at, seen.seconds_left))
    end = clock.at
    return [left / (end - at) for at, left in guesses if left is not None and end / 2 < at < 0.98 * end]


@pytest.mark.parametrize(
    ("trials", "slots", "repeats", "rungs"),
    [
        (48, 4, 12, (1.0, 3.0, 9.0)),  # ASHA, then the confirmation
        (48, 1, 12, (1.0, 3.0, 9.0)),
        (200, 8, 12, (1.0, 3.0, 9.0)),
        (24, 4, 60, (1.0, 3.0, 9.0, 27.0)),  # more confirmation than search
        (48, 4, 12, (9.0,)),  # no early stopping
    ],
)
def test_the_time_left_is_right_within_half_in_a_sweeps_second_half(
    trials: int, slots: int, repeats: int, rungs: tuple[float, ...]
) -> None:
    ratios = [ratio for seed in range(10) for ratio in simulated(random.Random(seed), trials, slots, repeats, rungs)]
    within = sum(1 / 1.5 < ratio < 1.5 for ratio in ratios) / len(ratios)
    assert len(ratios) > 500
    assert within > 0.97
    assert 1 / 3 < min(ratios) <= max(ratios) < 3


def test_a_board_shows_what_an_earlier_driver_reached(tmp_path: Path) -> None:
    with Record(tmp_path) as record:
        for number in (1, 2, 3):
            record.add_trial(number, arm="a", phase="search", config={}, params={}, distributions={})
            record.start_attempt(number)
        for number, epoch, score in ((1, 1, 0.5), (2, 1, 0.25), (1, 2, 0.75), (3, 1, 0.5)):
            record.add_report(number, 1, epoch, {"epoch": epoch, "val_accuracy": score})
        record.end_trial(2, State.STOPPED)
    seen = board()
    with Reader(tmp_path) as reader:
        seen.replay(reader.trials(), reader.curves(), reader.definition())
    assert (seen.done, seen.running, seen.epochs, seen.epochs_here) == (1, {}, 4, 0)
    assert seen.best == {"a": (0.75, 1)}
    assert seen.reached == Counter({1.0: 3, 2.0: 1})
    assert seen.stopped == Counter({1.0: 1})
    seen.started(1, "a")  # carried on from epoch 2
    seen.reported(1, 3, 0.5)
    assert (seen.epochs, seen.epochs_here) == (5, 1)
    assert sorted(seen.running) == [1]


def test_the_line_says_it_all() -> None:
    clock = Clock()
    seen = board(now=clock, since=0.0)
    seen.started(1, "a")
    clock.at = 2.0
    seen.reported(1, 1, 0.5)
    seen.ended(1, State.STOPPED)
    seen.started(2, "b")
    # 7 trials of 1 epoch, 2 s each, one at a time
    assert seen.line() == (
        "2 s elapsed, about 14 s left; 1/8 trials (1 stopped), 0.50 epochs/s; best val_accuracy: a 50.00% (trial 1)"
    )
    assert re.fullmatch(r"[\d. e-]+s elapsed; 0/8 trials, 0.00 epochs/s; no report yet", board().line())


def test_the_plain_view_prints_a_line_and_not_more_often_than_it_should() -> None:
    clock, stream = Clock(), io.StringIO()
    clock.at = 100.0
    with PlainView(board(now=clock, since=100.0), stream) as plain:
        plain.started(1, "a")
        for tenth in range(350):  # 35 s
            clock.at = 100.0 + tenth / 10
            plain.reported(1, 1, 0.5)
    lines = stream.getvalue().splitlines()
    assert [line.partition(" elapsed")[0] for line in lines] == ["0 s", "10 s", "20 s", "30 s"]
    assert all("0/8 trials" in line and "best val_accuracy: a 50.00%" in line for line in lines)
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
    arms = ["no [bold]L2[/bold]", "L2"]
    seen = board(trials=100, arms=arms, title="mine on digits", since=time.monotonic() - 3700)
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
    console = Plain(record=True, width=80, file=io.StringIO())
    console.print(live.render())
    text = console.export_text()
    rows = [line.split() for line in text.splitlines()]
    assert ["epoch", "1", "30", "0"] in rows
    assert ["epoch", "2", "30", "5"] in rows  # trials 1 3 5 7 9
    assert ["epoch", "4", "0", "(the", "end)"] in rows
    assert ["L2", "29.00%", "29"] in rows
    assert ["no", "[bold]L2[/bold]", "30.00%", "30"] in rows  # an arm's name is no markup
    assert ["trial", "30", "search", "no", "[bold]L2[/bold]", "3", "-"] not in rows  # only the first dozen
    assert ["trial", "12", "search", "no", "[bold]L2[/bold]", "2", "12.00%"] in rows
    assert "10/100 trials (5 diverged, 5 stopped)" in text
    assert "mine on digits  1 h 02 min elapsed" in text


@pytest.mark.parametrize("columns", [60, 100, 200])
def test_the_live_view_fits_the_terminal_and_tells_retrained_trials_from_the_search(columns: int) -> None:
    seen = board(title="mnist_l2 on mnist", repeats=4)
    for number in (1, 2):
        seen.started(number, "a")
        seen.reported(number, 4, 0.5)
        seen.ended(number, State.COMPLETED)
    seen.started(9, "a", "confirm")
    seen.reported(9, 4, 0.5)
    seen.ended(9, State.COMPLETED)
    seen.started(10, "b", "confirm")
    terminal = Terminal()
    live = LiveView(seen, terminal)
    live.console.size = (columns, 40)  # type: ignore[assignment]
    console = Plain(record=True, width=columns, file=io.StringIO())
    console.print(live.render())
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= columns
    words = " ".join(text.split())
    assert "2/8 trials (2 completed), 1 of about 4 retrained" in words
    assert "trial 10 confirm b 0" in words
    beside = [line for line in text.splitlines() if "best val_accuracy" in line and "compared at" in line]
    assert bool(beside) == (columns == 200)


def test_tables_stand_side_by_side_only_where_no_name_is_broken() -> None:
    for columns in range(60, 200, 10):
        seen = board(arms=["no L2", "L2"])
        seen.started(1, "no L2")
        live = LiveView(seen, Terminal())
        live.console.size = (columns, 40)  # type: ignore[assignment]
        console = Plain(record=True, width=columns, file=io.StringIO())
        console.print(live.render())
        words = " ".join(console.export_text().split())
        assert "trial 1 search no L2 0" in words or "epoch 1 0 0 trial 1 search no L2" in words, columns
