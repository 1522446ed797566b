"""The search space: what Optuna is given, what the record keeps, and what is wrong with it."""

import enum
import json
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna import distributions as od

from rungwise import CategoricalDistribution, FloatDistribution, IntDistribution, Sweep
from rungwise.engine.experiment.experiment import resolve
from rungwise.engine.experiment.space import PROBES, contains, replayed, to_json, to_optuna, values
from rungwise.engine.validation import fields, ranges
from rungwise.trainable.training.builtin import BuiltInTraining

PAIRS = [
    (FloatDistribution(0.0, 0.5), od.FloatDistribution(0.0, 0.5)),
    (FloatDistribution(1e-5, 1e-1, log=True), od.FloatDistribution(1e-5, 1e-1, log=True)),
    (FloatDistribution(0.0, 1.0, step=0.25), od.FloatDistribution(0.0, 1.0, step=0.25)),
    (IntDistribution(1, 9), od.IntDistribution(1, 9)),
    (IntDistribution(16, 512, log=True), od.IntDistribution(16, 512, log=True)),
    (IntDistribution(2, 8, step=2), od.IntDistribution(2, 8, step=2)),
    (CategoricalDistribution(["relu", "tanh"]), od.CategoricalDistribution(("relu", "tanh"))),
    (CategoricalDistribution([True, False]), od.CategoricalDistribution((True, False))),
]


@pytest.mark.parametrize(("ours", "optunas"), PAIRS)
def test_our_distributions_are_optunas(ours: Any, optunas: Any) -> None:
    assert to_optuna({"x": ours}) == {"x": optunas}
    assert to_optuna({"x": optunas}) == {"x": optunas}  # which may be written too


@pytest.mark.parametrize(("ours", "optunas"), PAIRS)
def test_what_the_record_keeps_of_a_distribution_reads_back_as_optunas(ours: Any, optunas: Any) -> None:
    assert od.json_to_distribution(to_json({"x": ours})["x"]) == optunas


def test_what_the_record_keeps_of_a_function_is_its_name_and_source() -> None:
    def widths(trial: optuna.Trial) -> dict[str, Any]:
        return {"hidden": [trial.suggest_int("width", 8, 64)]}

    kept = to_json(widths)
    assert kept["function"] == "widths"
    assert kept["source"].startswith("def widths(")
    assert 'trial.suggest_int("width", 8, 64)' in kept["source"]


def problems(space: Any, given: dict[str, Any]) -> list[str]:
    return ranges.problems(space, given, BuiltInTraining())


def test_a_sound_space_has_no_problems() -> None:
    space = {
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
        "dropout": FloatDistribution(0.0, 0.5),
        "batch_size": IntDistribution(16, 512, log=True),
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "hidden": CategoricalDistribution(["128-64", "64"]),
        "clip_norm": od.FloatDistribution(0.0, 1.0),
    }
    assert problems(space, {"batch_norm": True, "seed": 3}) == []


@pytest.mark.parametrize(
    ("name", "distribution", "says"),
    [
        ("lr", FloatDistribution(0.1, 0.01), ["lr: low must be at most high", "low=0.1, high=0.01"]),
        ("batch_size", IntDistribution(64, 32), ["batch_size: low must be at most high", "low=64, high=32"]),
        ("l2", FloatDistribution(0.0, 0.01, log=True), ["l2: a log range cannot contain 0", "low=0.0", "an arm"]),
        ("l2", FloatDistribution(-1.0, 0.01, log=True), ["l2: a log range cannot contain 0", "low=-1.0"]),
        ("lr", FloatDistribution(0.1, 0.5, log=True, step=0.1), ["lr: log and step exclude each other", "step=0.1"]),
        ("batch_size", IntDistribution(2, 64, log=True, step=2), ["batch_size: log and step exclude each other"]),
        ("activation", CategoricalDistribution([]), ["activation: choices must not be empty"]),
        ("dropout", FloatDistribution(0.0, 0.5, step=-0.1), ["dropout: ", "step"]),
        # The ends must be legal hyperparameters: the lower one, the upper one, every choice.
        ("lr", FloatDistribution(0.0, 0.1), ["lr: ", "greater than 0", "0.0"]),
        ("dropout", FloatDistribution(0.0, 1.0), ["dropout: ", "less than 1", "1.0"]),
        ("dropout", od.FloatDistribution(-0.5, 0.5), ["dropout: ", "greater than or equal to 0", "-0.5"]),
        ("optimizer", CategoricalDistribution(["sgd", "sdg"]), ["optimizer: ", "'sdg'", "'rmsprop'"]),
        ("hidden", CategoricalDistribution(["64", "64-x"]), ["hidden: ", "64-x", "'256-128'"]),
        ("dorpout", FloatDistribution(0.0, 0.5), ["unknown hyperparameter 'dorpout'", "did you mean 'dropout'?"]),
        ("batch_size", IntDistribution(1, 64), ["batch_size must be at least 2 with batch_norm=True"]),
    ],
)
def test_a_bad_range_is_told_with_rule_and_value(name: str, distribution: Any, says: list[str]) -> None:
    found = problems({name: distribution, "momentum": FloatDistribution(0.5, 0.9)}, {})
    assert len(found) == 1, found
    for part in says:
        assert part in found[0]


