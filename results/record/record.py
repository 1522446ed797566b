"""The record: every event of a sweep, once, durable. The one truth; all else in `results/` is a view of it.

`runs/<name>/sweep.sqlite` is SQLite in WAL mode with one writer, the driver. Keys make a row impossible to
write twice: trials(trial), reports(trial, attempt, step). A trial's last report and its end are one
transaction, so no crash can part them. `seq` keeps the order of arrival, from which ASHA's rungs are rebuilt.
A record that is damaged or has lost its end is refused, never gone on with (`results.record.integrity`).

Views read through `Record.reader()`, from any process, while the driver writes.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from rungwise.errors import RungwiseError
from rungwise.results.io.files import replacing
from rungwise.results.io.redaction import Verbatim, redacted, redacted_values
from rungwise.results.io.text import one_line, printable, printable_json, tail
from rungwise.results.record import integrity as whole
from rungwise.results.record import validation as valid
from rungwise.results.record.definition import Definition
from rungwise.trainable.messages import CheckpointSaved, Constraint, Failure, FailureKind

FORMAT = 1
FILE = "sweep.sqlite"
ABANDON_SECONDS = 2.0  # that a writer may be in the middle of a statement
COMMIT_SECONDS = 1.0  # a crash loses at most this much of the reports of trials in flight


class State(StrEnum):
    """How a trial ended; DESIGN's one truth, from which Optuna's and MLflow's words are derived."""

    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"  # reached its budget
    STOPPED = "STOPPED"  # the scheduler stopped it: rung and cutoff are kept
    DIVERGED = "DIVERGED"  # a non-finite loss or metric
    FAILED = "FAILED"  # an exception in the trial: not retried, it would fail again
    LOST = "LOST"  # its process or node died more often than the retries allow

    @property
    def ended(self) -> bool:
        return self is not State.RUNNING


class SweepState(StrEnum):
    """How a driver session of the sweep ended."""

    PLANNED = "PLANNED"  # no session yet: the sweep is defined, and nobody has begun it
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    INTERRUPTED = "INTERRUPTED"  # Ctrl-C, SIGTERM or the time budget: the same command goes on
    FAILED = "FAILED"


class RecordError(RungwiseError, RuntimeError):
    """The record cannot be read or is not ours; the message names the file."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One hyperparameter set and what became of it. Times are seconds since the epoch (UTC)."""

    trial: int  # 1, 2, 3, ... in the order of dealing
    arm: str
    phase: str  # search, confirm, audit
    source: int | None  # the search trial that a confirmation or an audit repeats
    state: State
    params: dict[str, Any]  # what the sampler suggested
    distributions: dict[str, str]  # param -> Optuna distribution as JSON
    config: dict[str, Any]  # the whole Config that was trained
    attempts: int
    stop_rung: float | None  # epochs
    cutoff: float | None  # what the objective was compared with at that rung
    reason: str | None  # why it ended, one line
    error: str | None  # traceback of a FAILED trial
    node: str | None
    device: str | None
    created: float
    started: float | None
    ended: float | None
    failure: Failure | None = None  # why it DIVERGED, FAILED or was LOST


