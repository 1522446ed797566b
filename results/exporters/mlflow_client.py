"""The MLflow client: runs are looked up before they are created, only missing values are logged, waits are short."""

from __future__ import annotations

import getpass
import hashlib
import logging
import math
import os
import re
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rungwise.results.exporters import mlflow_database
from rungwise.results.exporters.legal_names import storable_name
from rungwise.results.exporters.loggers.logger import LoggerError
from rungwise.results.exporters.tracking_uri import sqlite_path, sqlite_uri
from rungwise.results.io.redaction import redacted_uri, without_secrets
from rungwise.results.model.model_folder import ModelError

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric, Run

    from rungwise.results.exporters.mlflow_model import Confirmed

_THINGS, _OTHERS = 1000, 100  # what MLflow takes in one request: in all, and of params or of tags
# MLflow's own defaults wait 247 s for a dead server. Telemetry is one more request to a host nobody named. The last
# two keep it from printing two lines a run, and bars.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class ExportError(LoggerError):
    """MLflow could not be brought up to date; one line, without passwords."""


@dataclass(slots=True)
class RunInfo:
    """A run as MLflow has it. Times are milliseconds since the epoch."""

    run_id: str
    status: str
    end_time: int | None
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    has_input: bool = False
    certain: bool = True  # whether this process knows which metrics it has: not of a run that another one logged to


