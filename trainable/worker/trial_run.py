"""One trial on a worker, from its assignment to its last result: what all trainings have in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rungwise.errors import RungwiseError
from rungwise.trainable import faults
from rungwise.trainable.messages import (
    Constraint,
    Failure,
    FailureKind,
    SuggestionAnswer,
    TrialAssignment,
    TrialEnd,
    TrialResult,
    WorkerAddress,
)
from rungwise.trainable.worker.checkpoints import Checkpoints


@dataclass(frozen=True)
class WorkerContext:
    """What all trials of a worker process have in common."""

    data: Any  # what `Training.prepare` made of the sweep's
    objectives: tuple[str, ...]  # reported; the first one is what the scheduler looks at
    max_parameters: int | None  # a larger model is not trained
    checkpoints: str  # path or URI of their folder
    checkpoint_seconds: float
    device: str = "cpu"
    scratch: Path | None = None  # a folder of this machine that goes with the process
    worker: WorkerAddress | None = None  # of the process


class TrialRun(ABC):
    """A trial in flight.

    Attributes:
        is_hung: Whether its code still runs after it was closed or timed out: its process must end.
    """

    is_hung = False

    def __init__(self, assignment: TrialAssignment, context: WorkerContext) -> None:
        self.assignment, self._context = assignment, context
        self._store = Checkpoints(context.checkpoints, assignment.trial, assignment.attempt, assignment.owner)
        self._restored: int | None = None  # these two go out once, with the next result
        self._refused: tuple[str, ...] = ()

    @abstractmethod
    def results(self) -> Iterator[TrialResult]:
        """Train; yield the result of each report, the last one with a state. Raises what the training raises.

        A checkpoint holds the reports that led to it. Those that the record may lack, because the driver died too
        early, are sent again.
        """

    @abstractmethod
    def finalize_result(self, result: TrialResult) -> TrialResult:
        """Complete a result, with a checkpoint when one is due. The last result ends the run."""

    @abstractmethod
    def save(self) -> None:
        """Save a checkpoint if there are reports after the last one, as the process ends."""

    def close(self) -> None:
        """End a training that was stopped."""
        return

    def abandon(self) -> None:
        """Give up a training that does not answer: from another thread, end what can be ended of it."""
        self.is_hung = True

    def take_answer(self, answer: SuggestionAnswer) -> None:
        """The driver's answer to the result that was a question."""
        raise NotImplementedError(f"{type(self).__name__} asks for nothing, but got {answer}")

    def failed(self, error: Exception) -> TrialResult:
        """The last result of a trial that raised `error`."""
        assignment = self.assignment
        return TrialResult(assignment.trial, assignment.attempt, state=TrialEnd.FAILED, failure=failure_from(error))

    def _require_few(self, parameters: int) -> None:
        """Raises Infeasible for a model of more parameters than may be trained."""
        most = self._context.max_parameters
        if most is not None and parameters > most:
            raise Infeasible(Constraint("parameters", most, parameters))

    def _result(self, step: int, metrics: Mapping[str, float], resumed_at: int) -> TrialResult:
        """The message of a report to the driver; not finite objectives are for the caller.

        Args:
            step: Its index, from 1.
            metrics: All its numbers.
            resumed_at: Reports up to this one come from a checkpoint.

        Raises:
            KeyError: It lacks an objective.
        """
        objectives = self._context.objectives
        for name in objectives:
            if name not in metrics:
                raise KeyError(f"the objective {name!r} is not in the report, which contains {', '.join(metrics)}")
        return TrialResult(
            self.assignment.trial,
            self.assignment.attempt,
            step=step,
            objective=metrics[objectives[0]],
            metrics=metrics,
            device=self._context.device,
            remembered=step <= resumed_at,
        )

    def _with_origin(self, result: TrialResult) -> TrialResult:
        """A result that says where it comes from and, once, what became of the checkpoints that this trial began
        with."""
        result = replace(result, restored=self._restored, refused=self._refused, worker=self._context.worker)
        self._restored, self._refused = None, ()
        return result


def diverged(result: TrialResult, numbers: Mapping[str, float]) -> TrialResult:
    """The result of a report with these `numbers`, some of which are not finite: the trial's last one."""
    causes = ", ".join(f"{name} is {value}" for name, value in numbers.items() if not math.isfinite(value))
    failure = Failure(FailureKind.DIVERGED, f"{causes} at epoch {result.metrics['epoch']:g}")
    return replace(result, state=TrialEnd.DIVERGED, failure=failure)


class Infeasible(RungwiseError, ValueError):
    """A model that breaks a constraint, and is not trained."""

    def __init__(self, constraint: Constraint) -> None:
        super().__init__(str(constraint))
        self.constraint = constraint


def failure_from(error: Exception) -> Failure:
    """The message of an exception to the driver."""
    if isinstance(error, Infeasible):
        return Failure(FailureKind.INFEASIBLE, f"infeasible: {error}", error.constraint)
    reason, traceback = faults.reason(error), faults.report(error)
    if faults.is_out_of_memory(error):
        return Failure(FailureKind.OUT_OF_MEMORY, f"out of memory ({reason})", error=traceback)
    return Failure(FailureKind.EXCEPTION, reason, error=traceback)
