"""Text that leaves this process: printed without secrets and without what a terminal obeys."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import TextIO

from rungwise.results.io.redaction import redacted
from rungwise.text import printable


def say(text: object, file: TextIO | None = None) -> None:
    """Print `text`, printable and without secrets, on standard output or `file`."""
    print(printable(redacted(str(text))), file=file, flush=True)


def print_anything() -> None:
    """From now on a character that a terminal or pipe cannot encode is printed as '?', and is no error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