class Store:
    """One MLflow tracking store, as far as an exporter needs it. Its methods raise what MLflow raises: `errors()`."""

    def __init__(self, uri: str) -> None:
        """Connect; a new SQLite store is made."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for name in ("alembic", "mlflow.store.db.utils"):  # a line for every migration of a new database
            logging.getLogger(name).setLevel(logging.WARNING)
        self.database = sqlite_path(uri)
        if self.database is not None:
            mlflow_database.ensure(self.database)
            if why := mlflow_database.half_made(self.database):  # MLflow would try, and keep the file open
                raise sqlite3.DatabaseError(f"{self.database} {why}")
            mlflow_database.relocate(self.database)
            uri = uri if "?" in uri else sqlite_uri(self.database)
        self._client = MlflowClient(uri)

    def settle(self) -> None:
        """Put all that was written into the database's one file: a user may copy it."""
        if self.database is not None:
            with closing(sqlite3.connect(self.database, timeout=20)) as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def experiment(self, name: str, description: str = "") -> str:
        """The id of the experiment, made when absent, with its artifacts beside a SQLite store. It opens as one of
        model training, which MLflow's page would otherwise ask about."""
        from mlflow.exceptions import MlflowException

        name = storable_name(name)
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            beside = None
            if self.database:
                beside = (self.database.absolute().parent / mlflow_database.ARTIFACTS).as_uri()
            tags = {"mlflow.experimentKind": "custom_model_development"}
            if description:
                tags["mlflow.note.content"] = _storable(description)
            try:
                return str(self._client.create_experiment(name, artifact_location=beside, tags=tags))
            except MlflowException:  # another sweep made it between the two calls
                experiment = self._client.get_experiment_by_name(name)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage != "active":
            raise MlflowException(f"its experiment {name!r} is deleted; restore it, or delete it for good (mlflow gc)")
        return str(experiment.experiment_id)

    def experiment_of(self, run_id: str) -> str | None:
        """The id of the experiment that a run is in; None when there is no such run."""
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode

        try:
            return str(self._client.get_run(run_id).info.experiment_id)
        except MlflowException as error:
            if error.error_code in map(ErrorCode.Name, (RESOURCE_DOES_NOT_EXIST, INVALID_PARAMETER_VALUE)):
                return None
            raise

    def find(self, experiment: str, tag: str, value: str) -> Iterator[RunInfo]:
        """All runs that are not deleted and carry the tag, the oldest first."""
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [experiment],
                f"tags.`{tag}` = '{value}'",
                max_results=1000,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            yield from map(_run_info, page)
            token = page.token
            if not token:
                return

    def experiment_names(self) -> list[str]:
        """Those that are not deleted."""
        return sorted(experiment.name for experiment in self._client.search_experiments())

    def runs_of(self, experiment: str) -> Iterator[tuple[str, dict[str, str], dict[str, float], dict[str, str]]]:
        """(status, params, last metrics, tags) of each run of an experiment, by its name; the oldest first."""
        found = self._client.get_experiment_by_name(experiment)
        token: str | None = None
        while found is not None:
            page = self._client.search_runs(
                [found.experiment_id], max_results=1000, order_by=["attributes.start_time ASC"], page_token=token
            )
            for run in page:
                yield run.info.status, dict(run.data.params), dict(run.data.metrics), dict(run.data.tags)
            token = page.token
            if not token:
                return

    def create(self, experiment: str, name: str, start_time: int, tags: Mapping[str, str]) -> RunInfo:
        """A new RUNNING run."""
        tags = {"mlflow.user": _user(), **tags}
        made = self._client.create_run(experiment, start_time=start_time, tags=dict(tags), run_name=name)
        return RunInfo(made.info.run_id, "RUNNING", None, dict(tags))

    def log(
        self, run_info: RunInfo, metrics: Sequence[Metric], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> int:
        """Log what the run lacks, in as few requests as MLflow allows; returns how many metrics that were.

        Tags go last: a call that died before them is repeated, never believed. A param keeps its first value, as
        MLflow wants it.
        """
        from mlflow.entities import Param, RunTag

        if metrics and not run_info.certain:
            metrics = self._missing(run_info, metrics)
            run_info.certain = True
        tags = {key: _storable(value) for key, value in tags.items()}
        params = {key: _storable(value) for key, value in params.items()}
        new_tags = [RunTag(key, value) for key, value in tags.items() if run_info.tags.get(key) != value]
        new_params = [Param(key, value) for key, value in params.items() if key not in run_info.params]
        if not (metrics or new_tags or new_params):
            return 0
        todo = list(metrics)
        # MLflow's client splits a call of more than 1000 things and then sends tags before the last metrics.
        while len(todo) + len(new_tags) + min(len(new_params), _OTHERS) > _THINGS or len(new_params) > _OTHERS:
            params_now, new_params = new_params[:_OTHERS], new_params[_OTHERS:]
            room = _THINGS - len(params_now)
            self._client.log_batch(run_info.run_id, todo[:room], params_now, synchronous=True)
            todo = todo[room:]
        self._client.log_batch(run_info.run_id, todo, new_params, new_tags, synchronous=True)
        run_info.tags.update({tag.key: tag.value for tag in new_tags})
        run_info.params = {**params, **run_info.params}
        return len(metrics)

    def _missing(self, run_info: RunInfo, metrics: Sequence[Metric]) -> list[Metric]:
        """Those that the run does not have yet.

        MLflow before 3.16 does not take a NaN that it has: its primary key refuses the request and all that is in it.
        """
        keys = dict.fromkeys(metric.key for metric in metrics)
        there = {_identity(one) for key in keys for one in self._client.get_metric_history(run_info.run_id, key)}
        return [metric for metric in metrics if _identity(metric) not in there]

    def add_input(self, run_info: RunInfo, dataset: DatasetInput) -> None:
        """Say once which data the run learned from."""
        if not run_info.has_input:
            self._client.log_inputs(run_info.run_id, datasets=[dataset])
            run_info.has_input = True

    def add_model(self, experiment: str, run_info: RunInfo, confirmed: Confirmed) -> None:
        """Log and register the confirmed model once. Raises ModelError when its folder is damaged."""
        from rungwise.results.exporters.mlflow_model import log

        digest = confirmed.digest
        if run_info.tags.get("rungwise.model") != digest:
            log(self._client, experiment, run_info.run_id, confirmed)
            self.log(run_info, [], {}, {"rungwise.model": digest})

    def add_file(self, run_info: RunInfo, path: Path) -> None:
        """Keep a file as the run's artifact, in its present version."""
        tag, digest = f"rungwise.sha256.{path.name}", hashlib.sha256(path.read_bytes()).hexdigest()
        if run_info.tags.get(tag) != digest:
            self._client.log_artifact(run_info.run_id, str(path))
            self.log(run_info, [], {}, {tag: digest})

    def steps(self, run_info: RunInfo, metric: str) -> set[int]:
        """At which steps the run has the metric."""
        return {metric.step for metric in self._client.get_metric_history(run_info.run_id, metric)}

    def delete(self, run_info: RunInfo) -> None:
        """Move the run to MLflow's bin."""
        self._client.delete_run(run_info.run_id)

    def set_status(self, run_info: RunInfo, status: str, end_time: int | None) -> None:
        """End the run, or set it back to RUNNING; nothing when it is so. MLflow cannot clear an old end_time."""
        if status in ("SCHEDULED", "RUNNING"):
            if run_info.status != status:
                self._client.update_run(run_info.run_id, status=status)
        elif (run_info.status, run_info.end_time) != (status, end_time):
            self._client.set_terminated(run_info.run_id, status, end_time)
            run_info.end_time = end_time
        run_info.status = status


@contextmanager
def errors(uri: str) -> Iterator[None]:
    """Whatever MLflow, its database driver or the network raises becomes one ExportError without passwords."""
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except ModelError as error:
        raise ExportError(f"MLflow at {redacted_uri(uri)} has all but the model, because {error}") from None
    except (MlflowException, SQLAlchemyError, sqlite3.Error, CommandError, ImportError, OSError) as error:
        raise ExportError(f"MLflow at {redacted_uri(uri)} must accept the runs, but {_line(error, uri)}") from None


def _line(error: Exception, uri: str) -> str:
    text = without_secrets(str(error), uri).strip()
    if cause := re.search(
        r"\[Errno -?\d+\] [^\"')]+|Read timed out|[Cc]onnection timed out|Name or service not known", text
    ):
        return f"it cannot be reached ({cause.group()})"
    return (text.splitlines() or [type(error).__name__])[0]


def _run_info(mlflow_run: Run) -> RunInfo:
    info, data = mlflow_run.info, mlflow_run.data
    has_input = bool(mlflow_run.inputs and mlflow_run.inputs.dataset_inputs)
    return RunInfo(
        info.run_id, info.status, info.end_time, dict(data.tags), dict(data.params), has_input, certain=False
    )


def _identity(metric: Metric) -> tuple[str, int, int, str]:
    """What MLflow's primary key holds, NaN and infinities as they come back from SQL."""
    largest = sys.float_info.max
    value = metric.value if math.isnan(metric.value) else max(-largest, min(metric.value, largest))
    return metric.key, metric.step, metric.timestamp, repr(float(value))


def _storable(text: str) -> str:
    """Text that every database takes: without what is no Unicode (of file names), and without NUL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
