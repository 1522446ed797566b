"""Tables as people have them: read, typed by column, split, and encoded by what the training rows say."""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from rungwise import Columns
from rungwise.trainable.data.data_source import DataSource
from rungwise.trainable.data.dataset import DataError, Dataset, load, notes
from rungwise.trainable.data.raw import Array
from rungwise.trainable.data.table.encoder import TableEncoder
from rungwise.trainable.data.table.table_data import read_rows
from rungwise.trainable.training.builtin import BuiltInTraining

Rows = list[list[Any]]
ROWS = 200


def encoder_of(data: Dataset) -> TableEncoder:
    assert data.encoder is not None
    return data.encoder


def done(data: Dataset) -> dict[str, str]:
    """What was done to each column."""
    return dict(encoder_of(data).described())


def raw(data: Dataset, column: str) -> Array:
    """A column of numbers of all splits, in the order of the splits."""
    assert data.test is not None
    place = encoder_of(data).names.index(column)
    return np.concatenate([part.x[:, place] for part in (data.train, data.validation, data.test)])


def write(path: Path, names: Sequence[str], rows: Rows, delimiter: str = ",") -> str:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([names, *rows])
    return str(path)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def passengers(tmp_path: Path, random: np.random.Generator) -> str:
    rows: Rows = []
    for number in range(1, ROWS + 1):
        sex = str(random.choice(["male", "female"]))
        age = "" if random.random() < 0.2 else str(random.integers(1, 80))
        survived = int(random.random() < (0.8 if sex == "female" else 0.2))
        rows.append([number, survived, random.integers(1, 4), f"Doe, {number}", sex, age, random.uniform(5, 90)])
    return write(tmp_path / "passengers.csv", ["Id", "Survived", "Class", "Name", "Sex", "Age", "Fare"], rows)


def test_a_csv_with_text_gaps_and_an_identifier_is_read_as_it_is(passengers: str) -> None:
    data = load(DataSource(passengers, columns=Columns(target="Survived")))
    assert data.classes == ("0", "1")
    assert encoder_of(data).names == ["Class", "Sex = female", "Sex = male", "Age", "Age: missing", "Fare"]
    assert [len(part) for part in (data.train, data.validation, data.test or ())] == [140, 30, 30]
    assert "left out: it numbers the rows, 1 to 200" in done(data)["Id"]
    assert "identifier" in done(data)["Name"]
    assert any("'Name' is left out" in note and "--categorical 'Name'" in note for note in notes(data))


def test_whatever_is_fitted_is_fitted_on_the_training_rows(passengers: str) -> None:
    data = load(DataSource(passengers, columns=Columns(target="Survived")))
    place = encoder_of(data).names.index("Age")
    train, gone = data.train.x[:, place], data.train.x[:, place + 1] == 1
    assert set(train[gone]) == {np.float32(np.median(train[~gone]))}
    assert data.test is not None
    assert set(data.test.x[data.test.x[:, place + 1] == 1, place]) == set(train[gone])
    assert data.mean[place] == pytest.approx(train.mean(), rel=1e-6)


def test_a_run_whose_categories_were_standardised_is_not_resumed(passengers: str) -> None:
    """The samples are those of an earlier version; its checkpoints are of models that saw them otherwise."""
    data = load(DataSource(passengers, columns=Columns(target="Survived")))
    assert data.encoder is not None
    assert not data.encoder.scaled.all()
    assert data.digest != replace(data, encoder=None).digest  # as that version has it


def test_numbers_are_standardised_and_categories_and_marks_of_gaps_are_not(passengers: str) -> None:
    data = load(DataSource(passengers, columns=Columns(target="Survived")))
    x = (data.train.x - np.array(data.mean)) / np.array(data.std)
    numbers = np.isin(encoder_of(data).names, ["Class", "Age", "Fare"])
    assert x[:, numbers].mean(0) == pytest.approx(0.0, abs=1e-6)
    assert x[:, numbers].std(0) == pytest.approx(1.0, rel=1e-6)
    assert np.unique(x[:, ~numbers]).tolist() == [0.0, 1.0]


