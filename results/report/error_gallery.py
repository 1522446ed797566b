"""Errors of the confirmed model on the test set: the confusion matrix, and the most confident wrong predictions."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from rungwise.results.report.page import Table
from rungwise.results.report.plots.confusion import plot_confusion
from rungwise.results.report.plots.primitives import Figure
from rungwise.results.report.snapshot import Snapshot

MOST = 24  # images
DIM = 128  # images without a brighter pixel have fewer levels of grey, such as 0 to 16


def matrix(snapshot: Snapshot) -> tuple[list[list[int]], list[str]] | None:
    """(counts, classes), or None while no model was scored on the test set."""
    test_scores = snapshot.meta.get("test") or {}
    counts = test_scores.get("confusion")
    if not counts or any(len(row) != len(counts) for row in counts):
        return None
    classes = [str(name) for name in test_scores.get("classes") or range(len(counts))]
    return counts, classes if len(classes) == len(counts) else [str(i) for i in range(len(counts))]


def confusion_plot(snapshot: Snapshot) -> Figure | None:
    confusion_matrix = matrix(snapshot)
    return plot_confusion(*confusion_matrix) if confusion_matrix else None


def gallery(snapshot: Snapshot) -> list[dict[str, Any]]:
    """The most confident mistakes; [] when none were kept."""
    mistakes: Sequence[Mapping[str, Any]] = (snapshot.meta.get("test") or {}).get("mistakes") or []
    confusion_matrix = matrix(snapshot)
    classes = confusion_matrix[1] if confusion_matrix else []
    brightest = max((max(_pixels(mistake), default=0) for mistake in mistakes), default=0)
    shown = []
    for mistake in sorted(mistakes, key=lambda mistake: -float(mistake.get("probability") or 0.0))[:MOST]:
        actual, predicted = (_class(mistake.get(key), classes) for key in ("true", "predicted"))
        sure = f"{float(mistake.get('probability') or 0.0):.1%}"
        index = mistake.get("index", "?")
        words = f"test image {index}: is {actual}, taken for {predicted} with probability {sure}"
        about = {"index": index, "actual": actual, "predicted": predicted, "sure": sure}
        shown.append({**about, "text": words, "uri": _uri(mistake, brightest)})
    return shown


def mistake_table(mistakes: Sequence[Mapping[str, Any]]) -> Table:
    """The mistakes of `gallery` in words, for samples that are no images; empty when there is an image to show."""
    rows = [] if any(one["uri"] for one in mistakes) else mistakes
    cells = [(one["index"], one["predicted"], one["actual"], one["sure"]) for one in rows]
    return Table("most confident mistakes", ("test sample", "predicted", "true", "probability"), cells, figures=False)


def _pixels(mistake: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(mistake["image"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        return b""


def _uri(mistake: Mapping[str, Any], brightest: int) -> str | None:
    try:
        return data_uri(_pixels(mistake), mistake["shape"], brightest)
    except (KeyError, TypeError, ValueError):
        return None


def _class(value: object, classes: Sequence[str]) -> str:
    if isinstance(value, int) and 0 <= value < len(classes):
        return classes[value]
    return str(value)


def data_uri(pixels: bytes, shape: Sequence[int], white: int = 255) -> str:
    """uint8 pixels of `shape` (C, H, W), C = 1 (grey) or 3 (RGB), as a PNG in a data URI, part of the page. Raises
    ValueError for anything else.

    `white`: the pixel value that is shown as white where that is less than `DIM`, as in images with 16 levels of grey.
    """
    if len(shape) != 3 or shape[0] not in (1, 3) or min(shape) < 1 or len(pixels) != math.prod(shape):
        raise ValueError(f"an image must be (1 or 3, H, W) bytes, but got {len(pixels)} bytes for {tuple(shape)}")
    planes = np.frombuffer(pixels, np.uint8).reshape(shape)
    if 0 < white < DIM:
        planes = (planes.astype(float).clip(0, white) * (255 / white)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(planes[0] if shape[0] == 1 else planes.transpose(1, 2, 0)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
