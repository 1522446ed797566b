"""Samples and labels as a source has them, before they are split and checked: `Raw`, and the words for its parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from rungwise.errors import RungwiseError

if TYPE_CHECKING:
    from rungwise.trainable.data.table.encoder import TableEncoder

Array = npt.NDArray[Any]
Pair = tuple[Array, Array]

EXACT = 2**53  # whole numbers that float64 holds
MOST_CLASSES = 20  # whole numbers among the labels that are taken as classes unasked
FEW_ROWS = 20  # below which values that are all different mean nothing
PARTS = ("train", "validation", "test")  # of a dataset that is split, in this order
_PART_OF = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "valset"), "validation"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
}


class DataError(RungwiseError, ValueError):
    """A dataset that cannot be used: the rule, the value and the way out, in one line."""


@dataclass(frozen=True)
class Raw:
    """Samples (N, C, H, W) or (N, F) and labels (N,), with the publisher's own parts where there are any.

    Labels are whole numbers or text, which are classes, or real numbers, which are targets of a regression.
    """

    train: Pair
    validation: Pair | None
    test: Pair | None
    source: str
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what was changed or left out on the way here
    pictures: bool = False  # read from image files, whose range is 0..255
    regression: bool = False  # the labels are targets, though they may look like classes
    encoder: TableEncoder | None = None  # by which the columns of a table became numbers


def part_of(word: object) -> str | None:
    """The one of PARTS that a word means, such as "val" or "Training": a cell of a table, or a part of a folder's
    name."""
    return _PART_OF.get(str(word).strip().casefold())


def text_of_number(number: float) -> str:
    """All digits, whole numbers without decimals; -0.0 is 0."""
    return f"{number + 0.0:.17g}"


def unreadable(path: Path, error: Exception) -> str:
    """The message for a file that could not be read."""
    if isinstance(error, FileNotFoundError):
        return f"a data file must exist, but there is none at {str(path)!r}"
    text = " ".join(str(error).split())
    way = "; save it as UTF-8" if isinstance(error, UnicodeError) else ""
    return f"a data file must be readable and whole, but {str(path)!r} is not: {type(error).__name__}: {text}{way}"


def require_exact(path: Path, name: str, column: Array) -> Array:
    """The column, whose numbers float64 must hold; beyond 2^53 whole numbers become others. Raises DataError."""
    if column.dtype.kind in "iu" and column.size and (int(column.max()) > EXACT or int(column.min()) < -EXACT):
        raise DataError(
            f"whole numbers must be within +-2^53 to keep their digits, but {name!r} of {str(path)!r} reaches from "
            f"{column.min()} to {column.max()}; subtract a constant, or save identifiers as text and leave them out"
        )
    return column
