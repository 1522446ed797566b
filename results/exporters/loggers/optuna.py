"""The live Optuna study of each search in RUN/optuna.db, for optuna-dashboard: `rungwise dashboard` opens it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rungwise.results.exporters.loggers.logger import Logged, LoggerError, RecordView
from rungwise.results.exporters.optuna_storage import StorageError, bring_up, errors, opened
from rungwise.results.exporters.tracking_uri import sqlite_uri

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

FILE = "optuna.db"


class StudyLogger:
    """Brings the studies up to date."""

    def __init__(self, run: Path) -> None:
        self.url = sqlite_uri(run.absolute() / FILE)
        self.storage: BaseStorage | None = None

    def log(self, view: RecordView) -> Logged:
        """Bring the studies up to `view`. Raises LoggerError."""
        try:
            with errors(self.url):
                self.storage = self.storage or opened(self.url)
                count = sum(bring_up(view.reader, self.storage).values())
        except StorageError as error:
            raise LoggerError(str(error)) from error
        return Logged(self.url, sum(trial.phase == "search" for trial in view.trials), count)

    def close(self) -> None:
        """Close the file."""
        if self.storage is not None:
            with suppress(Exception):
                self.storage.remove_session()
