"""The referee without Ray: lanes are lists of what they were told; search, rungs, recorder and record are real."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState
from support.loop import Loop

from rungwise import FloatDistribution, Sweep
from rungwise.engine.execution.concurrency import ConcurrencyPolicy
from rungwise.engine.execution.coordinator import PackCoordinator
from rungwise.engine.execution.signals import Signals
from rungwise.engine.execution.stopping import Stop
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.trainable.messages import PackResults, TrialAssignment, TrialEnd, TrialResult, WorkerAddress

EPOCHS = 4
SWEEP = Sweep(name="tiny", space={"lr": FloatDistribution(1e-3, 1e-1, log=True)}, epochs=EPOCHS, grace=1.0, eta=2.0)

HERE = WorkerAddress("here", 1, "10.0.0.9")
Score = Callable[[Any, int], float]


def by_rate(config: dict[str, Any], step: int) -> float:
    return float(step) - abs(config["lr"] - 0.01)


def report(number: int, value: float, step: int = 1, attempt: int = 1, state: TrialEnd | None = None) -> TrialResult:
    metrics = {"epoch": float(step), "val_accuracy": value}
    return TrialResult(
        number, attempt, step=step, objective=value, metrics=metrics, device="cpu", state=state, worker=HERE
    )


class Lanes:
    """A referee over the record in `folder`, and what its lanes hold."""

    def __init__(
        self,
        folder: Path,
        *,
        sweep: Sweep = SWEEP,
        trials: int = 12,
        share: int = 3,
        retries: int = 3,
        sampler: str = "tpe",
    ) -> None:
        self.loop = Loop(folder, sweep, trials=trials, in_flight=99, sampler=sampler)
        self.stop = Stop(Signals(), None)
        self.referee = PackCoordinator(
            self.loop.search, self.loop.rungs, self.loop.recorder, self.stop, trials_per_worker=share, retries=retries
        )
        self.held: dict[str, dict[int, TrialAssignment]] = {}  # lane -> {trial: its assignment}
        self.steps: dict[int, int] = {}
        self.trials = {name: SimpleNamespace(trial_id=name, num_failures=0, status="RUNNING") for name in "ab"}

    def join(self, name: str, slots: int = 99) -> None:
        """A lane's process begins, and says who it is."""
        held = self.held[name] = {}

        def answer(stopped: list[int], assignments: list[TrialAssignment]) -> None:
            for number in stopped:
                held.pop(number, None)
            held.update({assignment.trial: assignment for assignment in assignments})

        actor = SimpleNamespace(answer=SimpleNamespace(remote=answer))
        self.tell(name, [], slots, actor)

    def tell(self, name: str, results: list[TrialResult], slots: int = 99, actor: Any = None) -> None:
        result = PackResults(tuple(results), slots, actor=actor).to_tune() | {"pid": 1}
        self.referee.on_trial_result(0, list(self.trials.values()), self.trials[name], result)
        assert result == {"pid": 1}  # Tune keeps what is left

    def train(self, name: str, score: Score = by_rate, slots: int = 99) -> None:
        """All trials of a lane reach their next report."""
        held, results = self.held[name], []
        for number, assignment in held.items():
            step = self.steps[number] = self.steps.get(number, 0) + 1
            state = TrialEnd.COMPLETED if step == EPOCHS else None
            results.append(report(number, score(assignment.config, step), step, assignment.attempt, state))
        for result in results:
            if result.ended:
                del held[result.trial]
        self.tell(name, results, slots)

    def die(self, name: str, *, counted: bool = True) -> None:
        """A lane's process dies, and Tune will start another."""
        self.trials[name].num_failures += counted
        self.held[name] = {}
        self.referee.on_trial_recover(0, list(self.trials.values()), self.trials[name])

    def run(self, score: Score = by_rate) -> None:
        """To the end of the search."""
        for name in itertools.islice(itertools.cycle(self.held), 500):
            if self.referee.stop_all():
                return
            self.train(name, score)
        raise AssertionError("the search did not end")


def test_every_member_is_a_trial_of_its_own_in_the_record_the_study_and_the_view(tmp_path: Path) -> None:
    lanes = Lanes(tmp_path)
    lanes.join("a")
    lanes.join("b")
    assert [len(held) for held in lanes.held.values()] == [3, 3]  # as many as a lane may hold
    lanes.run()
    rows = lanes.loop.rows()
    assert list(rows) == list(range(1, 13))
    assert {row.state for row in rows.values()} == {State.COMPLETED, State.STOPPED}
    assert all(row.node == "here:1" and row.attempts == 1 for row in rows.values())
    words = {State.COMPLETED: TrialState.COMPLETE, State.STOPPED: TrialState.PRUNED}
    assert [trial.state for trial in lanes.loop.live()] == [words[row.state] for row in rows.values()]
    assert [trial.state for trial in lanes.loop.rebuilt()] == [trial.state for trial in lanes.loop.live()]
    assert lanes.loop.board.done == 12
    with Reader(tmp_path) as reader:
        for number, curve in reader.curves().items():
            assert list(curve) == list(range(1, len(curve) + 1))
            assert (len(curve) == EPOCHS) == (rows[number].state is State.COMPLETED)


