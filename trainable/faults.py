"""Exceptions of a user's code. Whatever it raises fails the trial that ran it, and nothing else, with one line.

A model may call `sys.exit`, raise KeyboardInterrupt, or raise an exception whose text fails. Unhandled, these would
look like a process that died. Real signals still end the process.
"""

from __future__ import annotations

import os
import signal
import sysconfig
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rungwise.errors import RungwiseError
from rungwise.text import one_line, printable

LONGEST = 500  # characters of a reason
LONGEST_TRACEBACK = 20_000
_HERE = Path(__file__).absolute().parent  # rungwise/trainable, also where that is a link
_NOT_THE_USERS = tuple(
    [str(_HERE), *(str(_HERE.parent / room) for room in ("engine", "results")), "<"]
    + [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
)
_HANDLERS = ("ray", "rungwise.engine.execution.signals", __name__)  # where a signal becomes an exception


class Fault(RungwiseError, RuntimeError):
    """Wraps a BaseException of a user's code that is not an Exception; the original is its `__cause__`."""


@contextmanager
def ordinary() -> Iterator[None]:
    """A context for a user's code: a BaseException that is no Exception becomes a `Fault`, signals excepted."""
    with _distinguish_ctrl_c():
        try:
            yield
        except Exception:
            raise
        except BaseException as error:
            if _from_a_signal(error):
                raise
            raise Fault(reason(error)) from error


@contextmanager
def refusing_exit() -> Iterator[None]:
    """Within it `os._exit` raises where this thread calls it: it would end a process that must say something first."""
    here, real = (os.getpid(), threading.get_ident()), os._exit

    def refuse(status: int) -> NoReturn:
        if (os.getpid(), threading.get_ident()) != here:  # of a child that was forked, or another thread
            real(status)
        raise Fault(f"os._exit({status}) was called, which ends a process without a word; raise an exception instead")

    os._exit = refuse
    try:
        yield
    finally:
        os._exit = real


def end_if_forked(pid: int) -> None:
    """End this process if it is a child that the user's code forked from process `pid` and that returned: it would be
    a second worker of the same trial."""
    if os.getpid() != pid:
        os._exit(1)


def reason(error: BaseException) -> str:
    """One printable line: the type, the first line of the message, and the line of the user's file that raised it."""
    error = _original(error)
    lines = message(error).strip().splitlines()
    words = [type(error).__name__ + (f": {lines[0]}" if lines else "")[:LONGEST]]
    if place := _place(error):
        words.append(f"({place})")
    return one_line(" ".join(words))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the CPU or a GPU ran out of memory; some of torch's errors say so only in their text."""
    text = message(error)
    return isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate" in text


def message(error: BaseException) -> str:
    """`str(error)`, also where the class's own `__str__` fails."""
    try:
        return str(error)
    except BaseException as second:
        if _from_a_signal(second):
            raise
        return f"its text raised {type(second).__name__}"


def report(error: BaseException) -> str:
    """The printable traceback; a very long one is cut in the middle."""
    text = printable("".join(traceback.format_exception(_original(error))))
    half = LONGEST_TRACEBACK // 2
    return text if len(text) <= LONGEST_TRACEBACK else f"{text[:half]}\n...\n{text[-half:]}"


def _original(error: BaseException) -> BaseException:
    """The exception that was raised first, without our wrapper or a generator's."""
    wraps = isinstance(error, Fault) or isinstance(error.__cause__, StopIteration)
    return error.__cause__ if wraps and error.__cause__ is not None else error


def _place(error: BaseException) -> str | None:
    """File and line of the innermost frame in the user's own code."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return next((f"{Path(f.filename).name}:{f.lineno}" for f in frames if users_own(f.filename)), None)


def users_own(file: str) -> bool:
    """Whether a source file is neither ours nor a library's."""
    return not file.startswith(_NOT_THE_USERS)


def _from_a_signal(error: BaseException) -> bool:
    """Whether a signal handler raised it, and not the code that the signal interrupted."""
    if isinstance(error, Exception):  # no handler raises one
        return False
    innermost = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        innermost = frame
    name = str(innermost.f_globals.get("__name__", "")) if innermost else ""
    return any(name == handler or name.startswith(f"{handler}.") for handler in _HANDLERS)


@contextmanager
def _distinguish_ctrl_c() -> Iterator[None]:
    """Handle Ctrl-C ourselves: with Python's handler it looks like a KeyboardInterrupt that the user's code raised."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
