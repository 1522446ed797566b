"""How a trial ended, told from its last result: the one place where a trial's and Tune's words become the record's."""

from __future__ import annotations

import math

from results.record import State
from trainable.messages import TrialAssignment, TrialResult

OBJECTIVE = "objective"  # the key of a Tune result that the searcher and the scheduler look at


def outcome(result: TrialResult | None) -> State:
    """The state of a trial that is over.

    A trial that ended by itself says so in its last result; one that did not was stopped by the scheduler. None means
    that its process died more often than the retries allow.
    """
    if result is None:
        return State.LOST
    return State.STOPPED if result.state is None else State(result.state)


def is_stale(assignment: TrialAssignment, result: TrialResult) -> bool:
    """Whether a result is of an attempt that was given up: its machine was cut off, and the trial runs elsewhere.

    Tune drops the futures of an actor that it has given up (ray 2.60, actor_manager.py), so none should come.
    """
    return result.attempt < assignment.attempt


def finite_objective(result: TrialResult) -> float | None:
    """The objective of a result, or None: a NaN or infinite score is nobody's score."""
    value = result.objective
    return float(value) if value is not None and math.isfinite(value) else None
