"""Who is stopped early: asha, hyperband, median, and patience. Adding one is a class here and an entry of `SCHEDULERS`.

Each is told every finite report of one arm's trials, and says whether to go on. All are deterministic in what they are
told, so that they are rebuilt from the record on resume. Ray Tune's schedulers decide; these wrap them.
"""

from __future__ import annotations

import math
from bisect import bisect, bisect_left, insort
from collections import UserDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, Protocol

from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler

from rungwise.engine.outcome import OBJECTIVE
from rungwise.engine.search.seeds import derived_seed
from rungwise.results.record.record import Decision

Verdict = tuple[str, Decision | None]


Beside = Sequence[tuple[int, int, float]]  # (trial, step, value)


class Judge(Protocol):
    """One arm's scheduler."""

    def judge(self, number: int, step: int, value: float | None, beside: Beside = ()) -> Verdict:
        """Trial `number` reached `value` at report `step`; None is a non-finite value, which always stops it.

        `beside`: what came with it and is judged after it, so that who comes first does not matter. Patience does not
        look at others, and the median rule takes them in the order in which they are judged.

        Returns Tune's verdict, and the decision when the trial was compared: rung in reports, cutoff in the
        objective's own sign.
        """
        ...


@dataclass(frozen=True)
class Ladder:
    """Where the rungs lie. `grace`, `budget` and `patience` are in reports; `grace=None`: nobody is stopped."""

    budget: int
    grace: int | None
    eta: float
    reports_per_epoch: int
    scheduler: str = "asha"
    patience: int | None = None

    def steps(self) -> list[float]:
        """The rungs in reports, lowest first, the full budget last."""
        steps: list[float] = []
        if self.grace is not None and self.scheduler != "median":
            step: float = self.grace
            while step < self.budget:
                steps.append(step)
                step *= self.eta
        return [*steps, self.budget]

    def rungs(self) -> list[float]:
        """The rungs in epochs."""
        return [step / self.reports_per_epoch for step in self.steps()]


@dataclass(frozen=True)
class _Key:
    """All that a scheduler looks at in a Tune trial. Our number outlives the Tune trial, so a trial counts once."""

    trial_id: str


_NOBODY: Any = None  # schedulers are handed a controller, and these never look at it


class Asha(AsyncHyperBandScheduler):
    """One arm's ASHA (Li et al. 2020). It mends four things of Ray's:

    - a NaN passes every rung, because `nan < cutoff` is false, and an infinite score counts as best in mode min;
      here a non-finite objective stops its trial at once and enters no rung;
    - a trial that says a report again may enter a rung that it has passed; here it enters each once, going up;
    - a stop leaves no trace; here `judge` returns the rung and the cutoff;
    - a cutoff takes the longer, the more trials a rung has seen: a millisecond after 5,000; here it does not.
    """

    def __init__(self, ladder: Ladder, grace: float, mode: str) -> None:
        self._sign = 1.0 if mode == "max" else -1.0
        super().__init__(
            time_attr="step",
            metric=OBJECTIVE,
            mode=mode,
            max_t=ladder.budget,
            grace_period=grace,  # type: ignore[arg-type]  # rungs may lie between reports
            reduction_factor=ladder.eta,
        )
        for bracket in self._brackets:
            bracket._rungs = [(milestone, _Seen()) for milestone, _ in bracket._rungs]  # type: ignore[misc]
            bracket.cutoff = partial(_cutoff, eta=ladder.eta)  # type: ignore[method-assign]

    def judge(self, number: int, step: int, value: float | None, beside: Beside = ()) -> Verdict:
        """As `Judge` says."""
        if value is None:
            return TrialScheduler.STOP, None
        if step >= self._max_t:  # reaching the budget is COMPLETED, never STOPPED
            return TrialScheduler.CONTINUE, None
        bracket, key = self._bracket(number)
        rung = _next_rung(bracket, key, step)
        if rung is None:
            return TrialScheduler.CONTINUE, None
        seen = dict(bracket._rungs)[rung]
        others = self._standing(bracket, rung, beside)
        seen.update(others)
        against = bracket.cutoff(seen)
        cutoff = None if against is None else float(against) * self._sign
        verdict = self.on_trial_result(_NOBODY, key, {self._time_attr: step, OBJECTIVE: value})
        for name in others:  # until they are judged themselves
            del seen[name]
        return verdict, Decision(float(rung), cutoff, verdict == TrialScheduler.STOP)

    def _bracket(self, number: int) -> tuple[Any, Any]:
        """Ray's bracket of a trial, and the key by which it knows the trial."""
        key: Any = _Key(str(number))
        if key.trial_id not in self._trial_info:
            self.on_trial_add(_NOBODY, key)
        return self._trial_info[key.trial_id], key

    def _standing(self, bracket: Any, rung: float, beside: Beside) -> dict[str, float]:
        """Those of `beside` that stand at the rung, as Ray's bracket keeps them."""
        return {
            key.trial_id: self._sign * value
            for number, step, value in beside
            if (key := self._bracket(number)[1]) and step < self._max_t and _next_rung(bracket, key, step) == rung
        }


class _Seen(UserDict[str, float]):
    """What trials scored at a rung, and the scores in order."""

    def __init__(self) -> None:
        super().__init__()
        self.ranked: list[float] = []

    def __setitem__(self, trial: str, value: float) -> None:
        if trial in self:
            del self[trial]
        super().__setitem__(trial, value)
        insort(self.ranked, value)

    def __delitem__(self, trial: str) -> None:
        del self.ranked[bisect_left(self.ranked, self[trial])]
        super().__delitem__(trial)


