"""Amounts as people read them: scores, times, sizes."""

from __future__ import annotations

import math
from datetime import UTC, datetime


def shown(value: float | None, metric: str) -> str:
    """A value of the objective as text."""
    if value is None or not math.isfinite(value):
        return "none" if value is None else str(value)
    return f"{100 * value:.2f} %" if "accuracy" in metric else f"{value:.4g}"


def named(metric: str) -> str:
    """A metric's name for people: 'validation accuracy'."""
    words = metric.replace("_", " ")
    return f"validation {words.removeprefix('val ')}" if metric.startswith("val_") else words


def epochs(count: float) -> str:
    """'1 epoch', '4.5 epochs'"""
    return f"{count:,.6g} epoch{'' if count == 1 else 's'}"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def short(value: object) -> str:
    """A hyperparameter's value as text."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def difference(value: float, metric: str) -> str:
    """A difference between two values of the objective: points for accuracies."""
    return f"{100 * value:.2f} points" if "accuracy" in metric else f"{value:.3g}"


def duration(seconds: float) -> str:
    """'0.24 s', '12 s', '3 min 20 s', '2 h 05 min'"""
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60:02} min"


def size(count: float) -> str:
    """Bytes: '812 B', '3.4 MB'"""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def moment(at: float) -> str:
    """Seconds since the epoch as a date and time, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
