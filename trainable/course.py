"""One trial on a worker: from the message that deals it to its last result. Trains nothing itself.

A result holds:
    step, objective, metrics    the report: its index, the number the sweep looks at, all its numbers
    device                      where it was trained
    remembered                  this report comes from a checkpoint's memory, and may be known
    checkpoint                  (step, sha256), when one was taken after this report; always after a confirmation
    unsaved                     why a checkpoint could not be written
    attempt                     which attempt says so: a later one may have begun on another machine
    restored, refused           on the first one after a restart: the step it went on from, and why not a later one
    done, state, reason, error  on the last one: COMPLETED, DIVERGED or FAILED, and why
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainable import faults
from trainable.checkpoints import Checkpoints
from trainable.config import parsed
from trainable.report import Report
from trainable.storage import CheckpointError

if TYPE_CHECKING:  # torch is imported where training happens, never on the driver
    from trainable.state import State
    from trainable.tensors import Tensors


@dataclass(frozen=True)
class Setting:
    """What all trials of a process share."""

    data: Tensors
    objectives: tuple[str, ...]  # reported; the first one is what the scheduler looks at
    max_parameters: int | None  # a larger model is not trained
    checkpoints: str  # path or URI below which they lie
    checkpoint_seconds: float


class Course:
    """A trial in flight. `state` is None before `begin`, and when the trial is done."""

    def __init__(self, message: dict[str, Any], setting: Setting) -> None:
        """`message` is what `sweeps.engine.search` deals: trial (its number), arm, phase, config (a Config as a dict),
        attempt, owner (of its checkpoints), reported (the last step in the record) and checkpoints ({step: sha256} in
        the record)."""
        self.message, self._setting = message, setting
        self.state: State | None = None
        self._once: dict[str, Any] = {}  # what the next result says once
        self._saved = (0, time.monotonic())  # step and time of the last checkpoint

    def begin(self) -> list[Report]:
        """Take the newest checkpoint, if there is one, or start afresh; returns reports to be sent again.

        A checkpoint holds the reports that led to it; those that the driver died too early to record come again.
        """
        from trainable.model import parameters
        from trainable.state import State
        from trainable.train import restore_defaults

        restore_defaults()
        setting, config = self._setting, parsed(self.message["config"])
        known = {int(step): digest for step, digest in self.message.get("checkpoints", {}).items()}
        message = self.message
        self._store = Checkpoints(
            setting.checkpoints, message["trial"], message.get("attempt", 1), message.get("owner", "")
        )
        self.state, refused = self._store.load(config, setting.data, known)
        if self.state:
            self._once["restored"] = self.state.step
            self._saved = (self.state.step, time.monotonic())
        if refused:
            self._once["refused"] = refused
        self.state = self.state or State.fresh(config, setting.data)
        self._parameters = parameters(self.state.model)
        if setting.max_parameters is not None and self._parameters > setting.max_parameters:
            raise Infeasible(f"parameters <= {setting.max_parameters} must hold, but got {self._parameters}")
        self._remembered = self.state.step
        known_step = self.message.get("reported", 0)
        return [Report(**{"val_accuracy": None, **row}) for row in self.state.history if row["step"] > known_step]

    def result(self, report: Report) -> dict[str, Any]:
        """What a report says to the driver. Raises KeyError when it lacks an objective."""
        metrics = report.asdict()
        del metrics["step"]
        objectives = self._setting.objectives
        if "parameters" in objectives:
            metrics["parameters"] = self._parameters
        if "seconds_per_epoch" in objectives:
            metrics["seconds_per_epoch"] = report.seconds / report.epoch * report.step
        for name in objectives:
            if name not in metrics:
                raise KeyError(f"the objective {name!r} is not in the report, which holds {', '.join(metrics)}")
        result: dict[str, Any] = {
            "step": report.step,
            "objective": metrics[objectives[0]],
            "metrics": metrics,
            "device": str(self._setting.data.device),
        }
        if report.step <= self._remembered:
            result["remembered"] = True
        if not report.finite:
            bad = ", ".join(f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value))
            result |= {"done": True, "state": "DIVERGED", "reason": f"{bad} at epoch {report.epoch:g}"}
        elif self.state is not None and report.step >= self.state.config.reports:
            result |= {"done": True, "state": "COMPLETED"}
        return result

    def sent(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """A result with what goes with it; takes a checkpoint when one is due. The last one ends the course."""
        result = {**result, "attempt": self.message.get("attempt", 1), **self._once}
        self._once = {}
        if result.get("done"):
            if result["state"] == "COMPLETED" and self.message["phase"] == "confirm":
                try:
                    result["checkpoint"] = self._checkpoint()  # the model that is scored on the test split
                except CheckpointError as error:  # a user's module whose state is no tensors
                    result |= failed(error)
            self.state = None
        elif time.monotonic() - self._saved[1] >= self._setting.checkpoint_seconds:
            try:
                result["checkpoint"] = self._checkpoint()
            except (OSError, CheckpointError) as error:  # a full disk: training does not need the checkpoint
                self._saved = (self._saved[0], time.monotonic())
                result["unsaved"] = str(error)
        return result

    def keep(self) -> None:
        """The process ends: keep what the trial has reached, if it is in the middle of something."""
        if self.state is not None and self.state.step > self._saved[0]:
            with suppress(OSError, CheckpointError):  # it goes on from the one before
                self._checkpoint()

    def _checkpoint(self) -> tuple[int, str]:
        assert self.state is not None
        saved = self._store.save(self.state)
        self._saved = (saved.step, time.monotonic())
        return saved.step, saved.sha256


class Infeasible(ValueError):
    """A model that may not be trained: the rule and the value."""


def failed(error: Exception) -> dict[str, Any]:
    """The last result of a trial that raised."""
    if isinstance(error, Infeasible):
        return {"done": True, "state": "FAILED", "reason": f"infeasible: {error}"}
    reason, told = faults.reason(error), faults.message(error)
    if isinstance(error, MemoryError) or "out of memory" in told.lower() or "can't allocate" in told:
        reason = f"out of memory ({reason})"
    return {"done": True, "state": "FAILED", "reason": reason, "error": faults.report(error)}