def test_a_lane_takes_no_more_than_it_can_hold(tmp_path: Path) -> None:
    lanes = Lanes(tmp_path)
    lanes.join("a", slots=2)
    assert list(lanes.held["a"]) == [1, 2]
    lanes.train("a", slots=2)
    assert len(lanes.held["a"]) == 2


def test_lanes_of_one_decide_as_trials_one_a_process_do(tmp_path: Path) -> None:
    for name in ("packed", "plain"):
        (tmp_path / name).mkdir()
    lanes = Lanes(tmp_path / "packed", share=1)
    lanes.join("a")
    lanes.run()
    plain = Loop(tmp_path / "plain", SWEEP, trials=12)
    while (trial := plain.deal()) != "FINISHED":
        assert not isinstance(trial, str | None)
        plain.train(trial, by_rate)
    ours, theirs = lanes.loop.rows(), plain.rows()
    assert [(row.state, row.params, row.stop_rung, row.cutoff) for row in ours.values()] == [
        (row.state, row.params, row.stop_rung, row.cutoff) for row in theirs.values()
    ]


@pytest.mark.parametrize("scheduler", ["asha", "hyperband"])
def test_what_comes_together_is_judged_in_any_order_alike(tmp_path: Path, scheduler: str) -> None:
    sweep = Sweep(**{**vars(SWEEP), "scheduler": scheduler})
    seen = []
    for index, order in enumerate(itertools.permutations(range(4))):
        folder = tmp_path / str(index)
        folder.mkdir()
        lanes = Lanes(folder, sweep=sweep, trials=4, share=4)
        lanes.join("a")
        values = dict(zip(lanes.held["a"], (0.5, 0.25, 0.875, 0.75), strict=True))
        results = [report(number, value) for number, value in values.items()]
        lanes.tell("a", [results[place] for place in order])
        seen.append({n: (row.state, row.stop_rung, row.cutoff) for n, row in lanes.loop.rows().items()})
    assert all(one == seen[0] for one in seen)
    if scheduler == "asha":  # each against the median of the three others
        assert seen[0] == {
            1: (State.STOPPED, 1.0, 0.75),
            2: (State.STOPPED, 1.0, 0.75),
            3: (State.RUNNING, None, None),
            4: (State.RUNNING, None, None),
        }


def test_a_lane_that_dies_loses_no_trial_and_enters_no_rung_twice(tmp_path: Path) -> None:
    lanes = Lanes(tmp_path, trials=6)
    lanes.join("a")
    lanes.join("b")
    lanes.train("a", lambda *_: 0.5)
    lanes.train("b", lambda *_: 0.5)
    held = list(lanes.held["a"])
    lanes.die("a")
    assert list(lanes.held["b"]) == [4, 5, 6]  # which is full
    lanes.join("a")
    assert list(lanes.held["a"]) == held
    assert [assignment.attempt for assignment in lanes.held["a"].values()] == [2, 2, 2]
    lanes.steps |= dict.fromkeys(held, 0)  # from the start: there was no checkpoint
    lanes.run(lambda *_: 0.5)
    rows = lanes.loop.rows()
    assert [row.attempts for row in rows.values()] == [2, 2, 2, 1, 1, 1]
    assert {row.state for row in rows.values()} == {State.COMPLETED}
    (rule,) = lanes.loop.rungs._rules[("all", 1)]
    assert [len(rung.scores) for rung in rule.rungs] == [6, 6]  # at reports 2 and 1
    with Reader(tmp_path) as reader:
        keys = [(report.trial, report.attempt, report.step) for report in reader.reports()]
    assert sorted(keys) == sorted(
        [(n, 1, 1) for n in held] + [(n, 2, s) for n in held for s in range(1, 5)]
        + [(n, 1, s) for n in (4, 5, 6) for s in range(1, 5)]
    )  # fmt: skip


def test_other_lanes_take_what_a_dead_lane_held(tmp_path: Path) -> None:
    lanes = Lanes(tmp_path, trials=4, share=4)
    lanes.join("a")
    lanes.join("b")
    assert not lanes.held["b"]
    lanes.die("a")
    lanes.train("b")
    assert sorted(lanes.held["b"]) == [1, 2, 3, 4]
    lanes.tell("a", [report(1, 9.0, step=4)])  # of the dead: nobody listens
    del lanes.held["a"]
    lanes.run()
    assert all(row.state.ended for row in lanes.loop.rows().values())


def test_what_may_kill_its_neighbours_is_trained_alone_until_it_is_lost(tmp_path: Path) -> None:
    lanes = Lanes(tmp_path, trials=4, share=2, retries=3)
    lanes.join("a")
    killer = 2
    deaths = 0
    for _ in range(60):
        if lanes.referee.stop_all():
            break
        if killer in lanes.held["a"]:
            together = list(lanes.held["a"])
            lanes.die("a")
            deaths += 1
            assert deaths <= 2 or together == [killer]
            lanes.join("a")
        else:
            lanes.steps |= {n: 0 for n in lanes.held["a"] if lanes.steps.get(n, 0) >= EPOCHS}
            lanes.train("a", lambda *_: 0.5)
    rows = lanes.loop.rows()
    assert {number for number, row in rows.items() if row.state is State.LOST} == {killer}
    assert rows[killer].reason == "its process died"
    assert all(row.state is State.COMPLETED for number, row in rows.items() if number != killer)
    assert lanes.loop.live()[killer - 1].state is TrialState.FAIL


