"""A self-contained HTML page: style, script, plotly.js and data are in it, and nothing is requested from elsewhere.

Every value is escaped by `text`; what is HTML already is `Html`. The page's Content-Security-Policy lets only scripts
with the right SHA-256 run, so that even a value that slipped through could not.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

from rungwise.results.report.plots.primitives import Figure
from rungwise.text import printable

_VOID = {"br", "img", "input"}  # elements without an end


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Html:
    """Any value, escaped; HTML as it is."""
    return value if isinstance(value, Html) else raw(value)


def raw(value: object) -> Html:
    """Any value, escaped and nothing else: what may be copied from the page."""
    return Html(html.escape("" if value is None else printable(value)))


def tag(name: str, *inside: object, **attributes: object) -> Html:
    """An element. `class_` is class, `aria_label` is aria-label; an attribute that is None or False is left out."""
    attribute_text = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(printable(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{name}{attribute_text}>" + ("" if name in _VOID else f"{join(inside)}</{name}>"))


def join(parts: Iterable[object]) -> Html:
    return Html("".join(map(text, parts)))


def section(key: str, title: str, *inside: object) -> Html:
    """A part of the page with its heading; nothing when there is nothing inside."""
    body = join(inside)
    if not body:
        return Html("")
    return tag("section", tag("h2", title, id=f"{key}-title"), body, id=key, aria_labelledby=f"{key}-title")


def pairs(rows: Iterable[tuple[object, object]]) -> Html:
    """Names and values, as a description list."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in rows), class_="pairs")


def table(heads: Sequence[object], rows: Iterable[Sequence[object]], caption: str, class_: str = "") -> Html:
    """A plain table in a frame that scrolls by itself; a column without any value is left out."""
    rows = [[*row] for row in rows]
    used = [i for i in range(len(heads)) if not rows or any(row[i] not in ("", None) for row in rows)]
    heads, rows = [heads[i] for i in used], [[row[i] for i in used] for row in rows]
    head = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in heads)))
    body = tag("tbody", *(tag("tr", *(tag("td", cell) for cell in row)) for row in rows))
    element = tag("table", tag("caption", caption, class_="unseen"), head, body, class_=class_ or None)
    return tag("div", element, class_="scroll", tabindex=0, role="region", aria_label=caption)


def unfoldable(title: str, lines: Iterable[str], unfolded: bool = True) -> Html:
    """Lines below a title that unfolds; nothing without lines."""
    items = [tag("li", line) for line in lines]
    return tag("details", tag("summary", title), tag("ul", *items), open=unfolded) if items else Html("")


def figure(drawn: Figure, title: str = "") -> Html:
    """The frame in which page.js draws a figure; the finding and the way to read it stand below in words."""
    switch: object = ""
    if len(drawn.views) > 1:
        buttons = (
            tag("button", view.label, type="button", data_view=index, aria_pressed="true" if index == 0 else "false")
            for index, view in enumerate(drawn.views)
        )
        switch = tag("div", *buttons, class_="switch", role="group", aria_label=f"view of {title or drawn.key}")
    plot = tag(
        "div",
        tag("p", "This plot is drawn when the page's script runs.", class_="waiting"),
        class_="plot",
        data_plot=drawn.key,
        role="img",
        aria_label=drawn.alt,
        style=f"height:{drawn.height}px" + (f";min-width:{drawn.min_width}px" if drawn.min_width else ""),
    )
    words = tag("figcaption", tag("p", drawn.alt, class_="finding"), tag("p", drawn.note) if drawn.note else "")
    head = tag("h3", title) if title else ""
    legend = tag("div", class_="legend", role="group", aria_label=f"legend of {title or drawn.key}: show and hide")
    frame = tag("div", plot, class_="frame", tabindex=0 if drawn.min_width else None)
    return tag("figure", head, tag("div", switch, legend, class_="tools"), frame, words)


def payload(figures: Iterable[Figure], hover: Mapping[int, str]) -> dict[str, Any]:
    """What page.js draws: data that several views share is there once."""
    plots: dict[str, Any] = {}
    for drawn in figures:
        shared: list[Any] = []
        views = []
        for view in drawn.views:
            index = next((i for i, data in enumerate(shared) if data is view.data), None)
            if index is None:
                shared.append(view.data)
                index = len(shared) - 1
            views.append({"data": index, "layout": view.layout})
        plots[drawn.key] = {"data": shared, "views": views}
    return {"plots": plots, "hover": hover}


def page(title: str, body: Iterable[object], data: Mapping[str, Any]) -> str:
    """The whole document."""
    from plotly.offline import get_plotlyjs

    style, script, library = _file("page.css"), _file("page.js"), get_plotlyjs()
    policy = (
        f"default-src 'none'; script-src {_digest(script)} {_digest(library)}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    compressor = zlib.compressobj(6, zlib.DEFLATED, 31)  # 31: in gzip's format, without a date
    zipped = compressor.compress(library.encode()) + compressor.flush()
    head = (
        '<meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<meta name="referrer" content="no-referrer">'
        '<link rel="icon" href="data:,">'
        f"<title>{text(title)}</title><style>{style}</style>"
    )
    tail = (
        f'<script type="application/json" id="page-data">{embedded(data)}</script>'
        f'<script type="text/plain" id="plotly">{base64.b64encode(zipped).decode()}</script>'
        f"<script>{script}</script>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{join(body)}{tail}</body></html>\n'


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


def _file(name: str) -> str:
    return resources.files("rungwise.results.report").joinpath(name).read_text("utf-8")


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
