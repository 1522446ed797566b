"""SQLite files of views, which can be made anew from the record: whether one is damaged, and setting it aside."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path

from rungwise.files import locked


def damage(database: Path) -> str | None:
    """What is damaged in the file: "is damaged (...)"; None when nothing is, or there is no file."""
    if not database.exists():
        return None
    try:
        with closing(opened_to_read(database)) as db:
            (word,) = db.execute("PRAGMA quick_check(1)").fetchone()
    except (sqlite3.OperationalError, OSError):  # locked, no permission: not the file's fault
        return None
    except sqlite3.DatabaseError as error:
        return f"is damaged ({error})"
    return None if word == "ok" else f"is damaged ({word})"


def set_aside(database: Path) -> Path:
    """Give the file and its logs another name, which is returned: nothing is thrown away."""
    with locked(lock_of(database)):
        names = (database.with_name(f"{database.name}.broken-{number}") for number in count(1))
        backup = next(name for name in names if not name.exists())
        for suffix in ("-wal", "-shm", "-journal", ""):
            if (path := Path(f"{database}{suffix}")).exists():
                path.rename(f"{backup}{suffix}")
    return backup


def lock_of(database: Path) -> Path:
    """The file by which processes take turns to make the database."""
    return database.with_name(f".{database.name}.lock")


def opened_to_read(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=20)
