"""The rows of a table converted to a model's input, as the table was that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rungwise.errors import RungwiseError
from rungwise.trainable.data.raw import DataError
from rungwise.trainable.data.table.encoder import TableEncoder
from rungwise.trainable.data.table.table_data import read_rows


class TableError(RungwiseError, ValueError):
    """A file cannot be used as a table; the message names it."""

    code = 2


def is_of_tables(described: Mapping[str, Any]) -> bool:
    """Whether a model with this config.json was trained on a table whose columns it knows."""
    return described.get("table") is not None


def read(path: Path, described: Mapping[str, Any]) -> tuple[NDArray[np.float64], list[str]]:
    """The rows of a CSV, TSV, Parquet or Arrow file for a model with this config.json: float64 (N, F), and notes.

    Raises:
        TableError: for a file that cannot be read, or lacks a column that the model was trained on.
    """
    try:
        return read_rows(path, TableEncoder.from_json(described["table"]))
    except DataError as error:
        raise TableError(str(error)) from error
