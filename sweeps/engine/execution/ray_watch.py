"""Ends a driver that cannot end itself: its Ray is dead, and a call of a dead Ray takes a minute, or aborts it.

Ray's client waits 60 s for a GCS that may come back, and then exits without a word (ray 2.60,
`gcs_rpc_server_reconnect_timeout_s`). Whoever ends all processes of a service or a job (systemd, Slurm) ends Ray too,
and kills what is left soon after.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Self

from rungwise.engine.cluster.local_ray import Ray
from rungwise.engine.execution.signals import Signals, end
from rungwise.results.io.text import say

PAUSE = 0.1  # seconds between two looks
SIGNALLED = 2.0  # seconds that an orderly end may take once a signal came and Ray is dead
UNSIGNALLED = 10.0  # the same when nobody asked for an end, or when Ray is being stopped


class Watch:
    """While entered, looks at the processes of a private Ray. Ends this process when they are gone and it does not
    end itself."""

    def __init__(self, ray: Ray, signals: Signals) -> None:
        self._ray, self._signals = ray, signals
        self._over = threading.Event()
        self.last: Callable[[str | None], None] | None = None  # done before the end, with why when nobody asked for it

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        since: float | None = None
        while not self._over.wait(PAUSE):
            signalled, gone = self._signals.arrived() is not None, self._ray.gone()
            if gone or (signalled and self._ray.stopping):
                since = since or time.monotonic()
                if time.monotonic() - since > (SIGNALLED if signalled and gone else UNSIGNALLED):
                    self._end(gone)

    def _end(self, gone: str | None) -> None:
        caught = self._signals.caught = self._signals.arrived()
        if caught is None:
            say(f"error: Ray is dead ({gone}); the same command resumes", sys.stderr)
        try:
            if self.last:
                self.last(None if caught else gone)
        finally:
            self._ray.kill()
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            end(1 if caught is None else 128 + caught)
