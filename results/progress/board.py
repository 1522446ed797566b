"""The state of a running sweep in numbers: trials, rungs, best scores, and the time left."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import inf, isfinite, nan

from rungwise.results.io.formatting import duration, format_metric
from rungwise.results.record.definition import Definition
from rungwise.results.record.types import ReportRow, State, Trial

RECENT = 12  # trials, or twice as many as run at once: how fast a busy machine trains changes
SLOWER = 1.25  # as the time left is 0.77 to 0.89 of what it then takes (six sweeps by README's command)
_GOLDEN = 0.618_033_988_749_895  # its multiples, modulo 1, are spread evenly however many there are


@dataclass
class Running:
    """A trial in flight."""

    arm: str
    phase: str = "search"
    epoch: float = 0.0
    objective: float | None = None
    since: float = 0.0  # when it was started here
    last: float = 0.0  # when it reported last, or was started
    first: float = 0.0  # its epoch then
    opened: float | None = None  # when it reported for the first time here
    opening: float = 0.0  # its epoch then

    def seconds(self, epochs: float, now: float = inf) -> float | None:
        """What a training of so many epochs takes from its start, at the pace since the first report, which waits for
        imports and data. None before that report, and until `now` also while the next one may come sooner than it did.
        """
        if self.opened is None:
            return None
        start, first = self.opened - self.since, self.opening - self.first
        if self.epoch > self.opening:
            pace = (self.last - self.opened) / (self.epoch - self.opening)
        elif now - self.opened < start:
            return None
        else:
            pace = start / first
        return start + max(0.0, epochs - first) * pace


@dataclass
class Board:
    """Counts and best scores of a sweep, updated by every start, report and end of a trial."""

    trials: int  # of the search, asked for in all; 0 where searches are dealt by epochs
    arms: Sequence[str]
    rungs: Sequence[float]  # epochs, the budget last
    sign: float  # 1: the objective is maximised, -1: minimised
    metric: str
    folds: int = 0  # of a trial, whose last report is then its score; 0: its best one is
    title: str = ""  # what is searched, and on which data
    states: Counter[State] = field(default_factory=Counter)
    running: dict[int, Running] = field(default_factory=dict)
    deadline: float | None = None  # when the command shall have ended, in seconds of `now`
    is_confirming: bool = False  # whether no trial of the search follows, however many there were
    closing: float = 0.0  # seconds from the last report to the end of the command, about
    repeats: int = 0  # confirmations and audits to come, about
    repeated: int = 0  # of them, those that ended
    waiting: dict[int, Running] = field(default_factory=dict)  # of an earlier driver, to be carried on
    scores: dict[int, tuple[str, float]] = field(default_factory=dict)  # trial -> arm, best objective
    reached: Counter[float] = field(default_factory=Counter)  # rung -> trials
    stopped: Counter[float] = field(default_factory=Counter)  # rung -> trials
    epochs: float = 0.0  # trained by ended trials and those in flight
    epochs_here: float = 0.0  # trained since this driver started
    now: Callable[[], float] = time.monotonic
    since: float = field(default_factory=time.monotonic)
    paces: list[float] = field(default_factory=list)  # seconds an epoch, of each trial that ended here
    costs: list[float] = field(default_factory=list)  # seconds of a full training, by each of them that reported twice
    rough_costs: list[float] = field(default_factory=list)  # the same, by those that reported once: at most that
    widest: int = 0  # trials in flight at once, so far

    @property
    def done(self) -> int:
        return self.states.total()

    @property
    def progress(self) -> str:
        """'5/16', or '5' where nobody knows how many there will be."""
        return f"{self.done}/{self.trials}" if self.trials else f"{self.done}"

    @property
    def best(self) -> dict[str, tuple[float, int]]:
        """{arm: (objective, trial)}; a diverged, failed or lost trial is never best, nor one whose last report breaks a
        constraint."""
        best: dict[str, tuple[float, int]] = {}
        for number, (arm, score) in self.scores.copy().items():
            if arm not in best or self.sign * (score - best[arm][0]) > 0:
                best[arm] = (score, number)
        return best

    def started(self, number: int, arm: str, phase: str = "search") -> None:
        # A second attempt, and a trial of an earlier driver, go on where they were.
        trial = self.running.setdefault(number, self.waiting.pop(number, Running(arm, phase)))
        trial.since, trial.last, trial.first, trial.opened = self.now(), self.now(), trial.epoch, None
        self.widest = max(self.widest, len(self.running))

    def reported(self, number: int, epoch: float, objective: float | None, *, feasible: bool = True) -> None:
        """`objective`: None where it is no number; `feasible`: whether the report keeps the constraints."""
        trial = self.running[number]
        gained = max(0.0, epoch - trial.epoch)
        self.epochs += gained
        self.epochs_here += gained
        before, trial.epoch, trial.objective = trial.epoch, max(epoch, trial.epoch), objective
        trial.last = self.now()
        if trial.opened is None and trial.epoch > trial.first:
            trial.opened, trial.opening = trial.last, trial.epoch
        if trial.phase != "search":
            return
        self.reached.update(rung for rung in self.rungs if before < rung <= epoch)
        if not feasible:
            self.scores.pop(number, None)
        elif objective is not None:
            score = objective if self.folds else self.scores.get(number, (trial.arm, objective))[1]
            self.scores[number] = (trial.arm, max(score, objective, key=lambda value: self.sign * value))

    def ended(self, number: int, state: State) -> None:
        trial = self.running.pop(number, None)
        if trial and trial.epoch > trial.first:
            self.paces.append((trial.last - trial.since) / (trial.epoch - trial.first))
            costs = self.costs if trial.epoch > trial.opening else self.rough_costs
            costs.append(trial.seconds(self.rungs[-1]) or 0.0)
        if trial and trial.phase != "search":
            self.repeated += 1
            return
        self.states[state] += 1
        if trial and state is State.STOPPED:
            # With a fractional eta a rung lies between two reports, and the one after it decides.
            self.stopped[max((rung for rung in self.rungs if rung <= trial.epoch), default=trial.epoch)] += 1
        if state in (State.DIVERGED, State.FAILED, State.LOST) or (self.folds and state is State.STOPPED):
            self.scores.pop(number, None)  # a mean over few folds is a lucky one

    def replay(
        self, trials: Iterable[Trial], curves: Mapping[int, Mapping[int, ReportRow]], definition: Definition
    ) -> None:
        """Count what the record holds, as if it had happened under this driver."""
        for trial in trials:
            self.started(trial.trial, trial.arm, trial.phase)
            for _, report in sorted(curves.get(trial.trial, {}).items()):
                self.replay_report(report, definition)
            if trial.state.ended:
                self.ended(trial.trial, trial.state)
        self.begin_driver()

    def replay_report(self, report: ReportRow, definition: Definition) -> None:
        """Enter a report of the record."""
        score, feasible = report.metrics.get(self.metric, nan), definition.breach(report.metrics) is None
        known = score if isfinite(score) else None
        self.reported(report.trial, report.metrics["epoch"], known, feasible=feasible)

    def begin_driver(self) -> None:
        """What has been entered so far happened under earlier drivers; their trials in flight are to be carried on."""
        self.waiting, self.running, self.epochs_here = self.running, {}, 0.0
        self.paces, self.costs, self.rough_costs, self.widest = [], [], [], 0

    @property
    def rate(self) -> float:
        """Trial-epochs a second, of this driver."""
        return self.epochs_here / max(1e-9, self.now() - self.since)

    @property
    def seconds_left(self) -> float | None:
        """An estimate, once a trial has ended: trials in flight and to come at the recent pace, over as many slots as
        were used, and what follows the last of them."""
        if not self.done or not self.paces:
            return None
        recent = self.paces[-max(RECENT, 2 * self.widest) :]
        pace, now = sum(recent) / len(recent), self.now()
        search: list[float] = []
        confirm: list[float] = []
        lucks = (index * _GOLDEN % 1.0 for index in count(1))
        for one in list(self.running.copy().values()):
            own = (one.last - one.since) / (one.epoch - one.first) if one.epoch > one.first else pace
            left = max(0.0, self._to_come(one, next(lucks)) * own - (now - one.last))
            (search if one.phase == "search" else confirm).append(left)
        waiting = [one for one in self.waiting.copy().values() if one.phase == "search"]
        fresh = 0 if self.is_confirming else self.trials - self.done - len(search) - len(waiting)
        jobs = [self._to_come(one, next(lucks)) * pace for one in [*waiting, *[Running("")] * fresh]]
        repeats = self.repeats - self.repeated - len(confirm)
        first = _makespan(search, jobs, self.widest)
        left = first + _makespan(confirm, [self.rungs[-1] * pace] * repeats, self.widest) + self.closing
        return left if self.deadline is None or self.is_confirming else min(left, max(0.0, self.deadline - now))

    @property
    def seconds_after_search(self) -> float | None:
        """What the repeats take that have not ended, as the last trials trained, and what follows; None before any
        report."""
        begun = [one.seconds(self.rungs[-1], self.now()) for one in self.running.values()]
        recent = (
            self.costs[-max(RECENT, 2 * self.widest) :]
            or [seconds for seconds in begun if seconds is not None]
            or self.rough_costs
        )
        if not recent:
            return None
        each = sum(recent) / len(recent)
        return SLOWER * _makespan([], [each] * (self.repeats - self.repeated), self.widest) + self.closing

    def _to_come(self, trial: Running, luck: float) -> float:
        """Epochs that a trial still trains if rungs pass as large a share as so far; one of `luck` 0 stops first."""
        passes = 1.0
        for rung in self.rungs[:-1]:
            if trial.phase == "search" and rung > trial.epoch and self.reached[rung]:
                passes *= 1 - self.stopped[rung] / self.reached[rung]
                if luck < 1 - passes:
                    return rung - trial.epoch
        return max(0.0, self.rungs[-1] - trial.epoch)

    def clock(self) -> str:
        """'2 min 10 s elapsed, about 1 min 05 s left'"""
        left = self.seconds_left
        elapsed = f"{duration(round(self.now() - self.since))} elapsed"
        return elapsed if left is None else f"{elapsed}, about {duration(max(1, round(left)))} left"

    def counts(self) -> str:
        """'12/160 trials (4 completed, 8 stopped), 3 of about 22 retrained, 1.25 epochs/s'"""
        states = ", ".join(f"{count} {state.lower()}" for state, count in sorted(self.states.items()))
        parts = [
            f"{self.progress} trial{'' if self.progress == '1' else 's'}" + (f" ({states})" if states else ""),
            *([f"{self.repeated} of about {self.repeats} retrained"] if self.repeated else []),
            f"{self.rate:.2f} epochs/s",
        ]
        return ", ".join(parts)

    def line(self) -> str:
        """The whole board in one line."""
        best = ", ".join(
            f"{arm} {format_metric(value, self.metric)} (trial {number})"
            for arm, (value, number) in sorted(self.best.items())
        )
        return "; ".join([self.clock(), self.counts(), f"best {self.metric}: {best}" if best else "no report yet"])


def _makespan(begun: Iterable[float], jobs: Iterable[float], slots: int) -> float:
    """When the last of `jobs` ends, each given to the slot that is free first; `begun` are in their slots already."""
    free = sorted(begun)
    free = [0.0] * (slots - len(free)) + free
    for job in jobs:
        heapq.heapreplace(free, free[0] + job)
    return max(free, default=0.0)
