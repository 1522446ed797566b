"""The console for all output through rich: text is never read as markup, and control characters are escaped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.segment import Segment, Segments
from rich.table import Column, Table
from rich.text import Text

from rungwise.text import printable, printable_name

_WIDEST = 10_000  # characters
INDENT = 4  # of the columns that have no room, below their row
PROSE = 30  # characters that a column of sentences takes at least


class Terminal(Console):
    """A console whose strings, those in tables included, are text: `L2 [weights]` is shown whole.

    Styles are given beside a string (`style=`), never inside it.
    """

    def __init__(self, **how: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **how)
        self._escape: Callable[[str], str] = printable

    def on_broken_pipe(self) -> None:
        """Let the caller see that the reader of the output has ended: rich would exit with code 1."""
        raise

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(self._escape(text), **how)

    def print_whole(self, table: Table, spare: Iterable[object] = (), prose: object = None) -> None:
        """Print a table of which no cell is cut or broken: half a number is another number. A line break in a cell is
        shown as \\n, so that a row is one line.

        While it is too wide, the columns with the headers `spare` are left out, in that order; if it still is, the
        last columns go below each row, as NAME=VALUE. The column with the header `prose` is broken at words, where it
        has room.
        """
        self._escape = printable_name
        try:
            self._print_whole(table, spare, prose)
        finally:
            self._escape = printable

    def _print_whole(self, table: Table, spare: Iterable[object], prose: object) -> None:
        for column in table.columns:
            column.no_wrap = column.header != prose
        needed = self._needed(table)
        if prose is not None and needed > self.width:
            (words,) = (column for column in table.columns if column.header == prose)
            words.width = max(PROSE, self.width - needed + self._widest(words.cells))
            needed = self._needed(table)
        for header in spare:
            if needed <= self.width:
                break
            table.columns = [column for column in table.columns if column.header != header]
            needed = self._needed(table)
        below: list[Column] = []
        while prose is None and needed > self.width and len(table.columns) > 1:
            below.insert(0, table.columns.pop())
            needed = self._needed(table)
        table.width = needed
        if not below:
            self.print(table, crop=False, no_wrap=True, overflow="ignore")
            return
        header, *rows = self.render_lines(table, self.options.update(width=needed, no_wrap=True), pad=False)
        self.print(Segments([*header, Segment.line()]), end="")
        for row, *cells in zip(rows, *(column.cells for column in below), strict=True):
            self.print(Segments([*row, Segment.line()]), end="")
            if all(isinstance(cell, str) for cell in cells):  # and no rule between phases
                values = [f"{column.header}={cell}" for column, cell in zip(below, cells, strict=True) if cell]
                for line in _packed([printable_name(value) for value in values], self.width - INDENT):
                    self.print(" " * INDENT + line, style="dim", crop=False, no_wrap=True, overflow="ignore")

    def fits(self, table: Table) -> bool:
        """Whether the terminal is as wide as the table."""
        return self._needed(table) <= self.width

    def _widest(self, cells: Iterable[Any]) -> int:
        return max(
            (Measurement.get(self, self.options.update(width=_WIDEST), cell).maximum for cell in cells), default=0
        )

    def _needed(self, table: Table) -> int:
        return Measurement.get(self, self.options.update(width=_WIDEST), table).maximum


def styled(text: object, style: str = "") -> Text:
    """Printable text in a style of rich's."""
    return Text(printable(text), style)


def _packed(texts: Sequence[str], width: int) -> list[str]:
    """Lines of whole texts, with two spaces between them; a text longer than `width` has a line of its own."""
    lines: list[str] = []
    for text in texts:
        if lines and cell_len(lines[-1]) + 2 + cell_len(text) <= width:
            lines[-1] += f"  {text}"
        else:
            lines.append(text)
    return lines
