"""What is trained again, counted by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rungwise.distributions import FloatDistribution
from rungwise.engine.experiment.experiment import resolve
from rungwise.engine.experiment.sweep import Sweep
from rungwise.engine.search.reruns import repeats
from rungwise.engine.search.seeds import derived_seed
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.results.record.writer import Record

SWEEP = Sweep(name="s", space={"lr": FloatDistribution(0.1, 1.0)}, arms={"a": {}, "b": {}}, epochs=3)


def asked(folder: Path, sweep: Sweep = SWEEP, **changed: Any) -> list[tuple[str, int, int]]:
    """(phase, source, seed) of what is missing in the record of `folder`."""
    held = {"trials": 3, "searches": 1, "confirm_configs": 2, "confirm_seeds": 2}  # of each arm, at least
    experiment = replace(resolve(sweep), **held | changed)
    with Reader(folder) as reader:
        found = repeats(experiment, reader.trials(), reader.curves())
    return [(one.phase, one.source.trial, one.config["seed"]) for one in found]


def enter(record: Record, number: int, arm: str, scores: list[float], state: State, **more: Any) -> None:
    config = {"seed": more.pop("seed", number), "lr": 0.5}
    record.add_trial(number, arm=arm, config=config, params={}, distributions={}, **{"phase": "search"} | more)
    attempt = record.start_attempt(number)
    for step, score in enumerate(scores, 1):
        record.add_report(number, attempt, step, {"epoch": float(step), "val_accuracy": score})
    record.end_trial(number, state)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Record(tmp_path) as record:
        enter(record, 1, "a", [0.1, 0.2, 0.7], State.COMPLETED)
        enter(record, 2, "b", [0.9], State.STOPPED)
        enter(record, 3, "a", [0.1, 0.2, 0.9], State.COMPLETED)
        enter(record, 4, "b", [0.2, 0.5, 0.6], State.COMPLETED)
        enter(record, 5, "a", [0.99, float("nan")], State.DIVERGED)
        enter(record, 6, "a", [0.1, 0.2, 0.8], State.COMPLETED)
        enter(record, 7, "b", [0.3], State.STOPPED)
    return tmp_path


SEEDS = [derived_seed(0, "confirm", 1), derived_seed(0, "confirm", 2)]


def test_each_arms_best_are_confirmed_on_the_same_fresh_seeds_and_a_stopped_trial_only_fills_up(folder: Path) -> None:
    # a: 3 (0.9) before 6 (0.8); 5 diverged. b: 4 ran to the end, then 2 (0.9 after one epoch) before 7.
    assert asked(folder) == [("confirm", source, seed) for seed in SEEDS for source in (3, 6, 4, 2)]


def test_in_mode_min_the_smallest_is_best(folder: Path) -> None:
    sweep = Sweep(name="s", space=SWEEP.space, arms=SWEEP.arms, epochs=3, mode="min")
    assert [source for _, source, _ in asked(folder, sweep, confirm_configs=1, confirm_seeds=1)] == [1, 4]


def test_what_the_record_holds_is_not_trained_again_however_it_ended(folder: Path) -> None:
    with Record(folder) as record:
        enter(record, 8, "a", [0.5], State.FAILED, phase="confirm", source=3, seed=SEEDS[0])
    assert asked(folder) == [("confirm", source, seed) for seed in SEEDS for source in (3, 6, 4, 2)][1:]


def test_an_audit_repeats_stopped_trials_with_their_own_seed(folder: Path) -> None:
    assert asked(folder, confirm_seeds=0, audit=1.0) == [("audit", 2, 2), ("audit", 7, 7)]
    assert asked(folder, confirm_seeds=0, audit=0.0) == []


def test_an_audit_draws_about_its_share_and_the_same_trials_every_time(tmp_path: Path) -> None:
    with Record(tmp_path) as record:
        for number in range(1, 401):
            enter(record, number, "a", [0.5], State.STOPPED)
    drawn = asked(tmp_path, replace(SWEEP, arms={"a": {}}), confirm_seeds=0, audit=0.1)
    assert 20 <= len(drawn) <= 60
    assert drawn == asked(tmp_path, replace(SWEEP, arms={"a": {}}), confirm_seeds=0, audit=0.1)


def test_a_lost_repeat_is_trained_again_under_its_own_number_and_one_that_diverged_is_not(tmp_path: Path) -> None:
    sweep = replace(SWEEP, arms={"a": {}}, trials=1, confirm_configs=1, confirm_seeds=2)
    with Record(tmp_path) as record:
        enter(record, 1, "a", [0.1, 0.2, 0.7], State.COMPLETED)
        for number, state, seed in ((2, State.LOST, SEEDS[0]), (3, State.DIVERGED, SEEDS[1])):
            enter(record, number, "a", [0.1], state, phase="confirm", source=1, seed=seed)
    with Reader(tmp_path) as reader:
        found = repeats(resolve(sweep), reader.trials(), reader.curves())
    assert [(one.key, one.again.trial if one.again else None) for one in found] == [(("confirm", 1, SEEDS[0]), 2)]