@dataclass(frozen=True, slots=True)
class Decision:
    """What the scheduler said at a rung: `stopped` when the objective was on the wrong side of `cutoff`."""

    rung: float  # epochs
    cutoff: float | None  # None: nobody was there before
    stopped: bool
    why: str | None = None  # when it is not the cutoff; it becomes the trial's reason


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One report as recorded. `metrics` holds epoch, train_loss, val_loss, val_accuracy, ... (floats)."""

    seq: int
    trial: int
    attempt: int
    step: int  # 1-based index within the trial
    at: float
    decision: Decision | None
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class Session:
    """One driver process that worked on this run."""

    session: int
    state: SweepState
    started: float
    ended: float | None
    info: dict[str, Any]  # host, pid, command, versions, git commit


_SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER) STRICT;
CREATE TABLE sessions(
  session INTEGER PRIMARY KEY, state TEXT NOT NULL, started REAL NOT NULL, ended REAL, info TEXT NOT NULL,
  checksum INTEGER) STRICT;
CREATE TABLE trials(
  trial INTEGER PRIMARY KEY, arm TEXT NOT NULL, phase TEXT NOT NULL, source INTEGER REFERENCES trials,
  state TEXT NOT NULL, params TEXT NOT NULL,
  distributions TEXT NOT NULL, config TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, stop_rung REAL,
  cutoff REAL, reason TEXT, error TEXT, node TEXT, device TEXT, created REAL NOT NULL, started REAL, ended REAL,
  failure TEXT, checksum INTEGER) STRICT;
CREATE TABLE reports(
  seq INTEGER PRIMARY KEY, trial INTEGER NOT NULL REFERENCES trials, attempt INTEGER NOT NULL, step INTEGER NOT NULL,
  at REAL NOT NULL, rung REAL, cutoff REAL, stopped INTEGER, checksum INTEGER,
  UNIQUE(trial, attempt, step));
CREATE TABLE scores(
  trial INTEGER NOT NULL REFERENCES trials, split TEXT NOT NULL, metric TEXT NOT NULL, value REAL NOT NULL,
  checksum INTEGER, PRIMARY KEY(trial, split, metric)) STRICT;
CREATE TABLE checkpoints(
  trial INTEGER NOT NULL REFERENCES trials, step INTEGER NOT NULL, sha256 TEXT NOT NULL, at REAL NOT NULL,
  checksum INTEGER, PRIMARY KEY(trial, step)) STRICT;
CREATE TABLE events(
  seq INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, trial INTEGER, data TEXT NOT NULL,
  checksum INTEGER) STRICT;
"""
_END_SESSION = "UPDATE sessions SET state = ?, ended = ? WHERE session = ?"
_REPORT_COLUMNS = ("seq", "trial", "attempt", "step", "at", "rung", "cutoff", "stopped")
_TRIAL_COLUMNS = tuple(name for name in Trial.__dataclass_fields__ if name != "failure")


