"""A user's own data, as .npz or Parquet: what is read, and the one line that refuses the rest."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rungwise.trainable.data.data_source import DataSource
from rungwise.trainable.data.dataset import DataError, load, problems
from rungwise.trainable.data.published import MNIST, read_mnist
from rungwise.trainable.data.tensors import Tensors

RNG = np.random.default_rng(1)
X = RNG.normal(size=(200, 5)) * [1, 10, 100, 1, 1] + [0, 5, 0, 0, 0]
X[:, 4] = 3.0  # a constant column
Y = np.arange(200) % 4
IMAGES = RNG.integers(0, 256, (200, 3, 4, 5), dtype=np.uint8)

Write = Callable[..., str]


@pytest.fixture
def npz(tmp_path: Path) -> Write:
    def write(**arrays: Any) -> str:
        np.savez(tmp_path / "own.npz", **arrays)
        return str(tmp_path / "own.npz")

    return write


@pytest.fixture
def parquet(tmp_path: Path) -> Write:
    def write(columns: pa.Table | dict[str, Any]) -> str:
        path = tmp_path / "own.parquet"
        pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, write_page_checksum=True)
        return str(path)

    return write


def image_table(shape: str = "3,4,5") -> pa.Table:
    field = pa.field("image", pa.binary(60), metadata={"shape": shape})
    images = pa.array([x.tobytes() for x in IMAGES], pa.binary(60))
    return pa.Table.from_arrays([images, pa.array(Y)], schema=pa.schema([field, pa.field("label", pa.int64())]))


def test_one_array_is_split_70_15_15_by_a_fixed_draw(npz: Write) -> None:
    path = npz(x=X, y=Y)
    data = load(path)
    assert data.test is not None
    assert [len(part) for part in (data.train, data.validation, data.test)] == [140, 30, 30]
    assert data.digest == load(path).digest
    found = np.concatenate([part.x for part in (data.train, data.validation, data.test)])
    assert np.array_equal(np.sort(found[:, 0]), np.sort(X[:, 0].astype(np.float32)))
    assert data.shape == (5,)
    assert data.classes == ("0", "1", "2", "3")


def test_own_splits_are_kept_as_they_are(npz: Write) -> None:
    parts = {"x": X[:100], "x_validation": X[100:150], "x_test": X[150:]}
    labels = {"y": Y[:100], "y_validation": Y[100:150], "y_test": Y[150:]}
    data = load(npz(**parts, **labels))
    assert data.test is not None
    assert np.array_equal(data.validation.x, X[100:150].astype(np.float32))
    assert np.array_equal(data.test.y, Y[150:])


def test_columns_are_scaled_by_the_training_splits_statistics_and_constants_become_zero(npz: Write) -> None:
    data = load(npz(x=X, y=Y))
    assert data.mean == pytest.approx(data.train.x.mean(0, dtype=np.float64))
    assert data.std[:4] == pytest.approx(data.train.x.std(0, dtype=np.float64)[:4])
    assert data.std[4] == 1
    tensors = Tensors.of(data, "cpu")
    assert ((tensors.x_train - tensors.mean) / tensors.std)[:, 4].abs().max() == 0


def test_images_have_statistics_for_each_channel(npz: Write) -> None:
    data = load(npz(x=IMAGES, y=Y))
    x = data.train.x.astype(np.float64)
    assert data.mean == pytest.approx(x.mean((0, 2, 3)))
    assert data.std == pytest.approx(x.std((0, 2, 3)))
    assert Tensors.of(data, "cpu").mean.shape == (3, 1, 1)


def test_grey_images_need_no_channel_axis(npz: Write) -> None:
    assert load(npz(x=IMAGES[:, 0], y=Y)).shape == (1, 4, 5)


def test_parquet_columns_are_features(parquet: Write, npz: Write) -> None:
    columns = {f"c{i}": X[:, i] for i in range(5)} | {"label": Y}
    assert load(parquet(columns)).digest == load(npz(x=X, y=Y)).digest


def test_parquet_images_are_bytes_with_a_shape(parquet: Write, npz: Write) -> None:
    assert load(parquet(image_table())).digest == load(npz(x=IMAGES, y=Y)).digest


@pytest.mark.parametrize("words", [("train", "validation", "test"), ("Training", " valset", "testing")])
def test_a_parquet_file_may_name_its_split(parquet: Write, words: tuple[str, ...]) -> None:
    split = np.repeat(words, [120, 40, 40])
    data = load(parquet({"a": X[:, 0], "label": Y, "split": split}))
    assert data.test is not None
    assert np.array_equal(data.test.x[:, 0], X[160:, 0].astype(np.float32))
    assert data.shape == (1,)


WITH_NAN = np.where(np.arange(1000).reshape(200, 5) == 7, np.nan, X)

BAD_NPZ: dict[str, tuple[dict[str, Any], str]] = {
    "lengths": ({"x": X, "y": Y[1:]}, "one length, but .* has 200 samples and 199 labels"),
    "gap in labels": ({"x": X, "y": Y * 2}, "labels must be 0..K-1 .* 4 labels from 0 to 6"),
    "labels from one": ({"x": X, "y": Y + 1}, "labels must be 0..K-1 .* 4 labels from 1 to 4"),
    "negative labels": ({"x": X, "y": Y - 1}, "labels must be 0..K-1 .* 4 labels from -1 to 2"),
    "one class": ({"x": X, "y": Y * 0}, "K >= 2"),
    "complex labels": ({"x": X, "y": Y * 1j}, r"y must be whole numbers, text or real numbers \(N,\), but .* complex"),
    "one-hot labels": ({"x": X, "y": np.eye(4, dtype=int)[Y]}, r"y must be whole numbers.* \(200, 4\)"),
    "empty": ({"x": X[:0], "y": Y[:0]}, r"a split must have a sample and a feature, but .* \(0, 5\)"),
    "no features": ({"x": X[:, :0], "y": Y}, r"a split must have a sample and a feature, but .* \(200, 0\)"),
    "too few": ({"x": X[:2], "y": Y[:2]}, "must have 6 samples or more, .* but has 2"),
    "nan": ({"x": WITH_NAN, "y": Y}, "x must be finite in float32, but .* 1 values"),
    "beyond float32": ({"x": X * 1e300, "y": Y}, "x must be finite in float32"),
    "float images": ({"x": IMAGES / 255, "y": Y}, r"x must be uint8 \(N, C, H, W\) .* float64"),
    "complex": ({"x": X * 1j, "y": Y}, "x must be uint8 .* or numbers"),
    "text": ({"x": X.astype(str), "y": Y}, "x must be uint8 .* or numbers"),
    "unknown array": ({"x": X, "y": Y, "z": Y}, "must contain the arrays x, y or .*, but contains x, y, z"),
    "half a split": ({"x": X, "y": Y, "x_test": X, "y_test": Y}, "must contain the arrays"),
    "pickled objects": ({"x": np.array([{}] * 200), "y": Y}, "must be of numbers or text"),
    "other shape in test": (
        {"x": X, "y": Y, "x_validation": X, "y_validation": Y, "x_test": X[:, 1:], "y_test": Y},
        r"every split must have one shape, but .* \[\(4,\), \(5,\)\]",
    ),
}


@pytest.mark.parametrize("case", list(BAD_NPZ))
def test_an_npz_file_that_cannot_be_used_is_refused_in_one_line(npz: Write, case: str) -> None:
    arrays, message = BAD_NPZ[case]
    path = npz(**arrays)
    with pytest.raises(DataError, match=message) as raised:
        load(path)
    assert "own.npz" in str(raised.value)
    assert "\n" not in str(raised.value)


BAD_PARQUET: dict[str, tuple[Any, str]] = {
    "no label": ({"a": X[:, 0]}, "--target must name the column to predict, since .* it has 1 column: a"),
    "no feature": ({"label": Y}, "must have a column beside the target .* but there is no other column"),
    "unknown split": (
        {"a": X[:, 0], "label": Y, "split": ["dev"] * 200},
        "must say train, validation, test, but says dev",
    ),
    "shape of other size": (image_table("1,28,28"), "must say its shape .* but says '1,28,28' for 60 bytes"),
    "no shape": (image_table(""), "must say its shape .* but says '' for 60 bytes"),
}


@pytest.mark.parametrize("case", list(BAD_PARQUET))
def test_a_parquet_file_that_cannot_be_used_is_refused_in_one_line(parquet: Write, case: str) -> None:
    columns, message = BAD_PARQUET[case]
    with pytest.raises(DataError, match=message) as raised:
        load(parquet(columns))
    assert "own.parquet" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["own.npz", "own.parquet"])
def test_a_file_that_is_missing_or_none_is_known_before_it_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert problems(DataSource(str(path))) == [f"a data file must exist, but there is none at {str(path)!r}"]
    path.write_bytes(b"not what its name says")
    (problem,) = problems(DataSource(str(path)))
    assert "must be readable and whole" in problem


def test_a_file_of_another_kind_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (problem,) = problems(DataSource(str(tmp_path / "own.xlsx")))
    assert "data must be a file that ends in .csv, .tsv, .parquet, .arrow, .feather, .ipc or .npz" in problem


def test_a_file_in_the_working_folder_is_no_unknown_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.txt").write_text("a,label\n")
    (problem,) = problems(DataSource("own.txt"))
    assert "data must be a file that ends in" in problem


@pytest.mark.parametrize(
    "column", [pa.array([None, *X[1:, 0]]), Y.astype(str), pa.array(Y.astype(str)).dictionary_encode()]
)
def test_gaps_and_text_in_a_parquet_file_are_encoded(parquet: Write, column: Any) -> None:
    data = load(parquet({"age": X[:, 0], "other": column, "label": Y > 1}))
    assert data.encoder is not None
    assert data.classes == ("false", "true")


@pytest.mark.parametrize("others", [{}, {"age": X[:, 0]}])
def test_boolean_columns_are_features_of_zeros_and_ones(parquet: Write, others: dict[str, Any]) -> None:
    flags = {"basic": Y == 0, "plus": Y == 1}
    numbers = {name: flag.astype(np.int64) for name, flag in flags.items()}
    as_booleans = load(parquet({**others, **flags, "label": Y}))
    assert as_booleans.digest == load(parquet({**others, **numbers, "label": Y})).digest


def test_wrong_columns_and_arrays_are_known_before_anything_is_read_whole(npz: Write, parquet: Write) -> None:
    assert "must contain the arrays" in problems(DataSource(npz(a=X)))[0]
    assert "--target must name the column" in problems(DataSource(parquet({"a": X[:, 0]})))[0]
    assert problems(DataSource(npz(x=X, y=Y))) == []
    assert problems(DataSource(parquet(image_table()))) == []


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_a_flipped_bit_in_a_users_file_is_refused_or_harmless(npz: Write, parquet: Write, kind: str) -> None:
    path = Path(npz(x=IMAGES, y=Y) if kind == "npz" else parquet(image_table()))
    whole = path.read_bytes()
    digest = load(str(path)).digest
    places = random.Random(1)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[places.randrange(len(whole))] ^= 1 << places.randrange(8)
        path.write_bytes(damaged)
        try:
            assert load(str(path)).digest == digest
        except DataError:
            refused += 1
    assert refused > 75


def test_a_flipped_bit_in_the_embedded_mnist_is_refused(tmp_path: Path) -> None:
    """Anywhere in its pages, which are all but the last 14 KB of its 10 MB."""
    copy = tmp_path / "mnist.parquet"
    shutil.copy(MNIST, copy)
    places = random.Random(2)
    with copy.open("r+b") as file:
        for _ in range(5):
            place, bit = places.randrange(1000, MNIST.stat().st_size - 20_000), 1 << places.randrange(8)
            file.seek(place)
            (byte,) = file.read(1)
            for value in (byte ^ bit, byte):
                file.seek(place)
                file.write(bytes([value]))
                file.flush()
                if value != byte:
                    with pytest.raises(DataError, match="must be readable and whole"):
                        read_mnist(copy)
    assert copy.read_bytes() == MNIST.read_bytes()


@pytest.mark.parametrize("kept", [0, 3, 1000, 5_000_000, -1])
def test_a_torn_copy_of_the_embedded_mnist_is_refused(tmp_path: Path, kept: int) -> None:
    copy = tmp_path / "mnist.parquet"
    copy.write_bytes(MNIST.read_bytes()[:kept])
    with pytest.raises(DataError, match="must be readable and whole"):
        read_mnist(copy)
