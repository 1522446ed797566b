"""A TPE sampler whose cost hardly grows with the number of trials. Its suggestions are Optuna's, bit for bit.

`TPESampler` (optuna 5.0, _tpe/sampler.py) walks all trials in Python at every suggestion: to split them into good and
bad, and to collect their parameters: half of its time at 2,000 trials (docs/internals/performance.md, "The driver").
What it reads of a trial that has ended never changes, so here it is read once and kept in arrays.

The private names are those of optuna 5.0: `compat.fast_tpe_class` imports this module only where they all exist.
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


class FastTPESampler(TPESampler):
    """`TPESampler`, faster for one objective without violated constraints; the same in all one cases."""

    _ended_trials: dict[tuple[str, ...], EndedTrials] | None = None  # by the names of the parameters

    def take_over(self, previous: FastTPESampler) -> None:
        """Share the trials that the sampler of the previous suggestion has read; both of the same study."""
        self._search_space, self._ended_trials = previous._search_space, previous._ended_trials

    def _sample(self, study: Study, trial: FrozenTrial, search_space: Space) -> dict[str, Any]:
        if len(study.directions) > 1 or self._gamma not in (None, default_gamma):
            return super()._sample(study, trial, search_space)
        trials = study._get_trials(deepcopy=False, use_cache=False)
        ended = self._ended_trials_of(study, search_space)
        ended.read(trials)
        if ended.infeasible:
            return super()._sample(study, trial, search_space)
        running = [
            # What is suggested together (`_get_params` parses it) is a part of params once the trial is suggested.
            (
                one.number,
                one.params if search_space.keys() <= one.params.keys() else self._get_params(one, study),
            )
            for one in trials[ended.all_below :]
            if self._constant_liar and one.state is TrialState.RUNNING and one.number != trial.number
        ]
        below, above = ended.split(running)
        good, bad = (
            self._parzen_estimator_cls(values, search_space, self._parzen_estimator_parameters)
            for values in (below, above)
        )
        samples = good.sample(self._rng.rng, self._n_ei_candidates)
        best = self._compare(samples, self._compute_acquisition_func(samples, good, bad))
        return {name: distribution.to_external_repr(best[name]) for name, distribution in search_space.items()}

    def _ended_trials_of(self, study: Study, space: Space) -> EndedTrials:
        if self._ended_trials is None:
            self._ended_trials = {}
        names = tuple(space)
        if names not in self._ended_trials or self._ended_trials[names].space != space:
            self._ended_trials[names] = EndedTrials(dict(space), study.direction)
        return self._ended_trials[names]


class EndedTrials:
    """The trials of a study that have ended, in arrays; index = trial's number. `space`: the parameters read."""

    def __init__(self, space: Space, direction: StudyDirection) -> None:
        self.space, self._direction = space, direction
        self.all_below = 0  # all trials below this number have ended
        self.infeasible = False  # whether one of them violates a constraint
        self._count = 0  # trials, ended or not; the arrays have room for more
        self._read = np.zeros(64, bool)
        # A trial's place among the ones, smallest first: COMPLETE before PRUNED, late before early, good before bad.
        self._places = np.full((3, 64), math.inf)  # inf = none
        self._values = {name: np.full(64, math.nan) for name in space}  # as TPE sees them; nan = not suggested

    def read(self, trials: list[FrozenTrial]) -> None:
        """Read the trials that have ended since the last call."""
        self._count = len(trials)
        if (more := self._count - len(self._read)) > 0:
            more += self._count  # twice as many: the cost of growing does not grow
            self._read = np.pad(self._read, (0, more))
            self._places = np.pad(self._places, ((0, 0), (0, more)), constant_values=math.inf)
            for name, values in self._values.items():
                self._values[name] = np.pad(values, (0, more), constant_values=math.nan)
        for trial in trials[self.all_below :]:
            if not self._read[trial.number] and trial.state not in _OPEN:
                self._read[trial.number] = True
                self._read_trial(trial)
        while self.all_below < self._count and self._read[self.all_below]:
            self.all_below += 1

    def _read_trial(self, trial: FrozenTrial) -> None:
        if trial.state is TrialState.FAIL:
            return
        self.infeasible |= any(value > 0 for value in trial.constraints.values())
        self._places[:, trial.number] = _place(trial, self._direction)
        if self.space.keys() <= trial.params.keys():
            for name, distribution in self.space.items():
                self._values[name][trial.number] = distribution.to_internal_repr(trial.params[name])

    def split(self, running: list[tuple[int, dict[str, Any]]]) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Parameters of the good trials and of all ones, those of `running` (number, parameters) among them."""
        kind, *_ = places = self._places[:, : self._count]
        numbers = np.flatnonzero(np.isfinite(kind))
        order = numbers[np.lexsort(places[::-1, numbers])]
        count = default_gamma(len(order))
        good, bad = np.sort(order[:count]), np.sort(order[count:])
        suggested = [(number, params) for number, params in running if self.space.keys() <= params.keys()]
        below, above = {}, {}
        for name, distribution in self.space.items():
            values = self._values[name]
            numbers = bad[~np.isnan(values[bad])]
            indices = np.searchsorted(numbers, [number for number, _ in suggested])
            below[name] = values[good][~np.isnan(values[good])]
            above[name] = np.insert(
                values[numbers], indices, [distribution.to_internal_repr(params[name]) for _, params in suggested]
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
