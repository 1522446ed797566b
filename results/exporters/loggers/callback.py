"""A function of the user's that is given what the trials report: `--loggers my_logger.py:log`.

The file RUN/loggers/NAME.json says up to which report the function has returned, and, before it is called, which
batch it gets. So each report comes in exactly one batch, and the one batch during which an exporter was killed comes
again, the same and with `repeated` set: a function that must not store twice stores by `number`.
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from rungwise.files import replacing
from rungwise.results.exporters.loggers.logger import Logged, LoggerError, RecordView, hyperparameters
from rungwise.results.io.text import error_line
from rungwise.results.record.types import ReportRow

FOLDER = "loggers"
_MOST = 1000  # reports of a batch


@dataclass(frozen=True, slots=True)
class LoggedReport:
    """A report of a trial, as a logging function gets it.

    Args:
        number: Of the report in the run: unique, ascending.
        trial: Number of the trial in the run.
        arm: The trial's arm.
        phase: search, confirm, refit, audit or untuned.
        attempt: Which start of the trial reported; a later one may report a step again, which then counts.
        step: Index of the report in its trial, from 1.
        time: When it was recorded, in seconds since the epoch.
        hyperparameters: Arm, search and phase, what the arm fixes, and what was suggested.
        metrics: The numbers by name.
    """

    number: int
    trial: int
    arm: str
    phase: str
    attempt: int
    step: int
    time: float
    hyperparameters: Mapping[str, Any]
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class LogBatch:
    """What a logging function is called with, about every two seconds.

    Args:
        run: Name of the run.
        folder: The run's folder.
        number: Of the batch in the run, from 1.
        reports: What is new, at most 1,000 reports.
        ended: How trials ended since the last batch: {trial: state}.
        repeated: Whether the function was called with this batch before, by a process that died before it returned.
    """

    run: str
    folder: Path
    number: int
    reports: Sequence[LoggedReport]
    ended: Mapping[int, str]
    repeated: bool = False


@dataclass(slots=True)
class _Position:
    """How far the function is; the JSON file."""

    batches: int = 0
    seq: int = 0  # of the last report of these batches
    ended: dict[str, str] | None = None  # trial -> state, as the function knows it
    next_seq: int = 0  # of the last report of the batch that it is given now; 0: it is given none
    next_ended: dict[str, str] | None = None


class CallbackLogger:
    """Calls a function with the reports that are new."""

    def __init__(self, run: Path, name: str, folder: str) -> None:
        """Import the function. Raises LoggerError."""
        self._run = run
        self._name = name
        self._file = run / FOLDER / f"{identifier(name)}.json"
        self._function = _imported(name, folder)
        try:
            self._at = _Position(**json.loads(self._file.read_text()))
        except (OSError, ValueError, TypeError):
            self._at = _Position()

    def log(self, view: RecordView) -> Logged:
        """Call the function with what is new in `view`. Raises LoggerError when it raises."""
        count = 0
        for batch in self._batches(view):
            try:
                self._function(batch)
            except (Exception, SystemExit) as error:
                raise LoggerError(f"{self._name} raised {error_line(error)}") from error
            count += sum(len(report.metrics) for report in batch.reports)
            self._confirm()
        return Logged(self._name, len(self._at.ended or {}), count)

    def close(self) -> None:
        """Nothing is left open."""

    def _batches(self, view: RecordView) -> Iterator[LogBatch]:
        rows = sorted((row for rows in view.rows.values() for row in rows), key=lambda row: row.seq)
        rows = [row for row in rows if row.seq > self._at.seq]
        ended = {str(trial.trial): str(trial.state) for trial in view.trials if trial.state.ended}
        if self._at.next_seq or self._at.next_ended:  # a process died while the function had this batch
            again = [row for row in rows if row.seq <= self._at.next_seq]
            yield self._batch(view, again, self._at.next_ended or {}, repeated=True)
            rows = rows[len(again) :]
        while True:
            now, rows = rows[:_MOST], rows[_MOST:]
            known = self._at.ended or {}
            new = {} if rows else {trial: state for trial, state in ended.items() if known.get(trial) != state}
            if not (now or new):
                return
            self._at.next_seq, self._at.next_ended = now[-1].seq if now else self._at.seq, new
            self._save()
            yield self._batch(view, now, new, repeated=False)

    def _batch(
        self, view: RecordView, rows: Sequence[ReportRow], ended: Mapping[str, str], *, repeated: bool
    ) -> LogBatch:
        trials = {trial.trial: trial for trial in view.trials}
        reports = []
        for row in rows:
            trial = trials[row.trial]
            reports.append(
                LoggedReport(
                    number=row.seq, trial=row.trial, arm=trial.arm, phase=trial.phase, attempt=row.attempt,
                    step=row.step, time=row.at, hyperparameters=hyperparameters(view, trial), metrics=row.metrics,
                )
            )  # fmt: skip
        known = {int(trial): state for trial, state in ended.items()}
        return LogBatch(view.definition.name, self._run, self._at.batches + 1, reports, known, repeated)

    def _confirm(self) -> None:
        """The function has returned."""
        ended = (self._at.ended or {}) | (self._at.next_ended or {})
        self._at = _Position(self._at.batches + 1, max(self._at.seq, self._at.next_seq), ended)
        self._save()

    def _save(self) -> None:
        try:
            self._file.parent.mkdir(exist_ok=True)
            with replacing(self._file) as file:
                at = self._at
                values = {name: getattr(at, name) for name in at.__slots__}
                file.write(json.dumps(values).encode())
        except OSError as error:
            raise LoggerError(f"{self._file} must take how far {self._name} is, but {error}") from error


def identifier(name: str) -> str:
    """A name for files of a function's import path: the function's, and a digest of the path."""
    function = "".join(letter for letter in name.rpartition(":")[2] if letter.isalnum() or letter == "_")
    return f"{function[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def problem(name: str) -> str | None:
    """What is wrong with module:function or file.py:function as far as it shows without running it; None: nothing."""
    where, _, attribute = name.rpartition(":")
    if not attribute.isidentifier():
        return f"--loggers takes module:function or file.py:function, but got {name!r}"
    if where.endswith(".py") and not Path(where).is_file():
        return f"--loggers {name}: the file {where} does not exist"
    return None


def _imported(name: str, folder: str) -> Callable[[LogBatch], object]:
    """The function; modules are looked for in `folder`, too. Runs the module or file that defines it."""
    where, _, attribute = name.rpartition(":")
    if folder and folder not in sys.path:
        sys.path.append(folder)  # last: a file `logging.py` there is not the library
    try:
        found = getattr(_module(Path(where)), attribute) if where.endswith(".py") else pkgutil.resolve_name(name)
    except (Exception, SystemExit) as error:  # whatever a user's module makes of being imported
        raise LoggerError(f"{name} could not be imported: {error_line(error)}") from error
    if not callable(found):
        raise LoggerError(f"{name} must be a function of a LogBatch, but is a {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def _module(path: Path) -> Any:
    """The module in `path`, run anew."""
    spec = spec_from_file_location(f"rungwise_logger_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
