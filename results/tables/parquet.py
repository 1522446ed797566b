"""`trials.parquet`, `reports.parquet` and `answer.parquet` of a run: zstd, page checksums, units in the metadata.

A file is whole or absent: it is written under a temporary name, fsynced and renamed. The same record gives the same
bytes. Parquet readers check no checksum unless asked: use `read()`, or ask (`page_checksum_verification=True`).
"""

from __future__ import annotations

import shlex
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
ANSWER = "answer.parquet"
FILES = (TRIALS, REPORTS, ANSWER)


class ParquetError(RungwiseError, RuntimeError):
    """A table cannot be written or read; the message names the file and the way out."""


def export(run: Path) -> None:
    """Write the tables into the run's folder. Raises RecordError without a whole record, ParquetError without room."""
    with Reader(run) as reader:
        made = tables(reader)
    for name, table in made.by_name.items():
        _write(table, run / f"{name}.parquet")


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


def _write(table: pa.Table, path: Path) -> None:
    try:
        with replacing(path) as file:
            _encode(table, file)
    except OSError as error:
        raise ParquetError(f"{path} must be writable, but {error}; the record is untouched: export it again") from error


def _encode(table: pa.Table, file: IO[bytes]) -> None:
    pq.write_table(table, file, compression="zstd", write_page_checksum=True, row_group_size=262_144, version="2.6")
