"""Values as text: one way for each kind."""

from __future__ import annotations

import pytest

from rungwise.results.io.formatting import conjunction, duration, format_metric, metric_label, settings
from rungwise.results.io.metric_format import MetricFormat


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (8.8e-05, "<0.001 s"),
        (0.236, "0.24 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (75, "1 min 15 s"),
        (3600, "1 h 00 min"),
        (90061, "25 h 01 min"),
    ],
)
def test_a_duration_reads_as_people_say_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_score_is_percent_for_accuracies_and_four_digits_for_all_else() -> None:
    assert format_metric(0.98312, "val_accuracy") == format_metric(0.98312, "accuracy") == "98.31%"
    assert format_metric(0.0712345, "val_loss") == "0.07123"
    prices = [format_metric(value, "val_mae") for value in (32_419.6, -32_419.6, 3.2e9, 3.2e-5)]
    assert prices == ["32420", "-32420", "3.2e+09", "3.2e-05"]
    assert MetricFormat("mae", "test", higher=False).amount(-22_912.0) == "22900"
    assert [format_metric(value, "val_loss") for value in (None, float("inf"))] == ["none", "inf"]


@pytest.mark.parametrize("metric", ["val_loss", "val loss", "val/loss", "validation_loss", "Valid loss"])
def test_a_validation_metric_reads_alike_however_it_is_spelt(metric: str) -> None:
    assert metric_label(metric) == "validation loss"
    assert MetricFormat(metric, "test", higher=False).measure == "test loss"


def test_a_name_that_only_begins_alike_is_kept() -> None:
    assert [metric_label(name) for name in ("value", "val", "val_", "valley_depth", "f1_val")] == [
        "value", "val", "val ", "valley depth", "f1 val"
    ]  # fmt: skip


def test_settings_and_words_are_listed() -> None:
    assert settings({"lr": 0.00527614, "hidden": (128, 64), "name": "a"}) == "lr=0.005276, hidden=128-64, name=a"
    assert settings({"momentum": 0.99995}) == "momentum=0.99995"  # not 1, which may be another choice
    assert settings({}) == "fixed settings"
    assert [conjunction(["a", "b", "c"][:count]) for count in range(4)] == ["", "a", "a and b", "a, b and c"]
