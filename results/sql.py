"""SQL over a run's tables, by DuckDB: nothing is copied, nothing is downloaded, and pages are checked when read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from results import parquet


class SqlError(ValueError):
    """The query cannot be answered; DuckDB's words."""


def query(folder: Path, text: str) -> pa.Table:
    """Ask the run's Parquet files, the tables `trials` and `reports`; exported first when they are not there.

    Raises SqlError, ParquetError for a damaged file, RecordError without a record.
    """
    if not all((folder / name).exists() for name in (parquet.TRIALS, parquet.REPORTS)):
        parquet.export(folder)
    return run(text, {Path(name).stem: parquet.read(folder / name) for name in (parquet.TRIALS, parquet.REPORTS)})


def run(text: str, known: Mapping[str, pa.Table]) -> pa.Table:
    """Ask tables in memory. Raises SqlError."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET autoinstall_known_extensions = false; SET TimeZone = 'UTC'")
        for name, table in known.items():
            connection.register(name, table)
        try:
            relation = connection.sql(text)
            return pa.table({}) if relation is None else relation.to_arrow_table()
        except (duckdb.Error, pa.ArrowException) as error:
            raise SqlError(str(error).strip()) from error
