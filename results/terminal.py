"""The one way to rich: text is shown as it is, never read as markup, and what a terminal would obey is escaped."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from results.text import printable


class Terminal(Console):
    """A console whose strings, those in tables included, are text: `L2 [weights]` is shown whole.

    Styles are given beside a string (`style=`), never inside it.
    """

    def __init__(self, **how: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **how)

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(printable(text), **how)