def test_both_ends_and_all_names_are_told_at_once() -> None:
    found = problems({"dropout": FloatDistribution(-1.0, 2.0), "lr": FloatDistribution(1, 0), "x": PAIRS[0][0]}, {})
    assert len(found) == 4, found
    for part in ("-1.0", "2.0", "low must be at most high", "unknown hyperparameter 'x'"):
        assert sum(part in line for line in found) == 1


def test_a_hyperparameter_is_searched_or_fixed_but_not_both() -> None:
    assert problems({"lr": FloatDistribution(0.1, 0.2)}, {"lr": 0.15}) == [
        "a hyperparameter is either searched or fixed, but lr is both (fixed=0.15)"
    ]


def test_an_empty_space_is_refused() -> None:
    assert problems({}, {}) == ["a space must contain at least one hyperparameter, but got an empty dict"]


# -- functions -------------------------------------------------------------------------------------------------


def test_a_function_is_tried_before_the_sweep_starts() -> None:
    calls = []

    def space(trial: optuna.Trial) -> dict[str, Any]:
        calls.append(trial.number)
        return {"dropout": trial.suggest_float("dropout", 0.0, 0.5)}

    assert problems(space, {}) == []
    assert calls == list(range(PROBES))


def test_a_function_that_suggests_an_illegal_value_now_and_then_is_caught() -> None:
    def space(trial: optuna.Trial) -> dict[str, Any]:
        return {"lr": trial.suggest_categorical("lr", [0.1, 0.2, 0.0])}

    found = problems(space, {})
    assert len(found) == 1
    assert "lr: " in found[0]
    assert "0.0" in found[0]


def test_a_function_that_raises_is_named_with_its_error() -> None:
    def space(trial: optuna.Trial) -> dict[str, Any]:
        return {"lr": trial.suggest_float("lr", 0.0, 0.1, log=True)}

    (found,) = problems(space, {})
    assert found.startswith("the space function 'space' raised ValueError: ")


def test_a_function_that_returns_an_unknown_name_or_a_fixed_one_is_told() -> None:
    def space(trial: optuna.Trial) -> dict[str, Any]:
        return {"widths": [trial.suggest_int("width", 8, 64)], "l2": 0.5}

    found = problems(space, {"l2": 0.0})
    assert len(found) == 2, found
    assert "l2 is both (fixed=0.0)" in found[0]
    assert "unknown hyperparameter 'widths'" in found[1]


def test_true_is_no_number_and_a_number_no_truth_value() -> None:
    def layered(trial: Any) -> dict[str, Any]:
        return {"layers": trial.suggest_int("layers", 1, 3)}

    whole, real = optuna.distributions.IntDistribution(0, 3), optuna.distributions.FloatDistribution(0.0, 1.0)
    words = optuna.distributions.CategoricalDistribution
    assert [contains(kind, True) for kind in (whole, real, words((1, 2)), words((True, False)))] == [*[False] * 3, True]
    assert [contains(kind, 1) for kind in (whole, real, words((1, 2)), words((True, False)))] == [*[True] * 3, False]
    assert replayed(layered, {"layers": 1})[1] == {"layers": 1}
    with pytest.raises(ValueError, match="layers must be within IntDistribution"):
        replayed(layered, {"layers": True})


