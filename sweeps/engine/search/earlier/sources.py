"""What `--warm-start` names: which tool's trials lie there."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from rungwise.engine.search.earlier import mlflow_experiment, optuna_study, table
from rungwise.engine.search.earlier.trial import Source, WarmStartError
from rungwise.results.exporters.tracking_uri import sqlite_path, sqlite_uri
from rungwise.results.io.redaction import redacted_uri, remember
from rungwise.results.record.types import FILE

_MLFLOW = "mlflow:"
_WAYS = (
    "the folder of a run, a .csv, .tsv or .parquet file, an Optuna storage (sqlite:///study.db::NAME, a journal file) "
    "or an MLflow experiment (mlflow:NAME, URI::NAME)"
)


def is_run(text: str | Path) -> bool:
    """Whether it is the folder of a run, or can be nothing else."""
    return isinstance(text, Path) or (Path(text) / FILE).exists() or Path(text).is_dir()


def read(text: str, objectives: Mapping[str, str], tracking_uri: str) -> Source:
    """The trials that lie at a place that is no run's folder.

    Args:
        text: As the user named it.
        objectives: {metric: max or min} of this sweep.
        tracking_uri: Of the sweep, where `mlflow:NAME` is looked for.

    Raises:
        WarmStartError: There is nothing that can be read.
    """
    if text.startswith(_MLFLOW):
        return mlflow_experiment.read(tracking_uri, text.removeprefix(_MLFLOW))
    where, double, after = text.rpartition("::")
    place, name = (where, after) if double else (text, None)
    remember(place)
    if "://" in place and sqlite_path(place) is None:
        if place.startswith(("http://", "https://", "databricks")):
            return mlflow_experiment.read(place, name)
        return optuna_study.read(place, name, objectives)
    path = sqlite_path(place) or Path(place)
    if not path.is_file():
        raise WarmStartError(f"--warm-start takes {_WAYS}, but {redacted_uri(place)} is none that exists")
    if path.suffix.lower() in table.SUFFIXES:
        return table.read(path, objectives)
    with path.open("rb") as file:
        start = file.read(16)
    if start != b"SQLite format 3\0":
        if b"{" not in start:
            raise WarmStartError(f"--warm-start takes {_WAYS}, but {path} is a file of another kind")
        return optuna_study.read(path, name, objectives)
    tables = _tables(path)
    uri = place if "://" in place else sqlite_uri(path)
    if "studies" in tables:
        return optuna_study.read(uri, name, objectives)
    if "experiments" in tables:
        return mlflow_experiment.read(uri, name)
    raise WarmStartError(f"--warm-start: {path} is neither an Optuna storage nor an MLflow store")


def _tables(path: Path) -> set[str]:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        raise WarmStartError(f"--warm-start: {path} cannot be read: {error}") from None
