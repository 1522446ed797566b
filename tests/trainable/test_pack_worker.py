"""A lane without Ray: several trials a step, each of them as if it were alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rungwise.trainable.config import Config
from rungwise.trainable.data.dataset import Dataset
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.messages import (
    CheckpointSaved,
    FailureKind,
    PackResults,
    TrialAssignment,
    TrialEnd,
    TrialResult,
)
from rungwise.trainable.train import train
from rungwise.trainable.worker import pack_worker as lanes
from rungwise.trainable.worker.checkpoints import Checkpoints
from rungwise.trainable.worker.pack_worker import PackWorker

SMALL = {"hidden": [16], "batch_size": 100, "epochs": 2}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "IDLE_SECONDS", 0.0)


@pytest.fixture
def start(small: Dataset, tmp_path: Path) -> Callable[..., PackWorker]:
    """start(...) -> a lane that has said who it is."""

    def lane(slots: int = 3, **how: Any) -> PackWorker:
        class Here(PackWorker):
            def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
                super().setup(config, data=small, **({"checkpoints": str(tmp_path)} | how))

        here = Here(config={"slots": slots, "limit": 4})
        here._pack_size = 3
        assert step(here) == PackResults((), here._slots, actor=None)
        return here

    return lane


def assignment(
    number: int, attempt: int = 1, reported: int = 0, phase: str = "search", **values: Any
) -> TrialAssignment:
    config = Config(**(SMALL | {"seed": number} | values)).model_dump(mode="json")
    return TrialAssignment(number, "all", phase, config, attempt=attempt, reported=reported)


def curve(small: Dataset, **values: Any) -> list[float]:
    return [report.val_loss for report in train(Config(**(SMALL | values)), Tensors.of(small, "cpu"))]


def step(lane: PackWorker) -> PackResults:
    return PackResults.take_from_tune(lane.step())


def said(lane: PackWorker) -> dict[int, TrialResult]:
    """What the lane says until all that it holds have reported once, or it waits."""
    found: dict[int, TrialResult] = {}
    while results := step(lane).results:
        found |= {result.trial: result for result in results}
        if not lane._runs.keys() - found:
            break
        lane.answer([], [])
    return found


def test_every_trial_reports_what_it_would_alone(start: Callable[..., PackWorker], small: Dataset) -> None:
    lane = start()
    lane.answer([], [assignment(1), assignment(2, dropout=0.3), assignment(3, batch_size=50)])
    first = said(lane)
    assert sorted(first) == [1, 2, 3]
    assert all((one.step, one.device, one.attempt) == (1, "cpu", 1) for one in first.values())
    lane.answer([], [])
    second = said(lane)
    assert {one.state for one in second.values()} == {TrialEnd.COMPLETED}
    for number, values in ((1, {}), (2, {"dropout": 0.3}), (3, {"batch_size": 50})):
        alone = curve(small, seed=number, **values)
        assert [one[number].metrics["val_loss"] for one in (first, second)] == pytest.approx(alone, rel=2e-3)
    lane.answer([], [])
    assert said(lane) == {}


def test_the_stopped_leave_and_the_new_begin_at_once(start: Callable[..., PackWorker]) -> None:
    lane = start()
    lane.answer([], [assignment(1), assignment(2)])
    said(lane)
    lane.answer([2], [assignment(3)])
    assert {number: one.step for number, one in said(lane).items()} == {1: 2, 3: 1}


def test_without_an_answer_it_waits(start: Callable[..., PackWorker]) -> None:
    lane = start()
    assert said(lane) == {}
    lane.answer([], [assignment(1)])
    assert list(said(lane)) == [1]
    assert said(lane) == {}  # its verdict is still to come


def test_a_lane_that_ends_leaves_checkpoints_and_the_next_goes_on_and_says_again(
    start: Callable[..., PackWorker], small: Dataset, tmp_path: Path
) -> None:
    lane = start()
    lane.answer([], [assignment(1), assignment(2)])
    before = said(lane)
    lane.cleanup()
    assert [saved.step for saved in Checkpoints(tmp_path, 1).saved()] == [1]
    again = start()
    again.answer([], [assignment(1, attempt=2, reported=1), assignment(2, attempt=2)])
    (told,) = step(again).results
    assert (told.trial, told.step, told.remembered) == (2, 1, True)  # the driver did not know it
    assert told.metrics == before[2].metrics
    again.answer([], [])
    found = said(again)
    assert (found[1].step, found[1].restored, found[1].attempt) == (2, 1, 2)
    assert found[1].metrics["val_loss"] == pytest.approx(curve(small, seed=1)[1], rel=2e-3)
    assert found[2].step == 2


def test_a_trial_that_cannot_begin_fails_alone(start: Callable[..., PackWorker]) -> None:
    lane = start(max_parameters=20_000)
    lane.answer([], [assignment(1), assignment(2, hidden=[64]), assignment(3, batch_size=1000, reports_per_epoch=3)])
    found = said(lane)
    assert found[1].step == 1
    assert {found[number].state for number in (2, 3)} == {TrialEnd.FAILED}
    assert (found[2].failure.kind, found[2].failure.constraint.limit) == (FailureKind.INFEASIBLE, 20_000)
    assert (found[3].failure.kind, "reports_per_epoch" in found[3].failure.message) == (FailureKind.EXCEPTION, True)
    lane.answer([], [])
    assert list(said(lane)) == [1]


def test_a_diverged_trial_ends_and_leaves_the_others_alone(start: Callable[..., PackWorker], small: Dataset) -> None:
    lane = start()
    wild = {"lr": 1e9, "optimizer": "sgd", "batch_norm": False}
    lane.answer([], [assignment(1, batch_norm=False), assignment(2, **wild)])
    found = said(lane)
    assert found[2].state is TrialEnd.DIVERGED
    assert found[1].metrics["val_loss"] == pytest.approx(curve(small, seed=1, batch_norm=False)[0], rel=2e-3)


def test_what_cannot_be_packed_is_trained_in_turn(start: Callable[..., PackWorker], small: Dataset) -> None:
    lane = start()
    lane.answer([], [assignment(1), assignment(2, model="cnn", channels=[2], epochs=1), assignment(3, flip=0.5)])
    found = said(lane)
    assert sorted(found) == [1, 2, 3]
    assert found[2].metrics["val_loss"] == curve(small, seed=2, model="cnn", channels=(2,), epochs=1)[0]
    assert found[3].metrics["val_loss"] == curve(small, seed=3, flip=0.5)[0]


def test_when_several_raise_together_all_are_dealt_again_and_the_guilty_fails_alone(
    start: Callable[..., PackWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rungwise.trainable.packing import pack

    together = pack.train_together

    def breaking(states: Any, data: Any) -> Any:
        if any(state.config.seed == 2 for state in states):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return together(states, data)

    monkeypatch.setattr(pack, "train_together", breaking)
    lane = start(slots=4)
    lane._pack_size = 4
    lane.answer([], [assignment(1), assignment(2)])
    assert {number: one.lost[:13] for number, one in said(lane).items()} == {1: "out of memory", 2: "out of memory"}
    lane.answer([], [assignment(2, attempt=2)])
    found = said(lane)
    assert (found[2].state, found[2].failure.kind) == (TrialEnd.FAILED, FailureKind.OUT_OF_MEMORY)
    lane.answer([], [assignment(1, attempt=2)])
    assert said(lane)[1].step == 1


def test_a_confirmed_trial_leaves_its_final_state(start: Callable[..., PackWorker], tmp_path: Path) -> None:
    lane = start()
    lane.answer([], [assignment(1, phase="confirm", epochs=1)])
    found = said(lane)[1]
    assert found.state is TrialEnd.COMPLETED
    assert found.checkpoint == CheckpointSaved(1, Checkpoints(tmp_path, 1).saved()[0].sha256)


def test_a_lane_finds_out_how_many_it_trains_at_once_of_each_shape(start: Callable[..., PackWorker]) -> None:
    assert start(slots=3)._slots == 3
    lane = start(slots=0)
    lane._pack_size = 1
    lane.answer([], [assignment(1), assignment(2, batch_size=50), assignment(3, batch_size=50)])
    first = step(lane)
    assert ([result.trial for result in first.results], first.slots) == ([1], 2)
    lane.answer([1], [])
    second = step(lane)
    assert ([result.trial for result in second.results], second.slots) == ([2], 1)


def test_trials_take_turns_and_those_of_one_shape_go_together(start: Callable[..., PackWorker]) -> None:
    lane = start(slots=4)
    lane._pack_size = 2
    many = {"epochs": 9}
    lane.answer(
        [], [assignment(1, **many), assignment(2, batch_size=50, **many), assignment(3, **many), assignment(4, **many)]
    )
    turns = []
    for _ in range(6):
        turns.append([result.trial for result in step(lane).results])
        lane.answer([], [])
    assert turns == [[1, 3], [2], [4, 1], [3, 4], [2], [1, 3]]
