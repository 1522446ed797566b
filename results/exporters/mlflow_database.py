"""MLflow's SQLite file: created completely or not at all, and recognised when it is no longer usable.

MLflow makes a new database in place, by some 70 migrations that no transaction holds together. Whoever is killed on the
way, or has no room, leaves a file in which every later migration fails. So an empty database is made in memory, and
written under a temporary name.

MLflow keeps absolute paths of artifacts: it makes a relative location absolute when it creates an experiment
(mlflow#7670), and has no command that changes one. Those of our stores lie beside the database, so that the right paths
of a store that was moved follow from where it is.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from rungwise.files import locked, replacing
from rungwise.results.io.database_file import damage, lock_of, opened_to_read

ARTIFACTS = "mlartifacts"  # beside the database
# table -> its columns that hold a URI within the artifacts
_COLUMNS = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}


def ensure(database: Path) -> None:
    """An empty MLflow database at `database`, unless there is one; a process that comes at the same time waits for it.

    Raises sqlite3.Error for a file that cannot be read as a database, OSError without room, and what MLflow raises.
    """
    with locked(lock_of(database)):
        if _tables(database):
            return
        content = _empty(database.absolute().parent / ARTIFACTS)
        with replacing(database) as file:
            file.write(content)
        # MLflow commits seven times a trial; with a write-ahead log that takes a third of the time, and does not hold
        # up whoever looks on. The file remembers it; a database that we did not make stays as it is.
        with closing(sqlite3.connect(database, timeout=20)) as db:
            db.execute("PRAGMA journal_mode = WAL")


def unusable(database: Path) -> str | None:
    """Why the file is no longer usable: "is damaged (...)"; None when it is usable, or absent.

    One that merely needs another version of MLflow, and has runs, is not unusable.
    """
    if (why := damage(database)) or not database.exists():
        return why
    try:
        return half_made(database) if _tables(database) else None
    except (sqlite3.Error, OSError):  # locked, no permission: not the file's fault
        return None


def half_made(database: Path) -> str | None:
    """The same of a file in which there is no run, and which MLflow cannot open. Raises sqlite3.Error."""
    with closing(opened_to_read(database)) as db:
        if "runs" in _tables(database) and db.execute("SELECT 1 FROM runs LIMIT 1").fetchone():
            return None
    return None if _opens(database) else "was left half made, without a run in it: its maker was killed, or had no room"


def old_locations(database: Path) -> list[str]:
    """The folders of artifacts, as URIs, that the store names instead of the one beside it; [] where that is absent.

    Raises sqlite3.Error.
    """
    beside = database.absolute().parent / ARTIFACTS
    if not beside.is_dir():
        return []
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=20)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
            return []
        found = {str(location) for (location,) in db.execute("SELECT artifact_location FROM experiments")}
    ours = (uri for uri in found if uri.startswith("file:///") and uri.endswith(f"/{ARTIFACTS}"))
    return sorted(uri for uri in ours if uri != beside.as_uri())


def relocate(database: Path) -> None:
    """Let the store name the artifacts beside it, wherever they were when it was written. Raises sqlite3.Error."""
    here = (database.absolute().parent / ARTIFACTS).as_uri()
    for old in old_locations(database):
        with closing(sqlite3.connect(database, timeout=20)) as db, db:
            for table, columns in _COLUMNS.items():
                known = {name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")}  # older ones lack some
                for column in known.intersection(columns):
                    db.execute(
                        f"UPDATE {table} SET {column} = ?1 || substr({column}, length(?2) + 1) "
                        f"WHERE {column} = ?2 OR substr({column}, 1, length(?2) + 1) = ?2 || '/'",
                        (here, old),
                    )


def _tables(database: Path) -> set[str]:
    """Empty when the file is absent or has none: the process that created it had not written anything yet."""
    if not database.exists():
        return set()
    with closing(opened_to_read(database)) as db:
        return {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _empty(artifacts: Path) -> bytes:
    """What a database holds that MLflow has created and that was never used."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store: Any = SqlAlchemyStore("sqlite:///:memory:", artifacts.as_uri())  # type: ignore[no-untyped-call]
    try:
        with closing(store.engine.raw_connection()) as connection:
            return bytes(connection.driver_connection.serialize())
    finally:
        store.engine.dispose()  # MLflow keeps the engine; without its connection the next one begins afresh


def _opens(database: Path) -> bool:
    """Whether MLflow can open the file: a copy of it, for the attempt would change it, and keep it open."""
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy.exc import SQLAlchemyError

    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "copy.db"
        for suffix in ("", "-wal", "-journal"):
            if (path := Path(f"{database}{suffix}")).exists():
                shutil.copyfile(path, f"{copy}{suffix}")
        try:
            store: Any = SqlAlchemyStore(f"sqlite:///{copy}", Path(temporary).as_uri())  # type: ignore[no-untyped-call]
        except (MlflowException, SQLAlchemyError, CommandError):
            return False
        store.engine.dispose()
        return True
