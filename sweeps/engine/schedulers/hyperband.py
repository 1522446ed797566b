"""Asynchronous Hyperband (Li et al. 2018; Li et al. 2020, section 3.3): brackets of ASHA that begin at each rung."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate

from rungwise.engine.schedulers.asha import Asha
from rungwise.engine.schedulers.base import PendingReport, RungSchedule, StoppingRule, Verdict
from rungwise.engine.schedulers.patience import NoStopping
from rungwise.engine.search.seeds import derived_seed


class Hyperband:
    """Bracket s of S, from the most patient, gets trials in proportion to eta^s / (s + 1): about equal training each.

    A trial's bracket follows from its number. (Ray's draws it from NumPy's global stream, so a resumed sweep differs.)
    """

    def __init__(self, schedule: RungSchedule, mode: str) -> None:
        *starts, _ = schedule.steps()
        self._brackets: list[StoppingRule] = [
            NoStopping(),
            *(Asha(schedule, start, mode) for start in reversed(starts)),
        ]
        shares = [schedule.eta**s / (s + 1) for s in range(len(self._brackets))]
        self._cumulative_shares = [part / sum(shares) for part in accumulate(shares)]

    def on_report(self, trial: int, step: int, value: float | None, pending: Sequence[PendingReport] = ()) -> Verdict:
        """See `StoppingRule`."""
        bracket = self._bracket(trial)
        same_bracket = [report for report in pending if self._bracket(report.trial) == bracket]
        return self._brackets[bracket].on_report(trial, step, value, same_bracket)

    def _bracket(self, trial: int) -> int:
        position = bisect(self._cumulative_shares, derived_seed("hyperband", trial) / 2**31)
        return min(position, len(self._brackets) - 1)
