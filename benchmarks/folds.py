"""How often the answer of a sweep by cross-validation (`--folds`) errs, with and without the correction for searches
that share samples (Nadeau and Bengio 2003).

    python benchmarks/folds.py                             # quick learners in place of networks; 9 minutes on one core
    python benchmarks/folds.py --tables 0 --sweeps 10      # whole sweeps of two identical arms; about 20 s each

Each table is drawn anew: two classes, and two blocks of five columns that say equally much about them. In "identical"
both arms see both blocks. In "equal" one arm sees the first block and the other one the second: they are alike on
average over tables, and never on one table, which is what searches on parts of one table do not show. In "better" the
second arm sees both blocks, and the first arm one. "errs" is the share of tables of which the answer says that one of
two arms of "identical" or "equal" is better; "covers" is the share of 95% intervals that hold the true difference: the
mean over all tables of what the models differ by on 1,000 other samples; "sees" is the share of "better" that is seen.

What is real: the division into test parts and folds, the choice of a winner by its mean over folds, and the intervals
of the answer. A trial is a network of one hidden layer whose random weights stay as they are, and whose last layer is a
ridge regression: its width, scale and penalty are searched at random, and its hidden weights are its seed's. Of whole
sweeps all is real.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from rungwise import FloatDistribution, Sweep, run
from rungwise.results.analysis.findings import Verdict
from rungwise.results.analysis.statistics import (
    Difference,
    Estimate,
    difference,
    estimate,
    resampled_difference,
)
from rungwise.trainable import granted_resources as granted
from rungwise.trainable.folds.assignment import TEST_PARTS, FoldPlan

BLOCK, SHIFT, FRESH = 5, 0.9, 1000  # columns of a block; distance of the classes within it; samples that tell the truth
SEEDS, TRIALS = 2, 8  # of each winner; of each search
BOTH, FIRST, SECOND = slice(0, 2 * BLOCK), slice(0, BLOCK), slice(BLOCK, 2 * BLOCK)
CASES = {"identical": (BOTH, BOTH), "equal": (FIRST, SECOND), "better": (FIRST, BOTH)}
RATIO = 1 / (TEST_PARTS - 1)
Intervals = Callable[[Sequence[float], Sequence[float], int], Difference]
TESTS: dict[str, Intervals] = {
    "corrected": lambda a, b, n: resampled_difference(_pairs(a, b), RATIO, share=True, samples=n),
    "paired t": lambda a, b, _: resampled_difference(_pairs(a, b), 0.0),
    "Welch's t": lambda a, b, _: difference(b, a),
}


def _pairs(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [other - one for one, other in zip(a, b, strict=True)]


def table(rows: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Samples (rows, 2 * BLOCK) and labels."""
    y = draw.integers(0, 2, rows)
    centre = np.tile([SHIFT, *[0.0] * (BLOCK - 1)], 2)
    return draw.normal(size=(rows, 2 * BLOCK)) + np.outer(y - 0.5, centre), y