def test_the_classes_have_the_same_shares_in_every_split(tmp_path: Path) -> None:
    rows = [[number % 7, "rare" if number % 10 == 0 else "common"] for number in range(ROWS)]
    data = load(write(tmp_path / "t.csv", ["x", "label"], rows))
    shares = [float((part.y == data.classes.index("rare")).mean()) for part in (data.train, data.validation)]
    assert shares == pytest.approx([0.1, 0.1], abs=0.01)


def test_the_split_does_not_depend_on_the_machine(passengers: str) -> None:
    columns = Columns(target="Survived")
    assert load(DataSource(passengers, columns=columns)).digest == load(DataSource(passengers, columns=columns)).digest
    assert (
        load(DataSource(passengers, columns=Columns(target="Survived", drop="Fare"))).digest
        != load(DataSource(passengers, columns=columns)).digest
    )


def test_semicolons_decimal_commas_a_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    lines = [
        "Fläche;Preis;Ort;PLZ;Datum",
        *(
            f"{n + 20},5;1.{n:03d},25;{('Köln', 'Bonn')[n % 2]};0{n % 3}067;{n % 28 + 1}.{n % 12 + 1}.2020"
            for n in range(60)
        ),
    ]
    path = tmp_path / "häuser.csv"
    path.write_bytes("\ufeff".encode() + "\r\n".join(lines).encode())
    data = load(DataSource(str(path), columns=Columns(target="Preis")))
    assert data.target is not None
    assert sorted(raw(data, "Fläche"))[:2] == [20.5, 21.5]
    assert data.train.y.min() >= 1000.25
    assert {"Ort = Köln", "PLZ = 00067", "PLZ = 02067"} <= set(encoder_of(data).names)
    assert done(data)["Datum"] == "date, as days since 1970, month, weekday (day first)"
    assert "decimals are written with a comma" in notes(data)


def test_the_kind_of_a_file_is_told_by_its_suffix_in_any_letters(tmp_path: Path) -> None:
    rows = [[n / 2, "ab"[n % 2]] for n in range(40)]
    path = write(tmp_path / "DATA.CSV", ["x", "label"], rows)
    expected = load(path).digest
    frame = pa.table({"x": [x for x, _ in rows], "label": [label for _, label in rows]})
    (tmp_path / "parts").mkdir()
    pq.write_table(frame.slice(0, 15), tmp_path / "parts" / "1.PARQUET")
    pq.write_table(frame.slice(15), tmp_path / "parts" / "2.parquet")
    assert load(str(tmp_path / "parts")).digest == expected
    write(tmp_path / "DATA.TSV", ["x", "label"], rows, "\t")
    pa.feather.write_feather(frame, str(tmp_path / "DATA.Arrow"))
    pq.write_table(frame, tmp_path / "DATA.PARQUET")
    for name in ("DATA.TSV", "DATA.Arrow", "DATA.PARQUET"):
        assert load(DataSource(str(tmp_path / name), Columns(target="label"))).digest == expected, name
    np.savez(tmp_path / "data.npz", x=np.arange(40.0)[:, None], y=np.arange(40) % 2)
    (tmp_path / "data.npz").rename(tmp_path / "DATA.NPZ")
    assert len(load(str(tmp_path / "DATA.NPZ")).train) == 28


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_the_encodings_of_text(tmp_path: Path, encoding: str) -> None:
    text = "Stadt,y\n" + "".join(f"{('Köln', 'Bonn')[n % 2]},{n % 2}\n" for n in range(40))
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode(encoding))
    assert "Stadt = Köln" in encoder_of(load(DataSource(str(path), columns=Columns(target="y")))).names


def test_quoted_fields_keep_delimiters_and_lines(tmp_path: Path) -> None:
    rows = [[f"a, b{n % 3}\nc", n % 2, f"{1000 + 2 * n:,}"] for n in range(40)]
    data = load(DataSource(write(tmp_path / "t.csv", ["text", "y", "amount"], rows), columns=Columns(target="y")))
    assert "text = a, b0\nc" in encoder_of(data).names
    assert sorted(raw(data, "amount"))[:2] == [1000, 1002]


