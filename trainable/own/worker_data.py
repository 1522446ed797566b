"""The data of a user's own training: where it comes from, and what a process loads for itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rungwise.trainable.data.data_source import DataSource
from rungwise.trainable.faults import ordinary, reason, refusing_exit
from rungwise.trainable.own.arguments import FunctionError
from rungwise.trainable.training.loop_functions import name_of
from rungwise.trainable.training.seeding import seeded_data


@dataclass(frozen=True)
class OwnData:
    """Where a user's training has its data from."""

    load: Callable[[], Any] | None = None  # called once on the driver
    per_worker: bool = False  # called once in each process that trains instead
    source: DataSource | None = None  # or a dataset of ours, or a file


class WorkerData:
    """What a function returns that is called once in each process that trains.

    It is called by the first trial and not when the process starts: what it raises is that trial's failure, with its
    reason, and not a process that died.
    """

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load
        self._loaded: tuple[Any] | None = None

    def get(self) -> Any:
        """Raises FunctionError."""
        if self._loaded is None:
            self._loaded = (load(self._load),)
        return self._loaded[0]


def load(function: Callable[[], Any]) -> Any:
    """What a function of the user's returns as data, on the same seed in every process. Raises FunctionError."""
    try:
        with ordinary(), refusing_exit(), seeded_data():
            return function()
    except Exception as error:
        raise FunctionError(f"data: {name_of(function)} raised {reason(error)}") from error
