"""Twelve inputs as people have them: each trains, on the right numbers, or ends with exit code 2 and the way out.

Each is given to a script's command, which trains one configuration in this process; what it trains on is looked at in
the same dataset.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import ExifTags, Image

from rungwise import Columns, Sweep, main
from rungwise.trainable.config import Config
from rungwise.trainable.data.data_source import DataSource
from rungwise.trainable.data.dataset import Dataset, load, notes

SWEEP = Sweep(
    name="inputs", question="Is it read?", space={}, fixed={"hidden": (16,), "batch_size": 8, "lr": 0.01}, epochs=20
)
Train = Callable[..., float]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Flags -> the exit code of the script with them, and all that it printed."""

    def run(*flags: str, metric: str = "val_accuracy") -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(replace(SWEEP, metric=metric), [*flags, "--one", "{}"])
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int), said
        return ended.value.code, f"{said.err}{said.out}"

    return run


@pytest.fixture
def train(command: Callable[..., tuple[int, str]]) -> Train:
    """Flags -> a metric after the last epoch."""

    def run(*flags: str, metric: str = "val_accuracy") -> float:
        code, said = command(*flags, metric=metric)
        assert code == 0, said
        last = said.splitlines()[-1].split()
        return float(last[last.index(metric) + 1])

    return run


@pytest.fixture
def refused(command: Callable[..., tuple[int, str]]) -> Callable[..., str]:
    """Flags -> the one line that refuses them."""

    def run(*flags: str) -> str:
        code, said = command(*flags)
        assert code == 2, said
        (line,) = (line for line in said.splitlines() if not line.startswith("note: "))
        return line.removeprefix("error: ")

    return run


