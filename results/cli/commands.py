"""Commands that look at runs: list, show, report, compare, predict, sql."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from rungwise.results.cli.runs import RUN_FIELD, RUNS, OptionalRun, find_run, find_runs
from rungwise.results.io.text import say
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import FILE

if TYPE_CHECKING:
    import pyarrow as pa

Run = Annotated[Path, arg(metavar="RUN")]


def list_runs(out: Annotated[Path, arg(metavar="[OUT]")] = RUNS, /) -> int:
    """List the runs in a folder.

    Args:
        out: The folder of runs.
    """
    from rungwise.results.cli.show import console, run_table

    folders = find_runs(out)
    if not folders:
        say(f"a folder of runs holds RUN/{FILE}, but {out} has none", sys.stderr)
        return 2
    console().print_whole(run_table(folders), ["time", "started"])
    return 0


def show(run: OptionalRun = None, /, *, top: int = 30) -> int:
    """Show the trials of a run, best first.

    Args:
        top: Trials at most.
    """
    from rungwise.results.cli.show import CURVE, REASON, console, trial_table
    from rungwise.results.record.sessions import sweep_state

    with Reader(find_run(run)) as reader:
        definition, trials = reader.definition(), len(reader.trials())
        shown = console()
        shown.print(f"{definition.name}: {sweep_state(reader).lower()}", style="bold")
        if definition.question:
            shown.print(definition.question)
        shown.print_whole(trial_table(reader, top, brief=shown.is_terminal), [CURVE, REASON])
        if trials > top:
            shown.print(f"{trials - top} more trials: --top {trials} shows all", style="dim")
    return 0


def report(run: OptionalRun = None, /, *, open: bool = False) -> int:  # noqa: A002 (the flag's name)
    """Write report.html, one page with the answer first.

    Args:
        open: Show it in the browser.
    """
    from rungwise.results.report.report import ReportError, write

    try:
        path = write(find_run(run))
    except ReportError as error:
        say(error, sys.stderr)
        return 1
    say(path)
    if open:
        import webbrowser

        webbrowser.open(path.absolute().as_uri())
    return 0


def compare(run: Run, other: Run, /) -> int:
    """Compare two runs' answers, and print their difference.

    The exit status is 1 when there is nothing to compare.

    Args:
        run: The one.
        other: The other; differences are its scores minus the one's.
    """
    from rungwise.results.analysis.compare import compare_folders, table
    from rungwise.results.cli.show import console

    comparison = compare_folders(find_run(run), find_run(other))
    shown = console()
    if comparison.rows:
        shown.print_whole(table(comparison))
    for name, answer in (comparison.first, comparison.second):
        shown.print(f"{name}: {answer.sentence}", soft_wrap=True)
    for line in comparison.notes:
        say(f"note: {line}", sys.stderr)
    for problem in comparison.problems:
        say(problem, sys.stderr)
    return 1 if comparison.problems else 0


def predict(
    run: Run,
    images: Annotated[tuple[Path, ...], arg(metavar="IMAGE [IMAGE ...]", help_behavior_hint="")],
    /,
    *,
    invert: bool = False,
    trust: bool = False,
) -> int:
    """Classify images with a run's confirmed model.

    A line for each image: file, class, probability; of a regression file, target. Notes go to standard error.

    Args:
        run: The run's folder, or one that holds a model.
        images: png, jpeg, ...
        invert: Dark drawings on light paper, for a model of light ones.
        trust: Whoever made the run may run code here: needed for a model function of your own, whose torch.export
            program is code; built-in models do not need it.
    """
    import numpy as np

    from rungwise.results.model.images import ImageError, read
    from rungwise.results.model.model import load

    if not images:
        raise ImageError("an IMAGE must be given (see rungwise predict --help)")
    model = load(run, trust)
    pictures, problems = [], []
    for path in images:
        try:
            pictures.append(read(path, model.description, invert))
        except ImageError as error:
            problems.append(str(error))
    if problems:
        raise ImageError("\n".join(dict.fromkeys(problems)))
    predicted = model.predict(np.stack([picture.pixels for picture in pictures]))
    for path, picture, row in zip(images, pictures, predicted, strict=True):
        for note in picture.notes:
            say(f"{path}: {note}", sys.stderr)
        say(f"{path}\t{model.classes[row.argmax()]}\t{row.max():.4f}" if model.classes else f"{path}\t{row[0]:.6g}")
    return 0


def sql(
    run_or_query: Annotated[str, RUN_FIELD] = "",
    query: Annotated[str | None, arg(metavar="QUERY", help_behavior_hint="")] = None,
    /,
    *,
    allow_external: bool = False,
) -> int:
    """Query the tables trials and reports of a run with DuckDB.

    It prints a table on a terminal, CSV when piped.

    Args:
        run_or_query: As in the other commands; the query, when it is the only one.
        query: Such as: "select arm, max(best_value) from trials group by arm".
        allow_external: The query may read and write files and load extensions, too.
    """
    from rungwise.results.tables.sql import SqlError
    from rungwise.results.tables.sql import query as ask

    if not run_or_query:
        raise SqlError("a QUERY must be given (see rungwise sql --help)")
    run, text = (None, run_or_query) if query is None else (Path(run_or_query), query)
    table = ask(find_run(run), text, external=allow_external)
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
        shown.add_row(
            *(f"{cell:.6g}" if isinstance(cell, float) else "" if cell is None else str(cell) for cell in row)
        )
    console().print_whole(shown)


COMMANDS: dict[str, Callable[..., int]] = {
    "list": list_runs,
    "show": show,
    "report": report,
    "compare": compare,
    "predict": predict,
    "sql": sql,
}
