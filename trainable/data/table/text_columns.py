"""Columns of text, as a CSV file has them, as numbers, dates or categories."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rungwise.trainable.data.raw import Array, DataError

MISSING = ("", "?", "-", "NA", "N/A", "n/a", "na", "#N/A", "NaN", "nan", "NULL", "null", "None", "none", "<NA>")
_TRUTH = (("false", "true"), ("False", "True"), ("FALSE", "TRUE"))
_EXPONENT = r"([eE][+-]?\d+)?"
# By the sign of decimals. A number's thousands may be separated by the other one.
NUMBER = {
    ".": rf"^[+-]?((\d+|\d{{1,3}}(,\d{{3}})+)(\.\d*)?|\.\d+){_EXPONENT}$",
    ",": rf"^[+-]?((\d+|\d{{1,3}}(\.\d{{3}})+)(,\d*)?|,\d+){_EXPONENT}$",
}
NUMBER_LIKE = re.compile(rf"{NUMBER['.']}|{NUMBER[',']}")
_LEADING_ZERO = r"^[+-]?0\d+$"  # of a postcode, an account: a number would lose it
_ISO_DATE = r"^\d{4}-\d{1,2}-\d{1,2}"
_ISO = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?(Z|[+-]\d{2}:?\d{2})?$"
_OTHER_DATE = r"^\d{1,2}([./-])\d{1,2}[./-]\d{4}$"


def clean(text: pa.ChunkedArray) -> pa.Array:
    """The text without spaces around it; null where it stands for no value."""
    trimmed = pc.utf8_trim_whitespace(text.combine_chunks().cast(pa.large_string()))
    missing = pc.is_in(trimmed, value_set=pa.array(MISSING, pa.large_string()))
    return pc.if_else(missing, pa.scalar(None, pa.large_string()), trimmed)


def decimal_sign(columns: list[pa.Array], delimiter: str) -> str:
    """The sign of decimals in a file: a comma only where a column shows it, and commas do not separate columns."""
    if delimiter == ",":
        return "."
    shown = [c for c in columns if _all_match(c, NUMBER[","]) and not _all_match(c, NUMBER["."])]
    return "," if shown or (delimiter == ";" and any(_has_comma_number(c) for c in columns)) else "."


def _has_comma_number(column: pa.Array) -> bool:
    return _all_match(column, NUMBER[","]) and bool(pc.any(pc.match_substring(column, ",")).as_py())


def typed(name: str, text: pa.Array, decimal: str, *, categorical: bool = False, numeric: bool = False) -> Array:
    """The column as float64 (NaN: missing), datetime64[us] (NaT: missing) or objects of text (None: missing), (N,).

    Raises DataError for numeric text that is no number, and for dates of which nobody knows the month.
    """
    if categorical:
        return objects(text)
    if numeric or is_number(text, decimal):
        return numbers(name, text, decimal)
    if truths := truths_of(text):
        return cast(Array, pc.equal(text, truths[1]).cast(pa.float64()).to_numpy(zero_copy_only=False))
    if _all_match(text, _ISO_DATE) and _all_match(text, _ISO):
        return _iso_dates(text)
    if _all_match(text, _OTHER_DATE):
        return _other_dates(name, text)
    return objects(text)


def truths_of(text: pa.Array) -> tuple[str, str] | None:
    """The words for false and true, where the column has no others."""
    found = (words for words in _TRUTH if text.null_count < len(text) and _only(text, words))
    return next(found, None)


def is_number(text: pa.Array, decimal: str) -> bool:
    """Whether all that is there are numbers, none of which would lose a leading zero."""
    return _all_match(text, NUMBER[decimal]) and not _any_matches(text, _LEADING_ZERO)


def numbers(name: str, text: pa.Array, decimal: str) -> Array:
    """Numbers (N,) as float64; NaN where they are missing. Raises DataError, which names the first that is none."""
    wrong = pc.and_kleene(pc.is_valid(text), pc.invert(pc.match_substring_regex(text, NUMBER[decimal])))
    rows = np.flatnonzero(np.asarray(wrong.fill_null(False)))
    if len(rows):
        raise DataError(
            f"column {name!r} must contain numbers, but row {rows[0] + 1} has {text[int(rows[0])].as_py()!r}"
            f"{f' (and {len(rows) - 1} more)' if len(rows) > 1 else ''}"
        )
    plain = pc.replace_substring(text, "," if decimal == "." else ".", "")
    if decimal == ",":
        plain = pc.replace_substring(plain, ",", ".")
    plain = pc.replace_substring_regex(plain, r"^\+", "")
    return cast(Array, plain.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64))


def _iso_dates(text: pa.Array) -> Array:
    """Moments of one time zone, UTC, where they name any."""
    values = np.asarray(text.to_pylist(), object)
    parsed = np.full(len(values), np.datetime64("NaT"), "datetime64[us]")
    there = np.array([value is not None for value in values], bool)
    for row in np.flatnonzero(there):
        moment = datetime.fromisoformat(values[row])
        parsed[row] = np.datetime64(moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment, "us")
    return parsed


def _other_dates(name: str, text: pa.Array) -> Array:
    """Dates such as 31.12.2020, 31/12/2020 or 12/31/2020. Raises DataError where day and month may be either."""
    parts = pc.extract_regex(text, r"^(?P<a>\d{1,2})(?P<sign>[./-])(?P<b>\d{1,2})[./-](?P<year>\d{4})$")
    a, b, year = (
        np.asarray(pc.struct_field(parts, part).cast(pa.float64()).to_numpy(zero_copy_only=False))
        for part in ("a", "b", "year")
    )
    dotted = bool(pc.any(pc.equal(pc.struct_field(parts, "sign"), ".")).as_py())
    day_first, month_first = np.nanmax(a) > 12 or dotted, np.nanmax(b) > 12
    if day_first == month_first:
        example = next(value for value in text.to_pylist() if value is not None)
        raise DataError(
            f"column {name!r} has dates such as {example!r}, which do not tell day and month apart: write them as "
            f"YYYY-MM-DD, or leave the column out (--drop {name!r})"
        )
    day, month = (a, b) if day_first else (b, a)
    moments = np.full(len(a), np.datetime64("NaT"), "datetime64[us]")
    for row in np.flatnonzero(~np.isnan(year)):
        written = f"{int(year[row]):04d}-{int(month[row]):02d}-{int(day[row]):02d}"
        try:
            moments[row] = np.datetime64(written, "us")
        except ValueError as error:
            raise DataError(f"column {name!r} has no date in row {row + 1}: {text[int(row)].as_py()!r}") from error
    return moments


def objects(text: pa.Array) -> Array:
    """Text as objects (N,); None where it is missing."""
    values: Any = np.empty(len(text), object)
    values[:] = text.to_pylist()
    return cast(Array, values)


def _all_match(text: pa.Array, pattern: str) -> bool:
    """Whether there is a value, and all match."""
    return text.null_count < len(text) and bool(pc.all(pc.match_substring_regex(text, pattern)).as_py())


def _any_matches(text: pa.Array, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(text, pattern)).as_py())


def _only(text: pa.Array, values: tuple[str, ...]) -> bool:
    there = pc.drop_null(text)
    return bool(pc.all(pc.is_in(there, value_set=pa.array(values, text.type))).as_py())
