"""Consistency checks of a run: its record, tables, checkpoints, model and MLflow are compared with each other.

The record is the truth. What differs from it is made again from it; what the record itself has lost is gone, and the
checks can only make the rest usable.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rungwise.files import locked
from rungwise.results.analysis.answer import answer
from rungwise.results.exporters.legal_names import legal_name
from rungwise.results.exporters.loggers.settings import MLFLOW, LogSettings
from rungwise.results.exporters.mlflow import STATUS, experiment_of, mlflow_feed
from rungwise.results.exporters.mlflow_client import ExportError, RunInfo, Store, errors
from rungwise.results.exporters.mlflow_database import old_locations, relocate, unusable
from rungwise.results.exporters.tracking_uri import VARIABLES, sqlite_path, tracking_uri, valid_uri
from rungwise.results.io.database_file import set_aside
from rungwise.results.io.redaction import redacted_uri
from rungwise.results.model import model_folder
from rungwise.results.record import integrity
from rungwise.results.record.reader import Reader
from rungwise.results.record.sessions import sweep_state
from rungwise.results.record.types import FILE, RecordError, State, SweepState
from rungwise.results.record.writer import Record
from rungwise.results.tables import parquet
from rungwise.results.tables.tables import tables
from rungwise.text import plural

AGAIN = "give the sweep's command again"
CHECKPOINTS = "checkpoints"  # what rungwise.trainable.worker.checkpoints calls its folder


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as the record says. `fix` is None when nothing can be done about it from here."""

    area: str  # record, tables, checkpoints, model or mlflow
    message: str  # one line
    fix: Callable[[], object] | None = None


def examine(run: Path, uri: str | None = None) -> Iterator[Finding]:
    """Yield all problems of the run. Fix each finding before the next one: the record comes first, and all else depends
    on it."""
    if lost := _describe_loss(run):
        yield Finding("record", lost, partial(_accept_loss, run, lost))
    try:
        with Reader(run) as reader:
            reader.verify()
            working = sweep_state(reader) is SweepState.RUNNING
    except RecordError as error:
        yield Finding("record", str(error))
        return
    if working:
        yield Finding("record", "a driver is at work on this run: what follows from the record may lag behind it")
        return
    yield from _check_tables(run)
    yield from _check_checkpoints(run)
    yield from _check_model(run)
    yield from _check_mlflow(run, uri)


def _describe_loss(run: Path) -> str | None:
    """What the mark says is missing. Raises RecordError when there is no record at all."""
    path = run / FILE
    try:
        with Reader(run, complete=False) as reader:
            missing = reader.missing()
    except RecordError:
        if not path.is_file():
            raise
        return None  # worse than incomplete: the caller finds out
    return None if missing is None else f"{path} {missing}"


def _accept_loss(run: Path, lost: str) -> None:
    """Go on from what is left: from now on that is all there ever was."""
    integrity.RowCountFile(run / FILE).path.unlink(missing_ok=True)
    with Record(run) as record:
        record.event("accepted a loss", what=lost)


def _check_tables(run: Path) -> Iterator[Finding]:
    with Reader(run) as reader:
        made = tables(reader)
    for name, table in made.by_name.items():
        path = run / f"{name}.parquet"
        wrong = "is missing"
        if path.is_file():
            if path.read_bytes() == parquet.content(table):
                continue
            wrong = "is not what the record says"
        yield Finding("tables", f"{path} {wrong}", partial(parquet.export, run))


def _check_checkpoints(run: Path) -> Iterator[Finding]:
    """Compare files with the digests in the record, and find files of trials that will not resume."""
    with Reader(run) as reader:
        known, trials = reader.checkpoints(), reader.trials()
    kept = {t.trial for t in trials if t.is_on_fresh_seed and t.state is State.COMPLETED}
    needed = {t.trial for t in trials if t.state is State.RUNNING} | kept
    root = run / CHECKPOINTS
    for trial, digests in known.items():
        for step, digest in digests.items():
            named = [*(root / str(trial)).glob(f"{step}[-.]*safetensors"), *(root / str(trial)).glob(f"{step}-*.tar")]
            attempts = sorted(filter(Path.is_file, named), key=lambda path: (len(path.name), path))  # no device
            # None: an older one, no longer needed. Others may be of a lost head's trial of this number.
            if attempts and digest not in (hashlib.sha256(path.read_bytes()).hexdigest() for path in attempts):
                path = attempts[-1]
                yield Finding(
                    "checkpoints",
                    f"{path} is damaged: its SHA-256 is not the record's",
                    partial(_drop_checkpoint, path),
                )
    for folder in sorted(root.glob("[0-9]*")):
        if folder.name.isdigit() and int(folder.name) not in needed | known.keys():
            yield Finding("checkpoints", f"{folder} belongs to no trial in flight", partial(shutil.rmtree, folder))


def _drop_checkpoint(path: Path) -> None:
    """Delete a checkpoint: the trial resumes from an older one, or starts again."""
    path.unlink()
    path.with_suffix(".sha256").unlink(missing_ok=True)


