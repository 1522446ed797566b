"""The SQLite file of a record: its schema, its connections, and errors of SQLite as `RecordError`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from rungwise.files import replacing
from rungwise.results.record import integrity
from rungwise.results.record.types import RecordError, Trial

FORMAT = 1
# What a model scores on each sample of a split: of an accuracy one bit, of other metrics a float32. A record of an
# earlier version lacks the table.
SAMPLE_SCORES = """CREATE TABLE sample_scores(
  trial INTEGER NOT NULL REFERENCES trials, split TEXT NOT NULL, metric TEXT NOT NULL, samples INTEGER NOT NULL,
  data BLOB NOT NULL, checksum INTEGER, PRIMARY KEY(trial, split, metric)) STRICT"""
_SCHEMA = f"""
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER) STRICT;
CREATE TABLE sessions(
  session INTEGER PRIMARY KEY, state TEXT NOT NULL, started REAL NOT NULL, ended REAL, info TEXT NOT NULL,
  checksum INTEGER) STRICT;
CREATE TABLE trials(
  trial INTEGER PRIMARY KEY, arm TEXT NOT NULL, phase TEXT NOT NULL, source INTEGER REFERENCES trials,
  state TEXT NOT NULL, params TEXT NOT NULL,
  distributions TEXT NOT NULL, config TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, stop_rung REAL,
  cutoff REAL, reason TEXT, error TEXT, node TEXT, device TEXT, created REAL NOT NULL, started REAL, ended REAL,
  failure TEXT, search INTEGER, checksum INTEGER) STRICT;
CREATE TABLE reports(
  seq INTEGER PRIMARY KEY, trial INTEGER NOT NULL REFERENCES trials, attempt INTEGER NOT NULL, step INTEGER NOT NULL,
  at REAL NOT NULL, rung REAL, cutoff REAL, stopped INTEGER, checksum INTEGER,
  UNIQUE(trial, attempt, step));
CREATE TABLE scores(
  trial INTEGER NOT NULL REFERENCES trials, split TEXT NOT NULL, metric TEXT NOT NULL, value REAL NOT NULL,
  checksum INTEGER, PRIMARY KEY(trial, split, metric)) STRICT;
{SAMPLE_SCORES};
CREATE TABLE checkpoints(
  trial INTEGER NOT NULL REFERENCES trials, step INTEGER NOT NULL, sha256 TEXT NOT NULL, at REAL NOT NULL,
  checksum INTEGER, PRIMARY KEY(trial, step)) STRICT;
CREATE TABLE events(
  seq INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, trial INTEGER, data TEXT NOT NULL,
  checksum INTEGER) STRICT;
"""
REPORT_COLUMNS = ("seq", "trial", "attempt", "step", "at", "rung", "cutoff", "stopped")
TRIAL_COLUMNS = tuple(name for name in Trial.__dataclass_fields__ if name not in ("failure", "search"))


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    # isolation_level=None: we say BEGIN and COMMIT ourselves. The timeout covers a reader's checkpoint.
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    # Any thread: `Record.abandon` is called from another one, and takes its turn.
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=20, check_same_thread=read_only)


def create(path: Path) -> None:
    """Create an empty record in one step: a file that was cut to nothing is never taken for a new one."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(f"{_SCHEMA} PRAGMA user_version = {FORMAT};")
        content = db.serialize()
    with replacing(path) as file:
        file.write(content)


def require_format(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version != FORMAT:
        raise RecordError(f"{path} must be a record of format {FORMAT}, but its format is {version}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        raise RecordError(
            f"{path} must be writable, but: {error}; what was committed is safe: make room, and run the same command"
        ) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:  # locked, no room for its index: not the record's fault
        raise RecordError(f"{path} cannot be read: {error}") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise broken(path, error) from error
    except ValueError as error:  # validation.Invalid, and an unknown state
        raise broken(path, error) from None


def broken(path: Path, error: Exception | str) -> RecordError:
    return RecordError(f"{path} cannot be read as a record ({error}); restore it from a copy, or choose a new --name")


def metric_columns(db: sqlite3.Connection) -> set[str]:
    return {row[1] for row in db.execute("PRAGMA table_info(reports)")} - {*REPORT_COLUMNS, integrity.CHECKSUM}


LATER_COLUMNS = {"failure": "TEXT", "search": "INTEGER"}  # of trials, which an earlier version's record lacks


def has_sample_scores(db: sqlite3.Connection) -> bool:
    """Whether the record says what models score on each sample."""
    return bool(db.execute("SELECT 1 FROM main.sqlite_master WHERE name = 'sample_scores'").fetchone())


def lacking_columns(db: sqlite3.Connection) -> list[str]:
    """Those of `LATER_COLUMNS` that the record does not have."""
    has = {row[1] for row in db.execute("PRAGMA main.table_info(trials)")}
    return [name for name in LATER_COLUMNS if name not in has]


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