def arrow_table(random: np.random.Generator) -> pa.Table:
    return pa.table(
        {
            "colour": pa.array(random.choice(["red", "green"], 60)).dictionary_encode(),
            "size": pa.array([None if n % 7 == 0 else n / 2 for n in range(60)]),
            "ok": pa.array([n % 3 == 0 for n in range(60)]),
            "when": pa.array([np.datetime64("2021-03-01T06:00:00") + np.timedelta64(3600 * n, "s") for n in range(60)]),
            "label": pa.array([("yes", "no")[n % 2] for n in range(60)]),
        }
    )


def in_one_file(table: pa.Table, folder: Path) -> Path:
    pq.write_table(table, folder / "t.parquet")
    return folder / "t.parquet"


def in_parts(table: pa.Table, folder: Path) -> Path:
    (folder / "parts").mkdir()
    pq.write_table(table[:25], folder / "parts" / "0.parquet")
    pq.write_table(table[25:], folder / "parts" / "1.parquet")
    (folder / "parts" / "_SUCCESS").touch()
    return folder / "parts"


def as_arrow(table: pa.Table, folder: Path) -> Path:
    with pa.OSFile(str(folder / "t.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return folder / "t.arrow"


@pytest.mark.parametrize("written", [in_one_file, in_parts, as_arrow])
def test_categories_gaps_truths_and_dates_of_typed_files(
    tmp_path: Path, random: np.random.Generator, written: Callable[[pa.Table, Path], Path]
) -> None:
    data = load(str(written(arrow_table(random), tmp_path)))
    assert data.classes == ("no", "yes")
    assert encoder_of(data).names == [
        *("colour = green", "colour = red", "size", "size: missing", "ok"),
        *("when: days since 1970", "when: month", "when: weekday", "when: hour"),
    ]
    assert set(raw(data, "when: hour")) == set(range(24))
    assert set(raw(data, "when: weekday")) <= {0, 1, 2, 3}  # from a Monday on
    assert int((raw(data, "size: missing") == 1).sum()) == 9


def test_the_checks_of_a_table_and_its_search_read_it_once(passengers: str) -> None:
    training = BuiltInTraining(DataSource(passengers, Columns(target="Survived")))
    assert training.data_problems(["val_accuracy"], packed=False) == []
    Path(passengers).unlink()
    data = training.load()
    assert data.about["train"] == len(data.search.train) > 0
    assert data.full is training.load().full
    assert len(pickle.dumps(training)) < 2000  # a worker is sent the data by itself


def test_the_rows_of_a_group_are_in_one_split(tmp_path: Path, random: np.random.Generator) -> None:
    rows = [[f"p{n % 30}", random.normal(), n % 2] for n in range(ROWS)]
    name = write(tmp_path / "t.csv", ["patient", "x", "sick"], rows)
    data = load(DataSource(name, columns=Columns(target="sick", group="patient")))
    values = [{float(np.float32(row[1])) for row in rows if row[0] == f"p{patient}"} for patient in range(30)]
    assert data.test is not None
    splits = [set(part.x[:, 0].tolist()) for part in (data.train, data.validation, data.test)]
    assert all(sum(bool(of_patient & split) for split in splits) == 1 for of_patient in values)
    assert min(map(len, splits)) >= 0.1 * ROWS
    assert done(data)["patient"] == "left out: it splits the rows"


def test_a_split_by_time_tests_on_the_latest_rows(tmp_path: Path, random: np.random.Generator) -> None:
    days = np.datetime64("2020-01-01") + random.permutation(ROWS) // 2
    rows = [[str(day), (day - np.datetime64("2020-01-01")).astype(int), n % 2] for n, day in enumerate(days)]
    name = write(tmp_path / "t.csv", ["day", "age", "label"], rows)
    data = load(DataSource(name, columns=Columns(time="day")))
    assert data.test is not None
    assert data.train.x.max() < data.validation.x.min() <= data.validation.x.max() < data.test.x.min()
    assert [len(part) for part in (data.train, data.validation, data.test)] == [140, 30, 30]


def test_a_column_split_assigns_the_rows(tmp_path: Path) -> None:
    rows = [[n, n % 2, ("train", "train", "val", "test")[n % 4], "ab"[n % 3 == 0]] for n in range(80)]
    data = load(DataSource(write(tmp_path / "t.csv", ["x", "label", "split", "z"], rows), columns=Columns(numeric="x")))
    assert set(raw(data, "x")[: len(data.train)] % 4) == {0, 1}
    assert data.test is not None
    assert len(data.validation) == len(data.test) == 20


def test_copies_of_training_rows_in_the_test_split_are_said(tmp_path: Path, random: np.random.Generator) -> None:
    rows: Rows = [[random.normal(), n % 2] for n in range(50)]
    said = "12 of 15 test rows equal a training row in features and target"
    twice = load(DataSource(write(tmp_path / "twice.csv", ["x", "y"], rows + rows), columns=Columns(target="y")))
    assert any(note.startswith(said) for note in notes(twice)), notes(twice)
    once = load(DataSource(write(tmp_path / "once.csv", ["x", "y"], rows), columns=Columns(target="y")))
    assert not any("equal a training row" in note for note in notes(once))


def test_numbers_that_are_categories_when_named(tmp_path: Path) -> None:
    name = write(tmp_path / "t.csv", ["zone", "y"], [[n % 3, n % 2] for n in range(60)])
    assert encoder_of(load(DataSource(name, columns=Columns(target="y")))).names == ["zone"]
    named = load(DataSource(name, columns=Columns(target="y", categorical="zone")))
    assert encoder_of(named).names == ["zone = 0", "zone = 1", "zone = 2"]


def test_rare_categories_share_a_column(tmp_path: Path) -> None:
    rows = [[f"c{n % 20 if n % 2 else n}", n % 3 % 2] for n in range(600)]
    names = encoder_of(load(DataSource(write(tmp_path / "t.csv", ["c", "y"], rows), columns=Columns(target="y")))).names
    assert "c: rarer" in names
    assert len(names) == 11


def test_a_constant_column_and_an_empty_one_are_left_out(tmp_path: Path) -> None:
    rows = [[7, "", "same", n, n % 2] for n in range(40)]
    data = load(
        DataSource(write(tmp_path / "t.csv", ["a", "b", "c", "x", "y"], rows), columns=Columns(target="y", numeric="x"))
    )
    assert encoder_of(data).names == ["x"]
    assert done(data)["a"] == "left out: it is 7 in all training rows"
    assert done(data)["b"] == "left out: it has no value in a training row"
    assert done(data)["c"] == "left out: it is 'same' in all training rows"


def test_ten_rows_are_enough_and_five_are_not(tmp_path: Path) -> None:
    rows = [[n * 1.5, n % 2] for n in range(10)]
    data = load(DataSource(write(tmp_path / "ten.csv", ["x", "y"], rows), columns=Columns(target="y")))
    assert [len(part) for part in (data.train, data.validation, data.test or ())] == [6, 2, 2]
    with pytest.raises(DataError, match="each split must have 2 rows or more"):
        load(DataSource(write(tmp_path / "five.csv", ["x", "y"], rows[:5]), columns=Columns(target="y")))


def test_rows_without_a_target_are_left_out_and_said(tmp_path: Path) -> None:
    rows = [[n, "" if n < 5 else "ab"[n % 2]] for n in range(60)]
    data = load(DataSource(write(tmp_path / "t.csv", ["x", "y"], rows), columns=Columns(target="y", numeric="x")))
    assert raw(data, "x").min() == 5
    assert "5 rows have no 'y', of 60: left out" in notes(data)


TARGETS: dict[str, tuple[list[Any], Columns, str]] = {
    "one class": ([1] * 40, Columns(target="y"), "must have two values or more, but is always 1"),
    "many whole numbers": (list(range(40)), Columns(target="y"), "say --task regression or --task classification"),
    "text for a regression": (
        ["a", "b"] * 20,
        Columns(target="y", task="regression"),
        "must contain numbers, but row 1",
    ),
    "dates": (["2020-01-01", "2020-01-02"] * 20, Columns(target="y"), "contains dates"),
    "all different": ([f"t{n}" for n in range(40)], Columns(target="y"), "has 40 classes in 40 rows"),
    "nothing": ([""] * 40, Columns(target="y"), "has no value"),
    "a column that is not there": ([0, 1] * 20, Columns(target="Y"), "did you mean 'y'"),
    "no target": ([0, 1] * 20, Columns(), r"--target must name the column .*; perhaps --target y$"),
    "two ways to split": ([0, 1] * 20, Columns(target="y", group="x", time="d"), "--group and --time"),
    "two roles of one column": ([0, 1] * 20, Columns(target="y", drop="y"), "one of them must go"),
    "a task of another name": ([0, 1] * 20, Columns(target="y", task="sort"), "--task must be"),  # type: ignore[arg-type]
    "dates that may be either": ([0, 1] * 20, Columns(target="y"), "write them as YYYY-MM-DD"),
    "two groups": ([0, 1] * 20, Columns(target="y", group="y2", drop="d"), "three groups or more"),
}


@pytest.mark.parametrize(("target", "columns", "said"), TARGETS.values(), ids=TARGETS)
def test_what_cannot_be_used_is_refused_with_the_way_out(
    tmp_path: Path, target: list[Any], columns: Columns, said: str
) -> None:
    rows = [[n / 3, f"{n % 12 + 1}/{n % 12 + 1}/2020", y, n % 2] for n, y in enumerate(target)]
    with pytest.raises(DataError, match=said):
        load(DataSource(write(tmp_path / "t.csv", ["x", "d", "y", "y2"], rows), columns=columns))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"a,a\n1,2\n", "comes twice"),
        (b"1,2\n3,4\n", "must name the columns"),
        (b"a,label\n1,2\n3\n", "readable and whole"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "save it as UTF-8"),
    ],
)
def test_a_file_that_is_no_table_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=said) as raised:
        load(str(tmp_path / "t.csv"))
    assert "\n" not in str(raised.value)


