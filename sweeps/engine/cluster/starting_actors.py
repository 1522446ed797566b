"""Tune and a trial that is shorter than the start of a process.

Tune 2.60 gives a process that has become free to any trial that waits (tune_controller.py,
`_maybe_reuse_cached_actor`), also to one whose own process is starting at that moment, and then removes the process
that was starting. While trials end sooner than a process starts, this goes on, and a single process trains them all.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from rungwise.engine.cluster import compat

_REUSE = "_maybe_reuse_cached_actor"  # of Tune's controller: give a trial a process that is free, if there is one
_NAMES = (
    "_actor_cache", "_actor_manager", "_pending_trials", "_resetting_trials", "_staged_trials", "_started_actors",
    "_trial_to_actor",
)  # fmt: skip


def kept() -> AbstractContextManager[None]:
    """While Tune runs: a process that has become free trains another trial than those whose own is starting."""
    return compat.controller_method(_REUSE, _reusing)


def _reusing(original: Callable[..., Any]) -> Callable[..., Any]:
    def reuse(self: Any, trial: Any) -> bool:
        resources = trial.placement_group_factory
        if (
            not all(hasattr(self, name) for name in _NAMES)
            or not _has_starting_actor(self, trial)
            or not self._actor_cache.has_cached_object(resources)
            or (other := _trial_without_process(self, resources)) is None  # at the end of a search, say
        ):
            return bool(original(self, trial))
        if other in self._staged_trials:  # else Tune's next step schedules it, and gives it the process
            original(self, other)
        return False

    return reuse


def _has_starting_actor(controller: Any, trial: Any) -> bool:
    """Whether the trial has a process that holds its resources and has not begun to train."""
    actor = controller._trial_to_actor.get(trial)
    return actor in controller._actor_manager.live_actors and actor not in controller._started_actors


def _trial_without_process(controller: Any, resources: Any) -> Any:
    """The trial that has waited longest for a process with these resources; None if one is starting for each."""
    for trial in controller.get_trials():
        waits = trial in controller._pending_trials and trial not in controller._resetting_trials
        if waits and trial.placement_group_factory == resources and not _has_starting_actor(controller, trial):
            return trial
    return None
