"""A table of the user's as samples: target, split, and features encoded by what the training rows say."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from rungwise.text import plural, printable_name, unknown
from rungwise.trainable.data import memory
from rungwise.trainable.data.raw import FEW_ROWS, MOST_CLASSES, Array, DataError, Raw
from rungwise.trainable.data.table import split
from rungwise.trainable.data.table.columns import SPLIT, Columns
from rungwise.trainable.data.table.encoder import FEWEST_ROWS, Feature, TableEncoder, as_text, is_missing
from rungwise.trainable.data.table.table_file import TableFile, column_names, nbytes, read_table_file
from rungwise.trainable.data.table.text_columns import TextColumn

LONGEST_CLASS = 200  # characters of a class's name: it is shown everywhere
SHOWN = 5  # names in a message
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
    parts = _parts(file, roles, known, y if classes else np.zeros(len(y), np.int64), seed)
    split.require_rows(str(path), parts)
    split_column = [SPLIT] if _has_split(file, roles) else []
    used = {roles.label, *roles.drop, *filter(None, (roles.group, roles.time)), *split_column}
    left_out = dict.fromkeys(roles.drop, "by --drop")
    left_out |= {name: "it splits the rows" for name in (roles.group, roles.time, *split_column) if name}
    whole = {name: file.typed(name, roles) for name in file.columns if name not in used}
    kept = {*roles.categorical, *roles.embed, *roles.numeric}
    left_out |= {name: why for name, values in whole.items() if name not in kept and (why := _identifier(values))}
    notes += _odd_values(file, {name: values for name, values in whole.items() if name not in kept})
    table = {name: values if known.all() else values[known] for name, values in whole.items() if name not in left_out}
    forms = {name: file.texts[name].form for name in table if name in file.texts}
    encoder = TableEncoder.fit(table, np.flatnonzero(parts == split.TRAIN), left_out, file.decimal, forms, roles.embed)
    if not encoder.features:
        why = "; ".join(f"{name!r} {reason}" for name, reason in encoder.left_out.items()) or "there is no other column"
        raise DataError(f"{str(path)!r} must have a column beside the target that is a feature, but {why}")
    if wrong_size := memory.problem(str(path), len(y) * len(encoder.names) * 12):
        raise DataError(f"{wrong_size}, since its columns become {len(encoder.names):,} columns of numbers")
    x = encoder.encode(table)
    notes += _notes(encoder)
    if any(not feature.is_categorical for feature in encoder.features) and (copies := split.count_copies(x, y, parts)):
        notes.append(
            f"{copies:,} of {int((parts == split.TEST).sum()):,} test rows equal a training row in features and "
            "target: if they are copies, keep one of each, or keep them together with --group"
        )
    train, validation, test = (
        (x[parts == part], y[parts == part]) for part in (split.TRAIN, split.VALIDATION, split.TEST)
    )
    source = f"{printable_name(path.name)}, the user's {'folder' if path.is_dir() else 'file'}"
    return Raw(train, validation, test, source, classes, tuple(notes), regression=not classes, encoder=encoder)


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
        for row in np.flatnonzero(~np.isin(values, ["", *feature.categories])):
            if values[row].removesuffix(".0") in feature.categories:  # pandas makes 1 a 1.0 where a value is missing
                values[row] = values[row].removesuffix(".0")
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
    texts = [str(value) for value in distinct] if target.dtype == object else [f"{value:.17g}" for value in distinct]
    if (longest := max(map(len, texts))) > LONGEST_CLASS:
        raise DataError(f"the target {name!r} must contain names of classes, but has a text of {longest:,} characters")
    labels = np.searchsorted(distinct, target)
    if len(distinct) * 2 > len(target):
        raise DataError(
            f"the target {name!r} has {plural(len(distinct), 'class', 'classes')} in {plural(len(target), 'row')}: a "
            "class must have rows to learn from; name another target, or say --task regression if it is a number"
        )
    return labels.astype(np.int64), tuple(map(printable_name, texts))


def _parts(file: TableFile, roles: Columns, known: Array, strata: Array, seed: int) -> Array:
    """The split of each row whose target is `known`, (N,)."""
    if _has_split(file, roles):
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
    if roles.group:
        groups = as_text(file.typed(roles.group, Columns(categorical=(roles.group,))))[known]
        if (groups == "").any():
            raise DataError(f"--group must name a column without gaps, but {roles.group!r} has {(groups == '').sum()}")
        return split.draw_groups(groups, seed)
    if roles.time:
        moments = file.typed(roles.time, Columns())[known]
        if moments.dtype == object or is_missing(moments).any():
            raise DataError(f"--time must name a column of dates or numbers without gaps, but {roles.time!r} is none")
        return split.cut_by_time(moments)
    return split.draw_stratified(strata, seed)


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
        elif not file.is_text and text.is_number("."):
            lines.append(f"column {name!r} has numbers as text, and is taken as categories; --numeric {name!r} if not")
    return [
        *lines[:SHOWN],
        *([f"{plural(len(lines) - SHOWN, 'more column')} like these"] if len(lines) > SHOWN else []),
    ]


def _notes(encoder: TableEncoder) -> list[str]:
    """What was done to the columns, in a few lines; the report has all of it."""
    kinds: Counter[str] = Counter(
        "category" if feature.is_categorical else feature.kind for feature in encoder.features
    )
    plurals = {"number": "numbers", "category": "categories", "date": "dates"}
    made = ", ".join(plural(kinds[kind], kind, many) for kind, many in plurals.items() if kinds[kind])
    columns = plural(len(encoder.features), "column")
    numbers = plural(len(encoder.names), "column of numbers", "columns of numbers")
    lines = [f"{columns} ({made}) become{'s' if len(encoder.features) == 1 else ''} {numbers}"]
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
