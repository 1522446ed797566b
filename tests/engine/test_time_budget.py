"""A time budget ends the search early enough for the confirmation, and `rungwise stop` ends one trial."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.loop import Loop
from support.sweeping import Run, stopping

from rungwise.distributions import FloatDistribution
from rungwise.engine.execution.signals import Signals
from rungwise.engine.execution.stopping import Stop
from rungwise.engine.experiment.command_line import parse
from rungwise.engine.experiment.experiment import resolve
from rungwise.engine.experiment.sweep import Sweep
from rungwise.engine.search.reruns import repeats
from rungwise.results.progress.board import SLOWER, Board
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State

SWEEP = Sweep("short", {"lr": FloatDistribution(0.1, 1.0)}, arms={"a": {}, "b": {}}, scheduler="none", epochs=4)


class Clock:
    """`time.monotonic` that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    with monkeypatch.context() as patched:
        patched.setattr(time, "monotonic", made)
        yield made


def test_the_search_ends_when_the_time_left_is_what_follows_it_and_what_follows_is_not_cut_short(clock: Clock) -> None:
    stop, ended = Stop(Signals(), deadline=1100.0), list[float]()
    stop.gets_further()
    stop.on_search_over = lambda: ended.append(clock.now)
    stop.seconds_after_search = lambda: None  # no search has a trial with a report
    clock.now = 1050.0
    assert not stop.stop_all()
    stop.seconds_after_search = lambda: 30.0
    clock.now = 1069.0
    assert not stop.stop_all()
    assert not stop.search_over
    for now in (1070.0, 1071.0, 1200.0):
        clock.now = now
        assert not stop.stop_all()
    assert ended == [1070.0]
    assert stop.search_over
    assert stop.interrupted  # the same command goes on with the search


def test_at_the_deadline_all_stops_but_not_before_something_was_trained_nor_once_all_was(clock: Clock) -> None:
    stop = Stop(Signals(), deadline=1100.0)
    stop.on_search_over = pytest.fail
    clock.now = 1200.0
    assert not stop.stop_all()
    stop.seconds_after_search = lambda: 0.0  # known from an earlier session
    assert not stop.stop_all()
    stop.seconds_after_search = lambda: None  # not every search has a report
    stop.gets_further()
    stop.is_searching = False  # the last trial has ended
    assert not stop.stop_all()
    assert not stop.interrupted
    stop.is_searching = True
    assert stop.stop_all()
    assert stop.interrupted


@pytest.mark.parametrize(("written", "minutes"), [("90s", 1.5), ("20m", 20.0), ("1.5h", 90.0), ("7", 7.0)])
def test_a_budget_may_have_a_unit(written: str, minutes: float) -> None:
    assert parse(SWEEP, ["--time-budget", written]).time_budget == minutes
    assert parse(SWEEP, [f"--time-budget={written}"]).time_budget == minutes


@pytest.mark.long  # two minutes
def test_a_sweep_whose_budget_is_shorter_than_its_start_ends_when_it_is_resumed_often_enough(tmp_path: Path) -> None:
    with stopping(Run(tmp_path, logged=False)) as run:
        flags = "--trials 3 --epochs 2 --concurrency 1 --time-budget 0.01 --confirm-seeds 1"
        ended = -1
        while "finished" not in run.said:
            before, ended = ended, len(run.query("SELECT trial FROM trials WHERE state IN ('COMPLETED', 'STOPPED')"))
            assert ended > before, run.said
            assert run.finish(*flags.split()) == 0
        assert "tiny: interrupted" in run.said or "tiny: ended by its time budget" in run.said
        states = run.query("SELECT DISTINCT state FROM trials WHERE phase = 'search'")
        assert {state for (state,) in states} <= {"COMPLETED", "STOPPED"}


