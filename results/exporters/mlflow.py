"""The sweep in MLflow: one experiment a sweep script, one parent run a sweep, one nested run a trial.

`export()` brings MLflow up to what the record says and changes nothing when it already is: runs are found by the tag
`rungwise.run` before they are made, a trial's tag `rungwise.seq` says how much of it is there, and a metric's time is
the report's own, so MLflow's primary key refuses what was logged twice. An exporter killed anywhere is completed by
the next one.

A metric's step is the report's index in its trial, which is the epoch when there is one report an epoch; with more,
`epoch` is a metric too. Of a step reported by several attempts the last attempt's value counts (MLflow cannot take
back what an earlier attempt said while it was followed live; where both said the same, nothing is added). MLflow
keeps NaN; its SQL stores keep an infinity as the largest float.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from rungwise.files import locked
from rungwise.results.exporters.mlflow_client import ExportError, RunInfo, Store, errors
from rungwise.results.exporters.mlflow_database import unusable
from rungwise.results.exporters.mlflow_model import Confirmed
from rungwise.results.exporters.mlflow_values import (
    TAG_LENGTH,
    RecordView,
    RunNames,
    answer_metrics,
    dataset_input,
    digest_of,
    hyperparameters_read,
    milliseconds,
    parent_params,
    parent_tags,
    read_view,
    report_metrics,
    summary_metrics,
    texts,
    trial_tags,
    update_best,
)
from rungwise.results.exporters.tracking_uri import sqlite_path, tracking_uri, valid_uri
from rungwise.results.io.garbage import rare_collections
from rungwise.results.io.redaction import redacted_uri
from rungwise.results.model.model_folder import FOLDER, PROGRAM, difference
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import ReportRow, State, SweepState, Trial

STATUS = {
    State.COMPLETED: "FINISHED",
    State.STOPPED: "KILLED",
    State.DIVERGED: "FAILED",
    State.FAILED: "FAILED",
    State.LOST: "FAILED",
    State.RUNNING: "RUNNING",
}
SWEEP_STATUS = {
    SweepState.PLANNED: "SCHEDULED",
    SweepState.RUNNING: "RUNNING",
    SweepState.FINISHED: "FINISHED",
    SweepState.INTERRUPTED: "KILLED",
    SweepState.FAILED: "FAILED",
}
REPORT = "report.html"


@dataclass(frozen=True, slots=True)
class Exported:
    """What is in MLflow now, and how much of it was new."""

    uri: str  # without passwords
    run_id: str  # of the parent
    trials: int  # nested runs
    metrics: int  # logged by this pass; 0 when all was there


def export(run: Path, tracking_uri: str | None = None) -> Exported:
    """Bring MLflow up to the record of `run` in one pass. Raises ExportError, or RecordError without a record.

    `tracking_uri`: as `results.exporters.tracking_uri.tracking_uri` resolves it; by default the store `mlflow.db`
    beside the run.
    """
    return Exporter(run, tracking_uri).sync()


class Exporter:
    """Brings MLflow up to date pass by pass, and remembers between passes what is there."""

    def __init__(self, run: Path, uri: str | None = None) -> None:
        """Raises ExportError when the tracking URI cannot be one."""
        self.run = run
        self.uri = tracking_uri(run, uri)
        if problem := valid_uri(self.uri):
            raise ExportError(problem)
        self._token = os.urandom(8).hex().encode()  # tells this exporter from others of the same run
        self._forget()

    def _forget(self) -> None:
        self._store: Store | None = None
        self._experiment = ""
        self._parent: RunInfo | None = None
        self._children: dict[int, RunInfo] = {}
        self._seq = 0  # reports up to here are in MLflow
        self._logged = 0
        self._names = RunNames()
        self._best: dict[int, ReportRow] = {}  # trial -> the report of its best objective, of all that was read

    def sync(self, dead: int | None = None) -> Exported:
        """One pass. `dead`: process id of a driver that is known to be gone, whatever the record says.

        Raises ExportError; the next pass then looks at MLflow afresh, as it does when another exporter was at work.
        """
        with Reader(self.run) as reader, locked(self.run / ".mlflow.lock") as turn:
            if turn.read() != self._token:
                self._forget()
                turn.seek(0)
                turn.write(self._token)
                turn.truncate()
            try:
                with errors(self.uri), rare_collections():
                    # All is read at one moment, and let go: MLflow may be slow, and while a reader holds a state of
                    # the record, SQLite's log can only grow.
                    with reader.snapshot():
                        view = read_view(reader, dead, self._seq)
                    done = self._sync(view)
                    if view.state is not SweepState.RUNNING:
                        self._add_files(view)
                return done
            except ExportError:
                self._forget()
                if (database := sqlite_path(self.uri)) and (why := unusable(database)):
                    raise ExportError(
                        f"MLflow's {database} {why}; it is kept aside, and this run exported to a new one, by: "
                        f"rungwise doctor --fix {shlex.quote(str(self.run))}"
                    ) from None
                raise

    def _sync(self, view: RecordView) -> Exported:
        if self._store is None:
            self._store = Store(self.uri)
        if self._parent is None:
            name = view.definition.sweep or view.definition.name
            self._experiment = self._store.experiment(name, view.definition.question[:TAG_LENGTH] or name)
            for mlflow_run in self._store.find(self._experiment, "rungwise.run", view.identity):
                if "rungwise.trial" not in mlflow_run.tags:
                    self._parent = self._parent or mlflow_run
                else:
                    self._children.setdefault(int(mlflow_run.tags["rungwise.trial"]), mlflow_run)
        before = self._logged
        self._names.register(view.definition, view.trials, chain.from_iterable(view.rows.values()))
        update_best(self._best, view)
        self._parent = self._sync_parent(view, self._store)
        for trial in view.trials:
            if trial.started is not None or trial.state.ended:
                self._sync_trial(view, trial, self._store, self._parent.run_id)
        self._seq = view.seq
        self._store.set_status(self._parent, SWEEP_STATUS[view.state], milliseconds(view.ended))
        return Exported(redacted_uri(self.uri), self._parent.run_id, len(self._children), self._logged - before)

    def _add_files(self, view: RecordView) -> None:
        """The report and the confirmed model: last, because they are large."""
        assert self._store is not None
        assert self._parent is not None
        if (report := self.run / REPORT).is_file():
            self._store.add_file(self._parent, report)
        result = view.answer
        best = result.arm(result.best).chosen if result and result.best else None
        made = (self.run / FOLDER / PROGRAM).is_file() or view.definition.is_own  # not of every network
        if made and result and best and best.validation and difference(view.reader, result) is None:
            name, mean = view.definition.sweep or view.definition.name, best.validation.mean
            at = milliseconds(view.ended) or 0
            confirmed = Confirmed(self.run / FOLDER, name, result.metric, result.mode, mean, view.identity, at)
            self._store.add_model(self._experiment, self._parent, confirmed)
        self._store.settle()

    def _sync_parent(self, view: RecordView, store: Store) -> RunInfo:
        tags = parent_tags(view) | self._names.as_tag()
        sessions, trials = view.sessions, view.trials
        if self._parent is None:
            began = sessions[0].started if sessions else min((trial.created for trial in trials), default=0.0)
            self._parent = store.create(self._experiment, view.definition.name, milliseconds(began) or 0, tags)
        metrics = [] if view.answer is None else answer_metrics(view, view.answer, self._names)
        if view.answer is not None:
            tags["rungwise.answer"] = view.answer.sentence[:TAG_LENGTH]
        answered = digest_of(metrics)
        if metrics and self._parent.tags.get("rungwise.answered") != answered:
            tags["rungwise.answered"] = answered
        else:
            metrics = []
        self._logged += store.log(self._parent, metrics, parent_params(view, self._names), tags)
        if data := view.definition.data.to_json():
            store.add_input(self._parent, dataset_input(data))
        return self._parent

    def _sync_trial(self, view: RecordView, trial: Trial, store: Store, parent: str) -> None:
        left_open = trial.state is State.RUNNING and view.state is not SweepState.RUNNING
        state: str = SweepState.INTERRUPTED if left_open else trial.state
        tags = trial_tags(view, trial, state, parent)
        child = self._children.get(trial.trial)
        if child is None:
            began = milliseconds(trial.started or trial.created) or 0
            child = self._children[trial.trial] = store.create(self._experiment, tags["mlflow.runName"], began, tags)
        seq = int(child.tags.get("rungwise.seq", 0))
        new = [row for row in view.rows.get(trial.trial, []) if row.seq > seq]
        suggested = {self._names.params.of(name) for name in trial.params}  # an objective's grow while it runs
        is_complete = "rungwise.seq" in child.tags and suggested <= child.params.keys()
        params = {} if is_complete else texts({"arm": trial.arm} | trial.params | hyperparameters_read(trial.config))
        params = {self._names.params.of(name): value for name, value in params.items()}
        tags["rungwise.seq"] = str(max([seq, *(row.seq for row in new)]))
        if any(row.attempt > 1 for row in new):
            new = [row for row in view.reader.reports(trial=trial.trial) if row.seq <= view.seq]
        keep_epoch = view.definition.reports_per_epoch != 1
        metrics = list(report_metrics(new, seq, self._names.metrics, keep_epoch=keep_epoch))
        summed_up = f"{trial.attempts} {len(view.scores.get(trial.trial, {}))}"  # it may end again, and be scored later
        if trial.state.ended and child.tags.get("rungwise.summary") != summed_up:
            tags["rungwise.summary"] = summed_up
            metrics += summary_metrics(view, trial, self._best.get(trial.trial), self._names.metrics)
        self._logged += store.log(child, metrics, params, tags)
        if trial.state.ended and (data := view.definition.data.to_json()):
            store.add_input(child, dataset_input(data))
        if left_open:
            store.set_status(child, "KILLED", milliseconds(view.ended))
        else:
            store.set_status(child, STATUS[trial.state], milliseconds(trial.ended))
