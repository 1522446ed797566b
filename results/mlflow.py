"""The sweep in MLflow: one experiment a sweep script, one parent run a sweep, one nested run a trial.

`export()` brings MLflow up to what the record says and changes nothing when it already is: runs are found by the tag
`rungwise.run` before they are made, a trial's tag `rungwise.seq` says how much of it is there, and a metric's time is
the report's own, so MLflow's primary key refuses what was logged twice. An exporter killed anywhere is completed by
the next one.

A metric's step is the report's index in its trial, which is the epoch when there is one report an epoch; with more,
`epoch` is a metric too. Of a step reported by several attempts the last attempt's word counts (MLflow cannot take
back what an earlier attempt has said while it was followed live; where both said the same, nothing is added).
MLflow keeps NaN; its SQL stores keep an infinity as the largest float. A run set back to RUNNING keeps the old
`end_time` until it ends again: MLflow cannot clear it.
"""

from __future__ import annotations

import getpass
import json
import logging
import math
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.record import Reader, Record, ReportRow, State, SweepState, Trial
from results.tables import NEVER_BEST
from results.tracking import redacted, sqlite_path, tracking_uri, valid_uri, without_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

__all__ = ["ExportError", "Exported", "Exporter", "export", "redacted", "tracking_uri", "valid_uri"]

STATUS = {
    State.COMPLETED: "FINISHED",
    State.STOPPED: "KILLED",
    State.DIVERGED: "FAILED",
    State.FAILED: "FAILED",
    State.LOST: "FAILED",
    State.RUNNING: "RUNNING",
}
SWEEP_STATUS = {
    SweepState.RUNNING: "RUNNING",
    SweepState.FINISHED: "FINISHED",
    SweepState.INTERRUPTED: "KILLED",
    SweepState.FAILED: "FAILED",
}
_BATCH = 1000  # metrics a request, MLflow's limit; 100 for params and tags
_TAG_LENGTH = 5000  # what older servers accept; 8000 since MLflow 2.15
_DIGEST_LENGTH = 36


class ExportError(RuntimeError):
    """MLflow could not be brought up to date; one line, without passwords."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What is in MLflow now, and how much of it was new."""

    uri: str  # without passwords
    run_id: str  # of the parent
    trials: int  # nested runs
    metrics: int  # logged by this pass; 0 when all was there


@dataclass(slots=True)
class _Known:
    """A run as MLflow has it."""

    run_id: str
    status: str
    end_time: int | None
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    inputs: bool = False

    @property
    def seq(self) -> int:
        return int(self.tags.get("rungwise.seq", 0))


def export(run: Path, tracking_uri: str | None = None) -> Exported:
    """Bring MLflow up to the record of `run` in one pass. Raises ExportError, or RecordError without a record."""
    return Exporter(run, tracking_uri).sync()


