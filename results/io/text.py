"""Output to the terminal: without secrets, and without control characters."""

from __future__ import annotations

import os
import select
import shutil
import sys
import textwrap
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import TYPE_CHECKING, Any, TextIO

from rungwise.results.io.redaction import redacted
from rungwise.text import one_line, printable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer


# Of textwrap: a path or flag stays whole.
AT_SPACES: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def say(text: object, file: TextIO | None = None) -> None:
    """Print `text`, printable and without secrets, on standard output or `file`."""
    print(printable(redacted(str(text))), file=file, flush=True)


def say_prose(text: str) -> None:
    """Print notes and errors on standard error. A terminal has them broken at words, not wherever a line is full."""
    columns = shutil.get_terminal_size().columns
    lines = redacted(text).splitlines()  # first, as a secret may contain spaces
    if sys.stderr.isatty():
        lines = [part for line in lines for part in textwrap.wrap(line, columns, **AT_SPACES) or [""]]
    say("\n".join(lines), sys.stderr)


def error_line(error: BaseException) -> str:
    """Type and first line of an exception of code that is not ours, without secrets; its own text may fail."""
    try:
        lines = str(error).strip().splitlines()
    except Exception as second:
        lines = [f"its text raised {type(second).__name__}"]
    return one_line(redacted(": ".join([type(error).__name__, *lines[:1]])))


def print_anything() -> None:
    """From now on no message ends what it is about.

    A character that a terminal or pipe cannot encode is printed as '?'. A standard stream that is closed is the null
    device, and a file that is opened later does not take its number. What standard error cannot take, because its file
    is on a full disk or its terminal is gone, is dropped.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        _open_if_closed(number, name)
    if isinstance(sys.stderr, TextIOWrapper) and sys.stderr is sys.__stderr__:
        written = BufferedWriter(_Dropping(sys.stderr.fileno(), "w", closefd=False))
        sys.stderr = TextIOWrapper(written, sys.stderr.encoding, line_buffering=True, write_through=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def drop_unread_output() -> bool:
    """Whether the reader of standard output has ended, as head does; if so, prints go nowhere from now on."""
    events = select.poll()
    events.register(1, 0)
    gone = any(event & select.POLLERR for _, event in events.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return gone


def can_encode(text: str, stream: TextIO) -> bool:
    """Whether the stream's encoding has every character of `text`; a stream without an encoding takes all."""
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


class _Dropping(FileIO):
    """A file that takes everything, and drops what the system refuses."""

    def write(self, data: Buffer) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _open_if_closed(number: int, name: str) -> None:
    try:
        os.fstat(number)
    except OSError:
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free is this one
    if getattr(sys, name) is None:
        setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115 (open as long as this process)
