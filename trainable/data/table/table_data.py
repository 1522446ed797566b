"""A table of the user's as samples, with features encoded by what the training rows say; and what shows before."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from rungwise.text import plural, unknown
from rungwise.trainable.data import memory
from rungwise.trainable.data.raw import Array, DataError, Raw
from rungwise.trainable.data.table import split
from rungwise.trainable.data.table.columns import Columns
from rungwise.trainable.data.table.encoder import FEWEST_ROWS, Feature, TableEncoder, as_text, is_missing
from rungwise.trainable.data.table.table_file import TableFile, column_names, nbytes, read_table_file
from rungwise.trainable.data.table.text_columns import TextColumn
from rungwise.trainable.data.table.typed_table import SHOWN, TypedTable, read_typed

_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d+)?(e[+-]?\d+)?")  # that text stands for, with all its digits
USUAL_TARGETS = ("target", "class", "y", "outcome", "response", "labels", "category", "price")  # besides `TARGET`


def problems(path: Path, roles: Columns) -> list[str]:
    """What shows before the table is read whole: a line each."""
    try:
        names = column_names(path)
        lines = roles.problems()
        for name, flag in {column: flag for flag, column in roles.pairs}.items():
            if name not in names:
                lines.append(f"{flag} must name a column: {unknown('column', name, names)}")
        if roles.target is None and roles.label not in names:
            shown = ", ".join(names[-SHOWN:])
            lines.append(
                f"--target must name the column to predict, since {str(path)!r} has no column {roles.label!r}; it has "
                f"{plural(len(names), 'column')}{', such as' if len(names) > SHOWN else ':'} {shown}; perhaps "
                f"--target {shlex.quote(_likely_target(names))}"
            )
        wrong = memory.problem(str(path), nbytes(path))
        return [*lines, *([wrong] if wrong else [])]
    except DataError as error:
        return [str(error)]


def _likely_target(names: Sequence[str]) -> str:
    """The column with a usual name of targets; else the last one, where most tables have theirs."""
    return next((name for usual in USUAL_TARGETS for name in names if name.lower() == usual), names[-1])


def read(path: Path, roles: Columns, seed: int) -> Raw:
    """The table's samples, split and encoded.

    Args:
        path: of the file, or of a folder of Parquet files, in which `problems` finds none.
        roles: of the columns.
        seed: of the split, where rows are drawn.

    Returns:
        All three parts; features are float64 (N, F), and `encoder` says how they are made.

    Raises:
        DataError: for anything that cannot be used.
    """
    typed = read_typed(path, roles)
    parts, y = _parts(typed, seed), typed.y
    split.require_rows(str(path), parts)
    encoder = typed.fit(np.flatnonzero(parts == split.TRAIN))
    if wrong_size := memory.problem(str(path), len(y) * len(encoder.names) * 12):
        raise DataError(f"{wrong_size}, since its columns become {len(encoder.names):,} columns of numbers")
    x = encoder.encode(typed.columns)
    notes = [*typed.notes, *encoder_notes(encoder)]
    if any(not feature.is_categorical for feature in encoder.features) and (copies := split.count_copies(x, y, parts)):
        notes.append(
            f"{copies:,} of {int((parts == split.TEST).sum()):,} test rows equal a training row in features and "
            "target: if they are copies, keep one of each, or keep them together with --group"
        )
    train, validation, test = (
        (x[parts == part], y[parts == part]) for part in (split.TRAIN, split.VALIDATION, split.TEST)
    )
    return Raw(
        *(train, validation, test, typed.source, typed.classes, tuple(notes)),
        regression=not typed.classes,
        encoder=encoder,
    )


def read_rows(path: Path, encoder: TableEncoder) -> tuple[Array, list[str]]:
    """The rows of another table for a model that was trained on one: float64 (N, F), and notes.

    Raises DataError for a column that is not there, or holds something else.
    """
    file = read_table_file(path)
    if absent := [feature.name for feature in encoder.features if feature.name not in file.columns]:
        raise DataError(
            f"{str(path)!r} must have the columns that were trained on, but lacks {', '.join(map(repr, absent))}"
        )
    if not len(next(iter(file.columns.values()))):
        raise DataError(f"a table must have rows, but {str(path)!r} has column names alone")
    decimal = _decimal_of(file, encoder)
    table = {feature.name: _of_kind(file, feature, decimal) for feature in encoder.features}
    notes = [f"decimals are read with {decimal!r}, unlike those trained on"] if decimal != encoder.decimal else []
    unseen = encoder.unseen(table)
    notes += [
        f"column {name!r}: {plural(rows, 'row has', 'rows have')} a category that was not trained on"
        for name, rows in unseen.items()
    ]
    gaps = {f.name: is_missing(table[f.name]).sum() for f in encoder.features if not f.missing}
    notes += [
        f"column {name!r}: {plural(int(n), 'row has', 'rows have')} no value, unlike those trained on"
        for name, n in gaps.items()
        if n
    ]
    return encoder.encode(table), notes


def _decimal_of(file: TableFile, encoder: TableEncoder) -> str:
    """The sign of decimals of another table: the model's, unless the numbers can only be written with the other."""
    names = [feature.name for feature in encoder.features if feature.kind == "number" and feature.name in file.texts]
    shown = [file.texts[name] for name in names if not file.texts[name].is_empty]

    def all_read(sign: str) -> bool:
        return all(column.is_number(sign) or column.truths for column in shown)

    other = {".": ",", ",": "."}[encoder.decimal]
    said = other == file.decimal == ","  # which is never taken without a sign of it
    return other if file.is_text and (said or not all_read(encoder.decimal)) and all_read(other) else encoder.decimal


