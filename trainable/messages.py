"""The messages between the driver and the processes that train. No torch and no Ray here: both sides import this.

    driver -> worker    TrialAssignment; PackSettings, for a process that trains several trials; SuggestionAnswer
    worker -> driver    TrialResult, of one trial; PackResults, of all trials of such a process

Tune's results and configurations are dictionaries with keys of its own. `to_tune` and `from_tune` are called where Tune
calls us; everything between passes these types on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Self

OBJECTIVE = "objective"  # the key of a Tune result that the searcher and the scheduler look at
FOLD = "fold_"  # begins the name of a metric of one fold, where a report has means over folds
_MESSAGE = "message"  # the key of a Tune result under which ours lies
_ACTOR = "actor"
UNTUNED = "untuned"  # phase of the trials that train with the defaults, and the name that stands for their arm
SCORED_PHASES = frozenset({"confirm", "refit", UNTUNED})  # on fresh seeds: final states are kept for the test split


class _Sealed(list[Any]):
    """A message in a result of Tune's, which scheduler, searcher and recorder are given in turn.

    Tune keeps the last result of each trial, and writes it into snapshots, which are never read: there this is [].
    """

    def __init__(self, message: Any = None) -> None:
        super().__init__()
        self.message = message


class StudyKey(NamedTuple):
    """One independent search of an arm: it has suggestions, rungs and a winner of its own."""

    arm: str
    search: int = 1  # 1, 2, 3, ... within the arm

    def name(self, searches: int) -> str:
        """What it is called where each arm has so many: 'L2', or 'L2, search 2'."""
        return self.arm if searches == 1 else f"{self.arm}, search {self.search}"


@dataclass(frozen=True)
class TrialAssignment:
    """A trial for a worker to train, from its newest checkpoint if there is one."""

    trial: int  # its number in the record
    arm: str
    phase: str  # search, confirm, refit, audit, untuned
    config: Mapping[str, Any]  # a `trainable.config.Config`, as JSON
    attempt: int = 1  # a later one may have begun on another machine
    owner: str = ""  # of its checkpoints (`trainable.worker.checkpoints.owner`)
    reported: int = 0  # the last step in the record: what led to it need not be sent again
    checkpoints: Mapping[int, str] = field(default_factory=dict)  # step -> SHA-256, as the record knows them
    search: int = 1  # of its arm, which it belongs to

    @property
    def study(self) -> StudyKey:
        """The search that it belongs to."""
        return StudyKey(self.arm, self.search)

    def to_tune(self) -> dict[str, Any]:
        """The config of the Tune trial that trains it: plain values, as Tune writes it into snapshots."""
        return dict(vars(self))

    @classmethod
    def from_tune(cls, config: Mapping[str, Any]) -> Self:
        return cls(**config)

    def next_attempt(self) -> Self:
        """The same, after the process that trained it died."""
        return dataclasses.replace(self, attempt=self.attempt + 1)


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint in storage."""

    step: int  # reports sent when it was taken
    sha256: str


class FailureKind(StrEnum):
    """Why a trial has no result."""

    INFEASIBLE = "INFEASIBLE"  # it breaks a constraint, and was not trained
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    DIVERGED = "DIVERGED"  # a non-finite loss or metric
    EXCEPTION = "EXCEPTION"  # raised by its training, or by what makes its hyperparameters
    LOST = "LOST"  # its process or node died more often than the retries allow

    @property
    def is_infeasible(self) -> bool:
        """Whether trials with hyperparameters near these would fail, too."""
        return self in (FailureKind.INFEASIBLE, FailureKind.OUT_OF_MEMORY)


@dataclass(frozen=True)
class Constraint:
    """`value` must be at most `limit`, and is not."""

    name: str
    limit: float
    value: float

    @property
    def violation(self) -> float:
        """By how much."""
        return float(self.value - self.limit)

    def __str__(self) -> str:
        return f"{self.name} must be at most {self.limit}, but got {self.value}"


@dataclass(frozen=True)
class Failure:
    """Why a trial failed. Decisions look at `kind` and `constraint`; the texts are for people."""

    kind: FailureKind
    message: str  # one line
    constraint: Constraint | None = None
    error: str | None = None  # traceback


class TrialEnd(StrEnum):
    """How a trial ends by itself; others are stopped by the scheduler, or lost."""

    COMPLETED = "COMPLETED"
    STOPPED = "STOPPED"  # an objective raised `optuna.TrialPruned` by itself
    DIVERGED = "DIVERGED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class WorkerAddress:
    """Where a process that trains runs."""

    hostname: str
    pid: int
    node_ip: str


