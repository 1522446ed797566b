"""Data whose form types and marks tell: categories that are numbers, files in parts, other encodings, one label."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from rungwise import Columns
from rungwise.trainable.data.data_source import DataSource
from rungwise.trainable.data.dataset import DataError, Dataset, load, notes
from rungwise.trainable.data.table.encoder import TableEncoder
from rungwise.trainable.data.table.table_data import read_rows

ROWS = 60
X = np.arange(ROWS) % 7 + 0.5
CLASSES = ["a", "b"] * 30
WHOLE = 2**53 + 1


def encoder_of(data: Dataset) -> TableEncoder:
    assert data.encoder is not None
    return data.encoder


def parquet(path: Path, **columns: Any) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
def test_numbers_that_pandas_calls_categories_are_categories(tmp_path: Path, suffix: str) -> None:
    codes = pd.Categorical(np.arange(ROWS) % 3 + 10)
    frame = pd.DataFrame({"code": codes, "x": X, "label": pd.Categorical(np.arange(ROWS) % 2 + 1)})
    path = str(tmp_path / f"t.{suffix}")
    (frame.to_parquet if suffix == "parquet" else frame.to_feather)(path)
    data = load(path)
    assert encoder_of(data).names == ["code = 10", "code = 11", "code = 12", "x"]
    assert data.classes == ("1", "2")
    assert "code" in encoder_of(load(DataSource(path, Columns(numeric=("code",))))).names
    (tmp_path / "new.csv").write_text("code,x\n12,1\n11,2\n")
    rows, said = read_rows(tmp_path / "new.csv", encoder_of(data))
    assert rows[:, :3].tolist() == [[0, 0, 1], [0, 1, 0]]
    assert not said


def test_a_category_is_the_same_number_in_files_of_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "text.csv").write_text(
        "c,label\n" + "".join(f"{(0.1, 2, '007')[n % 3]},{CLASSES[n]}\n" for n in range(60))
    )
    typed = parquet(tmp_path / "typed.parquet", c=np.array([0.1, 2.0, 7.0] * 20), label=CLASSES)
    named = Columns(categorical=("c",))
    of_text, of_numbers = (encoder_of(load(DataSource(str(path), named))) for path in (tmp_path / "text.csv", typed))
    (tmp_path / "new.csv").write_text("c\n0.10\n2.0\n007\n")
    assert read_rows(tmp_path / "new.csv", of_numbers)[0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert of_text.names == ["c = 0.1", "c = 007", "c = 2"]
    assert read_rows(Path(typed), of_text)[0][:3].tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_a_negative_zero_is_the_category_of_zero(tmp_path: Path) -> None:
    path = tmp_path / "t.arrow"
    pa.feather.write_feather(pa.table({"c": np.array([-0.0, 0.0, 1.0] * 20), "label": CLASSES}), path)
    assert encoder_of(load(DataSource(str(path), Columns(categorical=("c",))))).names == ["c = 0", "c = 1"]


def test_whole_numbers_of_a_text_that_would_lose_digits_are_categories(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("account,label\n" + "".join(f"{WHOLE + n % 2},{CLASSES[n]}\n" for n in range(ROWS)))
    data = load(str(path))
    assert encoder_of(data).names == [f"account = {WHOLE}", f"account = {WHOLE + 1}"]
    assert (data.train.x[:, 1] == data.train.y).all()
    with pytest.raises(DataError, match=rf"'account' .* but has {WHOLE}: .* --drop 'account'"):
        load(DataSource(str(path), Columns(numeric=("account",))))


def test_a_group_is_one_whether_it_is_written_with_decimals(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = (f"{n // 4}{'.0' if n % 2 else ''},{n},{CLASSES[n // 4]}\n" for n in range(ROWS))
    path.write_text("patient,visit,label\n" + "".join(rows))
    data = load(DataSource(str(path), Columns(group="patient", numeric=("visit",))))
    assert data.test is not None
    patients = [set((part.x[:, 0] // 4).tolist()) for part in (data.train, data.validation, data.test)]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 15


@pytest.mark.parametrize("other", [pa.array(["a", "z"] * 30), pa.array(["a", "z"] * 30).dictionary_encode()])
def test_parts_may_keep_categories_in_other_ways(tmp_path: Path, other: pa.Array) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    parquet(folder / "0.parquet", c=pa.array(CLASSES).dictionary_encode(), label=CLASSES)
    parquet(folder / "1.parquet", c=other, label=CLASSES)
    assert encoder_of(load(str(folder))).names == ["c = a", "c = b", "c = z"]
    parquet(folder / "1.parquet", c=X, label=CLASSES)
    with pytest.raises(DataError, match=r"must have one type in all files of .* Field c has incompatible types"):
        load(str(folder))


@pytest.mark.parametrize("name", ["year=2020/part.parquet", "a.csv"])
def test_a_folder_of_other_tables_is_told_how_it_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=f"of tables such as {name}, a folder must contain Parquet files and"):
        load(str(tmp_path))


def test_numbers_that_are_none_name_their_column_and_the_way_out(tmp_path: Path) -> None:
    gaps = np.where(np.arange(ROWS) == 3, np.nan, X)  # as Polars saves them
    path = parquet(tmp_path / "t.parquet", x=X, gaps=gaps, label=CLASSES)
    with pytest.raises(DataError, match="row 4 of 'gaps' has nan: --target 'label' takes NaN as a missing value"):
        load(path)
    assert encoder_of(load(DataSource(path, Columns(target="label")))).names[1:] in (
        ["gaps", "gaps: missing"],
        ["gaps"],
    )
    path = parquet(tmp_path / "t.parquet", x=X, rate=np.where(np.arange(ROWS) == 3, np.inf, X), label=CLASSES)
    with pytest.raises(DataError, match="row 4 of 'rate' has inf: --drop 'rate'"):
        load(path)
    assert encoder_of(load(DataSource(path, Columns(drop=("rate",))))).names == ["x"]


TEXT = "x,label\n" + "".join(f"{n % 7},{CLASSES[n]}\n" for n in range(ROWS))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TEXT.encode("utf-16-le"), "save it as UTF-8"),
        (TEXT.encode("utf-32"), "save it as UTF-8"),
        (TEXT.replace("x", "大阪").encode("shift_jis"), "save it as UTF-8"),
        (gzip.compress(TEXT.encode()), "unpack it first"),
    ],
    ids=["UTF-16 without its mark", "UTF-32", "Shift-JIS", "gzip"],
)
def test_a_text_in_another_encoding_is_refused_with_the_way_out(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=said):
        load(str(tmp_path / "t.csv"))


def test_signs_of_other_countries_in_numbers(tmp_path: Path) -> None:
    rows = (f'\u2212{n % 7}.5,{n % 5 + 1}\'200.50,"{n % 3},5",{CLASSES[n]}' for n in range(ROWS))
    (tmp_path / "t.csv").write_text("\n".join(["minus,swiss,comma,label", *rows]), encoding="utf-8")
    data = load(str(tmp_path / "t.csv"))
    assert encoder_of(data).names == ["minus", "swiss", "comma = 0,5", "comma = 1,5", "comma = 2,5"]
    assert set(data.train.x[:, 0].tolist()) == {-n - 0.5 for n in range(7)}
    assert set(data.train.x[:, 1].tolist()) == {1000 * n + 200.5 for n in range(1, 6)}
    assert "column 'comma' has numbers with a decimal comma, and is taken as categories: write a point" in notes(data)


def test_a_tsv_without_tabs_has_another_delimiter(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text(TEXT.replace(",", ";"))
    assert encoder_of(load(str(tmp_path / "t.tsv"))).names == ["x"]


Y = np.arange(ROWS) % 2
IDS = np.arange(ROWS * 4).reshape(ROWS, 4) % 40


def npz(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def test_truth_values_of_arrays_are_zeros_and_ones(tmp_path: Path) -> None:
    data = load(npz(tmp_path / "t.npz", x=np.column_stack([Y == 1, Y == 0]), y=Y == 1))
    assert (data.train.x[:, 0] == data.train.y).all()
    assert data.classes == ("0", "1")


def test_small_token_ids_are_whole_numbers_that_an_embedding_takes(tmp_path: Path) -> None:
    data = load(DataSource(npz(tmp_path / "t.npz", x=IDS.astype(np.uint8), y=Y), preprocess="none"))
    assert data.train.x.dtype == np.int64
    pictures = np.zeros((ROWS, 3, 4, 4), np.uint8)
    assert load(DataSource(npz(tmp_path / "p.npz", x=pictures, y=Y), preprocess="none")).train.x.dtype == np.uint8


def test_sequences_of_several_lengths_are_refused_with_the_way_out(tmp_path: Path) -> None:
    path = npz(tmp_path / "t.npz", x=np.array([[1], [2, 3]] * 30, object), y=Y)
    with pytest.raises(DataError, match="pad sequences to one length"):
        load(path)


ONE_LABEL: Mapping[str, tuple[list[str], Columns, str]] = {
    "by time": ([f"{n},{n % 7},{'ab'[n > 50]}" for n in range(ROWS)], Columns(time="split"), "'a'"),
    "by the file": (
        [f"{('train', 'val', 'test')[n % 3]},{n % 7},{'ab'[n % 3 == 2]}" for n in range(ROWS)],
        Columns(),
        "'a'",
    ),
    "of a regression": ([f"{n},{n % 7},1.5" for n in range(ROWS)], Columns(drop="split", task="regression"), "1.5"),
}


@pytest.mark.parametrize(("rows", "columns", "value"), ONE_LABEL.values(), ids=ONE_LABEL)
def test_a_training_split_of_one_label_is_refused(
    tmp_path: Path, rows: list[str], columns: Columns, value: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["split,x,label", *rows]))
    with pytest.raises(DataError, match=f"training samples of .* are {value}: split the samples otherwise"):
        load(DataSource(str(path), columns))


def test_labels_that_do_not_count_from_zero_are_told_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 labels from 1 to 2; labels saved as text may be any"):
        load(npz(tmp_path / "t.npz", x=IDS, y=Y + 1))
