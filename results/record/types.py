"""What a record holds: trials, reports, decisions and sessions as values, and the states that they end in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rungwise.errors import RungwiseError
from rungwise.trainable.messages import SCORED_PHASES, UNTUNED, Failure, StudyKey, TrialResult

FILE = "sweep.sqlite"  # in a run's folder
HALF = ".coming-home"  # in a run's folder: the part of a run being fetched from elsewhere that has arrived


ATTRIBUTES = "attributes"  # kind of the events that hold what an objective has set beside its trial


class State(StrEnum):
    """How a trial ended; DESIGN's one truth, from which Optuna's and MLflow's words are derived."""

    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"  # reached its budget
    STOPPED = "STOPPED"  # the scheduler stopped it: rung and cutoff are kept
    DIVERGED = "DIVERGED"  # a non-finite loss or metric
    FAILED = "FAILED"  # an exception in the trial: not retried, it would fail again
    LOST = "LOST"  # its process or node died more often than the retries allow

    @property
    def ended(self) -> bool:
        return self is not State.RUNNING


def outcome(result: TrialResult | None) -> State:
    """The state of a trial that has ended, from its last result.

    A trial that ended by itself says so in this result; one that did not was stopped by the scheduler. None means that
    its process died more often than the retries allow.
    """
    if result is None:
        return State.LOST
    return State.STOPPED if result.state is None else State(result.state)


NEVER_BEST = frozenset({State.DIVERGED, State.FAILED, State.LOST})


class SweepState(StrEnum):
    """How a driver session of the sweep ended."""

    PLANNED = "PLANNED"  # no session yet: the sweep is defined, and no driver has begun it
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    INTERRUPTED = "INTERRUPTED"  # Ctrl-C, SIGTERM or the time budget: the same command resumes
    FAILED = "FAILED"


TIME_BUDGET = "time budget"  # an event: it ended the search, and what was found is confirmed


class RecordError(RungwiseError, RuntimeError):
    """The record cannot be read or is not ours; the message names the file."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One hyperparameter set and what became of it. Times are seconds since the epoch (UTC)."""

    trial: int  # it follows from arm, search and place in the search (`engine.search.numbering`)
    arm: str
    phase: str  # search, confirm, refit, audit, untuned
    source: int | None  # the search trial that a confirmation or an audit repeats
    state: State
    params: dict[str, Any]  # what the sampler suggested
    distributions: dict[str, str]  # param -> Optuna distribution as JSON
    config: dict[str, Any]  # the whole Config that was trained
    attempts: int
    stop_rung: float | None  # epochs
    cutoff: float | None  # what the objective was compared with at that rung
    reason: str | None  # why it ended, one line
    error: str | None  # traceback of a FAILED trial
    node: str | None
    device: str | None
    created: float
    started: float | None
    ended: float | None
    failure: Failure | None = None  # why it DIVERGED, FAILED or was LOST
    search: int = 1  # which of its arm's independent searches it belongs to

    @property
    def study(self) -> StudyKey:
        """The search that it belongs to."""
        return StudyKey(self.arm, self.search)

    @property
    def is_untuned(self) -> bool:
        """Whether it trains with the defaults, and belongs to no arm."""
        return self.phase == UNTUNED

    @property
    def is_on_fresh_seed(self) -> bool:
        """Whether its final state is kept, because the test split may score it."""
        return self.phase in SCORED_PHASES


@dataclass(frozen=True, slots=True)
class Decision:
    """What the scheduler decided at a rung: `stopped` when the objective was on the wrong side of `cutoff`."""

    rung: float  # epochs
    cutoff: float | None  # None: no trial had reported there before
    stopped: bool
    why: str | None = None  # when it is not the cutoff; it becomes the trial's reason


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One report as recorded. `metrics` holds epoch, train_loss, val_loss, val_accuracy, ... (floats)."""

    seq: int
    trial: int
    attempt: int
    step: int  # 1-based index within the trial
    at: float
    decision: Decision | None
    metrics: dict[str, float]


def last_metrics(curve: Mapping[int, ReportRow]) -> dict[str, float]:
    """The numbers of the last report of a trial, {step: report}; {} without one."""
    return curve[max(curve)].metrics if curve else {}


@dataclass(frozen=True, slots=True)
class Session:
    """One driver process that worked on this run."""

    session: int
    state: SweepState
    started: float
    ended: float | None
    info: dict[str, Any]  # host, pid, command, versions, git commit
