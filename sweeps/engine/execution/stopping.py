"""When a sweep ends before its last trial: a signal, `rungwise stop`, the time budget, or trials that all fail the same
way."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable

from ray.tune import Stopper

from rungwise.engine.execution.signals import Signals
from rungwise.results.record.reader import Reader
from rungwise.results.record.stop_requests import StopRequests
from rungwise.results.record.types import State, Trial
from rungwise.trainable.messages import Failure

STOP_REQUESTED = "stop requested"  # an event: `rungwise stop` named a trial
ALL_FAILED = 10  # trials; when the first ten all FAILED, the eleventh would too


class Stop(Stopper):
    """Tune's stopper, called at every turn of its loop."""

    def __init__(self, signals: Signals, deadline: float | None, requests: StopRequests | None = None) -> None:
        """`deadline`: when the sweep shall have ended, in seconds of `time.monotonic`; None = never."""
        self.signals = signals
        self.trials: set[int] = set()  # that `rungwise stop` named
        self.on_request: Callable[[int], None] | None = None  # called for each of them
        self.on_search_over: Callable[[], None] | None = None  # called once, when the time left is what follows needs
        self.seconds_after_search: Callable[[], float | None] = lambda: None  # what follows needs; None: not known yet
        self._requests = requests
        self.failure: str | None = None  # why the sweep could not finish
        self.notice: Callable[[str], None] | None = None  # gets a line at a signal, or when the first trial FAILED
        self._said_stopping = False
        self.search_over = False  # because of the time budget
        self.deadline = deadline
        self.is_searching = True  # what follows the search is not cut short: it is the answer
        self.got_further = False  # whether a resumed sweep would not begin where this session began
        self._timed_out = False
        self._reasons: list[str] | None = []  # of the first trials, while all of them FAILED

    def __getstate__(self) -> dict[str, object]:
        """Tune pickles whom it asks, and a terminal cannot be pickled."""
        return self.__dict__ | dict.fromkeys(("notice", "on_request", "on_search_over", "seconds_after_search"))

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:
        return False

    def stop_all(self) -> bool:
        self._take_requests()
        self._look_at_clock()
        if self.notice and self.signals.caught is not None and not self._said_stopping:
            self._said_stopping = True
            self.notice("stopping; Ctrl-C once more quits at once. The same command resumes.")
        if self.signals.caught is not None or self.failure is not None:
            return True
        return self.is_searching and not self.search_over and self.times_out()

    def _take_requests(self) -> None:
        for trial in self._requests.take() if self._requests else ():
            if trial is not None:
                self.trials.add(trial)
                if self.on_request:
                    self.on_request(trial)
            elif self.signals.caught is None:
                self.signals.caught = signal.SIGINT  # as Ctrl-C would

    def _look_at_clock(self) -> None:
        """End the search when the time left is what must follow it. What follows is not cut short: it is the answer."""
        if self.deadline is None or self.search_over or self.on_search_over is None or not self.got_further:
            return
        needed = self.seconds_after_search()
        if needed is not None and time.monotonic() + needed >= self.deadline:
            self.search_over = True
            self.on_search_over()

    def times_out(self) -> bool:
        """Whether the time budget is used up, which then ends the sweep here; not before it got further: with a budget
        that is shorter than a start, no number of sessions would come to an end."""
        if self.deadline is not None and self.got_further and time.monotonic() >= self.deadline:
            self._timed_out = True
        return self._timed_out

    def gets_further(self) -> None:
        """The session has trained what need not be trained again: a trial has ended, or its checkpoint is known."""
        self.got_further = True

    @property
    def interrupted(self) -> bool:
        """Whether the sweep was stopped, so that the same command resumes it."""
        return self.signals.caught is not None or self._timed_out or self.search_over

    def replay(self, trials: Iterable[Trial]) -> None:
        """Know whether any trial of an earlier driver did not fail. Those that did may have had another reason."""
        if any(trial.state.ended and trial.state is not State.FAILED for trial in trials):
            self._reasons = None

    def ended(self, state: State, failure: Failure | None) -> None:
        """A trial ended; `failure`: why it has no result. Ends the sweep when the first `ALL_FAILED` all FAILED."""
        self.gets_further()
        if self._reasons is None:
            return
        if state is not State.FAILED or failure is None:
            self._reasons = None
            return
        if failure.kind.is_infeasible:
            return  # says nothing of the next one
        self._reasons.append(failure.message)
        if self.notice and len(self._reasons) == 1:
            self.notice(
                f"the first trial to end FAILED (the sweep ends if the first {ALL_FAILED} all do): {failure.message}"
            )
        if len(self._reasons) == ALL_FAILED:
            common, times = Counter(self._reasons).most_common(1)[0]
            self.failure = (
                f"the first {ALL_FAILED} trials all FAILED, {times} of them with: {common}; "
                "once that is mended, --fresh starts over"
            )


def requested_before(reader: Reader) -> set[int]:
    """The trials that `rungwise stop` has named in any session: one may have ended before they reported again."""
    return {trial for _, kind, trial, _ in reader.events() if kind == STOP_REQUESTED and trial is not None}
