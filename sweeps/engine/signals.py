"""Ctrl-C and SIGTERM end a sweep in order; a second one ends the process at once.

What is committed stays committed either way: the record does not depend on an orderly end.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Self


class Signals:
    """While entered, remembers the first SIGINT or SIGTERM in `caught` instead of dying of it."""

    caught: int | None = None

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def renew(self) -> None:
        """Take SIGTERM back from Ray: its core prints a stack on it, and aborts the process 3 s later (ray 2.60)."""
        signal.signal(signal.SIGTERM, self._handle)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        signal.alarm(0)  # Ray's, when the signal came before `renew`
        if self.caught is not None:
            os._exit(128 + number)
        self.caught = number
