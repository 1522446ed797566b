"""What the columns of a table are for: `Columns`, which a script gives as `columns=` and a command line as flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Task = Literal["classification", "regression"]
TASKS = ("classification", "regression")
TARGET = "label"  # the target, where none is named
SPLIT = "split"  # the column that assigns rows to train, validation and test


@dataclass(frozen=True)
class Columns:
    """The columns of a table (a CSV, TSV, Parquet or Arrow file).

    Args:
        target: The column to predict; "label" by default.
        drop: Columns that are no features.
        categorical: Columns whose values are categories, although they look like numbers (postcodes, for example) or
            like identifiers.
        embed: Categorical columns, such as towns, of whose categories the built-in network learns a vector each (of the
            size that the hyperparameter `embedding` says), in place of a column of 0 and 1 for each.
        numeric: Columns whose values are numbers, although they look like identifiers.
        group: The column that says which rows belong together, such as a patient: the rows of a group are in one
            split. It is no feature.
        time: The column of dates or numbers by which rows are split: the latest are the test split, those before them
            the validation split. It is no feature.
        task: "classification" or "regression", where the target does not tell.
    """

    target: str | None = None
    drop: Sequence[str] = ()
    categorical: Sequence[str] = ()
    embed: Sequence[str] = ()
    numeric: Sequence[str] = ()
    group: str | None = None
    time: str | None = None
    task: Task | None = None

    def __post_init__(self) -> None:
        for name in ("drop", "categorical", "embed", "numeric"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))

    def __bool__(self) -> bool:
        """Whether anything is said."""
        return self != Columns()

    @property
    def label(self) -> str:
        """Name of the target's column."""
        return self.target or TARGET

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(flag, column that it names)."""
        values = {"target": self.target, "drop": self.drop, "categorical": self.categorical, "embed": self.embed}
        values |= {"numeric": self.numeric, "group": self.group, "time": self.time}
        named = {flag: (value,) if isinstance(value, str) else value or () for flag, value in values.items()}
        return [(f"--{flag}", column) for flag, columns in named.items() for column in columns]

    @property
    def flags(self) -> list[str]:
        """The flags that say something."""
        return list(dict.fromkeys([*(flag for flag, _ in self.pairs), *(["--task"] if self.task else [])]))

    @property
    def named(self) -> set[str]:
        """The columns that a flag names."""
        return {column for _, column in self.pairs}

    def problems(self) -> list[str]:
        """What contradicts itself, a line each."""
        lines = []
        if self.task not in (None, *TASKS):
            lines.append(f"--task must be {' or '.join(TASKS)}, but is {self.task!r}")
        if self.group and self.time:
            lines.append("--group and --time both say how the rows are split: give one of them")
        for column in dict.fromkeys(column for _, column in self.pairs):
            flags = list(dict.fromkeys(flag for flag, other in self.pairs if other == column))
            if len(flags) > 1:
                lines.append(f"column {column!r} is named by {' and '.join(flags)}: one of them must go")
        return lines


NO_COLUMNS = Columns()
