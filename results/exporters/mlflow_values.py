"""What one pass logs to MLflow, made from the record: names, params, tags and metrics of the sweep and its trials."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from rungwise.results.analysis.answer import Answer
from rungwise.results.exporters.legal_names import LegalNames, legal_name
from rungwise.results.exporters.loggers.logger import RecordView
from rungwise.results.io.formatting import exact, format_metric
from rungwise.results.record.definition import Definition
from rungwise.results.record.types import ReportRow, State, Trial

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric

# What a resumed run cannot change is a param of the parent, the rest are tags: MLflow's params are for good.
_PARAMS = ("metric", "mode", "epochs", "reports_per_epoch", "folds", "grace", "eta", "scheduler", "seed")
_TAGS = ("trials", "searches", "order", "sampler")
TAG_LENGTH = 5000  # that every server accepts
_DIGEST_LENGTH = 36  # MLflow's limit
LEFT_OUT = "left out: "  # begins what the record says of a table's column that is no feature
MOST_COLUMNS = 300  # of a table in a dataset's schema, for which MLflow has 64 kB
_TYPES = {"number": "double", "date": "datetime"}  # of a column, by the first word of what was done to it
CNN_ONLY = ("channels", "convolutions", "kernel", "channel_dropout")  # hyperparameters that an MLP does not read


class RunNames:
    """The names of one run as MLflow has them."""

    def __init__(self) -> None:
        self.arms, self.fixed, self.params, self.metrics = (LegalNames() for _ in range(4))

    def register(self, definition: Definition, trials: Iterable[Trial], rows: Iterable[ReportRow]) -> None:
        """Fix the legal names of all that are there, in the record's order."""
        for arm in (*definition.arms, *(trial.arm for trial in trials if not trial.is_untuned)):
            self.arms.of(arm)
        for name in definition.fixed:
            self.fixed.of(name)
        for name in chain.from_iterable((*trial.params, *trial.config) for trial in trials):
            self.params.of(name)
        for name in chain.from_iterable(row.metrics for row in rows):
            self.metrics.of(name)

    def notes(self) -> Iterator[str]:
        """Which names stand for others, a line each."""
        kinds = {"arms": "arm", "fixed": "fixed hyperparameter", "params": "hyperparameter", "metrics": "metric"}
        for kind, word in kinds.items():
            for legal, name in getattr(self, kind).changed().items():
                yield f"the {word} {name!r} is stored as {legal!r}"

    def as_tag(self) -> dict[str, str]:
        """Which names stand for others, as far as a tag has room; {} when none does."""
        renamed: dict[str, dict[str, str]] = {}
        length = 100
        for kind in ("arms", "fixed", "params", "metrics"):
            for legal, name in getattr(self, kind).changed().items():
                length += len(json.dumps([legal, name])) + 2
                if length <= TAG_LENGTH:
                    renamed.setdefault(kind, {})[legal] = name
        return {"rungwise.names": json.dumps(renamed)} if renamed else {}


