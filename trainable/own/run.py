"""A trial of the user's own training on a worker: its reports, its checkpoints, and its end."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rungwise import reporting
from rungwise.storage import beside
from rungwise.trainable.faults import ordinary, reason
from rungwise.trainable.messages import SCORED_PHASES, CheckpointSaved, TrialAssignment, TrialEnd, TrialResult
from rungwise.trainable.own import archive
from rungwise.trainable.own.archive import Snapshot
from rungwise.trainable.own.arguments import Hyperparameters
from rungwise.trainable.own.calls import CallReports
from rungwise.trainable.own.report_numbers import ReportError, numbers
from rungwise.trainable.own.trial import Trial, is_disk_full
from rungwise.trainable.own.worker_data import WorkerData
from rungwise.trainable.training.seeding import seed_everything
from rungwise.trainable.worker.checkpoints import ARCHIVE
from rungwise.trainable.worker.trial_run import TrialRun, WorkerContext, diverged

if TYPE_CHECKING:
    from rungwise.trainable.own.program.process import Process
    from rungwise.trainable.own.training import OwnTraining


class ObjectiveReport(dict[str, Any]):
    """A report of an Optuna objective.

    Attributes:
        epoch: The step that the objective gave it, from 1; None: the number of the report.
        is_judged: Whether the scheduler may stop the trial here.
    """

    def __init__(self, values: Mapping[str, Any], epoch: float | None, *, is_judged: bool) -> None:
        super().__init__(values)
        self.epoch, self.is_judged = epoch, is_judged


class OwnRun(TrialRun):
    """A trial in flight. It is also the `Process` that the function's `Trial` talks to."""

    def __init__(self, training: OwnTraining, assignment: TrialAssignment, context: WorkerContext) -> None:
        super().__init__(assignment, context)
        self._training = training
        self.mapping: Hyperparameters | None = None  # the function's, where it takes a mapping
        self._reports: Iterator[Mapping[str, Any] | TrialResult] | None = None
        self.program: Process | None = None  # the program that trains, if one does
        self._step = 0  # reports sent
        self._history: list[dict[str, Any]] = []  # these reports
        self._saved_at = time.monotonic()
        self._latest: Path | None = None  # the folder of the last checkpoint
        self._pending: CheckpointSaved | None = None  # goes out with the next result
        self._unsaved: str | None = None  # likewise
        self._unclosed: str | None = None  # what its code raised when it was told to end
        self._folders, self._keeping = count(1), threading.Lock()
        self._scratch: Path | None = None

    # -- results -----------------------------------------------------------------------------------------------

    def results(self) -> Iterator[TrialResult]:
        from rungwise.trainable.train import restore_defaults

        restore_defaults()
        config = self.assignment.config
        self._budget = self._training.budget(config)
        snapshot = self._restore()
        last: TrialResult | None = None
        is_sent = False  # the last one
        for row in snapshot.history if snapshot else ():
            metrics = {name: value for name, value in row.items() if name != "step"}
            last = self._result(row["step"], metrics, self._step)
            if row["step"] > self.assignment.reported and row["step"] < self._budget:
                yield last
        if last is not None and self._step >= self._budget:  # its process died after its last report
            yield replace(last, state=TrialEnd.COMPLETED)
            return
        trial = self._trial(snapshot.folder if snapshot else None)
        seed_everything(int(config["seed"]))  # after the data: only the first trial of a process loads it
        reporting.report_to(trial.report)
        self._reports = self._training.reports(config, trial, self)
        reported_at = time.monotonic()
        for report in self._reports:
            if isinstance(report, TrialResult):  # a question to the driver
                yield report
                continue
            metrics = numbers(report, self._context.objectives, self.assignment.phase)
            now, self._step = time.monotonic(), self._step + 1
            own = report if isinstance(report, ObjectiveReport) else None
            metrics["epoch"] = self._step / int(config["reports_per_epoch"])
            if own is not None and own.epoch is not None:
                metrics["epoch"] = own.epoch
            metrics["seconds"] = now - reported_at
            self._history.append({"step": self._step, **metrics})
            last = replace(self._result(self._step, metrics, 0), is_judged=own is None or own.is_judged)
            is_sent = False
            if last.objective is None:
                self.close()
                yield diverged(last, {name: metrics[name] for name in self._context.objectives})
                return
            if self._step >= self._budget or getattr(self._reports, "is_over", False):
                break
            yield last
            is_sent = True
            reported_at = time.monotonic()
        if last is None:
            returned = getattr(self._reports, "returned", None)
            but = "" if returned is None else f" and returned a {type(returned).__name__}"
            raise ReportError(f"{self._training.name} ended without a report{but}; yield one, or call trial.report")
        self._finish()
        # A function that returned before its budget may have sent this report already.
        yield replace(last, state=TrialEnd.COMPLETED, remembered=last.remembered or is_sent)

    def finalize_result(self, result: TrialResult) -> TrialResult:
        result = self._with_origin(result)
        result = replace(result, checkpoint=self._pending, unsaved=self._unsaved)
        self._pending = self._unsaved = None
        if result.ended:
            if result.state is TrialEnd.COMPLETED and self.assignment.phase in SCORED_PHASES:
                saved = result.checkpoint
                if saved is None or saved.step != self._step:
                    saved = self._archive(self._latest)  # what `test` is given, also when nothing was saved
                result = replace(result, checkpoint=saved)
            self.close()
            # What ended too early cannot tell what it would have read.
            unread = () if result.state is TrialEnd.FAILED else self._training.notes(self)
            notes = (*unread, *([] if self._unclosed is None else [self._unclosed]))
            result = replace(result, notes=notes)
        return result

    def save(self) -> None:
        return  # only the user's code knows its state

    def close(self) -> None:
        if self._reports is not None and hasattr(self._reports, "close"):
            try:
                with ordinary():
                    self._reports.close()
            except Exception as error:  # the trial is over: this must not end the process, and with it the next one
                self._unclosed = f"{self._training.name} raised when it was told to end: {reason(error)}"
        if isinstance(self._reports, CallReports) and self._reports.is_hung:
            self.is_hung = True
        self._reports = None
        reporting.report_to(None)
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def abandon(self) -> None:
        super().abandon()
        if self.program is not None:
            self.program.stop()

    # -- what the function asks for (`trial.Process`) ----------------------------------------------------------

    def report(self, metrics: Mapping[str, Any]) -> None:
        if not isinstance(self._reports, CallReports):
            raise RuntimeError("a generator yields its reports; trial.report is for functions that are none")
        self._reports.report(metrics)

    def save_is_due(self) -> bool:
        if self.assignment.phase in SCORED_PHASES and self._step >= self._budget:
            return True
        return time.monotonic() - self._saved_at >= self._context.checkpoint_seconds

    def new_folder(self) -> Path:
        folder = self.place / f"save-{next(self._folders)}"
        folder.mkdir()
        return folder

    def keep(self, folder: Path) -> None:
        with self._keeping:  # threads of the user's may save at the same time
            self._keep(folder)

    def _keep(self, folder: Path) -> None:
        try:
            self._pending, self._unsaved = self._archive(folder), None
        except OSError as error:
            self._unsaved = str(error)
            shutil.rmtree(folder, ignore_errors=True)
            return
        finally:
            self._saved_at = time.monotonic()
        self._replace_latest(folder)

    def hold(self, folder: Path) -> None:
        """Take a folder as the state after the last report; it is kept when a checkpoint is due, or asked for."""
        if self.save_is_due():
            self.keep(folder)
        else:
            self._replace_latest(folder)

    def drop(self, folder: Path, error: BaseException) -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        if is_disk_full(error):
            self._unsaved, self._saved_at = str(error), time.monotonic()
            return True
        return False

    # ----------------------------------------------------------------------------------------------------------

    def _trial(self, checkpoint: Path | None) -> Trial:
        assignment, data = self.assignment, self._context.data
        return Trial.of(
            assignment.config,
            number=assignment.trial,
            arm=assignment.arm,
            phase=assignment.phase,
            attempt=assignment.attempt,
            device=self._context.device,
            data=data.get() if isinstance(data, WorkerData) else data,
            checkpoint=checkpoint,
            reported=self._step,
            process=self,
        )

    def _restore(self) -> Snapshot | None:
        """The newest intact checkpoint."""
        folder = self.place / "checkpoint"
        snapshot, refused = self._store.load(
            lambda file, digest: archive.unpack(file, digest, folder), self.assignment.checkpoints
        )
        self._refused = tuple(refused)
        if snapshot is not None:
            self._restored = self._step = snapshot.step
            self._history = [dict(row) for row in snapshot.history]
            self._latest = snapshot.folder
        return snapshot

    def _replace_latest(self, folder: Path) -> None:
        if self._latest is not None:
            shutil.rmtree(self._latest, ignore_errors=True)
        self._latest = folder

    def _finish(self) -> None:
        """Let the function save and return, after its last report. What else it reports is not asked for."""
        if self._reports is not None:
            next(self._reports, None)

    def _archive(self, folder: Path | None) -> CheckpointSaved:
        """Keep a checkpoint of the folder. Raises OSError."""
        file = self.place / "archive.tar"
        try:
            archive.pack(Snapshot(self._step, self._history, folder), file)
            return self._store.save(self._step, file, ARCHIVE)
        finally:
            file.unlink(missing_ok=True)

    @property
    def logs(self) -> str | None:
        """Path or URI of the folder for what a program prints; None: the terminal."""
        if self.assignment.phase == "plan":
            return str(self.place)
        return None if self.assignment.phase == "one" else beside(self._context.checkpoints, "logs")

    @property
    def place(self) -> Path:
        """A folder of this machine that goes with the trial."""
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="trial-", dir=self._context.scratch))
        return self._scratch
