"""Assign the rows of a table to train, validation and test: by strata of the classes, by groups, or by time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from rungwise.trainable.data.raw import PARTS, Array, DataError, part_of

SHARE = 0.15  # of the rows, for the validation split, and for the test split
FEWEST = 2  # rows of a split: one alone has no spread, and r2 none either
TRAIN, VALIDATION, TEST = range(len(PARTS))  # as the functions here return them for each row


def draw_stratified(strata: Array, seed: int) -> Array:
    """Parts (N,) drawn at random, of which each stratum has the same shares as nearly as whole rows allow.

    Args:
        strata: (N,) whole numbers; all the same: a plain random split.
        seed: of the draw.
    """
    count = len(strata)
    order = np.lexsort((random_ranks(count, seed), strata))  # stratum after stratum, each in random order
    parts = np.full(count, TRAIN)
    test = _spread(count, SHARE)
    parts[order[test]] = TEST
    rest = order[np.setdiff1d(np.arange(count), test)]
    parts[rest[_spread(len(rest), SHARE / (1 - SHARE), count * SHARE)]] = VALIDATION
    _, stratum, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    parts[sizes[stratum] < 3] = TRAIN  # a class that is not trained cannot be right
    return parts


def draw_groups(groups: Array, seed: int) -> Array:
    """Parts (N,) of whole groups, in random order; the largest group is in the training split.

    Raises DataError for fewer than three groups.
    """
    _, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < 3:
        raise DataError(f"--group must make three groups or more, one for each split, but makes {len(sizes)}")
    wanted = max(SHARE * len(groups), FEWEST)
    part_of = np.full(len(sizes), TRAIN)
    waiting = [group for group in np.argsort(random_ranks(len(sizes), seed), kind="stable") if group != sizes.argmax()]
    for part in (TEST, VALIDATION):
        filled = 0
        while filled < wanted and len(waiting) > (part == TEST):
            group = waiting.pop()
            part_of[group] = part
            filled += sizes[group]
    return np.asarray(part_of[index])


def cut_by_time(moments: Array) -> Array:
    """Parts (N,) by time: the latest rows are the test split, those before them validation. Rows of one moment stay
    together. Raises DataError when there are too few moments."""
    moments_there, counts = np.unique(moments, return_counts=True)
    ends = np.cumsum(counts)
    last = len(moments_there) - 1
    train_end = min(max(int(np.searchsorted(ends, (1 - 2 * SHARE) * len(moments))), 0), last - 2)
    validation_end = min(max(int(np.searchsorted(ends, (1 - SHARE) * len(moments))), train_end + 1), last - 1)
    if train_end < 0:
        raise DataError(f"--time must have three moments or more, one for each split, but has {len(moments_there)}")
    place = np.searchsorted(moments_there, moments)
    return np.where(place <= train_end, TRAIN, np.where(place <= validation_end, VALIDATION, TEST))


def parts_of_names(values: Array) -> Array | None:
    """Parts (N,) that a column says, such as "train", "val" and "test"; None when it says something else."""
    parts = [part_of(value) for value in values.tolist()]
    return np.array([PARTS.index(part) for part in parts if part]) if set(parts) == set(PARTS) else None


def names_splits(values: Iterable[object]) -> bool:
    """Whether a column names splits and nothing else, "train" among them."""
    parts = {part_of(value) for value in values}
    return "train" in parts and None not in parts


def require_rows(name: str, parts: Array) -> None:
    """Raises DataError when a split has fewer than `FEWEST` rows."""
    for part, said in ((TRAIN, "training"), (VALIDATION, "validation"), (TEST, "test")):
        if (found := int((parts == part).sum())) < FEWEST:
            raise DataError(
                f"each split must have {FEWEST} rows or more, but the {said} split of {name!r} has {found} of "
                f"{len(parts)}"
            )


def count_copies(x: Array, y: Array, parts: Array) -> int:
    """How many rows of the test split have the features and the target of a training row.

    Args:
        x: features (N, F).
        y: targets (N,).
        parts: of the rows, (N,).
    """
    rows = np.ascontiguousarray(np.column_stack([x, y]).astype(np.float64) + 0.0)  # -0.0 is 0.0
    whole = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))[:, 0]
    return int(np.isin(whole[parts == TEST], whole[parts == TRAIN]).sum())


def _spread(count: int, share: float, rows: float | None = None) -> Array:
    """Places 0..count-1, evenly spread, of about `share` of them, or `rows`; at least `FEWEST`, as far as there are."""
    wanted = min(max(math.floor((count * share if rows is None else rows) + 0.5), FEWEST), count)
    return np.floor((np.arange(wanted) + 0.5) * count / max(wanted, 1)).astype(np.int64)


def random_ranks(count: int, seed: int | Sequence[int]) -> Array:
    """Numbers (count,) whose order is random: PCG64's raw stream, which NumPy keeps for ever;
    `Generator.permutation` may change (NEP 19)."""
    return np.asarray(np.random.PCG64(seed).random_raw(count))
