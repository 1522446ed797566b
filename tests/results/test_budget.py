"""Effect against budget: the expected best after n trials, who is ahead where, and what the page says of it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support import demo
from support.confirmed import sweep

from rungwise.results.analysis.answer import answer
from rungwise.results.analysis.budget.curves import BudgetCurve, expected_best, pooled_values, read_budget_curves
from rungwise.results.analysis.findings import BudgetDecides
from rungwise.results.analysis.statistics import estimate
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.results.report.report import render

ARMS: dict[str, Any] = {"no L2": {"l2": 0.0}, "L2": {}}
EARLY = (0.970, 0.971, 0.972, 0.973, 0.974)  # best of each search with the first trial
LATE = (0.980, 0.981, 0.982, 0.983, 0.984)


def searched(folder: Path, arms: Mapping[str, Sequence[Sequence[float]]], **changed: Any) -> Path:
    """A sweep whose searches reported these values, one epoch a trial; the searches of all arms take turns."""
    searches = max(map(len, arms.values()))
    data = demo.DEFINITION["data"] | {"validation": 10_000}
    made = sweep(folder, arms=ARMS, searches=searches, trials=8, order="fixed", data=data, **changed)
    longest = max(len(told) for some in arms.values() for told in some)
    for place, search in itertools.product(range(longest), range(searches)):
        for arm, some in arms.items():
            if search < len(some) and place < len(some[search]):
                made.search(arm, some[search][place], search=search + 1)
    made.record.close()
    return folder


def curves_of(folder: Path) -> dict[str, BudgetCurve]:
    with Reader(folder) as reader:
        return {curve.arm: curve for curve in read_budget_curves(reader)}


def decisions_of(folder: Path) -> list[BudgetDecides]:
    with Reader(folder) as reader:
        return [note for note in answer(reader).notes if isinstance(note, BudgetDecides)]


def crossing(folder: Path, **changed: Any) -> Path:
    """No L2 is ahead with one and two trials, L2 from the fourth on; with three they are alike."""
    low, high = EARLY, LATE
    control = [[value + 0.02, 0.5, 0.5, 0.5, 0.5] for value in low]  # 0.990 to 0.994, at once
    other = [[value, value, value + 0.01, value + 0.02, 0.5] for value in high]  # 0.98, 0.99, 1.00
    return searched(folder, {"no L2": control, "L2": other}, **changed)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("count", [1, 2, 4, 6])
def test_the_expected_best_is_the_mean_over_all_choices_of_trials(count: int, sign: float) -> None:
    values = [0.3, 0.9, 0.1, 0.5, 0.5, 0.7]
    best = max if sign > 0 else min
    assert expected_best(values, count, sign) == pytest.approx(
        np.mean([best(some) for some in itertools.combinations(values, count)])
    )


def test_a_point_is_the_mean_best_over_searches_with_its_t_interval(tmp_path: Path) -> None:
    one, other = [0.90, 0.94, 0.92], [0.91, 0.90, 0.98]
    curve = curves_of(searched(tmp_path / "run", {"no L2": [one, other], "L2": [one]}))["no L2"]
    assert [point.values for point in curve.points] == [(0.90, 0.91), (0.94, 0.91), (0.94, 0.98)]
    assert [point.epochs for point in curve.points] == [1, 2, 3]
    low, high = stats.t.interval(0.95, 1, 0.96, stats.sem([0.94, 0.98]))
    last = curve.points[-1].expected
    assert (last.mean, last.n) == (pytest.approx(0.96), 2)
    assert last.low is not None
    assert last.low < low or last.low == pytest.approx(low)
    assert last.high is not None
    assert last.high <= high < last.high + 0.3  # cut at 1 on the logistic scale


def test_a_trial_without_a_score_was_paid_for_and_counts_as_the_worst(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run", arms=ARMS, searches=2, trials=3)
    made.search("no L2", 0.99, state=State.DIVERGED, search=1)
    for value, search in ((0.8, 2), (0.9, 1), (0.7, 2)):
        made.search("no L2", value, search=search)
    made.search("no L2", 0.999, state=State.RUNNING, search=1)  # has not ended
    made.record.close()
    curve = curves_of(tmp_path / "run")["no L2"]
    assert [point.values for point in curve.points] == [(0.7, 0.8), (0.9, 0.8)]


def test_random_searches_are_pooled_and_their_spread_is_the_jackknifes(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    scores = draw.normal(0.9, 0.01, (5, 8))
    curve = curves_of(searched(tmp_path / "run", {"no L2": scores.tolist()}, sampler="random"))["no L2"]
    assert curve.pooled
    assert [point.trials for point in curve.points] == list(range(1, 21))  # half of the 40 that are pooled
    for point in curve.points[::6]:
        assert point.expected.mean == pytest.approx(expected_best(scores.ravel(), point.trials))
    mean = curve.points[0].expected  # of one trial: a plain mean of all, whose jackknife by search is that of 5 means
    assert mean.sd == pytest.approx(scores.mean(axis=1).std(ddof=1))


def test_the_pooled_band_holds_the_expected_best_of_random_search() -> None:
    """Of 8 trials from a normal distribution, whose expected best is known: 1.4236 standard deviations."""
    draw, truth, held = np.random.default_rng(1), 1.4236, 0
    for _ in range(400):
        band = estimate(pooled_values(draw.normal(size=(5, 16)), 8, 1.0))
        assert band.low is not None
        assert band.high is not None
        held += band.low <= truth <= band.high
    assert held >= 0.91 * 400


def test_where_curves_cross_beyond_chance_the_answer_depends_on_the_budget(tmp_path: Path) -> None:
    folder = crossing(tmp_path / "run")
    assert decisions_of(folder) == [BudgetDecides("no L2", 2, "L2", 4)]
    said = "Up to 2 trials no L2 is ahead, from 4 on L2: the answer depends on the budget"
    with Reader(folder) as reader:
        assert any(text.startswith(said) for text in answer(reader).note_texts)
    page = re.sub(r"</?a\b[^>]*>", "", render(folder))  # terms are links
    assert page.count(said) == 3  # among the notes, and twice with the figure: in its text, and for a screen reader
    assert '"budget"' in page


def test_less_may_be_better(tmp_path: Path) -> None:
    changed = {"metric": "val_loss", "mode": "min"}
    control = [[0.1 + value, 0.9] for value in EARLY]
    other = [[value + 0.2, value - 0.2] for value in EARLY]
    made = sweep(tmp_path / "run", arms=ARMS, searches=5, trials=2, **changed)
    for place, search in itertools.product(range(2), range(5)):
        made.search("no L2", control[search][place], metric="val_loss", search=search + 1)
        made.search("L2", other[search][place], metric="val_loss", search=search + 1)
    made.record.close()
    assert decisions_of(tmp_path / "run") == [BudgetDecides("no L2", 1, "L2", 2)]


def test_curves_that_cross_by_chance_decide_nothing(tmp_path: Path) -> None:
    control = [[0.970, 0.980], [0.976, 0.979], [0.971, 0.985], [0.974, 0.983]]
    other = [[0.972, 0.979], [0.969, 0.984], [0.975, 0.981], [0.972, 0.980]]
    folder = searched(tmp_path / "run", {"no L2": control, "L2": other})
    assert decisions_of(folder) == []
    assert "With no number of trials up to 2 are L2 and no L2 apart beyond chance." in render(folder)


def test_an_arm_that_is_ahead_with_every_budget_is_named_without_a_note(tmp_path: Path) -> None:
    control, other = [[value, value] for value in EARLY], [[value, value] for value in LATE]
    folder = searched(tmp_path / "run", {"no L2": control, "L2": other})
    assert decisions_of(folder) == []
    assert "L2 is ahead of no L2 with 1 to 2 trials, beyond chance." in render(folder)


def test_three_searches_tell_nothing_and_one_search_has_no_figure(tmp_path: Path) -> None:
    three = searched(tmp_path / "three", {"no L2": [[0.9, 0.95]] * 3, "L2": [[0.91, 0.92]] * 3})
    assert decisions_of(three) == []
    assert "Best validation accuracy to expect." in render(three)
    one = searched(tmp_path / "one", {"no L2": [[0.9, 0.95]], "L2": [[0.91, 0.92]]})
    assert "accuracy to expect" not in render(one)
