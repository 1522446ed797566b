"""Which samples a search is tested on, and to which fold each of the others belongs.

Where the data has no test split, each search has one of its own, so that the samples by which configurations are
chosen are never those by which they are judged (nested cross-validation; Varma and Simon 2006). The samples are divided
into `TEST_PARTS` parts: search 1 is tested on the first, search 2 on the second, and so on; search 6 begins another
division. Searches of one number have the same test part and the same folds in every arm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rungwise.text import plural
from rungwise.trainable.data.raw import Array, DataError
from rungwise.trainable.data.table.split import FEWEST, random_ranks

TEST_PARTS = 5  # of all samples; each is tested on after training with the others
TESTED = -1  # the fold of a test sample
# All divisions are drawn from these seeds, whatever --seed says: the split of the data is fixed.
_TEST_SEED, _FOLD_SEED = 20_261_101, 20_261_102


@dataclass(frozen=True)
class FoldPlan:
    """The division of N samples.

    Args:
        folds: How many models a trial trains, each validated on another fold.
        strata: (N,) whole numbers: the classes, of which every part has the same share; of a regression all 0.
        groups: (N,) whole numbers: those of one group are in one part; classes are balanced as far as that allows.
        given_test: (N,) bool: the test split that the data has; None: every search has its own.
    """

    folds: int
    strata: Array
    groups: Array | None = None
    given_test: Array | None = None

    @property
    def is_nested(self) -> bool:
        """Whether each search has a test part of its own."""
        return self.given_test is None

    def is_test(self, search: int) -> Array:
        """(N,) bool: the samples that search number `search` (from 1) is tested on, and never trains on."""
        if self.given_test is not None:
            return self.given_test
        division, part = divmod(search - 1, TEST_PARTS)
        return np.asarray(self._divided(np.arange(len(self.strata)), TEST_PARTS, (_TEST_SEED, division)) == part)

    def folds_of(self, search: int, seed: int | None = None) -> Array:
        """(N,) the fold of each sample, 0..folds-1; `TESTED` of the search's test samples.

        Args:
            search: From 1.
            seed: Of a trial on fresh folds; None: those of the trials of the search.
        """
        rest = np.flatnonzero(~self.is_test(search))
        folds = np.full(len(self.strata), TESTED)
        folds[rest] = self._divided(rest, self.folds, (_FOLD_SEED, search, *(() if seed is None else (seed,))))
        return folds

    def require(self, name: str, classes: tuple[str, ...]) -> None:
        """Raise DataError, with the rule and a way out, when a part would lack samples, groups or a class."""
        if self.groups is not None:
            self._require_groups(self.groups, classes)
            return
        rest = len(self.strata) - (int(self.is_test(1).sum()) if self.given_test is None else self.given_test.sum())
        if rest < self.folds * FEWEST:
            raise DataError(
                f"--folds {self.folds} needs {self.folds * FEWEST} samples or more besides those of the test, {FEWEST} "
                f"a fold, but {name!r} has {rest}: take fewer folds"
            )
        if self.is_nested and len(self.strata) < TEST_PARTS * FEWEST:
            raise DataError(
                f"--folds needs {TEST_PARTS * FEWEST} samples or more, {FEWEST} for each of {TEST_PARTS} test parts, "
                f"but {name!r} has {len(self.strata)}"
            )
        trained = self.strata if self.given_test is None else self.strata[~self.given_test]
        for label, of_class in enumerate(classes):
            count = int((trained == label).sum())
            left = count if self.given_test is not None else count - -(-count // TEST_PARTS)
            if left < self.folds or (self.is_nested and count < TEST_PARTS):
                needed = self.folds if self.given_test is not None else _fewest_of_class(self.folds)
                raise DataError(
                    f"--folds {self.folds} needs {needed} samples or more of each class, so that every fold and every "
                    f"test part has one, but {of_class!r} has {count}: take fewer folds, or leave out or merge rare "
                    "classes"
                )

    def _require_groups(self, groups: Array, classes: tuple[str, ...]) -> None:
        searches = range(1, TEST_PARTS + 1) if self.is_nested else (1,)
        tested = [np.unique(self.strata[self.is_test(search)]) for search in searches]
        # `TESTED` is -1: the first number of `sizes` is that of the test samples.
        sizes = [np.bincount(self.folds_of(search) + 1, minlength=self.folds + 1) for search in searches]
        if min(map(min, sizes)) < FEWEST:
            raise DataError(
                f"--folds {self.folds} needs more groups, so that every fold and every test part has one, and "
                f"{FEWEST} samples, but --group makes {plural(len(np.unique(groups)), 'group')} of "
                f"{plural(len(groups), 'sample')}: take fewer folds"
            )
        if classes and (alone := next((labels[0] for labels in tested if len(labels) == 1), None)) is not None:
            others = len(np.unique(groups[self.strata != alone]))
            raise DataError(
                f"--folds tests on each of {TEST_PARTS} parts, which need samples of two classes, but --group leaves "
                f"one with {classes[alone]!r} alone: only {plural(others, 'group has', 'groups have')} others. Leave "
                "out --folds, or --group if its rows are independent"
            )

    def _divided(self, samples: Array, count: int, seed: tuple[int, ...]) -> Array:
        """The part, 0..count-1, of each of `samples` (indices)."""
        if self.groups is None:
            return divide(self.strata[samples], count, seed)
        return divide_groups(self.groups[samples], self.strata[samples], count, seed)


def divide(strata: Array, count: int, seed: tuple[int, ...]) -> Array:
    """Parts (N,) 0..count-1 drawn at random: their sizes, and their shares of each stratum, differ by one at most.

    Args:
        strata: (N,) whole numbers; all the same: a plain random division.
        count: how many parts.
        seed: of the draw.
    """
    order = np.lexsort((random_ranks(len(strata), seed), strata))  # stratum after stratum, each in random order
    parts = np.empty(len(strata), np.int64)
    parts[order] = np.arange(len(strata)) % count
    return parts


def divide_groups(groups: Array, strata: Array, count: int, seed: tuple[int, ...]) -> Array:
    """Parts (N,) 0..count-1 of whole groups: the largest first, each into the part that has the least of its strata so
    far, and of such parts into the one with the fewest samples; equal ones in random order.

    Args:
        groups: (N,) whose samples stay together.
        strata: (N,) whole numbers from 0, as for `divide`.
        count: how many parts.
        seed: of the draw.
    """
    _, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    totals = np.bincount(strata)
    pairs, amounts = np.unique(index * len(totals) + strata, return_counts=True)
    owners, held = np.divmod(pairs, len(totals))
    first = np.searchsorted(owners, np.arange(len(sizes) + 1))
    part_of = np.empty(len(sizes), np.int64)
    filled, samples = np.zeros((count, len(totals)), np.int64), np.zeros(count, np.int64)
    for group in np.lexsort((random_ranks(len(sizes), seed), -sizes)):
        own = slice(first[group], first[group + 1])
        # By this weight the sum of squares of all shares grows least. `fsum` is exact: the same on every machine.
        crowded = filled[:, held[own]] * (amounts[own] / totals[held[own]] ** 2)
        part = min(range(count), key=lambda each: (math.fsum(crowded[each]), samples[each]))
        part_of[group] = part
        filled[part, held[own]] += amounts[own]
        samples[part] += sizes[group]
    return np.asarray(part_of[index])


def _fewest_of_class(folds: int) -> int:
    """The fewest samples of a class of which every test part has one, and every fold of the rest."""
    return next(count for count in range(TEST_PARTS, 10**6) if count - -(-count // TEST_PARTS) >= folds)
