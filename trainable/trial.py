"""One trial as Ray Tune sees it: each `step` passes the next report on. No training happens in this file.

What a step returns:
    step, objective, metrics    the report: its index, the number the sweep looks at, all its numbers
    device                      where it was trained
    done, state, reason, error  on the last one: COMPLETED, DIVERGED or FAILED, and why

A trial's own exception is an answer (FAILED, with its traceback), not a reason to retry: it would fail again. Retries
are for processes and nodes that die, and are Tune's.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ray import tune

from trainable.config import Config

if TYPE_CHECKING:  # torch is imported where training happens, never on the driver
    from trainable.data import Dataset
    from trainable.train import Report


class Trial(tune.Trainable):
    """Trains one hyperparameter set after another in the same process, on the same resident data."""

    def setup(
        self, config: dict[str, Any], data: Dataset | None = None, objective: str = "val_accuracy", threads: int = 1
    ) -> None:
        """`data` (without its test split) is mapped from Ray's object store and made resident once a process."""
        from trainable.data import Tensors
        from trainable.train import pick_device, set_threads

        assert data is not None
        set_threads(threads)
        self._device = pick_device()
        self._data = Tensors.of(data, self._device)
        self._objective = objective
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next hyperparameter set: Tune's `reuse_actors`, which saves a process start a trial."""
        self.config = new_config
        self._reports: Iterator[Report] | None = None
        return True

    def step(self) -> dict[str, Any]:
        try:
            if self._reports is None:
                from trainable.train import train

                self._trained = Config.model_validate(self.config["config"])
                self._reports = train(self._trained, self._data, self._device)
            return self._result(next(self._reports))
        except Exception as error:
            return _failed(error)

    def _result(self, report: Report) -> dict[str, Any]:
        metrics = report.asdict()
        del metrics["step"]
        if self._objective not in metrics:
            raise KeyError(f"the objective {self._objective!r} is not in the report, which holds {', '.join(metrics)}")
        result: dict[str, Any] = {
            "step": report.step,
            "objective": metrics[self._objective],
            "metrics": metrics,
            "device": str(self._device),
        }
        if not report.finite:
            bad = ", ".join(f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value))
            result |= {"done": True, "state": "DIVERGED", "reason": f"{bad} at epoch {report.epoch:g}"}
        elif report.step >= self._trained.reports:
            result |= {"done": True, "state": "COMPLETED"}
        return result


def _failed(error: Exception) -> dict[str, Any]:
    reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "can't allocate" in str(error):
        reason = f"out of memory ({reason})"
    return {"done": True, "state": "FAILED", "reason": reason, "error": traceback.format_exc()}
