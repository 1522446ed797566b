"""Commands that rebuild a run's views, check them, or move a run: export, doctor, study, copy, pull."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from rungwise.results.cli.runs import RUN_FIELD, RUNS, OptionalRun, Switch, find_run
from rungwise.results.io.command_line import CommandLineError
from rungwise.results.io.text import say
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import RecordError
from rungwise.text import plural

TrackingUri = Annotated[
    str | None,
    arg(
        metavar="URI",
        help="MLflow store. Put a URI with a password into the variable: other users can see command lines.",
        help_behavior_hint="(default: RUNGWISE_TRACKING_URI, MLFLOW_TRACKING_URI, or mlflow.db beside the run)",
    ),
]


def export(
    run: OptionalRun = None,
    /,
    *,
    loggers: Annotated[tuple[str, ...], arg(metavar="LOGGER", help_behavior_hint="(default: the sweep's)")] = (),
    tracking_uri: TrackingUri = None,
) -> int:
    """Bring Parquet tables and loggers, such as MLflow, up to date with the record.

    Args:
        loggers: mlflow, tensorboard, wandb, optuna, or a function: module:function, file.py:function.
    """
    from rungwise.results.exporters.loggers import registry
    from rungwise.results.exporters.loggers.logger import LoggerError
    from rungwise.results.exporters.loggers.settings import LogSettings
    from rungwise.results.exporters.tracking_uri import VARIABLES
    from rungwise.results.tables import parquet

    run, status = find_run(run), 0
    if problem := next(registry.problems(loggers), None):
        raise CommandLineError(problem)
    with Reader(run) as reader:
        reader.verify()  # nothing is made from a damaged record
        kept = LogSettings.of(reader)
    # A function is run because its user names it, never because a record does.
    asked = LogSettings.chosen(loggers, None, (), os.getcwd(), {}).loggers
    named = asked or tuple(name for name in kept.loggers if name in registry.LOGGERS)
    try:
        parquet.export(run)
        say(f"parquet {run / parquet.TRIALS}, {parquet.REPORTS}, {parquet.ANSWER}")
    except parquet.ParquetError as error:
        say(f"parquet {error}", sys.stderr)
        status = 1
    if tracking_uri:
        os.environ[VARIABLES[0]] = tracking_uri
    for name in named:
        label = name.rpartition(":")[2]
        try:
            feed = registry.feed_of(name, run, replace(kept, folder=os.getcwd()))
            done = feed.sync()
            feed.close()
            say(f"{label:<7} {done.uri}: {plural(done.trials, 'trial')}, {plural(done.metrics, 'metric')} new")
            for note in done.notes:
                say(f"note: {name}: {note}", sys.stderr)
        except LoggerError as error:
            say(f"{label:<7} {error}", sys.stderr)
            status = 1
    return status


def doctor(run: OptionalRun = None, /, *, fix: Switch = False, tracking_uri: TrackingUri = None) -> int:
    """Check a run against its record, and fix what differs.

    The exit status is 1 while there is a problem that was not fixed.

    Args:
        fix: Rebuild from the record what can be rebuilt.
    """
    from rungwise.results.cli.doctor import examine

    run, problems = find_run(run), 0
    for finding in examine(run, tracking_uri):
        outcome = "" if finding.fix is None else " (to fix it: --fix)"
        if fix and finding.fix is not None:
            try:
                finding.fix()
                outcome = " (fixed)"
            except (RecordError, RuntimeError, OSError) as error:
                outcome = f" (not fixed: {error})"
        problems += outcome != " (fixed)"
        say(f"{finding.area:<12}{finding.message}{outcome}")
    if not problems:
        say(f"{run}: no problems found")
    return min(problems, 1)


def study(run: OptionalRun = None, /, *, storage: Annotated[str, arg(metavar="URL")]) -> int:
    """Write the Optuna studies of a run to a storage.

    Args:
        storage: Such as sqlite:///study.db; for optuna-dashboard.
    """
    from rungwise.results.exporters.optuna_storage import write
    from rungwise.results.io.redaction import redacted_uri

    with Reader(find_run(run)) as reader:
        names = write(reader, storage)
    for name in names:
        say(f"study {name}")
    say(f"look at them: optuna-dashboard {shlex.quote(redacted_uri(storage))}")
    return 0


def copy(
    run_or_where: Annotated[str, RUN_FIELD] = "",
    where: Annotated[str | None, arg(metavar="WHERE", help_behavior_hint="")] = None,
    /,
) -> int:
    """Copy a consistent snapshot of a run, also while it runs.

    Args:
        run_or_where: As in the other commands; WHERE, when it is the only one.
        where: The folder or URI (s3://bucket/runs) that gets the run's folder.
    """
    from rungwise.results.exporters.mirror import Mirror

    if not run_or_where:
        raise CommandLineError("WHERE must be given (see rungwise copy --help)")
    run = find_run(None if where is None else Path(run_or_where))
    where = run_or_where if where is None else where
    Mirror(where, run.absolute().name).push(run)
    return 0


def pull(
    source: Annotated[str, arg(metavar="SOURCE", help_behavior_hint="")],
    name: Annotated[str, arg(metavar="NAME", help_behavior_hint="")],
    /,
    *,
    out: Path = RUNS,
) -> int:
    """Copy a run from a cluster's head or a mirror to this machine.

    Args:
        source: The cluster's YAML file, or what --mirror named.
        name: The run's name.
        out: The folder of runs that gets it.
    """
    from rungwise.results.exporters.mirror import pull as pull_run

    say(pull_run(source, name, out))
    return 0


COMMANDS: dict[str, Callable[..., int]] = {
    "export": export,
    "doctor": doctor,
    "study": study,
    "copy": copy,
    "pull": pull,
}
