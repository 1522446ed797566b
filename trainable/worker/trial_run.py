"""One trial on a worker: from its assignment to its last result. Trains nothing itself."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rungwise.errors import RungwiseError
from rungwise.trainable import faults
from rungwise.trainable.config import parse_config
from rungwise.trainable.messages import (
    CheckpointSaved,
    Constraint,
    Failure,
    FailureKind,
    TrialAssignment,
    TrialEnd,
    TrialResult,
)
from rungwise.trainable.report import Report
from rungwise.trainable.storage import CheckpointError
from rungwise.trainable.worker.checkpoints import Checkpoints

if TYPE_CHECKING:  # torch is imported where training happens, never on the driver
    from rungwise.trainable.data.tensors import Tensors
    from rungwise.trainable.training.state import State


@dataclass(frozen=True)
class WorkerContext:
    """What all trials of a worker process have in common."""

    data: Tensors
    objectives: tuple[str, ...]  # reported; the first one is what the scheduler looks at
    max_parameters: int | None  # a larger model is not trained
    checkpoints: str  # path or URI below which they lie
    checkpoint_seconds: float


class TrialRun:
    """A trial in flight. `state` is None before `begin`, and when the trial is done."""

    def __init__(self, assignment: TrialAssignment, context: WorkerContext) -> None:
        self.assignment, self._context = assignment, context
        self.state: State | None = None
        self._restored: int | None = None  # these two go out once, with the next result
        self._refused: tuple[str, ...] = ()
        self._saved = (0, time.monotonic())  # step and time of the last checkpoint

    def begin(self) -> list[Report]:
        """Load the newest checkpoint, or make a new state.

        Returns:
            Reports to be sent again: a checkpoint holds those that led to it, and the record may lack some of them,
            because the driver died too early.

        Raises:
            Infeasible: for a model of too many parameters.
        """
        from rungwise.trainable.model import parameters
        from rungwise.trainable.train import restore_defaults
        from rungwise.trainable.training.state import State

        restore_defaults()
        assignment, context = self.assignment, self._context
        config = parse_config(assignment.config)
        self._store = Checkpoints(context.checkpoints, assignment.trial, assignment.attempt, assignment.owner)
        self.state, refused = self._store.load(config, context.data, assignment.checkpoints)
        if self.state:
            self._restored = self.state.step
            self._saved = (self.state.step, time.monotonic())
        self._refused = tuple(refused)
        self.state = self.state or State.fresh(config, context.data)
        self._parameters = parameters(self.state.model)
        if context.max_parameters is not None and self._parameters > context.max_parameters:
            raise Infeasible(Constraint("parameters", context.max_parameters, self._parameters))
        self._resumed_at = self.state.step
        rows = [row for row in self.state.history if row["step"] > assignment.reported]
        return [Report(**{"val_accuracy": None, **row}) for row in rows]

    def result(self, report: Report) -> TrialResult:
        """The message of a report to the driver. Raises KeyError when it lacks an objective."""
        metrics = report.asdict()
        del metrics["step"]
        objectives = self._context.objectives
        if "parameters" in objectives:
            metrics["parameters"] = self._parameters
        if "seconds_per_epoch" in objectives:
            metrics["seconds_per_epoch"] = report.seconds / report.epoch * report.step
        for name in objectives:
            if name not in metrics:
                raise KeyError(f"the objective {name!r} is not in the report, which holds {', '.join(metrics)}")
        result = TrialResult(
            self.assignment.trial,
            self.assignment.attempt,
            step=report.step,
            objective=metrics[objectives[0]],
            metrics=metrics,
            device=str(self._context.data.device),
            remembered=report.step <= self._resumed_at,
        )
        if not report.finite:
            causes = ", ".join(f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value))
            failure = Failure(FailureKind.DIVERGED, f"{causes} at epoch {report.epoch:g}")
            return replace(result, state=TrialEnd.DIVERGED, failure=failure)
        if self.state is not None and report.step >= self.state.config.reports:
            return replace(result, state=TrialEnd.COMPLETED)
        return result

    def failed(self, error: Exception) -> TrialResult:
        """The last result of a trial that raised `error`."""
        assignment = self.assignment
        return TrialResult(assignment.trial, assignment.attempt, state=TrialEnd.FAILED, failure=failure_from(error))

    def finalize_result(self, result: TrialResult) -> TrialResult:
        """Complete a result, and save a checkpoint when one is due. The last result ends the run."""
        result = replace(result, restored=self._restored, refused=self._refused)
        self._restored, self._refused = None, ()
        if result.ended:
            if result.state is TrialEnd.COMPLETED and self.assignment.phase == "confirm":
                try:
                    result = replace(result, checkpoint=self._checkpoint())  # the model that the test split scores
                except CheckpointError as error:  # a user's module whose state is no tensors
                    result = replace(result, state=TrialEnd.FAILED, failure=failure_from(error))
            self.state = None
        elif time.monotonic() - self._saved[1] >= self._context.checkpoint_seconds:
            try:
                result = replace(result, checkpoint=self._checkpoint())
            except (OSError, CheckpointError) as error:  # a full disk: training does not need the checkpoint
                self._saved = (self._saved[0], time.monotonic())
                result = replace(result, unsaved=str(error))
        return result

    def save(self) -> None:
        """Save a checkpoint if there are reports after the last one, as the process ends."""
        if self.state is not None and self.state.step > self._saved[0]:
            with suppress(OSError, CheckpointError):  # the trial goes on from the checkpoint before
                self._checkpoint()

    def _checkpoint(self) -> CheckpointSaved:
        assert self.state is not None
        saved = self._store.save(self.state)
        self._saved = (saved.step, time.monotonic())
        return saved


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
