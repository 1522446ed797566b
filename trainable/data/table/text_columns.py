"""Columns of text, as a CSV file has them, as numbers, dates or categories."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rungwise.trainable.data.raw import EXACT, Array, DataError

MISSING = ("", "?", "-", "NA", "N/A", "n/a", "na", "#N/A", "NaN", "nan", "NULL", "null", "None", "none", "<NA>")
_TRUTH = (("false", "true"), ("False", "True"), ("FALSE", "TRUE"))
_EXPONENT = r"([eE][+-]?\d+)?"
# By the sign of decimals. A number's thousands may be separated by the other one.
NUMBER = {
    ".": rf"^[+-]?((\d+|\d{{1,3}}(,\d{{3}})+)(\.\d*)?|\.\d+){_EXPONENT}$",
    ",": rf"^[+-]?((\d+|\d{{1,3}}(\.\d{{3}})+)(,\d*)?|,\d+){_EXPONENT}$",
}
NUMBER_LIKE = re.compile(rf"{NUMBER['.']}|{NUMBER[',']}")
_SPACE = r"[ \x{a0}\x{202f}'\x{2019}]"  # and the Swiss apostrophe
_MINUS = r"^\x{2212}([.,]?\d)"  # as typesetting and some statistics offices write it
UNITS = ("%", "$", "€", "£", "¥")
_LEADING_ZERO = r"^[+-]?0\d+$"  # of a postcode, an account: a number would lose it
_LONG = r"^[+-]?\d{16,}$"
DAY_FIRST, MONTH_FIRST = "day first", "month first"
_TIME = r"\d{2}:\d{2}(:\d{2}(\.\d+)?)?"
_ISO = rf"^\d{{4}}-\d{{2}}-\d{{2}}([T ]{_TIME})?(Z|[+-]\d{{2}}:?\d{{2}})?$"
_OTHER_DATE = r"^\d{1,2}([./-])\d{1,2}[./-]\d{4}$"
_DATE_LIKE = (
    r"^(\d{4}[./-]\d{1,2}[./-]\d{1,2}|\d{1,2}[./-]\d{1,2}[./-](\d{4}|\d{2})|(19|20)\d{2}-(0[1-9]|1[0-2])"
    r"|\d{1,2}[ .-]+[A-Za-z]{3,9}[ .,-]+\d{2,4}|[A-Za-z]{3,9}[ .]+\d{1,2},? +\d{4})([T, ].*)?$"
)


def clean(text: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The text without spaces around it; null where it stands for no value."""
    whole = text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text
    trimmed = pc.utf8_trim_whitespace(whole.cast(pa.large_string()))
    if _any_matches(trimmed, _MINUS):
        trimmed = pc.replace_substring_regex(trimmed, _MINUS, r"-\1")
    missing = pc.is_in(trimmed, value_set=pa.array(MISSING, pa.large_string()))
    return pc.if_else(missing, pa.scalar(None, pa.large_string()), trimmed)