@dataclass(frozen=True)
class Network:
    """Random hidden weights, and a ridge regression on what they make of standardised samples."""

    width: int
    scale: float
    penalty: float

    def fit(self, x: np.ndarray, y: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        draw = np.random.default_rng(seed)
        weights, bias = draw.normal(size=(x.shape[1], self.width)), draw.normal(size=self.width)
        mean, std = x.mean(0), x.std(0)

        def hidden(samples: np.ndarray) -> np.ndarray:
            made: np.ndarray = np.tanh(self.scale * ((samples - mean) / std) @ weights + bias)
            return np.column_stack([made, np.ones(len(made))])

        h = hidden(x)
        solved = np.linalg.solve(h.T @ h + self.penalty * np.eye(h.shape[1]), h.T @ (2.0 * y - 1))
        return lambda samples: (hidden(samples) @ solved > 0).astype(int)


def searched(x: np.ndarray, y: np.ndarray, folds: np.ndarray, draw: np.random.Generator) -> Network:
    """The best of `TRIALS` random networks by the mean accuracy over the folds."""
    scored = []
    for _ in range(TRIALS):
        network = Network(
            int(draw.choice([4, 8, 16])), float(np.exp(draw.uniform(-2, 1))), float(np.exp(draw.uniform(-5, 4)))
        )
        of_folds = []
        for fold in range(folds.max() + 1):
            inside, outside = (folds >= 0) & (folds != fold), folds == fold
            fitted = network.fit(x[inside], y[inside], int(draw.integers(2**31)))
            of_folds.append(float((fitted(x[outside]) == y[outside]).mean()))
        scored.append((float(np.mean(of_folds)), network))
    return max(scored, key=lambda pair: pair[0])[1]


@dataclass(frozen=True)
class Outcome:
    """What is said of one table."""

    found: dict[str, Difference]  # of each of TESTS
    level: Estimate  # of the second arm
    truth: float  # by what the models of this table differ on other samples
    accuracy: float  # of the second arm's, on other samples


def outcome(seed: int, case: str, rows: int, searches: int, folds: int = 5) -> Outcome:
    """One synthetic sweep on one table."""
    draw = np.random.default_rng((seed, rows, searches, list(CASES).index(case)))
    (x, y), (fresh, truth) = table(rows, draw), table(FRESH, draw)
    plan = FoldPlan(folds, y)
    scores: list[list[float]] = [[], []]
    truths: list[list[float]] = [[], []]
    for search in range(1, searches + 1):
        tested, divided = plan.is_test(search), plan.folds_of(search)
        for arm, columns in enumerate(CASES[case]):
            winner = searched(x[:, columns], y, divided, draw)
            models = [winner.fit(x[~tested][:, columns], y[~tested], int(draw.integers(2**31))) for _ in range(SEEDS)]
            scores[arm].append(float(np.mean([(one(x[tested][:, columns]) == y[tested]).mean() for one in models])))
            truths[arm] += [float((one(fresh[:, columns]) == truth).mean()) for one in models]
    found = {name: test(scores[0], scores[1], rows // TEST_PARTS) for name, test in TESTS.items()}
    level = estimate(scores[1], share=True, samples=rows // TEST_PARTS, ratio=RATIO)
    one, other = map(float, np.mean(truths, axis=1))
    return Outcome(found, level, other - one, other)


def say(case: str, rows: int, searches: int, outcomes: Sequence[Outcome]) -> bool:
    """Print a line for each test; whether the corrected one errs as rarely as it should."""
    count, good = len(outcomes), True
    truth = float(np.mean([one.truth for one in outcomes])) if case == "better" else 0.0
    accuracy = float(np.mean([one.accuracy for one in outcomes]))
    covered = np.mean([(one.level.low or 0.0) <= accuracy <= (one.level.high or 0.0) for one in outcomes])
    print(
        f"{case:9} {rows:4} rows {searches:2} searches  n={count}  the second arm has {accuracy:.1%}, "
        f"{100 * truth:+.1f} points; its own interval covers {covered:.1%}"
    )
    for name in TESTS:
        bounds = np.array([(one.found[name].low, one.found[name].high) for one in outcomes], dtype=float)
        excludes = (bounds[:, 0] > 0) | (bounds[:, 1] < 0)
        covers = (bounds[:, 0] <= truth) & (truth <= bounds[:, 1])
        word = "sees" if case == "better" else "errs"
        share = float(((bounds[:, 0] > 0) if case == "better" else excludes).mean())
        print(
            f"{case:9} {rows:4} rows {searches:2} searches  n={count}  {name:9}  {word} {share:6.1%} "
            f"(standard error {np.sqrt(share * (1 - share) / count):.1%})  covers {covers.mean():6.1%}  half width "
            f"{50 * np.median(bounds[:, 1] - bounds[:, 0]):.1f} points",
            flush=True,
        )
        if name == "corrected" and case != "better":
            good = share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / count)
    return good


def whole_sweep(seed: int, rows: int, folder: Path) -> Verdict:
    """A real sweep of two identical arms on a table of its own."""
    x, y = table(rows, np.random.default_rng((seed, 7)))
    np.savez(folder / f"{seed}.npz", x=x.astype(np.float32), y=y)
    arms: dict[str, dict[str, Any]] = {"one": {}, "other": {}}
    sweep = Sweep(
        name=f"identical-{seed}", data=str(folder / f"{seed}.npz"), arms=arms, trials=4, searches=5, epochs=4, folds=5,
        space={"lr": FloatDistribution(3e-3, 1e-1, log=True)}, fixed={"hidden": (8,), "batch_size": 16},
    )  # fmt: skip
    made = run(sweep, out=folder / "runs", seed=seed, untuned_seeds=0, refit_seeds=0, loggers=(), quiet=True)
    (comparison,) = made.answer.comparisons
    found = comparison.difference
    assert found is not None
    print(f"sweep {seed}: {comparison.verdict}, {found.low:+.3f} to {found.high:+.3f}", flush=True)
    return comparison.verdict


@dataclass(frozen=True)
class Options:
    tables: int = 300
    """Synthetic sweeps of each case, number of rows and number of searches; 0: none."""
    sweeps: int = 0
    """Whole sweeps of two identical arms."""
    rows: tuple[int, ...] = (150, 400)
    searches: tuple[int, ...] = (5, 10)
    processes: int = int(granted.cpus())


def main() -> int:
    options = tyro.cli(Options, description=(__doc__ or "").split("\n\n", 1)[0])
    good = True
    if options.tables:
        with ProcessPoolExecutor(options.processes) as pool:
            for rows in options.rows:
                for searches in options.searches:
                    for case in CASES:
                        one = partial(outcome, case=case, rows=rows, searches=searches)
                        good &= say(case, rows, searches, list(pool.map(one, range(options.tables), chunksize=8)))
    if options.sweeps:
        with tempfile.TemporaryDirectory() as temporary:
            verdicts = [whole_sweep(seed, options.rows[0], Path(temporary)) for seed in range(options.sweeps)]
        false = sum(verdict in (Verdict.HELPS, Verdict.HURTS) for verdict in verdicts)
        print(f"in {options.sweeps} whole sweeps of two identical arms the answer said otherwise {false} times")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
