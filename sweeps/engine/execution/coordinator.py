"""Coordinates processes that train packs with the search, the rungs and the recorder.

To Tune such a process (a lane, `trainable.worker.pack_worker`) is one trial; to all else each trial of its pack is a
trial. For each of these the coordinator calls the search, the rungs and the recorder as Tune would, in its order (ray
2.60, tune_controller.py); they are the same objects as when a process trains one trial. It runs in Tune's loop, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.schedulers import TrialScheduler

from rungwise.engine.execution.recorder import Recorder, Unreachable, last_line
from rungwise.engine.execution.stopping import Stop
from rungwise.engine.schedulers.per_arm import Rungs
from rungwise.engine.search.dispatcher import Search
from rungwise.trainable.messages import PackResults, TrialAssignment, TrialResult

ISOLATE_AFTER_FAILURES = 2  # a trial whose process died so often is trained alone: it may kill its neighbours


@dataclass(eq=False)
class InFlightTrial:
    """A trial that a lane holds, or that is to be assigned again."""

    trial_id: str  # as the search knows it
    assignment: TrialAssignment
    num_failures: int = 0

    @property
    def number(self) -> int:
        return self.assignment.trial


@dataclass
class _Lane:
    answer: Callable[[list[int], list[TrialAssignment]], object]  # stopped, assigned
    members: dict[int, InFlightTrial] = field(default_factory=dict)


class PackCoordinator(Callback, Stopper):
    """Tune's callback for lanes, and its stopper: a search that has nothing left to dispatch ends its lanes."""

    def __init__(
        self, search: Search, rungs: Rungs, recorder: Recorder, stop: Stop, *, trials_per_worker: int, retries: int
    ) -> None:
        """`trials_per_worker`: the most trials that a process may hold, whatever it has room for."""
        self._search, self._rungs, self._recorder, self._stop = search, rungs, recorder, stop
        self._trials_per_worker, self._retries = trials_per_worker, retries
        self._lanes: dict[str, _Lane] = {}  # by their Tune trial
        self._requeued: deque[InFlightTrial] = deque()  # their lanes died: they are assigned again
        self._failures: dict[str, int] = {}  # of a lane, as Tune counts them: a machine that was preempted is none
        self._ids = map("member{}".format, count(1))
        self._over = False

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks into snapshots that are never read

    # -- Tune's side -------------------------------------------------------------------------------------------

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._over or self._stop.stop_all()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A lane reports."""
        pack = PackResults.take_from_tune(result)
        if pack.unreachable is not None:
            number = next((member.number for member in self._requeued), 1)
            raise Unreachable(number, pack.unreachable, pack.worker)
        if pack.actor is not None:
            self._requeue_all(trial.trial_id, "its lane restarted")
            self._lanes[trial.trial_id] = _Lane(pack.actor.answer.remote)
        if trial.trial_id in self._lanes:  # else the lane was given up, and its trials are in others
            self.turn(trial.trial_id, pack.results, pack.slots)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        counts = trial.num_failures > self._failures.get(trial.trial_id, 0)
        self._failures[trial.trial_id] = trial.num_failures
        self._requeue_all(trial.trial_id, "its process died", failures=int(counts))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A lane died and is not restarted. Other lanes take its trials; without others the sweep ends."""
        cause = last_line(trial.get_error())
        self._requeue_all(trial.trial_id, cause)
        if all(other.status in ("ERROR", "TERMINATED") or other is trial for other in trials):
            self._stop.failure = f"every process that trains died more often than is tried again: {cause}"

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._recorder.on_step_end(iteration, trials)

    # -- One turn ----------------------------------------------------------------------------------------------

    def turn(self, name: str, results: Iterable[TrialResult], slots: int) -> None:
        """Judge the results that the trials of lane `name` report together, and answer. `slots`: trials it can hold."""
        lane = self._lanes[name]
        cohort = sorted(
            ((lane.members[result.trial], result) for result in results if result.trial in lane.members),
            key=lambda pair: pair[0].number,
        )
        going_on = [(member.assignment, result) for member, result in cohort if result.step and not result.ended]
        self._rungs.register_batch(going_on)
        stopped = []
        for member, result in cohort:
            if result.lost is not None:
                del lane.members[member.number]
                self._requeue(member, result.lost)
            elif self._process_result(member, result):
                del lane.members[member.number]
                stopped.append(member.number)
        lane.answer(stopped, self._assign(lane, min(slots, self._trials_per_worker) - len(lane.members)))

    def _process_result(self, member: InFlightTrial, result: TrialResult) -> bool:
        """Pass a trial's result to rungs, search and recorder, in Tune's order. Returns whether the trial has ended."""
        over = result.ended or self._rungs.verdict(member.assignment, result) == TrialScheduler.STOP
        if not over:
            self._search.report(member.trial_id, result)
        self._recorder.received(member.assignment, result, over=over)
        if over:
            self._search.complete(member.trial_id, result)
        return over

    def _assign(self, lane: _Lane, room: int) -> list[TrialAssignment]:
        """The trials that the lane takes now: those whose lanes died come first."""
        assigned: list[TrialAssignment] = []
        while len(assigned) < room and not any(_suspect(member) for member in lane.members.values()):
            member = self._next(lane)
            if member is None:
                break
            lane.members[member.number] = member
            self._recorder.started(member.assignment)
            assigned.append(member.assignment)
        return assigned

    def _next(self, lane: _Lane) -> InFlightTrial | None:
        for member in self._requeued:
            if not _suspect(member) or not lane.members:
                self._requeued.remove(member)
                return member
        name = next(self._ids)
        assignment = self._search.next_trial(name)
        if isinstance(assignment, str):  # FINISHED; it never is while trials are in flight
            self._over = not self._requeued and not any(lane.members for lane in self._lanes.values())
        return InFlightTrial(name, assignment) if isinstance(assignment, TrialAssignment) else None

    # -- Trials whose process died -----------------------------------------------------------------------------

    def _requeue_all(self, name: str, reason: str, failures: int = 1) -> None:
        lane = self._lanes.pop(name, None)
        for member in lane.members.values() if lane else ():
            self._requeue(member, reason, failures)

    def _requeue(self, member: InFlightTrial, reason: str, failures: int = 1) -> None:
        """A trial's process died: it is assigned again, as often as the retries allow."""
        member.num_failures += failures
        if member.num_failures <= self._retries:
            member.assignment = member.assignment.next_attempt()
            self._recorder.retried(member.number, member.num_failures)
            self._requeued.append(member)
            return
        self._recorder.lost(member.assignment, reason)
        self._search.complete(member.trial_id, None)


def _suspect(member: InFlightTrial) -> bool:
    return member.num_failures >= ISOLATE_AFTER_FAILURES
