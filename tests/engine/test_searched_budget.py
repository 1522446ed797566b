"""A search over `epochs`: a trial's budget is its own, and rungs compare trials at equal epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.loop import Loop

from rungwise import CategoricalDistribution, FloatDistribution, IntDistribution, Sweep
from rungwise.engine.experiment.experiment import resolve
from rungwise.engine.search.reruns import best_of, repeats
from rungwise.engine.validation.hyperparameters import problems
from rungwise.results.record.reader import Reader
from rungwise.trainable.messages import StudyKey, TrialEnd

SWEEP = Sweep("budgets", {"epochs": IntDistribution(1, 4)}, scheduler="none", epochs=4, confirm_configs=1)


@pytest.mark.parametrize(
    ("budgets", "says"),
    [
        (IntDistribution(1, 4), []),
        (CategoricalDistribution([2, 4]), []),
        (IntDistribution(1, 5), ["a searched budget must be at most --epochs 4, but goes up to 5"]),
        (IntDistribution(0, 4), ["a searched budget must be whole numbers of epochs from 1 up; say IntDistribution"]),
        (FloatDistribution(1, 4), ["a searched budget must be whole numbers of epochs from 1 up; say IntDistribution"]),
    ],
)
def test_a_budget_that_can_be_searched(budgets: Any, says: list[str]) -> None:
    found = problems(resolve(Sweep("budgets", {"epochs": budgets}, epochs=4)))
    assert [line for line in found if "budget" in line] == says
    assert bool(found) == bool(says)


def test_a_trial_trains_for_its_own_budget_and_a_short_one_may_be_the_best(tmp_path: Path) -> None:
    loop = Loop(tmp_path, SWEEP, trials=6)
    budgets = {}
    for _ in range(6):
        trial: Any = loop.deal()
        budget = budgets[trial.config["trial"]] = trial.config["config"]["epochs"]
        for step in range(1, budget + 1):
            state = {"state": TrialEnd.COMPLETED} if step == budget else {}
            loop.report(trial, 1 / budget, step, **state)
    assert len(set(budgets.values())) > 1
    loop.record.commit()
    with Reader(tmp_path) as reader:
        searched, curves = reader.trials("search"), reader.curves()
    experiment = resolve(SWEEP)
    best, *_ = best_of(StudyKey("all"), searched, curves, experiment)
    assert budgets[best.trial] == min(budgets.values())
    assert best_of(StudyKey("all"), searched, curves, experiment, {best.trial})[-1] == best  # of a replaced network
    again = repeats(resolve(Sweep("budgets", SWEEP.space, epochs=4, trials=6, confirm_configs=1)), searched, curves)
    assert {repeat.config["epochs"] for repeat in again} == {min(budgets.values())}
