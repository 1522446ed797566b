"""SQL over a run's tables, by DuckDB: nothing is copied, nothing is downloaded, and pages are checked when read.

A query sees the tables and nothing else: DuckDB could read and write any file and load code, which a query that was
copied from somewhere need not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from rungwise.errors import RungwiseError
from rungwise.results.tables import parquet

KEYS = (b"unit", b"description")  # of a column's metadata


class SqlError(RungwiseError, ValueError):
    """The query cannot be answered; DuckDB's words."""


def query(folder: Path, text: str, *, external: bool = False) -> pa.Table:
    """Ask the run's Parquet files, the tables `trials` and `reports`; exported first when they are not there.

    Raises as `run` does, ParquetError for a damaged file, RecordError without a record.
    """
    if not all((folder / name).exists() for name in (parquet.TRIALS, parquet.REPORTS)):
        parquet.export(folder)
    tables = {Path(name).stem: parquet.read(folder / name) for name in (parquet.TRIALS, parquet.REPORTS)}
    return run(text, tables, external=external)


def columns(folder: Path) -> pa.Table:
    """The columns of the run's tables: table, column, type, unit, description. Raises as `query` does."""
    if not all((folder / name).exists() for name in (parquet.TRIALS, parquet.REPORTS)):
        parquet.export(folder)
    rows = [
        (Path(name).stem, field.name, str(field.type), *((field.metadata or {}).get(key, b"").decode() for key in KEYS))
        for name in (parquet.TRIALS, parquet.REPORTS)
        for field in parquet.read(folder / name).schema
    ]
    return pa.table(dict(zip(("table", "column", "type", "unit", "description"), zip(*rows, strict=True), strict=True)))


def run(text: str, tables: Mapping[str, pa.Table], *, external: bool = False) -> pa.Table:
    """Ask tables in memory. `external`: the query may use files, other databases and extensions, too.

    Raises SqlError.
    """
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET autoinstall_known_extensions = false; SET TimeZone = 'UTC'")
        for name, table in tables.items():
            connection.register(name, table)
        if not external:
            connection.execute("SET autoload_known_extensions = false; SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
        try:
            relation = connection.sql(text)
            return pa.table({}) if relation is None else relation.to_arrow_table()
        except duckdb.PermissionException as error:
            line = str(error).splitlines()[0].removeprefix("Permission Error: ")
            raise SqlError(f"{line}; a query sees the run's tables only, unless you --allow-external") from error
        except (duckdb.Error, pa.ArrowException) as error:
            raise SqlError(str(error).strip()) from error
