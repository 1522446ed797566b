"""The level of each look at a repeated t-test that errs in 5% over all looks: `REPEATED_LEVELS` of
`rungwise.results.analysis.statistics`.

    python benchmarks/boundary.py

Two arms without a difference have R = 4, 5, ..., N searches each; after each number Welch's t-test is made, and the
first that is significant ends the sweep. The t-statistic does not depend on the spread, so one table serves all.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from rungwise.results.analysis.statistics import FEWEST, REPEATED_LEVELS

PATHS, ERROR = 60_000, 0.05


def smallest_p(most: int, paths: int = PATHS, seed: int = 0) -> np.ndarray:
    """The smallest p of all looks of each path without a difference, (paths,)."""
    a, b = np.random.default_rng(seed).normal(size=(2, paths, most))
    looks = [stats.ttest_ind(a[:, :n], b[:, :n], axis=1, equal_var=False).pvalue for n in range(FEWEST, most + 1)]
    return np.min(looks, axis=0)


def main() -> None:
    for most, level in REPEATED_LEVELS.items():
        found = smallest_p(most)
        error = float(np.mean(found <= level))
        print(f"R={FEWEST}..{most}: level {np.quantile(found, ERROR):.4f} (used: {level}, which errs in {error:.2%})")


if __name__ == "__main__":
    main()
