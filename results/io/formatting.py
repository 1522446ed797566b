"""Values as text, each kind in one way everywhere: scores, times, sizes, hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rungwise.metric_names import without_split
from rungwise.text import significant


def format_metric(value: float | None, metric: str) -> str:
    """A score or an objective as text: '98.31%' of an accuracy, '0.0712' of anything else."""
    if value is None or not math.isfinite(value):
        return "none" if value is None else str(value)
    return f"{100 * value:.2f}%" if "accuracy" in metric else significant(value, 4)


def metric_label(metric: str) -> str:
    """A metric's name for people: 'validation accuracy'."""
    rest = without_split(metric)
    return rest.replace("_", " ") if rest == metric else f"validation {rest.replace('_', ' ')}"


def count(number: float) -> str:
    """'12', '4.5', '1,234'"""
    return f"{number:,.6g}"


def epochs(number: float) -> str:
    """'1 epoch', '4.5 epochs'"""
    return f"{count(number)} epoch{'' if number == 1 else 's'}"


def percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def short(value: object) -> str:
    """Any cell of a table as text; None is an empty cell. A number has four digits, or five where they are exact:
    a discount of 0.99995 is not 1."""
    if value is None:
        return ""
    if isinstance(value, float):
        return text if float(text := f"{value:.5g}") == value else f"{value:.4g}"
    return exact(value)


def setting(value: object) -> str:
    """A hyperparameter's value as text; None is a value like any other."""
    return "None" if value is None else short(value)


def exact(value: object) -> str:
    """A value as text with all its digits; layer widths are '128-64', and '()' where there are none."""
    return "-".join(map(str, value)) or "()" if isinstance(value, list | tuple) else str(value)


def settings(params: Mapping[str, Any]) -> str:
    """'lr=0.00312, l2=3e-05'"""
    return ", ".join(f"{name}={setting(value)}" for name, value in params.items()) or "fixed settings"


def assignments(params: Mapping[str, Any]) -> str:
    """'lr = 0.00312, l2 = 3e-05'"""
    return ", ".join(f"{name} = {setting(value)}" for name, value in params.items())


def conjunction(words: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'"""
    return " and ".join([", ".join(words[:-1]), *words[-1:]] if len(words) > 1 else words)


def change(value: float, metric: str) -> str:
    """A difference between two scores: '0.30 points' of accuracies, '0.0712' of anything else."""
    return f"{100 * value:.2f} points" if "accuracy" in metric else significant(value, 3)


def duration(seconds: float) -> str:
    """'0.24 s', '12 s', '3 min 20 s', '2 h 05 min'"""
    if 0 < seconds < 0.001:
        return "<0.001 s"
    if seconds < 10:
        return f"{seconds:.2g} s"
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02} s"
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
