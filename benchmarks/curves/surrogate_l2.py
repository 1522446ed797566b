"""A model of what `sweeps/mnist_l2.py` finds with L2: learning curves and test accuracies of any configuration.

    PYTHONPATH=benchmarks python benchmarks/curves/surrogate_l2.py     # how good it is, on held-out configurations

As `surrogate.py`, for the main job's own space, schedule and reports: seven numbers of a training (the validation
accuracy after each of 6 epochs, and the test accuracy at the end), on the scale -log(1 - accuracy). A Gaussian process
(Matern 5/2) says what to expect; around it lies luck, as repeats on other seeds differed from their own mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from curves.measure_l2 import FILE
from curves.surrogate import NEAR, Array, rms, unwarp, warp

from rungwise.results.tables.parquet import read

# Fitted by `main`, which prints them. They change with the file.
LENGTHS = (1.63, 4.36, 1.47)  # of `features`, in their units
NOISE = 0.00048  # variance between seeds, as a share of the variance between configurations


@dataclass(frozen=True)
class Training:
    """One training as it would have gone."""

    accuracy: Array  # (6,), of the validation split, at each epoch
    truth: float  # test accuracy that its configuration has on average


def features(config: Mapping[str, Any]) -> list[float]:
    """A configuration as three numbers, each 0..1."""
    return [
        math.log(config["lr"] / 3e-4) / math.log(100),
        config["dropout"] / 0.5,
        math.log(config["l2"] / 1e-7) / math.log(1e5),
    ]


@dataclass(frozen=True)
class Measurements:
    """Configurations, each with one or several trainings."""

    configs: list[dict[str, Any]]
    trainings: list[Array]  # (seeds, 7) of each, warped

    @classmethod
    def load(cls, path: Path = FILE) -> Measurements:
        by_trial: dict[int, list[dict[str, Any]]] = {}
        for row in read(path).to_pylist():
            by_trial.setdefault(row["trial"], []).append(row)
        by_config: dict[int, list[list[dict[str, Any]]]] = {}
        for rows in by_trial.values():
            by_config.setdefault(rows[0]["config"], []).append(sorted(rows, key=lambda row: row["step"]))
        configs = [some[0][0] for some in by_config.values()]
        numbers = [
            [[row["val_accuracy"] for row in rows] + [rows[-1]["test_accuracy"]] for rows in some]
            for some in by_config.values()
        ]
        return cls(configs, [warp(np.array(some)) for some in numbers])


class Landscape:
    """Expected trainings and luck; the same seed draws the same training."""

    def __init__(self, measured: Measurements, lengths: Sequence[float] = LENGTHS, noise: float = NOISE) -> None:
        from sklearn.gaussian_process.kernels import Matern

        y = np.array([some.mean(axis=0) for some in measured.trainings])
        own = noise / np.array([len(some) for some in measured.trainings])
        self._x = np.array([features(config) for config in measured.configs])
        self._kernel, self._mean = Matern(lengths, nu=2.5), y.mean(axis=0)
        self._inverse = np.linalg.inv(self._kernel(self._x) + np.diag(own))
        self._weights = self._inverse @ (y - self._mean)  # (N, 7)
        self._y, self._own = y, own
        repeated = [some for some in measured.trainings if len(some) > 1]
        self._ends = np.array([some[:, -2].mean() for some in repeated])
        self._luck = [(some - some.mean(axis=0)) * math.sqrt(len(some) / (len(some) - 1)) for some in repeated]

    def expected(self, config: Mapping[str, Any]) -> Array:
        """The expected numbers, warped (7,)."""
        found: Array = (self._kernel(np.array([features(config)]), self._x) @ self._weights)[0] + self._mean
        return found

    def held_out(self) -> tuple[Array, Array]:
        """What is expected of each measured configuration without its own trainings, and their mean: warped (N, 7)."""
        return self._y - self._weights / np.diag(self._inverse)[:, None], self._y

    def log_likelihood(self) -> float:
        """Of all numbers, up to a constant, with the variance between configurations that suits each of them best."""
        count = len(self._y)
        scale = ((self._y - self._mean) * self._weights).sum(axis=0) / count
        determinant = float(np.linalg.slogdet(self._inverse)[1])
        return float(-0.5 * count * np.log(scale).sum() + 0.5 * len(scale) * determinant)

    def draw(self, config: Mapping[str, Any], seed: int) -> Training:
        """One training of `config`."""
        dice, expected = Random(seed), self.expected(config)
        nearest = np.argsort(np.abs(self._ends - expected[-2]))[:NEAR]
        luck = self._luck[dice.choice(list(nearest))]
        drawn = expected + luck[dice.randrange(len(luck))] * dice.choice((-1, 1))
        return Training(unwarp(drawn[:-1]), float(unwarp(expected[-1:])[0]))


@cache
def landscape() -> Landscape:
    return Landscape(Measurements.load())


def main() -> None:
    from scipy.optimize import minimize

    measured = Measurements.load()

    def cost(logs: Array) -> float:
        *lengths, noise = np.exp(np.clip(logs, math.log(1e-5), math.log(50)))
        return -Landscape(measured, lengths, float(noise)).log_likelihood()

    found = minimize(cost, np.log([*LENGTHS, NOISE]), method="Nelder-Mead", options={"maxiter": 600})
    *lengths, noise = np.exp(found.x)
    print(f"LENGTHS = ({', '.join(f'{length:.3g}' for length in lengths)})\nNOISE = {noise:.2g}\n")
    expected, seen = (unwarp(some) for some in Landscape(measured, lengths, float(noise)).held_out())
    several = np.array([len(some) > 1 for some in measured.trainings])
    for name, column in (("validation", -2), ("test", -1)):
        errors, good = 100 * (expected - seen)[:, column], seen[:, column] > 0.98
        print(
            f"{name}: held-out error {rms(errors[good]):.3f} points of {good.sum()} configurations above 98%, "
            f"{rms(errors[good & several]):.3f} of those with three seeds; {rms(errors):.3f} of all {len(errors)}"
        )
        spread = [100 * unwarp(some[:, column]).std(ddof=1) for some in measured.trainings if len(some) > 1]
        print(f"{name}: between seeds {rms(np.array(spread)):.3f} points, {len(spread)} configurations")


if __name__ == "__main__":
    main()
