"""Integrity of a record: checksums of rows, a digest of the schema, and a count of rows in a file beside it.

SQLite notices a torn page, but neither a flipped bit in a value nor a write-ahead log that was removed. So every row
carries a checksum of itself, written by triggers that live in the driver's connection, and a small file beside the
record says after each commit how many trials and reports there are. A reader can never see fewer.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

from rungwise.files import not_following
from rungwise.text import plural

CHECKSUM = "checksum"
SCHEMA = "schema"  # the key in `meta` of what `schema()` said when the tables were made
MOST_ARGUMENTS = 100  # of a function; SQLite's limit is 127
MARK_SUFFIX = "-mark"  # sweep.sqlite-mark, beside SQLite's own sweep.sqlite-wal


def install_checksum_triggers(db: sqlite3.Connection, table: str) -> None:
    """From now on every row that `db` writes into `table` gets its checksum. Call it again after a column was added."""
    _create_functions(db)
    columns = _columns(db, table)
    fill = f"BEGIN UPDATE {table} SET {CHECKSUM} = {_sum_of(columns)} WHERE rowid = new.rowid; END"
    for name, event in (("added", "INSERT"), ("changed", f"UPDATE OF {', '.join(columns)}")):
        db.execute(f"DROP TRIGGER IF EXISTS temp.{table}_{name}")
        db.execute(f"CREATE TEMP TRIGGER {table}_{name} AFTER {event} ON main.{table} {fill}")


def tables(db: sqlite3.Connection) -> list[str]:
    return [name for (name,) in db.execute("SELECT name FROM main.sqlite_master WHERE type = 'table' ORDER BY name")]


def find_corruption(db: sqlite3.Connection) -> Iterator[str]:
    """What is altered in the record, a line each. A million reports take about 6 s, 1 s of them SQLite's own check."""
    _create_functions(db)
    yield from (line for (line,) in db.execute("PRAGMA integrity_check(3)") if line != "ok")
    sealed = db.execute("SELECT value FROM meta WHERE key = ?", (SCHEMA,)).fetchone()
    if sealed and sealed[0] != schema(db):
        yield "its tables are not those that were made"
    for table in tables(db):
        bad = f"FROM {table} WHERE {CHECKSUM} IS NOT {_sum_of(_columns(db, table))}"
        count, first = db.execute(f"SELECT count(*), min(rowid) {bad}").fetchone()
        if count:
            yield f"{count} row(s) of {table} differ from what was written, the first is row {first}"


def schema(db: sqlite3.Connection) -> str:
    """A digest of the tables' definitions: a flipped bit there would rename a column."""
    rows = db.execute("SELECT type, name, sql FROM main.sqlite_master ORDER BY type, name").fetchall()
    return str(row_sum(*rows))


class RowCountFile:
    """How many trials and reports the record held after its last commit: what a lost write-ahead log cannot take along.

    It is written after the commit and without waiting for the disk, so it may lag behind the record, never lead.
    """

    def __init__(self, record: Path) -> None:
        self.path = record.with_name(record.name + MARK_SUFFIX)
        self._file: int | None = None

    def write(self, trials: int, reports: int) -> None:
        if self._file is None:
            self._file = not_following(str(self.path), os.O_WRONLY)
        os.pwrite(self._file, f"{trials:>12} {reports:>15}\n".encode(), 0)

    def read(self) -> tuple[int, int]:
        """(trials, reports); zeros when there is no mark."""
        try:
            trials, reports = map(int, self.path.read_text().split())
        except (OSError, ValueError):
            return 0, 0
        return trials, reports

    def missing(self, db: sqlite3.Connection) -> str | None:
        """What the record should hold and does not; None when all is there."""
        expected = self.read()  # before the record is looked at: it only grows
        held = counted(db)
        if held[0] >= expected[0] and held[1] >= expected[1]:
            return None
        must = f"{plural(expected[0], 'trial')} and {plural(expected[1], 'report')}"
        return f"must contain {must}, but contains {held[0]} and {held[1]}"

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def counted(db: sqlite3.Connection) -> tuple[int, int]:
    """(trials, reports): neither is ever deleted, and reports are numbered from 1 without gaps."""
    trials, reports = db.execute(
        "SELECT coalesce((SELECT count(*) FROM trials), 0), coalesce((SELECT max(seq) FROM reports), 0)"
    ).fetchone()
    return int(trials), int(reports)


def _columns(db: sqlite3.Connection, table: str) -> list[str]:
    names = [row[1] for row in db.execute(f"PRAGMA main.table_info({table})")]
    return ['"' + name.replace('"', '""') + '"' for name in names if name != CHECKSUM]


def _sum_of(columns: list[str]) -> str:
    if len(columns) <= MOST_ARGUMENTS:
        return f"row_sum({', '.join(columns)})"
    parts = [columns[first : first + MOST_ARGUMENTS] for first in range(0, len(columns), MOST_ARGUMENTS)]
    return "joined_sum(" + ", ".join(f"row_text({', '.join(part)})" for part in parts) + ")"


def _create_functions(db: sqlite3.Connection) -> None:
    for function in (row_sum, row_text, joined_sum):
        db.create_function(function.__name__, -1, function, deterministic=True)


def row_sum(*values: object) -> int:
    """The checksum of a row's values, in SQL too."""
    return joined_sum(row_text(*values))


def row_text(*values: object) -> str:
    """Those of a part of its columns. A column that was added later is NULL in the rows before it, and says nothing."""
    return ", ".join([repr(value) for value in values if value is not None])


def joined_sum(*texts: str) -> int:
    """The checksum of a row with more columns than a function has arguments: the same as of fewer with these values."""
    return zlib.crc32(f"[{', '.join(filter(None, texts))}]".encode())
