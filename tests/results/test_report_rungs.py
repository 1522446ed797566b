"""Rank correlation of the rungs with the end, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import demo, showcase

from rungwise.results.record.types import State
from rungwise.results.report.plots.rungs import correlate_rungs, foresight_text, plot_rungs
from rungwise.results.report.snapshot import FrozenReader, Snapshot, read

ORDERS = {  # trial -> scores at 1, 3 and 4 epochs
    1: (0.1, 0.50, 0.9),
    2: (0.2, 0.40, 0.8),
    3: (0.3, 0.30, 0.7),
    4: (0.4, 0.20, 0.6),
    5: (0.5, 0.45, 0.85),
}


def snapshot(run: Path) -> Snapshot:
    with FrozenReader(run) as reader:
        return read(reader)


def sweep(folder: Path, orders: dict[int, tuple[float, ...]]) -> Snapshot:
    record, _ = demo.begin(folder)
    for number, (first, third, last) in orders.items():
        demo.add(record, number)
        demo.attempt(record, number, first, (first + third) / 2, third, last)
        record.end_trial(number, State.COMPLETED)
    demo.add(record, 99)
    demo.attempt(record, 99, 0.05)
    record.end_trial(99, State.STOPPED)  # it reached the first rung only
    record.close()
    return snapshot(folder)


def test_each_rung_is_compared_with_the_last_over_trials_that_reached_both(tmp_path: Path) -> None:
    now = sweep(tmp_path / "run", ORDERS)
    first, third = correlate_rungs(now.search, now.rungs)
    # ranks at the first rung 1 2 3 4 5, at the end 5 3 2 1 4: differences 4 1 1 3 1, rho = 1 - 6 * 28 / (5 * 24)
    assert (first.rung, first.n, first.rho) == (1, 5, pytest.approx(-0.4))
    assert (third.rung, third.n, third.rho) == (3, 5, pytest.approx(1.0))


def test_one_sentence_says_whether_an_early_rung_is_predictive(tmp_path: Path) -> None:
    now = sweep(tmp_path / "few", ORDERS)
    text = foresight_text(correlate_rungs(now.search, now.rungs), 4)
    assert text == (
        "The order of trials after 1 epoch agrees with the one after 4 epochs with a rank correlation of -0.40 (n=5): "
        "with so few trials it cannot be told whether this rung is predictive."
    )
    rising = {number: (number / 40, number / 30, number / 20) for number in range(1, 13)}
    swapped = rising | {1: rising[2], 2: rising[1]}
    swapped[1] = (swapped[1][0], *rising[1][1:])
    now = sweep(tmp_path / "more", swapped)
    assert ": it is predictive." in foresight_text(correlate_rungs(now.search, now.rungs), 4)


def test_too_few_trials_have_no_correlation_and_no_figure(tmp_path: Path) -> None:
    now = sweep(tmp_path / "run", {number: ORDERS[number] for number in (1, 2, 3)})
    assert [one.rho for one in correlate_rungs(now.search, now.rungs)] == [None, None]
    assert plot_rungs(now) is None
    assert plot_rungs(snapshot(showcase.one(tmp_path / "one"))) is None


def test_the_figure_shows_what_was_computed(tmp_path: Path) -> None:
    now = snapshot(showcase.sweep(tmp_path / "run", 300))
    drawn = plot_rungs(now)
    assert drawn is not None
    (dots,) = drawn.views[0].data
    found = correlate_rungs(now.search, now.rungs)
    assert dots["x"] == [one.rho for one in found]
    assert [label.partition("n=")[2] for label in dots["y"]] == [f"{one.n})" for one in found]
    for rho, above, below in zip(dots["x"], dots["error_x"]["array"], dots["error_x"]["arrayminus"], strict=True):
        assert -1 <= rho - below < rho < rho + above <= 1