class Record:
    """The driver's handle: the only writer. Use as a context manager; `close()` commits."""

    def __init__(self, folder: Path) -> None:
        """Open the record in `folder`, making it when absent. Raises RecordError when it is not whole."""
        self.path = folder / FILE
        self._mark = whole.Mark(self.path)
        with _writing(self.path):
            if not self.path.exists():
                _create(self.path)
        with Reader(folder) as reader:  # read-only: a damaged record stays as it is
            reader.verify()
        self._db = _connect(self.path, read_only=False)
        self._turn = threading.RLock()  # to write
        self._last_commit = time.monotonic()
        try:
            with _writing(self.path):
                self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # a commit survives a power cut, not only a kill
            self._db.execute("PRAGMA foreign_keys = ON")
            for table in whole.tables(self._db):
                whole.guard(self._db, table)
            self._metrics = _metric_columns(self._db)
            self._trials, self._reports = whole.counted(self._db)
            self._add_columns()
            self._seal()
        except BaseException:
            self._db.close()
            raise

    @classmethod
    def reader(cls, folder: Path) -> Reader:
        """A read-only view of the record in `folder`, usable while a driver writes."""
        return Reader(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        try:
            self.commit()
        finally:
            self._db.close()
            self._mark.close()

    def abandon(self, session: int, state: SweepState) -> None:
        """End the session from another thread, when the writer's own hangs: what is not committed is taken back, and
        nothing is written after this."""
        self._turn.acquire(timeout=ABANDON_SECONDS)  # for good
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._db.execute(_END_SESSION, (state, time.time(), session))

    def commit(self) -> None:
        """Make everything written so far durable. Raises RecordError when there is no room."""
        if self._db.in_transaction:
            with self._changing():
                self._db.execute("COMMIT")
                self._mark.write(self._trials, self._reports)
        self._last_commit = time.monotonic()

    def commit_if_due(self) -> None:
        """Commit when the last commit is `COMMIT_SECONDS` old: the driver calls this on every turn of its loop."""
        if self._db.in_transaction and time.monotonic() - self._last_commit >= COMMIT_SECONDS:
            self.commit()

    def _add_columns(self) -> None:
        """What an earlier version's record lacks: in one transaction with the seal, which says what its tables are."""
        if not _has_failures(self._db):
            self._write("ALTER TABLE trials ADD COLUMN failure TEXT")
            whole.guard(self._db, "trials")
            self._seal()
            self.commit()

    def _seal(self) -> None:
        """The tables are as they should be."""
        sealed = self._db.execute("SELECT value FROM meta WHERE key = ?", (whole.SCHEMA,)).fetchone()
        if not sealed or sealed[0] != whole.schema(self._db):
            self.set_meta(whole.SCHEMA, int(whole.schema(self._db)))

    def _write(self, sql: str, values: Iterable[object] = ()) -> sqlite3.Cursor:
        with self._changing():
            if not self._db.in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
            return self._db.execute(sql, tuple(values))

    @contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            with self._turn, _writing(self.path):
                yield
        except RecordError:
            if not self._db.in_transaction:  # SQLite took back all that was not committed: the mark must not count it
                self._trials, self._reports = whole.counted(self._db)
            raise

    # -- the sweep ---------------------------------------------------------------------------------------------

    def set_meta(self, key: str, value: object) -> None:
        """Keep one JSON value about the sweep: its definition, its answer, its forecast."""
        self._write("INSERT OR REPLACE INTO meta(key, value) VALUES (?, ?)", (key, to_json(value)))

    def start_session(self, info: Mapping[str, object]) -> int:
        """A driver begins to work on this run."""
        cursor = self._write(
            "INSERT INTO sessions(state, started, info) VALUES (?, ?, ?)",
            (SweepState.RUNNING, time.time(), to_json(info)),
        )
        self.commit()
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def end_session(self, session: int, state: SweepState) -> None:
        self._write(_END_SESSION, (state, time.time(), session))
        self.commit()

    def event(self, kind: str, trial: int | None = None, **data: object) -> None:
        """Something worth knowing later that is not a report: a retry, a checkpoint refused, a signal."""
        self._write(
            "INSERT INTO events(at, kind, trial, data) VALUES (?, ?, ?, ?)",
            (time.time(), kind, trial, to_json(data)),
        )

    # -- trials ------------------------------------------------------------------------------------------------

    def add_trial(
        self,
        trial: int,
        *,
        arm: str,
        phase: str,
        config: Mapping[str, Any],
        params: Mapping[str, Any],
        distributions: Mapping[str, str],
        source: int | None = None,
    ) -> None:
        """A suggestion was dealt. Raises sqlite3.IntegrityError when `trial` exists."""
        self._write(
            "INSERT INTO trials(trial, arm, phase, source, state, params, distributions, config, created) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                trial,
                printable(arm),
                phase,
                source,
                State.RUNNING,
                *(to_json(Verbatim(kept)) for kept in (params, distributions, config)),
                time.time(),
            ),
        )
        self._trials = max(self._trials, trial)

    def start_attempt(self, trial: int) -> int:
        """A process begins to train `trial`; returns the attempt's number, 1 for the first."""
        cursor = self._write(
            "UPDATE trials SET attempts = attempts + 1, started = coalesce(started, ?) WHERE trial = ? "
            "RETURNING attempts",
            (time.time(), trial),
        )
        return int(cursor.fetchone()[0])

    def place(self, trial: int, node: str, device: str) -> None:
        """Where the current attempt runs: known from its first report."""
        self._write(
            "UPDATE trials SET node = ?, device = ? WHERE trial = ?", (printable(node), printable(device), trial)
        )

    def add_report(
        self, trial: int, attempt: int, step: int, metrics: Mapping[str, float], decision: Decision | None = None
    ) -> None:
        """One row a trial sent. Raises sqlite3.IntegrityError when (trial, attempt, step) exists."""
        for name in metrics.keys() - self._metrics:
            self._write(f"ALTER TABLE reports ADD COLUMN {_quoted(name)} REAL")
            whole.guard(self._db, "reports")
            self._seal()
            self._metrics.add(name)
        judged = (decision.rung, decision.cutoff, int(decision.stopped)) if decision else (None, None, None)
        columns = ", ".join(map(_quoted, metrics))
        marks = ", ".join("?" * (7 + len(metrics)))
        self._write(
            f"INSERT INTO reports(trial, attempt, step, at, rung, cutoff, stopped, {columns}) VALUES ({marks})",
            (trial, attempt, step, time.time(), *judged, *map(_storable, metrics.values())),
        )
        self._reports += 1

    def add_score(self, trial: int, split: str, metric: str, value: float) -> None:
        """What the trial's final model scores on a split that no search saw. The first word counts: once is once."""
        self._write(
            "INSERT OR IGNORE INTO scores(trial, split, metric, value) VALUES (?, ?, ?, ?)",
            (trial, split, metric, value),
        )

    def add_checkpoint(self, trial: int, step: int, sha256: str) -> None:
        """The trial can go on from report `step`, with a file of this digest."""
        self._write(
            "INSERT OR REPLACE INTO checkpoints(trial, step, sha256, at) VALUES (?, ?, ?, ?)",
            (trial, step, sha256, time.time()),
        )

    def forget_checkpoints(self, trial: int) -> None:
        """The trial's files are gone."""
        self._write("DELETE FROM checkpoints WHERE trial = ?", (trial,))

    def end_trial(
        self,
        trial: int,
        state: State,
        *,
        reason: str | None = None,
        failure: Failure | None = None,
        decision: Decision | None = None,
        model: CheckpointSaved | None = None,
    ) -> None:
        """The trial is over. Commits, together with its last report. The first word counts: no end is rewritten.

        `reason`: why, in a line, of one that did not fail; `failure`: why it did.
        `model`: the final state that is kept, of a confirmation: an end without it would be an answer that nobody can
        score. Other checkpoints are forgotten, because the trial will not go on.
        """
        rung, cutoff = (decision.rung, decision.cutoff) if decision else (None, None)
        told = reason if failure is None else failure.message
        reason = None if told is None else one_line(redacted(told))
        error = None if failure is None or failure.error is None else tail(redacted(failure.error))
        cursor = self._write(
            "UPDATE trials SET state = ?, reason = ?, error = ?, failure = ?, stop_rung = ?, cutoff = ?, ended = ? "
            "WHERE trial = ? AND state = ?",
            (state, reason, error, _failure_json(failure), rung, cutoff, time.time(), trial, State.RUNNING),
        )
        if cursor.rowcount == 1:
            self.forget_checkpoints(trial)
            if model is not None:
                self.add_checkpoint(trial, model.step, model.sha256)
        else:
            self.event("ended twice", trial, state=state, reason=reason)
        self.commit()

    def reopen_trial(self, trial: int, why: str) -> None:
        """A confirmation or an audit whose outcome is missing is in flight again. A search trial's end is for good."""
        self._write(
            "UPDATE trials SET state = ?, reason = NULL, error = NULL, failure = NULL, ended = NULL WHERE trial = ? "
            "AND phase != 'search'",
            (State.RUNNING, trial),
        )
        self.forget_checkpoints(trial)
        self.event("trained again", trial, why=why)


