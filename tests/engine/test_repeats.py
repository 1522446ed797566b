"""What is trained again, counted by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rungwise.distributions import FloatDistribution
from rungwise.engine.experiment.experiment import resolve
from rungwise.engine.experiment.sweep import Sweep
from rungwise.engine.search.reruns import refits, repeats
from rungwise.engine.search.seeds import derived_seed
from rungwise.engine.validation.hints import untuned_notes
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.results.record.writer import Record
from rungwise.trainable.config import Config
from rungwise.trainable.messages import UNTUNED, StudyKey

SWEEP = Sweep(name="s", space={"lr": FloatDistribution(0.1, 1.0)}, arms={"a": {}, "b": {}}, epochs=3)


def asked(folder: Path, sweep: Sweep = SWEEP, **changed: Any) -> list[tuple[str, int, int]]:
    """(phase, source, seed) of what is missing in the record of `folder`."""
    held = {
        "trials": 3,
        "searches": 1,
        "confirm_configs": 2,
        "confirm_seeds": 2,
        "untuned_seeds": 0,
    }  # of each arm, at least
    experiment = replace(resolve(sweep), **held | changed)
    with Reader(folder) as reader:
        found = repeats(experiment, reader.trials(), reader.curves())
    return [(one.phase, one.key[1], one.config["seed"]) for one in found]


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


def test_refits_are_further_seeds_of_one_configuration_and_a_lost_one_is_trained_again(folder: Path) -> None:
    experiment = replace(resolve(SWEEP), refit_seeds=3)
    fresh = [derived_seed(0, "refit", number) for number in (1, 2, 3)]
    assert not set(fresh) & set(SEEDS)
    with Record(folder) as record:
        enter(record, 8, "a", [0.5], State.DIVERGED, phase="refit", source=3, seed=fresh[0])
        enter(record, 9, "a", [0.5], State.LOST, phase="refit", source=3, seed=fresh[1])
        enter(record, 10, "a", [0.5], State.COMPLETED, phase="refit", source=6, seed=fresh[2])  # of the best before
    with Reader(folder) as reader:
        trials = {trial.trial: trial for trial in reader.trials()}
        found = refits(experiment, trials.values(), trials[3])
    assert [(one.key[1], one.config["seed"], one.repetition) for one in found] == [
        (3, fresh[1], 1),
        (3, fresh[2], 2),
    ]
    assert [one.again.trial if one.again else None for one in found] == [9, None]
    assert all(one.config["lr"] == 0.5 and one.phase == "refit" for one in found)


def test_the_defaults_are_trained_on_fresh_seeds_for_each_search(folder: Path) -> None:
    sweep = replace(SWEEP, arms={"a": {"l2": 0.25}, "b": {}}, fixed={"dropout": 0.5})
    experiment = replace(resolve(sweep), trials=9, searches=2, untuned_seeds=2)
    with Reader(folder) as reader:
        found = repeats(experiment, reader.trials(), reader.curves())
    assert [(one.phase, one.study, one.repetition) for one in found] == [
        (UNTUNED, StudyKey(UNTUNED, search), seed) for search in (1, 2) for seed in (0, 1)
    ]  # before any search has ended
    seeds = [one.config["seed"] for one in found]
    assert seeds == [derived_seed(0, UNTUNED, search, seed) for search in (1, 2) for seed in (1, 2)]
    # What is fixed for all, and by the control, stays; the learning rate has Config's default.
    for one in found:
        assert one.config == Config(l2=0.25, dropout=0.5, epochs=3, seed=one.config["seed"]).model_dump(mode="json")
    with Record(folder) as record:
        enter(record, 8, UNTUNED, [0.5], State.DIVERGED, phase=UNTUNED, seed=seeds[0])
        enter(record, 9, UNTUNED, [0.5], State.LOST, phase=UNTUNED, seed=seeds[1])
    with Reader(folder) as reader:
        again = repeats(experiment, reader.trials(), reader.curves())
    assert [one.config["seed"] for one in again] == seeds[1:]
    assert asked(folder, sweep, trials=9, untuned_seeds=0) == []


@dataclass
class Settings:
    lr: float = 0.01
    width: int = 64


@dataclass
class Undecided:
    lr: float
    width: int = 64


def with_settings(config: Settings, trial: Any) -> Any:
    yield {"val_accuracy": config.lr * trial.number}


def with_undecided(config: Undecided, trial: Any) -> Any:
    yield {"val_accuracy": config.lr * trial.number}


def with_parameters(lr: float = 0.02, *, width: int = 32, trial: Any) -> Any:
    yield {"val_accuracy": lr * width * trial.number}


def with_mapping(config: dict[str, Any], trial: Any) -> Any:
    yield {"val_accuracy": config["lr"] * trial.number}


@pytest.mark.parametrize(
    ("train", "defaults"),
    [
        (with_settings, {"lr": 0.01, "width": 64}),
        (with_parameters, {"lr": 0.02, "width": 32}),
        (with_undecided, None),
        (with_mapping, None),
    ],
)
def test_the_defaults_of_a_function_are_those_it_declares_and_without_any_a_note_says_so(
    train: Any, defaults: dict[str, Any] | None
) -> None:
    sweep = Sweep(name="s", space=SWEEP.space, arms={"a": {"width": 8}, "b": {}}, epochs=3, train=train)
    experiment = resolve(sweep)
    budget = {"epochs": 3, "reports_per_epoch": 1}
    wanted = None if defaults is None else {**defaults, "width": 8, **budget}
    assert experiment.untuned_config == wanted
    assert experiment.repeats == 2 * 5 * 2 + 3 + (0 if defaults is None else 5 * 2)
    said = "\n".join(untuned_notes(experiment))
    assert ("the training declares no default of something that is searched" in said) is (defaults is None)


def test_nothing_is_untuned_where_the_first_arm_searches_nothing() -> None:
    experiment = resolve(replace(SWEEP, space={}, arms={"a": {"lr": 0.1}, "b": {"lr": 0.2}}))
    assert experiment.untuned_config is None
    assert untuned_notes(experiment) == ["what tuning gains over the defaults is not measured: a searches nothing"]


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
