"""The record's state of a trial that has ended, from the last result that Tune has of it."""

from __future__ import annotations

from rungwise.results.record.types import State
from rungwise.trainable.messages import TrialResult

OBJECTIVE = "objective"  # the key of a Tune result that the searcher and the scheduler look at


def outcome(result: TrialResult | None) -> State:
    """The state of a trial that has ended.

    A trial that ended by itself says so in its last result; one that did not was stopped by the scheduler. None means
    that its process died more often than the retries allow.
    """
    if result is None:
        return State.LOST
    return State.STOPPED if result.state is None else State(result.state)
