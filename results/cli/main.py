"""Look at runs, and make their views again from the record.

export  bring the run's Parquet files and MLflow up to its record
follow  do so while a sweep runs, until standard input closes (the sweep starts this itself)
list    the runs in a folder
doctor  hold record, tables, checkpoints and MLflow against each other, and mend what can be mended
report  make report.html, one self-contained page that gives the answer first
show    the trials of a run, best first
copy    a run's folder as it is at one moment, elsewhere
pull    bring a run home, from a cluster's head or a mirror
compare two runs' answers side by side, and their difference
predict classify images with a run's confirmed model
sql     ask a run's Parquet files with DuckDB
study   write a run's Optuna studies into a storage, for optuna-dashboard
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
from pathlib import Path

from rungwise.results.cli import commands as others
from rungwise.results.io.text import print_anything, say
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import FILE, RecordError


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0; 1 when a view could not be made; 2 when the command or the run's folder is wrong."""
    print_anything()
    given = _parser().parse_args(arguments)
    try:
        if given.command == "list":
            return _list(given.out)
        if "call" in given:
            return int(given.call(given))
        if given.command == "doctor":
            return _doctor(given.run, given.tracking_uri, given.mend)
        with Reader(given.run) as reader:
            if given.command == "show":
                return _show(reader, given.top)
        if given.command == "export":
            return _export(given.run, given.tracking_uri)
        if given.command == "report":
            return _report(given.run, given.open)
        from rungwise.results.exporters.live import follow

        return follow(given.run, given.every)
    except RecordError as error:
        say(error, sys.stderr)
        return 2
    except sqlite3.DatabaseError as error:
        say(f"a record must be whole, but {FILE} is not ({error}); restore it from a copy", sys.stderr)
        return 2
    except BrokenPipeError:  # | head
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rungwise", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = argparse.ArgumentParser(add_help=False)
    run.add_argument("run", type=Path, metavar="RUN", help=f"the run's folder, which holds {FILE}")
    export = commands.add_parser("export", parents=[run], help="bring Parquet and MLflow up to the record")
    doctor = commands.add_parser("doctor", parents=[run], help="say what is wrong with a run, and mend it")
    doctor.add_argument("--mend", action="store_true", help="make again from the record what can be made again")
    for command in (export, doctor):
        command.add_argument(
            "--tracking-uri",
            metavar="URI",
            help="MLflow store; default: RUNGWISE_TRACKING_URI, MLFLOW_TRACKING_URI, or mlflow.db beside the run. "
            "A URI with a password belongs in the variable: command lines are public",
        )
    follow = commands.add_parser("follow", parents=[run], help="export until standard input closes")
    follow.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="between two passes (default: 2)")
    listed = commands.add_parser("list", help="the runs in a folder")
    listed.add_argument("out", type=Path, nargs="?", default=Path("runs"), metavar="OUT", help="default: runs")
    report = commands.add_parser("report", parents=[run], help="make report.html, at any time of a sweep")
    report.add_argument("--open", action="store_true", help="show it in the browser")
    show = commands.add_parser("show", parents=[run], help="the trials of a run, best first")
    show.add_argument("--top", type=int, default=30, metavar="N", help="lines at most (default: 30)")
    others.add(commands, run)
    return parser


def _export(run: Path, uri: str | None) -> int:
    from rungwise.results.exporters import mlflow
    from rungwise.results.exporters.mlflow_client import ExportError
    from rungwise.results.tables import parquet

    status = 0
    with Reader(run) as reader:
        reader.verify()  # nothing is made from a damaged record
    try:
        parquet.export(run)
        say(f"parquet {run / parquet.TRIALS}, {parquet.REPORTS}")
    except parquet.ParquetError as error:
        say(f"parquet {error}", sys.stderr)
        status = 1
    try:
        done = mlflow.export(run, uri)
        say(f"mlflow  {done.uri}: {done.trials} trials, {done.metrics} metrics new")
    except ExportError as error:
        say(f"mlflow  {error}", sys.stderr)
        status = 1
    return status


def _doctor(run: Path, uri: str | None, mend: bool) -> int:
    from rungwise.results.cli.doctor import examine

    remain = 0
    for ailment in examine(run, uri):
        advice = "" if ailment.mend is None else " (to mend it: --mend)"
        if mend and ailment.mend is not None:
            try:
                ailment.mend()
                advice = " (mended)"
            except (RecordError, RuntimeError, OSError) as error:
                advice = f" (not mended: {error})"
        remain += advice != " (mended)"
        say(f"{ailment.where:<12}{ailment.what}{advice}")
    if not remain:
        say(f"{run} is in good health")
    return min(remain, 1)


def _report(run: Path, show: bool) -> int:
    from rungwise.results.report.report import ReportError, write

    try:
        path = write(run)
    except ReportError as error:
        say(error, sys.stderr)
        return 1
    say(path)
    if show:
        import webbrowser

        webbrowser.open(path.absolute().as_uri())
    return 0


def _list(out: Path) -> int:
    from rungwise.results.cli.show import console, run_table, runs

    found = runs(out)
    if not found:
        say(f"a folder of runs holds RUN/{FILE}, but {out} has none", sys.stderr)
        return 2
    console().print_whole(run_table(found), ["time", "started"])
    return 0


def _show(reader: Reader, top: int) -> int:
    from rungwise.results.cli.show import CURVE, REASON, console, trial_table
    from rungwise.results.record.sessions import sweep_state

    definition = reader.definition()
    shown = console()
    shown.print(f"{definition.name}: {sweep_state(reader).lower()}", style="bold")
    if definition.question:
        shown.print(definition.question)
    shown.print_whole(trial_table(reader, top, brief=shown.is_terminal), [CURVE, REASON])
    return 0


if __name__ == "__main__":
    sys.exit(main())
