"""Subprocesses that create MLflow's store and kill themselves at a given event."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from rungwise.results.exporters.mlflow_client import Store
from rungwise.results.exporters.mlflow_database import ensure


def die_after(statement: int) -> list[int]:
    """Have this process killed when SQLAlchemy has run so many statements; returns a list that grows with each."""
    run: list[int] = []

    @event.listens_for(Engine, "after_cursor_execute")
    def count(*_: Any) -> None:
        run.append(1)
        if len(run) == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    return run


def make_and_die(database: Path, statement: int) -> None:
    """Be killed after so many SQL statements."""
    _quiet()
    die_after(statement)
    ensure(database)


def make_and_die_at(database: Path, call: str) -> None:
    """Be killed when the finished database is about to be written, flushed or renamed: at the first `os.call`."""
    _quiet()
    setattr(os, call, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    ensure(database)


def make(database: Path) -> None:
    _quiet()
    ensure(database)


def make_in_place_and_die(database: Path) -> None:
    """As MLflow itself does it: killed within a migration, when a column is there that its version does not know of."""
    _quiet()
    from mlflow import MlflowClient

    @event.listens_for(Engine, "after_cursor_execute")
    def strike(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.strip().startswith("ALTER TABLE"):
            os.kill(os.getpid(), signal.SIGKILL)

    MlflowClient(f"sqlite:///{database}").get_experiment_by_name("x")


def _quiet() -> None:
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)


def main() -> None:
    """RUN DATABASE STATEMENT: export the run, killed after so many statements; prints how many there were."""
    run, database, statement = sys.argv[1:]
    from rungwise.results.exporters.mlflow import export

    count = die_after(int(statement))
    export(Path(run), f"sqlite:///{database}")
    print(len(count))


if __name__ == "__main__":
    assert Store  # imported before statements are counted
    main()
