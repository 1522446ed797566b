"""Predictions of a regression: predicted against true, and the residuals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rungwise.results.io.formatting import count
from rungwise.results.report.plots.primitives import Figure, Json, View, colour, padded


def plot_residuals(test: Mapping[str, Any]) -> Figure | None:
    """Two views of the kept model's predictions on the test split; None without any.

    Args:
        test: What the final step says of the kept model (`trainable.export.test_evaluation.diagnose`).
    """
    true, predicted = test.get("true") or [], test.get("predicted") or []
    if not true or len(true) != len(predicted):
        return None
    residuals = [guess - value for guess, value in zip(predicted, true, strict=True)]
    ends = list(padded(min(*true, *predicted), max(*true, *predicted)))
    low, high = min(true), max(true)
    flat = list(padded(low, high))
    line = {"color": colour("muted"), "width": 1.5, "dash": "dash"}
    reference: Json = {"mode": "lines", "hoverinfo": "skip", "line": line}
    dots: Json = {"mode": "markers", "x": true, "marker": {"color": colour("accent"), "size": 7, "opacity": 0.55}}
    dots["hovertemplate"] = "true %{x:.5~g}, here %{y:.5~g}<extra></extra>"
    against: list[Json] = [reference | {"x": ends, "y": ends}, dots | {"y": predicted}]
    over: list[Json] = [reference | {"x": flat, "y": [0, 0]}, dots | {"y": residuals}]
    title = {"title": {"text": "true value"}}
    whole = {"xaxis": title | {"range": ends}, "yaxis": _axis("predicted", ends)}
    rest = {"xaxis": title | {"range": flat}, "yaxis": _axis("predicted - true", None)}
    error = sum(map(abs, residuals)) / len(residuals)
    bias = sum(residuals) / len(residuals)
    side = "high" if bias > 0 else "low"
    samples = test.get("samples") or len(true)
    shown = f"{count(len(true))} of {count(samples)}" if samples > len(true) else f"all {count(samples)}"
    return Figure(
        "residuals",
        f"Mean absolute error {error:.4g}; predictions are {abs(bias):.3g} too {side} on average.",
        [View("predicted against true", against, whole), View("residuals", over, rest)],
        f"A dot is a test sample ({shown} shown), scored by the kept model. On the dashed line a prediction is right.",
        height=430,
    )


def _axis(title: str, limits: list[float] | None) -> Json:
    return {"title": {"text": title}, "zeroline": False} | ({"range": limits} if limits else {})
