"""Optuna's TPE at a price that hardly grows with the number of trials. The suggestions are the same, bit for bit.

`TPESampler` (optuna 5.0, _tpe/sampler.py) walks all trials in Python at every suggestion: to split them into good and
bad, and to collect their parameters: half of its time at 2,000 trials (docs/performance.md, "The driver"). What it
reads of a trial that has ended never changes, so here it is read once and kept in arrays.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe.sampler import default_gamma
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

Space = dict[str, BaseDistribution]
Floats = NDArray[np.float64]
_OPEN = (TrialState.RUNNING, TrialState.WAITING)


class Tpe(TPESampler):
    """`TPESampler` of one objective without constraints that are broken; in all other cases it is just that."""

    _known: dict[tuple[str, ...], Ended] | None = None  # parameters -> what is known of them

    def take_over(self, before: Tpe) -> None:
        """Know what the sampler of the suggestion before this one knew; both of the same study."""
        self._search_space, self._known = before._search_space, before._known

    def _sample(self, study: Study, trial: FrozenTrial, search_space: Space) -> dict[str, Any]:
        if len(study.directions) > 1 or self._gamma not in (None, default_gamma):
            return super()._sample(study, trial, search_space)
        trials = study._get_trials(deepcopy=False, use_cache=False)
        ended = self._ended(study, search_space)
        ended.read(trials)
        if ended.infeasible:
            return super()._sample(study, trial, search_space)
        running = [
            # What is suggested together (`_get_params` parses it) is a part of params once the trial is dealt.
            (one.number, one.params if search_space.keys() <= one.params.keys() else self._get_params(one, study))
            for one in trials[ended.whole :]
            if self._constant_liar and one.state is TrialState.RUNNING and one.number != trial.number
        ]
        below, above = ended.split(running)
        good, bad = (
            self._parzen_estimator_cls(some, search_space, self._parzen_estimator_parameters) for some in (below, above)
        )
        drawn = good.sample(self._rng.rng, self._n_ei_candidates)
        best = self._compare(drawn, self._compute_acquisition_func(drawn, good, bad))
        return {name: distribution.to_external_repr(best[name]) for name, distribution in search_space.items()}

    def _ended(self, study: Study, space: Space) -> Ended:
        self._known = {} if self._known is None else self._known
        names = tuple(space)
        if names not in self._known or self._known[names].space != space:
            self._known[names] = Ended(dict(space), study.direction)
        return self._known[names]


class Ended:
    """The trials of a study that have ended, in arrays; index = trial's number. `space`: the parameters read."""

    def __init__(self, space: Space, direction: StudyDirection) -> None:
        self.space, self._direction = space, direction
        self.whole = 0  # all trials below this number have ended
        self.infeasible = False  # one of them broke a constraint
        self._count = 0  # trials seen, ended or not; the arrays have room for more
        self._read = np.zeros(64, bool)
        # A trial's place among the others, smallest first: COMPLETE before PRUNED, late before early, good before bad.
        self._places = np.full((3, 64), math.inf)  # inf = none
        self._values = {name: np.full(64, math.nan) for name in space}  # as TPE sees them; nan = not suggested

    def read(self, trials: list[FrozenTrial]) -> None:
        """Take in what has ended since the last time."""
        self._count = len(trials)
        if (more := self._count - len(self._read)) > 0:
            more += self._count  # twice as many: the cost of growing does not grow
            self._read = np.pad(self._read, (0, more))
            self._places = np.pad(self._places, ((0, 0), (0, more)), constant_values=math.inf)
            for name, values in self._values.items():
                self._values[name] = np.pad(values, (0, more), constant_values=math.nan)
        for trial in trials[self.whole :]:
            if not self._read[trial.number] and trial.state not in _OPEN:
                self._read[trial.number] = True
                self._take_in(trial)
        while self.whole < self._count and self._read[self.whole]:
            self.whole += 1

    def _take_in(self, trial: FrozenTrial) -> None:
        if trial.state is TrialState.FAIL:
            return
        self.infeasible |= any(value > 0 for value in trial.constraints.values())
        self._places[:, trial.number] = _place(trial, self._direction)
        if self.space.keys() <= trial.params.keys():
            for name, distribution in self.space.items():
                self._values[name][trial.number] = distribution.to_internal_repr(trial.params[name])

    def split(self, running: list[tuple[int, dict[str, Any]]]) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Parameters of the good trials and of all others, those of `running` (number, parameters) among them."""
        kind, *_ = places = self._places[:, : self._count]
        numbers = np.flatnonzero(np.isfinite(kind))
        order = numbers[np.lexsort(places[::-1, numbers])]
        count = default_gamma(len(order))
        good, bad = np.sort(order[:count]), np.sort(order[count:])
        suggested = [(number, params) for number, params in running if self.space.keys() <= params.keys()]
        below, above = {}, {}
        for name, distribution in self.space.items():
            values = self._values[name]
            known = bad[~np.isnan(values[bad])]
            among = np.searchsorted(known, [number for number, _ in suggested])
            below[name] = values[good][~np.isnan(values[good])]
            above[name] = np.insert(
                values[known], among, [distribution.to_internal_repr(params[name]) for _, params in suggested]
            )
        return below, above


def _place(trial: FrozenTrial, direction: StudyDirection) -> tuple[float, float, float]:
    sign = 1.0 if direction is StudyDirection.MINIMIZE else -1.0
    if trial.state is TrialState.COMPLETE:
        return 0.0, sign * float(trial.value or 0.0), 0.0
    if not trial.intermediate_values:
        return 1.0, 1.0, 0.0
    step, value = max(trial.intermediate_values.items())
    return 1.0, -float(step), math.inf if math.isnan(value) else sign * value
