"""The record as three Arrow tables: `trials`, one row per trial, `reports`, one row per report, and `answer`, one row
for each score that the answer is made of.

A column's name fixes its type for good: metrics are float64, a hyperparameter's type is its field's, and a new
hyperparameter is a new column. NaN and infinities are values that were reported; NULL says that nothing was.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

import pyarrow as pa

from rungwise.results.analysis.answer import Answer, answer
from rungwise.results.io.garbage import rare_collections
from rungwise.results.record.database import FORMAT
from rungwise.results.record.definition import Definition
from rungwise.results.record.reader import Reader
from rungwise.results.tables.answers import answer_table
from rungwise.results.tables.schema import (
    METRICS,
    REPORT_FIELDS,
    UTC,
    column_of,
    metric_about,
    schema_field,
    timestamps,
)
from rungwise.results.tables.trials import trials_table

_CHUNK = 1024  # rows turned into columns at a time: their objects stay in the cache, 25 % faster than 65536


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of one consistent state of the record."""

    trials: pa.Table
    reports: pa.Table
    answer: pa.Table

    @property
    def by_name(self) -> dict[str, pa.Table]:
        """{table: its rows}, by the names that SQL and the Parquet files use."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def tables(reader: Reader, found: Answer | None = None) -> Tables:
    """Read the record once and turn it into its tables, ordered by their keys. `found`: its answer, if it is known."""
    with reader.snapshot(), rare_collections():
        definition = reader.definition()
        described = reader.meta("hyperparameters") or {}
        trials = reader.trials()
        reports = _reports_table(reader, definition)
        scores, found, superseded = reader.scores("test"), found or answer(reader), reader.superseded()
        version = _version(reader)
    about = {
        b"rungwise.run": definition.name.encode(),
        b"rungwise.format": str(FORMAT).encode(),
        b"rungwise.definition": json.dumps(definition.to_json()).encode(),
        b"rungwise.version": version.encode(),
    }
    with reader.refusing():
        summary = trials_table(trials, reports, definition, described, scores, superseded)
    return Tables(
        summary.replace_schema_metadata(about),
        reports.replace_schema_metadata(about),
        answer_table(found).replace_schema_metadata(about | {b"rungwise.sentence": found.sentence.encode()}),
    )


def _version(reader: Reader) -> str:
    """The version of Rungwise that drove the run last."""
    sessions = reader.sessions()
    versions = sessions[-1].info.get("versions") if sessions else None
    return str(versions.get("rungwise", "unknown")) if isinstance(versions, dict) else "unknown"


def _reports_table(reader: Reader, definition: Definition) -> pa.Table:
    """One row a report, in the order of trial, attempt and step."""
    names, chunks = reader.report_chunks(_CHUNK)
    integers = {"seq", "trial", "attempt", "step", "stopped"}
    raw = {name: pa.int64() if name in integers else pa.float64() for name in names}  # what SQLite holds
    columns: dict[str, list[pa.Array]] = {name: [] for name in names}
    for rows in chunks:
        for name, values in zip(names, zip(*rows, strict=True), strict=True):
            columns[name].append(column_of(values, raw[name]))
    order = ["trial", "attempt", "step", *METRICS]
    order += [name for name in names if name not in order and name not in REPORT_FIELDS]
    order += ["at", "rung", "cutoff", "stopped", "seq"]
    schema = pa.schema([_report_field(name, definition) for name in order])
    length = sum(map(len, columns["seq"]))
    arrays = []
    for field in schema:
        if field.name in columns:
            column = pa.chunked_array(columns.pop(field.name), raw[field.name]).combine_chunks()
            arrays.append(timestamps(column) if field.type == UTC else column.cast(field.type))
        else:
            arrays.append(pa.nulls(length, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _report_field(name: str, definition: Definition) -> pa.Field:
    if name in REPORT_FIELDS:
        return schema_field(name, *REPORT_FIELDS[name])
    return schema_field(name, pa.float64(), *metric_about(name, definition))
