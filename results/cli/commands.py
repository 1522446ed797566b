"""Commands that look at runs: list, show, report, compare, sql."""

from __future__ import annotations

import csv
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from rungwise.results.cli.dashboard import dashboard
from rungwise.results.cli.predict import predict
from rungwise.results.cli.runs import RUN_FIELD, RUNS, OptionalRun, Switch, find_run, find_runs, is_run, newest_run
from rungwise.results.io.command_line import CommandLineError
from rungwise.results.io.text import say
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import FILE, RecordError

if TYPE_CHECKING:
    import pyarrow as pa

WATCH_SECONDS = 5  # between two pages of `rungwise report --watch`


def list_runs(out: Annotated[Path, arg(metavar="[OUT]")] = RUNS, /) -> int:
    """List the runs in a folder.

    Args:
        out: The folder of runs.
    """
    from rungwise.results.cli.show import ANSWER, console, run_table

    folders = find_runs(out)
    if not folders:
        raise RecordError(f"a folder of runs contains RUN/{FILE}, but {out} has none")
    console().print_whole(run_table(folders), ["time", "started", "sweep", "trials"], prose=ANSWER)
    return 0


def show(
    run: OptionalRun = None,
    /,
    *,
    top: int = 30,
    arm: Annotated[str | None, arg(metavar="ARM", help_behavior_hint="")] = None,
    phase: Annotated[str | None, arg(metavar="PHASE", help_behavior_hint="")] = None,
    sort: Annotated[str | None, arg(metavar="COLUMN", help_behavior_hint="(default: by phase and rank)")] = None,
    format: Literal["table", "csv", "json"] = "table",  # noqa: A002 (the flag's name)
    csv: Switch = False,
    json: Switch = False,
) -> int:
    """Show the answer of a run and its trials, best first.

    Args:
        top: Trials at most, of a table.
        arm: Only the trials of this arm.
        phase: Only those of this phase: search, confirm, refit, untuned, audit.
        sort: Column to sort by, such as lr or epochs; -epochs puts the largest first.
        format: csv and json print all columns of the selected trials.
        csv: The same as --format csv.
        json: The same as --format json.
    """
    from rungwise.results.cli.show import Selection, show_run, trial_rows

    asked = {*([format] if format != "table" else []), *(["csv"] if csv else []), *(["json"] if json else [])}
    if len(asked) > 1:
        raise CommandLineError(f"only one format can be printed, but {' and '.join(sorted(asked))} are asked for")
    if top < 1:
        raise CommandLineError(f"--top must be at least 1 (got {top})")
    selection = Selection(arm, phase, sort)
    with Reader(find_run(run)) as reader:
        if not asked:
            show_run(reader, selection, top)
        else:
            (_print_csv if asked == {"csv"} else _print_json)(*trial_rows(reader, selection))
    return 0


def report(run: OptionalRun = None, /, *, open: Switch = False, watch: Switch = False) -> int:  # noqa: A002 (a flag's name)
    """Write report.html, one page with the answer first.

    Args:
        open: Show it in the browser.
        watch: Keep it up to date until the sweep ends; the page in the browser reloads itself.
    """
    from rungwise.results.report.report import FILE as REPORT
    from rungwise.results.report.report import ReportError, write

    folder = find_run(run)
    try:
        _write_report(folder, open, watch)
    except ReportError as error:
        say(f"error: {error}", sys.stderr)
        return 1
    except KeyboardInterrupt:
        if watch and (folder / REPORT).exists():
            write(folder)  # a page that does not load itself again for ever
        raise
    return 0


def _write_report(folder: Path, show: bool, watch: bool) -> None:
    """Write the page, and with `watch` again until the sweep ends. `show`: in the browser, once. Raises ReportError."""
    from rungwise.results.record.sessions import sweep_state
    from rungwise.results.record.types import SweepState
    from rungwise.results.report.report import write

    for pages in itertools.count(1):
        with Reader(folder) as reader:
            running = watch and sweep_state(reader) is SweepState.RUNNING
        path = write(folder, renewed=WATCH_SECONDS if running else None)
        if pages == 1:
            say(path)
            if show:
                import webbrowser

                webbrowser.open(path.absolute().as_uri())
        if not running:
            return
        time.sleep(WATCH_SECONDS)


