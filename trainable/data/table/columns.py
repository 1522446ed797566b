"""What the columns of a table are for: `Columns`, which a script gives as `columns=` and a command line as flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
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
    numeric: Sequence[str] = ()
    group: str | None = None
    time: str | None = None
    task: Task | None = None

    def __post_init__(self) -> None:
        for name in ("drop", "categorical", "numeric"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))

    def __bool__(self) -> bool:
        """Whether anything is said."""
        return self != Columns()

    @property
    def label(self) -> str:
        """Name of the target's column."""
        return self.target or TARGET

    def named(self) -> dict[str, str]:
        """{column: the flag that names it}; a column that two flags name has the last one."""
        named: dict[str, str] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "task" and value:
                named |= dict.fromkeys((value,) if isinstance(value, str) else value, f"--{field.name}")
        return named

    def problems(self) -> list[str]:
        """What contradicts itself, a line each."""
        lines = []
        if self.task not in (None, *TASKS):
            lines.append(f"--task must be {' or '.join(TASKS)}, but is {self.task!r}")
        if self.group and self.time:
            lines.append("--group and --time both say how the rows are split: give one of them")
        for name, flag in self.named().items():
            others = {"--group": self.group, "--time": self.time, "--target": self.target}
            others |= {"--drop": name if name in self.drop else None}
            others |= {"--categorical": name if name in self.categorical else None}
            others |= {"--numeric": name if name in self.numeric else None}
            if clash := [other for other, column in others.items() if column == name and other != flag]:
                lines.append(f"column {name!r} is named by {' and '.join([*clash, flag])}: one of them must go")
        return lines


NO_COLUMNS = Columns()
