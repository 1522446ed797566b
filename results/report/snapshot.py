"""A snapshot of a run: every part of the report sees the same trials while the driver continues to write."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from rungwise.results.io.formatting import format_metric
from rungwise.results.record.definition import Definition, rung_steps
from rungwise.results.record.reader import Reader
from rungwise.results.record.sessions import ended_at, session_spans, sweep_state
from rungwise.results.record.types import NEVER_BEST, ReportRow, Session, State, SweepState, Trial
from rungwise.results.tables.tables import tables
from rungwise.trainable.messages import FOLD

EPSILON = 1e-9  # epochs: a fraction of an epoch is a float
MOST_RUNGS = 1000  # an eta of little more than 1 has no end of them


class FrozenReader(Reader):
    """A reader of one state of the record: all its reads are one transaction."""

    def __init__(self, folder: Path) -> None:
        """Raises RecordError when there is no whole record in `folder`."""
        super().__init__(folder)
        self._db.execute("BEGIN")
        self._trials: list[Trial] | None = None

    def trials(self, phase: str | None = None) -> list[Trial]:
        """All trials, by number; read once, as every part of the page asks for them."""
        if self._trials is None:
            self._trials = super().trials()
        return [trial for trial in self._trials if phase in (None, trial.phase)]

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        yield


@dataclass(frozen=True, slots=True)
class Entry:
    """A trial with what it reported. `curve` is what its last attempt reported: (epoch, objective, time), by epoch."""

    trial: Trial
    curve: list[tuple[float, float, float]]  # the objective may be NaN or infinite
    rank: int | None  # 1 = best of its phase
    best: float | None
    best_epoch: float | None
    epochs: float | None  # at its last report
    seconds: float | None
    of_folds: Sequence[str] = ()  # the objective of each fold alone, as text

    @property
    def number(self) -> int:
        return self.trial.trial

    @property
    def rankable(self) -> bool:
        """Whether it may be called best."""
        return self.best is not None and self.trial.state not in NEVER_BEST

    def at(self, epoch: float) -> float | None:
        """The objective at `epoch`; None when the trial did not get there, or had no finite value there."""
        index = bisect_left(self.curve, epoch - EPSILON, key=lambda point: point[0])
        if index == len(self.curve) or not math.isfinite(self.curve[index][1]):
            return None
        return self.curve[index][1]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One execution of a trial, from its start to its end; seconds since the epoch."""

    trial: Trial
    attempt: int  # 1 for the first
    start: float
    end: float

    @property
    def is_last(self) -> bool:
        """Whether the trial ended with it; an earlier one was resumed by the next."""
        return self.attempt >= self.trial.attempts


@dataclass(frozen=True)
class Snapshot:
    """What the page is made of."""

    definition: Definition
    about: Mapping[str, Mapping[str, Any]]  # hyperparameter -> unit, help
    meta: Mapping[str, Any]  # forecast, audit, test, answer: None where the record has none
    entries: Sequence[Entry]
    sessions: Sequence[Session]
    state: SweepState
    ended: float | None  # seconds since the epoch: the last session's end, or its last sign of life
    report_times: Sequence[float]  # times of all reports, in order
    reports: int
    attempts: Sequence[Attempt] = ()

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def metric(self) -> str:
        return self.definition.metric

    @property
    def sign(self) -> float:
        """1 when more is better, else -1."""
        return self.definition.sign

    @property
    def epochs(self) -> float:
        """The full budget of a trial; of a record without a definition, the longest curve."""
        longest = max((entry.epochs or 0.0 for entry in self.entries), default=0.0)
        return float(self.definition.trial_epochs) or longest

    @cached_property
    def search(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.trial.phase == "search"]

    @cached_property
    def arms(self) -> list[str]:
        """In the order in which the sweep names them."""
        return list(
            dict.fromkeys(
                [*self.definition.arms, *(entry.trial.arm for entry in self.entries if not entry.trial.is_untuned)]
            )
        )

    @cached_property
    def best(self) -> Entry | None:
        """The best trial of the search so far."""
        return first_ranked(self.search)

    @cached_property
    def rungs(self) -> list[float]:
        """Where trials are compared, in epochs, lowest first, the full budget last."""
        rungs = {report for entry in self.entries if (report := entry.trial.stop_rung) is not None}
        asked = self.definition
        if asked.scheduler in ("asha", "hyperband") and asked.grace and asked.eta > 1:
            reports = asked.trial_reports or self.epochs * asked.reports_per_epoch
            steps = rung_steps(asked.to_reports(asked.grace), reports - EPSILON, asked.eta)
            rungs |= {asked.to_epochs(step) for step in islice(steps, MOST_RUNGS)}
        below = sorted(rung for rung in rungs if rung < self.epochs - EPSILON)
        return [*below, self.epochs] if self.epochs else below

    @cached_property
    def spans(self) -> list[tuple[float, float]]:
        """(start, end) of each session, seconds since the epoch."""

        def last_report(before: float) -> float | None:
            index = bisect_left(self.report_times, before)
            return self.report_times[index - 1] if index else None

        return session_spans(self.sessions, self.ended, last_report)

    def worked(self, at: float) -> float:
        """Seconds that drivers had been at work by the time `at`: nights between two sessions do not count."""
        return sum(max(0.0, min(end, at) - start) for start, end in self.spans)


