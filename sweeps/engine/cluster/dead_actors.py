"""Tune and a process that dies while it waits for its next trial.

Tune 2.60 keeps such a process to use it again, notices its death when it hands it a trial, and is told of that death
twice. The first notice returns the trial to the queue, where Tune still holds it for one that is handed over, and so
would never start it; by the second notice Tune gives it up, whatever its retries.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from rungwise.engine.cluster import compat

_NOTICE = "_trial_task_failure"  # of Tune's controller: a trial's process has failed at a task


def counted_once() -> AbstractContextManager[None]:
    """While Tune runs: a death is one failure of the trial that the process was handed, which is then retried."""
    return compat.controller_method(_NOTICE, _noticing)


def _noticing(original: Callable[..., Any]) -> Callable[..., Any]:
    def notice(self: Any, trial: Any, exception: Exception) -> None:
        handed_over: set[Any] = getattr(self, "_resetting_trials", set())
        if trial not in handed_over and trial.status == "PENDING":
            return  # it has been returned to the queue
        handed_over.discard(trial)
        original(self, trial, exception)

    return notice
