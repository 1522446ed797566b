"""Whatever a user's code raises is a fault of the trial that ran it: an ordinary exception, and one line that says it.

A model may call `sys.exit`, raise KeyboardInterrupt, or raise what has no text. Left alone, these look like a process
that died; only what a signal asks for is obeyed.
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
    """What a user's code raised and is no Exception; that is its cause."""


@contextmanager
def ordinary() -> Iterator[None]:
    """Within it a user's code runs: what it raises and is no Exception becomes a `Fault`. Signals are obeyed."""
    with _telling_ctrl_c_apart():
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
    """End this process if it is a child that the user's code has forked from process `pid` and let go on: it would be
    a second worker of the same trial."""
    if os.getpid() != pid:
        os._exit(1)


def reason(error: BaseException) -> str:
    """One printable line: the type, the first line of the message, and the line of the user's file that raised it."""
    error = _itself(error)
    lines = message(error).strip().splitlines()
    words = [type(error).__name__ + (f": {lines[0]}" if lines else "")[:LONGEST]]
    if place := _place(error):
        words.append(f"({place})")
    return one_line(" ".join(words))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was lacking, on the CPU or a GPU: of torch's errors some say it in their text alone."""
    text = message(error)
    return isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate" in text


def message(error: BaseException) -> str:
    """`str(error)`, whatever its class makes of that."""
    try:
        return str(error)
    except BaseException as second:
        if _from_a_signal(second):
            raise
        return f"its text raised {type(second).__name__}"


def report(error: BaseException) -> str:
    """The traceback, printable; of a very long one both ends."""
    text = printable("".join(traceback.format_exception(_itself(error))))
    half = LONGEST_TRACEBACK // 2
    return text if len(text) <= LONGEST_TRACEBACK else f"{text[:half]}\n...\n{text[-half:]}"


def _itself(error: BaseException) -> BaseException:
    """What was raised at first: not our wrapping of it, nor a generator's."""
    wraps = isinstance(error, Fault) or isinstance(error.__cause__, StopIteration)
    return error.__cause__ if wraps and error.__cause__ is not None else error


def _place(error: BaseException) -> str | None:
    """The file and line of the innermost frame that is the user's own."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return next((f"{Path(f.filename).name}:{f.lineno}" for f in frames if users_own(f.filename)), None)


def users_own(file: str) -> bool:
    """Whether a file of code is neither ours nor a library's."""
    return not file.startswith(_NOT_THE_USERS)


def _from_a_signal(error: BaseException) -> bool:
    """Whether it was raised by a signal's handler, and not by the code that the signal met."""
    if isinstance(error, Exception):  # no handler raises one
        return False
    innermost = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        innermost = frame
    name = str(innermost.f_globals.get("__name__", "")) if innermost else ""
    return any(name == handler or name.startswith(f"{handler}.") for handler in _HANDLERS)


@contextmanager
def _telling_ctrl_c_apart() -> Iterator[None]:
    """Python's own handler leaves no trace: Ctrl-C would look like a KeyboardInterrupt of the user's code."""
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
