"""The sweep in MLflow: one experiment a sweep script, one parent run a sweep, one nested run a trial.

`export()` brings MLflow up to what the record says and changes nothing when it already is: runs are found by the tag
`rungwise.run` before they are made, a trial's tag `rungwise.seq` says how much of it is there, and a metric's time is
the report's own, so MLflow's primary key refuses what was logged twice. An exporter killed anywhere is completed by
the next one.

A metric's step is the report's index in its trial, which is the epoch when there is one report an epoch; with more,
`epoch` is a metric too. Of a step reported by several attempts the last attempt's word counts (MLflow cannot take
back what an earlier attempt said while it was followed live; where both said the same, nothing is added). MLflow
keeps NaN; its SQL stores keep an infinity as the largest float.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rungwise.files import locked
from rungwise.results.analysis.answer import Answer, answer
from rungwise.results.exporters.legal_names import LegalNames, legal_name
from rungwise.results.exporters.mlflow_client import ExportError, Known, Store, errors
from rungwise.results.exporters.mlflow_database import unusable
from rungwise.results.exporters.mlflow_model import Confirmed
from rungwise.results.exporters.tracking_uri import sqlite_path, tracking_uri, valid_uri
from rungwise.results.io.garbage import rare_collections
from rungwise.results.io.redaction import redacted_uri
from rungwise.results.model.model_folder import FOLDER, PROGRAM, difference
from rungwise.results.record.definition import Definition
from rungwise.results.record.reader import Reader
from rungwise.results.record.sessions import ended_at, sweep_state
from rungwise.results.record.types import ReportRow, Session, State, SweepState, Trial

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric

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
# What a resumed run cannot change is a param of the parent, the rest are tags: MLflow's params are for good.
_PARAMS = ("metric", "mode", "epochs", "reports_per_epoch", "grace", "eta", "scheduler", "seed")
_TAGS = ("trials", "sampler")
_TAG_LENGTH = 5000  # that every server accepts
REPORT = "report.html"
_DIGEST_LENGTH = 36  # MLflow's limit


@dataclass(frozen=True, slots=True)
class Exported:
    """What is in MLflow now, and how much of it was new."""

    uri: str  # without passwords
    run_id: str  # of the parent
    trials: int  # nested runs
    metrics: int  # logged by this pass; 0 when all was there


@dataclass(frozen=True, slots=True)
class _Pass:
    """What one pass knows of the sweep."""

    reader: Reader
    definition: Definition
    identity: str  # the same for all exports of this run, of no other run
    state: SweepState
    ended: float | None
    answer: Answer | None  # None while a driver works
    sessions: Sequence[Session]
    trials: Sequence[Trial]
    rows: Mapping[int, Sequence[ReportRow]]  # trial -> what it reported after the last pass
    seq: int  # of the last report


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
        self._parent: Known | None = None
        self._children: dict[int, Known] = {}
        self._seq = 0  # reports up to here are in MLflow
        self._logged = 0
        self._names = _Names()

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
                        now = _pass(reader, dead, self._seq)
                    done = self._sync(now)
                    if now.state is not SweepState.RUNNING:
                        self._add_files(now)
                return done
            except ExportError:
                self._forget()
                if (database := sqlite_path(self.uri)) and (why := unusable(database)):
                    raise ExportError(
                        f"MLflow's {database} {why}; it is kept aside, and this run exported to a new one, by: "
                        f"rungwise doctor --fix {shlex.quote(str(self.run))}"
                    ) from None
                raise

    def _sync(self, now: _Pass) -> Exported:
        if self._store is None:
            self._store = Store(self.uri)
        if self._parent is None:
            self._experiment = self._store.experiment(now.definition.sweep or now.definition.name)
            for known in self._store.find(self._experiment, "rungwise.run", now.identity):
                if "rungwise.trial" not in known.tags:
                    self._parent = self._parent or known
                else:
                    self._children.setdefault(int(known.tags["rungwise.trial"]), known)
        before = self._logged
        self._names.meet(now.definition, now.trials, chain.from_iterable(now.rows.values()))
        self._parent = self._sync_parent(now, self._store)
        for trial in now.trials:
            if trial.started is not None or trial.state.ended:
                self._sync_trial(now, trial, self._store, self._parent.run_id)
        self._seq = now.seq
        self._store.set_status(self._parent, SWEEP_STATUS[now.state], _ms(now.ended))
        return Exported(redacted_uri(self.uri), self._parent.run_id, len(self._children), self._logged - before)

    def _add_files(self, now: _Pass) -> None:
        """The report and the confirmed model: last, because they are large."""
        assert self._store is not None
        assert self._parent is not None
        if (report := self.run / REPORT).is_file():
            self._store.add_file(self._parent, report)
        found = now.answer
        best = found.arm(found.best).chosen if found and found.best else None
        made = (self.run / FOLDER / PROGRAM).is_file()  # not of every model
        if made and found and best and best.validation and difference(now.reader, found) is None:
            name, mean = now.definition.sweep or now.definition.name, best.validation.mean
            at = _ms(now.ended) or 0
            confirmed = Confirmed(self.run / FOLDER, name, found.metric, found.mode, mean, now.identity, at)
            self._store.add_model(self._experiment, self._parent, confirmed)
        self._store.settle()

    def _sync_parent(self, now: _Pass, store: Store) -> Known:
        tags = _parent_tags(now) | self._names.tag()
        sessions, trials = now.sessions, now.trials
        if self._parent is None:
            began = sessions[0].started if sessions else min((trial.created for trial in trials), default=0.0)
            self._parent = store.create(self._experiment, now.definition.name, _ms(began) or 0, tags)
        kept = now.definition.to_json()
        given = {key: kept[key] for key in _PARAMS if key in kept}
        given.update({f"fixed.{self._names.fixed.of(key)}": value for key, value in now.definition.fixed.items()})
        metrics = [] if now.answer is None else _answer(now, now.answer, self._names)
        if now.answer is not None:
            tags["rungwise.answer"] = now.answer.sentence[:_TAG_LENGTH]
        told = json.dumps([(metric.key, metric.value) for metric in metrics])
        answered = hashlib.sha256(told.encode()).hexdigest()
        if metrics and self._parent.tags.get("rungwise.answered") != answered:
            tags["rungwise.answered"] = answered
        else:
            metrics = []
        self._logged += store.log(self._parent, metrics, _texts(given), tags)
        if data := now.definition.data.to_json():
            store.add_input(self._parent, _dataset(data))
        return self._parent

    def _sync_trial(self, now: _Pass, trial: Trial, store: Store, parent: str) -> None:
        left_open = trial.state is State.RUNNING and now.state is not SweepState.RUNNING
        state: str = SweepState.INTERRUPTED if left_open else trial.state
        tags = _trial_tags(now, trial, state, parent)
        child = self._children.get(trial.trial)
        if child is None:
            began = _ms(trial.started or trial.created) or 0
            child = self._children[trial.trial] = store.create(self._experiment, tags["mlflow.runName"], began, tags)
        seq = int(child.tags.get("rungwise.seq", 0))
        new = [row for row in now.rows.get(trial.trial, []) if row.seq > seq]
        params = {} if "rungwise.seq" in child.tags else _texts({**trial.params, **trial.config})
        params = {self._names.params.of(name): value for name, value in params.items()}
        tags["rungwise.seq"] = str(max([seq, *(row.seq for row in new)]))
        if any(row.attempt > 1 for row in new):
            new = [row for row in now.reader.reports(trial=trial.trial) if row.seq <= now.seq]
        keep_epoch = now.definition.reports_per_epoch != 1
        metrics = list(_metrics(new, seq, self._names.metrics, keep_epoch=keep_epoch))
        self._logged += store.log(child, metrics, params, tags)
        if left_open:
            store.set_status(child, "KILLED", _ms(now.ended))
        else:
            store.set_status(child, STATUS[trial.state], _ms(trial.ended))


class _Names:
    """The names of one run as MLflow has them."""

    def __init__(self) -> None:
        self.arms, self.fixed, self.params, self.metrics = (LegalNames() for _ in range(4))

    def meet(self, definition: Definition, trials: Iterable[Trial], rows: Iterable[ReportRow]) -> None:
        """Fix the legal names of all that are there, in the record's order."""
        for arm in (*definition.arms, *(trial.arm for trial in trials)):
            self.arms.of(arm)
        for name in definition.fixed:
            self.fixed.of(name)
        for name in chain.from_iterable((*trial.params, *trial.config) for trial in trials):
            self.params.of(name)
        for name in chain.from_iterable(row.metrics for row in rows):
            self.metrics.of(name)

    def tag(self) -> dict[str, str]:
        """Which names stand for others, as far as a tag has room; {} when none does."""
        told: dict[str, dict[str, str]] = {}
        length = 100
        for kind in ("arms", "fixed", "params", "metrics"):
            for legal, name in getattr(self, kind).changed().items():
                length += len(json.dumps([legal, name])) + 2
                if length <= _TAG_LENGTH:
                    told.setdefault(kind, {})[legal] = name
        return {"rungwise.names": json.dumps(told)} if told else {}