def _cutoff(seen: _Seen, eta: float) -> float | None:
    """The score at a share of 1 - 1/eta of those seen, between the two nearest: to the bit numpy's percentile, which
    Ray takes. None where nobody has been."""
    if not seen:
        return None
    place = (len(seen) - 1) * ((1 - 1 / eta) * 100 / 100)  # Ray multiplies and numpy divides: for the bits
    below = int(place)
    low, high = seen.ranked[below], seen.ranked[min(below + 1, len(seen) - 1)]
    part = place - below
    return high - (high - low) * (1 - part) if part >= 0.5 else low + (high - low) * part


def _next_rung(bracket: Any, key: Any, step: int) -> float | None:
    """The highest rung that the trial has reached at `step`; None when it is in it already.

    Ray's enters those below, too, when a trial says a report again and rungs lie nearer to each other than reports.
    """
    reached = next(((m, seen) for m, seen in bracket._rungs if step >= m), None)
    return None if reached is None or key.trial_id in reached[1] else reached[0]


class Hyperband:
    """Asynchronous Hyperband (Li et al. 2018, 2020): brackets of ASHA that begin at each rung of the ladder.

    Bracket s of S, from the most patient, gets trials in proportion to eta^s / (s + 1): about equal training each. A
    trial's bracket follows from its number. (Ray's own draws it from NumPy's global stream, and so differs on resume.)
    """

    def __init__(self, ladder: Ladder, mode: str) -> None:
        *starts, _ = ladder.steps()
        self._brackets: list[Asha | Always] = [Always(), *(Asha(ladder, start, mode) for start in reversed(starts))]
        shares = [ladder.eta**s / (s + 1) for s in range(len(self._brackets))]
        self._up_to = [part / sum(shares) for part in accumulate(shares)]

    def judge(self, number: int, step: int, value: float | None, beside: Beside = ()) -> Verdict:
        """As `Judge` says."""
        bracket = self._bracket(number)
        with_it = [other for other in beside if self._bracket(other[0]) == bracket]
        return self._brackets[bracket].judge(number, step, value, with_it)

    def _bracket(self, number: int) -> int:
        return min(bisect(self._up_to, derived_seed("hyperband", number) / 2**31), len(self._brackets) - 1)


class Median(MedianStoppingRule):
    """The median rule (Golovin et al. 2017): a trial stops when its best report so far is worse than the median of the
    means that at least three other trials had up to there. From the first rung on, at every report."""

    def __init__(self, ladder: Ladder, mode: str) -> None:
        assert ladder.grace is not None
        self._budget, self._first, self._seen = ladder.budget, ladder.grace, dict[int, int]()
        # An endless time slice: it never asks the controller whom to pause instead.
        super().__init__(
            time_attr="step",
            metric=OBJECTIVE,
            mode=mode,
            grace_period=ladder.grace,
            min_time_slice=math.inf,  # type: ignore[arg-type]
        )

    def judge(self, number: int, step: int, value: float | None, beside: Beside = ()) -> Verdict:
        """As `Judge` says."""
        if value is None:
            return TrialScheduler.STOP, None
        key: Any = _Key(str(number))
        if step <= self._seen.get(number, 0):  # a second attempt repeats what the first one said
            return TrialScheduler.CONTINUE, None
        self._seen[number] = step
        verdict = self.on_trial_result(_NOBODY, key, {self._time_attr: step, OBJECTIVE: value})
        if step >= self._budget:
            return TrialScheduler.CONTINUE, None
        means = [self._running_mean(other, step) for other in self._trials_beyond_time(step) if other != key]
        if step < self._first or len(means) < self._min_samples_required:
            return verdict, None
        middle = sorted(map(float, means))
        half = len(middle) // 2
        cutoff = middle[half] if len(middle) % 2 else (middle[half - 1] + middle[half]) / 2
        return verdict, Decision(float(step), cutoff, verdict == TrialScheduler.STOP)


class Always:
    """Stops nobody but the diverged."""

    def judge(self, number: int, step: int, value: float | None, beside: Beside = ()) -> Verdict:
        """As `Judge` says."""
        return TrialScheduler.STOP if value is None else TrialScheduler.CONTINUE, None


class Patience:
    """Stops a trial whose objective has not become better for `patience` reports, whatever the others do."""

    def __init__(self, ladder: Ladder, mode: str) -> None:
        assert ladder.patience is not None
        self._ladder, self._patience, self._sign = ladder, ladder.patience, 1.0 if mode == "max" else -1.0
        self._best: dict[int, tuple[float, int]] = {}  # trial -> best so far, and its report

    def judge(self, number: int, step: int, value: float | None, beside: Beside = ()) -> Verdict:
        """As `Judge` says."""
        if value is None:
            return TrialScheduler.STOP, None
        best, at = self._best.get(number, (-math.inf, 0))
        if self._sign * value > best:
            self._best[number] = (self._sign * value, step)
        elif step - at >= self._patience and step < self._ladder.budget:
            epochs = (step - at) / self._ladder.reports_per_epoch
            why = f"not better than {self._sign * best:.6g} for {epochs:g} epochs"
            return TrialScheduler.STOP, Decision(float(step), self._sign * best, True, why)
        return TrialScheduler.CONTINUE, None


SCHEDULERS: dict[str, Callable[[Ladder, str], Judge]] = {
    "asha": lambda ladder, mode: Asha(ladder, ladder.steps()[0], mode),
    "hyperband": Hyperband,
    "median": Median,
    "none": lambda _ladder, _mode: Always(),
}