class TextColumn:
    """A column of text, of which any value may be missing. What its values have in common is found once."""

    def __init__(self, name: str, text: pa.Array | pa.ChunkedArray) -> None:
        self.name, self.text = name, clean(text)

    @property
    def is_empty(self) -> bool:
        """Whether no row has a value."""
        return bool(self.text.null_count == len(self.text))

    @cached_property
    def unit(self) -> str:
        """The percent sign or currency that all values have; "" when there is none."""
        if not _any_matches(self.text, f"[{''.join(UNITS)}]"):
            return ""
        signs = {unit: re.escape(unit) for unit in UNITS}
        patterns = {unit: rf"^[+-]?\s*{sign}\s*[\d.,]|\d[.,]?\s*{sign}$" for unit, sign in signs.items()}
        return next((unit for unit, pattern in patterns.items() if _all_match(self.text, pattern)), "")

    @cached_property
    def form(self) -> str:
        """What another file need not show of the column: the unit of its numbers, or the order of its dates."""
        if _all_match(self.text, _OTHER_DATE):
            return _order(self.text) or ""
        return self.unit

    @cached_property
    def truths(self) -> tuple[str, str] | None:
        """The words for false and true, where the column has no others."""
        there = pc.unique(pc.drop_null(self.text)).to_pylist() if _all_match(self.text, "^[tTfF]") else []
        return next((words for words in _TRUTH if there and set(there) <= set(words)), None)

    @cached_property
    def _plain(self) -> pa.Array:
        """The text without the unit that all values have, and without what separates thousands."""
        text = self.text
        if self.unit:
            sign = re.escape(self.unit)
            text = pc.replace_substring_regex(text, rf"^([+-]?)\s*{sign}\s*|\s*{sign}$", r"\1")
        if _any_matches(text, rf"\d{_SPACE}\d") and _all_match(text, rf"^[+-]?\d{{1,3}}({_SPACE}\d{{3}})*([.,]\d+)?$"):
            text = pc.replace_substring_regex(text, _SPACE, "")
        return text

    def is_number(self, decimal: str) -> bool:
        """Whether all that is there are numbers, none of which would lose a leading zero or a digit."""
        plain = self._plain
        return _all_match(plain, NUMBER[decimal]) and not _any_matches(plain, _LEADING_ZERO) and not _too_long(plain)

    def typed(self, decimal: str, form: str = "", *, categorical: bool = False, numeric: bool = False) -> Array:
        """The column as float64 (NaN: missing), datetime64[us] (NaT: missing) or objects of text (None: missing), (N,).

        Raises DataError for numeric text that is no number, and for dates that cannot be told.

        Args:
            decimal: the sign of decimals.
            form: how dates are written, where another file has shown it (see `form`); else this column must.
            categorical: whether text is what it shall be.
            numeric: whether numbers are what it shall be.
        """
        name, text = self.name, self.text
        if categorical:
            return objects(text)
        if self.truths:
            return cast(Array, pc.equal(text, self.truths[1]).cast(pa.float64()).to_numpy(zero_copy_only=False))
        if numeric:
            _require_numbers(name, text, self._plain, decimal)
            if long := _too_long(self._plain):
                raise DataError(
                    f"column {name!r} must contain whole numbers within +-2^53, which keep their digits, but has "
                    f"{long}: subtract a constant, or --drop {name!r}"
                )
        if numeric or self.is_number(decimal):
            return _numbers(self._plain, decimal)
        if not _all_match(text, _DATE_LIKE):
            return objects(text)
        if _all_match(text, _ISO):
            return _iso_dates(name, text)
        if _all_match(text, _OTHER_DATE):
            return _other_dates(name, text, form)
        example = next(value for value in text.to_pylist() if value is not None and not re.match(_ISO, value))
        raise DataError(f"column {name!r} has dates such as {example!r}, which are not read: {_way_out(name)}")

    @cached_property
    def are_dates(self) -> Array:
        """Which values look like a date, or are missing; bool (N,)."""
        return np.asarray(pc.match_substring_regex(self.text, _DATE_LIKE).fill_null(True))

    def odd_value(self) -> tuple[int, str] | None:
        """Row and text of the first value that is neither number nor date, in a column of which most others are."""
        there = pc.is_valid(self.text)
        for pattern in (NUMBER_LIKE.pattern, _DATE_LIKE):
            fits = pc.match_substring_regex(self._plain, pattern)
            odd = np.flatnonzero(np.asarray(pc.and_kleene(there, pc.invert(fits)).fill_null(False)))
            if 0 < 2 * len(odd) < len(self.text) - self.text.null_count:
                return int(odd[0]), str(self.text[int(odd[0])].as_py())
        return None


def decimal_sign(columns: Iterable[TextColumn], delimiter: str) -> str:
    """The sign of decimals in a file: a comma only where a column shows it, and commas do not separate columns."""
    if delimiter == ",":
        return "."
    texts = [column.text for column in columns]
    shown = [text for text in texts if _all_match(text, NUMBER[","]) and not _all_match(text, NUMBER["."])]
    return "," if shown or (delimiter == ";" and any(_has_comma_number(text) for text in texts)) else "."


def _has_comma_number(text: pa.Array) -> bool:
    return _all_match(text, NUMBER[","]) and bool(pc.any(pc.match_substring(text, ",")).as_py())


def _require_numbers(name: str, text: pa.Array, plain: pa.Array, decimal: str) -> None:
    """Raises DataError, which names the first value that is no number. `plain`: the text without units."""
    wrong = pc.and_kleene(pc.is_valid(text), pc.invert(pc.match_substring_regex(plain, NUMBER[decimal])))
    rows = np.flatnonzero(np.asarray(wrong.fill_null(False)))
    if len(rows):
        raise DataError(
            f"column {name!r} must contain numbers, but row {rows[0] + 1} has {text[int(rows[0])].as_py()!r}"
            f"{f' (and {len(rows) - 1} more)' if len(rows) > 1 else ''}"
        )