@dataclass(frozen=True)
class SuggestionRequest:
    """An objective asks for the value of a hyperparameter."""

    name: str
    distribution: str  # as Optuna writes it in JSON


@dataclass(frozen=True)
class SuggestionAnswer:
    """The value that the trial's study suggests; it is in the record before it is sent."""

    trial: int
    name: str
    value: Any = None
    problem: str | None = None  # why there is none


@dataclass(frozen=True)
class TrialResult:
    """The message of a trial after a report interval, and when it ends."""

    trial: int
    attempt: int = 1
    step: int = 0  # index of the report, from 1; 0: there is none
    objective: float | None = None  # of the report, for scheduler and search; None if it is not finite
    metrics: Mapping[str, float] = field(default_factory=dict)  # all its numbers
    device: str | None = None  # where it was trained
    remembered: bool = False  # the report comes from a checkpoint, and the record may hold it
    checkpoint: CheckpointSaved | None = None  # taken after this report; always at the end in SCORED_PHASES
    unsaved: str | None = None  # why a checkpoint could not be written
    restored: int | None = None  # on the first result after a restart: the step it went on from
    refused: tuple[str, ...] = ()  # and why not from later ones
    state: TrialEnd | None = None  # None: it continues
    failure: Failure | None = None  # DIVERGED or FAILED: why
    unreachable: str | None = None  # alone: this machine does not see the folder of the checkpoints
    notes: tuple[str, ...] = ()  # lines for the user, each printed once per sweep
    lost: str | None = None  # alone: it raised together with other trials, and is to be assigned again
    is_judged: bool = True  # the scheduler may stop the trial after this report
    attributes: Mapping[str, Any] = field(default_factory=dict)  # that an objective has set since the last result
    asks: SuggestionRequest | None = None  # there is no report, and the trial waits for the answer
    worker: WorkerAddress | None = None  # where it comes from

    def __post_init__(self) -> None:
        if self.objective is not None and not math.isfinite(self.objective):
            object.__setattr__(self, "objective", None)

    @property
    def ended(self) -> bool:
        """The trial sends nothing after this."""
        return self.state is not None

    def is_stale(self, assignment: TrialAssignment) -> bool:
        """Whether it is of an attempt that was given up: its machine was cut off, and the trial runs elsewhere.

        Tune drops the futures of an actor that it has given up (ray 2.60, actor_manager.py), so none should come.
        """
        return self.attempt < assignment.attempt

    def to_tune(self, actor: Any = None) -> dict[str, Any]:
        """A result of Tune's: it looks at `done` and `objective` only. `actor`: this process's handle, through which
        the driver answers what an objective asks."""
        return ({} if actor is None else {_ACTOR: actor}) | {
            "done": self.ended or self.unreachable is not None,
            OBJECTIVE: self.objective,
            _MESSAGE: _Sealed(self),
        }

    @classmethod
    def from_tune(cls, result: Mapping[str, Any]) -> Self:
        """The trial's result within Tune's, flattened or not."""
        message: Self = result[_MESSAGE].message
        return message

    @classmethod
    def last_from_tune(cls, result: Mapping[str, Any] | None) -> Self | None:
        """The same of a trial that is over; None when it said nothing."""
        return cls.from_tune(result) if result and _MESSAGE in result else None


@dataclass(frozen=True)
class PackSettings:
    """How many trials a process may hold."""

    slots: int  # 0: as many as train fastest there
    limit: int  # at most

    def to_tune(self) -> dict[str, Any]:
        """The config of the Tune trial that is this process."""
        return dict(vars(self))

    @classmethod
    def from_tune(cls, config: Mapping[str, Any]) -> Self:
        return cls(**config)


@dataclass(frozen=True)
class PackResults:
    """The message of a process that trains several trials, after each of its steps."""

    results: tuple[TrialResult, ...] = ()
    slots: int = 0  # how many trials it can hold
    unreachable: str | None = None  # as in TrialResult, alone
    worker: WorkerAddress | None = None  # where `unreachable`
    actor: Any = None  # the process's handle, on the first one: through it the driver answers

    def to_tune(self) -> dict[str, Any]:
        return {_MESSAGE: _Sealed(self)}

    @classmethod
    def take_from_tune(cls, result: dict[str, Any]) -> Self:
        """The process's results, removed from Tune's result, which Tune keeps."""
        message: Self = result.pop(_MESSAGE).message
        return message


def take_actor(result: dict[str, Any]) -> Any:
    """The handle of the process that sent the result, removed from it; None where there is none."""
    return result.pop(_ACTOR, None)
