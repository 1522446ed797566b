"""`trials.parquet` and `reports.parquet` of a run: zstd, page checksums, units in the metadata.

A file is whole or absent: it is written under a temporary name, fsynced and renamed. The same record gives the same
bytes. Parquet readers check no checksum unless asked: use `read()`, or ask (`page_checksum_verification=True`).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from rungwise.errors import RungwiseError
from rungwise.files import replacing
from rungwise.results.record.reader import Reader
from rungwise.results.tables.tables import tables

TRIALS = "trials.parquet"
REPORTS = "reports.parquet"


class ParquetError(RungwiseError, RuntimeError):
    """A table cannot be written or read; the message names the file and the way out."""


def export(run: Path) -> None:
    """Write both tables into the run's folder. Raises RecordError without a whole record, ParquetError without room."""
    with Reader(run) as reader:
        both = tables(reader)
    for name, table in ((TRIALS, both.trials), (REPORTS, both.reports)):
        _write(table, run / name)


def content(table: pa.Table) -> bytes:
    """What the table's file holds: the same table gives the same bytes."""
    file = BytesIO()
    _encode(table, file)
    return file.getvalue()


def read(path: Path) -> pa.Table:
    """One table, its page checksums verified. Raises ParquetError when the file is not whole."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read()
    except (OSError, pa.ArrowException) as error:
        raise ParquetError(
            f"{path} must be a whole Parquet file, but {error}; make it again: "
            f"rungwise export {shlex.quote(str(path.parent))}"
        ) from error


def read_many(paths: Iterable[Path]) -> pa.Table:
    """The rows of several runs, a column `run` first. A column that some runs lack is NULL there, never lost.

    Raises ParquetError when one file is not whole, or when a column's types cannot be reconciled.
    """
    parts = []
    for path in paths:
        table = read(path)
        name = (table.schema.metadata or {}).get(b"rungwise.run", path.parent.name.encode()).decode()
        run = pa.field("run", pa.string(), metadata={"unit": "", "description": "name of the run"})
        table = table.replace_schema_metadata(None)
        parts.append(table.add_column(0, run, pa.array([name] * len(table), pa.string())))
    try:
        return pa.concat_tables(parts, promote_options="permissive")
    except pa.ArrowException as error:
        raise ParquetError(f"a column must have one type in all runs, but {error}") from error


def _write(table: pa.Table, path: Path) -> None:
    try:
        with replacing(path) as file:
            _encode(table, file)
    except OSError as error:
        raise ParquetError(f"{path} must be writable, but {error}; the record is untouched: export it again") from error


def _encode(table: pa.Table, file: IO[bytes]) -> None:
    pq.write_table(table, file, compression="zstd", write_page_checksum=True, row_group_size=262_144, version="2.6")
