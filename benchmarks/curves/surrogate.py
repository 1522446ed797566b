"""A model of the measured learning curves, noise between seeds included, for configurations that were not measured.

    python benchmarks/curves/surrogate.py       # how good it is, against simpler models, on held-out configurations

A curve is 36 numbers, -log(1 - accuracy) at every sixth of an epoch: on that scale errors of 2 % and 4 % are as far
apart as 20 % and 40 %. A Gaussian process (Matern 5/2, one length a hyperparameter) says the expected curve. Around it
lies luck: what the repeats on other seeds differed by from their own mean, whole curves, so that a lucky start stays
lucky as long as it did when it was measured. The model is the landscape of the simulation: where it is too smooth,
there is less to find than there was in truth.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from rungwise.results.tables.parquet import read

Array = npt.NDArray[np.float64]

FILE = Path(__file__).with_name("mnist_mlp.parquet")
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
NEAR = 5  # luck is drawn from the repeated configurations whose expected end is nearest
WORST = 1e-4  # of 10,000 validation samples at least one is wrong, for the logarithm


def features(config: Mapping[str, Any]) -> list[float]:
    """A configuration as eight numbers, each about 0..1."""
    return [
        (math.log10(config["lr"]) + 4) / 3,
        (math.log10(config["weight_decay"]) + 6) / 5,
        config["dropout"] / 0.5,
        (math.log2(config["batch_size"]) - 6) / 2,
        *(float(config["optimizer"] == name) for name in OPTIMIZERS),
    ]


def warp(accuracy: Array) -> Array:
    return -np.log(np.clip(1 - accuracy, WORST, 1))


def unwarp(y: Array) -> Array:
    return 1 - np.exp(-np.maximum(y, 0))


@dataclass(frozen=True)
class Curve:
    """One trial as it would have gone: accuracy (36,) at every report; seconds of one sixth of an epoch, and of one
    validation; `truth` is the accuracy at the end that its configuration has on average."""

    accuracy: Array
    training_seconds: float
    validation_seconds: float
    truth: float


@dataclass(frozen=True)
class Measured:
    """The measured curves: accuracy (N, 36), and a row of configuration a trial."""

    accuracy: Array
    configs: list[dict[str, Any]]

    @classmethod
    def load(cls, path: Path = FILE) -> Measured:
        rows = read(path).to_pylist()
        trials: dict[int, list[dict[str, Any]]] = {}
        for row in rows:
            trials.setdefault(row["trial"], []).append(row)
        whole = [sorted(curve, key=lambda row: row["step"]) for curve in trials.values()]
        length = max(len(curve) for curve in whole)
        whole = [curve for curve in whole if len(curve) == length]  # a diverged one has no end to speak of
        configs = [curve[0] | {"seconds": math.fsum(row["seconds"] for row in curve) / length} for curve in whole]
        return cls(np.array([[row["val_accuracy"] for row in curve] for curve in whole]), configs)

    @property
    def first(self) -> list[int]:
        """Rows that are no repeats."""
        return [index for index, config in enumerate(self.configs) if config["trial"] == config["config"]]

    def percentile(self, share: float) -> float:
        """The best accuracy on the way that only 1 - `share` of the configurations reached."""
        return float(np.quantile(self.accuracy[self.first].max(axis=1), share))


# Fitted to the ends of all curves by `main`, which prints them: ten seconds. They change with the file.
LENGTHS = (0.894, 1.03, 7.53, 7.3, 3.61, 2.98, 48.8, 0.966)  # of `features`, in their units
NOISE = 0.0021  # variance between seeds, as a share of the variance between configurations


def gaussian_process() -> Any:
    """The model with its lengths still to be fitted, from those above on."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    landscape = ConstantKernel(3.0, (1e-2, 1e3)) * Matern(LENGTHS, (0.05, 50.0), nu=2.5)
    kernel = landscape + WhiteKernel(3.0 * NOISE, (1e-5, 1.0))
    return GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without a warning for every length that ends at its bound: of a hyperparameter that changes nothing."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


