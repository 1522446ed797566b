"""What brings a logger up to the record, pass by pass, and alone: two exporters of a run take turns."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rungwise.files import locked
from rungwise.results.exporters.loggers.logger import Logged, Logger, read_view
from rungwise.results.io.garbage import rare_collections
from rungwise.results.record.reader import Reader


class Feed:
    """The passes of one logger over one run."""

    def __init__(self, run: Path, name: str, make: Callable[[], Logger]) -> None:
        """
        Args:
            run: The run's folder.
            name: Of the logger: of the lock `.NAME.lock` in that folder, which says who logged last.
            make: Makes the logger. It is called again after an error, and when another exporter was at work.
        """
        self._run, self._make = run, make
        self._lock = run / f".{name}.lock"
        self._token = os.urandom(8).hex().encode()  # tells this exporter from others of the same run
        self._logger: Logger | None = None
        self._seq = 0  # the logger has got the reports up to here

    def sync(self, dead: int | None = None) -> Logged:
        """One pass.

        Args:
            dead: Process id of a driver that is known to be gone, whatever the record says.

        Raises:
            LoggerError: The place could not be brought up to date; the next pass looks at it afresh.
        """
        with Reader(self._run) as reader, locked(self._lock) as turn:
            if turn.read() != self._token:
                self.close()
                turn.seek(0)
                turn.write(self._token)
                turn.truncate()
            try:
                with rare_collections():
                    # All is read at one moment, and let go: a logger may be slow, and while a reader holds a state of
                    # the record, SQLite's log can only grow.
                    with reader.snapshot():
                        view = read_view(reader, dead, self._seq)
                    self._logger = self._logger or self._make()
                    logged = self._logger.log(view)
            except BaseException:
                self.close()
                raise
            self._seq = view.seq
            return logged

    def close(self) -> None:
        """Let the logger go; the next pass begins with a new one."""
        logger, self._logger, self._seq = self._logger, None, 0
        if logger is not None:
            with suppress(Exception):
                logger.close()
