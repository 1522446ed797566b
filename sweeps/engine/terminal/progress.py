"""What a user sees while a sweep runs: a live picture on a terminal, a plain line now and then when piped."""

from __future__ import annotations

import heapq
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import isfinite, nan
from typing import TextIO

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from rungwise.results.io.formatting import duration, format_metric
from rungwise.results.io.terminal import Terminal
from rungwise.results.record.types import ReportRow, State, Trial

PLAIN_SECONDS = 10.0  # between two lines of the plain view
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


@dataclass
class Board:
    """Where the sweep stands, in numbers."""

    trials: int  # of the search, asked for in all
    arms: Sequence[str]
    rungs: Sequence[float]  # epochs, the budget last
    sign: float  # 1: the objective is maximised, -1: minimised
    metric: str
    states: Counter[State] = field(default_factory=Counter)
    running: dict[int, Running] = field(default_factory=dict)
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
    widest: int = 0  # trials in flight at once, so far

    @property
    def done(self) -> int:
        return self.states.total()

    @property
    def best(self) -> dict[str, tuple[float, int]]:
        """{arm: (objective, trial)}; a diverged, failed or lost trial is never best."""
        best: dict[str, tuple[float, int]] = {}
        for number, (arm, score) in self.scores.copy().items():
            if arm not in best or self.sign * (score - best[arm][0]) > 0:
                best[arm] = (score, number)
        return best

    def started(self, number: int, arm: str, phase: str = "search") -> None:
        # A second attempt, and a trial of an earlier driver, go on where they were.
        trial = self.running.setdefault(number, self.waiting.pop(number, Running(arm, phase)))
        trial.since, trial.last, trial.first = self.now(), self.now(), trial.epoch
        self.widest = max(self.widest, len(self.running))

    def reported(self, number: int, epoch: float, objective: float | None) -> None:
        trial = self.running[number]
        gained = max(0.0, epoch - trial.epoch)
        self.epochs += gained
        self.epochs_here += gained
        before, trial.epoch, trial.objective = trial.epoch, max(epoch, trial.epoch), objective
        trial.last = self.now()
        if trial.phase != "search":
            return
        self.reached.update(rung for rung in self.rungs if before < rung <= epoch)
        if objective is not None:
            score = self.scores.get(number, (trial.arm, objective))[1]
            self.scores[number] = (trial.arm, max(score, objective, key=lambda value: self.sign * value))

    def ended(self, number: int, state: State) -> None:
        trial = self.running.pop(number, None)
        if trial and trial.epoch > trial.first:
            self.paces.append((trial.last - trial.since) / (trial.epoch - trial.first))
        if trial and trial.phase != "search":
            self.repeated += 1
            return
        self.states[state] += 1
        if trial and state is State.STOPPED:
            # With a fractional eta a rung lies between two reports, and the one after it decides.
            self.stopped[max((rung for rung in self.rungs if rung <= trial.epoch), default=trial.epoch)] += 1
        if state in (State.DIVERGED, State.FAILED, State.LOST):
            self.scores.pop(number, None)

    def replay(self, trials: Iterable[Trial], curves: Mapping[int, Mapping[int, ReportRow]]) -> None:
        """Show what the record holds, as if it had been seen happening."""
        for trial in trials:
            self.started(trial.trial, trial.arm, trial.phase)
            for _, report in sorted(curves.get(trial.trial, {}).items()):
                score = report.metrics.get(self.metric, nan)
                self.reported(trial.trial, report.metrics["epoch"], score if isfinite(score) else None)
            if trial.state.ended:
                self.ended(trial.trial, trial.state)
        self.waiting, self.running, self.epochs_here = self.running, {}, 0.0
        self.paces, self.widest = [], 0

    @property
    def rate(self) -> float:
        """Trial-epochs a second, of this driver."""
        return self.epochs_here / max(1e-9, self.now() - self.since)

    @property
    def seconds_left(self) -> float | None:
        """A guess, once a trial has ended: what is in flight and to come, dealt to as many at once as there were."""
        if not self.done or not self.paces:
            return None
        pace, now = sum(self.paces) / len(self.paces), self.now()
        search: list[float] = []
        confirm: list[float] = []
        lucks = (index * _GOLDEN % 1.0 for index in count(1))
        for one in list(self.running.copy().values()):
            own = (one.last - one.since) / (one.epoch - one.first) if one.epoch > one.first else pace
            left = max(0.0, self._to_come(one, next(lucks)) * own - (now - one.last))
            (search if one.phase == "search" else confirm).append(left)
        waiting = [one for one in self.waiting.copy().values() if one.phase == "search"]
        fresh = self.trials - self.done - len(search) - len(waiting)
        jobs = [self._to_come(one, next(lucks)) * pace for one in [*waiting, *[Running("")] * fresh]]
        repeats = self.repeats - self.repeated - len(confirm)
        first = _makespan(search, jobs, self.widest)
        return first + _makespan(confirm, [self.rungs[-1] * pace] * repeats, self.widest)

    def _to_come(self, trial: Running, luck: float) -> float:
        """Epochs that a trial trains on when rungs let as many pass as so far; one of `luck` 0 is stopped first."""
        passes = 1.0
        for rung in self.rungs[:-1]:
            if trial.phase == "search" and rung > trial.epoch and self.reached[rung]:
                passes *= 1 - self.stopped[rung] / self.reached[rung]
                if luck < 1 - passes:
                    return rung - trial.epoch
        return max(0.0, self.rungs[-1] - trial.epoch)

    def line(self) -> str:
        """All of it in one line."""
        states = ", ".join(f"{count} {state.lower()}" for state, count in sorted(self.states.items()))
        best = ", ".join(
            f"{arm} {format_metric(value, self.metric)} (trial {number})"
            for arm, (value, number) in sorted(self.best.items())
        )
        left = self.seconds_left
        parts = [
            f"{self.done}/{self.trials} trials ended" + (f" ({states})" if states else ""),
            *([f"{self.repeated} of about {self.repeats} repeats"] if self.repeated else []),
            f"{len(self.running)} in flight",
            f"best {self.metric}: {best}" if best else "no report yet",
            f"{self.rate:.2f} epochs/s",
        ]
        return "; ".join(parts + ([f"about {duration(left)} left"] if left is not None else []))


