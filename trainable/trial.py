"""One trial as Ray Tune sees it: each `step` passes the next report on. No training happens in this file.

What a step returns:
    step, objective, metrics    the report: its index, the number the sweep looks at, all its numbers
    device                      where it was trained
    remembered                  this report comes from a checkpoint's memory, and may be known
    checkpoint                  (step, sha256), when one was taken after this report; always after a confirmation
    unsaved                     why a checkpoint could not be written
    attempt                     which attempt says so: a later one may have begun on another machine
    unreachable                 alone: this machine does not see the folder of the checkpoints
    restored, refused           on the first one after a restart: the step it went on from, and why not a later one
    done, state, reason, error  on the last one: COMPLETED, DIVERGED or FAILED, and why

A trial's own exception is an answer (FAILED, with its traceback), not a reason to retry: it would fail again. Retries
are for processes and nodes that die, and are Tune's; the new process finds the trial's checkpoints by itself.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from ray import tune

from trainable.checkpoints import Checkpoints
from trainable.config import parsed
from trainable.report import Report
from trainable.storage import Folder

if TYPE_CHECKING:  # torch is imported where training happens, never on the driver
    from trainable.data import Dataset
    from trainable.state import State


class Trial(tune.Trainable):
    """Trains one hyperparameter set after another in the same process, on the same resident data.

    Its config is what `sweeps.engine.search` deals: trial (its number), arm, phase, config (a Config as a dict),
    attempt, reported (the last step in the record) and checkpoints ({step: sha256} in the record).
    """

    def setup(
        self,
        config: dict[str, Any],
        data: Dataset | None = None,
        objectives: tuple[str, ...] = ("val_accuracy",),
        max_parameters: int | None = None,
        threads: int = 1,
        checkpoints: str = "",
        checkpoint_seconds: float = 30.0,
        mark: str = "",
    ) -> None:
        """`data` (without its test split) is mapped from Ray's object store and made resident once a process.

        `objectives` are reported, the first one as the number the scheduler looks at. A model of more than
        `max_parameters` is not trained.
        `mark`: a file that the driver put into `checkpoints`, on a cluster: who does not see it is elsewhere.
        """
        from trainable.data import Tensors
        from trainable.train import pick_device, set_threads

        assert data is not None
        if data.test is not None:
            raise ValueError("a trial must not see the test split; give it data.without_test()")
        set_threads(threads)
        self._device = pick_device()
        self._data = Tensors.of(data, self._device)
        self._objectives, self._max_parameters = objectives, max_parameters
        self._root, self._every, self._mark = checkpoints, checkpoint_seconds, mark
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next hyperparameter set: Tune's `reuse_actors`, which saves a process start a trial."""
        self.config = new_config
        self._reports: Iterator[Report] | None = None
        self._state: State | None = None  # None also when the trial is done
        self._once: dict[str, Any] = {}  # what the next result says once
        self._saved = (0, time.monotonic())  # step and time of the last checkpoint
        return True

    def step(self) -> dict[str, Any]:
        try:
            if self._reports is None:
                if unreachable := self._unreachable():
                    return {"unreachable": unreachable, "done": True}
                self._reports = self._begin()
            result = self._result(next(self._reports))
        except Exception as error:
            result = _failed(error)
        result |= {"attempt": self.config.get("attempt", 1)} | self._once
        self._once = {}
        if result.get("done"):
            if result["state"] == "COMPLETED" and self.config["phase"] == "confirm":
                result["checkpoint"] = self._checkpoint()  # the model that is scored on the test split
            self._state = None
        elif time.monotonic() - self._saved[1] >= self._every:
            try:
                result["checkpoint"] = self._checkpoint()
            except OSError as error:  # a full disk: training does not need the checkpoint
                self._saved = (self._saved[0], time.monotonic())
                result["unsaved"] = str(error)
        return result

    def cleanup(self) -> None:
        """Tune ends this process: keep what the trial has reached, if it is in the middle of something."""
        if self._state is not None and self._state.step > self._saved[0]:
            self._checkpoint()

    def _unreachable(self) -> str | None:
        if not self._mark:
            return None
        try:
            seen = self._mark in Folder(self._root).names()
        except OSError as error:
            return f"{self._root} cannot be read here: {error}"
        self._mark = "" if seen else self._mark  # once a process
        return None if seen else f"{self._root} is not the driver's folder of that name"

    def _begin(self) -> Iterator[Report]:
        """The trial's reports, from its newest checkpoint on, if it has one.

        A checkpoint holds the reports that led to it; those that the driver died too early to record come again.
        """
        from trainable.model import parameters
        from trainable.state import State
        from trainable.train import train

        config = parsed(self.config["config"])
        known = {int(step): digest for step, digest in self.config.get("checkpoints", {}).items()}
        self._store = Checkpoints(self._root, self.config["trial"], self.config.get("attempt", 1))
        self._state, refused = self._store.load(config, self._data, known)
        if self._state:
            self._once["restored"] = self._state.step
            self._saved = (self._state.step, time.monotonic())
        if refused:
            self._once["refused"] = refused
        self._state = self._state or State.fresh(config, self._data)
        self._parameters = parameters(self._state.model)
        if self._max_parameters is not None and self._parameters > self._max_parameters:
            raise Infeasible(f"parameters <= {self._max_parameters} must hold, but got {self._parameters}")
        self._remembered = self._state.step
        known_step = self.config.get("reported", 0)
        missing = [Report(**{"val_accuracy": None, **row}) for row in self._state.history if row["step"] > known_step]
        return chain(missing, train(config, self._data, self._device, state=self._state))

    def _checkpoint(self) -> tuple[int, str]:
        assert self._state is not None
        saved = self._store.save(self._state)
        self._saved = (saved.step, time.monotonic())
        return saved.step, saved.sha256

    def _result(self, report: Report) -> dict[str, Any]:
        metrics = report.asdict()
        del metrics["step"]
        if "parameters" in self._objectives:
            metrics["parameters"] = self._parameters
        if "seconds_per_epoch" in self._objectives:
            metrics["seconds_per_epoch"] = report.seconds / report.epoch * report.step
        for name in self._objectives:
            if name not in metrics:
                raise KeyError(f"the objective {name!r} is not in the report, which holds {', '.join(metrics)}")
        result: dict[str, Any] = {
            "step": report.step,
            "objective": metrics[self._objectives[0]],
            "metrics": metrics,
            "device": str(self._device),
        }
        if report.step <= self._remembered:
            result["remembered"] = True
        if not report.finite:
            bad = ", ".join(f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value))
            result |= {"done": True, "state": "DIVERGED", "reason": f"{bad} at epoch {report.epoch:g}"}
        elif self._state is not None and report.step >= self._state.config.reports:
            result |= {"done": True, "state": "COMPLETED"}
        return result


class Infeasible(ValueError):
    """A model that may not be trained: the rule and the value."""


def _failed(error: Exception) -> dict[str, Any]:
    if isinstance(error, Infeasible):
        return {"done": True, "state": "FAILED", "reason": f"infeasible: {error}"}
    reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "can't allocate" in str(error):
        reason = f"out of memory ({reason})"
    return {"done": True, "state": "FAILED", "reason": reason, "error": traceback.format_exc()}
