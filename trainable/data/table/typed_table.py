"""A table of the user's before it is divided: its rows with their labels, and its columns with their types."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rungwise.text import plural, printable_name
from rungwise.trainable.data.raw import FEW_ROWS, MOST_CLASSES, Array, DataError, text_of_number
from rungwise.trainable.data.table import split
from rungwise.trainable.data.table.columns import SPLIT, Columns
from rungwise.trainable.data.table.encoder import TableEncoder, as_text, is_missing
from rungwise.trainable.data.table.table_file import TableFile, read_table_file

LONGEST_CLASS = 200  # characters of a class's name: it is shown everywhere
SHOWN = 5  # names in a message


@dataclass(frozen=True)
class TypedTable:
    """The rows of a table whose target is known, not yet divided or encoded."""

    name: str  # its path
    source: str  # for people
    columns: Mapping[str, Array]  # those that may be features, each (N,) as `encoder.Table` has them
    y: Array  # (N,) labels 0..K-1, or targets float64
    classes: tuple[str, ...]  # empty: a regression
    groups: Array | None  # (N,) text: rows that belong together
    moments: Array | None  # (N,) by which the rows are divided
    given: Array | None  # (N,) the part of each row that the table says (`split.TRAIN` and so on)
    left_out: Mapping[str, str]  # column -> why it is no feature
    embed: tuple[str, ...]  # columns of whose categories vectors are learned
    decimal: str
    forms: Mapping[str, str]  # column -> how its text was written
    notes: tuple[str, ...]

    def fit(self, rows: Array) -> TableEncoder:
        """The encoder that the training `rows` (indices) make. Raises DataError when nothing is a feature there."""
        encoder = TableEncoder.fit(self.columns, rows, self.left_out, self.decimal, self.forms, self.embed)
        if not encoder.features:
            why = "; ".join(f"{name!r} {reason}" for name, reason in encoder.left_out.items())
            raise DataError(
                f"{self.name!r} must have a column beside the target that is a feature, but "
                f"{why or 'there is no other column'}"
            )
        return encoder


def read_typed(path: Path, roles: Columns) -> TypedTable:
    """The table's rows as they are, with their labels. Arguments and errors are those of `read`."""
    file = read_table_file(path)
    notes = list(file.notes)
    target = file.typed(roles.label, _target_roles(file, roles))
    if not len(target):
        raise DataError(f"a table must have rows, but {str(path)!r} has column names alone")
    known = ~is_missing(target)
    if not known.all():
        notes.append(
            f"{plural(int((~known).sum()), 'row has', 'rows have')} no {roles.label!r}, of {len(target):,}: left out"
        )
        if not known.any():
            raise DataError(f"the target {roles.label!r} of {str(path)!r} has no value")
    y, classes = _labels(roles, target[known])
    given = _given_parts(file, roles, known) if _has_split(file, roles) else None
    split_column = [SPLIT] if given is not None else []
    used = {roles.label, *roles.drop, *filter(None, (roles.group, roles.time)), *split_column}
    left_out = dict.fromkeys(roles.drop, "by --drop")
    left_out |= {name: "it splits the rows" for name in (roles.group, roles.time, *split_column) if name}
    whole = {name: file.typed(name, roles) for name in file.columns if name not in used}
    kept = {*roles.categorical, *roles.embed, *roles.numeric}
    left_out |= {name: why for name, values in whole.items() if name not in kept and (why := _identifier(values))}
    notes += _odd_values(file, {name: values for name, values in whole.items() if name not in kept})
    columns = {name: values if known.all() else values[known] for name, values in whole.items() if name not in left_out}
    return TypedTable(
        name=str(path),
        source=f"{printable_name(path.name)}, the user's {'folder' if path.is_dir() else 'file'}",
        columns=columns,
        y=y,
        classes=classes,
        groups=_groups(file, roles.group, known) if roles.group else None,
        moments=_moments(file, roles.time, known) if roles.time else None,
        given=given,
        left_out=left_out,
        embed=tuple(roles.embed),
        decimal=file.decimal,
        forms={name: file.texts[name].form for name in columns if name in file.texts},
        notes=tuple(notes),
    )


def _target_roles(file: TableFile, roles: Columns) -> Columns:
    """How the target's column is read: as the task says; truth values are classes with their names."""
    if roles.task == "regression":
        return Columns(numeric=(roles.label,))
    return Columns(categorical=(roles.label,)) if file.holds_truths(roles.label) else Columns()