class View:
    """Shows nothing but notes: --quiet, and the base of the other two."""

    def __init__(self, board: Board, stream: TextIO | None = None) -> None:
        self.board = board
        self.console = Terminal(file=stream or sys.stderr, soft_wrap=True)

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def note(self, line: str) -> None:
        """One line that a user should see whatever the view."""
        self.console.print(line)

    def started(self, number: int, arm: str, phase: str = "search") -> None:
        self.board.started(number, arm, phase)

    def reported(self, number: int, epoch: float, objective: float | None) -> None:
        self.board.reported(number, epoch, objective)

    def ended(self, number: int, state: State) -> None:
        self.board.ended(number, state)


class PlainView(View):
    """A line every `PLAIN_SECONDS`, for logs and pipes."""

    _last = 0.0

    def reported(self, number: int, epoch: float, objective: float | None) -> None:
        super().reported(number, epoch, objective)
        if self.board.now() - self._last >= PLAIN_SECONDS:
            self._last = self.board.now()
            self.note(f"[{duration(self.board.now() - self.board.since)}] {self.board.line()}")


class LiveView(View):
    """A picture that is redrawn four times a second."""

    def __enter__(self) -> LiveView:
        self._live = Live(get_renderable=self.render, console=self.console, refresh_per_second=4, transient=True)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def render(self) -> RenderableType:
        board = self.board
        left = board.seconds_left
        head = Table.grid(padding=(0, 2))
        head.add_column(style="bold")
        head.add_row(
            f"{board.done}/{board.trials} trials",
            ProgressBar(total=board.trials + board.repeats, completed=board.done + board.repeated, width=24),
            f"{duration(board.now() - board.since)} gone",
            f"about {duration(left)} left" if left is not None else "",
            f"{board.rate:.2f} epochs/s",
        )
        counts = [f"{state.lower()} {count}" for state, count in sorted(board.states.items())]
        states = "  ".join(counts + ([f"confirming {board.repeated}/{board.repeats}"] if board.repeated else []))
        return Group(head, states, self._arms(), self._rungs(), self._in_flight())

    def _arms(self) -> Table:
        table = Table("arm", f"best {self.board.metric}", "trial", box=None, header_style="dim", padding=(0, 2, 0, 0))
        best = self.board.best
        for arm in self.board.arms:
            value, number = best.get(arm, (None, None))
            table.add_row(arm, "-" if value is None else format_metric(value, self.board.metric), str(number or "-"))
        return table

    def _rungs(self) -> Table:
        table = Table("rung", "reached", "stopped there", box=None, header_style="dim", padding=(0, 2, 0, 0))
        for rung in self.board.rungs:
            table.add_row(f"epoch {rung:g}", str(self.board.reached[rung]), str(self.board.stopped[rung]))
        return table

    def _in_flight(self) -> Table:
        table = Table("trial", "arm", "epoch", self.board.metric, box=None, header_style="dim", padding=(0, 2, 0, 0))
        for number, trial in sorted(self.board.running.copy().items())[:12]:
            score = "-" if trial.objective is None else format_metric(trial.objective, self.board.metric)
            table.add_row(str(number), trial.arm, f"{trial.epoch:g}", score)
        return table


def _makespan(begun: Iterable[float], jobs: Iterable[float], slots: int) -> float:
    """When the last of `jobs` ends, each given to the slot that is free first; `begun` are in their slots already."""
    free = sorted(begun)
    free = [0.0] * (slots - len(free)) + free
    for job in jobs:
        heapq.heapreplace(free, free[0] + job)
    return max(free, default=0.0)


def view(board: Board, *, quiet: bool, stream: TextIO | None = None) -> View:
    """The view that suits where the output goes."""
    if quiet:
        return View(board, stream)
    # A notebook's stream says that it is a terminal, and cannot move a cursor.
    live = (stream or sys.stderr).isatty() and not Terminal(file=stream or sys.stderr).is_jupyter
    return (LiveView if live else PlainView)(board, stream)
