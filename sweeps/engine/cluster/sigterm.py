"""Keeps the driver's SIGTERM handler while Ray's core starts and ends, since both replace it."""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from rungwise.engine.cluster import compat

_PAUSE = 0.001  # seconds for which SIGTERM may be Ray's while Ray ends


def _system_call() -> Any:
    """sigaction(2), by which any thread may say what a signal does. None where the C library has none."""
    return getattr(ctypes.CDLL(None), "sigaction", None)


def _current(sigaction: Any) -> Any:
    before = ctypes.create_string_buffer(1024)  # a `struct sigaction`, of 152 bytes on Linux
    sigaction(signal.SIGTERM, None, before)
    return before


@contextmanager
def kept_while_ray_starts() -> Iterator[None]:
    """Within the block Ray's core, which starts in whatever thread calls `ray.init`, takes SIGTERM for as long as it
    starts only: its own handler prints a stack and has the process aborted 3 s later."""
    raylet, sigaction = compat.raylet_module(), _system_call()
    core: Any = getattr(raylet, "CoreWorker", None)
    if core is None or sigaction is None:
        yield
        return

    def start(*args: Any, **options: Any) -> Any:
        before = _current(sigaction)
        try:
            return core(*args, **options)
        finally:
            sigaction(signal.SIGTERM, before, None)
            signal.alarm(0)  # the abort of a SIGTERM that came meanwhile; Python has noted the signal

    with patch.object(raylet, "CoreWorker", start):
        yield


@contextmanager
def kept_while_ray_ends() -> Iterator[None]:
    """Within the block SIGTERM does what it did before, but for a millisecond.

    Ray's core resets it to the system's default when it ends (ray 2.60, `RayLog::UninstallSignalAction`): a driver that
    then waits for Ray's processes and for the exporters' last pass would die of it, without its summary and its code.
    """
    sigaction = _system_call()
    if sigaction is None:
        yield
        return
    before, over = _current(sigaction), threading.Event()

    def keep() -> None:
        while not over.wait(_PAUSE):
            sigaction(signal.SIGTERM, before, None)

    keeper = threading.Thread(target=keep, name="sigterm", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()
        sigaction(signal.SIGTERM, before, None)
