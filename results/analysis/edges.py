"""Chosen configurations at an edge of their space: at an end of a range, or near zero of what their arm adds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rungwise.results.analysis.findings import Arm, AsGoodAsNone, EdgeOfSpace

_EDGE = 0.05  # of a range, at either end; on a logarithmic scale where it is sampled so
_NEXT_TO_NOTHING = 0.2  # of a logarithmic range, at its low end: in l2 = 1e-7..1e-2 below 1e-6
_FEWEST_VALUES = 5  # of a range with steps: of fewer, one end is a likely place


@dataclass(frozen=True, slots=True)
class _Range:
    low: float
    high: float
    log: bool

    def position(self, value: float) -> float:
        """0 at the low end, 1 at the high end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def edges(arm: Arm, control: Arm | None, distributions: Mapping[str, str]) -> Iterator[EdgeOfSpace | AsGoodAsNone]:
    """What is to be said of the arm's chosen configuration.

    Args:
        arm: its chosen configuration is looked at.
        control: what it is compared with; None for the control itself.
        distributions: of the search trial that found the configuration, {hyperparameter: Optuna's JSON}.
    """
    if arm.chosen is None:
        return
    without = control.chosen.config if control and control.chosen else {}
    for name, value in arm.chosen.params.items():
        bounds = _range(distributions.get(name, ""))
        if bounds is None or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        position = bounds.position(value) if bounds.low <= value <= bounds.high else math.nan
        none = name in without and without[name] == 0
        if control and none and position <= (_NEXT_TO_NOTHING if bounds.log else _EDGE):
            yield AsGoodAsNone(arm.arm, name, value, bounds.low, bounds.high, control.arm)
        elif position <= _EDGE or position >= 1 - _EDGE:
            yield EdgeOfSpace(arm.arm, name, value, bounds.low, bounds.high)


def _range(text: str) -> _Range | None:
    """Of a distribution as JSON; None for choices, for too few values, and for what is no distribution."""
    try:
        attributes = json.loads(text)["attributes"]
        low, high, step = float(attributes["low"]), float(attributes["high"]), attributes.get("step")
        log = bool(attributes.get("log"))
        values = (high - low) / float(step) + 1 if step and not log else math.inf
    except (ValueError, KeyError, TypeError):
        return None
    return _Range(low, high, log) if high > low and (low > 0 or not log) and values >= _FEWEST_VALUES else None
