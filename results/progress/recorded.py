"""The progress of a sweep that another process runs, from its record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rungwise.results.progress.board import Board
from rungwise.results.record.definition import Definition
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import ReportRow, Trial

META = "progress"  # of the record: an `Expected`


class Expected(NamedTuple):
    """What a driver expects of its sweep, besides what the definition says."""

    rungs: Sequence[float]  # epochs, the budget last
    repeats: int  # confirmations, refits and audits, about
    closing: float  # seconds from the last report to the end of the command, about


def board_of(definition: Definition, expected: Expected, **more: Any) -> Board:
    """The empty board of a sweep.

    Args:
        definition: What is asked.
        expected: What its driver expects.
        **more: Further fields of the board.
    """
    return Board(
        0 if definition.budget == "epochs" else definition.all_trials,
        list(definition.arms),
        expected.rungs,
        definition.sign,
        definition.metric,
        folds=definition.folds,
        title=" on ".join(filter(None, (definition.name or definition.sweep, Path(definition.data.name).name))),
        repeats=expected.repeats,
        closing=expected.closing,
        **more,
    )


class RecordedProgress:
    """A board that follows a record."""

    def __init__(self, reader: Reader) -> None:
        definition = reader.definition()
        expected = Expected(**(reader.meta(META) or {"rungs": [definition.trial_epochs], "repeats": 0, "closing": 0.0}))
        sessions = reader.sessions()
        self._reader, self._definition = reader, definition
        self._session = sessions[-1].started if sessions else 0.0
        self._seen, self._ended, self._at = 0, set[int](), self._session
        self.board = board_of(definition, expected, now=lambda: self._at or time.time(), since=self._session)
        self._is_here = False  # whether what is entered happened under the driver that runs now

    def update(self) -> None:
        """Enter what has been committed since the last time, in the order in which it happened."""
        with self._reader.snapshot():
            trials = {trial.trial: trial for trial in self._reader.trials()}
            reports = list(self._reader.reports(after=self._seen))
        self._seen = max((report.seq for report in reports), default=self._seen)
        self._ended -= {number for number, trial in trials.items() if not trial.state.ended}  # it is trained again
        current = [trial for trial in trials.values() if trial.trial not in self._ended]
        events: list[tuple[float, int, Trial, ReportRow | None]] = [
            *((trial.started or trial.created, 0, trial, None) for trial in current if trial.attempts),
            *((report.at, 1, trials[report.trial], report) for report in reports),
            *((trial.ended or trial.created, 2, trial, None) for trial in current if trial.state.ended),
        ]
        for at, kind, trial, report in sorted(events, key=lambda event: event[:2]):
            if at >= self._session and not self._is_here:
                self._is_here = True
                self.board.begin_driver()
            self._at = at
            self._enter(trial, report, ended=kind == 2)
        self._at = 0.0

    def _enter(self, trial: Trial, report: ReportRow | None, *, ended: bool) -> None:
        if trial.trial not in self.board.running:  # of a trial that is trained again the record holds the later start
            self.board.started(trial.trial, trial.arm, trial.phase)
        if report is not None:
            self.board.replay_report(report, self._definition)
        if ended:
            self._ended.add(trial.trial)
            self.board.ended(trial.trial, trial.state)
