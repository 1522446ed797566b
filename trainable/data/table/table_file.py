"""Read a table: CSV or TSV text, Parquet, Arrow, or a folder of Parquet files. Columns are typed, not yet encoded."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from rungwise.trainable.data.raw import Array, DataError, require_exact, text_of_number, unreadable
from rungwise.trainable.data.table import text_columns
from rungwise.trainable.data.table.columns import Columns
from rungwise.trainable.data.table.text_columns import TextColumn

TEXT = (".csv", ".tsv")
ARROW = (".arrow", ".feather", ".ipc")
PARQUET = ".parquet"
DELIMITERS = ",;\t|"
_HEAD = 2**16  # bytes by which a delimiter is recognised
_LINES = 50
_BLOCK = 2**24  # bytes that are parsed at a time: no row may be longer
csv.field_size_limit(max(csv.field_size_limit(), _BLOCK))  # 128 KiB by default, which a text may exceed
_ENCODINGS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class TableFile:
    """A table as it was read. `columns`: text files have text only, others what they say; those of `texts` are text."""

    columns: Mapping[str, pa.Array]
    texts: Mapping[str, TextColumn]
    is_text: bool
    decimal: str = "."
    notes: tuple[str, ...] = ()
    categories: frozenset[str] = frozenset()  # columns of numbers that the file says are categories

    def holds_truths(self, name: str) -> bool:
        """Whether a column is of truth values."""
        return self.texts[name].truths is not None if self.is_text else pa.types.is_boolean(self.columns[name].type)

    def typed(self, name: str, roles: Columns, decimal: str | None = None, form: str = "") -> Array:
        """The column as float64 (NaN), datetime64[us] (NaT) or objects (None). Raises DataError for a type that cannot
        be a feature, and for infinite numbers.

        Args:
            name: of the column.
            roles: say which columns are categorical or numeric, whatever they look like.
            decimal: the sign of decimals; this file's own by default.
            form: how dates are written, where another file has shown it.
        """
        column = self.columns[name]
        numeric = name in roles.numeric
        categorical = name in (*roles.categorical, *roles.embed) or (name in self.categories and not numeric)
        if self.is_text:
            values = self.texts[name].typed(decimal or self.decimal, form, categorical=categorical, numeric=numeric)
        elif name in self.texts:
            values = self.texts[name].typed(".", form, categorical=not numeric, numeric=numeric)
        else:
            try:
                values = _typed(name, column, categorical)
            except pa.ArrowException as error:
                raise DataError(f"column {name!r} is {column.type} and cannot be read: {error}") from error
        if values.dtype.kind == "f" and len(rows := np.flatnonzero(np.isinf(values))):
            raise DataError(
                f"column {name!r} must contain finite numbers, but row {rows[0] + 1} has {values[rows[0]]}"
                f"{f' (and {len(rows) - 1} more)' if len(rows) > 1 else ''}"
            )
        return values


def suffix_of(path: Path) -> str:
    """By which the kind of a file is told: DATA.CSV, as other systems write it, is one of CSV."""
    return path.suffix.lower()


def is_folder_of_tables(path: Path) -> bool:
    """Whether a folder has Parquet files and nothing else that shows."""
    shown = [entry for entry in path.iterdir() if not entry.name.startswith(("_", "."))] if path.is_dir() else []
    return bool(shown) and all(suffix_of(entry) == PARQUET and entry.is_file() for entry in shown)


def column_names(path: Path) -> list[str]:
    """The names of the columns, without reading the rest. Raises DataError."""
    try:
        if suffix_of(path) in TEXT:
            return _header(_opened(path)[0], path)[0]
        if suffix_of(path) in ARROW:
            with pa.memory_map(str(path)) as source:
                return list(_arrow_reader(source).schema.names)
        return list(pq.read_schema(_parts(path)[0]).names)
    except (OSError, pa.ArrowException, UnicodeError, csv.Error) as error:
        raise DataError(unreadable(path, error)) from error


def read_table_file(path: Path) -> TableFile:
    """Read a table whole. Raises DataError for a file that is none, names the line that is broken."""
    try:
        return _read_text(path) if suffix_of(path) in TEXT else _read_binary(path)
    except (OSError, pa.ArrowException, UnicodeError, csv.Error) as error:
        raise DataError(unreadable(path, error)) from error


def nbytes(path: Path) -> int:
    """About how many bytes of memory reading takes."""
    if suffix_of(path) == PARQUET or path.is_dir():
        footers = [pq.read_metadata(part) for part in _parts(path)]
        return sum(f.row_group(index).total_byte_size for f in footers for index in range(f.num_row_groups))
    return path.stat().st_size * (4 if suffix_of(path) in TEXT else 1)  # text, its columns, and their numbers


def _read_text(path: Path) -> TableFile:
    text, encoding, notes = _opened(path)
    names, delimiter, lines = _header(text, path)
    table = pa_csv.read_csv(
        path,
        read_options=pa_csv.ReadOptions(encoding=encoding, column_names=names, skip_rows=lines, block_size=_BLOCK),
        parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )
    _require_closed_quotes(path, encoding, table, delimiter)
    texts = {name: TextColumn(name, table[name]) for name in names}
    decimal = text_columns.decimal_sign(texts.values(), delimiter)
    if decimal == ",":
        notes.append("decimals are written with a comma")
    return TableFile({name: column.text for name, column in texts.items()}, texts, True, decimal, tuple(notes))


def _opened(path: Path) -> tuple[str, str, list[str]]:
    """The beginning of a text file, its encoding, and notes."""
    with path.open("rb") as file:
        head = file.read(_HEAD) + file.readline()  # of thousands of columns the names alone may take more
    whole = len(head) < _HEAD
    if head.startswith(b"\x1f\x8b"):
        raise DataError(f"a data file must be text, but {str(path)!r} is compressed: unpack it first (gunzip)")
    if b"\0" in head and (head[2:4] == b"\0\0" or not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))):
        raise DataError(
            f"a data file must be text, but {str(path)!r} has bytes of zero, as UTF-16 without its mark, UTF-32 and "
            "files of other kinds have: save it as UTF-8"
        )
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


def _require_closed_quotes(path: Path, encoding: str, table: pa.Table, delimiter: str) -> None:
    """Raises DataError for a quote that is not closed: it makes one value of many rows, which then has line ends."""
    if not any(pc.any(pc.match_substring_regex(column, r"[\r\n]")).as_py() for column in table.columns):
        return
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        rows = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            for _ in rows:
                pass
        except csv.Error as error:
            raise DataError(
                f"{str(path)!r} has a quote that is not closed, or text behind a closing one, at line {rows.line_num}: "
                f"{error}"
            ) from error


def _delimiter(lines: list[str], path: Path) -> str:
    """The delimiter by which most lines have the same number of fields, and that more than one."""
    if suffix_of(path) == ".tsv" and any("\t" in line for line in lines):
        return "\t"

    def fit(delimiter: str) -> tuple[float, int]:
        counts = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        first = counts[0] if counts else 0
        return (sum(count == first for count in counts) / max(len(counts), 1) if first > 1 else 0.0, first)

    return max(DELIMITERS, key=fit)


def _header(text: str, path: Path) -> tuple[list[str], str, int]:
    """The names of the columns, the delimiter, and the lines before the first row. Raises DataError."""
    lines = list(io.StringIO(text, newline=""))  # not splitlines, which takes U+2028 and others as line ends
    before = 0
    while before < len(lines) and not lines[before].strip():
        before += 1
    delimiter = _delimiter(lines[before : before + _LINES], path)
    if before < len(lines) and (said := re.fullmatch(r"sep=(.)", lines[before].strip("\r\n"))):  # Excel's own line
        before, delimiter = before + 1, said[1]
    rows = csv.reader(lines[before:], delimiter=delimiter)
    names = [" ".join(name.split()) if "\n" in name or "\r" in name else name.strip() for name in next(rows, [])]
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
    return names, delimiter, before + rows.line_num


def _parts(path: Path) -> list[Path]:
    """The files of a folder that `is_folder_of_tables`; or the file."""
    if not path.is_dir():
        return [path]
    return sorted(entry for entry in path.iterdir() if suffix_of(entry) == PARQUET and entry.name[0] not in "_.")


def _arrow_reader(source: pa.NativeFile) -> pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader:
    try:
        return pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_stream(source)


def _read_binary(path: Path) -> TableFile:
    from rungwise.trainable.data.parquet_file import category_columns, index_columns, index_note, read_table

    if suffix_of(path) in ARROW:
        with pa.memory_map(str(path)) as source:
            tables = [_arrow_reader(source).read_all()]
    else:
        tables = [read_table(part) for part in _parts(path)]
    categories = {name for part in tables for name in category_columns(part.schema)}
    try:
        table = pa.concat_tables([_without_codes(part) for part in tables], promote_options="permissive")
    except pa.ArrowTypeError as error:
        raise DataError(f"a column must have one type in all files of {str(path)!r}: {error}") from error
    if len(set(table.column_names)) < len(table.column_names):
        raise DataError(f"columns of {str(path)!r} must have different names, but got {', '.join(table.column_names)}")
    index = index_columns(table.schema)
    notes = (index_note(index),) if index else ()
    columns = {name: _one_array(table[name]) for name in table.column_names if name not in index}
    texts = {name: TextColumn(name, column) for name, column in columns.items() if _is_text(column.type)}
    return TableFile(columns, texts, False, notes=notes, categories=frozenset(categories - set(index)))


def _without_codes(table: pa.Table) -> pa.Table:
    """Values in place of the codes of a dictionary, which another file may not have."""
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(place, field.name, table[place].cast(field.type.value_type))
    return table


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _typed(name: str, column: pa.Array, categorical: bool) -> Array:
    """See `TableFile.typed`, of a column that is no text, in a file that has types."""
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        if kind.tz if pa.types.is_timestamp(kind) else None:
            column = pc.cast(column, pa.timestamp("us", "UTC"))
        return np.asarray(column.cast(pa.timestamp("us"), safe=False).to_numpy(zero_copy_only=False))
    if pa.types.is_duration(kind) or pa.types.is_time(kind):
        ticks = column.cast(pa.int32()) if pa.types.is_time32(kind) else column.cast(pa.int64())
        return np.asarray(ticks.cast(pa.float64()).to_numpy(zero_copy_only=False))
    if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or _decimal(kind)):
        raise DataError(
            f"column {name!r} must be numbers, text, dates or truth values to be a feature, but is {kind}: leave it "
            f"out (--drop {name!r})"
        )
    if pa.types.is_integer(kind) and not categorical:
        try:
            require_exact(Path(name), name, np.asarray(column.drop_null().to_numpy(zero_copy_only=False)))
        except DataError as error:
            raise DataError(f"{error} (--drop {name!r}, or --categorical {name!r})") from error
    if categorical and not pa.types.is_floating(kind):
        return text_columns.objects(column.cast(pa.string()))
    numbers = np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    if categorical:
        return np.array([None if np.isnan(value) else text_of_number(value) for value in numbers.tolist()], object)
    return numbers


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _decimal(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind))
