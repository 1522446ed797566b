"""How scores of one metric on one split are written: percent and points for accuracies, bounds rounded outward."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rungwise.metric_names import without_split
from rungwise.results.io.formatting import format_metric
from rungwise.text import significant

_DECIMALS = 2  # of an accuracy in percent
_MOST_DECIMALS = 12
USELESS_WIDTH = 0.8  # of a share's interval: two seeds that differ by 6 points make it


@dataclass(frozen=True, slots=True)
class MetricFormat:
    """What a score is called, its unit, and its text."""

    metric: str  # accuracy, loss, val_accuracy, ...
    split: str  # test or validation
    higher: bool  # is better
    unitless: bool = False  # a loss is not in nats: that of a regression, or of a user's own training

    @property
    def measure(self) -> str:
        """Such as 'test accuracy'."""
        return f"{self.split} {without_split(self.metric)}"

    @property
    def share(self) -> bool:
        """Whether scores are shares, which lie within 0..1."""
        return "accuracy" in self.metric

    @property
    def most(self) -> float:
        """What no score can exceed."""
        return 1.0 if self.share or without_split(self.metric) == "r2" else math.inf

    @property
    def scale(self) -> float:
        return 100.0 if self.share else 1.0

    @property
    def unit(self) -> str:
        """Of a difference: percentage points, nats, or nothing."""
        if self.share:
            return "points"
        return "nats" if "loss" in self.metric and not self.unitless else ""

    def value(self, value: float) -> str:
        """A score: '98.31%' or '0.0712'."""
        return format_metric(value, self.metric)

    def change(self, value: float) -> str:
        """A difference without its unit: '0.30', '-0.0712'."""
        text = f"{value * self.scale:.{_DECIMALS}f}" if self.share else significant(value, 3)
        return text.removeprefix("-") if float(text) == 0 else text

    def amount(self, value: float) -> str:
        """A difference with its unit, without its sign: '0.30 points'."""
        return f"{self.change(abs(value))} {self.unit}".rstrip()

    def bounds(self, low: float, high: float) -> tuple[str, str]:
        """An interval's ends without their unit, rounded outward: what is printed holds what was computed.

        Two significant digits of half the width are shown; of accuracies one, and two decimals at least.
        """
        half = (high - low) / 2 * self.scale
        if half <= 0 and not self.share:
            return self.change(low), self.change(high)
        first = -math.floor(math.log10(half)) if half > 0 else 0  # decimal place of the first significant digit
        decimals = min(max(first, _DECIMALS) if self.share else max(first + 1, 0), _MOST_DECIMALS)
        steps = 10**decimals * self.scale
        ends = (math.floor(round(low * steps, 6)), math.ceil(round(high * steps, 6)))
        return f"{ends[0] / 10**decimals:.{decimals}f}", f"{ends[1] / 10**decimals:.{decimals}f}"

    def interval(self, low: float, high: float) -> str:
        """An interval of scores: '98.27 to 98.53%'."""
        return " to ".join(self.bounds(low, high)) + ("%" if self.share else "")

    def tells(self, low: float, high: float) -> bool:
        """Whether an interval says anything: not that of an accuracy which may be nearly everything."""
        return not self.share or high - low <= USELESS_WIDTH
