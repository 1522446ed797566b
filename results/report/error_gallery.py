"""Where the confirmed model errs on the test set: confusion, and the images that it was surest about, and wrong."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from rungwise.results.report.figures import Figure, confusion
from rungwise.results.report.page import Html, join, tag
from rungwise.results.report.png import data_uri
from rungwise.results.report.snapshot import Snapshot

MOST = 24  # images


def matrix(now: Snapshot) -> tuple[list[list[int]], list[str]] | None:
    """(counts, classes), or None while no model was scored on the test set."""
    told = now.meta.get("test") or {}
    counts = told.get("confusion")
    if not counts or any(len(row) != len(counts) for row in counts):
        return None
    classes = [str(name) for name in told.get("classes") or range(len(counts))]
    return counts, classes if len(classes) == len(counts) else [str(i) for i in range(len(counts))]


def figure(now: Snapshot) -> Figure | None:
    found = matrix(now)
    return confusion(*found) if found else None


def gallery(now: Snapshot) -> Html:
    """The most confident mistakes; nothing when none were kept."""
    told = now.meta.get("test") or {}
    kept: Sequence[Mapping[str, Any]] = told.get("mistakes") or []
    if not kept:
        return Html("")
    found = matrix(now)
    classes = found[1] if found else []
    ranked = sorted(kept, key=lambda one: -float(one.get("probability") or 0.0))[:MOST]
    return join(
        [
            tag("h3", "Most confident mistakes"),
            tag("p", f"Test images of trial {told.get('trial', '?')} that it was surest about, and wrong."),
            tag("ul", *(_one(mistake, classes) for mistake in ranked), class_="gallery"),
        ]
    )


def _one(mistake: Mapping[str, Any], classes: Sequence[str]) -> Html:
    true, said = (_class(mistake.get(key), classes) for key in ("true", "predicted"))
    sure = float(mistake.get("probability") or 0.0)
    words = f"test image {mistake.get('index', '?')}: is {true}, taken for {said} with probability {sure:.1%}"
    try:
        uri = data_uri(base64.b64decode(mistake["image"], validate=True), mistake["shape"])
        picture = tag("img", src=uri, alt=words, width=84, height=84)
    except (KeyError, TypeError, ValueError, binascii.Error):
        picture = tag("span", "no image", class_="blank", aria_label=words)
    caption = join([tag("b", said), f" for {true}", tag("br"), tag("small", f"{sure:.1%} sure")])
    return tag("li", picture, tag("span", caption))


def _class(value: object, classes: Sequence[str]) -> str:
    if isinstance(value, int) and 0 <= value < len(classes):
        return classes[value]
    return str(value)