def compare(
    run: Annotated[Path | None, arg(metavar="[RUN]", help_behavior_hint="(default: the newest but OTHER)")] = None,
    other: Annotated[Path | None, arg(metavar="[OTHER]", help_behavior_hint="(default: the newest but RUN)")] = None,
    /,
) -> int:
    """Compare two runs' answers, and print their difference.

    The exit status is 1 when there is nothing to compare.

    Args:
        run: The first run.
        other: The second run; differences are its scores minus the first one's.
    """
    from rungwise.results.analysis.compare import compare_folders, table
    from rungwise.results.cli.show import console

    first = None if run is None else find_run(run)
    second = newest_run(first) if other is None else find_run(other)
    comparison = compare_folders(first or newest_run(second), second)
    shown = console()
    if comparison.rows:
        shown.print_whole(table(comparison))
    for name, answer in (comparison.first, comparison.second):
        shown.print(f"{name}: {answer.sentence}", soft_wrap=not shown.is_terminal)  # a terminal breaks words
    for line in comparison.notes:
        say(f"note: {line}", sys.stderr)
    for problem in comparison.problems:
        say(problem, sys.stderr)
    return 1 if comparison.problems else 0


def sql(
    run_or_query: Annotated[str, RUN_FIELD] = "",
    query: Annotated[str | None, arg(metavar="[QUERY]", help_behavior_hint="")] = None,
    /,
    *,
    allow_external: Switch = False,
) -> int:
    """Query the tables trials, reports and answer of a run with DuckDB.

    It prints a table on a terminal, CSV when piped; without a QUERY, the columns that there are.

    Args:
        run_or_query: As in the other commands. Alone, it is the query, unless there is a run of that name.
        query: Such as: "select arm, max(best_value) from trials group by arm".
        allow_external: The query may read and write files and load extensions, too.
    """
    from rungwise.results.tables.sql import columns
    from rungwise.results.tables.sql import query as ask

    alone = query is None and not is_run(Path(run_or_query))
    run, text = (None, run_or_query) if alone else (Path(run_or_query), query)
    folder = find_run(run)
    table = ask(folder, text, external=allow_external) if text else columns(folder)
    if sys.stdout.isatty():
        _print_table(table, None if text else "description")
    else:
        _print_csv(table.column_names, zip(*(column.to_pylist() for column in table.columns), strict=True))
    return 0


def _print_csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    _keep_names_apart()
    writer = csv.writer(sys.stdout)
    writer.writerow(names)
    writer.writerows(rows)


def _print_json(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A list of objects; a time is ISO 8601, and NaN and infinities are text, which JSON has no numbers for."""
    _keep_names_apart()

    def plain(value: Any) -> Any:
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value

    text = json.dumps(
        [dict(zip(names, map(plain, row), strict=True)) for row in rows], indent=1, default=lambda at: at.isoformat()
    )
    sys.stdout.write(f"{text}\n")


def _keep_names_apart() -> None:
    """What the terminal's encoding lacks is escaped: '?' would make two names of other programs' data one."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _print_table(table: pa.Table, prose: str | None = None) -> None:
    """As a table, with one column `prose` of sentences; a line for each cell where the columns do not fit."""
    from rich.table import Table

    from rungwise.results.cli.show import console

    shown, terminal = Table(*table.column_names, box=None, header_style="bold"), console()
    rows = [
        [f"{cell:.6g}" if isinstance(cell, float) else "" if cell is None else str(cell) for cell in row]
        for row in zip(*(column.to_pylist() for column in table.columns), strict=True)
    ]
    for row in rows:
        shown.add_row(*row)
    if prose or terminal.fits(shown):
        terminal.print_whole(shown, prose=prose)
        return
    for number, row in enumerate(rows, 1):
        terminal.print(f"row {number}", style="bold")
        cells = Table.grid(padding=(0, 2, 0, 0))
        for name, cell in zip(table.column_names, row, strict=True):
            cells.add_row(f"  {name}", cell)
        terminal.print(cells)


COMMANDS: dict[str, Callable[..., int]] = {
    "list": list_runs,
    "show": show,
    "report": report,
    "compare": compare,
    "predict": predict,
    "sql": sql,
    "dashboard": dashboard,
}
