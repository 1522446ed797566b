"""Commands that make a run's views again, check them, or move a run: export, doctor, follow, study, copy, pull."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rungwise.results.cli.commands import Subparsers, refuse, run_argument
from rungwise.results.io.text import say
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import RecordError


class _OldFlag(argparse.Action):
    """A switch's name in an earlier version: sets it, and says the new name."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help=argparse.SUPPRESS)

    def __call__(
        self, parser: argparse.ArgumentParser, parsed: argparse.Namespace, _: Any, option: str | None = None
    ) -> None:
        say(f"note: {option} is now --{self.dest}; the old name goes with version 0.3", sys.stderr)
        setattr(parsed, self.dest, True)


def add(commands: Subparsers) -> None:
    """Add a parser for each command, as `results.cli.commands.add` does."""
    run = run_argument()
    export = commands.add_parser("export", parents=[run], help="bring Parquet and MLflow up to the record")
    export.set_defaults(call=_export)
    doctor = commands.add_parser("doctor", parents=[run], help="check a run against its record, and fix what differs")
    doctor.add_argument("--fix", action="store_true", help="make again from the record what can be made again")
    doctor.add_argument("--mend", action=_OldFlag, dest="fix")
    doctor.set_defaults(call=_doctor)
    for command in (export, doctor):
        command.add_argument(
            "--tracking-uri",
            metavar="URI",
            help="MLflow store; default: RUNGWISE_TRACKING_URI, MLFLOW_TRACKING_URI, or mlflow.db beside the run. "
            "A URI with a password belongs in the variable: command lines are public",
        )
    follow = commands.add_parser(
        "follow", parents=[run], help="export until standard input closes (a sweep starts this itself)"
    )
    follow.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="between two passes (default: 2)")
    follow.set_defaults(call=_follow)
    study = commands.add_parser("study", parents=[run], help="write an Optuna study of each arm")
    study.add_argument(
        "--storage", required=True, metavar="URL", help="such as sqlite:///study.db; for optuna-dashboard"
    )
    study.set_defaults(call=_study)
    copy = commands.add_parser("copy", parents=[run], help="copy a run as it is at one moment, also while it runs")
    copy.add_argument("where", metavar="WHERE", help="the folder or URI (s3://bucket/runs) that gets the run's folder")
    copy.set_defaults(call=_copy)
    pull = commands.add_parser("pull", help="copy a run from a cluster's head or a mirror to this machine")
    pull.add_argument("source", metavar="SOURCE", help="the cluster's YAML file, or what --mirror named")
    pull.add_argument("name", metavar="NAME", help="the run's name")
    pull.add_argument("--out", type=Path, default=Path("runs"), metavar="OUT", help="default: runs")
    pull.set_defaults(call=_pull)


def _export(arguments: argparse.Namespace) -> int:
    from rungwise.results.exporters import mlflow
    from rungwise.results.exporters.mlflow_client import ExportError
    from rungwise.results.tables import parquet

    run, status = arguments.run, 0
    with Reader(run) as reader:
        reader.verify()  # nothing is made from a damaged record
    try:
        parquet.export(run)
        say(f"parquet {run / parquet.TRIALS}, {parquet.REPORTS}")
    except parquet.ParquetError as error:
        say(f"parquet {error}", sys.stderr)
        status = 1
    try:
        done = mlflow.export(run, arguments.tracking_uri)
        say(f"mlflow  {done.uri}: {done.trials} trials, {done.metrics} metrics new")
    except ExportError as error:
        say(f"mlflow  {error}", sys.stderr)
        status = 1
    return status


def _doctor(arguments: argparse.Namespace) -> int:
    """Exit status 1 while there is a problem that was not fixed."""
    from rungwise.results.cli.doctor import examine

    problems = 0
    for finding in examine(arguments.run, arguments.tracking_uri):
        outcome = "" if finding.fix is None else " (to fix it: --fix)"
        if arguments.fix and finding.fix is not None:
            try:
                finding.fix()
                outcome = " (fixed)"
            except (RecordError, RuntimeError, OSError) as error:
                outcome = f" (not fixed: {error})"
        problems += outcome != " (fixed)"
        say(f"{finding.area:<12}{finding.message}{outcome}")
    if not problems:
        say(f"{arguments.run}: no problems found")
    return min(problems, 1)


def _follow(arguments: argparse.Namespace) -> int:
    from rungwise.results.exporters.live import follow

    with Reader(arguments.run):  # refuses what is no record
        pass
    return follow(arguments.run, arguments.every)


def _study(arguments: argparse.Namespace) -> int:
    from rungwise.results.exporters.optuna_storage import StorageError, write
    from rungwise.results.io.redaction import redacted_uri

    try:
        with Reader(arguments.run) as reader:
            names = write(reader, arguments.storage)
    except StorageError as error:
        return refuse(error)
    for name in names:
        say(f"study {name}")
    say(f"look at them: optuna-dashboard {shlex.quote(redacted_uri(arguments.storage))}")
    return 0


def _copy(arguments: argparse.Namespace) -> int:
    from rungwise.results.exporters.mirror import Mirror, MirrorError

    try:
        Mirror(arguments.where, arguments.run.absolute().name).push(arguments.run)
    except MirrorError as error:
        return refuse(error)
    return 0


def _pull(arguments: argparse.Namespace) -> int:
    from rungwise.results.exporters.mirror import MirrorError, pull

    try:
        say(pull(arguments.source, arguments.name, arguments.out))
    except MirrorError as error:
        return refuse(error)
    return 0
