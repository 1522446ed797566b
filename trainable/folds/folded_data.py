"""Samples that are divided anew for each search and fold: `FoldedDataset`, read by `load_folded`.

    data = load_folded(DataSource("wine"), 5)
    data.fold(search=1, number=2)    # a Dataset: trains on four fifths of what search 1 may see, validates on the rest
    data.whole(search=1)             # trains on all of it; with the search's test part

All that is fitted to samples (medians, categories, means) is fitted to the training part of each. No torch here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from rungwise.trainable.data import memory, sources
from rungwise.trainable.data.data_source import DataSource
from rungwise.trainable.data.dataset import (
    SPLIT_SEED,
    Dataset,
    Description,
    assemble,
    is_regression,
    name_classes,
    problems,
)
from rungwise.trainable.data.raw import Array, DataError
from rungwise.trainable.data.samples import (
    as_they_are,
    checked,
    kind_of,
    note_of_whole_numbers,
    require_one_shape,
)
from rungwise.trainable.data.table import split
from rungwise.trainable.data.table.encoder import TableEncoder
from rungwise.trainable.data.table.table_data import encoder_notes
from rungwise.trainable.data.table.typed_table import TypedTable, read_typed
from rungwise.trainable.folds.assignment import FoldPlan
from rungwise.trainable.training.loop_functions import NO_FUNCTIONS, LoopFunctions


@dataclass(frozen=True)
class FoldedDataset:
    """Samples in memory, and how they are divided.

    Args:
        about: What they are.
        x: (N, ...) samples; of a table its columns, which each training part encodes.
        y: (N,) labels 0..K-1 int64, or targets float32.
        plan: The division.
        functions: Of the user's, by which the loop learns from it.
    """

    about: Description
    x: Array | TypedTable
    y: Array
    plan: FoldPlan
    functions: LoopFunctions = NO_FUNCTIONS

    def fold(self, search: int, number: int, seed: int | None = None) -> Dataset:
        """The data of one fold, without test samples.

        Args:
            search: From 1.
            number: Of the fold that is validated on, from 1.
            seed: As for `FoldPlan.folds_of`.
        """
        folds = self.plan.folds_of(search, seed)
        outside = (folds >= 0) & (folds != number - 1)
        return self._dataset(np.flatnonzero(outside), np.flatnonzero(folds == number - 1))

    def whole(self, search: int) -> Dataset:
        """What the model of a search trains on, all but its test samples, and these.

        There is no validation split: the training samples stand in its place, and their scores mean nothing.
        """
        is_test = self.plan.is_test(search)
        train = np.flatnonzero(~is_test)
        return self._dataset(train, train, np.flatnonzero(is_test))

    @property
    def nbytes(self) -> int:
        """Bytes in memory, of text about."""
        arrays = self.x.columns.values() if isinstance(self.x, TypedTable) else [self.x]
        return int(self.y.nbytes + sum(8 * array.nbytes if array.dtype == object else array.nbytes for array in arrays))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of samples, labels and division, in hex."""
        return hashlib.sha256(f"{self.plan.folds} folds of {self.whole(1).digest}".encode()).hexdigest()

    def _dataset(self, *parts: Array) -> Dataset:
        """The dataset of these rows (indices): training, validation and, where there is one, test."""
        encoder: TableEncoder | None = None
        if isinstance(self.x, TypedTable):
            encoder = self.x.fit(parts[0])
            samples = [
                encoder.encode({name: column[rows] for name, column in self.x.columns.items()}) for rows in parts
            ]
        else:
            samples = [self.x[rows] for rows in parts]
        accepted = checked if self.about.is_standardised else as_they_are
        kind = "targets" if self.y.dtype == np.float32 else "classes"
        pairs = zip(samples, parts, strict=True)
        splits = [accepted(self.about.name, (x, self.y[rows]), kind) for x, rows in pairs]
        return replace(assemble(splits, self.about, encoder), functions=self.functions)


def load_folded(source: DataSource, folds: int) -> FoldedDataset:
    """Read samples to be divided into folds. A test split of their own stays one; a validation split does not.

    Args:
        source: Where they are, and how they are read.
        folds: How many, 2 or more.

    Raises:
        DataError: For anything that cannot be used.
    """
    if wrong := problems(source):
        raise DataError(wrong[0])
    if source.columns.time:
        raise DataError(
            "--folds validates on samples of any time, with models trained on later ones, which --time is to prevent: "
            "leave out one of them"
        )
    data = _of_table(source, folds) if sources.is_table(source) else _of_arrays(source, folds)
    data.plan.require(source.name, data.about.classes)
    example = data.fold(1, 1)
    if wrong_size := memory.problem(source.name, data.nbytes + 2 * example.nbytes):
        raise DataError(wrong_size)
    notes = [*data.about.notes, *(encoder_notes(example.encoder) if example.encoder else [])]
    return replace(data, about=replace(data.about, notes=tuple(notes)))


def _of_table(source: DataSource, folds: int) -> FoldedDataset:
    typed = read_typed(Path(source.name), source.columns)
    pair = np.zeros((len(typed.y), 1)), typed.y
    y = checked(source.name, pair, "classes" if typed.classes else "targets").y
    about = Description(source.name, typed.classes, typed.source, False, typed.notes, is_standardised=True)
    given = None if typed.given is None else typed.given == split.TEST
    groups = None if typed.groups is None else np.unique(typed.groups, return_inverse=True)[1]
    return FoldedDataset(about, typed, y, FoldPlan(folds, _strata(y), groups, given))


def _of_arrays(source: DataSource, folds: int) -> FoldedDataset:
    name, raw = source.name, sources.read(source, SPLIT_SEED)
    pairs = [part for part in (raw.train, raw.validation, raw.test) if part is not None]
    kind, notes = kind_of(raw, [y for _, y in pairs])
    accepted = checked if source.is_standardised else as_they_are
    parts = [accepted(name, part, kind) for part in pairs]
    require_one_shape(name, parts)
    classes = raw.classes
    if not is_regression(parts):
        parts, classes = name_classes(name, parts, raw.classes)
    x, y = _joined([part.x for part in parts]), _joined([part.y for part in parts])
    notes += note_of_whole_numbers(x) if source.is_standardised else []
    if not source.is_standardised:
        notes.append(f"samples are {x.dtype} {x.shape[1:]} and go to the model as they are")
    about = Description(name, classes, raw.source, raw.pictures, (*raw.notes, *notes), source.is_standardised)
    given = None if raw.test is None else np.arange(len(y)) >= len(y) - len(parts[-1])
    return FoldedDataset(about, x, y, FoldPlan(folds, _strata(y), given_test=given))


def _joined(arrays: Sequence[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _strata(y: Array) -> Array:
    """The classes; of a regression none."""
    return y if y.dtype != np.float32 else np.zeros(len(y), np.int64)
