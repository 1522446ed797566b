"""Progress of a running sweep: a live table on a terminal, a line every few seconds in a log, or notes only."""

from __future__ import annotations

import sys
from typing import TextIO

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from rungwise.results.io.formatting import format_metric
from rungwise.results.io.terminal import Terminal, styled
from rungwise.results.progress.board import Board
from rungwise.results.record.types import State
from rungwise.text import printable

PLAIN_SECONDS = 10.0  # between two lines of the plain view
PHASE = 7  # columns of a phase, such as 'untuned'
GAP = 2  # columns between title and clock
FEWEST = 2  # running trials that are shown, however low the terminal is


class View:
    """Prints notes only: --quiet, and the base of the other two."""

    def __init__(self, board: Board, stream: TextIO | None = None) -> None:
        self.board = board
        self.console = Terminal(file=stream or sys.stderr)

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def note(self, line: str) -> None:
        """One line that a user should see whatever the view; a terminal that is narrower has it broken at words."""
        self.console.print(line, soft_wrap=not self.console.is_terminal)

    def refresh(self) -> None:
        """Show what is known now."""

    def started(self, number: int, arm: str, phase: str = "search") -> None:
        self.board.started(number, arm, phase)

    def reported(self, number: int, epoch: float, objective: float | None, *, feasible: bool = True) -> None:
        self.board.reported(number, epoch, objective, feasible=feasible)

    def ended(self, number: int, state: State) -> None:
        self.board.ended(number, state)


class PlainView(View):
    """A line every `PLAIN_SECONDS`, for logs and pipes."""

    _last = 0.0

    def reported(self, number: int, epoch: float, objective: float | None, *, feasible: bool = True) -> None:
        super().reported(number, epoch, objective, feasible=feasible)
        self.refresh()

    def refresh(self) -> None:
        if self.board.now() - self._last >= PLAIN_SECONDS:
            self._last = self.board.now()
            self.note(self.board.line())


class LiveView(View):
    """A table that is redrawn four times a second."""

    def __enter__(self) -> LiveView:
        self._live = Live(get_renderable=self.render, console=self.console, refresh_per_second=4, transient=True)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def render(self) -> RenderableType:
        board, width = self.board, self.console.width
        if not board.widest:
            return Group(self._head(), "Ray is starting; the trials begin when it has started ...")
        bar = ProgressBar(total=board.trials + board.repeats, completed=board.done + board.repeated, width=width // 2)
        tables = [self._arms(), *([self._rungs()] if board.rungs[1:] else [])]
        counts, wide = board.counts(), self.console.fits(_row(*tables, self._in_flight(FEWEST)))
        above = [self._head(), _row(bar), counts, *([] if wide else tables)]
        room = self.console.height - sum(len(self.console.render_lines(part)) for part in above) - 3
        running = self._in_flight(max(FEWEST, room))
        return Group(*above, _row(*tables, running) if wide else running)

    def _head(self) -> RenderableType:
        """Title and clock in one line, where it is wide enough for both."""
        title, clock = styled(self.board.title, "bold"), styled(self.board.clock())
        if title.cell_len + GAP + clock.cell_len <= self.console.width:
            return title + styled(" " * GAP) + clock
        return Group(title, clock)

    def _arms(self) -> Table:
        table = _table("arm", f"best {self.board.metric}", "trial")
        best = self.board.best
        for arm in self.board.arms:
            value, number = best.get(arm, (None, None))
            table.add_row(arm, "-" if value is None else format_metric(value, self.board.metric), str(number or "-"))
        return table

    def _rungs(self) -> Table:
        """How many trials of the search reached each epoch at which they are compared, and how many ended there."""
        table = _table("compared at", "reached it", "stopped there")
        for rung in self.board.rungs[:-1]:
            table.add_row(f"epoch {rung:g}", str(self.board.reached[rung]), str(self.board.stopped[rung]))
        for last in self.board.rungs[-1:]:
            table.add_row(f"epoch {last:g}", str(self.board.reached[last]), "(the end)")
        return table

    def _in_flight(self, rows: int) -> Table:
        """The trials that are trained now, in at most so many rows, and how many more there are."""
        table = _table("running", "phase", "arm", "epoch", self.board.metric)
        # As wide as it can become, so that what stands beside it does not jump from one trial to the next.
        table.columns[1].min_width = PHASE
        table.columns[2].min_width = max((cell_len(printable(arm)) for arm in self.board.arms), default=0)
        running = sorted(self.board.running.copy().items())
        for number, trial in running[:rows]:
            score = "-" if trial.objective is None else format_metric(trial.objective, self.board.metric)
            table.add_row(f"trial {number}", trial.phase, trial.arm, f"{trial.epoch:g}", score)
        if more := len(running[rows:]):
            table.add_row(f"{more} more")
        return table


def _table(*headers: str) -> Table:
    """A table without lines, whose numbers are never cut: only names of arms are broken where it is narrow."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for header in headers:
        table.add_column(header, no_wrap=header != "arm", overflow="fold")
    return table


def _row(*parts: RenderableType) -> Table:
    """Parts beside each other."""
    row = Table.grid(padding=(0, 4, 0, 0))
    row.add_row(*parts)
    return row


def view(board: Board, *, quiet: bool, stream: TextIO | None = None) -> View:
    """The view that suits the stream, standard error by default."""
    if quiet:
        return View(board, stream)
    # A notebook's stream says that it is a terminal, and cannot move a cursor.
    live = (stream or sys.stderr).isatty() and not Terminal(file=stream or sys.stderr).is_jupyter
    return (LiveView if live else PlainView)(board, stream)