def _check_model(run: Path) -> Iterator[Finding]:
    """What the sweep's command should have made of what is confirmed: scores on the test split, and the answer's model.
    It needs the data, so it is made by that command only.
    """
    if (folder := run / model_folder.FOLDER).exists():
        try:
            model_folder.described(folder)
        except model_folder.ModelError as error:
            yield Finding("model", str(error), partial(shutil.rmtree, folder))
    with Reader(run) as reader:
        ended = reader.state() in (SweepState.FINISHED, SweepState.FAILED)
        result = answer(reader)
        other = model_folder.difference(reader, result)
        chosen = {trial for arm in result.arms if arm.chosen for trial in arm.chosen.trials.values()}
        definition = reader.definition()
        unfit = sorted((reader.unfit() & chosen) - reader.scores().keys())
    if result.model is None or not ended:
        return  # the sweep is not finished
    if unfit:
        those = f"trial{'s' if len(unfit) > 1 else ''} {', '.join(map(str, unfit))}"
        why = f"the model's file builds another network than the one of {those}"
        if definition.is_own:
            why = f"{those} returned early and saved nothing for it"
        yield Finding(
            "model",
            f"what is confirmed in {run} is not scored on the test split, as {why}: {AGAIN} with "
            "--accept-changed-model, which trains that again",
        )
        return
    if result.split != "test" and definition.has_test:
        yield Finding("model", f"what is confirmed in {run} is not scored on the test split: {AGAIN}")
    if other:
        yield Finding("model", f"{other}: {AGAIN}")


def _check_mlflow(run: Path, requested_uri: str | None) -> Iterator[Finding]:
    with Reader(run) as reader:
        if MLFLOW not in LogSettings.of(reader).loggers and requested_uri is None:
            return
    uri = tracking_uri(run, requested_uri)
    shown_uri = redacted_uri(uri)
    database = sqlite_path(uri)
    if problem := valid_uri(uri):
        yield Finding("mlflow", problem)
        return

    def export() -> None:
        mlflow_feed(run, uri).sync()

    if database is not None and not database.is_file():
        yield Finding("mlflow", f"{shown_uri} is missing", export)
        return
    if database is not None and (why := unusable(database)):
        yield Finding("mlflow", f"{database} {why}; it will be kept aside", partial(_replace_store, run, uri, database))
        return
    if database is not None and (old := old_locations(database)):
        elsewhere = f"{shown_uri} was moved: it looks for its artifacts in {', '.join(old)}"
        yield Finding("mlflow", elsewhere, partial(relocate, database))
        return
    try:
        with errors(uri), locked(run / ".mlflow.lock"):
            store = Store(uri)
            differences = list(_differences(run, store))
    except ExportError as error:
        yield Finding("mlflow", str(error))
        return
    for what, runs, surplus in differences:

        def again(runs: list[RunInfo] = runs, surplus: bool = surplus) -> None:
            with errors(uri):
                for mlflow_run in runs:
                    store.delete(mlflow_run) if surplus else store.log(mlflow_run, [], {}, {"rungwise.seq": "0"})
            (run / ".mlflow.lock").unlink(missing_ok=True)  # an exporter at work looks at MLflow afresh
            export()

        yield Finding("mlflow", f"{what} in {shown_uri}", again)


def _replace_store(run: Path, uri: str, database: Path) -> None:
    """Set the file aside and export into a new one: in a process of its own, for MLflow keeps files open."""
    set_aside(database)
    command = [sys.executable, "-P", "-m", "rungwise", "export", str(run.absolute())]
    environment = {**os.environ, VARIABLES[0]: uri, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["the export failed"])[-1])


def _differences(run: Path, store: Store) -> Iterator[tuple[str, list[RunInfo], bool]]:
    """(what differs, the MLflow runs it is about, whether they are too many)."""
    with Reader(run) as reader:
        definition = reader.definition()
        trials, curves = reader.trials(), reader.curves()
        identity = str(reader.meta("id") or definition.name).replace("'", "")
        settings = LogSettings.of(reader)
    experiment, _ = experiment_of(store, definition, settings)
    runs: dict[int, list[RunInfo]] = {}
    for mlflow_run in store.find(experiment, "rungwise.run", identity):
        runs.setdefault(int(mlflow_run.tags.get("rungwise.trial", 0)), []).append(mlflow_run)  # 0: the parent
    if 0 not in runs:
        yield f"the sweep's run is missing{' and so are its trials' if not runs else ''}", [], False
    for number, several in sorted(runs.items()):
        if len(several) > 1:
            yield f"{'the sweep' if not number else f'trial {number}'} has {len(several)} runs", several[1:], True
    missing = [t.trial for t in trials if (t.started is not None or t.state.ended) and t.trial not in runs]
    if missing and runs:
        yield (
            f"of {plural(len(trials), 'trial')} {len(missing)} missing, the first is {missing[0]}",
            [],
            False,
        )
    metric = definition.metric
    for trial in trials:
        if trial.trial not in runs:
            continue
        mlflow_run = runs[trial.trial][0]
        status = "KILLED" if trial.state is State.RUNNING else STATUS[trial.state]
        if mlflow_run.status != status:
            yield f"trial {trial.trial} is {mlflow_run.status} and must be {status}", [], False
        steps = {step for step, row in curves.get(trial.trial, {}).items() if metric in row.metrics}
        if lacking := steps - store.steps(mlflow_run, legal_name(metric)):
            yield f"trial {trial.trial} lacks {len(lacking)} of {plural(len(steps), 'report')}", [mlflow_run], False
