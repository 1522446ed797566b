"""A function that owns its loop, as a stream of reports: it runs in a thread, which waits in `Trial.report`."""

from __future__ import annotations

import inspect
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

from rungwise.trainable.faults import end_if_forked
from rungwise.trainable.own.trial import TrialStopped

GRACE_SECONDS = 10.0  # for a function that was stopped to clean up


class CallReports(Iterator[Mapping[str, Any]]):
    """The reports of `call`; what it returns, if that is a mapping, is the last one. Raises what it raises.

    Attributes:
        is_hung: Whether the function goes on although it was told to stop: its process must end.
        is_over: Whether the function has ended: no report follows.
        returned: What it returned, if that was no report.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()  # from the function
        self._verdicts: queue.SimpleQueue[bool] = queue.SimpleQueue()  # to it: whether it goes on
        self._thread: threading.Thread | None = None
        self._is_stopped = False
        self._pid = os.getpid()
        self.is_hung = self.is_over = False
        self.returned: object = None

    def __next__(self) -> Mapping[str, Any]:
        if self._is_stopped:
            raise StopIteration
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="training", daemon=True)
            self._thread.start()
        else:
            self._verdicts.put(True)
        kind, value = self._events.get()
        if kind == "report":
            return value  # type: ignore[no-any-return]
        self._is_stopped = self.is_over = True
        if kind == "raised":
            raise value
        if isinstance(value, Mapping):
            return value
        self.returned = value
        raise StopIteration

    def report(self, metrics: Mapping[str, Any]) -> None:
        """Called by the function: hand over a report, and wait. Raises TrialStopped."""
        self.hand_over(metrics)

    def hand_over(self, item: Any) -> None:
        """Called by the function: the same with whatever the iterator is to return."""
        end_if_forked(self._pid)
        if self._is_stopped:
            raise TrialStopped
        self._events.put(("report", item))
        if not self._verdicts.get():
            raise TrialStopped

    def close(self) -> None:
        """Stop the function where it next reports, and wait for it to clean up."""
        if self._thread is None:
            return
        self._is_stopped = True
        self._verdicts.put(False)
        self._thread.join(GRACE_SECONDS)
        self.is_hung = self._thread.is_alive()

    def _run(self) -> None:
        try:
            value = self._call()
            if inspect.isgenerator(value):  # of a lambda, or another function around one
                generator: Any = value
                with closing(generator):
                    for metrics in generator:
                        self.report(metrics)
                value = None
        except TrialStopped:
            value = None
        except BaseException as error:
            end_if_forked(self._pid)
            self._events.put(("raised", error))
            return
        end_if_forked(self._pid)
        self._events.put(("returned", value))
