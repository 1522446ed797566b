"""Commands that look at runs: list, show, report, compare, predict, sql."""

from __future__ import annotations

import argparse
import csv
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rungwise.results.io.text import say
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import FILE

if TYPE_CHECKING:
    import pyarrow as pa

Subparsers: TypeAlias = "argparse._SubParsersAction[Any]"


def run_argument() -> argparse.ArgumentParser:
    """The positional argument RUN, a parent of most commands."""
    run = argparse.ArgumentParser(add_help=False)
    run.add_argument("run", type=Path, metavar="RUN", help=f"the run's folder, which holds {FILE}")
    return run


def add(commands: Subparsers) -> None:
    """Add a parser for each command. It sets `call`, which takes the parsed arguments and returns the exit status."""
    run = run_argument()
    list_ = commands.add_parser("list", help="list the runs in a folder")
    list_.add_argument("out", type=Path, nargs="?", default=Path("runs"), metavar="OUT", help="default: runs")
    list_.set_defaults(call=_list)
    show = commands.add_parser("show", parents=[run], help="show the trials of a run, best first")
    show.add_argument("--top", type=int, default=30, metavar="N", help="lines at most (default: 30)")
    show.set_defaults(call=_show)
    report = commands.add_parser("report", parents=[run], help="write report.html, one page with the answer first")
    report.add_argument("--open", action="store_true", help="show it in the browser")
    report.set_defaults(call=_report)
    predict = commands.add_parser("predict", help="classify images with a run's confirmed model")
    predict.add_argument("run", type=Path, metavar="RUN", help="the run's folder, or one that holds a model")
    predict.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="png, jpeg, ...")
    predict.add_argument(
        "--invert", action="store_true", help="dark drawings on light paper, for a model of light ones"
    )
    predict.add_argument(
        "--trust",
        action="store_true",
        help="whoever made the run may run code here: needed for a model function of your own, whose torch.export "
        "program is code; built-in models do not need it",
    )
    predict.set_defaults(call=_predict)
    compare = commands.add_parser("compare", help="compare two runs' answers, and print their difference")
    compare.add_argument("run", type=Path, metavar="RUN", help="the one")
    compare.add_argument(
        "other", type=Path, metavar="RUN", help="the other; differences are its scores minus the one's"
    )
    compare.set_defaults(call=_compare)
    sql = commands.add_parser("sql", parents=[run], help="query the tables trials and reports of a run with DuckDB")
    sql.add_argument("query", metavar="QUERY", help="such as: select arm, max(best_value) from trials group by arm")
    sql.add_argument(
        "--allow-external", action="store_true", help="the query may read and write files and load extensions, too"
    )
    sql.set_defaults(call=_sql)


def _list(arguments: argparse.Namespace) -> int:
    from rungwise.results.cli.show import console, run_table, runs

    folders = runs(arguments.out)
    if not folders:
        say(f"a folder of runs holds RUN/{FILE}, but {arguments.out} has none", sys.stderr)
        return 2
    console().print_whole(run_table(folders), ["time", "started"])
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from rungwise.results.cli.show import CURVE, REASON, console, trial_table
    from rungwise.results.record.sessions import sweep_state

    with Reader(arguments.run) as reader:
        definition = reader.definition()
        shown = console()
        shown.print(f"{definition.name}: {sweep_state(reader).lower()}", style="bold")
        if definition.question:
            shown.print(definition.question)
        shown.print_whole(trial_table(reader, arguments.top, brief=shown.is_terminal), [CURVE, REASON])
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from rungwise.results.report.report import ReportError, write

    try:
        path = write(arguments.run)
    except ReportError as error:
        say(error, sys.stderr)
        return 1
    say(path)
    if arguments.open:
        import webbrowser

        webbrowser.open(path.absolute().as_uri())
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    """Exit status 1 when there is nothing to compare."""
    from rungwise.results.analysis.compare import compare_folders, table
    from rungwise.results.cli.show import console

    comparison = compare_folders(arguments.run, arguments.other)
    shown = console()
    if comparison.rows:
        shown.print_whole(table(comparison))
    for name, answer in (comparison.first, comparison.second):
        shown.print(f"{name}: {answer.sentence}", soft_wrap=True)
    for problem in comparison.problems:
        say(problem, sys.stderr)
    return 1 if comparison.problems else 0


def _predict(arguments: argparse.Namespace) -> int:
    """A line for each image: file, class, probability; of a regression file, target. Notes go to standard error."""
    import numpy as np

    from rungwise.results.model.images import ImageError, read
    from rungwise.results.model.model import ModelError, load

    try:
        model = load(arguments.run, arguments.trust)
    except ModelError as error:
        return refuse(error)
    pictures, problems = [], []
    for path in arguments.images:
        try:
            pictures.append(read(path, model.description, arguments.invert))
        except ImageError as error:
            problems.append(str(error))
    if problems:
        return refuse("\n".join(dict.fromkeys(problems)))
    predicted = model.predict(np.stack([picture.pixels for picture in pictures]))
    for path, picture, row in zip(arguments.images, pictures, predicted, strict=True):
        for note in picture.notes:
            say(f"{path}: {note}", sys.stderr)
        say(f"{path}\t{model.classes[row.argmax()]}\t{row.max():.4f}" if model.classes else f"{path}\t{row[0]:.6g}")
    return 0


def _sql(arguments: argparse.Namespace) -> int:
    """A table on a terminal, CSV when piped."""
    from rungwise.results.tables.parquet import ParquetError
    from rungwise.results.tables.sql import SqlError, query

    try:
        table = query(arguments.run, arguments.query, external=arguments.allow_external)
    except (SqlError, ParquetError) as error:
        return refuse(error)
    if sys.stdout.isatty():
        _print_table(table)
    else:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # '?' would make two names of other programs' data one
        writer = csv.writer(sys.stdout)
        writer.writerow(table.column_names)
        writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return 0


def _print_table(table: pa.Table) -> None:
    from rich.table import Table

    from rungwise.results.cli.show import console

    shown = Table(*table.column_names, box=None, header_style="bold")
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        shown.add_row(*map(_cell_text, row))
    console().print_whole(shown)


def _cell_text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def refuse(problem: object) -> int:
    """Say what is wrong with the command; the exit status for it."""
    say(problem, sys.stderr)
    return 2
