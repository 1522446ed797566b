"""Commands that ask a finished run, or move one: predict, compare, study, sql, copy, pull."""

from __future__ import annotations

import argparse
import csv
import shlex
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rungwise.results.io.text import say
from rungwise.results.record.reader import Reader

if TYPE_CHECKING:
    import pyarrow as pa


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser], run: argparse.ArgumentParser) -> None:
    """Each command sets `call`, which takes the parsed arguments and returns the exit status."""
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
    compare = commands.add_parser("compare", help="two runs' answers side by side, and their difference")
    compare.add_argument("run", type=Path, metavar="RUN", help="the one")
    compare.add_argument(
        "other", type=Path, metavar="RUN", help="the other; differences are its scores minus the one's"
    )
    compare.set_defaults(call=_compare)
    study = commands.add_parser("study", parents=[run], help="write an Optuna study of each arm")
    study.add_argument(
        "--storage", required=True, metavar="URL", help="such as sqlite:///study.db; for optuna-dashboard"
    )
    study.set_defaults(call=_study)
    sql = commands.add_parser(
        "sql", parents=[run], help="ask the run's Parquet, tables trials and reports, with DuckDB"
    )
    sql.add_argument("query", metavar="QUERY", help="such as: select arm, max(best_value) from trials group by arm")
    sql.add_argument(
        "--allow-external", action="store_true", help="the query may read and write files and load extensions, too"
    )
    sql.set_defaults(call=_sql)
    copy = commands.add_parser("copy", parents=[run], help="copy a run as it is at one moment, also while it runs")
    copy.add_argument("where", metavar="WHERE", help="the folder or URI (s3://bucket/runs) that gets the run's folder")
    copy.set_defaults(call=_copy)
    pull = commands.add_parser("pull", help="bring a run home, from a cluster's head or a mirror")
    pull.add_argument("source", metavar="SOURCE", help="the cluster's YAML file, or what --mirror named")
    pull.add_argument("name", metavar="NAME", help="the run's name")
    pull.add_argument("--out", type=Path, default=Path("runs"), metavar="OUT", help="default: runs")
    pull.set_defaults(call=_pull)


def _predict(given: argparse.Namespace) -> int:
    """A line for each image: file, class, probability; of a regression file, target. Notes go to standard error."""
    import numpy as np

    from rungwise.results.model.images import ImageError, read
    from rungwise.results.model.model import ModelError, load

    try:
        model = load(given.run, given.trust)
    except ModelError as error:
        return _refused(error)
    pictures, problems = [], []
    for path in given.images:
        try:
            pictures.append(read(path, model.description, given.invert))
        except ImageError as error:
            problems.append(str(error))
    if problems:
        return _refused("\n".join(dict.fromkeys(problems)))
    predicted = model.predict(np.stack([picture.pixels for picture in pictures]))
    for path, picture, row in zip(given.images, pictures, predicted, strict=True):
        for note in picture.notes:
            say(f"{path}: {note}", sys.stderr)
        say(f"{path}\t{model.classes[row.argmax()]}\t{row.max():.4f}" if model.classes else f"{path}\t{row[0]:.6g}")
    return 0


def _compare(given: argparse.Namespace) -> int:
    """Exit status 1 when there is nothing to compare."""
    from rungwise.results.analysis.compare import compare_folders, table
    from rungwise.results.cli.show import console

    found = compare_folders(given.run, given.other)
    shown = console()
    if found.rows:
        shown.print_whole(table(found))
    for name, one in (found.first, found.second):
        shown.print(f"{name}: {one.sentence}", soft_wrap=True)
    for problem in found.problems:
        say(problem, sys.stderr)
    return 1 if found.problems else 0


def _study(given: argparse.Namespace) -> int:
    from rungwise.results.exporters.optuna_storage import StorageError, write
    from rungwise.results.io.redaction import redacted_uri

    try:
        with Reader(given.run) as reader:
            names = write(reader, given.storage)
    except StorageError as error:
        return _refused(error)
    for name in names:
        say(f"study {name}")
    say(f"look at them: optuna-dashboard {shlex.quote(redacted_uri(given.storage))}")
    return 0


def _sql(given: argparse.Namespace) -> int:
    """A table on a terminal, CSV when piped."""
    from rungwise.results.tables.parquet import ParquetError
    from rungwise.results.tables.sql import SqlError, query

    try:
        table = query(given.run, given.query, external=given.allow_external)
    except (SqlError, ParquetError) as error:
        return _refused(error)
    if sys.stdout.isatty():
        _show(table)
    else:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # '?' would make two names of other programs' data one
        writer = csv.writer(sys.stdout)
        writer.writerow(table.column_names)
        writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return 0


def _copy(given: argparse.Namespace) -> int:
    from rungwise.results.exporters.mirror import Mirror, MirrorError

    try:
        Mirror(given.where, given.run.absolute().name).push(given.run)
    except MirrorError as error:
        return _refused(error)
    return 0


def _pull(given: argparse.Namespace) -> int:
    from rungwise.results.exporters.mirror import MirrorError
    from rungwise.results.exporters.pull import pull

    try:
        say(pull(given.source, given.name, given.out))
    except MirrorError as error:
        return _refused(error)
    return 0


def _show(table: pa.Table) -> None:
    from rich.table import Table

    from rungwise.results.cli.show import console

    shown = Table(*table.column_names, box=None, header_style="bold")
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        shown.add_row(*map(_text, row))
    console().print_whole(shown)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _refused(problem: object) -> int:
    say(problem, sys.stderr)
    return 2
