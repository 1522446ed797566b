"""What the terminal says at the end, from the record alone."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results import pareto
from results.answer import answer
from results.definition import Definition
from results.record import Reader, State, SweepState, Trial
from results.redaction import redacted_uri
from results.tracking import tracking_uri
from sweeps.engine.progress import clock
from trainable.messages import FailureKind

FILES = ("report.html", "trials.parquet", "reports.parquet", "sweep.sqlite", "model")


def summarise(reader: Reader, folder: Path, exported: Mapping[str, Any], seconds: float, uri: str | None = None) -> str:
    """Best configuration, trials by state, epochs saved, wall time, where the files are. `uri`: --tracking-uri."""
    definition = reader.definition()
    trials, curves, found = reader.trials("search"), reader.curves(), answer(reader)
    lines = [f"{definition.sweep}: {reader.state().lower()} after {clock(seconds)}"]
    if found.model is not None:
        lines += ["", textwrap.fill(found.sentence, 110), ""]
    lines += _best_lines(trials, curves, definition)
    lines += pareto.lines(pareto.of(definition, trials, curves))
    states = Counter(
        "infeasible" if trial.failure and trial.failure.kind is FailureKind.INFEASIBLE else trial.state.lower()
        for trial in trials
    )
    lines.append("trials  " + ", ".join(f"{count} {state}" for state, count in sorted(states.items())))
    lines.append("epochs  " + _saved(trials, curves, definition.epochs))
    lines.append(f"files   {folder}/: {', '.join(name for name in FILES if (folder / name).exists())}")
    lines.append(f"mlflow  {_mlflow(folder, exported, tracking_uri(folder, uri))}")
    for view in ("parquet", "report"):
        if isinstance(problem := exported.get(view), str):
            lines.append(f"{view:<7} not up to date: {problem}")
    if exported.get("mirror"):
        lines.append(f"mirror  not up to date: {exported['mirror']}")
    if reader.state() is not SweepState.FINISHED:
        _, *arguments = reader.sessions()[-1].info["command"]
        lines.append(f"go on   {shlex.join([_beside_python('python'), *arguments])}")
    return "\n".join(lines)


def _best_lines(trials: list[Trial], curves: Mapping[int, Mapping[int, Any]], definition: Definition) -> list[str]:
    metric, sign = definition.metric, definition.sign
    lines = []
    for arm in definition.arms:
        scored = [
            (sign * report.metrics[metric], trial, report)
            for trial in trials
            if trial.arm == arm and trial.state in (State.COMPLETED, State.STOPPED, State.RUNNING)
            for report in curves.get(trial.trial, {}).values()
            if metric in report.metrics
        ]
        if not scored:
            lines.append(f"best    {arm}: no trial that counts reported {metric}")
            continue
        _, trial, report = max(scored, key=lambda item: item[0])
        params = ", ".join(f"{name}={_short(value)}" for name, value in trial.params.items())
        where = f"trial {trial.trial}, epoch {report.metrics['epoch']:g}"
        lines.append(f"best    {arm}: {metric} {report.metrics[metric]:.4f} ({where}) with {params}")
    return lines


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _saved(trials: list[Trial], curves: Mapping[int, Mapping[int, Any]], budget: int) -> str:
    ended = [trial for trial in trials if trial.state.ended and trial.state is not State.FAILED]
    trained = sum(max((r.metrics["epoch"] for r in curves.get(trial.trial, {}).values()), default=0) for trial in ended)
    full = budget * len(ended)
    if not full:
        return "no trial ended yet"
    share = f"{1 - trained / full:.0%}"
    return f"{trained:g} of {full} trained: early stopping saved {share} of running all to the end"


def _mlflow(folder: Path, exported: Mapping[str, Any], uri: str) -> str:
    if exported.get("mlflow") != "complete":
        where = "" if uri == tracking_uri(folder, None) else f" --tracking-uri {shlex.quote(redacted_uri(uri))}"
        again = f"{shlex.quote(_beside_python('python'))} -m results export {shlex.quote(str(folder))}{where}"
        return f"incomplete ({exported.get('mlflow')}); later: {again}"
    if uri.startswith("http"):
        return redacted_uri(uri)
    return f"{shlex.quote(_beside_python('mlflow'))} ui --backend-store-uri {shlex.quote(redacted_uri(uri))}"


def _beside_python(program: str) -> str:
    """`program` of the environment that runs this, as one types it here: by name when PATH finds that very one."""
    path = Path(sys.executable).with_name(program)
    if shutil.which(program) == str(path):
        return program
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
