"""Checks and conversion of samples and labels: to uint8 images or float32 tables, and to classes or targets.

A value that would lose digits is refused; a note says when labels are read otherwise than they look.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rungwise.text import plural
from rungwise.trainable.data.raw import MOST_CLASSES, Array, DataError, Pair, Raw

MOST_CHANNELS = 4  # of an image, where its shape leaves a doubt
DIGITS_LOST = 1e-3  # standard deviations by which float32 may move a number


@dataclass(frozen=True)
class Split:
    """Samples x: uint8 (N, C, H, W) or float32 (N, F); labels y: int64 (N,), 0..K-1, or targets float32. Read-only."""

    x: Array
    y: Array

    def __len__(self) -> int:
        return len(self.y)


def as_they_are(name: str, pair: Pair, kind: str) -> Split:
    """A split whose samples go to a model of the user's own as they are: whole numbers as int64 (uint8 stays, unless it
    is (N, L), of tokens), real numbers as float32, of any shape (N, ...). Raises DataError."""
    x, y = pair
    if x.ndim < 2 or x.dtype.kind not in "biuf":
        raise DataError(f"x must be numbers (N, ...), but {name!r} has {x.dtype} {x.shape}")
    if x.dtype.kind == "f":
        with np.errstate(over="ignore"):
            samples = x.astype(np.float32, copy=False)
        if wrong := int(np.sum(~np.isfinite(samples))):
            raise DataError(f"x must be finite in float32, but {name!r} has {wrong} values that are not")
    else:
        samples = x if x.dtype == np.uint8 and x.ndim > 2 else x.astype(np.int64, copy=False)
    labels = checked(name, (np.zeros((len(x), 1)), y), kind)
    return Split(samples, labels.y)


def kind_of(raw: Raw, labels: list[Array]) -> tuple[str, list[str]]:
    """What the labels are, "classes", "whole classes" (real numbers that are 0, 1, 2, ...) or "targets", and notes."""
    if raw.regression:
        return "targets", []
    if not all(np.issubdtype(y.dtype, np.floating) for y in labels):
        return "classes", []
    distinct = np.unique(np.concatenate([y.ravel() for y in labels]))
    if len(distinct) > MOST_CLASSES or not (distinct == np.trunc(distinct)).all():
        return "targets", []
    names = f"{distinct[0]:g} to {distinct[-1]:g}"
    if len(distinct) > 1 and np.array_equal(distinct, np.arange(len(distinct))):
        return "whole classes", [
            f"the labels are real numbers, but only {len(distinct)} whole ones, {names}: they are taken as classes; "
            "for a regression give the column label of a Parquet file the field metadata kind=target"
        ]
    return "targets", [
        f"the labels are real numbers, though only {len(distinct)} whole ones, {names}: they are taken as targets of a "
        "regression; for classes save them as 0..K-1 or as text"
    ]


def checked(name: str, pair: Pair, kind: str) -> Split:
    """A split of samples and labels that can be used, tables not yet in float32. `kind`: see `kind_of`.

    Raises DataError.
    """
    x, y = pair
    if x.ndim == 3 and x.dtype == np.uint8:
        x = x[:, None]  # grey images without their channel axis
    real = any(np.issubdtype(x.dtype, one) for one in (np.integer, np.floating))
    if not (x.ndim == 4 and x.dtype == np.uint8) and not (x.ndim == 2 and real):
        way = "; a model of your own takes them as they are with --preprocess none" if real else ""
        raise DataError(f"x must be uint8 (N, C, H, W) or numbers (N, F), but {name!r} has {x.dtype} {x.shape}{way}")
    if x.ndim == 4 and x.shape[1] > MOST_CHANNELS >= x.shape[3]:
        raise DataError(
            f"x must be uint8 (N, C, H, W), channels first, but {name!r} has {x.shape}, which looks like "
            "channels last; save x.transpose(0, 3, 1, 2)"
        )
    kinds = (np.integer, np.floating, np.str_)
    if y.ndim != 1 or not any(np.issubdtype(y.dtype, one) for one in kinds):
        raise DataError(f"y must be whole numbers, text or real numbers (N,), but {name!r} has {y.dtype} {y.shape}")
    if len(x) != len(y):
        raise DataError(
            f"x and y must have one length, but {name!r} has {plural(len(x), 'sample')} and {plural(len(y), 'label')}"
        )
    if not x.size:
        raise DataError(f"a split must have a sample and a feature, but {name!r} has x of shape {x.shape}")
    if x.ndim == 2:
        with np.errstate(over="ignore"):  # becomes inf, and is counted
            wrong = np.sum(~np.isfinite(x.astype(np.float32, copy=False)))
        if wrong:
            raise DataError(f"x must be finite in float32, but {name!r} has {wrong} values that are not")
    if y.dtype.kind == "U":
        if kind == "targets":
            raise DataError(f"targets of a regression must be numbers, but {name!r} has text")
        return Split(x, y)
    classes = kind == "whole classes" or (kind == "classes" and y.dtype.kind != "f")  # of one split only: refused later
    return Split(x, y.astype(np.int64) if classes else _targets(name, y))


def _targets(name: str, y: Array) -> Array:
    """In float32, which must keep their digits. Raises DataError."""
    with np.errstate(over="ignore"):
        targets = y.astype(np.float32)
    if not np.isfinite(targets).all():
        raise DataError(f"targets must be finite, but {name!r} has {np.sum(~np.isfinite(targets))} values that are not")
    if _loses_digits(y):
        raise DataError(
            f"targets must keep their digits in float32, but those of {name!r} are too large beside their spread "
            f"({y.min():.9g} to {y.max():.9g}); subtract a constant beforehand"
        )
    return targets


def _loses_digits(column: Array) -> bool:
    """Whether float32 moves a number by more than a thousandth of the column's standard deviation."""
    exact = column.astype(np.float64, copy=False)
    return bool(np.abs(exact - column.astype(np.float32)).max() > DIGITS_LOST * exact.std() > 0)


