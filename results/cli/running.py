"""Commands for a sweep that runs: stop, watch."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from rungwise.results.cli.runs import RUN_FIELD, OptionalRun, Switch, find_run
from rungwise.results.io.command_line import CommandLineError
from rungwise.results.io.text import say
from rungwise.results.record.reader import Reader
from rungwise.results.record.sessions import is_held, sweep_state
from rungwise.results.record.stop_requests import StopRequests
from rungwise.results.record.types import RecordError, State, SweepState

ANSWER_SECONDS = 30.0  # within which a driver takes notice of a request, unless it hangs
PAUSE = 0.1  # seconds between two looks for that
UPDATE_SECONDS = 1.0  # between two looks at the record
PAGE_SECONDS = 5  # between two pages of `rungwise watch --page`


def stop(
    run_or_trial: Annotated[str, RUN_FIELD] = "",
    trial: Annotated[int | None, arg(metavar="[TRIAL]", help_behavior_hint="(default: the whole sweep)")] = None,
    /,
) -> int:
    """Stop a running sweep, as Ctrl-C does, or one of its trials.

    The sweep's own command resumes a sweep. A trial ends at its next report and keeps its scores.

    Args:
        run_or_trial: The run's folder, or its name in runs/.
        trial: The number of a trial of the search.
    """
    folder = find_run(Path(run_or_trial) if run_or_trial else None)
    with Reader(folder) as reader:
        if sweep_state(reader) is not SweepState.RUNNING:
            raise RecordError(f"only a sweep that runs can be stopped, but {folder} is {sweep_state(reader).lower()}")
        if trial is not None:
            _require_running(reader, trial)
    requests, what = StopRequests(folder), f"trial {trial}" if trial is not None else "the sweep"
    requests.ask(trial)
    deadline = time.monotonic() + ANSWER_SECONDS
    while requests.is_pending(trial):
        with Reader(folder) as reader:
            gone = sweep_state(reader) is not SweepState.RUNNING
        if gone or time.monotonic() > deadline:
            why = "the sweep has ended by itself" if gone else f"its driver has not answered for {ANSWER_SECONDS:.0f} s"
            if requests.withdraw(trial):
                say(f"error: {what} was not stopped: {why}", sys.stderr)
                return 1
        time.sleep(PAUSE)
    if trial is None:
        say("the sweep is stopping; the command that started it resumes it")
    else:
        say(f"trial {trial} stops at its next report")
    return 0


def _require_running(reader: Reader, trial: int) -> None:
    """Raise CommandLineError unless `trial` is one of the search that runs."""
    running = [one.trial for one in reader.trials("search") if one.state is State.RUNNING]
    if trial not in running:
        those = ", ".join(map(str, running)) or "none"
        raise CommandLineError(
            f"only a trial that runs in the search can be stopped, not {trial}; now running: {those}"
        )


def watch(run: OptionalRun = None, /, *, page: Switch = False) -> int:
    """Watch a sweep that runs in another process, until it ends.

    Args:
        run: The run's folder, or its name in runs/.
        page: Show the report instead, on a page on this machine that renews itself; its address is printed.
    """
    from rungwise.results.analysis.answer import answer
    from rungwise.results.cli.show import console
    from rungwise.results.progress.live_view import view
    from rungwise.results.progress.recorded import RecordedProgress

    folder = find_run(run)
    with Reader(folder) as reader:
        _await_driver(reader, folder)
        progress = RecordedProgress(reader)
        if _runs(reader):
            with _served(folder) if page else nullcontext(), view(progress.board, quiet=False) as display:
                while _runs(reader):
                    progress.update()
                    display.refresh()
                    time.sleep(UPDATE_SECONDS)
        shown = console()
        shown.print(f"{folder.name}: {sweep_state(reader).lower()}")
        shown.print(answer(reader).sentence, soft_wrap=not shown.is_terminal)  # a terminal breaks words
    return 0


def _await_driver(reader: Reader, folder: Path) -> None:
    """Wait while a driver holds the run and has not begun its session: it starts Ray, or brings the run up to date."""
    if not _runs(reader) and is_held(folder):
        say(f"{folder.name}: its driver has not begun yet ...", sys.stderr)
        while not _runs(reader) and is_held(folder):
            time.sleep(PAUSE)


def _runs(reader: Reader) -> bool:
    return sweep_state(reader) is SweepState.RUNNING


class _LivePage:
    """The report of a run as a page that renews itself while the sweep runs, made at most every `PAGE_SECONDS`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._making = folder, threading.Lock()
        self._content, self._made, self._asked = b"", -math.inf, -math.inf  # and when, in seconds of time.monotonic
        self._is_last, self._last_taken = False, threading.Event()

    def __call__(self) -> bytes:
        from rungwise.results.report.report import render

        with self._making:
            self._asked = time.monotonic()
            if self._asked - self._made >= PAGE_SECONDS:
                self._content = render(self._folder, renewed=None if self._is_last else PAGE_SECONDS).encode()
                self._made = math.inf if self._is_last else time.monotonic()
            if self._is_last:
                self._last_taken.set()
            return self._content

    def finish(self) -> None:
        """Let a browser that shows the page have the last one, which renews itself no more."""
        with self._making:
            self._is_last, self._made = True, -math.inf
        if time.monotonic() - self._asked < 2 * PAGE_SECONDS:
            self._last_taken.wait(2 * PAGE_SECONDS)


@contextmanager
def _served(folder: Path) -> Iterator[None]:
    """Within the block, serve the run's report on a page of this machine alone, at an address that is printed."""
    from rungwise.results.io.page_server import serving

    page = _LivePage(folder)
    with serving(page) as address:
        say(f"report  {address}")
        yield
        page.finish()


COMMANDS: dict[str, Callable[..., int]] = {"watch": watch, "stop": stop}
