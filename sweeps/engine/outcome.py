"""How a Tune trial ended, told from its last result: the one place where Tune's words become the record's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from results.record import State

OBJECTIVE = "objective"  # the key of a result that the searcher and the scheduler look at


def outcome(result: Mapping[str, Any] | None, *, error: bool = False) -> State:
    """The state of a trial that Tune calls complete.

    A trial that ended by itself says so in its last result (`trainable.trial`); one that did not was stopped by the
    scheduler; `error` means that its process died more often than the retries allow.
    """
    if error or not result:
        return State.LOST
    return State(result.get("state") or State.STOPPED)


def stale(trial: Any, result: Mapping[str, Any]) -> bool:
    """Whether a result is of an attempt that was given up: its machine was cut off, and the trial runs elsewhere.

    Tune drops the futures of an actor that it has given up (ray 2.60, actor_manager.py), so none should come.
    """
    return "attempt" in result and bool(result["attempt"] < trial.config.get("attempt", 0))


def objective(result: Mapping[str, Any] | None) -> float | None:
    """The finite objective of a result, or None: a NaN or infinite score is nobody's score."""
    value = (result or {}).get(OBJECTIVE)
    return float(value) if value is not None and math.isfinite(value) else None