class Exporter:
    """Brings MLflow up to date pass by pass, and remembers between passes what is there."""

    def __init__(self, run: Path, uri: str | None = None) -> None:
        """Raises ExportError when the tracking URI cannot be one."""
        self.run = run
        self.uri = tracking_uri(run, uri)
        if problem := valid_uri(self.uri):
            raise ExportError(problem)
        self._client: MlflowClient | None = None
        self._forget()

    def _forget(self) -> None:
        self._experiment: str | None = None
        self._parent: _Known | None = None
        self._children: dict[int, _Known] = {}
        self._seq = 0
        self._logged = 0

    def sync(self, *, abandoned: bool = False) -> Exported:
        """One pass. `abandoned`: no driver works on the run any more, whatever its record says.

        Raises ExportError; the next pass then looks at MLflow afresh.
        """
        _configure()
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with Record.reader(self.run) as reader, reader.snapshot():
                return self._sync(reader, abandoned)
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
            self._forget()
            lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            line = without_secrets(lines[0], self.uri)
            raise ExportError(f"MLflow at {redacted(self.uri)} must accept the runs, but {line}") from None

    def _sync(self, reader: Reader, abandoned: bool) -> Exported:
        definition = reader.meta("definition") or {}
        name = str(definition.get("name") or reader.folder.name)
        identity = str(reader.meta("id") or name).replace("'", "")
        state = reader.state()
        if abandoned and state is SweepState.RUNNING:
            state = SweepState.INTERRUPTED
        if self._client is None:
            self._client = _client(self.uri)
        if self._parent is None:
            self._experiment = self._find_experiment(str(definition.get("sweep") or name))
            self._find_runs(identity)
        before = self._logged
        trials = reader.trials()
        parent = self._sync_parent(reader, definition, name, identity, state, trials)
        rows: dict[int, list[ReportRow]] = {}
        for row in reader.reports(self._seq):
            rows.setdefault(row.trial, []).append(row)
            self._seq = row.seq
        ended = _ended(reader)
        for trial in trials:
            if trial.started is not None or trial.state.ended:
                self._sync_trial(reader, definition, identity, trial, rows.get(trial.trial, []), state, ended)
        self._finish(parent, SWEEP_STATUS[state], ended)
        return Exported(redacted(self.uri), parent.run_id, len(self._children), self._logged - before)

    # -- finding ----------------------------------------------------------------------------------------------

    def _find_experiment(self, name: str) -> str:
        assert self._client is not None
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            database = sqlite_path(self.uri)
            beside = (database.absolute().parent / "mlartifacts").as_uri() if database else None
            try:
                return str(self._client.create_experiment(name, artifact_location=beside))
            except MlflowException:  # another sweep of this script made it between the two calls
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise MlflowException(f"its experiment {name!r} is deleted; restore it, or remove it for good (mlflow gc)")
        return str(found.experiment_id)

    def _find_runs(self, identity: str) -> None:
        assert self._client is not None
        assert self._experiment is not None
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment], f"tags.`rungwise.run` = '{identity}'", max_results=1000, page_token=token
            )
            for found in page:
                known = _known(found)
                trial = known.tags.get("rungwise.trial")
                if trial is None:
                    self._parent = known
                else:
                    self._children[int(trial)] = known
            token = page.token
            if not token:
                return

    # -- the parent -------------------------------------------------------------------------------------------

    def _sync_parent(
        self,
        reader: Reader,
        definition: Mapping[str, Any],
        name: str,
        identity: str,
        state: SweepState,
        trials: Sequence[Trial],
    ) -> _Known:
        assert self._client is not None
        sessions = reader.sessions()
        tags = {
            "mlflow.runName": name,
            "mlflow.source.type": "LOCAL",
            "rungwise.run": identity,
            "rungwise.state": state,
            **_definition_tags(definition),
        }
        if sessions:
            info = sessions[-1].info
            tags.update({f"rungwise.{key}": str(info[key]) for key in ("host", "commit") if info.get(key)})
        if self._parent is None:
            started = sessions[0].started if sessions else min((trial.created for trial in trials), default=0.0)
            self._parent = self._create(name, started, tags)
        fixed = definition.get("fixed") or {}
        params = {key: definition[key] for key in _PARAMS if definition.get(key) is not None}
        params.update({f"fixed.{key}": value for key, value in fixed.items()})
        metrics = _answer(reader, definition, trials, _ended(reader)) if state is not SweepState.RUNNING else []
        if self._parent.tags.get("rungwise.answered") == _key(metrics):
            metrics = []
        if metrics:
            tags["rungwise.answered"] = _key(metrics)
        self._log(self._parent, metrics, params, tags)
        if definition.get("data") and not self._parent.inputs:
            self._client.log_inputs(self._parent.run_id, datasets=[_dataset(definition["data"])])
            self._parent.inputs = True
        return self._parent

    # -- trials -----------------------------------------------------------------------------------------------

    def _sync_trial(
        self,
        reader: Reader,
        definition: Mapping[str, Any],
        identity: str,
        trial: Trial,
        rows: list[ReportRow],
        sweep: SweepState,
        ended: float | None,
    ) -> None:
        assert self._parent is not None
        left_open = trial.state is State.RUNNING and sweep is not SweepState.RUNNING
        tags = {
            "mlflow.runName": f"trial {trial.trial} ({trial.arm})",
            "mlflow.source.type": "LOCAL",
            "mlflow.parentRunId": self._parent.run_id,
            "rungwise.run": identity,
            "rungwise.trial": str(trial.trial),
            "rungwise.arm": trial.arm,
            "rungwise.phase": trial.phase,
            "rungwise.state": SweepState.INTERRUPTED if left_open else trial.state,
            "rungwise.attempts": str(trial.attempts),
        }
        for key in ("stop_rung", "cutoff", "reason", "error", "node", "device"):
            value = getattr(trial, key)
            if value is not None:
                tags[f"rungwise.{key}"] = str(value)[-_TAG_LENGTH:]
        data = definition.get("data") or {}
        if data.get("digest"):
            tags["rungwise.data"] = f"{data.get('name')} {data['digest']}"
        child = self._children.get(trial.trial)
        if child is None:
            child = self._create(tags["mlflow.runName"], trial.started or trial.created, tags)
            self._children[trial.trial] = child
        params = {} if "rungwise.seq" in child.tags else {**trial.params, **trial.config}
        new = [row for row in rows if row.seq > child.seq]
        if any(row.attempt > 1 for row in new):
            new = list(reader.reports(trial=trial.trial))
        keep_epoch = definition.get("reports_per_epoch", 1) != 1
        metrics = list(_metrics(new, child.seq, keep_epoch))
        if "rungwise.seq" not in child.tags or new:
            tags["rungwise.seq"] = str(max([child.seq, *(row.seq for row in new)]))
        self._log(child, metrics, params, tags)
        if left_open:
            self._finish(child, "KILLED", ended)
        else:
            self._finish(child, STATUS[trial.state], trial.ended)

    # -- writing ----------------------------------------------------------------------------------------------

    def _create(self, name: str, started: float, tags: Mapping[str, str]) -> _Known:
        assert self._client is not None
        assert self._experiment is not None
        tags = {"mlflow.user": _user(), **tags}
        made = self._client.create_run(self._experiment, start_time=_ms(started), tags=dict(tags), run_name=name)
        return _Known(made.info.run_id, "RUNNING", None, dict(tags))

    def _log(
        self, known: _Known, metrics: Sequence[Metric], params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        """Log what MLflow lacks. The tags go last: a pass that dies before them is repeated, never believed."""
        assert self._client is not None
        from mlflow.entities import Param, RunTag

        new_tags = [RunTag(key, value) for key, value in tags.items() if known.tags.get(key) != value]
        new_params = [Param(key, _text(value)) for key, value in params.items() if key not in known.params]
        if not (metrics or new_tags or new_params):
            return
        requests = max(math.ceil(len(metrics) / _BATCH), math.ceil(len(new_params) / 100), 1)
        for i in range(requests):
            self._client.log_batch(
                known.run_id,
                metrics=metrics[i * _BATCH : (i + 1) * _BATCH],
                params=new_params[i * 100 : (i + 1) * 100],
                tags=new_tags if i == requests - 1 else [],
                synchronous=True,
            )
        self._logged += len(metrics)
        known.tags.update({tag.key: tag.value for tag in new_tags})
        known.params.update({param.key: param.value for param in new_params})

    def _finish(self, known: _Known, status: str, ended: float | None) -> None:
        assert self._client is not None
        if status == "RUNNING":
            if known.status != "RUNNING":
                self._client.update_run(known.run_id, status="RUNNING")
                known.status = "RUNNING"
            return
        end_time = _ms(ended) if ended is not None else known.end_time
        if known.status != status or known.end_time != end_time:
            self._client.set_terminated(known.run_id, status, end_time)
            known.status, known.end_time = status, end_time


_PARAMS = ("metric", "mode", "epochs", "reports_per_epoch", "grace", "eta", "scheduler", "sampler", "seed")


def _definition_tags(definition: Mapping[str, Any]) -> dict[str, str]:
    """What a resumed run may change is a tag: MLflow's params cannot change."""
    whole = json.dumps(definition)
    tags = {"rungwise.definition": whole} if len(whole) <= _TAG_LENGTH else {}
    if definition.get("trials") is not None:
        tags["rungwise.trials"] = str(definition["trials"])
    if definition.get("question"):
        tags["mlflow.note.content"] = str(definition["question"])[:_TAG_LENGTH]
    if definition.get("sweep"):
        tags["mlflow.source.name"] = str(definition["sweep"])
    return tags


def _answer(
    reader: Reader, definition: Mapping[str, Any], trials: Sequence[Trial], ended: float | None
) -> list[Metric]:
    """best_<metric> of the sweep and of each arm, and how many trials ended how; at the time the session ended."""
    from mlflow.entities import Metric

    metric, sign = str(definition.get("metric", "val_accuracy")), 1 if definition.get("mode", "max") == "max" else -1
    best: dict[str, float] = {}
    able = {trial.trial: trial.arm for trial in trials if trial.state not in NEVER_BEST}
    for number, curve in reader.curves().items():
        values = [row.metrics[metric] for row in curve.values() if math.isfinite(row.metrics.get(metric, math.nan))]
        if number in able and values:
            for key in (f"best_{metric}", f"best_{metric}/{able[number]}"):
                best[key] = max([*values, *([best[key]] if key in best else [])], key=lambda value: sign * value)
    values = {**best, **{f"trials_{state.lower()}": float(sum(t.state is state for t in trials)) for state in State}}
    step = len(reader.sessions())
    return [Metric(_metric_name(key), value, _ms(ended or 0.0), step) for key, value in values.items()]


def _metrics(rows: Sequence[ReportRow], after: int, keep_epoch: bool) -> Iterator[Metric]:
    """The last attempt's word on each step, dated when it was first said, as far as that is later than `after`."""
    from mlflow.entities import Metric

    said: dict[int, dict[str, tuple[float, ReportRow]]] = {}
    for row in rows:
        old = said.get(row.step, {})
        said[row.step] = {
            name: old[name] if name in old and _same(old[name][0], value) else (value, row)
            for name, value in row.metrics.items()
        }
    for step, words in said.items():
        for name, (value, row) in words.items():
            if row.seq > after and (keep_epoch or name != "epoch"):
                yield Metric(_metric_name(name), value, _ms(row.at), step)


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def _metric_name(name: str) -> str:
    return re.sub(r"[^\w\-. /]", "_", name)[:250]


def _key(metrics: Sequence[Metric]) -> str:
    return json.dumps([[metric.key, metric.value] for metric in metrics])[:_TAG_LENGTH]


def _dataset(data: Mapping[str, Any]) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    profile = {key: data[key] for key in ("train", "validation", "test") if key in data}
    entity = Dataset(
        name=str(data.get("name", "data")),
        digest=str(data.get("digest", ""))[:_DIGEST_LENGTH],
        source_type="local",
        source=json.dumps({"uri": str(data.get("source", ""))}),
        profile=json.dumps(profile),
    )
    return DatasetInput(entity, [InputTag("mlflow.data.context", "training")])


def _known(found: Run) -> _Known:
    info, data = found.info, found.data
    inputs = bool(found.inputs and found.inputs.dataset_inputs)
    return _Known(info.run_id, info.status, info.end_time, dict(data.tags), dict(data.params), inputs)


def _ended(reader: Reader) -> float | None:
    """When the last session ended; of a driver that died without a word, the last thing it recorded."""
    sessions = reader.sessions()
    if sessions and sessions[-1].ended is not None:
        return sessions[-1].ended
    return reader.last_at()


def _client(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    return client


def _configure() -> None:
    """MLflow's own defaults wait 247 s for a dead server and print a line for every migration of a new database."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _text(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
