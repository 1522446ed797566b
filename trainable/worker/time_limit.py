"""A call that may hang, given up after a time (`--trial-timeout`)."""

from __future__ import annotations

import faulthandler
import queue
import threading
from collections.abc import Callable
from typing import Any

from rungwise.errors import RungwiseError

LAST_RESORT_SECONDS = 10.0  # after which a process ends that did not notice: its code holds the interpreter's lock


class TrialTimeout(RungwiseError, RuntimeError):
    """A training that has reported nothing for longer than `--trial-timeout` allows."""


class TimeLimit:
    """Makes one call after another, each within so many seconds, in a thread.

    A thread cannot be ended: after a TrialTimeout the process must be.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._calls: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()  # whether it raised, and what
        self._thread: threading.Thread | None = None

    def call(self, function: Callable[[], Any]) -> Any:
        """What `function` returns or raises. Raises TrialTimeout."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="trial", daemon=True)
            self._thread.start()
        # To the descriptor: `sys.stderr` may be None, or closed by the training.
        faulthandler.dump_traceback_later(self._seconds + LAST_RESORT_SECONDS, exit=True, file=2)
        self._calls.put(function)
        try:
            raised, value = self._outcomes.get(timeout=self._seconds)
        except queue.Empty:
            minutes = f"{self._seconds / 60:.3g} min"
            raise TrialTimeout(f"no report for {minutes} (--trial-timeout); it was ended") from None
        finally:
            faulthandler.cancel_dump_traceback_later()
        if raised:
            raise value
        return value

    def _work(self) -> None:
        while True:
            function = self._calls.get()
            try:
                outcome = (False, function())
            except BaseException as error:
                outcome = (True, error)
            self._outcomes.put(outcome)