def test_a_function_that_returns_no_hyperparameters_is_told() -> None:
    (found,) = problems(lambda _trial: None, {})  # type: ignore[arg-type,return-value]
    assert "raised TypeError" in found


def test_a_range_is_looked_at_between_its_ends() -> None:
    assert values(IntDistribution(1, 5)) == [1, 5, 2, 3, 4]
    assert values(FloatDistribution(0.0, 1.0, step=0.25)) == [0.0, 1.0, 0.25, 0.5, 0.75]
    assert set(values(IntDistribution(1, 1000))) > {*range(1, 33), 1000}
    assert all(1e-5 <= value <= 1e-1 for value in values(FloatDistribution(1e-5, 1e-1, log=True)))
    assert all(isinstance(value, int) for value in values(IntDistribution(16, 4096, log=True)))
    for large in (
        IntDistribution(0, 10**15),
        IntDistribution(1, 10**15, log=True),
        FloatDistribution(0, 1e9, step=0.1),
    ):
        assert len(values(large)) < 200


def test_numpys_and_torchs_numbers_are_numbers_wherever_a_sweep_holds_them() -> None:
    sweep = Sweep(
        name="s",
        trials=np.int64(4),
        epochs=np.float64(3).astype(int),
        grace=np.float32(1),
        space={
            "lr": FloatDistribution(np.float64(1e-4), torch.tensor(0.5)),  # type: ignore[arg-type]
            "batch_size": CategoricalDistribution(np.array([16, 32])),  # type: ignore[arg-type]
        },
        fixed={"l2": np.float64(0.5), "hidden": (np.int64(8),)},
        arms={"a": {"l1": np.float64(0.25)}},
    )
    assert json.loads(json.dumps([sweep.trials, sweep.epochs, sweep.grace, dict(sweep.fixed), dict(sweep.arms)])) == [
        4, 3, 1.0, {"l2": 0.5, "hidden": [8]}, {"a": {"l1": 0.25}},
    ]  # fmt: skip
    assert not fields.problems(sweep)
    assert not problems(sweep.space, resolve(sweep).given("a"))
    assert isinstance(to_json(sweep.space)["lr"], str)


class Optimiser(enum.StrEnum):
    ADAMW = "adamw"


class Size(enum.IntEnum):
    SMALL = 16


class Kind(enum.Enum):
    RELU = "relu"


def test_members_of_enumerations_are_their_values() -> None:
    space = {
        "optimizer": CategoricalDistribution([Optimiser.ADAMW]),
        "activation": CategoricalDistribution([Kind.RELU]),
    }  # type: ignore[list-item]
    sweep = Sweep(name="s", space=space, fixed={"batch_size": Size.SMALL})
    assert not fields.problems(sweep)
    assert not problems(sweep.space, resolve(sweep).given("all"))
    assert isinstance(sweep.space, dict)
    values = [sweep.fixed["batch_size"], *(kind.choices[0] for kind in sweep.space.values())]
    assert [(type(value), value) for value in values] == [(int, 16), (str, "adamw"), (str, "relu")]


@pytest.mark.parametrize(
    ("metric", "mode"),
    [("val_accuracy", "max"), ("val_loss", "min"), ("val_mse", "min"), ("val_mae", "min"), ("val_r2", "max"),
     ("train_loss", "min"), ("seconds", "min"), ("penalty", "min")],
)  # fmt: skip
def test_which_way_is_better_follows_from_the_metric(metric: str, mode: str) -> None:
    sweep = Sweep(name="s", space={}, metric=metric)
    assert sweep.mode == mode
    assert Sweep(name="s", space={}, objectives=[metric]).objectives == {metric: mode}
    assert (
        Sweep(name="s", space={}, objectives={"parameters": None, metric: mode}).all_objectives["parameters"] == "min"
    )  # type: ignore[dict-item]
