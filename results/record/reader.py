"""A read-only view of a record, from any process, while the driver writes. Every row is validated as it is read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from rungwise.results.record import integrity, validation
from rungwise.results.record.database import (
    REPORT_COLUMNS,
    TRIAL_COLUMNS,
    broken,
    connect,
    has_sample_scores,
    lacking_columns,
    metric_columns,
    quoted,
    reading,
    require_format,
)
from rungwise.results.record.definition import Definition
from rungwise.results.record.types import FILE, Decision, RecordError, ReportRow, Session, State, SweepState, Trial
from rungwise.trainable.messages import Constraint, Failure, FailureKind


class Reader:
    """A read-only view of a record; every method sees one consistent state of it."""

    def __init__(self, folder: Path, *, complete: bool = True) -> None:
        """Raises RecordError when there is no record in `folder`, or, if `complete`, when its end is lost."""
        self.folder = folder
        path = folder / FILE
        if not path.is_file():
            raise RecordError(f"a run's folder contains {FILE}, but {folder} has none")
        if not path.stat().st_size:  # opening it would make SQLite remove its write-ahead log
            raise broken(path, "it is empty")
        with reading(path):
            self._db = connect(path, read_only=True)
        try:
            with self.refusing():
                require_format(self._db, path)
                validation.require_tables(self._db)
            if complete and (missing := self.missing()):
                raise RecordError(
                    f"{path} {missing}: its end is lost, as when {path.name}-wal was removed or cut; bring it back, or "
                    f"accept what is left: rungwise doctor --fix {shlex.quote(str(folder))}"
                )
        except RecordError:
            self._db.close()
            raise

    def refusing(self) -> AbstractContextManager[None]:
        """What is read within becomes a RecordError when it cannot be read, or is nothing that a record may hold."""
        return reading(self.folder / FILE)

    def _read(self, sql: str, values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        with self.refusing():
            return self._db.execute(sql, tuple(values)).fetchall()

    def _known(self, kind: str, sql: str, values: Iterable[object] = ()) -> list[dict[str, Any]]:
        """The rows of a SELECT, each as {column: value}, as `validation.row_of` lets them pass."""
        with self.refusing():
            rows = self._db.execute(sql, tuple(values))
            names = [column[0] for column in rows.description]
            return [
                validation.row_of(kind, dict(zip(names, row, strict=True)), f"{kind} {row[0]}")
                for row in rows.fetchall()
            ]

    def missing(self) -> str | None:
        """What the record held after its last commit and does not hold now; None when all is there."""
        path = self.folder / FILE
        with reading(path):
            return integrity.RowCountFile(path).missing(self._db)

    def verify(self) -> None:
        """Raises RecordError when anything in the record is not as it was written."""
        path = self.folder / FILE
        with reading(path):
            problems = list(integrity.find_corruption(self._db))
        if problems:
            raise broken(path, "; ".join(problems))

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
            return validation.meta(key, rows[0][0]) if rows else None

    def definition(self) -> Definition:
        """What the sweep was asked for; a run that was given no name has its folder's."""
        definition = Definition.from_json(self.meta("definition"))
        return definition if definition.name else replace(definition, name=self.folder.name)

    def sessions(self) -> list[Session]:
        rows = self._known("session", "SELECT session, state, started, ended, info FROM sessions ORDER BY session")
        with self.refusing():
            return [Session(**row | {"state": SweepState(row["state"])}) for row in rows]

    def state(self) -> SweepState:
        """How the last session ended; RUNNING while a driver works, or when it died without recording its end; PLANNED
        when there is none."""
        rows = self._read("SELECT state FROM sessions ORDER BY session DESC LIMIT 1")
        with self.refusing():
            return SweepState(rows[0][0]) if rows else SweepState.PLANNED

    def trials(self, phase: str | None = None) -> list[Trial]:
        """All trials, by number."""
        with self.refusing():
            lacks = lacking_columns(self._db)
        later = f"{'NULL' if 'failure' in lacks else 'failure'} AS failure, "
        later += "1 AS search" if "search" in lacks else "coalesce(search, 1) AS search"
        rows = self._known(
            "trial",
            f"SELECT {', '.join(TRIAL_COLUMNS)}, {later} FROM trials WHERE ? IS NULL OR phase = ? ORDER BY trial",
            (phase, phase),
        )
        with self.refusing():
            return [Trial(**row | {"state": State(row["state"]), "failure": _failure_of(row)}) for row in rows]

    def metric_names(self) -> list[str]:
        """Names of all metrics that any trial reported."""
        return sorted(metric_columns(self._db))

    def reports(self, after: int = 0, trial: int | None = None) -> Iterator[ReportRow]:
        """Reports with seq > `after`, of one trial or of all, in order of arrival."""
        names = self.metric_names()
        columns = ", ".join([*REPORT_COLUMNS, *map(quoted, names)])
        where, values = ("trial = ? AND seq > ?", (trial, after)) if trial is not None else ("seq > ?", (after,))
        with self.refusing():
            validation.require_reports(self._db, names, after)
            for row in self._db.execute(f"SELECT {columns} FROM reports WHERE {where} ORDER BY seq", values):
                seq, trial, attempt, step, at, rung, cutoff, stopped = row[:8]
                decision = None if rung is None else Decision(rung, cutoff, bool(stopped))
                metrics = {name: float(v) for name, v in zip(names, row[8:], strict=True) if v is not None}
                yield ReportRow(seq, trial, attempt, step, at, decision, metrics)

    def report_chunks(self, size: int) -> tuple[list[str], Iterator[list[tuple[Any, ...]]]]:
        """Names and raw rows of the reports table, at most `size` rows at a time, for bulk export; a NaN is the text
        'nan'."""
        names = [*REPORT_COLUMNS, *self.metric_names()]
        with self.refusing():
            validation.require_reports(self._db, names[len(REPORT_COLUMNS) :], 0)
            rows = self._db.execute(
                f"SELECT {', '.join(map(quoted, names))} FROM reports ORDER BY trial, attempt, step"
            )
        return names, iter(lambda: rows.fetchmany(size), [])

    def last_at(self) -> float | None:
        """When the last report or event was recorded; None when there is neither."""
        ((at,),) = self._read("SELECT max(at) FROM (SELECT at FROM reports UNION ALL SELECT at FROM events)")
        return None if at is None else min(max(0.0, float(at)), validation.LATEST)

    def last_report(self, before: float) -> float | None:
        """When the last report before a time was recorded, both in seconds since the epoch; None without one."""
        ((at,),) = self._read("SELECT max(at) FROM reports WHERE at < ?", (before,))
        return None if at is None else max(0.0, float(at))

    def curves(self) -> dict[int, dict[int, ReportRow]]:
        """{trial: {step: report}}: the last attempt's report of every step, for studies, rungs and plots."""
        curves: dict[int, dict[int, ReportRow]] = {}
        for report in sorted(self.reports(), key=lambda row: (row.attempt, row.step)):
            curves.setdefault(report.trial, {})[report.step] = report
        return curves

    def scores(self, split: str = "test") -> dict[int, dict[str, float]]:
        """{trial: {metric: value}} of final models on `split`."""
        scores: dict[int, dict[str, float]] = {}
        for row in self._known(
            "score", "SELECT trial, metric, value FROM scores WHERE split = ? ORDER BY trial, metric", (split,)
        ):
            scores.setdefault(row["trial"], {})[row["metric"]] = row["value"]
        return scores

    def sample_scores(self, metric: str, split: str = "test") -> dict[int, tuple[int, bytes]]:
        """{trial: (samples, what its final model scores on each of them)}: see `trainable.export.sample_scores`."""
        with self.refusing():
            if not has_sample_scores(self._db):
                return {}
        rows = self._read(
            "SELECT trial, samples, data FROM sample_scores WHERE split = ? AND metric = ? ORDER BY trial",
            (split, metric),
        )
        with self.refusing():
            return {trial: validation.sample_scores(metric, samples, data, trial) for trial, samples, data in rows}

    def checkpoints(self) -> dict[int, dict[int, str]]:
        """{trial: {step: sha256}} of the trials in flight, and of confirmed models."""
        digests: dict[int, dict[int, str]] = {}
        for row in self._known("checkpoint", "SELECT trial, step, sha256 FROM checkpoints ORDER BY trial, step"):
            digests.setdefault(row["trial"], {})[row["step"]] = row["sha256"]
        return digests

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
        return {trial for trials in lists if isinstance(trials, list) for trial in trials if isinstance(trial, int)}

    def events(self) -> list[tuple[float, str, int | None, dict[str, Any]]]:
        """(time, kind, trial, data) in order."""
        rows = self._known("event", "SELECT at, kind, trial, data FROM events ORDER BY seq")
        return [(row["at"], row["kind"], row["trial"], row["data"]) for row in rows]


def _failure_of(row: Mapping[str, Any]) -> Failure | None:
    """The failure of a row of trials; None when it did not fail."""
    reason, error = row["reason"] or "", row["error"]
    if row["failure"] is None:
        return _legacy_failure(State(row["state"]), reason, error)
    constraint = row["failure"].get("constraint")
    return Failure(FailureKind(row["failure"]["kind"]), reason, constraint and Constraint(**constraint), error)


def _legacy_failure(state: State, reason: str, error: str | None) -> Failure | None:
    """What an earlier version said in the reason alone. The only place where a text is read back: nothing new is."""
    if state not in (State.DIVERGED, State.FAILED, State.LOST):
        return None
    kind = FailureKind.EXCEPTION if state is State.FAILED else FailureKind(state)
    if state is State.FAILED and reason.startswith("out of memory"):
        kind = FailureKind.OUT_OF_MEMORY
    elif state is State.FAILED and reason.startswith("infeasible"):
        kind = FailureKind.INFEASIBLE
    match = re.match(r"infeasible: (\w+) <= (\d+) must hold, but got (\d+)", reason)
    constraint = Constraint(match[1], float(match[2]), float(match[3])) if match else None
    return Failure(kind, reason, constraint, error)
