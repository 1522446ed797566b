"""Requests to stop a running sweep, or one of its trials: files that `rungwise stop` leaves in the run's folder.

A file reaches the driver wherever it runs, in a container or as another user's process; a signal would not. It lies
beside the record, for the driver can remove what lies in its own folder, whoever made it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

PREFIX = "stop-"  # of the names of the files
SWEEP = "sweep"  # follows in the name of the file that asks for the end of the sweep; of a trial it is its number
EVERY = 1.0  # seconds between two looks of the driver


class StopRequests:
    """The requests in a run's folder; each is a file that the driver removes when it has taken notice."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._looked = 0.0

    def ask(self, trial: int | None = None) -> None:
        """Ask the driver to stop `trial`, or with None the sweep.

        Raises:
            OSError: The run's folder cannot be written.
        """
        self._path(trial).touch()

    def withdraw(self, trial: int | None = None) -> bool:
        """Take a request back; returns whether the driver had not taken notice of it."""
        try:
            self._path(trial).unlink()
        except FileNotFoundError:
            return False
        return True

    def is_pending(self, trial: int | None = None) -> bool:
        """Whether the driver has not taken notice yet."""
        return self._path(trial).exists()

    def take(self) -> list[int | None]:
        """Remove and return all requests. The driver's side: it looks every `EVERY` seconds, however often it calls."""
        if time.monotonic() - self._looked < EVERY:
            return []
        self._looked = time.monotonic()
        return self.clear()

    def clear(self) -> list[int | None]:
        """Remove and return all requests, such as those to a driver that is gone."""
        taken: list[int | None] = []
        paths: list[Path] = []
        with suppress(OSError):
            paths = sorted(self._run.glob(f"{PREFIX}*"))
        for path in paths:
            name = path.name.removeprefix(PREFIX)
            if name == SWEEP or name.isdecimal():
                with suppress(OSError):  # it was withdrawn, or is no file
                    path.unlink()
                    taken.append(None if name == SWEEP else int(name))
        return taken

    def _path(self, trial: int | None) -> Path:
        return self._run / f"{PREFIX}{SWEEP if trial is None else trial}"