def _pass(reader: Reader, dead: int | None, after: int) -> _Pass:
    """What the record says now; of reports those with seq > `after`."""
    definition = reader.definition()
    identity = str(reader.meta("id") or definition.name).replace("'", "")  # it is quoted in a filter
    state = sweep_state(reader, dead)
    found = None if state is SweepState.RUNNING else answer(reader)
    rows: dict[int, list[ReportRow]] = {}
    seq = after
    for row in reader.reports(after):
        rows.setdefault(row.trial, []).append(row)
        seq = row.seq
    return _Pass(
        reader, definition, identity, state, ended_at(reader), found,
        sessions=reader.sessions(), trials=reader.trials(), rows=rows, seq=seq,
    )  # fmt: skip


def _parent_tags(now: _Pass) -> dict[str, str]:
    tags = {
        "mlflow.runName": now.definition.name,
        "mlflow.source.type": "LOCAL",
        "rungwise.run": now.identity,
        "rungwise.state": str(now.state),
    }
    definition = now.definition
    for key, text in (("mlflow.source.name", definition.sweep), ("mlflow.note.content", definition.question)):
        if text:
            tags[key] = text[:_TAG_LENGTH]
    kept = definition.to_json()
    tags.update({f"rungwise.{key}": str(kept[key]) for key in _TAGS if key in kept})
    whole = json.dumps(kept)
    if len(whole) <= _TAG_LENGTH:
        tags["rungwise.definition"] = whole
    info = now.sessions[-1].info if now.sessions else {}
    if info.get("commit"):
        tags["mlflow.source.git.commit"] = str(info["commit"])
    if info.get("host"):
        tags["rungwise.host"] = str(info["host"])
    return tags


