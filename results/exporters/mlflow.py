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

import math
import shlex
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from rungwise.results.exporters.loggers.feed import Feed
from rungwise.results.exporters.loggers.logger import Logged, RecordView
from rungwise.results.exporters.loggers.settings import LogSettings
from rungwise.results.exporters.mlflow_client import ExportError, RunInfo, Store, errors
from rungwise.results.exporters.mlflow_database import unusable
from rungwise.results.exporters.mlflow_model import Confirmed
from rungwise.results.exporters.mlflow_values import (
    TAG_LENGTH,
    RunNames,
    answer_metrics,
    dataset_input,
    digest_of,
    hyperparameters_read,
    legal_tags,
    milliseconds,
    parent_params,
    parent_tags,
    report_metrics,
    summary_metrics,
    texts,
    trial_tags,
    update_best,
)
from rungwise.results.exporters.tracking_uri import sqlite_path, tracking_uri, valid_uri
from rungwise.results.io.redaction import redacted_uri
from rungwise.results.model.model_folder import FOLDER, PROGRAM, difference
from rungwise.results.record.definition import Definition
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


# MLflow 3.17 opens an experiment as one of GenAI, where it has no runs, unless the address says otherwise.
PAGE = "#/experiments/{experiment}/runs?workflowType=machine_learning"


@dataclass(frozen=True, slots=True)
class Exported(Logged):
    """What is in MLflow now: nested runs, and how many metrics were new."""

    run_id: str = ""  # of the parent


def export(run: Path, tracking_uri: str | None = None) -> Exported:
    """Bring MLflow up to the record of `run` in one pass. Raises ExportError, or RecordError without a record.

    `tracking_uri`: as `results.exporters.tracking_uri.tracking_uri` resolves it; by default the store `mlflow.db`
    beside the run.
    """
    done = mlflow_feed(run, tracking_uri).sync()
    assert isinstance(done, Exported)
    return done


def mlflow_feed(run: Path, uri: str | None = None, settings: LogSettings | None = None) -> Feed:
    """What brings MLflow up to date pass by pass. Raises ExportError when the tracking URI cannot be one.

    `settings`: by default the record's.
    """
    resolved = tracking_uri(run, uri)
    if problem := valid_uri(resolved):
        raise ExportError(problem)
    return Feed(run, "mlflow", lambda: MlflowLogger(run, resolved, settings))


def experiment_of(store: Store, definition: Definition, settings: LogSettings) -> tuple[str, str | None]:
    """(id of the experiment that the sweep's runs are in, the run that they are nested under)."""
    if settings.parent and (experiment := store.experiment_of(settings.parent)):
        return experiment, settings.parent
    name = definition.sweep or definition.name
    return store.experiment(settings.experiment or name, definition.question[:TAG_LENGTH] or name), None


class MlflowLogger:
    """Brings MLflow up to date, and remembers between passes what is there."""

    def __init__(self, run: Path, uri: str, settings: LogSettings | None) -> None:
        self.run = run
        self.uri = uri
        self._settings = settings
        self._store: Store | None = None
        self._experiment = ""
        self._nested_under: str | None = None
        self._parent: RunInfo | None = None
        self._children: dict[int, RunInfo] = {}
        self._logged = 0
        self._names = RunNames()
        self._infinite = False
        self._best: dict[int, ReportRow] = {}  # trial -> the report of its best objective, of all that was read

    def log(self, view: RecordView) -> Exported:
        """Bring MLflow up to `view`. Raises ExportError."""
        try:
            with errors(self.uri):
                done = self._sync(view)
                if view.state is not SweepState.RUNNING:
                    self._add_files(view)
            return done
        except ExportError:
            if (database := sqlite_path(self.uri)) and (why := unusable(database)):
                raise ExportError(
                    f"MLflow's {database} {why}; it is kept aside, and this run exported to a new one, by: "
                    f"rungwise doctor --fix {shlex.quote(str(self.run))}"
                ) from None
            raise

    def close(self) -> None:
        """Nothing is left open."""

    def _sync(self, view: RecordView) -> Exported:
        if self._store is None:
            self._store = Store(self.uri)
        if self._settings is None:
            self._settings = LogSettings.of(view.reader)
        if self._parent is None:
            self._experiment, self._nested_under = experiment_of(self._store, view.definition, self._settings)
            for mlflow_run in self._store.find(self._experiment, "rungwise.run", view.identity):
                if "rungwise.trial" not in mlflow_run.tags:
                    self._parent = self._parent or mlflow_run
                else:
                    self._children.setdefault(int(mlflow_run.tags["rungwise.trial"]), mlflow_run)
        before = self._logged
        self._names.register(view.definition, view.trials, chain.from_iterable(view.rows.values()))
        update_best(self._best, view)
        values = (value for rows in view.rows.values() for row in rows for value in row.metrics.values())
        self._infinite = self._infinite or any(map(math.isinf, values))
        self._parent = self._sync_parent(view, self._store, self._settings)
        if view.state in (SweepState.INTERRUPTED, SweepState.FAILED):  # first: after Ctrl-C a pass has few seconds
            self._store.set_status(self._parent, SWEEP_STATUS[view.state], milliseconds(view.ended))
        for trial in view.trials:
            if trial.started is not None or trial.state.ended:
                self._sync_trial(view, trial, self._store, self._parent.run_id)
        self._store.set_status(self._parent, SWEEP_STATUS[view.state], milliseconds(view.ended))
        logged, uri = self._logged - before, redacted_uri(self.uri)
        notes, page = self._notes(self._settings), PAGE.format(experiment=self._experiment)
        return Exported(uri, len(self._children), logged, notes, page, run_id=self._parent.run_id)

    def _notes(self, settings: LogSettings) -> tuple[str, ...]:
        """What MLflow could not take as it is."""
        lines = [*self._names.notes(), *legal_tags(settings.tags)[1]]
        if settings.parent and self._nested_under is None:
            lines.append(f"MLFLOW_RUN_ID is {settings.parent}, a run that this store does not have: nested under none")
        elif settings.parent and settings.experiment:
            lines.append("the experiment is that of MLFLOW_RUN_ID's run, under which the sweep is nested")
        if self._infinite and not self.uri.startswith("http"):
            lines.append("an infinite metric is stored as the largest float, as SQL has no infinity")
        return tuple(lines)

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

    def _sync_parent(self, view: RecordView, store: Store, settings: LogSettings) -> RunInfo:
        tags = legal_tags(settings.tags)[0] | parent_tags(view) | self._names.as_tag()
        if self._nested_under:
            tags["mlflow.parentRunId"] = self._nested_under
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
        keep_epoch = view.definition.reports_per_epoch != 1 or view.definition.folds > 0
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