def test_a_machine_that_was_preempted_counts_against_no_trial(tmp_path: Path) -> None:
    lanes = Lanes(tmp_path, trials=3, retries=0)
    for _ in range(3):
        lanes.join("a")
        lanes.train("a")
        lanes.die("a", counted=False)
        lanes.steps.clear()
    assert State.LOST not in {row.state for row in lanes.loop.rows().values()}


def test_without_any_lane_left_the_sweep_ends_and_its_trials_can_go_on(tmp_path: Path) -> None:
    lanes = Lanes(tmp_path, trials=4, share=2)
    lanes.join("a")
    lanes.join("b")
    for name in "ab":
        assert not lanes.referee.stop_all()
        trial = lanes.trials[name]
        trial.get_error = lambda: "Traceback ...\nNo room in /tmp"
        lanes.referee.on_trial_error(0, list(lanes.trials.values()), trial)
        trial.status = "ERROR"
    assert lanes.referee.stop_all()
    assert lanes.stop.failure == "every process that trains died more often than is tried again: No room in /tmp"
    assert {row.state for row in lanes.loop.rows().values()} == {State.RUNNING}


def test_what_raised_together_with_others_is_dealt_again(tmp_path: Path) -> None:
    lanes = Lanes(tmp_path, trials=2)
    lanes.join("a")
    lanes.held["a"].clear()
    lanes.tell("a", [TrialResult(1, lost="why"), TrialResult(2, lost="why")])
    assert [assignment.attempt for assignment in lanes.held["a"].values()] == [2, 2]


def test_a_result_of_a_given_up_attempt_or_of_nobody_is_refused(tmp_path: Path) -> None:
    lanes = Lanes(tmp_path, trials=2)
    lanes.join("a")
    lanes.die("a")
    lanes.join("a")
    lanes.tell("a", [report(1, 0.5, attempt=1), report(77, 0.5)])
    lanes.loop.record.commit()
    with Reader(tmp_path) as reader:
        assert list(reader.reports()) == []
        assert [kind for _, kind, _, _ in reader.events()].count("report refused") == 1


def test_a_killed_driver_goes_on_with_what_was_in_flight(tmp_path: Path) -> None:
    first = Lanes(tmp_path, trials=6)
    first.join("a")
    first.train("a", lambda *_: 0.5)
    first.loop.record.commit()
    first.loop.crash()
    second = Lanes(tmp_path, trials=6)
    second.join("a")
    assert sorted(second.held["a"]) == [1, 2, 3]
    assert [(assignment.attempt, assignment.reported) for assignment in second.held["a"].values()] == [(2, 1)] * 3
    second.run(lambda *_: 0.5)
    assert {row.state for row in second.loop.rows().values()} == {State.COMPLETED}
    (rule,) = second.loop.rungs._rules[("all", 1)]
    assert [len(rung.scores) for rung in rule.rungs] == [6, 6]


@pytest.mark.long  # 10,000 trials: a minute or two
def test_the_referee_takes_under_5_ms_a_trial_and_stays_flat(tmp_path: Path) -> None:
    """Random suggestions: what a sampler takes to suggest is its own, and is measured elsewhere."""
    lanes = Lanes(tmp_path, sampler="random", trials=10_000, share=8)
    lanes.join("a")
    lanes.join("b")
    took: list[float] = []
    done, began = 0, time.process_time()
    while not lanes.referee.stop_all():
        for name in "ab":
            lanes.train(name)
        if lanes.loop.board.done >= done + 1000:
            now = time.process_time()
            took.append((now - began) / (lanes.loop.board.done - done))
            done, began = lanes.loop.board.done, now
    print("ms a trial of each thousand:", [round(1000 * second, 2) for second in took])
    assert max(took) < 0.005
    assert took[-1] < 2 * took[0]
    assert statistics.median(took[-3:]) < 1.5 * statistics.median(took[:3])


# -- how many trials, in how many processes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fit", "trials", "concurrency", "lanes", "share", "in_flight"),
    [
        (2, 32, 0, 2, 4, 8),  # a quarter of the trials in flight, dealt to both
        (2, 96, 0, 2, 12, 24),
        (2, 8, 0, 2, 1, 2),
        (2, 32, 1, 1, 1, 1),  # --concurrency 1
        (2, 32, 6, 2, 3, 6),
        (64, 32, 0, 8, 1, 8),  # more machines than trials in flight: nothing to pack
    ],
)
def test_lanes_share_what_the_sampler_allows_in_flight(
    fit: int, trials: int, concurrency: int, lanes: int, share: int, in_flight: int
) -> None:
    policy = ConcurrencyPolicy(fit, trials, concurrency, packed=True)
    assert (policy.processes, policy.trials_per_worker, policy.limit()) == (lanes, share, in_flight)
