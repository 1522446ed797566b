"""The protocol of a logger, and what one pass gives it.

A logger never stands in the training's path: the follower (`results.exporters.live`) reads the record and calls `log`
in a thread of its own process, so a slow or dead service delays nothing. To add one: a class with `log` and `close` in
a module of this folder, and its line in `registry.LOGGERS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rungwise.errors import RungwiseError
from rungwise.results.analysis.answer import Answer, answer
from rungwise.results.record.definition import Definition
from rungwise.results.record.reader import Reader
from rungwise.results.record.sessions import ended_at, sweep_state
from rungwise.results.record.types import ReportRow, Session, SweepState, Trial


class LoggerError(RungwiseError, RuntimeError):
    """A logger could not be brought up to date; one line, without passwords."""


@dataclass(frozen=True, slots=True)
class RecordView:
    """The sweep at one moment, as one pass sees it."""

    reader: Reader
    definition: Definition
    identity: str  # the same for all exports of this run, of no other run
    state: SweepState
    ended: float | None
    answer: Answer | None  # None while a driver works
    sessions: Sequence[Session]
    trials: Sequence[Trial]
    rows: Mapping[int, Sequence[ReportRow]]  # trial -> what it reported after the last pass
    scores: Mapping[int, Mapping[str, float]]  # trial -> what it scores on the test split
    seq: int  # of the last report


@dataclass(frozen=True, slots=True)
class Logged:
    """What is there after a pass, and how much of it was new."""

    uri: str  # of the place, or its folder; without passwords
    trials: int  # that are there
    metrics: int  # numbers logged by this pass; 0 when all was there
    notes: tuple[str, ...] = ()  # what the place could not take as it is, a line each
    page: str = ""  # of the sweep, below the address of the server that shows the place


class Logger(Protocol):
    """One place that the sweep is exported to.

    The first view that a logger gets holds every report of the record, each later view only the reports since: what is
    there already, after an exporter was killed or another one was at work, the logger must find out from the place
    itself. So no report is lost and none is there twice, wherever an exporter was killed.
    """

    def log(self, view: RecordView) -> Logged:
        """Bring the place up to `view`.

        Raises:
            LoggerError: That failed. The logger is then closed, and the next pass begins with a new one.
        """

    def close(self) -> None:
        """Release what is open. It may follow a failure, and does not raise."""


def read_view(reader: Reader, dead: int | None, after: int) -> RecordView:
    """Read the record at one moment; of its reports those with seq > `after`.

    Args:
        reader: Of the record.
        dead: Process id of a driver that is known to be gone, whatever the record says.
        after: Number of the last report that is known.
    """
    definition = reader.definition()
    identity = str(reader.meta("id") or definition.name).replace("'", "")  # it is quoted in a filter
    state = sweep_state(reader, dead)
    result = None if state is SweepState.RUNNING else answer(reader)
    rows: dict[int, list[ReportRow]] = {}
    seq = after
    for row in reader.reports(after):
        rows.setdefault(row.trial, []).append(row)
        seq = row.seq
    return RecordView(
        reader, definition, identity, state, ended_at(reader), result,
        sessions=reader.sessions(), trials=reader.trials(), rows=rows, scores=reader.scores("test"), seq=seq,
    )  # fmt: skip


def hyperparameters(view: RecordView, trial: Trial) -> dict[str, Any]:
    """What tells a trial from others: its arm, search and phase, what the arm fixes, what was suggested.

    Args:
        view: What the trial is of.
        trial: One of it.
    """
    config = trial.config
    fixed = {name: config[name] for arm in view.definition.arms.values() for name in arm if name in config}
    about = {"arm": trial.arm, "search": trial.search, "phase": trial.phase}
    return about | fixed | trial.params