def _trial_tags(now: _Pass, trial: Trial, state: str, parent: str) -> dict[str, str]:
    tags = {
        "mlflow.runName": f"trial {trial.trial} ({trial.arm})",
        "mlflow.source.type": "LOCAL",
        "mlflow.parentRunId": parent,
        "rungwise.run": now.identity,
        "rungwise.trial": str(trial.trial),
        "rungwise.arm": trial.arm,
        "rungwise.phase": trial.phase,
        "rungwise.state": state,
        "rungwise.attempts": str(trial.attempts),
    }
    for key in ("source", "stop_rung", "cutoff", "reason", "error", "node", "device"):
        if (value := getattr(trial, key)) is not None:
            tags[f"rungwise.{key}"] = str(value)[-_TAG_LENGTH:]  # a traceback's end tells more than its beginning
    data = now.definition.data
    if data.digest:
        tags["rungwise.data"] = f"{data.name or 'data'} {data.digest}"
    return tags


def _answer(now: _Pass, found: Answer, names: _Names) -> list[Metric]:
    """What the search saw, what was confirmed, and how many trials ended how; dated when the session ended."""
    from mlflow.entities import Metric

    told: dict[str, float | None] = {}
    seen = {arm.arm: arm.seen for arm in found.arms if arm.seen is not None}
    if seen:
        best = f"best_{names.metrics.of(found.metric)}"
        told[best] = (min if found.mode == "min" else max)(seen.values())
        told |= {f"{best}/{names.arms.of(arm)}": value for arm, value in seen.items()}
    measure = legal_name(found.measure.replace(" ", "_"))
    for arm in found.arms:
        name = names.arms.of(arm.arm)
        if arm.score:
            values = {"": arm.score.mean, "_sd": arm.score.sd, "_low": arm.score.low, "_high": arm.score.high}
            told |= {f"confirmed_{measure}{kind}/{name}": value for kind, value in values.items()}
            told[f"confirmed_n/{name}"] = float(arm.score.n)
            told[f"flattered_by/{name}"] = arm.optimism
    for one in found.comparisons:
        if one.difference is None:
            continue
        values = {
            "": one.difference.mean,
            "_low": one.difference.low,
            "_high": one.difference.high,
            "_p": one.difference.p,
        }
        told |= {f"difference_{measure}{kind}/{names.arms.of(one.arm)}": value for kind, value in values.items()}
    for state in State:
        told[f"trials_{state.lower()}"] = float(sum(trial.state is state for trial in now.trials))
    at, step = _ms(now.ended) or 0, len(now.sessions)
    return [Metric(key, value, at, step) for key, value in told.items() if value is not None]


def _metrics(rows: Sequence[ReportRow], after: int, names: LegalNames, *, keep_epoch: bool) -> Iterator[Metric]:
    """The last attempt's word on each step, dated when it was first said; only what was said after seq `after`."""
    from mlflow.entities import Metric

    said: dict[int, dict[str, tuple[float, ReportRow]]] = {}
    for row in rows:
        before = said.get(row.step, {})
        said[row.step] = {
            name: before[name] if name in before and _same(before[name][0], value) else (value, row)
            for name, value in row.metrics.items()
        }
    for step, words in said.items():
        for name, (value, row) in words.items():
            if row.seq > after and (keep_epoch or name != "epoch"):
                yield Metric(names.of(name), value, round(row.at * 1000), step)


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def _dataset(data: Mapping[str, Any]) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    entity = Dataset(
        name=str(data.get("name", "data")),
        digest=str(data.get("digest", ""))[:_DIGEST_LENGTH],
        source_type="local",
        source=json.dumps({"uri": str(data.get("source", ""))}),
        profile=json.dumps({key: data[key] for key in ("train", "validation", "test") if key in data}),
    )
    return DatasetInput(entity, [InputTag("mlflow.data.context", "training")])


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        key: "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for key, value in values.items()
    }