class Reader:
    """A read-only view of a record; every method sees one consistent state of it."""

    def __init__(self, folder: Path, *, complete: bool = True) -> None:
        """Raises RecordError when there is no record in `folder`, or, if `complete`, when its end is lost."""
        self.folder = folder
        path = folder / FILE
        if not path.is_file():
            raise RecordError(f"a run's folder holds {FILE}, but {folder} has none")
        if not path.stat().st_size:  # opening it would make SQLite remove its write-ahead log
            raise _broken(path, "it is empty")
        with _reading(path):
            self._db = _connect(path, read_only=True)
        try:
            with self.refusing():
                _check(self._db, path)
                valid.require_tables(self._db)
            if complete and (missing := self.missing()):
                raise RecordError(
                    f"{path} {missing}: its end is lost, as when {path.name}-wal was removed or cut; bring it back, or "
                    f"accept what is left: rungwise doctor --mend {shlex.quote(str(folder))}"
                )
        except RecordError:
            self._db.close()
            raise

    def refusing(self) -> AbstractContextManager[None]:
        """What is read within becomes a RecordError when it cannot be read, or is nothing that a record may hold."""
        return _reading(self.folder / FILE)

    def _read(self, sql: str, values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        with self.refusing():
            return self._db.execute(sql, tuple(values)).fetchall()

    def _known(self, kind: str, sql: str, values: Iterable[object] = ()) -> list[dict[str, Any]]:
        """The rows of a SELECT, each as {column: value}, as `valid.row_of` lets them pass."""
        with self.refusing():
            rows = self._db.execute(sql, tuple(values))
            names = [column[0] for column in rows.description]
            return [
                valid.row_of(kind, dict(zip(names, row, strict=True)), f"{kind} {row[0]}") for row in rows.fetchall()
            ]

    def missing(self) -> str | None:
        """What the record held after its last commit and does not hold now; None when all is there."""
        path = self.folder / FILE
        with _reading(path):
            return whole.Mark(path).missing(self._db)

    def verify(self) -> None:
        """Raises RecordError when anything in the record is not as it was written."""
        path = self.folder / FILE
        with _reading(path):
            found = list(whole.damage(self._db))
        if found:
            raise _broken(path, "; ".join(found))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Within the block all methods see one and the same state of the record; the driver writes on unhindered."""
        if self._db.in_transaction:  # a block within a block
            yield
            return
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("COMMIT")

    def version(self) -> int:
        """A number that changes when the driver has committed something since the last call: cheap to poll."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def meta(self, key: str) -> Any:
        """The JSON value kept under `key`, or None."""
        rows = self._read("SELECT value FROM meta WHERE key = ?", (key,))
        with self.refusing():
            return valid.meta(key, rows[0][0]) if rows else None

    def definition(self) -> Definition:
        """What the sweep was asked for; a run that was given no name has its folder's."""
        found = Definition.from_json(self.meta("definition"))
        return found if found.name else replace(found, name=self.folder.name)

    def sessions(self) -> list[Session]:
        rows = self._known("session", "SELECT session, state, started, ended, info FROM sessions ORDER BY session")
        with self.refusing():
            return [Session(**row | {"state": SweepState(row["state"])}) for row in rows]

    def state(self) -> SweepState:
        """How the last session ended; RUNNING while a driver works, or when it died without a word; PLANNED when there
        is none."""
        rows = self._read("SELECT state FROM sessions ORDER BY session DESC LIMIT 1")
        with self.refusing():
            return SweepState(rows[0][0]) if rows else SweepState.PLANNED

    def trials(self, phase: str | None = None) -> list[Trial]:
        """All trials, in the order they were dealt."""
        with self.refusing():
            failure = "failure" if _has_failures(self._db) else "NULL AS failure"
        rows = self._known(
            "trial",
            f"SELECT {', '.join(_TRIAL_COLUMNS)}, {failure} FROM trials WHERE ? IS NULL OR phase = ? ORDER BY trial",
            (phase, phase),
        )
        with self.refusing():
            return [Trial(**row | {"state": State(row["state"]), "failure": _failure_of(row)}) for row in rows]

    def metric_names(self) -> list[str]:
        """Names of all metrics that any trial reported."""
        return sorted(_metric_columns(self._db))

    def reports(self, after: int = 0, trial: int | None = None) -> Iterator[ReportRow]:
        """Reports with seq > `after`, of one trial or of all, in order of arrival."""
        names = self.metric_names()
        columns = ", ".join([*_REPORT_COLUMNS, *map(_quoted, names)])
        where, values = ("trial = ? AND seq > ?", (trial, after)) if trial is not None else ("seq > ?", (after,))
        with self.refusing():
            valid.require_reports(self._db, names, after)
            for row in self._db.execute(f"SELECT {columns} FROM reports WHERE {where} ORDER BY seq", values):
                seq, trial, attempt, step, at, rung, cutoff, stopped = row[:8]
                decision = None if rung is None else Decision(rung, cutoff, bool(stopped))
                metrics = {name: float(v) for name, v in zip(names, row[8:], strict=True) if v is not None}
                yield ReportRow(seq, trial, attempt, step, at, decision, metrics)

    def report_columns(self) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Names and raw rows of the whole reports table, for bulk export; a NaN is the text 'nan'."""
        names, chunks = self.report_chunks(1 << 16)
        return names, [row for chunk in chunks for row in chunk]

    def report_chunks(self, size: int) -> tuple[list[str], Iterator[list[tuple[Any, ...]]]]:
        """`report_columns()`, at most `size` rows at a time."""
        names = [*_REPORT_COLUMNS, *self.metric_names()]
        with self.refusing():
            valid.require_reports(self._db, names[len(_REPORT_COLUMNS) :], 0)
            rows = self._db.execute(
                f"SELECT {', '.join(map(_quoted, names))} FROM reports ORDER BY trial, attempt, step"
            )
        return names, iter(lambda: rows.fetchmany(size), [])

    def last_at(self) -> float | None:
        """When the last report or event was recorded; None when there is neither."""
        ((at,),) = self._read("SELECT max(at) FROM (SELECT at FROM reports UNION ALL SELECT at FROM events)")
        return None if at is None else min(max(0.0, float(at)), valid.LATEST)

    def curves(self) -> dict[int, dict[int, ReportRow]]:
        """{trial: {step: report}}: the last attempt's word on every step, for studies, rungs and plots."""
        curves: dict[int, dict[int, ReportRow]] = {}
        for report in sorted(self.reports(), key=lambda row: (row.attempt, row.step)):
            curves.setdefault(report.trial, {})[report.step] = report
        return curves

    def scores(self, split: str = "test") -> dict[int, dict[str, float]]:
        """{trial: {metric: value}} of final models on `split`."""
        found: dict[int, dict[str, float]] = {}
        for row in self._known(
            "score", "SELECT trial, metric, value FROM scores WHERE split = ? ORDER BY trial, metric", (split,)
        ):
            found.setdefault(row["trial"], {})[row["metric"]] = row["value"]
        return found

    def checkpoints(self) -> dict[int, dict[int, str]]:
        """{trial: {step: sha256}} of the trials in flight, and of confirmed models."""
        found: dict[int, dict[int, str]] = {}
        for row in self._known("checkpoint", "SELECT trial, step, sha256 FROM checkpoints ORDER BY trial, step"):
            found.setdefault(row["trial"], {})[row["step"]] = row["sha256"]
        return found

    def superseded(self) -> set[int]:
        """Trials of a network that a model of the user's own built before another one was accepted: no mean holds
        seeds of both."""
        return self._named_by("model changed", "superseded")

    def unfit(self) -> set[int]:
        """Trials whose final states do not fit the network that their model built when they were to be scored."""
        return self._named_by("unfit", "trials")

    def _named_by(self, kind: str, key: str) -> set[int]:
        """The trials that events of `kind` name under `key`."""
        rows = self._known("event", "SELECT at, kind, trial, data FROM events WHERE kind = ? ORDER BY seq", (kind,))
        lists = [row["data"].get(key) for row in rows if isinstance(row["data"], Mapping)]
        return {one for some in lists if isinstance(some, list) for one in some if isinstance(one, int)}

    def events(self) -> list[tuple[float, str, int | None, dict[str, Any]]]:
        """(time, kind, trial, data) in order."""
        rows = self._known("event", "SELECT at, kind, trial, data FROM events ORDER BY seq")
        return [(row["at"], row["kind"], row["trial"], row["data"]) for row in rows]


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    # isolation_level=None: we say BEGIN and COMMIT ourselves. The timeout covers a reader's checkpoint.
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    # Any thread: `Record.abandon` is called from another one, and takes its turn.
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=20, check_same_thread=read_only)


