"""The numbers of a report of the user's own training, and the rules that they must keep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

from rungwise.errors import RungwiseError
from rungwise.text import printable_name

OUR_NAMES = {  # columns that a report has beside the user's metrics
    "epoch": "the training progress of the report",
    "seconds": "the time since the report before",
    "trial": "the number of the trial",
    "attempt": "the number of its start",
    "step": "the number of the report",
    "seq": "the order of arrival",
    "at": "the time of arrival",
    "rung": "where the scheduler compared it",
    "cutoff": "what it was compared with",
    "stopped": "whether that stopped the trial",
    "checksum": "the checksum of the row",
}
LONGEST_NAME = 250  # characters, as in MLflow
MOST_NAMES = 1000  # of numbers in a report: each is a column of the record and of the tables
_ROUNDING = 1e-4  # of an accuracy in low precision


class ReportError(RungwiseError, ValueError):
    """A report that is no mapping of numbers, or lacks the objective; the message says which rule it breaks."""


def numbers(report: object, objectives: tuple[str, ...], phase: str) -> dict[str, float]:
    """The numbers of a report, as Python's; under `reported_<name>` those of which Rungwise has the name itself.

    Names are those of columns, which SQL does not tell apart by upper and lower case.

    Raises ReportError.
    """
    if not isinstance(report, Mapping):
        raise ReportError(f"a report must be a mapping of names to numbers, but got {_words(report)}")
    if len(report) > MOST_NAMES:
        raise ReportError(f"a report must contain at most {MOST_NAMES:,} numbers, but got {len(report):,}")
    found: dict[str, float] = {}
    names: dict[str, str] = {}  # as SQL compares them
    for name, value in report.items():
        _require_name(name)
        if name.lower().startswith("test") and phase != "test":
            raise ReportError(
                f"a report must not contain test scores, but got {name!r}: the search would be fitted to them; report "
                "a validation score, and give the test split to Sweep(test=...)"
            )
        column = f"reported_{name}" if name.lower() in OUR_NAMES else str(name)
        if (other := names.setdefault(column.lower(), name)) is not name:
            raise ReportError(
                f"a report's names must differ in more than upper and lower case, but {other!r} and {name!r} are both "
                f"{column.lower()!r} in the tables; rename one"
            )
        found[column] = _number(name, value)
    if missing := [name for name in objectives if name not in found]:
        raise ReportError(
            f"a report must contain the objective {missing[0]!r}, but got {', '.join(map(repr, found)) or 'nothing'}"
        )
    require_shares(found, objectives)
    return found


def require_shares(metrics: Mapping[str, float], names: Iterable[str]) -> None:
    """An accuracy is a share, which tables and the answer show in percent. Raises ReportError."""
    for name in names:
        if "accuracy" in name and 1 + _ROUNDING < metrics[name] < math.inf:
            raise ReportError(
                f"{name} must be a share from 0 to 1, which is shown in percent, but got {metrics[name]:g}; "
                "divide it by 100, or give it a name without 'accuracy'"
            )


def _require_name(name: object) -> None:
    """Raises ReportError."""
    if not isinstance(name, str):
        raise ReportError(f"a report's names must be text, but got {_words(name)}")
    if not name.strip() or len(name) > LONGEST_NAME or printable_name(name) != name:
        raise ReportError(
            f"a report's names must be one line of 1 to {LONGEST_NAME} printable characters, but got {_words(name)}"
        )


def _number(name: str, value: Any) -> float:
    """A number of Python's, NumPy's or a tensor of one number."""
    if (
        not isinstance(value, Real)
        and getattr(value, "size", None) is not None
        and callable(getattr(value, "item", None))
    ):
        if getattr(value, "mask", None) is not None and value.size == 1 and bool(value.mask):
            return math.nan  # NumPy's masked value, whose item is 0: there was nothing to compute it from
        try:
            value = value.item()
        except (ValueError, RuntimeError):
            raise ReportError(
                f"a report must contain numbers, but {name} is not a single one: {_words(value)}"
            ) from None
    if not isinstance(value, Real):
        raise ReportError(f"a report must contain numbers, but {name} is {_words(value)}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _words(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:  # of the user's class
        text = f"whose repr raised {type(error).__name__}"
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