def test_columns_are_for_tables(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--target: for tables of your own, and digits is a dataset with a name"):
        load(DataSource("digits", columns=Columns(target="y")))
    np.savez(tmp_path / "a.npz", x=np.zeros((9, 2)), y=np.arange(9) % 2)
    with pytest.raises(DataError, match="--target: for tables"):
        load(DataSource(str(tmp_path / "a.npz"), columns=Columns(target="y")))


def test_a_parquet_file_of_numbers_alone_is_split_as_ever(tmp_path: Path) -> None:
    table = pa.table({"a": np.arange(100) / 7, "b": np.arange(100) % 9, "label": np.arange(100) % 2})
    pq.write_table(table, tmp_path / "t.parquet")
    data = load(str(tmp_path / "t.parquet"))
    assert data.encoder is None
    assert data.digest == "dc4fdf59198e953cf5de8ff31935770071f5bd667683a5745b0e8fa8791ec380"


def test_the_rows_of_another_table_are_encoded_alike(passengers: str, tmp_path: Path) -> None:
    data = load(DataSource(passengers, columns=Columns(target="Survived")))
    encoder = TableEncoder.from_json(json.loads(json.dumps(encoder_of(data).to_json())))
    assert encoder == encoder_of(data)
    rows: Rows = [["female", "NA", 3, "9.5", "ignored"], ["alien", 20, 1, "1,000.5", "ignored"]]
    x, said = read_rows(Path(write(tmp_path / "new.csv", ["Sex", "Age", "Class", "Fare", "more"], rows)), encoder)
    median = float(raw(data, "Age")[raw(data, "Age: missing") == 1][0])
    assert x.tolist() == [[3, 1, 0, median, 1, 9.5], [1, 0, 0, 20, 0, 1000.5]]
    assert said == ["column 'Sex': 1 row has a category that was not trained on"]
    for names, row, wrong in (
        (["Sex", "Age", "Class"], ["male", 1, 2], "lacks 'Fare'"),
        (["Sex", "Age", "Class", "Fare"], ["male", "old", 1, 2], "row 1 has 'old'"),
    ):
        with pytest.raises(DataError, match=wrong):
            read_rows(Path(write(tmp_path / "new.csv", names, [row])), encoder)
