"""Scales of hyperparameters: numbers between bounds, linear or logarithmic, and choices by name."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rungwise.results.io.formatting import setting
from rungwise.results.report.plots.primitives import Json, category, safe, whole_ticks
from rungwise.results.report.snapshot import Entry


@dataclass(frozen=True)
class NumericScale:
    """A numeric hyperparameter between its bounds."""

    name: str
    low: float
    high: float
    log: bool
    whole: bool = False  # its values are whole numbers
    numeric = True

    def place(self, value: Any) -> float:
        """Where on the axis, 0 to 1."""
        low, high, scaled = (self._in(v) for v in (self.low, self.high, float(value)))
        return (scaled - low) / (high - low) if high > low else 0.5

    def at(self, place: float) -> float:
        """The value at a place on the axis."""
        low, high = self._in(self.low), self._in(self.high)
        scaled = low + place * (high - low)
        return math.exp(scaled) if self.log else scaled

    def tick(self, value: Any) -> float:
        return float(value)

    def labels(self) -> list[tuple[float, str]]:
        middle = (self.place(round(self.at(0.5))) if self.whole and not self.log else 0.5,)
        return [(place, _rounded(self.at(place))) for place in (0.0, *middle, 1.0)]

    def axis(self, title: str) -> Json:
        low, high = self._in(self.low), self._in(self.high)
        room = 0.03 * (high - low) or 0.5
        layout: Json = {"title": {"text": title}, "zeroline": False}
        if self.log:
            ends = [(low - room) / math.log(10), (high + room) / math.log(10)]
            return layout | {"type": "log", "range": ends, "exponentformat": "e", "dtick": _decades(ends)}
        return (
            layout
            | (whole_ticks(high - low) if self.whole else {})
            | {"type": "linear", "range": [low - room, high + room]}
        )

    def _in(self, value: float) -> float:
        return math.log(value) if self.log and value > 0 else value


@dataclass(frozen=True)
class ChoiceScale:
    """A hyperparameter with choices."""

    name: str
    choices: Sequence[str]
    numeric = False

    def place(self, value: Any) -> float:
        return self.choices.index(setting(value)) / max(1, len(self.choices) - 1) if len(self.choices) > 1 else 0.5

    def at(self, place: float) -> float:
        raise NotImplementedError("a name lies at no place between two names")

    def tick(self, value: Any) -> str:
        return safe(setting(value))

    def labels(self) -> list[tuple[float, str]]:
        return [(self.place(choice), choice) for choice in self.choices[:12]]

    def axis(self, title: str) -> Json:
        return category(self.choices, title={"text": title})


def scale_of(entries: Sequence[Entry], name: str) -> NumericScale | ChoiceScale:
    """The scale that holds everything that was tried, from the distributions and the values.

    Numbers are on a numeric scale where one arm searches a range of them, even if another chooses among a few.
    """
    distributions = [json.loads(text) for e in entries if (text := e.trial.distributions.get(name))]
    values = [e.trial.params[name] for e in entries if name in e.trial.params]
    bounds = [distribution["attributes"] for distribution in distributions if "low" in distribution["attributes"]]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
    if len(numbers) == len(values) and values and (bounds or not distributions):
        low = min([float(v) for v in numbers] + [float(b["low"]) for b in bounds])
        high = max([float(v) for v in numbers] + [float(b["high"]) for b in bounds])
        whole = all(float(number).is_integer() for number in [*numbers, low, high])
        return NumericScale(name, low, high, low > 0 and any(b.get("log") for b in bounds), whole)
    choices = [choice for distribution in distributions for choice in distribution["attributes"].get("choices", [])]
    return ChoiceScale(name, list(dict.fromkeys(setting(v) for v in [*choices, *values])))


def _rounded(value: float) -> str:
    return f"{value:.3g}" if 1 <= abs(value) < 1e6 else f"{value:.2g}"


def _decades(ends: Sequence[float]) -> float | str:
    """plotly.js' distance of ticks on a logarithmic axis; "D2" is 1, 2, 5, 10, 20, ..."""
    span = ends[1] - ends[0]
    return "D2" if span < 1.6 else max(1, math.ceil(span / 5))
