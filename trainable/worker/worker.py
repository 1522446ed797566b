"""Ray Tune's trainable class for one trial, and its base. No other file of `trainable` imports Ray.

`TrialWorker` trains one hyperparameter set after another: each `step` returns the next report.

An exception of a trial, or a `sys.exit` in the user's code, is a result (FAILED, with its traceback) and no reason to
retry: it would fail again. Retries are for processes and nodes that die, and are Tune's; the new process reads the
trial's checkpoints by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from ray import tune

from rungwise.storage import Folder
from rungwise.trainable.faults import ordinary
from rungwise.trainable.messages import TrialAssignment, TrialResult
from rungwise.trainable.report import Report
from rungwise.trainable.resources import ONE_CORE, TrialResources
from rungwise.trainable.worker.trial_run import TrialRun, WorkerContext

if TYPE_CHECKING:  # torch is imported where training happens, never on the driver
    from rungwise.trainable.data.dataset import Dataset


class Worker(tune.Trainable):
    """A process that trains: its data, its resources, and the folder of checkpoints."""

    def setup(
        self,
        config: dict[str, Any],
        data: Dataset | None = None,
        objectives: tuple[str, ...] = ("val_accuracy",),
        max_parameters: int | None = None,
        resources: TrialResources = ONE_CORE,
        checkpoints: str = "",
        checkpoint_seconds: float = 30.0,
        mark: str = "",
    ) -> None:
        """Put the data on the device, once a process; called by Tune.

        Args:
            config: see `reset_config`.
            data: mapped from Ray's object store, without its test split.
            objectives: metrics that every result must have; the scheduler sees the first one.
            max_parameters: a model of more parameters is not trained.
            resources: of this process.
            checkpoints: path or URI below which they lie.
            checkpoint_seconds: time between two checkpoints of a trial.
            mark: a file that the driver put into `checkpoints`, on a cluster. A process that does not see it has
                another folder of that name.

        Raises:
            ValueError: for data with a test split.
        """
        from rungwise.trainable.data.tensors import Tensors
        from rungwise.trainable.train import prepare_process

        assert data is not None
        if data.test is not None:
            raise ValueError("a trial must not see the test split; give it data.without_test()")
        tensors = Tensors.of(data, prepare_process(resources.threads, resources.device))
        self._context = WorkerContext(tensors, objectives, max_parameters, checkpoints, checkpoint_seconds)
        self._root, self._mark = checkpoints, mark
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
        import ray

        return ray.get_runtime_context().current_actor if ray.is_initialized() else None


class TrialWorker(Worker):
    """Trains one hyperparameter set after another in the same process, on the same resident data.

    Its config is a TrialAssignment, its results are TrialResults.
    """

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next hyperparameter set: Tune's `reuse_actors`, which saves a process start a trial."""
        self.config = new_config
        self._run = TrialRun(TrialAssignment.from_tune(new_config), self._context)
        self._reports: Iterator[Report] | None = None
        return True

    def step(self) -> dict[str, Any]:
        return self._next_result().to_tune()

    def cleanup(self) -> None:
        """Save the trial's state, as Tune ends this process."""
        self._run.save()

    def _next_result(self) -> TrialResult:
        run = self._run
        try:
            with ordinary():
                if self._reports is None:
                    if unreachable := self._unreachable():
                        return TrialResult(run.assignment.trial, run.assignment.attempt, unreachable=unreachable)
                    self._reports = self._begin()
                result = run.result(next(self._reports))
        except Exception as error:
            result = run.failed(error)
        return run.finalize_result(result)

    def _begin(self) -> Iterator[Report]:
        from rungwise.trainable.train import train

        resent, state = self._run.begin(), self._run.state
        assert state is not None
        return chain(resent, train(state.config, self._context.data, state=state))
