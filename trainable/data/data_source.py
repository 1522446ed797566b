"""Where the data of a sweep is, and how it is read: `DataSource`. Light, as the command line imports it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rungwise.trainable.data.table.columns import NO_COLUMNS, Columns

STANDARDISE = "standardise"
PREPROCESSING = (STANDARDISE, "none")
DEFAULT_ROOT = Path("~/.cache/rungwise/data")


@dataclass(frozen=True)
class DataSource:
    """What flags and script say of the data; `dataset.load` takes it.

    Args:
        name: One of `dataset.DATASETS`, or the path of a table, of an `.npz` file, or of a folder of images.
        columns: What the columns of a table are for.
        preprocess: "standardise", or "none": samples go to a model of your own as they are.
        root: Where torchvision's datasets are, or go when they must be downloaded.
    """

    name: str = "mnist"
    columns: Columns = NO_COLUMNS
    preprocess: str = STANDARDISE
    root: Path = DEFAULT_ROOT

    @property
    def is_standardised(self) -> bool:
        """Whether samples are checked and scaled; else they are left as they are."""
        return self.preprocess == STANDARDISE
