"""A self-contained HTML page from templates: style, script, plotly.js and data are in it, nothing is requested.

Every value in a template is escaped, after what is not for reading is written as an escape (`rungwise.text`). The
page's Content-Security-Policy lets only scripts with the right SHA-256 run, so that even a value that slipped through
could not.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rungwise.results.io import formatting
from rungwise.results.report.glossary import GLOSSARY, anchor, link_first_uses
from rungwise.results.report.plots.primitives import Figure
from rungwise.results.report.snapshot import by_state
from rungwise.text import plural, printable

TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = (  # one after the other, one script
    "gunzip.js", "plots.js", "pairs.js", "brush.js", "panel.js", "table.js", "state.js", "start.js",
)  # fmt: skip
_NAMES = {"seconds": "wall time", "seconds_an_epoch": "time an epoch", "device_hours": "device-hours", "bytes": "disk"}


@dataclass(frozen=True)
class Table:
    """A plain table; falsy without rows. `figures`: its cells are numbers, which are not broken into lines."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[object]]
    figures: bool = True

    def __bool__(self) -> bool:
        return bool(self.rows)

    def __post_init__(self) -> None:
        """Leave out the columns without any value."""
        used = [i for i in range(len(self.heads)) if any(row[i] not in ("", None) for row in self.rows)]
        object.__setattr__(self, "heads", [self.heads[i] for i in used])
        object.__setattr__(self, "rows", [[row[i] for i in used] for row in self.rows])


@cache
def environment() -> Environment:
    """The templates' environment, with the functions of `io.formatting` as filters."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=_printable,
        extensions=["jinja2.ext.do"],
    )
    names = ("change", "count", "duration", "epochs", "metric_label", "moment", "percent", "setting", "short")
    made.filters |= {name: getattr(formatting, name) for name in names}
    made.filters |= {function.__name__: function for function in (label, repr, states, values)}
    made.filters |= {"metric": formatting.format_metric, "plural": plural}
    return made


def _printable(value: object) -> object:
    if value is None:
        return ""
    return value if isinstance(value, Markup) else printable(value)


def label(name: str) -> str:
    """The name of a value in the record as a reader knows it."""
    return _NAMES.get(name, name.replace("_", " "))


def values(value: object) -> str:
    """A value or a list of values as text."""
    return ", ".join(map(formatting.short, value)) if isinstance(value, list) else formatting.short(value)


def states(entries: Sequence[Any]) -> str:
    """'3 completed, 1 stopped'"""
    return ", ".join(f"{len(members)} {state.lower()}" for state, members in by_state(entries).items())


def render_page(figures: Iterable[Figure], hover: Mapping[int, str], panel: Mapping[str, Any], **context: Any) -> str:
    """The whole document.

    Args:
        figures: What plots.js draws.
        hover: Trial -> what a plot says of it under the pointer, in plotly.js's markup.
        panel: What panel.js shows of a trial (`trial_panel.panel_data`).
        context: The values of page.html.jinja.
    """
    from plotly.offline import get_plotlyjs

    parts = "\n".join((TEMPLATES / name).read_text("utf-8") for name in _SCRIPTS)
    script, library = f'"use strict";\n(() => {{\n{parts}}})();\n', get_plotlyjs()
    compressor = zlib.compressobj(5, zlib.DEFLATED, 31)  # 31: in gzip's format, without a date
    zipped = compressor.compress(library.encode()) + compressor.flush()
    plots = {drawn.key: _plot_data(drawn) for drawn in figures}
    page = (
        environment()
        .get_template("page.html.jinja")
        .render(
            **context,
            glossary=[(anchor(term), term, meaning) for term, meaning in GLOSSARY.items()],
            style=(TEMPLATES / "page.css").read_text("utf-8"),
            script=script,
            library=base64.b64encode(zipped).decode(),
            digests=f"{_digest(script)} {_digest(library)}",
            data=embedded({"plots": plots, "hover": hover, "panel": panel, "renewed": context["renewed"]}),
        )
    )
    body, start, rest = page.lstrip().partition('<section id="glossary"')
    return link_first_uses(body) + start + rest + "\n"


def _plot_data(drawn: Figure) -> dict[str, Any]:
    """Data that several views share is there once."""
    shared: list[Any] = []
    views = []
    for view in drawn.views:
        if not any(data is view.data for data in shared):
            shared.append(view.data)
        index = next(i for i, data in enumerate(shared) if data is view.data)
        views.append({"data": index, "layout": view.layout})
    return {"data": shared, "views": views} | ({"axes": drawn.axes} if drawn.axes else {})


def embedded(data: object) -> str:
    """JSON that cannot end its script element; what is not finite is null, and numbers have six digits."""
    text = json.dumps(_plain(data), separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _plain(data: Any) -> Any:
    if isinstance(data, float):
        return float(f"{data:.6g}") if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    return data


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
