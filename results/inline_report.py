"""The report in a notebook's cell."""

from __future__ import annotations

import html
from pathlib import Path

from rungwise.results.analysis.answer import answer
from rungwise.results.record.reader import Reader
from rungwise.results.report.report import render


class InlineReport:
    """The page as it is now, which a notebook shows below its cell; elsewhere it is the answer's sentence.

    The page is in a frame without access to the notebook, its kernel and its cookies.
    """

    def __init__(self, folder: Path, height: int) -> None:
        """
        Args:
            folder: The run's folder.
            height: Of the frame, in pixels.

        Raises:
            RecordError: The folder has no record, or a damaged one.
        """
        with Reader(folder) as reader:
            self._sentence = answer(reader).sentence
        self._page, self._height = render(folder), height

    def __repr__(self) -> str:
        return self._sentence

    def _repr_html_(self) -> str:
        page = html.escape(self._page)
        style = f"width: 100%; height: {self._height}px; border: 0"
        return f'<iframe srcdoc="{page}" sandbox="allow-scripts" style="{style}" title="report"></iframe>'