def _create(path: Path) -> None:
    """An empty record, whole from its first moment: a file cut to nothing is never taken for a new one."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(f"{_SCHEMA} PRAGMA user_version = {FORMAT};")
        content = db.serialize()
    with replacing(path) as file:
        file.write(content)


def _check(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version != FORMAT:
        raise RecordError(f"{path} must be a record of format {FORMAT}, but its format is {version}")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        raise RecordError(
            f"{path} must be writable, but: {error}; what was committed is safe: make room, and run the same command"
        ) from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:  # locked, no room for its index: not the record's fault
        raise RecordError(f"{path} cannot be read: {error}") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise _broken(path, error) from error
    except ValueError as error:  # valid.Invalid, and a state that nobody knows
        raise _broken(path, error) from None


def _broken(path: Path, error: Exception | str) -> RecordError:
    return RecordError(f"{path} cannot be read as a record ({error}); restore it from a copy, or choose a new --name")


def _metric_columns(db: sqlite3.Connection) -> set[str]:
    return {row[1] for row in db.execute("PRAGMA table_info(reports)")} - {*_REPORT_COLUMNS, whole.CHECKSUM}


def _has_failures(db: sqlite3.Connection) -> bool:
    """Whether failures are in a column of their own: not in an earlier version's record."""
    return any(row[1] == "failure" for row in db.execute("PRAGMA main.table_info(trials)"))


