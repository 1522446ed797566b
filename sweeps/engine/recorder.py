"""Enters what happens in the record, once, and tells the view. It runs in Tune's loop: microseconds, no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray.tune import Callback

from results.record import Decision, Record, ReportRow, State
from sweeps.engine.cluster import Unusable
from sweeps.engine.outcome import objective, outcome, stale
from sweeps.engine.progress import View
from sweeps.engine.rungs import Rungs
from trainable.checkpoints import Checkpoints
from trainable.storage import is_uri


class Unreachable(Unusable):
    """A machine does not reach the storage of the checkpoints."""

    def __init__(self, trial: int, result: Mapping[str, Any]) -> None:
        super().__init__(
            f"checkpoints must lie where all machines reach them, but {result.get('node_ip', 'a machine')}, where "
            f"trial {trial} was to run, does not: {result['unreachable']}; name a shared folder or an s3:// URI "
            "with --mirror"
        )


class Recorder(Callback):
    """Tune's events -> rows. Tune tells the scheduler first, then this, then the searcher of a trial's end."""

    def __init__(
        self,
        record: Record,
        rungs: Rungs,
        view: View,
        ended: Callable[[State, str | None], None],
        checkpoints: str,
        *,
        gpus: bool = False,
    ) -> None:
        """`checkpoints`: the path or URI below which trials keep theirs; `gpus`: trials are given GPUs."""
        self._record, self._rungs, self._view, self._ended = record, rungs, view, ended
        self.ending: Callable[[], bool] = lambda: False  # whether the driver was told to stop
        self._checkpoints, self._gpus = checkpoints, gpus
        self._remote = ThreadPoolExecutor(1, "forget") if is_uri(checkpoints) else None  # no network in Tune's loop
        self._attempts: dict[int, int] = {}  # of trials in flight
        self._reported: dict[int, int] = {}  # last step in the record, of trials in flight
        self._placed: set[int] = set()  # trials whose attempt is known to run on a node

    def replay(self, curves: Mapping[int, Mapping[int, ReportRow]]) -> None:
        """Know which reports the record holds: a restored trial may send some again."""
        self._reported = {trial: max(curve, default=0) for trial, curve in curves.items()}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks into snapshots that nobody reads: the record is what we resume from

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number = trial.config["trial"]
        self._attempts[number] = self._record.start_attempt(number)
        self._placed.discard(number)
        self._view.started(number, trial.config["arm"], trial.config["phase"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        number = trial.config["trial"]
        if "unreachable" in result:  # the trial is not to blame: it stays RUNNING, and the sweep ends here
            raise Unreachable(number, result)
        if stale(trial, result):
            self._record.event("report refused", number, attempt=result["attempt"], step=result.get("step"))
            return
        if number not in self._placed and "device" in result:
            self._record.place(number, f"{result['hostname']}:{result['pid']}", result["device"])
            self._placed.add(number)
            self._look(result)
        if "restored" in result:
            self._record.event("restored", number, step=result["restored"])
        for reason in result.get("refused", ()):
            self._record.event("checkpoint refused", number, reason=reason)
            self._view.note(f"trial {number}: {reason}; an older one, or the start, serves instead")
        if "unsaved" in result:
            self._record.event("checkpoint not written", number, reason=result["unsaved"])
            self._view.note(f"trial {number} trains on, but its checkpoint was not written: {result['unsaved']}")
        decision = self._rungs.take_decision(number)
        if "metrics" in result and not self._again(number, result):
            self._record.add_report(number, self._attempts[number], result["step"], result["metrics"], decision)
            self._view.reported(number, result["metrics"]["epoch"], objective(result))
        if result.get("done"):
            self._end(trial, outcome(result), result, decision if decision and decision.stopped else None)
        elif "checkpoint" in result:
            self._record.add_checkpoint(number, *result["checkpoint"])

    def _look(self, result: Mapping[str, Any]) -> None:
        """Say it, once, when a trial holds a GPU and leaves it idle."""
        if self._gpus and result["device"] == "cpu":
            self._view.note(
                f"trials are given GPUs, but on {result['hostname']} torch sees none: they train on the CPU"
            )
            self._gpus = False

    def _again(self, number: int, result: Mapping[str, Any]) -> bool:
        """Whether this is a report from a checkpoint's memory that the record holds already."""
        known = self._reported.get(number, 0)
        self._reported[number] = max(known, result["step"])
        return bool(result.get("remembered")) and result["step"] <= known

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # Tune keeps every trial, and in it averages of each metric that nobody reads: 40 of 55 kB (ray 2.60).
        for kept in (trial.metric_analysis, trial.metric_n_steps):
            kept.clear()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if self.ending():
            return  # whoever ended us may have ended its process: it stays RUNNING, and the same command goes on
        cause = trial.get_error()
        reason = str(cause).strip().splitlines()[-1] if cause else "its process died"
        self._end(trial, outcome(None, error=True), {"reason": reason}, None)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number = trial.config["trial"]
        trial.config["attempt"] += 1  # Tune starts the next process with this
        self._record.event("retry", number, failures=trial.num_failures)
        self._view.note(
            f"trial {number} lost its process; it goes on from its last checkpoint (try {trial.num_failures})"
        )

    def refused(self, number: int, arm: str, reason: str) -> None:
        """The space suggested a trial that nobody can train; the search has entered it as FAILED."""
        self._view.started(number, arm)
        self._view.ended(number, State.FAILED)
        self._ended(State.FAILED, reason)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._record.commit_if_due()

    def _end(self, trial: Any, state: State, result: Mapping[str, Any], decision: Decision | None) -> None:
        number, reason = trial.config["trial"], result.get("reason")
        confirmed = state is State.COMPLETED and trial.config["phase"] == "confirm"
        if decision and decision.cutoff is not None:
            reason = (
                decision.why
                or f"{result['objective']:.6g} against a cutoff of {decision.cutoff:.6g} at epoch {decision.rung:g}"
            )
        self._record.end_trial(
            number,
            state,
            reason=reason,
            error=result.get("error"),
            decision=decision,
            model=result.get("checkpoint") if confirmed else None,
        )
        if not confirmed:  # a confirmed model is kept
            forget = Checkpoints(self._checkpoints, number).remove
            self._remote.submit(forget) if self._remote else forget()
        for known in (self._attempts, self._reported):
            known.pop(number, None)
        self._placed.discard(number)
        self._view.ended(number, state)
        self._ended(state, reason)
