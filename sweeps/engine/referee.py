"""Between lanes and the search: what several trials of one process report together, and what they are told.

A lane (`trainable.lane`) is to Tune one trial; to everybody else the trials that it holds are trials of their own. The
referee tells the search, the rungs and the recorder of them what Tune would, in its order (ray 2.60,
tune_controller.py), and these are the same objects as when trials run one a process. It runs in Tune's loop, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.schedulers import TrialScheduler
from ray.tune.utils import flatten_dict

from sweeps.engine.recorder import Recorder
from sweeps.engine.rungs import Rungs
from sweeps.engine.search import Search
from sweeps.engine.stop import Stop

ALONE = 2  # a trial whose process died so often is trained by itself: it may be what kills the others
WHERE = ("hostname", "pid", "node_ip")  # what Tune adds to a lane's result


@dataclass(eq=False)
class Member:
    """A trial in flight, with what the recorder and the rungs look at in a Tune trial."""

    trial_id: str
    config: dict[str, Any]
    num_failures: int = 0
    reason: str | None = None

    @property
    def number(self) -> int:
        return int(self.config["trial"])

    def get_error(self) -> str | None:
        return self.reason


@dataclass
class _Lane:
    answer: Callable[[list[int], list[dict[str, Any]]], object]  # stopped, dealt
    members: dict[int, Member] = field(default_factory=dict)


class Referee(Callback, Stopper):
    """Tune's callback for lanes, and its stopper: a search that has nothing left to deal ends its lanes."""

    def __init__(
        self, search: Search, rungs: Rungs, recorder: Recorder, stop: Stop, *, share: int, retries: int
    ) -> None:
        """`share`: how many trials a lane may hold, whatever it has room for."""
        self._search, self._rungs, self._recorder, self._stop = search, rungs, recorder, stop
        self._share, self._retries = share, retries
        self._lanes: dict[str, _Lane] = {}  # by their Tune trial
        self._lost: deque[Member] = deque()  # by their lanes, to be dealt again
        self._failures: dict[str, int] = {}  # of a lane, as Tune counts them: a machine that was preempted is none
        self._ids = map("member{}".format, count(1))
        self._over = False

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks into snapshots that nobody reads

    # -- Tune's side -------------------------------------------------------------------------------------------

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._over or self._stop.stop_all()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A lane reports. What is ours is taken out of the result, which Tune keeps."""
        if "unreachable" in result:
            number = next((member.number for member in self._lost), 1)
            self._recorder.on_trial_result(0, [], Member("", {"trial": number}), result)
        if (actor := result.pop("itself", None)) is not None:
            self._lose_all(trial.trial_id, "its lane began anew")
            self._lanes[trial.trial_id] = _Lane(actor.answer.remote)
        where = {name: result[name] for name in WHERE if name in result}
        results = [{**one, **where} for one in result.pop("results")]
        if trial.trial_id in self._lanes:  # else it was given up, and its trials are elsewhere
            self.turn(trial.trial_id, results, result["slots"])

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        counts = trial.num_failures > self._failures.get(trial.trial_id, 0)
        self._failures[trial.trial_id] = trial.num_failures
        self._lose_all(trial.trial_id, "its process died", failures=int(counts))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A lane died for good. The others go on with its trials; without others the sweep ends."""
        cause = str(trial.get_error() or "its process died").strip().splitlines()[-1]
        self._lose_all(trial.trial_id, cause)
        if all(other.status in ("ERROR", "TERMINATED") or other is trial for other in trials):
            self._stop.failure = f"every process that trains died more often than is tried again: {cause}"

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._recorder.on_step_end(iteration, trials)

    # -- One turn ----------------------------------------------------------------------------------------------

    def turn(self, name: str, results: list[dict[str, Any]], slots: int) -> None:
        """Take in what the trials of lane `name` report together, judge them, and answer. `slots`: what it can hold."""
        lane = self._lanes[name]
        cohort = sorted(
            ((lane.members[one["trial"]], one) for one in results if one["trial"] in lane.members),
            key=lambda pair: pair[0].number,
        )
        self._rungs.announce((member, one) for member, one in cohort if "step" in one and not one.get("done"))
        stopped = []
        for member, result in cohort:
            if "lost" in result:
                del lane.members[member.number]
                self._lose(member, result["lost"])
            elif self._tell(member, result):
                del lane.members[member.number]
                stopped.append(member.number)
        lane.answer(stopped, self._deal(lane, min(slots, self._share) - len(lane.members)))

    def _tell(self, member: Member, result: dict[str, Any]) -> bool:
        """Tell everybody of a trial's result, in Tune's order; whether the trial is over."""
        flat = flatten_dict(result)
        stop = result.get("done") or self._rungs.on_trial_result(None, member, flat) == TrialScheduler.STOP
        if stop:
            result["done"] = flat["done"] = True
        else:
            self._search.on_trial_result(member.trial_id, flat)
        self._recorder.on_trial_result(0, [], member, result)
        if stop:
            self._search.on_trial_complete(member.trial_id, flat)
        return bool(stop)

    def _deal(self, lane: _Lane, room: int) -> list[dict[str, Any]]:
        """Messages of the trials that the lane takes now: those that lanes lost come first."""
        dealt: list[dict[str, Any]] = []
        while len(dealt) < room and not any(_suspect(member) for member in lane.members.values()):
            member = self._next(lane)
            if member is None:
                break
            lane.members[member.number] = member
            self._recorder.on_trial_start(0, [], member)
            dealt.append(dict(member.config))
        return dealt

    def _next(self, lane: _Lane) -> Member | None:
        for member in self._lost:
            if not _suspect(member) or not lane.members:
                self._lost.remove(member)
                return member
        name = next(self._ids)
        message = self._search.suggest(name)
        if isinstance(message, str):  # FINISHED; it never is while trials are in flight
            self._over = not self._lost and not any(lane.members for lane in self._lanes.values())
        return Member(name, message) if isinstance(message, dict) else None

    # -- What is lost ------------------------------------------------------------------------------------------

    def _lose_all(self, name: str, reason: str, failures: int = 1) -> None:
        lane = self._lanes.pop(name, None)
        for member in lane.members.values() if lane else ():
            self._lose(member, reason, failures)

    def _lose(self, member: Member, reason: str, failures: int = 1) -> None:
        """A trial lost its process: it is dealt again, as often as the retries allow."""
        member.num_failures += failures
        if member.num_failures <= self._retries:
            self._recorder.on_trial_recover(0, [], member)
            self._lost.append(member)
            return
        member.reason = reason
        self._recorder.on_trial_error(0, [], member)
        self._search.on_trial_complete(member.trial_id, None, error=True)


def _suspect(member: Member) -> bool:
    return member.num_failures >= ALONE
