"""Ray Tune's trainable class for one trial, and its base. No other file of `trainable` imports Ray.

`TrialWorker` trains one hyperparameter set after another: each `step` returns the next report.

An exception of a trial, or a `sys.exit` in the user's code, is a result (FAILED, with its traceback) and no reason to
retry: it would fail again. Retries are for processes and nodes that die, and are Tune's; the new process reads the
trial's checkpoints by itself.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune

from rungwise.storage import Folder
from rungwise.trainable.faults import end_if_forked, ordinary
from rungwise.trainable.messages import SuggestionAnswer, TrialAssignment, TrialResult, WorkerAddress
from rungwise.trainable.protocol import Training
from rungwise.trainable.resources import ONE_CORE, TrialResources
from rungwise.trainable.training.builtin import BuiltInTraining
from rungwise.trainable.worker.process_settings import ProcessSettings
from rungwise.trainable.worker.time_limit import TimeLimit, TrialTimeout
from rungwise.trainable.worker.trial_run import TrialRun, WorkerContext


class Worker(tune.Trainable):
    """A process that trains: its data, its resources, and the folder of checkpoints."""

    def setup(
        self,
        config: dict[str, Any],
        data: Any = None,
        training: Training | None = None,
        objectives: tuple[str, ...] = ("val_accuracy",),
        max_parameters: int | None = None,
        resources: TrialResources = ONE_CORE,
        checkpoints: str = "",
        checkpoint_seconds: float = 30.0,
        report_seconds: float | None = None,
        mark: str = "",
    ) -> None:
        """Put the data on the device, once a process; called by Tune.

        Args:
            config: see `reset_config`.
            data: `SweepData.search`, mapped from Ray's object store.
            training: What trains the trials; the built-in one by default.
            objectives: metrics that every result must have; the scheduler sees the first one.
            max_parameters: a model of more parameters is not trained.
            resources: of this process.
            checkpoints: path or URI of their folder.
            checkpoint_seconds: time between two checkpoints of a trial.
            report_seconds: a trial that reports nothing for so long is FAILED; None: for as long as it likes.
            mark: a file that the driver put into `checkpoints`, on a cluster. A process that does not see it has
                another folder of that name.
        """
        self._training = training or BuiltInTraining()
        prepared, device = self._training.prepare(data, resources)
        scratch = Path(self.logdir) if self.logdir else None
        node_ip = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        address = WorkerAddress(platform.node(), os.getpid(), node_ip)
        self._context = WorkerContext(
            prepared, objectives, max_parameters, checkpoints, checkpoint_seconds, device, scratch, address
        )
        self._root, self._mark = checkpoints, mark
        self._time_limit = None if report_seconds is None else TimeLimit(report_seconds)
        self.reset_config(config)

    def _unreachable(self) -> str | None:
        """Why the folder of checkpoints is not the driver's; None when it is."""
        if not self._mark:
            return None
        try:
            visible = self._mark in Folder(self._root).names()
        except OSError as error:
            return f"{self._root} cannot be read here: {error}"
        self._mark = "" if visible else self._mark  # once a process
        return None if visible else f"{self._root} is not the driver's folder of that name"

    def _actor_handle(self) -> Any:
        """The handle through which the driver calls this process; None where Ray does not run."""
        return ray.get_runtime_context().current_actor if ray.is_initialized() else None


class TrialWorker(Worker):
    """Trains one hyperparameter set after another in the same process, on the same resident data.

    Its config is a TrialAssignment, its results are TrialResults.
    """

    _run: TrialRun | None = None
    _settings: ProcessSettings | None = None  # of the process before its first trial
    _is_hung = False  # code of an earlier trial still runs in this process

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next hyperparameter set: Tune's `reuse_actors`, which saves a process start a trial."""
        self._tidy()
        self.config = new_config
        self._run = self._training.start(TrialAssignment.from_tune(new_config), self._context)
        self._results: Iterator[TrialResult] | None = None
        return True

    def reset(self, *arguments: Any, **named: Any) -> bool:
        """Tune's, before `reset_config`: it fails in a working directory that is gone."""
        self._tidy()
        return bool(super().reset(*arguments, **named))  # type: ignore[no-untyped-call]

    def _tidy(self) -> None:
        """End the trial, and put back what its code has changed of this process."""
        self._close()
        if self._settings is None:
            self._settings = ProcessSettings()
        else:
            self._settings.restore()

    def step(self) -> dict[str, Any]:
        # Not in `reset_config`: Tune retries a trial whose step fails, and gives up one whose reset does.
        self._end_if_hung()
        result = self._next_result()
        return result.to_tune(None if result.asks is None else self._actor_handle())

    def answer(self, answer: SuggestionAnswer) -> None:
        """Take the driver's answer to what the last result asked. Called before the next step."""
        if self._run is not None:
            self._run.take_answer(answer)

    def cleanup(self) -> None:
        """Save the trial's state, as Tune ends this process."""
        self._end_if_hung()
        if self._run is not None:
            self._run.save()
        self._close()
        self._end_if_hung()

    def _next_result(self) -> TrialResult:
        run = self._run
        assert run is not None
        try:
            with ordinary():
                if self._results is None:
                    if unreachable := self._unreachable():
                        return TrialResult(
                            run.assignment.trial,
                            run.assignment.attempt,
                            unreachable=unreachable,
                            worker=self._context.worker,
                        )
                    self._results = run.results()
                result = self._next(self._results)
        except TrialTimeout as error:
            run.abandon()
            self._is_hung = True
            return run.failed(error)
        except Exception as error:
            result = run.failed(error)
        result = run.finalize_result(result)
        self._is_hung = run.is_hung
        return result

    def _next(self, results: Iterator[TrialResult]) -> TrialResult:
        """The next result. Raises TrialTimeout, and what the training raises."""
        advance = partial(_advance, results, os.getpid())
        return advance() if self._time_limit is None else self._time_limit.call(advance)

    def _close(self) -> None:
        """End the trial, unless its code does not answer."""
        if self._run is not None and not self._is_hung:
            self._run.close()
            self._is_hung = self._run.is_hung

    def _end_if_hung(self) -> None:
        """End the process, as a thread cannot be ended. Its next trial runs in another process."""
        if self._is_hung:
            os._exit(1)


def _advance(results: Iterator[TrialResult], pid: int) -> TrialResult:
    try:
        return next(results)
    finally:
        end_if_forked(pid)
