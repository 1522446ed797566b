"""The messages between driver and workers: they pass through processes and Tune unchanged."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import subprocess
import sys
from typing import Any

import pytest
from ray.tune.utils import flatten_dict

from rungwise.trainable.messages import (
    CheckpointSaved,
    Constraint,
    Failure,
    FailureKind,
    PackResults,
    PackSettings,
    SuggestionAnswer,
    SuggestionRequest,
    TrialAssignment,
    TrialEnd,
    TrialResult,
    WorkerAddress,
)

CONSTRAINT = Constraint("parameters", 100, 235)
FAILURE = Failure(FailureKind.INFEASIBLE, "too large", CONSTRAINT, "Traceback\n  why")
ADDRESS = WorkerAddress("host", 42, "10.0.0.9")
ASSIGNMENT = TrialAssignment(3, "L2", "confirm", {"lr": 0.1, "hidden": [4]}, 2, "me", 5, {4: "abc", 5: "def"})
REPORT = TrialResult(
    3,
    attempt=2,
    step=6,
    objective=0.5,
    metrics={"epoch": 1.5, "val_accuracy": 0.5, "a/b": 1.0},
    device="cuda:0",
    remembered=True,
    checkpoint=CheckpointSaved(6, "abc"),
    unsaved="no room",
    restored=4,
    refused=("5 is torn", "4 is another trial's"),
    state=TrialEnd.DIVERGED,
    failure=FAILURE,
    unreachable="no such folder",
    lost="raised together with others",
    is_judged=False,
    attributes={"note": [1, None]},
    asks=SuggestionRequest("lr", '{"name": "FloatDistribution"}'),
    worker=ADDRESS,
)
PACK = PackResults((REPORT, TrialResult(4)), 5, "no such folder", ADDRESS)
SETTINGS = PackSettings(0, 8)
ANSWER = SuggestionAnswer(3, "lr", 0.1, "no such range")
MESSAGES: list[object] = [CONSTRAINT, FAILURE, ADDRESS, ASSIGNMENT, CheckpointSaved(6, "abc"), REPORT, SETTINGS, PACK]
MESSAGES += [ANSWER, SuggestionRequest("lr", "{}")]
TUNES_OWN = {"hostname": "host", "pid": 42, "node_ip": "10.0.0.9", "training_iteration": 1, "config": {"lr": 0.1}}


def kind(message: object) -> str:
    return type(message).__name__


@pytest.mark.parametrize("message", MESSAGES, ids=kind)
def test_a_message_cannot_be_changed(message: object) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(message, next(iter(vars(message))), 1)


@pytest.mark.parametrize("result", [REPORT, TrialResult(1)])
@pytest.mark.parametrize("carry", [dict, flatten_dict])
def test_a_result_passes_through_processes_and_tune_flattened_or_not(result: TrialResult, carry: Any) -> None:
    """Tune flattens what the searcher and the scheduler get: a metric's name may hold its delimiter."""
    sent = pickle.loads(pickle.dumps(result.to_tune()))
    tunes = carry(sent | TUNES_OWN)
    assert TrialResult.from_tune(tunes) == result
    assert tunes["objective"] == result.objective


@pytest.mark.parametrize("tunes", [REPORT.to_tune(), PACK.to_tune()])
def test_tune_writes_nothing_of_a_message_into_its_snapshots(tunes: dict[str, Any]) -> None:
    assert json.loads(json.dumps(tunes))["message"] == []


@pytest.mark.parametrize(
    ("result", "done"),
    [
        (TrialResult(1, step=1, objective=0.5), False),
        (TrialResult(1, step=1, state=TrialEnd.COMPLETED), True),
        (TrialResult(1, state=TrialEnd.FAILED, failure=FAILURE), True),
        (TrialResult(1, unreachable="why"), True),
    ],
)
def test_tune_hears_when_a_trial_sends_nothing_more(result: TrialResult, done: bool) -> None:
    assert result.to_tune()["done"] is done


@pytest.mark.parametrize("result", [None, {}, TUNES_OWN])
def test_a_trial_that_is_over_and_said_nothing_has_no_last_result(result: dict[str, Any] | None) -> None:
    assert TrialResult.last_from_tune(result) is None


def test_an_assignment_is_a_tune_config_and_the_next_attempt_differs_in_nothing_else() -> None:
    assert TrialAssignment.from_tune(ASSIGNMENT.to_tune()) == ASSIGNMENT
    assert PackSettings.from_tune(SETTINGS.to_tune()) == SETTINGS
    changed = {
        key: value for key, value in ASSIGNMENT.next_attempt().to_tune().items() if value != getattr(ASSIGNMENT, key)
    }
    assert changed == {"attempt": 3}


def test_a_packs_results_are_taken_out_of_tunes() -> None:
    pack = PackResults((TrialResult(1, step=2), TrialResult(2)), 4)
    tunes = pickle.loads(pickle.dumps(pack.to_tune())) | TUNES_OWN
    assert PackResults.take_from_tune(tunes) == pack
    assert tunes == TUNES_OWN  # Tune keeps what is left


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_nobodys_score(value: float) -> None:
    result = TrialResult(1, step=1, objective=value, metrics={"val_loss": value})
    assert result.objective is None
    assert str(result.metrics["val_loss"]) == str(value)  # what was reported stays
    assert TrialResult(1, objective=0.0).objective == 0.0


def test_a_constraint_says_by_how_much_it_is_broken_and_what_near_it_would_fail_too() -> None:
    assert CONSTRAINT.violation == 135.0
    assert str(CONSTRAINT) == "parameters must be at most 100, but got 235"
    assert [each for each in FailureKind if each.is_infeasible] == [FailureKind.INFEASIBLE, FailureKind.OUT_OF_MEMORY]


def test_they_load_neither_torch_nor_ray() -> None:
    code = "import sys, rungwise.trainable.messages; print(*(name.partition('.')[0] for name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "rungwise" in loaded
    assert {"torch", "ray", "pydantic"}.isdisjoint(loaded)
