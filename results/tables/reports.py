"""The table `reports`: one row a report, in the order of trial, attempt and step."""

from __future__ import annotations

import pyarrow as pa

from rungwise.results.record.definition import Definition
from rungwise.results.record.reader import Reader
from rungwise.results.tables.schema import (
    METRICS,
    REPORT_FIELDS,
    UTC,
    column_of,
    metric_about,
    schema_field,
    timestamps,
)

_CHUNK = 1024  # rows turned into columns at a time: their objects stay in the cache, 25 % faster than 65536


def reports_table(reader: Reader, definition: Definition) -> pa.Table:
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
