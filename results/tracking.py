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
_SECRET = re.compile(r"(?i)([?&;](?:password|pwd|token|secret|access_token|api_key)=)[^&;#\s]*")
_CREDENTIALS = re.compile(r"(?<=://)[^\s/?#'\"]*@")


def tracking_uri(run: Path, asked: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """The URI that is meant: `asked`, else the environment's, else the SQLite file `mlflow.db` beside the run."""
    named = asked or next((environment[name] for name in VARIABLES if environment.get(name)), None)
    return named or f"sqlite:///{run.absolute().parent / 'mlflow.db'}"


def valid_uri(uri: str) -> str | None:
    """What is wrong with a tracking URI, in one line without its password; None when MLflow will understand it."""
    shown = redacted(uri)
    if uri == "databricks":
        return None
    try:
        parts = urlsplit(uri)
        host = parts.hostname
    except ValueError as error:
        return f"a tracking URI must be well formed, but got {shown!r} ({error})"
    scheme = parts.scheme.lower()
    if scheme in ("http", "https"):
        return None if host else f"an http tracking URI must name a host, but got {shown!r}"
    if scheme == "databricks":
        return None
    if scheme == "sqlite":
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
    if not path.absolute().parent.is_dir():
        return f"the folder of {uri} must exist, but {path.absolute().parent} does not"
    return None


def sqlite_path(uri: str) -> Path | None:
    """The file of a sqlite:/// URI; None for every other URI."""
    path = uri.removeprefix("sqlite:///").partition("?")[0]
    return Path(path) if uri.startswith("sqlite:///") and path else None


def redacted(uri: str) -> str:
    """`uri`, or a text with URIs in it, fit for logs and messages: user names, passwords and tokens become ***."""
    return _SECRET.sub(r"\1***", _CREDENTIALS.sub("***@", uri))


def without_secrets(text: str, uri: str) -> str:
    """`text` without the password of `uri`, wherever and however a driver's message repeats it."""
    text = redacted(text.replace(uri, redacted(uri)))
    try:
        password = urlsplit(uri).password
    except ValueError:
        password = None
    for secret in {password, unquote(password)} if password else ():
        text = text.replace(secret, "***")
    return text
