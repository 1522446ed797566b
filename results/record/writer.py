"""The record's one writer, the driver: every event of a sweep, once and durable.

`runs/<name>/sweep.sqlite` is SQLite in WAL mode. It is the only truth; all else in `results/` is a view of it. Keys
make a row impossible to write twice: trials(trial), reports(trial, attempt, step). A trial's last report and its end
are one transaction, so no crash can separate them. `seq` keeps the order of arrival, from which ASHA's rungs are
rebuilt. A record that is damaged or has lost its end is refused (`results.record.integrity`).

Views read through `results.record.reader`, from any process, while the driver writes.
"""

from __future__ import annotations

import json
import math
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from rungwise.results.io.redaction import Verbatim, redacted, redacted_values
from rungwise.results.record import integrity
from rungwise.results.record.database import (
    LATER_COLUMNS,
    SAMPLE_SCORES,
    connect,
    create,
    has_sample_scores,
    lacking_columns,
    metric_columns,
    quoted,
    writing,
)
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import FILE, Decision, RecordError, State, SweepState
from rungwise.text import one_line, printable, printable_json, tail
from rungwise.trainable.messages import CheckpointSaved, Failure

ABANDON_SECONDS = 2.0  # that a writer may be in the middle of a statement
MOST_METRICS = 1500  # of all reports; SQLite's limit is 2,000 columns
COMMIT_SECONDS = 1.0  # a crash loses at most this much of the reports of trials in flight
_END_SESSION = "UPDATE sessions SET state = ?, ended = ? WHERE session = ?"


