"""A trial of the built-in training on a worker: its state, its reports and its checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from rungwise.trainable.config import parse_config
from rungwise.trainable.messages import (
    SCORED_PHASES,
    CheckpointSaved,
    TrialAssignment,
    TrialEnd,
    TrialResult,
)
from rungwise.trainable.report import Report
from rungwise.trainable.storage import CheckpointError
from rungwise.trainable.worker.trial_run import TrialRun, WorkerContext, diverged, failure_from

if TYPE_CHECKING:  # torch is imported where training happens, never on the driver
    from rungwise.trainable.training.state import State


class StateRun(TrialRun):
    """A trial in flight. `state` is None before `begin`, and when the trial is done."""

    def __init__(self, assignment: TrialAssignment, context: WorkerContext) -> None:
        super().__init__(assignment, context)
        self.state: State | None = None
        self._saved = (0, time.monotonic())  # step and time of the last checkpoint

    def results(self) -> Iterator[TrialResult]:
        from rungwise.trainable.train import train

        resent, state = self.begin(), self.state
        assert state is not None
        for report in chain(resent, train(state.config, self._context.data, state=state)):
            yield self.result(report)

    def begin(self) -> list[Report]:
        """Load the newest checkpoint, or make a new state.

        Returns:
            Reports to be sent again.

        Raises:
            Infeasible: for a model of too many parameters.
        """
        from rungwise.trainable.model import parameters
        from rungwise.trainable.train import restore_defaults
        from rungwise.trainable.training.state import State

        restore_defaults()
        assignment, context = self.assignment, self._context
        config = parse_config(assignment.config)
        self.state, refused = self._store.load(
            lambda file, digest: State.load(file, config, context.data, digest), assignment.checkpoints
        )
        if self.state:
            self._restored = self.state.step
            self._saved = (self.state.step, time.monotonic())
        self._refused = tuple(refused)
        self.state = self.state or State.fresh(config, context.data)
        self._parameters = parameters(self.state.model)
        self._require_few(self._parameters)
        self._resumed_at = self.state.step
        rows = [row for row in self.state.history if row["step"] > assignment.reported]
        return [Report.from_dict(row) for row in rows]

    def result(self, report: Report) -> TrialResult:
        """The message of a report to the driver. Raises KeyError when it lacks an objective."""
        metrics = report.asdict()
        del metrics["step"]
        objectives = self._context.objectives
        if "parameters" in objectives:
            metrics["parameters"] = self._parameters
        if "seconds_per_epoch" in objectives:
            metrics["seconds_per_epoch"] = report.seconds / report.epoch * report.step
        result = self._result(report.step, metrics, self._resumed_at)
        if not report.finite or result.objective is None:
            return diverged(result, metrics)
        if self.state is not None and report.step >= self.state.config.reports:
            return replace(result, state=TrialEnd.COMPLETED)
        return result

    def finalize_result(self, result: TrialResult) -> TrialResult:
        result = self._with_origin(result)
        if result.ended:
            if result.state is TrialEnd.COMPLETED and self.assignment.phase in SCORED_PHASES:
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
        if self.state is not None and self.state.step > self._saved[0]:
            with suppress(OSError, CheckpointError):  # the trial resumes from the previous checkpoint
                self._checkpoint()

    def _checkpoint(self) -> CheckpointSaved:
        assert self.state is not None
        saved = self._store.save(self.state.step, self.state.content())
        self._saved = (saved.step, time.monotonic())
        return saved
