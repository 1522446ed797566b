"""Finding runs: the run that a command is about, and the runs in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from rungwise.results.record.reader import Reader
from rungwise.results.record.types import FILE, RecordError

RUNS = Path("runs")  # where sweeps leave their runs, unless told otherwise
LISTED = 10  # runs that an error lists
RUN_FIELD = arg(
    metavar="[RUN]",
    help=f"The run's folder, which contains {FILE}, or its name in {RUNS}/.",
    help_behavior_hint=f"(default: the newest in {RUNS}/)",
)
OptionalRun = Annotated[Path | None, RUN_FIELD]
Switch = Annotated[bool, arg(help_behavior_hint="")]  # a flag that is off unless it is given: the help says no default


def find_runs(out: Path) -> list[Path]:
    """The folders in `out` that hold a record, by name."""
    return sorted(path.parent for path in out.glob(f"*/{FILE}"))


def newest_run(besides: Path | None = None) -> Path:
    """The run in runs/ that a driver started last; another one than `besides`.

    Raises:
        RecordError: There is none.
    """
    there = [run for run in find_runs(RUNS) if besides is None or run.resolve() != besides.resolve()]
    if not there:
        held = "no run" if besides is None else f"no run besides {besides.name}"
        raise RecordError(f"a RUN must be given, because {RUNS}/ in the working folder contains {held}")
    return max(there, key=_started)


def is_run(run: Path) -> bool:
    """Whether a run has this path or this name in runs/."""
    return any((folder / FILE).exists() for folder in (run, RUNS / run))


def find_run(run: Path | None) -> Path:
    """The folder of a run that is named by its path or by its name in runs/; of None, the newest run there.

    Raises:
        RecordError: There is no such run; the message lists those that there are.
    """
    if run is None:
        return newest_run()
    for folder in (run, RUNS / run):
        if (folder / FILE).exists():
            return folder
    there = next(filter(None, map(find_runs, (run, run.parent, RUNS))), [])
    raise RecordError(f"a run's folder contains {FILE}, but {run} has none{_list(there)}")


def _started(run: Path) -> float:
    """When its last driver started, in seconds since the epoch; 0 of a planned run, and of one that is damaged."""
    try:
        with Reader(run) as reader:
            return max((session.started for session in reader.sessions()), default=0.0)
    except RecordError:
        return 0.0


def _list(runs: Sequence[Path]) -> str:
    if not runs:
        return ""
    more = f" and {len(runs) - LISTED} more" if len(runs) > LISTED else ""
    return f"; runs in {runs[0].parent}: {', '.join(run.name for run in runs[:LISTED])}{more}"