def _too_long(plain: pa.Array) -> str | None:
    """A whole number of which float64 would lose digits: of an account, or of a post."""
    if not _any_matches(plain, _LONG):
        return None
    long = plain.filter(pc.match_substring_regex(plain, _LONG)).to_pylist()
    return next((number for number in long if abs(int(number)) > EXACT), None)


def _numbers(plain: pa.Array, decimal: str) -> Array:
    """Numbers (N,) as float64; NaN where they are missing."""
    plain = pc.replace_substring(plain, "," if decimal == "." else ".", "")
    if decimal == ",":
        plain = pc.replace_substring(plain, ",", ".")
    plain = pc.replace_substring_regex(plain, r"^\+", "")
    return cast(Array, plain.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64))


def _iso_dates(name: str, text: pa.Array) -> Array:
    """Moments of one time zone, UTC, where they name any. Raises DataError for a day that no calendar has."""
    values = np.asarray(text.to_pylist(), object)
    parsed = np.full(len(values), np.datetime64("NaT"), "datetime64[us]")
    there = np.array([value is not None for value in values], bool)
    for row in np.flatnonzero(there):
        try:
            moment = datetime.fromisoformat(values[row])
            parsed[row] = np.datetime64(moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment, "us")
        except (ValueError, OverflowError) as error:
            raise DataError(_no_date(name, int(row), values[row])) from error
    return parsed


def _parts_of_dates(text: pa.Array) -> tuple[Array, Array, Array]:
    """The three numbers of each date, float64 (N,) each, NaN where it is missing."""
    parts = pc.extract_regex(text, r"^(?P<a>\d{1,2})[./-](?P<b>\d{1,2})[./-](?P<year>\d{4})$")
    a, b, year = (
        np.asarray(pc.struct_field(parts, part).cast(pa.float64()).to_numpy(zero_copy_only=False))
        for part in ("a", "b", "year")
    )
    return a, b, year


def _order(text: pa.Array) -> str | None:
    """DAY_FIRST or MONTH_FIRST, where the dates show one of them."""
    a, b, _ = _parts_of_dates(text)
    day_first, month_first = np.nanmax(a) > 12 or _any_matches(text, r"^\d+\."), np.nanmax(b) > 12
    return None if day_first == month_first else DAY_FIRST if day_first else MONTH_FIRST


def _other_dates(name: str, text: pa.Array, form: str) -> Array:
    """Dates such as 31.12.2020, 31/12/2020 or 12/31/2020. Raises DataError where day and month may be either."""
    a, b, year = _parts_of_dates(text)
    order = form if form in (DAY_FIRST, MONTH_FIRST) else _order(text)
    if order is None:
        example = next(value for value in text.to_pylist() if value is not None)
        raise DataError(
            f"column {name!r} has dates such as {example!r}, which do not tell day and month apart: {_way_out(name)}"
        )
    day, month = (a, b) if order == DAY_FIRST else (b, a)
    moments = np.full(len(a), np.datetime64("NaT"), "datetime64[us]")
    for row in np.flatnonzero(~np.isnan(year)):
        written = f"{int(year[row]):04d}-{int(month[row]):02d}-{int(day[row]):02d}"
        try:
            moments[row] = np.datetime64(written, "us")
        except ValueError as error:
            raise DataError(_no_date(name, int(row), text[int(row)].as_py())) from error
    return moments


def _way_out(name: str) -> str:
    return f"write them as YYYY-MM-DD, or leave the column out (--drop {name!r})"


def _no_date(name: str, row: int, value: str) -> str:
    return f"column {name!r} has no date in row {row + 1}: {value!r}; leave the cell empty if there is none"


def objects(text: pa.Array) -> Array:
    """Text as objects (N,); None where it is missing. Equal texts are one object, which a million rows must share."""
    coded = pc.dictionary_encode(text)
    values: Any = np.empty(len(coded.dictionary) + 1, object)
    values[:-1] = coded.dictionary.to_pylist()
    return cast(Array, values[np.asarray(coded.indices.fill_null(len(coded.dictionary)))])


def _all_match(text: pa.Array, pattern: str) -> bool:
    """Whether there is a value, and all match."""
    return text.null_count < len(text) and bool(pc.all(pc.match_substring_regex(text, pattern)).as_py())


def _any_matches(text: pa.Array, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(text, pattern)).as_py())