def read(reader: Reader) -> Snapshot:
    """Read everything at one moment. `reader` should be a `FrozenReader`, or parts may be a second apart."""
    definition = reader.definition()
    rows = {row["trial"]: row for row in tables(reader).trials.to_pylist()}
    curves: dict[int, list[tuple[float, float, float]]] = {}
    report_times = []
    reports = 0
    last_reports: dict[int, dict[int, ReportRow]] = {}  # trial -> step -> the last attempt's report, as Reader.curves
    spans: dict[tuple[int, int], tuple[float, float]] = {}  # (trial, attempt) -> its start and its last report
    for row in sorted(reader.reports(), key=lambda row: (row.attempt, row.step)):
        last_reports.setdefault(row.trial, {})[row.step] = row
        begun = row.at - row.metrics.get("seconds", 0.0)
        spans[row.trial, row.attempt] = (spans.get((row.trial, row.attempt), (begun, 0.0))[0], row.at)
    for number, curve in last_reports.items():
        reports += len(curve)
        points = [
            (row.metrics.get("epoch", float(step)), row.metrics.get(definition.metric, math.nan), row.at)
            for step, row in curve.items()
        ]
        curves[number] = sorted(point for point in points if math.isfinite(point[0]))
        report_times += [point[2] for point in points]
    entries = []
    trials = reader.trials()
    for trial in trials:
        row = rows.get(trial.trial, {})
        summary = {name: row.get(name) for name in ("rank", "epochs", "seconds", "best_epoch")}
        of_folds = [
            format_metric(report.metrics.get(f"{FOLD}{definition.metric}"), definition.metric)
            for _, report in sorted(last_reports.get(trial.trial, {}).items() if definition.folds else ())
        ]
        summary["of_folds"] = of_folds
        entries.append(Entry(trial, curves.get(trial.trial, []), best=row.get("best_value"), **summary))
    ended = ended_at(reader)
    return Snapshot(
        definition=definition,
        about=reader.meta("hyperparameters") or {},
        meta={key: reader.meta(key) for key in ("forecast", "audit", "test", "id")},
        entries=entries,
        sessions=reader.sessions(),
        state=sweep_state(reader),
        ended=ended,
        report_times=sorted(report_times),
        reports=reports,
        attempts=list(_attempts(trials, spans, ended)),
    )


def _attempts(
    trials: Iterable[Trial], spans: Mapping[tuple[int, int], tuple[float, float]], ended: float | None
) -> Iterator[Attempt]:
    """Every attempt that is known: the record dates the start of a trial's first and the end of its last; between them
    an attempt lasts from its first report's training to its last report."""
    for trial in trials:
        for attempt in range(1, trial.attempts + 1):
            start, end = spans.get((trial.trial, attempt), (None, None))
            if attempt == 1:
                start = trial.started or start
            if attempt == trial.attempts:
                end = trial.ended or ended or end
                start = end if start is None else start
            if start is not None:
                yield Attempt(trial, attempt, start, max(start, end or start))


def first_ranked(entries: Iterable[Entry]) -> Entry | None:
    """Of entries of one phase the one with rank 1, which has the best value; None when none has a rank."""
    return min((entry for entry in entries if entry.rank is not None), key=lambda entry: entry.rank or 0, default=None)


def by_state(entries: Sequence[Entry]) -> dict[State, list[Entry]]:
    """Entries of each state that occurs, in the order of `State`."""
    return {
        state: members for state in State if (members := [entry for entry in entries if entry.trial.state is state])
    }