def legal_tags(tags: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The user's tags as every server takes them, and what was changed, a line each."""
    names, legal, notes = LegalNames(), {}, []
    for key, value in tags.items():
        legal[names.of(key)] = value[:TAG_LENGTH]
        if len(value) > TAG_LENGTH:
            notes.append(f"the tag {key!r} has {len(value)} characters, of which the first {TAG_LENGTH} are there")
    return legal, notes + [f"the tag {key!r} is stored as {made!r}" for made, key in names.changed().items()]


def parent_tags(view: RecordView) -> dict[str, str]:
    tags = {
        "mlflow.runName": view.definition.name,
        "mlflow.source.type": "LOCAL",
        "rungwise.run": view.identity,
        "rungwise.state": str(view.state),
    }
    definition = view.definition
    for key, text in (("mlflow.source.name", definition.sweep), ("mlflow.note.content", definition.question)):
        if text:
            tags[key] = text[:TAG_LENGTH]
    values = definition.to_json()
    tags.update({f"rungwise.{key}": str(values[key]) for key in _TAGS if key in values})
    text = json.dumps(values)
    if len(text) <= TAG_LENGTH:
        tags["rungwise.definition"] = text
    info = view.sessions[-1].info if view.sessions else {}
    if info.get("commit"):
        tags["mlflow.source.git.commit"] = str(info["commit"])
    if info.get("host"):
        tags["rungwise.host"] = str(info["host"])
    return tags


def parent_params(view: RecordView, names: RunNames) -> dict[str, str]:
    """What a resumed run cannot change, and the fixed hyperparameters."""
    definition = view.definition.to_json()
    params = {key: definition[key] for key in _PARAMS if key in definition}
    fixed = {f"fixed.{names.fixed.of(key)}": value for key, value in view.definition.fixed.items()}
    used, left_out = _columns(view.definition.data.columns or {})
    columns = {"data.columns_used": [*used], "data.columns_left_out": [*left_out]}
    listed = {key: ", ".join(names)[:TAG_LENGTH] for key, names in columns.items() if names}
    return texts(params | fixed) | listed


def _columns(columns: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Of a table: {column that is a feature: what it becomes}, {column that is none: why}."""
    left_out = {name: why.removeprefix(LEFT_OUT) for name, why in columns.items() if why.startswith(LEFT_OUT)}
    return {name: words for name, words in columns.items() if name not in left_out}, left_out


def trial_tags(view: RecordView, trial: Trial, state: str, parent: str) -> dict[str, str]:
    tags = {
        "mlflow.runName": _run_name(trial, view.definition.searches),
        "mlflow.source.type": "LOCAL",
        "mlflow.parentRunId": parent,
        "rungwise.run": view.identity,
        "rungwise.trial": str(trial.trial),
        "rungwise.arm": trial.arm,
        "rungwise.search": str(trial.search),
        "rungwise.phase": trial.phase,
        "rungwise.state": state,
        "rungwise.attempts": str(trial.attempts),
    }
    for key in ("source", "stop_rung", "cutoff", "reason", "error", "node", "device"):
        if (value := getattr(trial, key)) is not None:
            tags[f"rungwise.{key}"] = str(value)[-TAG_LENGTH:]  # a traceback's end tells more than its beginning
    if about := _description(trial, view.definition):
        tags["mlflow.note.content"] = about[:TAG_LENGTH]
    data = view.definition.data
    if data.digest:
        tags["rungwise.data"] = f"{data.name or 'data'} {data.digest}"
    return tags


def _run_name(trial: Trial, searches: int) -> str:
    """'trial 12 (L2, search 3)', or 'trial 40, confirm of 12 (L2, search 3)'"""
    named = trial.phase in ("search", trial.arm)  # the untuned control is an arm of that name
    phase = "" if named else f", {trial.phase}" + (f" of {trial.source}" if trial.source else "")
    return f"trial {trial.trial}{phase} ({trial.study.name(searches)})"


def _description(trial: Trial, definition: Definition) -> str:
    """Why a trial ended before its time."""
    if trial.state is State.STOPPED:
        where = "" if trial.stop_rung is None else f" at epoch {trial.stop_rung:g}"
        cutoff = (
            ""
            if trial.cutoff is None
            else f": {definition.metric} did not reach {format_metric(trial.cutoff, definition.metric)}"
        )
        return f"Stopped early{where}{cutoff}. MLflow calls such a run KILLED."
    return trial.reason or ""


def hyperparameters_read(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what its network does not read: that of an MLP has no convolutions."""
    unread = CNN_ONLY if config.get("model") == "mlp" else ()
    return {name: value for name, value in config.items() if name not in unread}


def digest_of(metrics: Sequence[Metric]) -> str:
    """Of names and values: whether a run has these metrics already."""
    return hashlib.sha256(json.dumps([(metric.key, metric.value) for metric in metrics]).encode()).hexdigest()


def update_best(best: dict[int, ReportRow], view: RecordView) -> None:
    """Enter this pass's reports in `best`: trial -> the report of its best finite objective, the first of equals."""
    metric, sign = view.definition.metric, -1.0 if view.definition.mode == "min" else 1.0
    for trial, rows in view.rows.items():
        for row in rows:
            value = row.metrics.get(metric, math.nan)
            if math.isfinite(value) and (trial not in best or sign * (value - best[trial].metrics[metric]) > 0):
                best[trial] = row


def summary_metrics(view: RecordView, trial: Trial, best: ReportRow | None, names: LegalNames) -> list[Metric]:
    """Of a trial that has ended: its best objective, at the step that reported it, and its scores on the test split."""
    from mlflow.entities import Metric

    metric = view.definition.metric
    at = milliseconds(trial.ended) or 0
    found = [
        Metric(f"test_{names.of(name)}", value, at, 0)
        for name, value in sorted(view.scores.get(trial.trial, {}).items())
    ]
    if best is not None:
        found.append(Metric(f"best_{names.of(metric)}", best.metrics[metric], round(best.at * 1000), best.step))
    return found


def answer_metrics(view: RecordView, result: Answer, names: RunNames) -> list[Metric]:
    """What the search saw, what was confirmed, and how many trials ended how; dated when the session ended."""
    from mlflow.entities import Metric

    numbers: dict[str, float | None] = {}
    best_seen = {arm.arm: arm.seen for arm in result.arms if arm.seen is not None}
    if best_seen:
        best = f"best_{names.metrics.of(result.metric)}"
        numbers[best] = (min if result.mode == "min" else max)(best_seen.values())
        numbers |= {f"{best}/{names.arms.of(arm)}": value for arm, value in best_seen.items()}
    measure = legal_name(result.measure.replace(" ", "_"))
    for arm in result.arms:
        name = names.arms.of(arm.arm)
        if arm.score:
            values = {"": arm.score.mean, "_sd": arm.score.sd, "_low": arm.score.low, "_high": arm.score.high}
            numbers |= {f"confirmed_{measure}{kind}/{name}": value for kind, value in values.items()}
            numbers[f"confirmed_n/{name}"] = float(arm.score.n)
            numbers[f"optimism/{name}"] = arm.optimism
    for comparison in result.comparisons:
        if comparison.difference is None:
            continue
        values = {
            "": comparison.difference.mean,
            "_low": comparison.difference.low,
            "_high": comparison.difference.high,
            "_p": comparison.difference.p,
        }
        numbers |= {
            f"difference_{measure}{kind}/{names.arms.of(comparison.arm)}": value for kind, value in values.items()
        }
    if (gain := result.gain) and gain.score and gain.difference:
        values = {"": gain.difference.mean, "_low": gain.difference.low, "_high": gain.difference.high}
        numbers |= {f"untuned_{measure}": gain.score.mean} | {
            f"difference_{measure}{kind}_from_untuned": value for kind, value in values.items()
        }
    for state in State:
        numbers[f"trials_{state.lower()}"] = float(sum(trial.state is state for trial in view.trials))
    at, step = milliseconds(view.ended) or 0, len(view.sessions)
    return [Metric(key, value, at, step) for key, value in numbers.items() if value is not None]


def report_metrics(rows: Sequence[ReportRow], after: int, names: LegalNames, *, keep_epoch: bool) -> Iterator[Metric]:
    """Each step as the last attempt reported it, dated when the value was first reported; only values after `after`."""
    from mlflow.entities import Metric

    latest: dict[int, dict[str, tuple[float, ReportRow]]] = {}
    for row in rows:
        before = latest.get(row.step, {})
        latest[row.step] = {
            name: before[name] if name in before and _same(before[name][0], value) else (value, row)
            for name, value in row.metrics.items()
        }
    for step, metrics in latest.items():
        for name, (value, row) in metrics.items():
            if row.seq > after and (keep_epoch or name != "epoch"):
                yield Metric(names.of(name), value, round(row.at * 1000), step)


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def dataset_input(data: Mapping[str, Any]) -> DatasetInput:
    """The data of a run as MLflow shows it: of a table with its columns as the schema, and in the profile what was done
    to each."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    columns = dict(list((data.get("columns") or {}).items())[:MOST_COLUMNS])
    used, left_out = _columns(columns)
    spec = [{"type": _TYPES.get(words.partition(",")[0], "string"), "name": name} for name, words in used.items()]
    profile = {key: data[key] for key in ("train", "validation", "test") if key in data}
    profile |= {key: value for key, value in (("columns_used", used), ("columns_left_out", left_out)) if value}
    entity = Dataset(
        name=str(data.get("name", "data")),
        digest=str(data.get("digest", ""))[:_DIGEST_LENGTH],
        source_type="local",
        source=json.dumps({"uri": str(data.get("source", ""))}),
        schema=json.dumps({"mlflow_colspec": spec}) if spec else None,
        profile=json.dumps(profile),
    )
    return DatasetInput(entity, [InputTag("mlflow.data.context", "training")])


def milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: exact(value) for key, value in values.items()}