def test_what_follows_is_the_repeats_at_the_pace_of_the_trials(clock: Clock) -> None:
    board = Board(8, ["a"], [4.0], 1, "accuracy", repeats=5, closing=7.0, now=clock, since=clock.now)
    board.started(1, "a")
    board.started(2, "a")
    assert board.seconds_after_search is None
    clock.now += 3.0
    board.reported(1, 1.0, 0.5)  # 3 s an epoch, or less: it had to start
    assert board.seconds_after_search is None
    clock.now += 3.0
    assert board.seconds_after_search == SLOWER * 3 * (4 * 3.0) + 7.0  # five repeats on two processes
    clock.now += 3.0
    assert board.seconds_after_search == SLOWER * 3 * (4 * 3.0) + 7.0
    board.reported(1, 4.0, 0.5)
    board.ended(1, State.COMPLETED)
    board.started(3, "a", "confirm")
    board.ended(3, State.COMPLETED)
    assert board.seconds_after_search == SLOWER * 2 * (3.0 + 3 * 2.0) + 7.0


def test_the_start_of_a_trial_that_stopped_early_counts_once_in_what_a_full_training_takes(clock: Clock) -> None:
    board = Board(8, ["a"], [1.0, 2.0, 400.0], 1, "accuracy", repeats=1, now=clock, since=clock.now)
    for number, epochs in ((1, 1), (2, 2), (3, 1)):
        board.started(number, "a")
        clock.now += 4.0  # its process starts
        for epoch in range(1, epochs + 1):
            clock.now += 0.5
            board.reported(number, float(epoch), 0.5)
        if number == 1:
            assert board.seconds_after_search is None  # the next report may be near
        board.ended(number, State.STOPPED)
    assert board.seconds_after_search == SLOWER * (4.5 + 399 * 0.5)


def test_the_time_left_is_not_longer_than_the_budget_and_then_that_of_the_confirmation(clock: Clock) -> None:
    board = Board(80, ["a"], [4.0], 1, "accuracy", repeats=2, now=clock, since=clock.now, deadline=clock.now + 60)
    board.started(1, "a")
    clock.now += 8.0
    board.reported(1, 4.0, 0.5)
    board.ended(1, State.COMPLETED)
    assert board.seconds_left == 52.0
    board.is_confirming = True
    assert board.seconds_left == 16.0


def test_trials_in_flight_end_at_their_next_report_and_what_each_search_has_is_confirmed(
    tmp_path: Path,
) -> None:
    loop = Loop(tmp_path, SWEEP, trials=8, in_flight=3)
    first, second, third = loop.deal(), loop.deal(), loop.deal()
    assert not isinstance(first, str | None)
    assert not isinstance(second, str | None)
    assert not isinstance(third, str | None)
    loop.report(first, 0.5, 1)
    assert not loop.search.budget.all_have_reported
    loop.report(second, 0.25, 1)
    assert loop.search.budget.all_have_reported
    loop.search.budget.is_over = True
    assert loop.report(first, 0.5, 2)
    assert loop.report(second, 0.75, 2)
    assert loop.report(third, 0.625, 1)
    assert loop.deal() == "FINISHED"  # no search has another trial
    loop.record.commit()
    with Reader(tmp_path) as reader:
        trials, curves = reader.trials(), reader.curves()
    why = "the time budget ended the search"
    assert [(one.state, one.stop_rung, one.reason) for one in trials] == [
        (State.STOPPED, rung, why) for rung in (2, 2, 1)
    ]
    experiment = replace(resolve(SWEEP), trials=8, searches=1, confirm_configs=1, confirm_seeds=2, untuned_seeds=0)
    assert repeats(experiment, trials, curves) == []
    confirmed = [one.source.trial for one in repeats(experiment, trials, curves, is_over=True) if one.source]
    assert sorted(set(confirmed)) == [1, 2]  # trained longer than trial 3


def test_a_trial_that_a_user_stops_ends_at_its_next_report_and_keeps_its_scores(tmp_path: Path) -> None:
    loop = Loop(tmp_path, SWEEP, trials=2, in_flight=2)
    first, second = loop.deal(), loop.deal()
    assert not isinstance(first, str | None)
    assert not isinstance(second, str | None)
    loop.rungs.unwanted = {1}
    assert loop.report(first, 0.5, 1)
    assert not loop.report(second, 0.5, 1)
    loop.record.commit()
    with Reader(tmp_path) as reader:
        trial = reader.trials()[0]
        assert (trial.state, trial.stop_rung, trial.reason) == (State.STOPPED, 1, "rungwise stop")
        assert list(reader.curves()[1]) == [1]
