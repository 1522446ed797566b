"""Numbers of an answer in plain language: points for accuracies, as many digits as are known, and plain verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from results.intervals import CONFIDENCE, MOST, Difference, Estimate


@dataclass(frozen=True, slots=True)
class Wording:
    """How scores of one metric on one split are told."""

    metric: str  # accuracy, loss, val_accuracy, ...
    split: str  # test or validation
    higher: bool  # is better
    regression: bool = False  # a loss is then in the target's unit

    @property
    def measure(self) -> str:
        """Such as 'test accuracy'."""
        return f"{self.split} {self.metric.removeprefix('val_')}"

    @property
    def scale(self) -> float:
        return 100.0 if "accuracy" in self.metric else 1.0

    @property
    def unit(self) -> str:
        """Of a difference: percentage points, nats, or nothing."""
        if "accuracy" in self.metric:
            return "points"
        return "nats" if "loss" in self.metric and not self.regression else ""

    def value(self, value: float) -> str:
        """A score: '98.31 %' or '0.0712'."""
        return f"{100 * value:.2f} %" if self.scale == 100 else f"{value:.4g}"

    @property
    def share(self) -> bool:
        """Whether scores are shares, which lie within 0..1."""
        return self.scale == 100

    def bounds(self, low: float, high: float) -> tuple[str, str]:
        """An interval's ends without their unit, rounded outward: what is printed holds what was computed."""
        if not self.share:
            return self.change(low), self.change(high)
        steps = 10**DIGITS * self.scale
        ends = math.floor(round(low * steps, 6)), math.ceil(round(high * steps, 6))
        return f"{ends[0] / 10**DIGITS:.{DIGITS}f}", f"{ends[1] / 10**DIGITS:.{DIGITS}f}"

    def change(self, value: float, digits: str = ".2f") -> str:
        """A difference without its unit."""
        text = f"{value * self.scale:{digits if self.scale == 100 else '.3g'}}"
        return text.removeprefix("-") if float(text) == 0 else text

    def level(self, score: Estimate) -> str:
        """'98.31 % test accuracy (n=5 seeds, 95 % interval 98.23 to 98.39)'"""
        seeds = f"n={score.n} seed{'s' if score.n > 1 else ''}"
        if score.low is None or score.high is None:
            return f"{self.value(score.mean)} {self.measure} ({seeds}, so no interval)"
        if score.low == score.high:  # equal by chance, on samples that are counted: not certainty
            return f"{self.value(score.mean)} {self.measure} ({seeds}, all alike, so no interval)"
        if self.share and score.high - score.low > USELESS:
            return f"{self.value(score.mean)} {self.measure} ({seeds}, too few for an interval)"
        low, high = self.bounds(score.low, score.high)
        return f"{self.value(score.mean)} {self.measure} ({seeds}, {_PERCENT} interval {low} to {high})"

    def effect(self, a: str, b: str, found: Difference) -> str:
        """A difference that the data can tell, its size and interval counted in its own direction."""
        low, high = found.low or 0.0, found.high or 0.0
        if found.mean < 0:
            low, high = -high, -low
        helps = "helps" if (found.mean > 0) is self.higher else "hurts"
        size = f"{self.change(abs(found.mean))} \N{PLUS-MINUS SIGN} {self.change((high - low) / 2)}"
        if self.scale == 100:
            what = f"{a} {helps} by {size} points of {self.measure}"
        else:
            verb = "raises" if found.mean > 0 else "lowers"
            what = f"{a} {helps}: it {verb} the {self.measure} by {size} {self.unit}".rstrip()
        ends = " to ".join(self.bounds(low, high))
        return f"{what} against {b} ({_seeds(found)}, {_PERCENT} interval {ends})."

    def no_effect(self, a: str, b: str, found: Difference, p_holm: float | None, together: int) -> str:
        """Why the data cannot tell the two apart, and what it would take."""
        start = f"Cannot tell whether {a} helps against {b}"
        mean = f"{self.change(found.mean)} {self.unit}".strip()
        if found.n < 2:
            return f"{start}: the difference is {mean} of {self.measure}, but one seed has no spread."
        if found.p is None:
            return f"{start}: every seed gives the same difference of {self.measure}, {mean} ({_seeds(found)})."
        low, high = found.low or 0.0, found.high or 0.0
        if self.share and high - low > USELESS:
            return f"{start}: {_seeds(found)} are too few; they differ by {mean} of {self.measure} on average."
        interval = f"the {_PERCENT} interval {' to '.join(self.bounds(low, high))}"
        unit = f" {self.unit}" if self.unit else ""
        if low <= 0 <= high:
            why = f"{interval}{unit} of {self.measure} contains 0"
        else:
            why = (
                f"{interval}{unit} of {self.measure} leaves 0 out alone, but not as one of {together} comparisons "
                f"(Holm p={p_holm:.2g})"
            )
        seeds = f"about n={found.needed:,}" if found.needed else f"more than {MOST:,}"
        return f"{start}: {why} ({_seeds(found)}); {seeds} seeds would be needed to see a difference of this size."


DIGITS = 2  # of a percentage that are shown
USELESS = 0.8  # width of a share's interval that says nothing: two seeds that differ by 6 points make it
_PERCENT = f"{CONFIDENCE * 100:.0f} %"


def _seeds(found: Difference) -> str:
    return f"n={found.n} {'paired ' if found.paired else ''}seeds"


def settings(params: Mapping[str, Any]) -> str:
    """'l2=3e-05, lr=0.00312'; what a sampler drew, to three digits."""
    told = [f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items()]
    return ", ".join(told) or "fixed settings"
