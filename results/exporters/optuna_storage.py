"""The studies of a run in an Optuna storage, for optuna-dashboard and `optuna.visualization`.

A storage is brought up to the record: what is there stays, so that a dashboard's page of a study goes on showing it.
Trials lie in a study in the order in which they were dealt, in the record as in the storage, so the n-th one here is
the n-th one there. A finished trial cannot be changed in Optuna: where one is another than the record's, as in a copy
of the run that went on elsewhere, its study is written anew.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from rungwise.errors import RungwiseError
from rungwise.files import replacing
from rungwise.results.exporters.optuna_study import quiet_optuna, studies
from rungwise.results.exporters.tracking_uri import sqlite_path
from rungwise.results.io.redaction import redacted_uri, remember, without_secrets
from rungwise.results.record.reader import Reader

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

_OWNER = "rungwise.run"


class StorageError(RungwiseError, ValueError):
    """The storage cannot take the studies; one line, without passwords."""


def write(reader: Reader, url: str) -> list[str]:
    """Bring the studies of each search of each arm in the storage up to the record; returns their names.

    A study is named after its run, and its arm and search when there are several. One of that name which another made
    is left alone. Raises StorageError.
    """
    with errors(url):
        storage = opened(url)
        try:
            return list(bring_up(reader, storage))
        finally:
            close(storage)


def opened(url: str) -> BaseStorage:
    """The storage; a new SQLite file is made, whole or not at all. Raises what Optuna and SQLAlchemy raise."""
    import optuna
    import sqlalchemy

    remember(url)
    if (database := sqlite_path(url)) and not database.exists():
        with replacing(database) as file:
            file.write(_empty())
    storage = optuna.storages.get_storage(url)
    backend = getattr(storage, "_backend", storage)
    if database and isinstance(backend, optuna.storages.RDBStorage):  # a commit then costs no write to the disk itself
        sqlalchemy.event.listen(backend.engine, "connect", _without_waiting)
        backend.engine.dispose()  # of connections that were made before
    return storage


def close(storage: BaseStorage) -> None:
    """End the connections, so that SQLite leaves one file."""
    backend = getattr(storage, "_backend", storage)
    if hasattr(backend, "engine"):
        backend.remove_session()
        backend.engine.dispose()


def _without_waiting(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


@quiet_optuna()
def bring_up(reader: Reader, storage: BaseStorage) -> dict[str, int]:
    """{name of a study: how many values were new}. Raises StorageError for a study of another's."""
    import optuna

    definition = reader.definition()
    run = definition.name
    identity = str(reader.meta("id") or run)
    found = studies(reader)
    there = {study.study_name: study for study in optuna.get_all_study_summaries(storage)}
    wanted = {run if len(found) == 1 else f"{run}: {study.study_name}": key for key, study in found.items()}
    if foreign := [name for name in wanted if name in there and there[name].user_attrs.get(_OWNER) != identity]:
        raise StorageError(
            f"a study must be this run's own to be replaced, but {', '.join(map(repr, foreign))} is not: "
            "give another --storage, or delete it (optuna delete-study)"
        )
    added = {}
    for name, key in wanted.items():
        about = {"question": definition.question, "arm": key.arm}
        ours = found[key].get_trials(deepcopy=False)
        if name in there and not _continues(storage, optuna.load_study(study_name=name, storage=storage), ours):
            optuna.delete_study(study_name=name, storage=storage)
            del there[name]
        if name not in there:
            made = optuna.create_study(storage=storage, study_name=name, directions=found[key].directions)
            made.set_user_attr(_OWNER, identity)  # first: a call that dies on the way is repeated
            for attribute, text in about.items():
                made.set_user_attr(attribute, text)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                made.set_metric_names(list(definition.objectives))
        added[name] = _bring_up(storage, storage.get_study_id_from_name(name), ours)
    return added


def _continues(storage: BaseStorage, study: optuna.Study, ours: list[FrozenTrial]) -> bool:
    """Whether the trials there can become ours: they are the first of ours, and finished ones are as ours are."""
    theirs = storage.get_all_trials(study._study_id, deepcopy=False)
    return len(theirs) <= len(ours) and all(
        one.user_attrs.get("trial") == other.user_attrs.get("trial")
        and (not one.state.is_finished() or (one.state, one.values) == (other.state, other.values))
        for one, other in zip(theirs, ours, strict=False)
    )


def _bring_up(storage: BaseStorage, study: int, ours: list[FrozenTrial]) -> int:
    """Add what the study lacks; returns how many values that were. A trial's state goes last."""
    theirs = storage.get_all_trials(study, deepcopy=False)
    count = 0
    for one in ours[len(theirs) :]:
        storage.create_new_trial(study, template_trial=one)
        count += len(one.intermediate_values) + len(one.values or ())
    for there, one in zip(theirs, ours, strict=False):
        if there.state.is_finished():
            continue
        for name, value in one.params.items():
            if name not in there.params:
                kind = one.distributions[name]
                storage.set_trial_param(there._trial_id, name, kind.to_internal_repr(value), kind)
        for step, value in one.intermediate_values.items():
            if there.intermediate_values.get(step) != value:
                storage.set_trial_intermediate_value(there._trial_id, step, value)
                count += 1
        for name, value in one.user_attrs.items():
            if there.user_attrs.get(name) != value:
                storage.set_trial_user_attr(there._trial_id, name, value)
        for name, value in one.system_attrs.items():
            if there.system_attrs.get(name) != value:
                storage.set_trial_system_attr(there._trial_id, name, value)
        if one.state.is_finished():
            storage.set_trial_state_values(there._trial_id, one.state, one.values)
            count += len(one.values or ())
    return count


@contextmanager
def errors(url: str) -> Iterator[None]:
    """Whatever Optuna, its database driver or the disk raises becomes one StorageError without passwords."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except StorageError:
        raise
    except (SQLAlchemyError, OptunaError, ImportError, ValueError, OSError) as error:
        line = (without_secrets(str(error), url).strip().splitlines() or [type(error).__name__])[0]
        raise StorageError(f"the storage {redacted_uri(url)} must take the studies, but {line}") from None


def _empty() -> bytes:
    """What the file of a SQLite storage without studies holds."""
    import optuna

    storage: Any = optuna.storages.RDBStorage("sqlite:///:memory:")
    try:
        with closing(storage.engine.raw_connection()) as connection:
            return bytes(connection.driver_connection.serialize())
    finally:
        storage.engine.dispose()
