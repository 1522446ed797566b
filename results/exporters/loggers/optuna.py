"""The live Optuna study of each search in RUN/optuna.db, for optuna-dashboard: `rungwise dashboard` opens it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rungwise.results.exporters.loggers.logger import Logged, LoggerError, RecordView
from rungwise.results.exporters.optuna_storage import StorageError, bring_up, close, errors, opened
from rungwise.results.exporters.tracking_uri import sqlite_uri
from rungwise.results.io.database_file import damage, set_aside

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

FILE = "optuna.db"


class StudyLogger:
    """Brings the studies up to date."""

    def __init__(self, run: Path) -> None:
        self._file = run.absolute() / FILE
        self.url = sqlite_uri(self._file)
        self.storage: BaseStorage | None = None

    def log(self, view: RecordView) -> Logged:
        """Bring the studies up to `view`; a file that is damaged is set aside, and made anew. Raises LoggerError."""
        notes = []
        try:
            try:
                count = self._log(view)
            except StorageError:
                if not (why := damage(self._file)):
                    raise
                self.close()
                notes.append(f"{FILE} {why}; it is kept as {set_aside(self._file).name}, and was written anew")
                count = self._log(view)
        except StorageError as error:
            raise LoggerError(str(error)) from error
        return Logged(self.url, sum(trial.phase == "search" for trial in view.trials), count, tuple(notes))

    def _log(self, view: RecordView) -> int:
        """How many values were new. Raises StorageError."""
        with errors(self.url):
            self.storage = self.storage or opened(self.url)
            return sum(bring_up(view.reader, self.storage).values())

    def close(self) -> None:
        """Close the file."""
        if self.storage is not None:
            with suppress(Exception):
                close(self.storage)
            self.storage = None
