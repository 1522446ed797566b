"""Which Optuna sampler suggests, and what it is told. Adding one is one entry of `SAMPLERS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

STARTUP_TRIALS = 10  # random suggestions before TPE models anything, Optuna's own default


def _tpe(seed: int) -> BaseSampler:
    from optuna.samplers import TPESampler

    # Both are Optuna 5's defaults, said here because resume and concurrency rest on them.
    return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=True)


def _random(seed: int) -> BaseSampler:
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {"tpe": _tpe, "random": _random}
SCHEDULERS = ("asha", "none")
