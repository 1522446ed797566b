"""Trials of a table: CSV, TSV or Parquet with a column for each hyperparameter and for the metric.

Columns are known by their names as they are, and as Optuna (`params_lr`, `value`), MLflow (`params.lr`,
`metrics.val_accuracy`) and Ray Tune (`config/lr`) write them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rungwise.engine.search.earlier.trial import EarlierTrial, Source, WarmStartError
from rungwise.text import unknown

SUFFIXES = (".csv", ".tsv", ".parquet")
_PARAMS = ("params_", "params.", "config/", "config.")
_METRICS = ("", "metrics.", "values_")
_STATES = ("state", "status", "State", "Status")
_ENDED = ("COMPLETE", "COMPLETED", "FINISHED", "TERMINATED")
_OURS = {"trial", "number", "arm", "search", "phase", "source", "state", "status"}  # columns that are no parameter


def read(path: Path, objectives: Mapping[str, str]) -> Source:
    """The trials of a table, one in each row.

    Args:
        path: The file.
        objectives: {metric: max or min} of this sweep.

    Raises:
        WarmStartError: It cannot be read, or has no column of an objective.
    """
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        if path.suffix.lower() == ".parquet":
            table = parquet.read_table(path)
        else:
            with path.open(encoding="utf-8-sig") as file:
                header = file.readline()
            separator = "\t" if path.suffix.lower() == ".tsv" else ";" if header.count(";") > header.count(",") else ","
            table = csv.read_csv(
                path,
                parse_options=csv.ParseOptions(delimiter=separator),
                convert_options=csv.ConvertOptions(decimal_point="," if separator == ";" else "."),
            )
    except (pa.ArrowException, OSError, ValueError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise WarmStartError(f"--warm-start: {path} cannot be read as a table of trials: {line}") from None
    columns = [name.removeprefix("\ufeff") for name in table.column_names]
    if twice := next((name for name in columns if columns.count(name) > 1), None):
        raise WarmStartError(f"--warm-start {path}: the names of columns must differ, but two are {twice!r}")
    metrics = {metric: _metric_column(metric, list(objectives), columns, path) for metric in objectives}
    state = next((name for name in _STATES if name in columns), None)
    taken = {*metrics.values(), state}
    params = {column: _param_name(column) for column in columns if column not in taken and column not in _OURS}
    prefixed = any(name != column for column, name in params.items())
    kept = {column: name for column, name in params.items() if not prefixed or name != column}
    rows = table.rename_columns(columns).to_pylist()
    return Source(str(path), [_trial(row, kept, metrics, state) for row in rows])


def _metric_column(metric: str, objectives: list[str], columns: list[str], path: Path) -> str:
    names = [f"{prefix}{metric}" for prefix in _METRICS]
    names += ["value"] if len(objectives) == 1 else [f"values_{objectives.index(metric)}"]
    found = next((name for name in names if name in columns), None)
    if found is None:
        raise WarmStartError(f"--warm-start {path}: {unknown('column of the metric', metric, columns)}")
    return found


def _param_name(column: str) -> str:
    prefix = next((prefix for prefix in _PARAMS if column.startswith(prefix)), "")
    return column.removeprefix(prefix)


def _trial(
    row: Mapping[str, Any], params: Mapping[str, str], metrics: Mapping[str, str], state: str | None
) -> EarlierTrial:
    left_out = None
    if state and row[state] is not None and str(row[state]).upper() not in _ENDED:
        left_out = f"its {state} is {row[state]}"
    elif row.get("phase") not in (None, "search"):
        left_out = f"it is of the phase {row['phase']}, not of a search"
    values = {metric: _float(row[column]) for metric, column in metrics.items()}
    known = {name: row[column] for column, name in params.items() if row[column] is not None}
    return EarlierTrial(known, values, left_out)


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