class Record:
    """The driver's handle: the only writer. Use as a context manager; `close()` commits."""

    def __init__(self, folder: Path) -> None:
        """Open the record in `folder`, creating it when absent. Raises RecordError when it is damaged or incomplete."""
        self.path = folder / FILE
        self._mark = integrity.RowCountFile(self.path)
        with writing(self.path):
            if not self.path.exists():
                create(self.path)
        with Reader(folder) as reader:  # read-only: a damaged record stays as it is
            reader.verify()
        self._db = connect(self.path, read_only=False)
        self._turn = threading.RLock()  # to write
        self._last_commit = time.monotonic()
        try:
            with writing(self.path):
                self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # a commit survives a power cut, not only a kill
            self._db.execute("PRAGMA foreign_keys = ON")
            for table in integrity.tables(self._db):
                integrity.install_checksum_triggers(self._db, table)
            self._metrics = {name.lower() for name in metric_columns(self._db)}  # as SQL compares names
            self._trials, self._reports = integrity.counted(self._db)
            self._add_columns()
            self._seal()
        except BaseException:
            self._db.close()
            raise

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
        """Add what an earlier version's record lacks, in one transaction with the digest of the schema."""
        lacks = lacking_columns(self._db)
        for name in lacks:
            self._write(f"ALTER TABLE trials ADD COLUMN {name} {LATER_COLUMNS[name]}")
        tables = ["trials"] if lacks else []
        if not has_sample_scores(self._db):
            self._write(SAMPLE_SCORES)
            tables.append("sample_scores")
        for table in tables:
            integrity.install_checksum_triggers(self._db, table)
        if tables:
            self._seal()
            self.commit()

    def _seal(self) -> None:
        """Record the digest of the schema as it is now."""
        sealed = self._db.execute("SELECT value FROM meta WHERE key = ?", (integrity.SCHEMA,)).fetchone()
        if not sealed or sealed[0] != integrity.schema(self._db):
            self.set_meta(integrity.SCHEMA, int(integrity.schema(self._db)))

    def _write(self, sql: str, values: Iterable[object] = ()) -> sqlite3.Cursor:
        with self._changing():
            if not self._db.in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
            return self._db.execute(sql, tuple(values))

    @contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            with self._turn, writing(self.path):
                yield
        except RecordError:
            if not self._db.in_transaction:  # SQLite took back all that was not committed: the mark must not count it
                self._trials, self._reports = integrity.counted(self._db)
            raise

    # -- the sweep ---------------------------------------------------------------------------------------------

    def set_meta(self, key: str, value: object) -> None:
        """Keep one JSON value about the sweep: its definition, its answer, its forecast."""
        self._write("INSERT OR REPLACE INTO meta(key, value) VALUES (?, ?)", (key, to_json(value)))

    def start_session(self, info: Mapping[str, object]) -> int:
        """Record that a driver begins to work on this run; returns the session's number."""
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
        """Record an event that is not a report: a retry, a checkpoint that was refused, a signal."""
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
        search: int = 1,
    ) -> None:
        """Record a suggestion that becomes a trial. Raises sqlite3.IntegrityError when `trial` exists."""
        self._write(
            "INSERT INTO trials(trial, arm, phase, source, search, state, params, distributions, config, created) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                trial,
                printable(arm),
                phase,
                source,
                search,
                State.RUNNING,
                *(to_json(Verbatim(values)) for values in (params, distributions, config)),
                time.time(),
            ),
        )
        self._trials += 1

    def set_params(self, trial: int, params: Mapping[str, Any], distributions: Mapping[str, str]) -> None:
        """Record what a running trial has been suggested by now; its configuration stays as it was dispatched."""
        self._write(
            "UPDATE trials SET params = ?, distributions = ? WHERE trial = ? AND state = ?",
            (to_json(Verbatim(params)), to_json(Verbatim(distributions)), trial, State.RUNNING),
        )

    def start_attempt(self, trial: int) -> int:
        """A process begins to train `trial`; returns the attempt's number, 1 for the first."""
        cursor = self._write(
            "UPDATE trials SET attempts = attempts + 1, started = coalesce(started, ?) WHERE trial = ? "
            "RETURNING attempts",
            (time.time(), trial),
        )
        return int(cursor.fetchone()[0])

    def place(self, trial: int, node: str, device: str) -> None:
        """Record where the current attempt runs: its first report says so."""
        self._write(
            "UPDATE trials SET node = ?, device = ? WHERE trial = ?", (printable(node), printable(device), trial)
        )

    def add_report(
        self, trial: int, attempt: int, step: int, metrics: Mapping[str, float], decision: Decision | None = None
    ) -> list[str]:
        """Record one report of a trial, but for metrics that are more than a table has columns.

        Returns the names of those. Raises sqlite3.IntegrityError when (trial, attempt, step) exists.
        """
        unknown = [name for name in metrics if name.lower() not in self._metrics]
        room = max(0, MOST_METRICS - len(self._metrics))
        new, left_out = unknown[:room], unknown[room:]
        if left_out:
            metrics = {name: value for name, value in metrics.items() if name not in left_out}
        if new:
            for name in new:
                self._write(f"ALTER TABLE reports ADD COLUMN {quoted(name)} REAL")
                self._metrics.add(name.lower())
            integrity.install_checksum_triggers(self._db, "reports")
            self._seal()
        judged = (decision.rung, decision.cutoff, int(decision.stopped)) if decision else (None, None, None)
        columns = ", ".join(map(quoted, metrics))
        marks = ", ".join("?" * (7 + len(metrics)))
        self._write(
            f"INSERT INTO reports(trial, attempt, step, at, rung, cutoff, stopped, {columns}) VALUES ({marks})",
            (trial, attempt, step, time.time(), *judged, *map(_storable, metrics.values())),
        )
        self._reports += 1
        return left_out

    def add_score(self, trial: int, split: str, metric: str, value: float) -> None:
        """What the trial's final model scores on a split that no search saw. The first value counts: it is never
        replaced."""
        self._write(
            "INSERT OR IGNORE INTO scores(trial, split, metric, value) VALUES (?, ?, ?, ?)",
            (trial, split, metric, value),
        )

    def add_sample_scores(self, trial: int, split: str, metric: str, samples: int, data: bytes) -> None:
        """What the same model scores on each of so many samples, packed (`trainable.export.sample_scores`). The first
        value counts here, too."""
        self._write(
            "INSERT OR IGNORE INTO sample_scores(trial, split, metric, samples, data) VALUES (?, ?, ?, ?, ?)",
            (trial, split, metric, samples, data),
        )

    def add_checkpoint(self, trial: int, step: int, sha256: str) -> None:
        """Record that the trial can be resumed from report `step`, with a file of this digest."""
        self._write(
            "INSERT OR REPLACE INTO checkpoints(trial, step, sha256, at) VALUES (?, ?, ?, ?)",
            (trial, step, sha256, time.time()),
        )

    def forget_checkpoints(self, trial: int) -> None:
        """Delete the checkpoints of a trial: its files are gone."""
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
        """The trial is over. Commits, together with its last report. The first end counts: it is never rewritten.

        `reason`: why, in a line, of one that did not fail; `failure`: why it did.
        `model`: the final state that is kept, of a confirmation: an end without it would be an answer that cannot be
        scored. Other checkpoints are forgotten, because the trial will not resume.
        """
        rung, cutoff = (decision.rung, decision.cutoff) if decision else (None, None)
        text = reason if failure is None else failure.message
        reason = None if text is None else one_line(redacted(text))
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


def _failure_json(failure: Failure | None) -> str | None:
    """What programs look at; its texts have columns of their own."""
    if failure is None:
        return None
    kept: dict[str, Any] = {"kind": failure.kind}
    return to_json(kept if failure.constraint is None else {**kept, "constraint": vars(failure.constraint)})


def to_json(value: object) -> str:
    """A value as the record keeps it: every view shows it, so it holds no secret, but for what is Verbatim, and
    printable text only."""
    return json.dumps(printable_json(redacted_values(value)))


def _storable(value: float) -> float | str:
    return "nan" if math.isnan(value) else float(value)  # SQLite would turn a NaN into NULL
