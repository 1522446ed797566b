"""The process that scores, exports and diagnoses confirmed models, on a machine that trains.

An actor and not a task: for a task that finds no idle process, Ray 2.60 starts one and another one beforehand, and each
imports torch (3 s of CPU).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rungwise.errors import RungwiseError
from rungwise.trainable.faults import Fault, reason
from rungwise.trainable.resources import Resources

RETRIES = 3  # of a call whose process died


class ScoringProcess:
    """Starts with its first call, and holds a trial's resources until `end()`."""

    def __init__(self, resources: Resources, is_stopped: Callable[[], bool]) -> None:
        """`is_stopped`: whether the sweep is told to stop."""
        self.resources, self._is_stopped = resources, is_stopped
        self._actor: Any = None

    def call(self, work: Callable[..., Any], *given: Any) -> Any:
        """Call `work(*given)` there. Returns its result, or None once the sweep is told to stop.

        Raises:
            RungwiseError: What the call raised. An exception of another kind becomes a `Fault`.
            RayError: The process died, and so did those in which the call was tried again.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError

        if self._is_stopped():
            return None
        if self._actor is None:
            each = self.resources
            actor_class = ray.remote(
                num_cpus=each.cpus, num_gpus=each.gpus, max_restarts=RETRIES, max_task_retries=RETRIES
            )(_Caller)
            self._actor = actor_class.remote()
        pending = self._actor.call.remote(work, *given)
        while not ray.wait([pending], timeout=0.2)[0]:
            if self._is_stopped():
                self.end()
                return None
        try:
            return ray.get(pending)
        except RayTaskError as error:
            raise (error.cause if isinstance(error.cause, RungwiseError) else error) from error
        except RayError:  # the actor is dead for good, and another call may be one that does not kill it
            self.end()
            raise

    def end(self) -> None:
        """End the process; another call starts another one."""
        if self._actor is not None:
            import ray

            ray.kill(self._actor)
            self._actor = None


class _Caller:
    """The actor."""

    def call(self, work: Callable[..., Any], *given: Any) -> Any:
        return call(work, *given)


def call(work: Callable[..., Any], *given: Any) -> Any:
    """`work(*given)`. Not every exception of a user can be pickled, and `sys.exit` would end the actor: they become a
    `Fault`."""
    try:
        return work(*given)
    except RungwiseError:
        raise
    except (Exception, SystemExit) as error:
        raise Fault(reason(error)) from None
