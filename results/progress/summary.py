"""The summary that a sweep prints at its end, from the record alone."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rungwise.results.analysis import pareto
from rungwise.results.analysis.answer import Answer, answer
from rungwise.results.analysis.epochs import again_text, cost_text, epoch_count, trials_text
from rungwise.results.analysis.findings import (
    Arm,
    ArmBudgets,
    AsGoodAsNone,
    BrokenConstraint,
    EdgeOfSpace,
    KeptModel,
    SeedIgnored,
    Verdict,
)
from rungwise.results.analysis.phrasing.notes import note_text
from rungwise.results.exporters.loggers.registry import LOGGERS
from rungwise.results.exporters.loggers.settings import MLFLOW, LogSettings
from rungwise.results.exporters.tracking_uri import DATABASE, sqlite_uri, tracking_uri
from rungwise.results.io.command_line import is_rungwise
from rungwise.results.io.formatting import duration, format_metric, settings
from rungwise.results.io.redaction import redacted_uri
from rungwise.results.io.text import AT_SPACES
from rungwise.results.record.definition import SEARCHES, Definition
from rungwise.results.record.reader import Reader
from rungwise.results.record.sessions import trial_state_text, worked_seconds
from rungwise.results.record.types import TIME_BUDGET, ReportRow, SweepState, Trial
from rungwise.trainable.messages import FailureKind

MLFLOW_UI = "http://127.0.0.1:5000"  # where `mlflow ui` listens
WIDEST = 110  # characters of a line: longer ones are hard to read
FILES = ("report.html", "trials.parquet", "reports.parquet", "answer.parquet", "sweep.sqlite", "model")


def summarise(
    reader: Reader, folder: Path, exported: Mapping[str, Any], *, idle: bool = False, uri: str | None = None
) -> str:
    """Best configuration, trials by state, epochs saved, wall time, where the files are.

    `idle`: there was nothing to do. `uri`: --tracking-uri.
    """
    definition = reader.definition()
    everything, curves, result = reader.trials(), reader.curves(), answer(reader)
    trials = [trial for trial in everything if trial.phase == "search"]
    state = reader.state().lower()
    worked = duration(worked_seconds(reader))
    after = f"already {state}, nothing to do; it took {worked}" if idle else f"{state} after {worked}"
    if not idle and _ends_by_time_budget(reader):
        after = f"ended by its time budget after {worked}"
    lines = [f"{definition.name or definition.sweep}: {after}"]
    if result.model is not None:
        lines += ["", result.sentence, ""]
        told = (SeedIgnored, BrokenConstraint, EdgeOfSpace, AsGoodAsNone, ArmBudgets)
        lines += [f"note    {note_text(note, result)}" for note in result.notes if isinstance(note, told)]
        lines += [f"model   {_model(note, result)}" for note in result.notes if isinstance(note, KeptModel)]
    lines += _more_searches(reader, result, definition.searches)
    lines += [_best_line(arm, result) for arm in result.arms]
    lines += pareto.lines(pareto.of(definition, trials, curves))
    states = Counter(
        "infeasible"
        if trial.failure and trial.failure.kind is FailureKind.INFEASIBLE
        else trial_state_text(trial.state, reader.state())
        for trial in trials
    )
    ended = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    asked = trials_text(definition)
    lines.append(f"trials  {ended} (of {asked})" if ":" in asked else f"trials  {ended}")
    lines.append("epochs  " + _epochs(everything, curves, definition))
    lines.append(f"files   {folder}/: {', '.join(name for name in FILES if (folder / name).exists())}")
    lines += _logger_lines(folder, exported, LogSettings.of(reader).loggers, tracking_uri(folder, uri))
    for view in ("parquet", "report"):
        if isinstance(problem := exported.get(view), str):
            lines.append(f"{view:<7} not up to date: {problem}")
    if exported.get("mirror"):
        lines.append(f"mirror  not up to date: {exported['mirror']}")
    if reader.state() is not SweepState.FINISHED:
        lines.append(f"resume  {_resume(reader.sessions()[-1].info['command'])}")
    return "\n".join(_wrapped(line) for line in lines)


def _ends_by_time_budget(reader: Reader) -> bool:
    """Whether the last session ended since its time was up, with the confirmation of what was found."""
    if reader.state() is not SweepState.INTERRUPTED:
        return False
    began = reader.sessions()[-1].started
    return any(kind == TIME_BUDGET and at >= began for at, kind, *_ in reader.events())


def _wrapped(line: str) -> str:
    """A line broken at words where the terminal ends, except for commands, which are copied whole; in a log, only the
    answer is broken."""
    label = re.match(r"[a-z]+ {2,}", line)
    if line.startswith((*LOGGERS, "resume")) or (label and not sys.stdout.isatty()):
        return line
    columns = min(shutil.get_terminal_size((WIDEST, 0)).columns, WIDEST)
    return textwrap.fill(
        line,
        columns,
        subsequent_indent=" " * label.end() if label else "",
        **AT_SPACES,
    )


def _resume(command: Sequence[str]) -> str:
    """What continues the sweep: the command, or, in a notebook, whose kernel nobody started by hand, the cell."""
    _, script, *arguments = command
    if Path(script).name.startswith(("ipykernel", "colab_kernel")):
        return "run the same cell again"
    if is_rungwise(script):
        return shlex.join([_beside_python("rungwise"), *arguments])
    return shlex.join([_beside_python("python"), script, *arguments])


def _more_searches(reader: Reader, result: Answer, searches: int) -> list[str]:
    """How long the searches would take that an open comparison needs, at the pace of this run so far. A single search
    confirms more configurations and seeds than each of several does."""
    single = any(one.verdict is Verdict.ONE_SEARCH for one in result.comparisons)
    needed = max((one.needed for one in result.comparisons if one.needed is not None), default=SEARCHES * single)
    seconds = worked_seconds(reader)
    if needed <= searches or not seconds:
        return []
    much = f"{'at most' if single else 'about'} {duration(seconds / searches * (needed - searches))}"
    return [f"more    --searches {needed} would take {much} more"]


def _model(note: KeptModel, result: Answer) -> str:
    score = "" if result.model_score is None else f", {result.format.value(result.model_score)} {result.measure}"
    seeds = note.seeds + note.refits
    return f"trial {note.trial} of {note.arm}{score}: " + (
        f"the best of {seeds} seeds by validation" if seeds > 1 else "the only seed"
    )


def _best_line(arm: Arm, result: Answer) -> str:
    best = arm.best_seen
    if best is None:
        return f"best    {arm.arm}: no trial that counts reported {result.metric}"
    where = f"trial {best.trial}, " + ("mean over its folds" if result.folds else f"epoch {best.epoch:g}")
    value = format_metric(best.value, result.metric)
    return f"best    {arm.arm}: {result.metric} {value} in the search ({where}) with {settings(best.params)}"


def _epochs(trials: list[Trial], curves: Mapping[int, Mapping[int, ReportRow]], definition: Definition) -> str:
    reached = {number: max(row.metrics["epoch"] for row in curve.values()) for number, curve in curves.items() if curve}
    search = [(trial, reached.get(trial.trial, 0.0)) for trial in trials if trial.phase == "search"]
    again = again_text((trial, reached.get(trial.trial, 0.0)) for trial in trials)
    return cost_text(epoch_count(search, definition.trial_epochs, definition.folds), again)


def _logger_lines(folder: Path, exported: Mapping[str, Any], loggers: Sequence[str], uri: str) -> Iterator[str]:
    """For each logger what shows its runs, or what completes them; then what it could not take as it is."""
    for name in loggers:
        label = name.rpartition(":")[2]
        if exported.get(name) != "complete":
            where = f" --tracking-uri {shlex.quote(redacted_uri(uri))}" if uri != tracking_uri(folder, None) else ""
            where = where if name == MLFLOW else f" --loggers {shlex.quote(name)}" if ":" in name else ""
            again = f"{shlex.quote(_beside_python('rungwise'))} export {shlex.quote(str(folder))}{where}"
            yield f"{label:<7} incomplete ({exported.get(name)}); later: {again}"
        elif name == MLFLOW:
            yield from _mlflow(folder, uri, exported.get("pages", {}).get(name, ""))
        else:
            command = LOGGERS[name].shown_by if name in LOGGERS else None
            yield f"{label:<7} {(command or 'complete').replace('{folder}', shlex.quote(str(folder)))}"
    yield from (f"note    {line}" for line in exported.get("notes", ()))


def _mlflow(folder: Path, uri: str, page: str) -> Iterator[str]:
    """The address of the sweep's `page`, or what starts a server and where the page is then."""
    if uri.startswith("http"):
        yield f"mlflow  {redacted_uri(uri).rstrip('/')}/{page}".rstrip("/")
        return
    if uri == tracking_uri(folder, None) and not folder.is_absolute() and ".." not in folder.parts:
        uri = sqlite_uri(folder.parent / DATABASE)
    yield f"mlflow  {shlex.quote(_beside_python('mlflow'))} ui --backend-store-uri {shlex.quote(redacted_uri(uri))}"
    if page:
        yield f"        and open {MLFLOW_UI}/{page}"


def _beside_python(program: str) -> str:
    """`program` of the environment that runs this, as one types it here: by name when PATH finds that very one."""
    path = Path(sys.executable).with_name(program)
    if shutil.which(program) == str(path):
        return program
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