def write(path: Path, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    return str(path)


def encoded(data: Dataset) -> pd.DataFrame:
    """The training rows as the network gets them before they are standardised, by name."""
    assert data.encoder is not None
    return pd.DataFrame(data.train.x, columns=data.encoder.names)


def test_passengers_with_names_gaps_and_an_identifier(tmp_path: Path, train: Train) -> None:
    random, rows = np.random.default_rng(0), []
    for number in range(1, 241):
        sex, age = ("female", "male")[number % 2], "" if number % 5 == 0 else number % 60 + 1
        rows.append(
            [number, int(sex == "female"), number % 3 + 1, f"Doe, Mr. {number}", sex, age, random.uniform(5, 90)]
        )
    path = write(tmp_path / "titanic.csv", ["PassengerId", "Survived", "Pclass", "Name", "Sex", "Age", "Fare"], rows)
    assert train("--data", path, "--target", "Survived", "--categorical", "Pclass") > 0.95
    data = load(DataSource(path, Columns(target="Survived", categorical=("Pclass",))))
    table = encoded(data)
    sexes, classes = ["Sex = female", "Sex = male"], [f"Pclass = {name}" for name in (1, 2, 3)]
    assert list(table) == [*classes, *sexes, "Age", "Age: missing", "Fare"]
    assert (table["Sex = female"] == data.train.y).all()
    assert (table[sexes].sum(axis=1) == 1).all()
    gone = table["Age: missing"] == 1
    assert set(table["Age"][gone]) == {table["Age"][~gone].median()}


def test_semicolons_and_decimal_commas(tmp_path: Path, train: Train, refused: Callable[..., str]) -> None:
    lines = [f"{n + 20},5;{'ja' if n % 4 == 0 else 'nein'};1.{n:03d},25" for n in range(120)]
    path = tmp_path / "wohnungen.csv"
    path.write_text("\r\n".join(["Fläche;Balkon;Preis", *lines]), encoding="utf-8-sig")
    assert train("--data", str(path), "--target", "Preis", metric="val_r2") > 0.8
    assert "labels are real numbers, so there is no val_accuracy; say" in refused(
        "--data", str(path), "--target", "Preis"
    )
    data = load(DataSource(str(path), Columns(target="Preis")))
    table = encoded(data)
    assert list(table) == ["Fläche", "Balkon = ja", "Balkon = nein"]
    assert (data.train.y == 1000 + (table["Fläche"] - 20.5) + 0.25).all()


def test_pandas_categories_in_parquet(tmp_path: Path, train: Train) -> None:
    sizes = pd.Categorical(["S", "M", "L", None] * 40, categories=["S", "M", "L", "XL"], ordered=True)
    colours = pd.Categorical.from_codes(np.arange(160) % 2, categories=["red", "blue"])
    frame = pd.DataFrame({"size": sizes, "colour": colours, "label": np.where(colours == "red", "warm", "cold")})
    frame.to_parquet(tmp_path / "shirts.parquet")
    path = str(tmp_path / "shirts.parquet")
    assert train("--data", path) == 1.0
    data = load(path)
    table = encoded(data)
    assert list(table) == ["size = L", "size = M", "size = S", "size: missing", "colour = blue", "colour = red"]
    assert data.classes == ("cold", "warm")
    assert (table["colour = red"] == data.train.y).all()
    assert (table.iloc[:, :4].sum(axis=1) == 1).all()


def test_the_measurements_of_a_patient_are_in_one_split(tmp_path: Path, train: Train) -> None:
    rows = [[f"P{n // 8}", n % 8, n // 8, ("healthy", "ill")[n // 8 % 2]] for n in range(320)]
    path = write(tmp_path / "visits.csv", ["patient", "visit", "code", "label"], rows)
    train("--data", path, "--group", "patient")
    data = load(DataSource(path, Columns(group="patient")))
    assert data.test is not None
    patients = [set(part.x[:, 1].tolist()) for part in (data.train, data.validation, data.test)]
    assert len(set.union(*patients)) == sum(map(len, patients)) == 40
    assert [len(part) for part in (data.train, data.validation, data.test)] == [224, 48, 48]


def test_a_time_series_is_tested_on_what_comes_last(tmp_path: Path, train: Train) -> None:
    days = [date(2022, 1, 1) + timedelta(n) for n in range(400)]
    rows = [[day.isoformat(), n, 20 + n / 10, 60 + n / 5 + n % 7] for n, day in enumerate(days)]
    np.random.default_rng(0).shuffle(rows)
    path = write(tmp_path / "demand.csv", ["day", "hour", "temperature", "demand"], rows)
    assert train("--data", path, "--target", "demand", "--time", "day", metric="val_mse") < 100
    data = load(DataSource(path, Columns(target="demand", time="day", numeric=("hour",))))
    assert data.test is not None
    hours = [sorted(part.x[:, 0].tolist()) for part in (data.train, data.validation, data.test)]
    assert hours == [list(range(280)), list(range(280, 340)), list(range(340, 400))]


def test_images_that_are_grey_transparent_and_turned(tmp_path: Path, train: Train, refused: Callable[..., str]) -> None:
    random = np.random.default_rng(0)
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
        for number in range(30):
            grey = random.integers(0, 60, (6, 9), dtype=np.uint8)
            grey[:, :3] = 255 if name == "left" else grey[:, :3]
            grey[:, 6:] = 255 if name == "right" else grey[:, 6:]
            image, exif = Image.fromarray(grey), Image.Exif()
            if number % 3 == 1:  # all that is bright is transparent, over black
                image = Image.fromarray(np.dstack([grey * (grey < 255)] * 3 + [255 * (grey < 255)]).astype(np.uint8))
            elif number % 3 == 2:  # lies on its side, as a telephone stores it
                image, exif[ExifTags.Base.Orientation] = image.transpose(Image.Transpose.ROTATE_90), 6
            image.save(tmp_path / name / f"{number}.png", exif=exif)
    assert train("--data", str(tmp_path)) == 1.0
    data = load(str(tmp_path))
    assert data.shape == (3, 6, 9)
    bright = data.train.x.mean((1, 2)) > 200  # (N, W) of each column
    assert (bright[data.train.y == 0] == [True] * 3 + [False] * 6).all()
    assert (bright[data.train.y == 1] == [False] * 6 + [True] * 3).all()
    assert {
        "20 of 60 images: rotated according to EXIF",
        "20 of 60 images: transparent parts composited on white",
    } <= set(notes(data))
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "left" / "other.png")
    line = refused("--data", str(tmp_path))
    assert "all images must have one size" in line
    assert "other.png has 5x5" in line
    assert "resize them beforehand" in line


class Words(torch.nn.Module):
    """Logits of the words in a text."""

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(40, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.words(x).sum(1)


def words(_config: Config) -> torch.nn.Module:
    return Words()


def pitch(_config: Config) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16 * 5, 2))


def test_token_ids_are_no_amounts(tmp_path: Path, train: Train, command: Callable[..., tuple[int, str]]) -> None:
    x = np.random.default_rng(0).integers(0, 40, (600, 6))
    path = str(tmp_path / "texts.npz")
    np.savez(path, x=x, y=(x > 30).any(1).astype(int))
    given = ("--data", path, "--model", f"{__file__}:words")
    assert train(*given, "--preprocess", "none") > 0.9
    assert load(DataSource(path, preprocess="none")).train.x.dtype == np.int64
    assert command("--data", path)[0] == 0
    assert "identifiers (of words, of categories) mean nothing that way" in " ".join(notes(load(path)))


def test_spectrograms_stay_on_their_scale(tmp_path: Path, train: Train, refused: Callable[..., str]) -> None:
    x = np.random.default_rng(0).normal(-40, 5, (120, 1, 16, 5)).astype(np.float32)
    x[::2, :, 3] += 30
    path = str(tmp_path / "spectrograms.npz")
    np.savez(path, x=x, y=np.arange(120) % 2)
    assert "a model of your own takes them as they are with --preprocess none" in refused("--data", path)
    assert train("--data", path, "--preprocess", "none", "--model", f"{__file__}:pitch") > 0.9
    data = load(DataSource(path, preprocess="none"))
    assert data.train.x.shape[1:] == (1, 16, 5)
    assert data.train.x.min() < -50


def test_ten_rows(tmp_path: Path, train: Train) -> None:
    path = write(tmp_path / "ten.csv", ["x", "label"], [[n % 5 / 2, n / 3] for n in range(10)])
    train("--data", path, metric="val_mse")
    data = load(path)
    assert data.test is not None
    assert [len(part) for part in (data.train, data.validation, data.test)] == [6, 2, 2]


def test_one_class(tmp_path: Path, refused: Callable[..., str]) -> None:
    path = write(tmp_path / "one.csv", ["x", "label"], [[n, "spam"] for n in range(50)])
    assert refused("--data", path) == "the target 'label' must have two values or more, but is always spam"


def test_a_constant_column(tmp_path: Path, train: Train, refused: Callable[..., str]) -> None:
    path = write(tmp_path / "t.csv", ["x", "unit", "label"], [[n % 9, "mm", "ab"[n % 9 > 4]] for n in range(90)])
    assert train("--data", path) > 0.9
    data = load(path)
    assert list(encoded(data)) == ["x"]
    assert data.encoder is not None
    assert data.encoder.left_out == {"unit": "it is 'mm' in all training rows"}
    line = refused("--data", path, "--drop", "x")
    assert "must have a column beside the target that is a feature, but 'x' by --drop; 'unit' it is 'mm'" in line


def test_five_thousand_columns(tmp_path: Path, train: Train) -> None:
    x = np.random.default_rng(0).normal(size=(100, 5000)).round(3)
    rows = [[*row, "ab"[number % 2]] for number, row in enumerate(x)]
    names = [f"gene {number}" for number in range(5000)]
    path = write(tmp_path / "genes.csv", [*names, "label"], rows)
    train("--data", path)
    data = load(path)
    assert list(encoded(data)) == names
    parts = np.concatenate([part.x for part in (data.train, data.validation, *([data.test] if data.test else []))])
    assert np.sort(parts[:, 4999]) == pytest.approx(np.sort(x[:, 4999]), rel=1e-6)
