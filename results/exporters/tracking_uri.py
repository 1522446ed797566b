"""Where MLflow keeps the runs: which tracking URIs are valid, which one is meant, and how to show one.

Cheap on purpose (no MLflow import): a sweep checks its tracking URI before it starts.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rungwise.results.io.redaction import redacted_uri, remember, without_secrets

DATABASE = "mlflow.db"  # beside the runs
VARIABLES = ("RUNGWISE_TRACKING_URI", "MLFLOW_TRACKING_URI")  # the first one that is set is taken
# SQL dialect[+driver] -> (module of the driver, what to install)
_DRIVERS = {
    "postgresql": ("psycopg2", "psycopg2-binary"),
    "postgresql+psycopg2": ("psycopg2", "psycopg2-binary"),
    "postgresql+psycopg": ("psycopg", "psycopg[binary]"),
    "mysql": ("MySQLdb", "mysqlclient"),
    "mysql+mysqldb": ("MySQLdb", "mysqlclient"),
    "mysql+pymysql": ("pymysql", "pymysql"),
    "mssql": ("pyodbc", "pyodbc"),
    "mssql+pyodbc": ("pyodbc", "pyodbc"),
    "mssql+pymssql": ("pymssql", "pymssql"),
}
_VALID = "sqlite:///FILE, http(s)://HOST, postgresql://, mysql://, mssql:// or databricks"


def tracking_uri(run: Path, asked: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """The URI that is meant: `asked`, else the environment's, else the SQLite file `mlflow.db` beside the run."""
    named = asked or next((environment[name] for name in VARIABLES if environment.get(name)), None)
    remember(named)
    return named or sqlite_uri(run.absolute().parent / DATABASE)


def valid_uri(uri: str) -> str | None:
    """What is wrong with a tracking URI, in one line without its password; None when MLflow will understand it."""
    shown = redacted_uri(uri)
    scheme = uri.partition("://")[0].lower() if "://" in uri else ""
    if uri == "databricks" or scheme == "databricks":
        return None
    if scheme in ("http", "https"):
        try:
            host = urlsplit(uri).hostname
        except ValueError as error:
            why = without_secrets(str(error), uri)
            return f"a tracking URI must be well formed, but got {shown!r} ({why})"
        return None if host else f"an http tracking URI must name a host, but got {shown!r}"
    if scheme in ("sqlite", "sqlite+pysqlite"):
        return _sqlite_problem(uri)
    if scheme in _DRIVERS:
        module, package = _DRIVERS[scheme]
        if importlib.util.find_spec(module) is None:
            return f"{scheme}:// needs the driver {module}, which is not installed: pip install '{package}'"
        return None
    if scheme in ("", "file"):
        return f"MLflow keeps no runs in plain folders any more: use {_VALID}, but got {shown!r}"
    return f"a tracking URI must be {_VALID}, but got {shown!r}"


def _sqlite_problem(uri: str) -> str | None:
    path = sqlite_path(uri)
    if path is None:
        return f"a SQLite tracking URI must be sqlite:///FILE with three slashes, but got {uri!r}"
    if strange := [word for word in filter(None, uri.partition("?")[2].split("&")) if not re.match(r"\w+=", word)]:
        return f"a file's name must have %3F for '?' in a SQLite tracking URI, but got ?{strange[0]} in {uri!r}"
    if not path.absolute().parent.is_dir():
        return f"the folder of {uri} must exist, but {path.absolute().parent} does not"
    return None


def sqlite_path(uri: str) -> Path | None:
    """The file of a sqlite:/// URI, as SQLAlchemy reads it; None for every other URI."""
    match = re.fullmatch(r"(?s)sqlite(?:\+pysqlite)?:///([^?]+)(?:\?.*)?", uri)
    return Path(unquote(match[1])) if match else None


def sqlite_uri(path: Path) -> str:
    """The URI of a SQLite file, of whatever name, for SQLAlchemy and so for MLflow and Optuna.

    A path with odd characters gets `sqlite+pysqlite:///`, which means the same: MLflow 3.17 makes the parent folder of
    what follows `sqlite:///`, percent signs and all.
    """
    if re.fullmatch(r"(?a)[\w./ ~+@:,=-]*", str(path)):
        return f"sqlite:///{path}"
    from sqlalchemy import URL

    return URL.create("sqlite+pysqlite", database=str(path)).render_as_string()
