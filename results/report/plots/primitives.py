"""What all plots share: figures and their views, colours, axes, escaped text. Plain data for plotly.js.

A colour is the name of one of page.css's variables, so that a plot follows the page from light to dark. A value from
the record that becomes text is escaped here: plotly.js reads tags in it.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rungwise.results.io.formatting import metric_label
from rungwise.results.record.types import State

Json = dict[str, Any]
LABEL = 22  # characters of a name beside an axis
FEW = 8  # whole numbers that all have a tick
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "triangle-down", "pentagon")


@dataclass(frozen=True)
class View:
    """One drawing of a figure; a figure with several has a button for each."""

    label: str
    data: list[Json]
    layout: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """What the page shows in one frame. `alt` says the finding in words; `note` says how to read it."""

    key: str
    alt: str
    views: Sequence[View]
    note: str = ""
    height: int = 380  # CSS pixels
    min_width: int = 0  # CSS pixels; a narrower page scrolls within the frame
    hint: str = ""  # what a reader can do with it on a screen
    axes: Mapping[str, Json] = field(default_factory=dict)  # what the reader may choose as x and y: layout, values


def safe(value: object) -> str:
    """Text for plotly.js, which reads tags and entities."""
    return html.escape(str(value), quote=False)


def brief(value: object, length: int = LABEL) -> str:
    """A name for the edge of a plot: its beginning, when it is longer than `most` characters."""
    text = str(value)
    return safe(text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}")


def colour(name: str) -> str:
    return f"var(--{name})"


def arm_colour(index: int) -> str:
    return colour(f"arm-{index % 8}")


def state_colour(state: State) -> str:
    return colour(f"state-{state.lower()}")


def arm_markers(index: int, arm: str, x: Sequence[Any], y: Sequence[Any], trials: Sequence[float], **look: Any) -> Json:
    """A dot for each of an arm's trials, in the arm's colour and form; `look`: more of plotly.js's `marker`."""
    marker = {"color": arm_colour(index), "symbol": SYMBOLS[index % 8], **look}
    trace = {"mode": "markers", "name": safe(arm), "legendgroup": str(index), "x": x, "y": y, "marker": marker}
    return trace | {"meta": {"trials": trials}}


def axis(metric: str, **more: Any) -> Json:
    """An axis of the objective."""
    layout: Json = {"title": {"text": safe(metric_label(metric))}}
    if "accuracy" in metric:
        layout["tickformat"] = ".4~%"
    return layout | more


def whole_ticks(span: float) -> Json:
    """Ticks of an axis of whole numbers: of few, plotly.js would also label 0.5 and 1.5."""
    return {"dtick": 1} if span <= FEW else {}


def category(values: Sequence[str], **more: Any) -> Json:
    """An axis of names, in the order given."""
    layout: Json = {"type": "category", "categoryorder": "array", "categoryarray": [safe(value) for value in values]}
    if any(len(value) > LABEL for value in values):
        layout |= {"tickvals": layout["categoryarray"], "ticktext": [brief(value) for value in values]}
    return layout | more


def padded(low: float, high: float) -> tuple[float, float]:
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return low - room, high + room