def _of_kind(file: TableFile, feature: Feature, decimal: str) -> Array:
    """The column of another table as the feature takes it. Raises DataError."""
    name, text = feature.name, file.texts.get(feature.name)
    if feature.is_categorical:
        values = as_text(file.typed(name, Columns(categorical=(name,)), decimal))
        numbers = {float(known): known for known in feature.categories if _NUMBER.fullmatch(known)}
        for row in np.flatnonzero(~np.isin(values, ["", *feature.categories])):
            if _NUMBER.fullmatch(values[row]):  # 1.0 is 1, which pandas makes of it where a value is missing
                values[row] = numbers.get(float(values[row]), values[row])
        values[values == ""] = None
        return values
    if feature.kind == "number":
        if text is not None and not text.is_empty and text.unit != feature.form:
            told = f"with {feature.form!r}" if feature.form else "without a unit"
            raise DataError(f"column {name!r} must contain numbers {told}, as it did when the model was trained")
        values = file.typed(name, Columns(numeric=(name,)), decimal)
        if values.dtype.kind != "f":
            raise DataError(_changed(name, "numbers", values, text))
        return values
    values = file.typed(name, Columns(), decimal, feature.form)
    if is_missing(values).all():
        return np.full(len(values), np.datetime64("NaT"), "datetime64[us]")
    if values.dtype.kind != "M":
        raise DataError(_changed(name, "dates", values, text))
    return values


def _changed(name: str, kind: str, values: Array, text: TextColumn | None) -> str:
    """That a column no longer contains what it did, with a row that shows it: of text, the first that is no date."""
    shown, there = (values, ~is_missing(values)) if text is None else (text.text.to_pylist(), ~text.are_dates)
    row = int(np.argmax(there))
    was = f"column {name!r} must contain {kind}, as it did when the model was trained"
    return f"{was}, but row {row + 1} has {shown[row]!r}"


def _parts(typed: TypedTable, seed: int) -> Array:
    """The split of each row, (N,)."""
    if typed.given is not None:
        return typed.given
    if typed.groups is not None:
        return split.draw_groups(typed.groups, seed)
    if typed.moments is not None:
        return split.cut_by_time(typed.moments)
    return split.draw_stratified(typed.y if typed.classes else np.zeros(len(typed.y), np.int64), seed)


def encoder_notes(encoder: TableEncoder) -> list[str]:
    """What was done to the columns, in a few lines; the report has all of it."""
    kinds: Counter[str] = Counter(
        "category" if feature.is_categorical else feature.kind for feature in encoder.features
    )
    plurals = {"number": "numbers", "category": "categories", "date": "dates"}
    made = ", ".join(plural(kinds[kind], kind, many) for kind, many in plurals.items() if kinds[kind])
    columns = plural(len(encoder.features), "column")
    numbers = plural(len(encoder.names), "column of numbers", "columns of numbers")
    lines = [f"{columns} ({made}) become{'s' if len(encoder.features) == 1 else ''} {numbers}"]
    if embedded := [feature.name for feature in encoder.features if feature.kind == "embedding"]:
        lines.append(f"a vector is learned for each category: {_some(embedded)}")
    if rare := [feature.name for feature in encoder.features if feature.kind == "embedding" and feature.other]:
        lines.append(f"categories with fewer than {FEWEST_ROWS} training rows share one vector: {_some(rare)}")
    if filled := [feature.name for feature in encoder.features if feature.missing]:
        lines.append(f"missing values are marked, those of numbers and dates filled by the median: {_some(filled)}")
    if many := [feature.name for feature in encoder.features if feature.kind == "category" and feature.other]:
        lines.append(
            f"rare categories share a column: {_some(many)}; --embed learns a vector for each category of "
            f"{FEWEST_ROWS} rows or more"
        )
    for name, why in list(encoder.left_out.items())[:SHOWN]:
        if why != "by --drop":
            lines.append(f"column {name!r} is left out: {why}{_way_to_keep(why, name)}")
    if len(encoder.left_out) > SHOWN:
        more = plural(len(encoder.left_out) - SHOWN, "more column is", "more columns are")
        lines.append(f"{more} left out; the report lists them")
    return lines


def _way_to_keep(why: str, name: str) -> str:
    if why.startswith("it numbers"):
        return f" (--numeric {name!r} keeps it)"
    return f" (--categorical {name!r} keeps it)" if "identifier" in why else ""


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(map(repr, listed[:SHOWN])) + (f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")
