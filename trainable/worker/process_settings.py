"""The settings of a process that a trial's code may change, and that the next trial in it must find as they were."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
import warnings
from contextlib import suppress
from typing import Any, TextIO

# Looked up when they are used: Windows, where this module must be importable, has neither all signals nor limits.
NUMBERS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM")  # whose handlers are put back
LIMITS = ("RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_AS", "RLIMIT_CPU")


class ProcessSettings:
    """The settings as they are when this is made.

    Working directory, command line, environment, output, warnings, logging, signals, limits and umask. A
    variable that was added to the environment stays: a library that sets one sets it once.
    """

    def __init__(self) -> None:
        import resource

        self._folder = os.getcwd()
        self._arguments, self._variables = list(sys.argv), dict(os.environ)
        self._output, self._errors = sys.stdout, sys.stderr
        self._temporary = tempfile.tempdir
        self._recursion, self._disabled = sys.getrecursionlimit(), logging.root.manager.disable
        os.umask(umask := os.umask(0o077))
        self._umask = umask
        self._handlers: dict[int, Any] = {
            number: signal.getsignal(number) for number in (getattr(signal, name) for name in NUMBERS)
        }
        self._limits = {limit: resource.getrlimit(limit) for limit in (getattr(resource, name) for name in LIMITS)}
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()

    def restore(self) -> None:
        """Put them back."""
        import resource

        os.chdir(self._folder)
        sys.argv[:] = self._arguments
        for name, value in self._variables.items():
            if os.environ.get(name) != value:
                os.environ[name] = value
        sys.stdout, sys.stderr = _open(self._output, 1), _open(self._errors, 2)
        tempfile.tempdir = self._temporary
        sys.setrecursionlimit(self._recursion)
        logging.disable(self._disabled)
        os.umask(self._umask)
        for limit, values in self._limits.items():
            with suppress(ValueError, OSError):  # a hard one that was lowered stays
                resource.setrlimit(limit, values)
        if threading.current_thread() is threading.main_thread():
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in self._handlers.items():
                if handler is not None and signal.getsignal(number) is not handler:
                    signal.signal(number, handler)
        self._warnings.__exit__(None, None, None)
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()


def _open(stream: TextIO, descriptor: int) -> TextIO:
    """The stream, or, when it was closed, another one to the same descriptor, or to nothing."""
    if stream is None or not stream.closed:
        return stream
    with suppress(OSError):
        os.fstat(descriptor)
        return open(descriptor, "w", errors="backslashreplace", closefd=False)
    return open(os.devnull, "w")
