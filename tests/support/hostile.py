"""Maliciously altered records: each mutation has valid checksums, so that only validation can detect it."""
# ruff: noqa: E501 (one mutation a line)

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from rungwise.results.record import integrity
from rungwise.results.record.database import metric_columns
from rungwise.results.record.types import FILE

Mutation = Callable[[sqlite3.Connection], object]
DEEP = "[" * 900 + "]" * 900
DEEPER = "[" * 100_000 + "]" * 100_000


def sql(*statements: str, **values: object) -> Mutation:
    def mutate(database: sqlite3.Connection) -> None:
        for statement in statements:
            database.execute(statement, {name: value for name, value in values.items() if f":{name}" in statement})

    return mutate


def definition(**changed: Any) -> Mutation:
    """The definition with other values; None removes a key."""

    def mutate(database: sqlite3.Connection) -> None:
        (text,) = database.execute("SELECT value FROM meta WHERE key = 'definition'").fetchone()
        told = {name: value for name, value in (json.loads(text) | changed).items() if value is not None}
        database.execute("UPDATE meta SET value = ? WHERE key = 'definition'", (json.dumps(told),))

    return mutate


def meta(key: str, value: str) -> Mutation:
    return lambda database: database.execute("INSERT OR REPLACE INTO meta(key, value) VALUES (?, ?)", (key, value))


