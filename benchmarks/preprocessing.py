"""Is a table encoded as well as scikit-learn's ColumnTransformer would? The same rows, split and models, paired.

    python benchmarks/preprocessing.py                # two minutes; --repeats 5: less

Each repeat draws another split and other gaps. Theirs: SimpleImputer of the median with indicators and StandardScaler
for numbers, OneHotEncoder for text. Ours: what a sweep with this file trains on. Then scikit-learn's own linear model
and MLP learn from the training rows of either, and are scored on the test rows: accuracy, or R2 of a regression.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from rungwise import Columns
from rungwise.trainable.data.data_source import DataSource
from rungwise.trainable.data.dataset import load

Array = NDArray[Any]
Draw = np.random.Generator
GAPS = 0.15  # of the values of a column that has gaps
PARTS, SHARES = ("train", "validation", "test"), (0.7, 0.15, 0.15)


@dataclass(frozen=True)
class Frame:
    """A table: columns of float64 (NaN: no value) or of text (""), and its target."""

    columns: dict[str, Array]
    target: Array

    @property
    def is_regression(self) -> bool:
        return self.target.dtype.kind == "f"

    @property
    def roles(self) -> Columns:
        return Columns(target="y", task="regression" if self.is_regression else "classification")


def customers(random: Draw) -> Frame:
    """Made up: three towns, amounts over decades, ages whose absence says something."""
    rows = 600
    town, spend, age = random.choice(["a", "b", "c"], rows), random.lognormal(3, 1, rows), random.uniform(18, 80, rows)
    silent = random.random(rows) < GAPS
    score = np.log(spend) + (town == "b") - 0.03 * age + 1.5 * silent + random.normal(0, 0.7, rows)
    columns = {"town": town.astype(object), "spend": spend, "age": np.where(silent, np.nan, age)}
    return Frame(columns, np.where(score > np.median(score), "stays", "leaves").astype(object))


def published(read: Callable[..., tuple[Array, Array]], random: Draw) -> Frame:
    """One of scikit-learn's tables: a third of its columns with gaps, a third as text of four words."""
    x, y = read(return_X_y=True)
    columns: dict[str, Array] = {}
    for place, values in enumerate(x.T):
        gone = random.random(len(values)) < GAPS
        if place % 3 == 1:
            columns[f"c{place}"] = np.where(gone, np.nan, values)
        elif place % 3 == 2:
            words = np.array(["low", "middle", "high", "top"], object)
            columns[f"c{place}"] = words[np.searchsorted(np.quantile(values, (0.25, 0.5, 0.75)), values)]
        else:
            columns[f"c{place}"] = values.astype(np.float64)
    return Frame(columns, y.astype(np.float64) if y.dtype.kind == "f" else np.array([f"k{k}" for k in y], object))


TABLES: dict[str, Callable[[Draw], Frame]] = {
    "customers": customers,
    "breast cancer": lambda random: published(load_breast_cancer, random),
    "wine": lambda random: published(load_wine, random),
    "diabetes": lambda random: published(load_diabetes, random),
}


def ours(frame: Frame, parts: Array, folder: Path) -> tuple[Array, Array]:
    """The training and the test rows as a sweep has them, in the order of the table."""
    path = folder / "table.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*frame.columns, "y", "split"])
        for row in zip(*frame.columns.values(), frame.target, parts, strict=True):
            writer.writerow(["" if isinstance(value, float) and np.isnan(value) else value for value in row])
    data = load(DataSource(str(path), frame.roles))
    assert data.test is not None
    train, test = ((part.x - np.array(data.mean)) / np.array(data.std) for part in (data.train, data.test))
    return train, test


def theirs(frame: Frame, parts: Array) -> tuple[Array, Array]:
    """The same rows, by a ColumnTransformer that is fitted on the training rows."""
    table = np.column_stack([values.astype(object) for values in frame.columns.values()])
    text = [place for place, values in enumerate(frame.columns.values()) if values.dtype == object]
    numbers = [place for place in range(table.shape[1]) if place not in text]
    scaled = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    transformer = ColumnTransformer(
        [("numbers", scaled, numbers), ("text", OneHotEncoder(handle_unknown="ignore", sparse_output=False), text)]
    )
    train = transformer.fit_transform(table[parts == "train"])
    return np.asarray(train, np.float64), np.asarray(transformer.transform(table[parts == "test"]), np.float64)


def models(is_regression: bool) -> dict[str, Any]:
    network: dict[str, Any] = {"hidden_layer_sizes": (32,), "max_iter": 400, "random_state": 0}
    if is_regression:
        return {"Ridge": Ridge(), "MLP": MLPRegressor(**network)}
    return {"LogisticRegression": LogisticRegression(), "MLP": MLPClassifier(**network)}


def compared(name: str, repeats: int) -> dict[str, Array]:
    """Scores of ours and theirs, (repeats, 2), of each model on the table `name`."""
    scores: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of either: both have the same number of steps
        for seed in range(repeats):
            random = np.random.default_rng(seed)
            frame = TABLES[name](random)
            parts = random.choice(PARTS, len(frame.target), p=SHARES)
            y = frame.target / frame.target.std() if frame.is_regression else frame.target
            encoded = ours(frame, parts, Path(folder)), theirs(frame, parts)
            for model_name, model in models(frame.is_regression).items():
                row = [model.fit(train, y[parts == "train"]).score(test, y[parts == "test"]) for train, test in encoded]
                scores.setdefault(model_name, []).append(row)
    return {model_name: np.array(rows) for model_name, rows in scores.items()}


def line(label: str, scores: Array) -> str:
    """Means, and the mean difference with its 95% interval (Student, paired), in points."""
    difference = 100 * (scores[:, 0] - scores[:, 1])
    half = stats.t.ppf(0.975, len(difference) - 1) * difference.std(ddof=1) / np.sqrt(len(difference))
    means = 100 * scores.mean(0)
    return (
        f"{label:<32}{means[0]:8.2f}{means[1]:8.2f}{difference.mean():+9.2f} +- {half:.2f}  "
        f"({difference.min():+.2f} to {difference.max():+.2f}, n={len(difference)})"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    given = parser.parse_args(arguments)
    print(f"{'table, model':<32}{'ours':>8}{'theirs':>8}{'points':>9}")
    for name in given.only:
        for model, scores in compared(name, given.repeats).items():
            print(line(f"{name}, {model}", scores), flush=True)


if __name__ == "__main__":
    main()
