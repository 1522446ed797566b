"""Read a table: CSV or TSV text, Parquet, Arrow, or a folder of Parquet files. Columns are typed, not yet encoded."""

from __future__ import annotations

import codecs
import csv
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from rungwise.trainable.data.raw import Array, DataError, require_exact, unreadable
from rungwise.trainable.data.table import text_columns
from rungwise.trainable.data.table.columns import Columns

TEXT = (".csv", ".tsv")
ARROW = (".arrow", ".feather", ".ipc")
PARQUET = ".parquet"
DELIMITERS = ",;\t|"
_HEAD = 2**16  # bytes by which a delimiter is recognised
_LINES = 50
_ENCODINGS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class TableFile:
    """A table as it was read. `columns`: text files have text only, others what they say."""

    columns: dict[str, pa.Array]
    is_text: bool
    decimal: str = "."
    notes: tuple[str, ...] = ()

    def holds_truths(self, name: str) -> bool:
        """Whether a column is of truth values."""
        column = self.columns[name]
        return text_columns.truths_of(column) is not None if self.is_text else pa.types.is_boolean(column.type)

    def typed(self, name: str, roles: Columns, decimal: str | None = None) -> Array:
        """The column as float64 (NaN), datetime64[us] (NaT) or objects (None). Raises DataError for a type that cannot
        be a feature.

        Args:
            name: of the column.
            roles: say which columns are categorical or numeric, whatever they look like.
            decimal: the sign of decimals; this file's own by default.
        """
        column = self.columns[name]
        categorical, numeric = name in roles.categorical, name in roles.numeric
        if self.is_text:
            sign = decimal or self.decimal
            return text_columns.typed(name, column, sign, categorical=categorical, numeric=numeric)
        return _typed(name, column, categorical, numeric)


def is_folder_of_tables(path: Path) -> bool:
    """Whether a folder has Parquet files and nothing else that shows."""
    shown = [entry for entry in path.iterdir() if not entry.name.startswith(("_", "."))] if path.is_dir() else []
    return bool(shown) and all(entry.suffix == PARQUET and entry.is_file() for entry in shown)


def column_names(path: Path) -> list[str]:
    """The names of the columns, without reading the rest. Raises DataError."""
    try:
        if path.suffix in TEXT:
            text, *_ = _opened(path)
            delimiter = _delimiter(text, path)
            return _header(text, delimiter, path)
        if path.suffix in ARROW:
            with pa.memory_map(str(path)) as source:
                return list(_arrow_reader(source).schema.names)
        return list(pq.read_schema(_parts(path)[0]).names)
    except (OSError, pa.ArrowException, UnicodeError, csv.Error) as error:
        raise DataError(unreadable(path, error)) from error


def read_table_file(path: Path) -> TableFile:
    """Read a table whole. Raises DataError for a file that is none, names the line that is broken."""
    try:
        return _read_text(path) if path.suffix in TEXT else _read_binary(path)
    except (OSError, pa.ArrowException, UnicodeError, csv.Error) as error:
        raise DataError(unreadable(path, error)) from error


def nbytes(path: Path) -> int:
    """About how many bytes of memory reading takes."""
    if path.suffix == PARQUET or path.is_dir():
        footers = [pq.read_metadata(part) for part in _parts(path)]
        return sum(f.row_group(index).total_byte_size for f in footers for index in range(f.num_row_groups))
    return path.stat().st_size * (3 if path.suffix in TEXT else 1)  # text, its columns, and their numbers


def _read_text(path: Path) -> TableFile:
    text, encoding, notes = _opened(path)
    delimiter = _delimiter(text, path)
    names = _header(text, delimiter, path)
    table = pa_csv.read_csv(
        path,
        read_options=pa_csv.ReadOptions(encoding=encoding, column_names=names, skip_rows=_blank_lines(text) + 1),
        parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )
    columns = {name: text_columns.clean(table[name]) for name in names}
    decimal = text_columns.decimal_sign(list(columns.values()), delimiter)
    if decimal == ",":
        notes.append("decimals are written with a comma")
    return TableFile(columns, True, decimal, tuple(notes))


