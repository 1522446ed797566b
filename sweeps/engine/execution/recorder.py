"""Records each event once and updates the progress display. It runs in Tune's loop: microseconds, no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray.tune import Callback

from rungwise.engine.cluster.attach import Unusable
from rungwise.engine.schedulers.per_arm import Rungs
from rungwise.results.io.formatting import format_metric
from rungwise.results.io.redaction import Verbatim
from rungwise.results.progress.live_view import View
from rungwise.results.record.types import ATTRIBUTES, Decision, ReportRow, State, outcome
from rungwise.results.record.writer import MOST_METRICS, Record
from rungwise.storage import is_uri
from rungwise.trainable.messages import (
    SCORED_PHASES,
    Failure,
    FailureKind,
    TrialAssignment,
    TrialResult,
    WorkerAddress,
    take_actor,
)
from rungwise.trainable.worker.checkpoints import Checkpoints


class Unreachable(Unusable):
    """A machine does not reach the storage of the checkpoints."""

    def __init__(self, trial: int, why: str, worker: WorkerAddress | None) -> None:
        machine = worker.node_ip if worker else "a machine"
        super().__init__(
            f"checkpoints must be where all machines can reach them, but {machine}, where trial {trial} was "
            f"to run, does not: {why}; name a shared folder or an s3:// URI with --mirror"
        )


class Recorder(Callback):
    """Turns Tune's events into rows. Tune calls the scheduler first, then this, then the searcher at a trial's end."""

    def __init__(
        self,
        record: Record,
        rungs: Rungs,
        view: View,
        ended: Callable[[State, Failure | None], None],
        checkpoints: str,
        *,
        gpus: bool = False,
    ) -> None:
        """`checkpoints`: the path or URI below which trials keep theirs; `gpus`: trials are given GPUs."""
        self._record, self._rungs, self._view, self._ended = record, rungs, view, ended
        self.metric = ""  # the objective's name, which says how scores are written
        self.breach: Callable[[Mapping[str, float]], str | None] = lambda _: None  # the constraint that a report breaks
        self.ending: Callable[[], bool] = lambda: False  # whether the driver was told to stop
        self.saved: Callable[[], None] = lambda: None  # called after each checkpoint
        self._checkpoints, self._gpus = checkpoints, gpus
        self._remote = ThreadPoolExecutor(1, "forget") if is_uri(checkpoints) else None  # no network in Tune's loop
        self._attempts: dict[int, int] = {}  # of trials in flight
        self._reported: dict[int, int] = {}  # last step in the record, of trials in flight
        self._noted: set[str] = set()  # lines that trials said, each once
        self._placed: set[int] = set()  # trials whose attempt is known to run on a node

    def replay(self, curves: Mapping[int, Mapping[int, ReportRow]]) -> None:
        """Remember which reports the record holds: a restored trial may send some again."""
        self._reported = {trial: max(curve, default=0) for trial, curve in curves.items()}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks into snapshots that are never read: a run resumes from its record

    def started(self, assignment: TrialAssignment) -> None:
        """A process begins to train a trial."""
        number = assignment.trial
        self._attempts[number] = self._record.start_attempt(number)
        self._placed.discard(number)
        self._view.started(number, assignment.arm, assignment.phase)

    def received(self, assignment: TrialAssignment, result: TrialResult, *, over: bool) -> None:
        """Record a result that the scheduler has seen; `over`: the trial ended, or was stopped. Raises Unreachable."""
        number = assignment.trial
        if result.unreachable is not None:  # the trial is not to blame: it stays RUNNING, and the sweep ends here
            raise Unreachable(number, result.unreachable, result.worker)
        if result.is_stale(assignment):
            step = result.step or None
            self._record.event("report refused", number, attempt=result.attempt, step=step)
            return
        if number not in self._placed and result.device is not None and result.worker is not None:
            self._record.place(number, f"{result.worker.hostname}:{result.worker.pid}", result.device)
            self._placed.add(number)
            self._look(result.device, result.worker)
        self._enter_checkpoints(number, result)
        decision = self._rungs.take_decision(number)
        if result.step and not self._again(number, result):
            left_out = self._record.add_report(number, self._attempts[number], result.step, result.metrics, decision)
            if left_out:
                self._note(
                    number, f"reports have more than {MOST_METRICS:,} different names; further ones are not kept"
                )
            feasible = self.breach(result.metrics) is None
            self._view.reported(number, result.metrics["epoch"], result.objective, feasible=feasible)
        if over:
            self._end(assignment, outcome(result), result, decision if decision and decision.stopped else None)
        elif result.checkpoint is not None:
            self._record.add_checkpoint(number, result.checkpoint.step, result.checkpoint.sha256)
            self.saved()

    def lost(self, assignment: TrialAssignment, cause: str) -> None:
        """Record that a trial's process died more often than the retries allow."""
        if self.ending():
            return  # the signal may have ended its process, too: it stays RUNNING, and the same command resumes it
        result = TrialResult(assignment.trial, assignment.attempt, failure=Failure(FailureKind.LOST, cause))
        self._end(assignment, State.LOST, result, None)

    def retried(self, number: int, failures: int) -> None:
        """Record that a trial's process died for the `failures`-th time; another one will train it."""
        self._record.event("retry", number, failures=failures)
        self._view.note(f"trial {number} lost its process; it resumes from its last checkpoint (try {failures})")

    def refused(self, number: int, arm: str, failure: Failure) -> None:
        """Show a trial that cannot be trained; the search has recorded it as FAILED."""
        self._view.started(number, arm)
        self._view.ended(number, State.FAILED)
        self._ended(State.FAILED, failure)

    def _enter_checkpoints(self, number: int, result: TrialResult) -> None:
        """Record what became of the trial's checkpoints, its notes and its attributes."""
        if result.restored is not None:
            self._record.event("restored", number, step=result.restored)
        for reason in result.refused:
            self._record.event("checkpoint refused", number, reason=reason)
            self._view.note(f"trial {number}: {reason}; an older one, or the start, serves instead")
        for note in result.notes:
            self._note(number, note)
        if result.attributes:
            self._record.event(ATTRIBUTES, number, values=Verbatim(result.attributes))
        if result.unsaved is not None:
            self._record.event("checkpoint not written", number, reason=result.unsaved)
            self._view.note(f"trial {number} continues, but its checkpoint was not written: {result.unsaved}")

    def _note(self, number: int, note: str) -> None:
        """Record and print a line, once, whichever trials say it."""
        if note not in self._noted:
            self._noted.add(note)
            self._record.event("note", number, text=note)
            self._view.note(note)

    def _look(self, device: str, worker: WorkerAddress) -> None:
        """Print a note, once, when a trial has a GPU that torch does not use."""
        if self._gpus and device == "cpu":
            self._view.note(f"trials are given GPUs, but on {worker.hostname} torch sees none: they train on the CPU")
            self._gpus = False

    def _again(self, number: int, result: TrialResult) -> bool:
        """Whether this report comes from a checkpoint and is in the record already."""
        known = self._reported.get(number, 0)
        self._reported[number] = max(known, result.step)
        return result.remembered and result.step <= known

    def _end(self, assignment: TrialAssignment, state: State, result: TrialResult, decision: Decision | None) -> None:
        number = assignment.trial
        confirmed = state is State.COMPLETED and assignment.phase in SCORED_PHASES
        reason = None
        if decision and decision.why:
            reason = decision.why
        elif decision and decision.cutoff is not None:
            score, cutoff = (format_metric(value, self.metric) for value in (result.objective, decision.cutoff))
            reason = f"{score} against a cutoff of {cutoff} {self._rungs.schedule.place(decision.rung)}"
        if state in (State.COMPLETED, State.STOPPED) and (breach := self.breach(result.metrics)):
            reason = breach if reason is None else f"{reason}; {breach}"
        self._record.end_trial(
            number,
            state,
            reason=reason,
            failure=result.failure,
            decision=decision,
            model=result.checkpoint if confirmed else None,
        )
        if not confirmed:  # a confirmed model is kept
            forget = Checkpoints(self._checkpoints, number).remove
            self._remote.submit(forget) if self._remote else forget()
        for known in (self._attempts, self._reported):
            known.pop(number, None)
        self._placed.discard(number)
        self._view.ended(number, state)
        self._ended(state, result.failure)

    # -- Tune's side -------------------------------------------------------------------------------------------

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.started(TrialAssignment.from_tune(trial.config))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        take_actor(result)  # Tune keeps its results, and writes them into snapshots
        over = bool(result["done"])
        self.received(TrialAssignment.from_tune(trial.config), TrialResult.from_tune(result), over=over)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # Tune keeps every trial, and in it averages of each metric that nothing reads: 40 of 55 kB (ray 2.60).
        for name in ("metric_analysis", "metric_n_steps"):
            getattr(trial, name, {}).clear()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.lost(TrialAssignment.from_tune(trial.config), last_line(trial.get_error()))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        assignment = TrialAssignment.from_tune(trial.config)
        trial.config.update(assignment.next_attempt().to_tune())  # Tune starts the next process with this
        self.retried(assignment.trial, trial.num_failures)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._record.commit_if_due()


def last_line(error: object) -> str:
    """Why a process died, as far as Tune knows."""
    return str(error).strip().splitlines()[-1] if error else "its process died"
