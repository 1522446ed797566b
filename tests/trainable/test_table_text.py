"""Tables as spreadsheets and other programs write them: every column is read right, or refused with the way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rungwise import Columns
from rungwise.trainable.data.data_source import DataSource
from rungwise.trainable.data.dataset import DataError, Dataset, load, notes
from rungwise.trainable.data.raw import Array
from rungwise.trainable.data.table.encoder import TableEncoder
from rungwise.trainable.data.table.table_data import read_rows

ROWS = 40
TARGET = Columns(target="y")


def table(path: Path, x: list[str], name: str = "x", first: str = "", end: str = "\n") -> str:
    """A file with a column of these values in turn, one of numbers, and a target of two classes."""
    lines = [f"{name},number,y", *(f"{x[n % len(x)]},{n % 9 + 0.5},{'ab'[n % 2]}" for n in range(ROWS))]
    path.write_text(first + "".join(line + end for line in lines), newline="")
    return str(path)


def done(data: Dataset) -> dict[str, str]:
    assert data.encoder is not None
    return dict(data.encoder.described())


def column(data: Dataset, name: str) -> set[float]:
    """The values of a column of numbers."""
    assert data.encoder is not None
    assert data.test is not None
    place = data.encoder.names.index(name)
    return {float(v) for part in (data.train, data.validation, data.test) for v in part.x[:, place]}


@pytest.mark.parametrize(
    ("written", "said", "values"),
    [
        (["$1.50", "$2.75", "-$3"], "number, standardised ($)", {1.5, 2.75, -3}),
        (["1.50 €", "2.75 €", "3 €"], "number, standardised (€)", {1.5, 2.75, 3}),
        (["12%", "15.5%", "3 %"], "number, standardised (%)", {12, 15.5, 3}),
        (['"$1,234.50"', "$2", "$3"], "number, standardised ($)", {1234.5, 2, 3}),
        (["1 234", "2 345 678", "7"], "number, standardised", {1234, 2345678, 7}),
        (["1e5", "-0", "+2"], "number, standardised", {1e5, 0, 2}),
    ],
)
def test_numbers_with_units_and_separated_thousands(
    tmp_path: Path, written: list[str], said: str, values: set[float]
) -> None:
    data = load(DataSource(table(tmp_path / "t.csv", written), columns=TARGET))
    assert done(data)["x"] == said
    assert column(data, "x") == values


@pytest.mark.parametrize(
    "written",
    ["12/31/20", "2020-1-5", "31.12.2020 14:05", "2020/12/31", "31 Dec 2020", "2020-01", "12/31/2020 1:05 PM"],
)
def test_dates_in_a_form_that_is_not_read_are_refused_by_name(tmp_path: Path, written: str) -> None:
    with pytest.raises(DataError, match=r"column 'x' has dates such as .*YYYY-MM-DD.*--drop 'x'"):
        load(DataSource(table(tmp_path / "t.csv", [written]), columns=TARGET))
    assert "x" in done(
        load(DataSource(table(tmp_path / "t.csv", [written]), columns=Columns(target="y", categorical="x")))
    )


@pytest.mark.parametrize("day", ["2020-02-30", "0000-00-00", "0001-01-01T00:00+05:00", "2020-01-01T25:00"])
def test_a_day_that_no_calendar_has_is_named_with_its_row(tmp_path: Path, day: str) -> None:
    with pytest.raises(DataError, match=r"column 'x' has no date in row 2: .*leave the cell empty"):
        load(DataSource(table(tmp_path / "t.csv", ["2020-01-01", day]), columns=TARGET))


def test_a_few_words_among_numbers_are_said(tmp_path: Path) -> None:
    data = load(DataSource(table(tmp_path / "t.csv", ["1", "2.5", "unknown", "4"]), columns=TARGET))
    assert any(
        "'x' is taken as text, since row 3 has 'unknown' where most have numbers" in line for line in notes(data)
    )
    (said,) = (
        line for line in notes(load(DataSource(text_in_parquet(tmp_path), columns=TARGET))) if "numbers as text" in line
    )
    assert "--numeric 'x'" in said
    assert column(load(DataSource(text_in_parquet(tmp_path), columns=Columns(target="y", numeric="x"))), "x") == {1, 2}


def text_in_parquet(folder: Path) -> str:
    pq.write_table(pa.table({"x": ["1", "2"] * 30, "y": ["a", "b", "b"] * 20}), folder / "t.parquet")
    return str(folder / "t.parquet")


@pytest.mark.parametrize(
    ("name", "is_called"),
    [('"size\nof x"', "size of x"), ("size\u2028of x", "size\u2028of x"), ("size\x0bof x", "size\x0bof x")],
)
def test_line_ends_in_a_header(tmp_path: Path, name: str, is_called: str) -> None:
    data = load(DataSource(table(tmp_path / "t.csv", ["1", "2"], name), columns=TARGET))
    assert done(data)[is_called] == "number, standardised"
    assert len(data.train) + len(data.validation) + len(data.test or ()) == ROWS


def test_the_line_that_excel_puts_first_names_the_delimiter(tmp_path: Path) -> None:
    data = load(DataSource(table(tmp_path / "t.csv", ["1", "2"], first="sep=,\r\n", end="\r\n"), columns=TARGET))
    assert list(done(data)) == ["x", "number"]


def test_a_header_longer_than_what_is_looked_at_first(tmp_path: Path) -> None:
    names = [f"a_name_that_is_rather_long_{n}" for n in range(3000)]
    lines = [",".join([*names, "y"]), *(",".join([*[str(n % 7)] * 3000, "ab"[n % 2]]) for n in range(20))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert list(done(load(DataSource(str(tmp_path / "t.csv"), columns=TARGET)))) == names


def test_a_quote_that_is_not_closed_does_not_swallow_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="quote that is not closed"):
        load(DataSource(table(tmp_path / "t.csv", ['"open', "6"]), columns=TARGET))


def test_a_long_text_takes_no_memory_of_all_rows(tmp_path: Path) -> None:
    long = "long" * 2**18  # as fixed-width text 4 MiB for every row
    rows = [f"{long if n % 3 == 0 and n < 60 else 's'},{n % 7},{'ab'[n % 2]}" for n in range(9000)]
    (tmp_path / "t.csv").write_text("\n".join(["x,number,y", *rows]))
    assert done(load(DataSource(str(tmp_path / "t.csv"), columns=TARGET)))["x"].startswith("category")
    with pytest.raises(DataError, match="must contain names of classes, but has a text of 1,048,576 characters"):
        load(DataSource(str(tmp_path / "t.csv"), columns=Columns(target="x")))


def test_a_file_of_column_names_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y\n")
    with pytest.raises(DataError, match="has column names alone"):
        load(DataSource(str(tmp_path / "t.csv"), columns=TARGET))


def test_rows_are_counted_and_numbered_as_in_the_file(tmp_path: Path) -> None:
    rows = [f"{n},{'bad' if n == 30 else n % 7},{'' if n % 4 == 3 else 'ab'[n % 2]}" for n in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["Id,x,y", *rows]))
    assert (
        done(load(DataSource(str(tmp_path / "t.csv"), columns=TARGET)))["Id"]
        == "left out: it numbers the rows, 0 to 59"
    )
    with pytest.raises(DataError, match="row 31 has 'bad'"):
        load(DataSource(str(tmp_path / "t.csv"), columns=Columns(target="y", numeric="x")))


def test_a_column_split_without_validation_is_no_feature(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", ["train", "train", "test"], "split")
    with pytest.raises(DataError, match="must say train, validation and test, but says test, train: --drop split"):
        load(DataSource(path, columns=TARGET))
    assert done(load(DataSource(path, columns=Columns(target="y", drop="split"))))["split"] == "left out: by --drop"
    whole = table(tmp_path / "t.csv", ["train", "train", "val", "test"], "split")
    drawn = load(DataSource(whole, columns=Columns(target="y", drop="split")))
    assert len(drawn.train) == 28  # 70% of 40; by the column it would be 20


@pytest.mark.parametrize(
    "values",
    [
        pa.array(np.arange(60) % 7, pa.int32()).cast(pa.time32("s")),
        pa.array(np.arange(60) % 7, pa.int64()).cast(pa.time64("us")),
        pa.array(np.arange(60) % 7, pa.int64()).cast(pa.duration("s")),
    ],
    ids=["time32", "time64", "duration"],
)
def test_times_of_a_day_are_numbers(tmp_path: Path, values: pa.Array) -> None:
    pq.write_table(pa.table({"x": values, "y": ["a", "b", "b"] * 20}), tmp_path / "t.parquet")
    assert done(load(DataSource(str(tmp_path / "t.parquet"), columns=TARGET)))["x"] == "number, standardised"


@pytest.mark.parametrize("values", [[1.0, float("inf")], [2**60, 2**60 + 1]], ids=["infinite", "digits are lost"])
def test_numbers_that_cannot_be_features_name_their_column(tmp_path: Path, values: list[Any]) -> None:
    pq.write_table(pa.table({"x": values * 30, "y": ["a", "b", "b"] * 20}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"column 'x' must contain finite numbers, but row 2|--drop 'x'"):
        load(DataSource(str(tmp_path / "t.parquet"), columns=TARGET))


# -- rows for a model that was trained on another file ---------------------------------------------------------------


@pytest.fixture
def trained(tmp_path: Path) -> TableEncoder:
    """On dates with the day first, decimal commas, percents, categories that are numbers, and truth values."""
    rows = [
        f"{n % 28 + 1}/{n % 12 + 1}/2020;{n % 9},125;{n % 30} %;{n % 3};{n % 2 == 0};{'ab'[n % 2]}" for n in range(80)
    ]
    (tmp_path / "trained.csv").write_text("\n".join(["day;amount;share;code;flag;y", *rows]))
    encoder = load(DataSource(str(tmp_path / "trained.csv"), columns=Columns(target="y", categorical="code"))).encoder
    assert encoder is not None
    return TableEncoder.from_json(json.loads(json.dumps(encoder.to_json())))


def rows_of(folder: Path, encoder: TableEncoder, row: str, delimiter: str = ";") -> tuple[dict[str, float], list[str]]:
    names = delimiter.join(["day", "amount", "share", "code", "flag"])
    (folder / "new.csv").write_text(f"{names}\n{row}\n")
    x, said = read_rows(folder / "new.csv", encoder)
    found: Array = x[0]
    return dict(zip(encoder.names, found.tolist(), strict=True)), said


def test_what_a_file_showed_in_training_need_not_show_again(tmp_path: Path, trained: TableEncoder) -> None:
    row, said = rows_of(tmp_path, trained, "03/04/2020;3,125;5%;1.0;TRUE")
    assert (row["day: month"], row["amount"], row["share"], row["code = 1"], row["flag"]) == (4, 3.125, 5, 1, 1)
    assert said == []
    with pytest.raises(DataError, match="column 'day' has no date in row 1"):
        rows_of(tmp_path, trained, "12/31/2020;3,125;5%;1;TRUE")


def test_another_sign_of_decimals_is_recognised_and_said(tmp_path: Path, trained: TableEncoder) -> None:
    row, said = rows_of(tmp_path, trained, "2020-04-03,3.125,5.5%,1,True", ",")
    assert (row["amount"], row["share"]) == (3.125, 5.5)
    assert said == ["decimals are read with '.', unlike those trained on"]


def test_a_decimal_comma_is_no_separator_of_thousands(tmp_path: Path) -> None:
    encoder = load(DataSource(table(tmp_path / "t.csv", ["1.5", "2.125"]), columns=TARGET)).encoder
    assert encoder is not None
    (tmp_path / "new.csv").write_text("x;number\n3,125;7\n")
    assert read_rows(tmp_path / "new.csv", encoder)[0].tolist() == [[3.125, 7]]


def test_a_share_without_its_percent_sign_is_refused(tmp_path: Path, trained: TableEncoder) -> None:
    with pytest.raises(DataError, match="column 'share' must contain numbers with '%'"):
        rows_of(tmp_path, trained, "3/4/2020;3,125;0,05;1;True")
    with pytest.raises(DataError, match="column 'amount' must contain numbers without a unit"):
        rows_of(tmp_path, trained, "3/4/2020;$3;5 %;1;True")


def test_a_column_without_its_dates_is_refused_with_the_row_and_its_value(
    tmp_path: Path, trained: TableEncoder
) -> None:
    rule = "column 'day' must contain dates, as it did when the model was trained, but row"
    with pytest.raises(DataError, match=f"{rule} 2 has 'soon'"):
        rows_of(tmp_path, trained, "3/4/2020;3,125;5 %;1;True\nsoon;3,125;5 %;1;True")
    with pytest.raises(DataError, match=f"{rule} 1 has '20200403'"):
        rows_of(tmp_path, trained, "20200403;3,125;5 %;1;True")


def test_a_file_without_rows_is_not_predicted_in_silence(tmp_path: Path, trained: TableEncoder) -> None:
    (tmp_path / "new.csv").write_text("day,amount,share,code,flag\n")
    with pytest.raises(DataError, match="must have rows"):
        read_rows(tmp_path / "new.csv", trained)


def test_gaps_where_training_had_none_are_said(tmp_path: Path, trained: TableEncoder) -> None:
    row, said = rows_of(tmp_path, trained, ";;;;")
    assert row["amount"] == 4.125
    assert [line.split("'")[1] for line in said if "has no value, unlike" in line] == [
        "day", "amount", "share", "code", "flag"
    ]  # fmt: skip
