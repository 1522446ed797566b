"""The messages between the driver and the processes that train. No torch and no Ray here: both sides import this.

    driver -> worker    TrialAssignment; PackSettings, for a process that trains several trials; SuggestionAnswer
    worker -> driver    TrialResult, of one trial; PackResults, of all trials of such a process

Tune carries dictionaries only, and puts keys of its own beside ours. `to_tune` and `from_tune` are called where Tune
calls us; everything between passes these types on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, Self

_RESULT = "message"  # the key of a Tune result under which ours lies, in a list: Tune flattens nested dictionaries
_ACTOR = "actor"
_ADDRESS = ("hostname", "pid", "node_ip")  # keys that Tune puts into every result
Parsers = Mapping[str, Callable[[Any], Any]]  # field -> function that makes its value from a plain one
UNTUNED = "untuned"  # phase of the trials that train with the defaults, and the name that stands for their arm
SCORED_PHASES = frozenset({"confirm", "refit", UNTUNED})  # on fresh seeds: final states are kept for the test split


@dataclass(frozen=True)
class Message:
    """A value that crosses processes: to and from a dictionary of plain values, which JSON can hold."""

    _parsers: ClassVar[Parsers] = {}  # of the fields that are no plain values

    def to_dict(self) -> dict[str, Any]:
        """{field: plain value}, without the fields that are None."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return {name: _plain(value) for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The message of which `to_dict` made `values`.

        Raises:
            TypeError: for a key that is no field, and when a field without a default is missing.
        """
        parsed = dict(values)
        for name, parse in cls._parsers.items():
            if parsed.get(name) is not None:
                parsed[name] = parse(parsed[name])
        return cls(**parsed)


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return value.to_dict()
    if isinstance(value, Mapping):
        return dict(value)
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


class StudyKey(NamedTuple):
    """One independent search of an arm: it has suggestions, rungs and a winner of its own."""

    arm: str
    search: int = 1  # 1, 2, 3, ... within the arm

    def name(self, searches: int) -> str:
        """What it is called where each arm has so many: 'L2', or 'L2, search 2'."""
        return self.arm if searches == 1 else f"{self.arm}, search {self.search}"


@dataclass(frozen=True)
class TrialAssignment(Message):
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

    _parsers: ClassVar[Parsers] = {
        "checkpoints": lambda digests: {int(step): digest for step, digest in digests.items()}
    }

    @property
    def study(self) -> StudyKey:
        """The search that it belongs to."""
        return StudyKey(self.arm, self.search)

    def to_tune(self) -> dict[str, Any]:
        """The config of the Tune trial that trains it."""
        return self.to_dict()

    @classmethod
    def from_tune(cls, config: Mapping[str, Any]) -> Self:
        return cls.from_dict(config)

    def next_attempt(self) -> Self:
        """The same, after the process that trained it died."""
        return dataclasses.replace(self, attempt=self.attempt + 1)


@dataclass(frozen=True)
class CheckpointSaved(Message):
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
class Constraint(Message):
    """`value` must be at most `limit`, and is not."""

    name: str
    limit: float
    value: float

    @property
    def violation(self) -> float:
        """By how much."""
        return float(self.value - self.limit)

    def __str__(self) -> str:
        return f"{self.name} <= {self.limit} must hold, but got {self.value}"


@dataclass(frozen=True)
class Failure(Message):
    """Why a trial failed. Decisions look at `kind` and `constraint`; the texts are for people."""

    kind: FailureKind
    message: str  # one line
    constraint: Constraint | None = None
    error: str | None = None  # traceback

    _parsers: ClassVar[Parsers] = {"kind": FailureKind, "constraint": Constraint.from_dict}


class TrialEnd(StrEnum):
    """How a trial ends by itself; others are stopped by the scheduler, or lost."""

    COMPLETED = "COMPLETED"
    STOPPED = "STOPPED"  # an objective raised `optuna.TrialPruned` by itself
    DIVERGED = "DIVERGED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class WorkerAddress(Message):
    """Where a process that trains runs, as Tune says it."""

    hostname: str
    pid: int
    node_ip: str


@dataclass(frozen=True)
class SuggestionRequest(Message):
    """An objective asks for the value of a hyperparameter."""

    name: str
    distribution: str  # as Optuna writes it in JSON


@dataclass(frozen=True)
class SuggestionAnswer(Message):
    """The value that the trial's study suggests; it is in the record before it is sent."""

    trial: int
    name: str
    value: Any = None
    problem: str | None = None  # why there is none


