"""How many trials are in flight at once, and how many processes train them."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from rungwise.engine.cluster.local_ray import local_resources
from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.flags import Options

MIN_TRIALS_PER_SLOT = 4  # of a search: at most a quarter of its trials are in flight at once


class ConcurrencyPolicy:
    """How many trials are in flight: as many as fit, few enough for the sampler to learn, and some more staged.

    TPE with too few results is random search: at most a quarter of the trials run at once (constant liar; about
    an eighth without). A staged trial lets Tune keep the process of one that ends instead of starting another
    (ray 2.60, tune_controller.py, `_maybe_cache_trial_actor`). Tune gives a freed process to the newest trial, so the
    one that is staged first waits until the end, and all others are suggested when they are needed. One trial at a
    time needs none staged (Tune keeps one process in any case), so that trials end in the order of their numbers.

    Where each search has one trial in flight (`Experiment.order`), the staged one is that of its search, and a freed
    process goes to the trial that waits longest (`Rungs`).
    """

    def __init__(
        self, fit: int, trials: int, concurrency: int = 0, *, packed: bool = False, studies: int | None = None
    ) -> None:
        """
        Args:
            fit: trials, or processes that train a pack, for which there is room.
            trials: trials of all searches together.
            concurrency: the user's bound on trials in flight; 0 = a quarter of `trials`.
            packed: a process holds several trials, and none is staged.
            studies: searches, where each has one trial in flight; a pack is then no wider than these fill.
        """
        quarter = max(2, trials // MIN_TRIALS_PER_SLOT)
        if studies is not None:
            quarter = max(2, studies) if packed else max(quarter, studies)
        self._bound, self._packed = concurrency or quarter, packed
        self._fit: Callable[[], int] = lambda: fit
        self.running = min(fit, self._bound)

    @classmethod
    def of(cls, experiment: Experiment, options: Options) -> ConcurrencyPolicy:
        fit = options.resources.fits(local_resources())
        fit = 10**6 if options.address else fit
        studies = len(experiment.studies) if experiment.order == "fixed" else None
        return cls(fit, experiment.all_trials, options.concurrency, packed=options.pack != "off", studies=studies)

    def follow(self, slots: Callable[[], int]) -> None:
        """Follow a cluster that grows and shrinks: `slots` returns how many trials fit, machines to come included."""
        self._fit = slots

    def limit(self) -> int:
        """The most trials that are dispatched and have not ended."""
        if self._packed:
            return self._bound
        running = self.processes
        return running + ceil(running / 4) if running > 1 else 1

    @property
    def processes(self) -> int:
        """Processes that train."""
        return min(max(1, self._fit()), self._bound)

    @property
    def trials_per_worker(self) -> int:
        """The most trials that one process may hold."""
        return max(1, self._bound // self.processes)
