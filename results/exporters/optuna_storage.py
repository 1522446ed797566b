"""The studies of a run in an Optuna storage, for optuna-dashboard and `optuna.visualization`."""

from __future__ import annotations

import warnings
from contextlib import closing
from typing import Any

from rungwise.errors import RungwiseError
from rungwise.files import replacing
from rungwise.results.exporters.optuna_study import quiet_optuna, studies
from rungwise.results.exporters.tracking_uri import sqlite_path
from rungwise.results.io.redaction import redacted_uri, remember, without_secrets
from rungwise.results.record.reader import Reader

_OWNER = "rungwise.run"


class StorageError(RungwiseError, ValueError):
    """The storage cannot take the studies; one line, without passwords."""


@quiet_optuna()
def write(reader: Reader, url: str) -> list[str]:
    """Write a study for each search of each arm to the storage, replacing what an earlier call wrote; returns their
    names.

    A study is named after its run, and its arm and search when there are several. One of that name which another made
    is left alone. Raises StorageError.
    """
    import optuna
    from optuna.exceptions import ExperimentalWarning, OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    remember(url)
    definition = reader.definition()
    run = definition.name
    identity = str(reader.meta("id") or run)
    found = studies(reader)
    names = []
    try:
        if (database := sqlite_path(url)) and not database.exists():
            with replacing(database) as file:  # whole or absent, like every file of ours
                file.write(_empty())
        storage = optuna.storages.get_storage(url)
        there = {study.study_name: study for study in optuna.get_all_study_summaries(storage)}
        wanted = {run if len(found) == 1 else f"{run}: {study.study_name}": study for study in found.values()}
        if foreign := [name for name in wanted if name in there and there[name].user_attrs.get(_OWNER) != identity]:
            raise StorageError(
                f"a study must be this run's own to be replaced, but {', '.join(map(repr, foreign))} is not: "
                "give another --storage, or delete it (optuna delete-study)"
            )
        for key, (name, study) in zip(found, wanted.items(), strict=True):
            if name in there:
                optuna.delete_study(study_name=name, storage=storage)
            made = optuna.create_study(storage=storage, study_name=name, directions=study.directions)
            made.set_user_attr(_OWNER, identity)  # first: a call that dies on the way is repeated
            made.set_user_attr("question", definition.question)
            made.set_user_attr("arm", key.arm)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                made.set_metric_names(list(definition.objectives))
            made.add_trials(study.get_trials(deepcopy=False))
            names.append(name)
    except StorageError:
        raise
    except (SQLAlchemyError, OptunaError, ImportError, ValueError, OSError) as error:
        line = (without_secrets(str(error), url).strip().splitlines() or [type(error).__name__])[0]
        raise StorageError(f"the storage {redacted_uri(url)} must take the studies, but {line}") from None
    return names


def _empty() -> bytes:
    """What the file of a SQLite storage without studies holds."""
    import optuna

    storage: Any = optuna.storages.RDBStorage("sqlite:///:memory:")
    try:
        with closing(storage.engine.raw_connection()) as connection:
            return bytes(connection.driver_connection.serialize())
    finally:
        storage.engine.dispose()