def _opened(path: Path) -> tuple[str, str, list[str]]:
    """The beginning of a text file, its encoding, and notes."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    whole = len(head) < _HEAD
    for mark, encoding in _ENCODINGS.items():
        if head.startswith(mark):
            return _cut(head.decode(encoding, "ignore"), whole), encoding.replace("-sig", ""), []
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, whole)
        if _is_utf8(path):
            return _cut(head.decode("utf-8", "ignore"), whole), "utf-8", []
    except UnicodeDecodeError:
        pass
    return (
        _cut(head.decode("cp1252", "replace"), whole),
        "cp1252",
        ["the text is no UTF-8, and is read as Windows-1252"],
    )


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while block := file.read(2**20):
                decoder.decode(block)
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        return False
    return True


def _cut(head: str, whole: bool) -> str:
    """Without the last line, which may be half a line."""
    head = head.removeprefix("\ufeff")
    return head if whole else head[: max(head.rfind("\n"), 0) or None]


def _blank_lines(text: str) -> int:
    """Blank lines before the header."""
    return sum(1 for _ in itertools.takewhile(lambda line: not line.strip(), text.splitlines()))


def _delimiter(text: str, path: Path) -> str:
    """The delimiter by which most lines have the same number of fields, and that more than one."""
    if path.suffix == ".tsv":
        return "\t"
    lines = text.lstrip("\r\n").splitlines()[:_LINES]

    def fit(delimiter: str) -> tuple[float, int]:
        counts = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        first = counts[0] if counts else 0
        return (sum(count == first for count in counts) / max(len(counts), 1) if first > 1 else 0.0, first)

    return max(DELIMITERS, key=fit)


def _header(text: str, delimiter: str, path: Path) -> list[str]:
    rows = csv.reader(text.lstrip("\r\n").splitlines(), delimiter=delimiter)
    names = [name.strip() for name in next(rows, [])]
    if not names:
        raise DataError(f"a data file must have a line of column names, but {str(path)!r} is empty")
    names = [name or f"column {place}" for place, name in enumerate(names, 1)]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"columns of {str(path)!r} must have different names, but {', '.join(twice)} comes twice")
    if all(text_columns.NUMBER_LIKE.match(name) for name in names):
        raise DataError(
            f"the first line of {str(path)!r} must name the columns, but contains numbers: {', '.join(names[:5])}"
        )
    return names


def _parts(path: Path) -> list[Path]:
    return sorted(path.glob(f"*{PARQUET}")) if path.is_dir() else [path]


def _arrow_reader(source: pa.NativeFile) -> pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader:
    try:
        return pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_stream(source)


def _read_binary(path: Path) -> TableFile:
    from rungwise.trainable.data.parquet_file import index_columns, read_table

    if path.suffix in ARROW:
        with pa.memory_map(str(path)) as source:
            table = _arrow_reader(source).read_all()
    else:
        table = pa.concat_tables([read_table(part) for part in _parts(path)], promote_options="permissive")
    if len(set(table.column_names)) < len(table.column_names):
        raise DataError(f"columns of {str(path)!r} must have different names, but got {', '.join(table.column_names)}")
    index = index_columns(table.schema)
    notes = (f"left out, because they are the index of a pandas table: {', '.join(map(repr, index))}",) if index else ()
    names = [name for name in table.column_names if name not in index]
    return TableFile({name: _one_array(table[name]) for name in names}, False, notes=notes)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    found = pa.concat_arrays(column.unify_dictionaries().chunks) if column.num_chunks else pa.array([], column.type)
    return found.dictionary_decode() if pa.types.is_dictionary(found.type) else found


def _typed(name: str, column: pa.Array, categorical: bool, numeric: bool) -> Array:
    """See `TableFile.typed`, of a file that has types."""
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        text = text_columns.clean(pa.chunked_array([column]))
        return text_columns.typed(name, text, ".", categorical=not numeric, numeric=numeric)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        if kind.tz if pa.types.is_timestamp(kind) else None:
            column = pc.cast(column, pa.timestamp("us", "UTC"))
        return np.asarray(column.cast(pa.timestamp("us"), safe=False).to_numpy(zero_copy_only=False))
    if pa.types.is_duration(kind) or pa.types.is_time(kind):
        return np.asarray(column.cast(pa.int64()).cast(pa.float64()).to_numpy(zero_copy_only=False))
    if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or _decimal(kind)):
        raise DataError(
            f"column {name!r} must be numbers, text, dates or truth values to be a feature, but is {kind}: leave it "
            f"out (--drop {name!r})"
        )
    if pa.types.is_integer(kind) and not categorical:
        require_exact(Path(name), name, np.asarray(column.drop_null().to_numpy(zero_copy_only=False)))
    if categorical and not pa.types.is_floating(kind):
        return text_columns.objects(column.cast(pa.string()))
    numbers = np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    if categorical:
        return np.array([None if np.isnan(value) else f"{value:.17g}" for value in numbers.tolist()], object)
    return numbers


def _decimal(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind))