def _failure_json(failure: Failure | None) -> str | None:
    """What programs look at; its texts have columns of their own."""
    if failure is None:
        return None
    return to_json({name: value for name, value in failure.to_dict().items() if name in ("kind", "constraint")})


def _failure_of(row: Mapping[str, Any]) -> Failure | None:
    """The failure of a row of trials; None when it did not fail."""
    reason, error = row["reason"] or "", row["error"]
    if row["failure"] is None:
        return _legacy_failure(State(row["state"]), reason, error)
    return Failure.from_dict({**row["failure"], "message": reason, "error": error})


def _legacy_failure(state: State, reason: str, error: str | None) -> Failure | None:
    """What an earlier version said in the reason alone. The only place where a text is read back: nothing new is."""
    if state not in (State.DIVERGED, State.FAILED, State.LOST):
        return None
    kind = FailureKind.EXCEPTION if state is State.FAILED else FailureKind(state)
    if state is State.FAILED and reason.startswith("out of memory"):
        kind = FailureKind.OUT_OF_MEMORY
    elif state is State.FAILED and reason.startswith("infeasible"):
        kind = FailureKind.INFEASIBLE
    found = re.match(r"infeasible: (\w+) <= (\d+) must hold, but got (\d+)", reason)
    constraint = Constraint(found[1], float(found[2]), float(found[3])) if found else None
    return Failure(kind, reason, constraint, error)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def to_json(value: object) -> str:
    """A value as the record keeps it: every view shows it, so it holds no secret, but for what is Verbatim, and
    printable text only."""
    return json.dumps(printable_json(redacted_values(value)))


def _storable(value: float) -> float | str:
    return "nan" if math.isnan(value) else float(value)  # SQLite would turn a NaN into NULL