@dataclass(frozen=True)
class TrialResult(Message):
    """The message of a trial after a report interval, and when it ends."""

    trial: int
    attempt: int = 1
    step: int = 0  # index of the report, from 1; 0: there is none
    objective: float | None = None  # of the report, what scheduler and search look at; None: not finite, nobody's score
    metrics: Mapping[str, float] = field(default_factory=dict)  # all its numbers
    device: str | None = None  # where it was trained
    remembered: bool = False  # the report comes from a checkpoint, and the record may hold it
    checkpoint: CheckpointSaved | None = None  # taken after this report; always at the end in SCORED_PHASES
    unsaved: str | None = None  # why a checkpoint could not be written
    restored: int | None = None  # on the first result after a restart: the step it went on from
    refused: tuple[str, ...] = ()  # and why not from later ones
    state: TrialEnd | None = None  # None: it goes on
    failure: Failure | None = None  # DIVERGED or FAILED: why
    unreachable: str | None = None  # alone: this machine does not see the folder of the checkpoints
    notes: tuple[str, ...] = ()  # lines for the user, each to be said once a sweep
    lost: str | None = None  # alone: it raised together with other trials, and is to be assigned again
    is_judged: bool = True  # the scheduler may stop the trial after this report
    attributes: Mapping[str, Any] = field(default_factory=dict)  # that an objective has set since the last result
    asks: SuggestionRequest | None = None  # there is no report, and the trial waits for the answer
    worker: WorkerAddress | None = None  # known on the driver's side

    _parsers: ClassVar[Parsers] = {
        "checkpoint": CheckpointSaved.from_dict,
        "refused": tuple,
        "notes": tuple,
        "state": TrialEnd,
        "failure": Failure.from_dict,
        "asks": SuggestionRequest.from_dict,
        "worker": WorkerAddress.from_dict,
    }

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
            "objective": self.objective,
            _RESULT: [self.to_dict()],
        }

    @classmethod
    def from_tune(cls, result: Mapping[str, Any]) -> Self:
        """The trial's result within Tune's, flattened or not."""
        return cls.from_dict({**result[_RESULT][0], **_address(result)})

    @classmethod
    def last_from_tune(cls, result: Mapping[str, Any] | None) -> Self | None:
        """The same of a trial that is over; None when it said nothing."""
        return cls.from_tune(result) if result and _RESULT in result else None


@dataclass(frozen=True)
class PackSettings(Message):
    """How many trials a process may hold."""

    slots: int  # 0: as many as train fastest there
    limit: int  # at most

    def to_tune(self) -> dict[str, Any]:
        """The config of the Tune trial that is this process."""
        return self.to_dict()

    @classmethod
    def from_tune(cls, config: Mapping[str, Any]) -> Self:
        return cls.from_dict(config)


@dataclass(frozen=True)
class PackResults(Message):
    """The message of a process that trains several trials, after each of its steps."""

    results: tuple[TrialResult, ...] = ()
    slots: int = 0  # how many trials it can hold
    unreachable: str | None = None  # as in TrialResult, alone
    worker: WorkerAddress | None = None  # known on the driver's side
    actor: Any = None  # the process's handle, on the first one: through it the driver answers. No plain value

    _parsers: ClassVar[Parsers] = {
        "results": lambda results: tuple(map(TrialResult.from_dict, results)),
        "worker": WorkerAddress.from_dict,
    }

    def to_tune(self) -> dict[str, Any]:
        plain = dataclasses.replace(self, actor=None).to_dict()
        return {_RESULT: [plain], **({} if self.actor is None else {_ACTOR: self.actor})}

    @classmethod
    def take_from_tune(cls, result: dict[str, Any]) -> Self:
        """The process's results, removed from Tune's result, which Tune keeps."""
        address = _address(result)
        (plain,), actor = result.pop(_RESULT), take_actor(result)
        plain = {**plain, "results": [{**one, **address} for one in plain["results"]]}
        return cls.from_dict({**plain, **address, _ACTOR: actor})


def take_actor(result: dict[str, Any]) -> Any:
    """The handle of the process that sent the result, removed from it; None where there is none."""
    return result.pop(_ACTOR, None)


def _address(result: Mapping[str, Any]) -> dict[str, Any]:
    return {"worker": {key: result[key] for key in _ADDRESS}} if "hostname" in result else {}