MUTATIONS: dict[str, Mutation] = {
    **{
        f"without the table {table}": sql(f"DROP TABLE {table}")
        for table in ("meta", "sessions", "trials", "reports", "scores", "checkpoints", "events")
    },
    "a view in place of a table": sql(
        "ALTER TABLE scores RENAME TO others",
        "CREATE VIEW scores AS WITH RECURSIVE n(trial) AS (SELECT 1 UNION ALL SELECT trial + 1 FROM n) "
        "SELECT trial, 'test' AS split, 'accuracy' AS metric, 0.5 AS value FROM n",
    ),
    "a trigger": sql("CREATE TRIGGER mine AFTER UPDATE ON trials BEGIN DELETE FROM reports; END"),
    "without a column": sql("ALTER TABLE trials DROP COLUMN reason"),
    "another version": sql("PRAGMA user_version = 7"),
    "an impossible version": sql("PRAGMA user_version = -2147483648"),
    "without any metric": lambda database: [
        database.execute(f'ALTER TABLE reports DROP COLUMN "{name}"') for name in metric_columns(database)
    ],
    "without the epoch": sql("ALTER TABLE reports DROP COLUMN epoch"),
    "without seconds": sql("ALTER TABLE reports DROP COLUMN seconds"),
    "no session": sql("DELETE FROM sessions"),
    "no trial": sql("DELETE FROM scores", "DELETE FROM reports", "DELETE FROM trials"),
    "no meta": sql("DELETE FROM meta WHERE key <> 'schema'"),
    # trials
    "a negative trial": sql("UPDATE reports SET trial = -5 WHERE trial = 1", "UPDATE trials SET trial = -5 WHERE trial = 1"),
    "a huge trial": sql(
        "UPDATE reports SET trial = :n WHERE trial = 1", "UPDATE trials SET trial = :n WHERE trial = 1", n=2**62
    ),
    "an arm that nobody defined": sql("UPDATE trials SET arm = 'nobody' WHERE trial = 2"),
    "an unknown state": sql("UPDATE trials SET state = 'ASLEEP' WHERE trial = 2"),
    "an unknown phase": sql("UPDATE trials SET phase = 'dream' WHERE trial = 2"),
    "a source that is not there": sql("UPDATE trials SET source = 4711 WHERE phase = 'confirm'"),
    "its own source": sql("UPDATE trials SET source = trial WHERE phase = 'confirm'"),
    "params that are no JSON": sql("UPDATE trials SET params = '{' WHERE trial = 1"),
    "params that are a list": sql("UPDATE trials SET params = '[1]' WHERE trial = 1"),
    "params that are null": sql("UPDATE trials SET params = 'null' WHERE trial = 1"),
    "params without those of the distributions": sql("UPDATE trials SET params = '{}' WHERE trial = 1"),
    "params of other types": sql("""UPDATE trials SET params = '{"lr": "fast"}' WHERE trial = 1"""),
    "params that are NaN": sql("""UPDATE trials SET params = '{"lr": NaN}' WHERE trial = 1"""),
    "params that are infinite": sql("""UPDATE trials SET params = '{"lr": -Infinity, "hidden": "128-64"}'"""),
    "params out of range": sql("""UPDATE trials SET params = '{"lr": 1e300}' WHERE trial = 1"""),
    "params that are huge": sql("UPDATE trials SET params = :json WHERE trial = 1", json=f'{{"lr": {10**40}}}'),
    "params of more digits than Python reads": sql(
        "UPDATE trials SET params = :json WHERE trial = 1", json=f'{{"lr": 1{"0" * 5000}}}'
    ),
    "params of many levels": sql("UPDATE trials SET params = :json WHERE trial = 1", json=f'{{"lr": {DEEP}}}'),
    "params that nest beyond Python": sql("UPDATE trials SET params = :json WHERE trial = 1", json=f'{{"lr": {DEEPER}}}'),
    "params that hold objects": sql("""UPDATE trials SET params = '{"lr": {"a": [1, {"b": null}]}}'"""),
    "a parameter without a name": sql("""UPDATE trials SET params = '{"": 1, "lr": 0.01}'"""),
    "a config that is a number": sql("UPDATE trials SET config = '7' WHERE trial = 1"),
    "a config of other types": sql("""UPDATE trials SET config = '{"lr": [], "seed": "x", "hidden": {"a": 1}}'"""),
    "a seed that is huge": sql(f"""UPDATE trials SET config = '{{"seed": {2**64}}}'"""),
    "a seed that is a float": sql("""UPDATE trials SET config = '{"seed": 1.5}'"""),
    "a seed that is null": sql("""UPDATE trials SET config = '{"seed": null}'"""),
    "distributions that are no JSON": sql("""UPDATE trials SET distributions = '{"lr": "{"}'"""),
    "distributions that nobody knows": sql("""UPDATE trials SET distributions = '{"lr": "{\\"name\\": \\"os.system\\"}"}'"""),
    "distributions that are numbers": sql("""UPDATE trials SET distributions = '{"lr": 3}'"""),
    "a failure that is no JSON": sql("UPDATE trials SET failure = '{'"),
    "a failure that is a list": sql("UPDATE trials SET failure = '[]'"),
    "a failure of no kind": sql("UPDATE trials SET failure = '{}'"),
    "a failure of an unknown kind": sql("""UPDATE trials SET failure = '{"kind": "BOREDOM"}'"""),
    "a failure with more to say": sql("""UPDATE trials SET failure = '{"kind": "LOST", "message": 7}'"""),
    "a constraint that is a text": sql("""UPDATE trials SET failure = '{"kind": "LOST", "constraint": "x"}'"""),
    "a constraint that is infinite": sql(
        """UPDATE trials SET failure = '{"kind": "LOST", "constraint": {"name": "x", "limit": Infinity, "value": 1}}'"""
    ),
    "a constraint in markup": sql(
        """UPDATE trials SET failure = '{"kind": "LOST", "constraint": {"name": "[/]<b>", "limit": 1, "value": 2}}'"""
    ),
    "times beyond the calendar": sql("UPDATE trials SET created = 1e300, started = 1e300, ended = 1e300"),
    "infinite times": sql("UPDATE trials SET started = 9e999, ended = -9e999"),
    "ended before it began": sql("UPDATE trials SET started = 2e9, ended = 1.0"),
    "an infinite rung": sql("UPDATE trials SET stop_rung = 9e999, cutoff = 9e999, state = 'STOPPED'"),
    "a negative rung": sql("UPDATE trials SET stop_rung = -1e300, state = 'STOPPED'"),
    "attempts below zero": sql("UPDATE trials SET attempts = -1"),
    "text that is not UTF-8": sql("UPDATE trials SET reason = CAST(x'ff00fe1b5b' AS TEXT) WHERE trial = 1"),
    "a blob as an arm": sql("UPDATE trials SET arm = x'ff00' WHERE trial = 1"),
    "a number as an arm": sql("UPDATE trials SET arm = 7.5 WHERE trial = 1"),
    "a long reason in markup": sql("UPDATE trials SET reason = :text", text="[/bold]<script>\x1b[31m" * 10_000),
    # reports
    "a report of no trial": sql("UPDATE reports SET trial = 4711 WHERE seq = 1"),
    "a step that is text": sql("UPDATE reports SET step = 'first' WHERE seq = 1"),
    "a negative step": sql("UPDATE reports SET step = -1 WHERE seq = 1"),
    "a huge step": sql("UPDATE reports SET step = :n WHERE seq = 1", n=2**62),
    "a step that is a fraction": sql("UPDATE reports SET step = 1.5 WHERE seq = 1"),
    "a metric that is text": sql("UPDATE reports SET val_accuracy = 'good' WHERE seq = 1"),
    "a metric that is a blob": sql("UPDATE reports SET val_accuracy = x'00' WHERE seq = 1"),
    "metrics that are infinite": sql("UPDATE reports SET val_accuracy = 9e999, epoch = 9e999, seconds = 9e999"),
    "metrics that are enormous": sql("UPDATE reports SET val_accuracy = 1e308, epoch = 1e308, seconds = 1e308"),
    "metrics that are NaN": sql("UPDATE reports SET val_accuracy = 'nan', epoch = 'nan', seconds = 'nan'"),
    "metrics that are null": sql("UPDATE reports SET val_accuracy = NULL, epoch = NULL, seconds = NULL"),
    "negative epochs": sql("UPDATE reports SET epoch = -3"),
    "a report of another time": sql("UPDATE reports SET at = -1e300 WHERE seq = 1"),
    "a report of no time": sql("UPDATE reports SET at = 'now' WHERE seq = 1"),
    "a rung that is text": sql("UPDATE reports SET rung = 'high' WHERE seq = 1"),
    "stopped that is text": sql("UPDATE reports SET stopped = 'yes' WHERE seq = 1"),
    "a metric with another name": sql('ALTER TABLE reports ADD COLUMN "a\x1b]0;\x07<b>" REAL'),
    "a metric in brackets": sql('ALTER TABLE reports ADD COLUMN "[/bold] %s" REAL', 'UPDATE reports SET "[/bold] %s" = 1'),
    # the other tables
    "a score of no trial": sql("UPDATE scores SET trial = trial + 4711"),
    "an infinite score": sql("UPDATE scores SET value = 9e999"),
    "an enormous score": sql("UPDATE scores SET value = 1e308 * (trial % 2)"),
    "a score of -4": sql("UPDATE scores SET value = -4"),
    "a score that is text": sql("UPDATE scores SET value = 'good'"),
    "a session that is nothing": sql("UPDATE sessions SET info = 'null', state = ''"),
    "a session of other types": sql("""UPDATE sessions SET info = '{"host": 3, "pid": "x", "command": {"a": 1}, "versions": [1]}'"""),
    "a session of huge numbers": sql(f"""UPDATE sessions SET info = '{{"pid": {2**62}}}', started = 1e300, ended = -1e300"""),
    "a session with lists": sql("""UPDATE sessions SET info = '{"pid": [], "host": [], "command": [[1]], "versions": {"a": {}}}'"""),
    "an event that is no JSON": sql("INSERT INTO events(at, kind, trial, data) VALUES (1, 'sampler', 1, 'x')"),
    "an event of a sampler without what it says": sql("INSERT INTO events(at, kind, trial, data) VALUES (1, 'sampler', 1, '{}')"),
    "an event of a sampler that says anything": sql(
        """INSERT INTO events(at, kind, trial, data) VALUES (1, 'sampler', 99, '{"arm": "x", "kept": 3, "shared": [1]}')"""
    ),
    "a checkpoint that leads elsewhere": sql("INSERT INTO checkpoints(trial, step, sha256, at) VALUES (1, -1, '../../etc', 1)"),
    # meta
    "a definition that is no JSON": meta("definition", "{'name'"),
    "a definition that is a list": meta("definition", "[]"),
    "a definition that is text": meta("definition", '"yes"'),
    "a definition that is null": meta("definition", "null"),
    "an empty definition": meta("definition", "{}"),
    "a definition of one word": meta("definition", '{"metric": "val_loss"}'),
    "a definition of many levels": definition(space={"lr": json.loads(DEEP)}),
    "a definition that nests beyond Python": meta("definition", DEEPER),
    "a mode that nobody knows": definition(mode="best"),
    "a metric that nobody reported": definition(metric="val_beauty"),
    "a metric that is a number": definition(metric=3),
    "arms that are a list": definition(arms=["no L2", "L2"]),
    "arms that are numbers": definition(arms={"no L2": 1, "L2": 2}),
    "no arms": definition(arms=None),
    "other arms": definition(arms={"a": {}, "b": {}}),
    "epochs of no number": definition(epochs="many"),
    "infinite epochs": definition(epochs=float("inf")),
    "no epochs": definition(epochs=0),
    "eta just above one": definition(eta=1.0000001, epochs=1e9),
    "many reports an epoch": definition(reports_per_epoch=1e12, grace=1e-9),
    "objectives that are a list": definition(objectives=["val_accuracy"]),
    "objectives that nobody reported": definition(objectives={"val_accuracy": "max", "beauty": "min"}),
    "data that is a list": definition(data=[1]),
    "data of negative numbers": definition(data={"test": -5, "train": -1, "classes": []}),
    "data of other types": definition(data={"digest": 7, "name": None, "source": [], "classes": {"a": 1}}),
    "a space of other types": definition(space=[1, 2]),
    "a space of odd distributions": definition(space={"lr": {"attributes": {"choices": 5}}, "x": 7, "y": '{"attributes": []}'}),
    "fixed settings that are a list": definition(fixed=[1]),
    "a question that is a list": definition(question=["a"]),
    "a name that is a path": definition(name="../../../../tmp/x", sweep="../x\x1b[31m"),
    "hyperparameters of other types": meta("hyperparameters", '{"lr": 3}'),
    "hyperparameters of odd types": meta("hyperparameters", '{"lr": {"type": ["float"], "unit": 3, "help": {}}, "x": {}}'),
    "hyperparameters that are of another type": meta("hyperparameters", '{"hidden": {"type": "int"}, "optimizer": {"type": "float"}}'),
    "a test of other types": meta("test", '{"confusion": 3, "mistakes": [1]}'),
    "a test of ragged rows": meta("test", '{"confusion": [[1], [2, 3]], "classes": ["a"]}'),
    "a test of odd mistakes": meta(
        "test", '{"confusion": [[1, 2], [3, 4]], "classes": ["a", "b"], "mistakes": [{"probability": "x", "true": -1}]}'
    ),
    "a forecast of other types": meta("forecast", '{"seconds": "x", "epochs": [1], "device_hours": {"a": 1}, "bytes": null}'),
    "a forecast of zeros": meta("forecast", '{"seconds": 0, "epochs": 0, "device_hours": 0, "money": NaN, "bytes": -1e308}'),
    "a forecast that is a list": meta("forecast", "[1, 2]"),
    "an audit of other types": meta("audit", '{"rungs": [1, {"a": 2}], "x": [[]]}'),
    "an id that is a list": meta("id", "[1]"),
    "an id with quotes": meta("id", '"a\' OR 1=1"'),
    "earlier trials of other types": meta("earlier", '{"L2": [{"state": "ASLEEP"}]}'),
    "earlier trials of another arm": meta("earlier", '{"nobody": []}'),
}  # fmt: skip


def mutate(folder: Path, mutation: Mutation) -> None:
    """Alter the record in `folder` behind its back, and seal it again."""
    integrity.RowCountFile(folder / FILE).path.unlink(missing_ok=True)
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as database:
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute("PRAGMA writable_schema = ON")  # no table is STRICT any more
        database.execute("UPDATE sqlite_master SET sql = replace(sql, ') STRICT', ')')")
        database.execute("PRAGMA writable_schema = RESET")
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as database:
        database.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        mutation(database)
        database.create_function("row_sum", -1, integrity.row_sum, deterministic=True)
        names = integrity.tables(database)
        if "meta" in names:
            database.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (integrity.schema(database),))
        for table in names:
            columns = ", ".join(integrity._columns(database, table))
            with suppress(sqlite3.OperationalError):  # text that no function can be given
                database.execute(f"UPDATE {table} SET checksum = row_sum({columns})")
