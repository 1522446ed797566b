"""The console for all output through rich: text is never read as markup, and control characters are escaped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from rungwise.text import printable

_WIDEST = 10_000  # characters
PROSE = 30  # characters that a column of sentences takes at least


class Terminal(Console):
    """A console whose strings, those in tables included, are text: `L2 [weights]` is shown whole.

    Styles are given beside a string (`style=`), never inside it.
    """

    def __init__(self, **how: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **how)

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(printable(text), **how)

    def print_whole(self, table: Table, spare: Iterable[object] = (), prose: object = None) -> None:
        """Print a table of which no cell is cut: half a number is another number.

        While it is too wide, the columns with the headers `spare` are left out, in that order; if it still is, the
        terminal breaks its lines. The column with the header `prose` is broken at words, where it has room.
        """
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
        table.width = needed
        self.print(table, crop=False, no_wrap=True, overflow="ignore")

    def fits(self, table: Table) -> bool:
        """Whether the terminal is as wide as the table."""
        return self._needed(table) <= self.width

    def _widest(self, cells: Iterable[Any]) -> int:
        return max(
            (Measurement.get(self, self.options.update(width=_WIDEST), cell).maximum for cell in cells), default=0
        )

    def _needed(self, table: Table) -> int:
        return Measurement.get(self, self.options.update(width=_WIDEST), table).maximum
