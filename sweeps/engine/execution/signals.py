"""Ctrl-C, SIGTERM, SIGQUIT and a terminal that is closed (SIGHUP): at once while nothing runs that must be ended in
order, then in order; a second one at once.

What is committed stays committed either way: the record does not depend on an orderly end.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn, Self

# Windows, where this module must be importable, has the first two only.
NUMBERS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)]
RAISE_AGAIN = 0.01  # seconds, within which a callback has ended


class Interrupted(BaseException):
    """The first signal, where it ends the driver at once. No Exception, so that no handler takes it for an error."""


class Signals:
    """While entered, remembers the first of `NUMBERS` in `caught` instead of dying of it, and raises Interrupted
    in the main thread until `defer`."""

    caught: int | None = None
    _first: int | None = None  # that the pipe has told
    _pipe: tuple[int, int] | None = None  # in which Python writes numbers as they come, whatever its main thread does
    _deferred = False

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles whom it asks to stop; handlers, hooks and pipes are this process's and cannot be pickled."""
        return {"caught": self.caught}

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()  # no other thread may say what a signal does
        heard = [number for number in NUMBERS if main and not _nohup(number)]
        self._before = {number: signal.signal(number, self._handle) for number in heard}
        if main:
            self._pipe = os.pipe()
            for end_of_pipe in self._pipe:
                os.set_blocking(end_of_pipe, False)
            self._wakeup_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self._unraisable_before, sys.unraisablehook = sys.unraisablehook, self._raise_again
        return self

    def arrived(self) -> int | None:
        """The first signal, from any thread: also while the main thread hangs in a call of a Ray that is dead, so that
        Python cannot call `_handle`."""
        if self._first is None and self._pipe is not None:
            with suppress(BlockingIOError):
                numbers = os.read(self._pipe[0], 4096)
                self._first = next((number for number in numbers if number in self._before), None)
        return self.caught if self._first is None else self._first

    def defer(self) -> None:
        """From now on the sweep looks at `caught` and ends in order. Raises Interrupted when it comes too late."""
        self._deferred = True
        if self.caught is not None:
            raise Interrupted

    def renew(self) -> None:
        """Take SIGTERM back from Ray: its core prints a stack on it, and aborts the process 3 s later (ray 2.60)."""
        if self._before:
            signal.signal(signal.SIGTERM, self._handle)

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook = self._unraisable_before
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._pipe is not None:
            signal.set_wakeup_fd(self._wakeup_before)
            for end_of_pipe in self._pipe:
                os.close(end_of_pipe)
            self._pipe = None

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        signal.alarm(0)  # Ray's, when the signal came before `renew`
        if self.caught is not None:
            if number == signal.SIGHUP:  # of one terminal it may come from the shell and from the kernel
                return
            end(128 + number)
        self.caught = number
        if not self._deferred:
            raise Interrupted

    def _raise_again(self, unraisable: Any) -> None:
        """Send the first signal once more when Python dropped its Interrupted: it had come within a `__del__` or the
        callback of a weak reference, such as the import system's, out of which nothing can be raised."""
        if unraisable.exc_type is Interrupted and self.caught is not None:
            number, self.caught = self.caught, None
            main = threading.main_thread().ident
            threading.Timer(RAISE_AGAIN, signal.pthread_kill, (main, number)).start()
        else:
            self._unraisable_before(unraisable)


def _nohup(number: int) -> bool:
    """Whether the user has asked that the sweep outlives its terminal."""
    return number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Within the block, which imports, a signal ends the process without a word: a KeyboardInterrupt would come out of
    the middle of somebody's module as pages of traceback, or be lost in a callback of the import system's."""
    ours = threading.current_thread() is threading.main_thread() and not hasattr(sys, "ps1")
    usual: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    mine = [number for number, handler in usual.items() if ours and signal.getsignal(number) is handler]
    for number in mine:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, usual[number])


def end(code: int) -> NoReturn:
    """End the process at once, and give the terminal back the cursor that the live view hides."""
    if os.isatty(2) and os.environ.get("TERM") != "dumb":
        with suppress(OSError):  # a terminal that is gone needs none
            os.write(2, b"\x1b[?25h\n")
    os._exit(code)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)


def quiet_ctrl_c() -> None:
    """From now on an unhandled Ctrl-C, such as one while a script imports its own modules, ends the process
    with code 130 and no traceback."""
    sys.excepthook = _quiet(sys.excepthook)


def _quiet(before: Callable[..., Any]) -> Callable[..., Any]:
    def hook(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
        if issubclass(kind, KeyboardInterrupt) and not hasattr(sys, "ps1"):
            sys.exit(128 + signal.SIGINT)
        before(kind, error, traceback)

    return hook