class Surrogate:
    """Expected curves and luck, fitted to `measured` once; the same seed draws the same curve."""

    def __init__(self, measured: Measured) -> None:
        from sklearn.gaussian_process.kernels import Matern

        self._measured = measured
        first = measured.first
        y = warp(measured.accuracy[first])
        self._x = np.array([features(measured.configs[index]) for index in first])
        self._kernel = Matern(LENGTHS, nu=2.5)  # all steps share the lengths of the last
        self._mean = y.mean(axis=0)
        self._weights = np.linalg.solve(self._kernel(self._x) + NOISE * np.eye(len(y)), y - self._mean)  # (N, 36)

    def expected(self, config: Mapping[str, Any]) -> Array:
        """The expected curve, warped (36,)."""
        near = self._kernel(np.array([features(config)]), self._x)
        curve: Array = (near @ self._weights)[0] + self._mean
        return curve

    @cached_property
    def _luck(self) -> tuple[Array, Array]:
        """(expected end of each repeated configuration (R,), its deviations (R, seeds, 36))"""
        repeated: dict[int, list[int]] = {}
        for index, config in enumerate(self._measured.configs):
            repeated.setdefault(config["config"], []).append(index)
        groups = [rows for rows in repeated.values() if len(rows) > 1]
        seeds = min(len(rows) for rows in groups)
        curves = np.array([warp(self._measured.accuracy[rows[:seeds]]) for rows in groups])
        means = curves.mean(axis=1, keepdims=True)
        return means[:, 0, -1], (curves - means) * math.sqrt(seeds / (seeds - 1))

    @cached_property
    def _seconds(self) -> dict[tuple[int, str], list[tuple[float, float]]]:
        """(batch size, optimiser) -> what its measured trials took for a report, and for the validation in it."""
        found: dict[tuple[int, str], list[tuple[float, float]]] = {}
        for config in self._measured.configs:
            both = config["seconds"], config["validation_seconds"]
            found.setdefault((config["batch_size"], config["optimizer"]), []).append(both)
        return found

    def draw(self, config: Mapping[str, Any], seed: int) -> Curve:
        """One trial of `config`: expected curve, luck of a measured repeat, seconds of a measured trial like it."""
        dice = Random(seed)
        expected = self.expected(config)
        ends, deviations = self._luck
        nearest = np.argsort(np.abs(ends - expected[-1]))[:NEAR]
        luck = deviations[dice.choice(list(nearest)), dice.randrange(deviations.shape[1])] * dice.choice((-1, 1))
        seconds, validation = dice.choice(self._seconds[config["batch_size"], config["optimizer"]])
        accuracy = unwarp(expected + luck)
        return Curve(accuracy, max(seconds - validation, 0.0), validation, float(unwarp(expected)[-1]))


def quality(measured: Measured, folds: int = 10) -> list[tuple[str, float, float, float, float]]:
    """Held-out error of several models at the last report: (name, RMSE warped, RMSE in points of accuracy among the
    better half, Spearman's correlation among all, among the better half)."""
    from scipy.stats import spearmanr
    from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor, RandomForestRegressor
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.neighbors import KNeighborsRegressor

    first = measured.first
    x = np.array([features(measured.configs[index]) for index in first])
    accuracy = measured.accuracy[first][:, -1]
    models = {
        "Gaussian process": gaussian_process(),
        "extra trees": ExtraTreesRegressor(500, random_state=0),
        "random forest": RandomForestRegressor(500, random_state=0),
        "gradient boosting": HistGradientBoostingRegressor(random_state=0),
        "nearest 5": KNeighborsRegressor(5, weights="distance"),
    }
    better = accuracy >= np.median(accuracy)
    rows = []
    for name, model in models.items():
        with _quiet():
            held_out = cross_val_predict(model, x, warp(accuracy), cv=KFold(folds, shuffle=True, random_state=0))
        error = held_out - warp(accuracy)
        points = 100 * (unwarp(held_out) - accuracy)[better]
        rank = spearmanr(held_out, accuracy).statistic
        rank_better = spearmanr(held_out[better], accuracy[better]).statistic
        rows.append((name, rms(error), rms(points), float(rank), float(rank_better)))
    return rows


def luck_of(measured: Measured) -> tuple[int, float, float]:
    """(repeated configurations, standard deviation of the last report between seeds: warped; in points of accuracy
    among those above 97 %)"""
    groups: dict[int, list[float]] = {}
    for config, curve in zip(measured.configs, measured.accuracy, strict=True):
        groups.setdefault(config["config"], []).append(float(curve[-1]))
    repeated = [np.array(values) for values in groups.values() if len(values) > 1]
    good = [values for values in repeated if values.mean() > 0.97]
    return (
        len(repeated),
        rms(np.array([warp(values).std(ddof=1) for values in repeated])),
        100 * rms(np.array([values.std(ddof=1) for values in good])),
    )


def rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def main() -> None:
    measured = Measured.load()
    first = measured.first
    with _quiet():
        x = np.array([features(measured.configs[index]) for index in first])
        kernel = gaussian_process().fit(x, warp(measured.accuracy[first][:, -1])).kernel_
    lengths = ", ".join(f"{length:.3g}" for length in kernel.k1.k2.length_scale)
    print(f"LENGTHS = ({lengths})\nNOISE = {kernel.k2.noise_level / kernel.k1.k1.constant_value:.2g}\n")
    print(f"{len(first)} configurations, held out tenth by tenth; the score is the last report's")
    print(f"{'model':<18} {'RMSE warped':>11} {'better half, points':>20} {'rank':>6} {'rank, better half':>18}")
    for name, error, points, rank, rank_better in quality(measured):
        print(f"{name:<18} {error:>11.3f} {points:>20.3f} {rank:>6.3f} {rank_better:>18.3f}")
    count, warped, points = luck_of(measured)
    print(f"luck between seeds, {count} configurations: {warped:.3f} warped, {points:.3f} points above 97 %")
    for share in (0.5, 0.9, 0.95, 0.99):
        print(f"{share:.0%} of the configurations reach at most {measured.percentile(share):.4f}")


if __name__ == "__main__":
    main()
