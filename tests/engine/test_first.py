"""The first point of a search: a plain network in the middle of the ranges."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from rungwise.engine.experiment.space import contains
from rungwise.engine.search.initial_point import DefaultPointSampler, default_value


@pytest.mark.parametrize(
    ("name", "distribution", "expected"),
    [
        ("lr", FloatDistribution(1e-4, 1e-2, log=True), 1e-3),
        ("momentum", FloatDistribution(0.8, 1.0), 0.9),
        ("dropout", FloatDistribution(0.05, 0.5), 0.05),  # off by default: as weak as may be
        ("l2", FloatDistribution(1e-7, 1e-2, log=True), 1e-7),
        ("width", IntDistribution(64, 256, log=True), 128),
        ("width", IntDistribution(8, 64, step=8), 40),
        ("width", FloatDistribution(0, 0.9, step=0.3), 0.6),
        ("optimizer", CategoricalDistribution(["sgd", "adam"]), "adam"),  # Config's default
        ("optimizer", CategoricalDistribution(["sgd", "rmsprop"]), "sgd"),
        ("hidden", CategoricalDistribution(["256-128", "128-64"]), "256-128"),
        ("anything", CategoricalDistribution([True, False]), True),
    ],
)
def test_a_parameter_begins_plain(name: str, distribution: BaseDistribution, expected: object) -> None:
    assert default_value(name, distribution) == pytest.approx(expected)
    assert contains(distribution, default_value(name, distribution))


def test_a_space_function_gets_the_same_point() -> None:
    trial = optuna.create_study(sampler=DefaultPointSampler()).ask()
    assert trial.suggest_int("depth", 1, 3) == 2
    assert trial.suggest_categorical("batch_size", [64, 128, 256]) == 128
    assert trial.suggest_float("dropout", 0.0, 0.5) == 0.0