def _labels(roles: Columns, target: Array) -> tuple[Array, tuple[str, ...]]:
    """Labels 0..K-1 and the names of the classes; or targets float64 and no classes. Raises DataError."""
    name = roles.label
    if target.dtype.kind == "M":
        raise DataError(f"the target {name!r} contains dates: give the number to predict, days until then for example")
    if roles.task == "regression":
        if target.dtype == object:
            raise DataError(f"the target {name!r} must contain numbers for a regression, but contains text")
        return target, ()
    distinct = np.unique(target)
    if len(distinct) < 2:
        raise DataError(f"the target {name!r} must have two values or more, but is always {distinct[0]}")
    if target.dtype != object and roles.task is None:
        whole = bool((distinct == np.trunc(distinct)).all())
        if whole and len(distinct) > MOST_CLASSES:
            raise DataError(
                f"the target {name!r} has {len(distinct)} different whole numbers, {distinct[0]:g} to "
                f"{distinct[-1]:g}, which may be amounts or classes: say --task regression or --task classification"
            )
        if not whole:
            return target, ()
    texts = (
        [str(value) for value in distinct] if target.dtype == object else [text_of_number(value) for value in distinct]
    )
    if (longest := max(map(len, texts))) > LONGEST_CLASS:
        raise DataError(f"the target {name!r} must contain names of classes, but has a text of {longest:,} characters")
    labels = np.searchsorted(distinct, target)
    if len(distinct) * 2 > len(target):
        raise DataError(
            f"the target {name!r} has {plural(len(distinct), 'class', 'classes')} in {plural(len(target), 'row')}: a "
            "class must have rows to learn from; name another target, or say --task regression if it is a number"
        )
    return labels.astype(np.int64), tuple(map(printable_name, texts))


def _given_parts(file: TableFile, roles: Columns, known: Array) -> Array:
    """What the column `split` says of each row whose target is `known`, (N,)."""
    if chosen := roles.group or roles.time:
        raise DataError(
            f"the column {SPLIT!r} says how the rows are split, and {chosen!r} too: --drop {SPLIT} leaves it out"
        )
    said = np.asarray(file.columns[SPLIT].to_pylist(), object)[known]
    if (parts := split.parts_of_names(said)) is None:
        found = ", ".join(sorted({str(value) for value in said}))
        raise DataError(
            f"the column {SPLIT!r} must say train, validation and test, but says {found}: --drop {SPLIT} draws a "
            f"split, --categorical {SPLIT} makes it a feature"
        )
    return parts


def _groups(file: TableFile, column: str, known: Array) -> Array:
    """The group of each row whose target is `known`, as text (N,)."""
    groups = as_text(file.typed(column, Columns(categorical=(column,))))[known]
    groups = np.array([re.sub(r"(?<=^\d)(\d*)\.0+$", r"\1", group) for group in groups], object)  # 1.0 is 1
    if (groups == "").any():
        raise DataError(f"--group must name a column without gaps, but {column!r} has {(groups == '').sum()}")
    return groups


def _moments(file: TableFile, column: str, known: Array) -> Array:
    """The moment of each row whose target is `known`, (N,)."""
    moments = file.typed(column, Columns())[known]
    if moments.dtype == object or is_missing(moments).any():
        raise DataError(f"--time must name a column of dates or numbers without gaps, but {column!r} is none")
    return moments


def _has_split(file: TableFile, roles: Columns) -> bool:
    """Whether the table assigns its rows itself: a column `split`, unless it has another role, that names splits."""
    if SPLIT not in file.columns or SPLIT in roles.named or roles.label == SPLIT:
        return False
    return split.names_splits(file.columns[SPLIT].to_pylist())


def _identifier(values: Array) -> str | None:
    """Why a column looks like an identifier; None when it does not."""
    if len(values) <= FEW_ROWS:
        return None
    if values.dtype == object:
        there = [value for value in values if value is not None]
        if len(there) > FEW_ROWS and len(set(there)) > 0.95 * len(there):
            return f"{len(set(there)):,} of {len(there):,} values are different, as of an identifier or of free text"
        return None
    if values.dtype.kind == "f" and not np.isnan(values).any():
        steps = np.diff(np.sort(values))
        if (steps == 1).all() and (values == np.trunc(values)).all():
            return f"it numbers the rows, {values.min():.0f} to {values.max():.0f}"
    return None


def _odd_values(file: TableFile, table: Mapping[str, Array]) -> list[str]:
    """Notes on columns that would be numbers or dates, were it not for a few values."""
    lines = []
    for name, values in table.items():
        text = file.texts.get(name)
        if values.dtype != object or text is None:
            continue
        if odd := text.odd_value():
            lines.append(
                f"column {name!r} is taken as text, since row {odd[0] + 1} has {odd[1][:40]!r} where most have numbers "
                "or dates; leave such cells empty if they mean no value"
            )
        elif file.is_text and file.decimal == "." and text.is_number(","):
            lines.append(f"column {name!r} has numbers with a decimal comma, and is taken as categories: write a point")
        elif not file.is_text and text.is_number("."):
            lines.append(f"column {name!r} has numbers as text, and is taken as categories; --numeric {name!r} if not")
    return [
        *lines[:SHOWN],
        *([f"{plural(len(lines) - SHOWN, 'more column')} like these"] if len(lines) > SHOWN else []),
    ]