def in_float32(splits: list[Split]) -> tuple[list[Split], tuple[float, ...] | None]:
    """Tables as float32, and what had to be taken from each column before; None when nothing had to be."""
    first = splits[0].x
    if first.ndim != 2:
        return splits, None
    columns = () if np.can_cast(first.dtype, np.float32) else range(first.shape[1])
    lost = [column for column in columns if _loses_digits(first[:, column])]
    if not lost:
        return [Split(part.x.astype(np.float32, copy=False), part.y) for part in splits], None
    offset = np.zeros(first.shape[1])
    offset[lost] = first[:, lost].mean(0, dtype=np.float64)
    moved = [Split((part.x - offset).astype(np.float32), part.y) for part in splits]
    return moved, tuple(offset.tolist())


def note_of_whole_numbers(x: Array) -> list[str]:
    """A note for a table that may hold identifiers, of words for instance."""
    if (
        x.ndim != 2
        or x.shape[1] < 4
        or x.dtype == np.uint8
        or x.min() < 0
        or x.max() <= 1
        or not (x == np.trunc(x)).all()
    ):
        return []
    return [
        "all features are whole numbers: they are taken as amounts, each column standardised; identifiers (of words, "
        "of categories) mean nothing that way: a model of your own takes them as they are with --preprocess none"
    ]


def require_one_shape(name: str, splits: list[Split]) -> None:
    shapes = {part.x.shape[1:] for part in splits}
    if len(shapes) > 1:
        raise DataError(f"samples of every split must have one shape, but {name!r} has {sorted(shapes)}")
    kinds = {part.y.dtype.kind for part in splits}
    if len(kinds) > 1:
        raise DataError(f"labels of every split must be of one kind, but {name!r} has {sorted(kinds)}")
