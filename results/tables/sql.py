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
    """The query cannot be answered; DuckDB's words, or that it is not installed."""


def query(folder: Path, text: str, *, external: bool = False) -> pa.Table:
    """Ask the run's Parquet files, the tables `trials`, `reports` and `answer`; exported first when they are not there.

    Raises as `run` does, ParquetError for a damaged file, RecordError without a record.
    """
    return run(text, _read(folder), external=external)


def columns(folder: Path) -> pa.Table:
    """The columns of the run's tables: table, column, type, unit, description. Raises as `query` does."""
    rows = [
        (name, field.name, str(field.type), *((field.metadata or {}).get(key, b"").decode() for key in KEYS))
        for name, table in _read(folder).items()
        for field in table.schema
    ]
    return pa.table(dict(zip(("table", "column", "type", "unit", "description"), zip(*rows, strict=True), strict=True)))


def _read(folder: Path) -> dict[str, pa.Table]:
    if not all((folder / name).exists() for name in parquet.FILES):
        parquet.export(folder)
    return {Path(name).stem: parquet.read(folder / name) for name in parquet.FILES}


def run(text: str, tables: Mapping[str, pa.Table], *, external: bool = False) -> pa.Table:
    """Ask tables in memory. `external`: the query may use files, other databases and extensions, too.

    Raises SqlError.
    """
    try:
        import duckdb
    except ModuleNotFoundError:
        raise SqlError("DuckDB must be installed: pip install 'rungwise[sql]'") from None

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
        except duckdb.CatalogException as error:  # its "did you mean" names tables of DuckDB's own
            line = str(error).splitlines()[0].removeprefix("Catalog Error: ")
            known = f" The tables are {', '.join(tables)}." if line.startswith("Table with name") else ""
            raise SqlError(f"{line}{known}") from error
        except (duckdb.Error, pa.ArrowException) as error:
            raise SqlError(str(error).strip()) from error
