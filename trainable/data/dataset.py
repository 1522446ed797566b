"""A dataset in memory: arrays with a fixed split and the statistics of its training part.

    dataset = load("mnist").without_test()    # what a search is given

Where samples come from is `sources.py`; a process that trains puts them on its device (`tensors.py`). No torch here:
the driver loads data, and never imports it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from rungwise.text import significant, unknown
from rungwise.trainable.data import memory, sources
from rungwise.trainable.data.data_source import PREPROCESSING, DataSource
from rungwise.trainable.data.image_folder import DIM
from rungwise.trainable.data.published import NAMES, SKLEARN, TORCHVISION
from rungwise.trainable.data.raw import MOST_CLASSES, Array, DataError
from rungwise.trainable.data.samples import (
    Split,
    as_they_are,
    checked,
    in_float32,
    kind_of,
    note_of_whole_numbers,
    require_one_shape,
)
from rungwise.trainable.data.table.split import FEWEST, SHARE, random_ranks
from rungwise.trainable.training.loop_functions import NO_FUNCTIONS, LoopFunctions

if TYPE_CHECKING:
    from rungwise.trainable.data.table.encoder import TableEncoder

__all__ = ["DATASETS", "DataError", "Dataset", "Split", "load", "problems"]

DATASETS: tuple[str, ...] = NAMES
SMALL = ("digits", *SKLEARN)  # read in no time

# Every split without a publisher's own is drawn from this seed. Changing it changes every published number.
SPLIT_SEED = 20_210_511
VALIDATION_OF_PUBLISHED = 1 / 6  # 10,000 of MNIST's 60,000
VALIDATION_OF_DIGITS = 0.2
VALIDATION_OF_FILE = SHARE
FEW_OF_A_CLASS = 4  # samples on average
UNEVEN = 1.5  # times as many samples in the commonest class as in the rarest are worth a note


@dataclass(frozen=True)
class Dataset:
    """A split dataset. `mean` and `std` are the training split's, per channel (0..255) or per column; 0 and 1 where
    columns are not scaled (`TableEncoder.scaled`); empty where samples go to the model as they are.

    A regression has no classes; `target` is the mean and standard deviation of the training split's targets.
    """

    name: str
    train: Split
    validation: Split
    test: Split | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    source: str
    target: tuple[float, float] | None = None  # of a regression
    offset: tuple[float, ...] | None = None  # taken from each column in float64, where float32 would lose digits
    highest: float = 255.0  # of a pixel: white
    changes: tuple[str, ...] = ()  # what was changed or left out while the samples were read
    functions: LoopFunctions = NO_FUNCTIONS  # of the user's, by which the loop learns from it
    encoder: TableEncoder | None = None  # by which the columns of a table became numbers

    @property
    def shape(self) -> tuple[int, ...]:
        """One sample: (C, H, W) or (F,)."""
        return tuple(self.train.x.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(part.x.nbytes + part.y.nbytes for part in (self.train, self.validation, self.test) if part)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of samples, labels, split, and which columns are not scaled, in hex. 0.1 s for MNIST, once."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            for array in (part.x, part.y) if part else ():
                digest.update(f"{array.dtype.str}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
            digest.update(b"|")
        if self.encoder is not None and not self.encoder.scaled.all():
            # An earlier version standardised these columns, too: its checkpoints are of models of other inputs.
            digest.update(b"columns of 0 and 1")
        return digest.hexdigest()

    def without_test(self) -> Dataset:
        """The same data without its test split: all that a search gets."""
        return replace(self, test=None)


def load(source: DataSource | str) -> Dataset:
    """Load a dataset with its fixed split.

    Args:
        source: where it is and how it is read; or its name or path alone.

    Returns:
        All splits; give a search `load(...).without_test()`.

    Raises:
        DataError: for anything that cannot be used.
    """
    source = DataSource(source) if isinstance(source, str) else source
    if wrong := problems(source):
        raise DataError(wrong[0])
    name, raw = source.name, sources.read(source, SPLIT_SEED)
    labels = [part[1] for part in (raw.train, raw.validation, raw.test) if part is not None]
    kind, changes = kind_of(raw, labels)
    accepted = checked if source.is_standardised else as_they_are
    parts = [accepted(name, part, kind) if part else None for part in (raw.train, raw.validation, raw.test)]
    train, validation, test = parts
    assert train is not None
    if validation is None:
        needed = FEWEST * (3 if test is None else 2)
        if len(train) < needed:
            raise DataError(
                f"{name!r} must have {needed} samples or more, {FEWEST} for each split that is drawn, "
                f"but has {len(train)}"
            )
        share = VALIDATION_OF_DIGITS if name == "digits" else VALIDATION_OF_FILE
        if test is None:
            train, test = _draw(train, share, SPLIT_SEED + 1)
            share /= 1 - share
        else:
            share = VALIDATION_OF_PUBLISHED
        train, validation = _draw(train, share, SPLIT_SEED)
    splits = [part for part in (train, validation, test) if part is not None]
    require_one_shape(name, splits)
    if raw.encoder is None and source.is_standardised:
        changes += note_of_whole_numbers(train.x)
    if not source.is_standardised:
        changes.append(f"samples are {train.x.dtype} {train.x.shape[1:]} and go to the model as they are")
    classes = raw.classes
    if not is_regression(splits):
        splits, classes = name_classes(name, splits, raw.classes)
    _require_something_to_learn(name, splits[0], classes)
    found = Description(name, classes, raw.source, raw.pictures, (*raw.notes, *changes), source.is_standardised)
    return assemble(splits, found, raw.encoder)


@dataclass(frozen=True)
class Description:
    """What a dataset is, however it is divided."""

    name: str
    classes: tuple[str, ...]
    source: str
    pictures: bool  # read from image files, whose range is 0..255
    notes: tuple[str, ...]
    is_standardised: bool


def assemble(splits: list[Split], about: Description, encoder: TableEncoder | None = None) -> Dataset:
    """A dataset of checked splits: training, validation and, where there is one, test. What is fitted to samples is
    fitted to the first.

    Args:
        splits: with labels 0..K-1, or targets.
        about: what they are of.
        encoder: by which the columns of a table became numbers.
    """
    splits, offset = in_float32(splits) if about.is_standardised else (splits, None)
    lost = [] if offset is None else [_note_of_offset(offset)]
    train = splits[0]
    target = None
    if is_regression(splits):
        target = (float(train.y.mean(dtype=np.float64)), float(train.y.std(dtype=np.float64)) or 1.0)
    mean, std = _statistics(train.x) if about.is_standardised else ((), ())
    if encoder is not None:
        mean = tuple(np.where(encoder.scaled, mean, 0.0).tolist())
        std = tuple(np.where(encoder.scaled, std, 1.0).tolist())
    train, validation, *rest = [Split(_frozen(part.x), _frozen(part.y)) for part in splits]
    return Dataset(
        *(about.name, train, validation, rest[0] if rest else None, mean, std, about.classes, about.source),
        target=target,
        offset=offset,
        highest=255.0 if about.pictures or train.x.max() >= DIM else float(train.x.max()),
        changes=(*about.notes, *lost),
        encoder=encoder,
    )


def _require_something_to_learn(name: str, train: Split, classes: tuple[str, ...]) -> None:
    """Raises DataError when all training samples have one label."""
    if (train.y == train.y[0]).all():
        what, value = ("classes", repr(classes[train.y[0]])) if classes else ("targets", f"{train.y[0]:g}")
        raise DataError(
            f"the training split must have two {what} or more, but all {len(train):,} training samples of {name!r} are "
            f"{value}: split the samples otherwise"
        )


def is_regression(splits: Sequence[Split]) -> bool:
    """Whether the labels are targets."""
    return bool(splits[0].y.dtype == np.float32)


def _note_of_offset(offset: tuple[float, ...]) -> str:
    return (
        f"{np.count_nonzero(offset)} of {len(offset)} columns contain numbers so large beside their spread that "
        "float32 would lose their digits: their mean is taken away first"
    )


def notes(dataset: Dataset) -> list[str]:
    """Notes for the user: samples that were changed, and what the labels mean for an accuracy."""
    lines = list(dataset.changes)
    if dataset.target is not None:
        low, high = dataset.train.y.min(), dataset.train.y.max()
        mean, sd = (significant(number, 4) for number in dataset.target)
        return [*lines, f"targets from {low:g} to {high:g}, mean {mean}, sd {sd}"]
    lines += _notes_of_classes(dataset)
    counts = np.bincount(dataset.train.y, minlength=len(dataset.classes))
    rarest, commonest = int(counts.argmin()), int(counts.argmax())
    if len(counts) > MOST_CLASSES and len(counts) * FEW_OF_A_CLASS > len(dataset.train):
        lines.append(
            f"{len(counts)} classes share {len(dataset.train):,} training samples; for a regression save the labels as "
            "real numbers, or give the column label the field metadata kind=target"
        )
    if counts[commonest] <= UNEVEN * counts[rarest]:
        return lines
    return [
        *lines,
        f"imbalanced classes: {counts[commonest]:,} of {len(dataset.train):,} training samples are "
        f"{dataset.classes[commonest]!r}, {counts[rarest]:,} are {dataset.classes[rarest]!r}. Always predicting "
        f"{dataset.classes[commonest]!r} would be {counts[commonest] / len(dataset.train):.1%} accurate.",
    ]


def _notes_of_classes(dataset: Dataset) -> list[str]:
    alike: dict[str, list[str]] = {}
    for name in dataset.classes:
        alike.setdefault(" ".join(name.casefold().split()), []).append(name)
    lines = [
        f"classes that differ in case or spaces alone: {', '.join(map(repr, names))}"
        for names in alike.values()
        if len(names) > 1
    ]
    for part, split in (("training", dataset.train), ("validation", dataset.validation), ("test", dataset.test)):
        there = set(np.unique(split.y).tolist()) if split else set(range(len(dataset.classes)))
        if absent := [repr(name) for label, name in enumerate(dataset.classes) if label not in there]:
            lines.append(f"no {part} sample is of class {', '.join(absent[:5])}{' ...' if len(absent) > 5 else ''}")
    return lines


def problems(source: DataSource) -> list[str]:
    """Problems that show before anything is read whole or downloaded: one line each, [] = fine."""
    name = source.name
    if source.preprocess not in PREPROCESSING:
        return [unknown("preprocessing", source.preprocess, list(PREPROCESSING))]
    if name in DATASETS:
        root = source.root.expanduser()
        if source.columns:
            return [f"{', '.join(source.columns.flags)}: for tables of your own, and {name} is a dataset with a name"]
        if name not in TORCHVISION:
            return []
        wrong = memory.problem(name, TORCHVISION[name][1])
        if root.exists() and not root.is_dir():
            wrong = f"the data root must be a folder, but {str(root)!r} is a file"
        return [wrong] if wrong else []
    if not sources.is_file(name):
        return [unknown("dataset", name, list(DATASETS)) + f"; or the path of {sources.KNOWN}"]
    return sources.file_problems(source)


def _draw(split: Split, share: float, seed: int) -> tuple[Split, Split]:
    """Split off a random `share`; both parts keep the original order."""
    count = max(round(len(split) * share), FEWEST)
    order = np.argsort(random_ranks(len(split), seed), kind="stable")
    drawn, rest = np.sort(order[:count]), np.sort(order[count:])
    return Split(split.x[rest], split.y[rest]), Split(split.x[drawn], split.y[drawn])


def name_classes(name: str, splits: list[Split], classes: tuple[str, ...]) -> tuple[list[Split], tuple[str, ...]]:
    """The splits with labels 0..K-1, and the names of the classes; of labels that are text, in their order."""
    labels = np.unique(np.concatenate([part.y for part in splits]))
    if labels.dtype.kind == "U":
        splits = [Split(part.x, np.searchsorted(labels, part.y)) for part in splits]
        classes, labels = tuple(map(str, labels)), np.arange(len(labels))
    count = len(classes) or len(labels)
    if count < 2 or not np.array_equal(labels, np.arange(count)):
        raise DataError(
            f"labels must be 0..K-1 with each of K >= 2 present, but {name!r} has {len(labels)} labels from "
            f"{labels.min()} to {labels.max()}{'; labels saved as text may be any' if len(labels) > 1 else ''}"
        )
    return splits, classes or tuple(str(label) for label in labels)


def _statistics(x: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel or column; a constant one gets std 1, so that it becomes 0."""
    if x.ndim == 2:
        mean, variance = x.mean(0, dtype=np.float64), x.var(0, dtype=np.float64)
    else:
        levels = np.arange(256)
        counts = np.stack([_histogram(x[:, channel]) for channel in range(x.shape[1])])  # (C, 256)
        total = counts.sum(1)
        mean = (counts * levels).sum(1) / total
        variance = np.maximum((counts * levels**2).sum(1) / total - mean**2, 0)
    std = np.sqrt(variance)
    return tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist())


def _histogram(values: Array) -> Array:
    """Counts of the 256 levels, a block at a time: bincount widens its input eightfold."""
    counts = np.zeros(256, np.int64)
    for block in np.array_split(values, 64):
        counts += np.bincount(block.ravel(), minlength=256)
    return counts


def _frozen(array: Array) -> Array:
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array
