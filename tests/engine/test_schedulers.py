"""Hyperband, the median rule and patience, counted by hand; all rebuilt from what the record holds."""

import random
from collections import Counter
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler

from rungwise.engine.schedulers.asha import Asha
from rungwise.engine.schedulers.base import CONTINUE, PendingReport, RungSchedule
from rungwise.engine.schedulers.hyperband import Hyperband
from rungwise.engine.schedulers.median import Median
from rungwise.engine.schedulers.patience import Patience
from rungwise.engine.schedulers.per_arm import Rungs

STOP, GO = TrialScheduler.STOP, TrialScheduler.CONTINUE


class TrialKey(NamedTuple):
    """What Ray's rules look at in a trial; hashable."""

    trial_id: str


def schedule(scheduler: str, patience: int | None = None, grace: int = 1) -> RungSchedule:
    return RungSchedule(budget=8, grace=grace, eta=2.0, reports_per_epoch=1, scheduler=scheduler, patience=patience)


@pytest.mark.parametrize("eta", [1.5, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("mode", ["max", "min"])
def test_asha_is_rays_to_the_bit_of_a_cutoff(eta: float, mode: str) -> None:
    """Where nobody's score is NaN, and trials report one at a time."""
    draw = random.Random(1)
    ours = Asha(RungSchedule(budget=8, grace=1, eta=eta, reports_per_epoch=1), 1, mode)
    rays = AsyncHyperBandScheduler(
        time_attr="step", metric="value", mode=mode, max_t=8, grace_period=1, reduction_factor=eta
    )
    steps: Counter[int] = Counter()
    for _ in range(1500):
        number = draw.randrange(300)
        steps[number] += 1
        if steps[number] >= 8:
            continue
        trial, value = SimpleNamespace(trial_id=str(number)), round(draw.random(), draw.choice([2, 17]))  # with ties
        if steps[number] == 1:
            rays.on_trial_add(None, trial)
        rungs = rays._trial_info[str(number)]._rungs  # the highest first
        seen = next((list(s.values()) for m, s in rungs if steps[number] >= m and str(number) not in s), [])
        verdict, decision = ours.on_report(number, steps[number], value)
        assert (STOP if verdict else GO) == rays.on_trial_result(None, trial, {"step": steps[number], "value": value})
        if seen:
            sign = 1 if mode == "max" else -1  # Ray keeps what falls with its sign turned
            assert decision.cutoff == sign * np.nanpercentile(seen, (1 - 1 / eta) * 100)


def test_those_that_stand_beside_count_and_leave_no_trace() -> None:
    draw, asha = random.Random(2), Asha(RungSchedule(budget=8, grace=1, eta=2.0, reports_per_epoch=1), 1, "max")
    scores: list[float] = []
    for first in range(0, 400, 4):
        cohort = [
            PendingReport(number, 1, draw.choice([0.25, 0.5, 0.75])) for number in range(first, first + 4)
        ]  # nearly all tie
        together = scores + [value for _, _, value in cohort]
        for index, (number, step, value) in enumerate(cohort):
            _, decision = asha.on_report(number, step, value, cohort[index + 1 :])
            others = [*together[: len(scores) + index], *together[len(scores) + index + 1 :]]
            assert decision.cutoff == (np.median(others))
        scores = together


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_median_rule_is_rays(mode: str) -> None:
    draw = random.Random(3)
    ours = Median(RungSchedule(budget=8, grace=2, eta=2.0, reports_per_epoch=1, scheduler="median"), mode)
    rays = MedianStoppingRule(time_attr="step", metric="value", mode=mode, grace_period=2, min_time_slice=float("inf"))
    steps: Counter[int] = Counter()
    stopped: set[int] = set()
    keys = [TrialKey(str(number)) for number in range(400)]
    for _ in range(3000):
        trial = draw.randrange(400)
        steps[trial] += 1
        if trial in stopped or steps[trial] >= 8:
            continue
        value = draw.random() + 0.01 * steps[trial]
        verdict = rays.on_trial_result(None, keys[trial], {"step": steps[trial], "value": value})
        assert ours.on_report(trial, steps[trial], value).stop == (verdict == STOP)
        if verdict == STOP:
            stopped.add(trial)
    assert 20 < len(stopped) < 380


def test_the_median_rule_stops_whose_best_is_below_the_median_of_the_others_means() -> None:
    rule = Median(schedule("median"), "max")
    for number, values in enumerate([(0.2, 0.4), (0.5, 0.7), (0.6, 0.8)], 1):  # means after 2: 0.3, 0.6, 0.7
        for step, value in enumerate(values, 1):
            verdict, decision = rule.on_report(number, step, value)
            assert not verdict
            assert decision is None  # at most two others
    verdict, decision = rule.on_report(4, 1, 0.55)  # means after 1: 0.2, 0.5, 0.6
    assert (verdict, decision.cutoff, decision.stopped) == (False, 0.5, False)
    verdict, decision = rule.on_report(4, 2, 0.5)  # its best is 0.55
    assert verdict
    assert (decision.rung, decision.cutoff) == (2.0, pytest.approx(0.6))
    assert rule.on_report(5, 1, None).stop


def test_the_median_rule_minimises_too_and_waits_for_its_grace() -> None:
    rule = Median(schedule("median", grace=2), "min")
    for number in (1, 2, 3):
        for step in (1, 2):
            rule.on_report(number, step, 0.5)
    assert not rule.on_report(4, 1, 9.0).stop
    assert rule.on_report(4, 2, 0.75).stop
    assert not rule.on_report(5, 2, 0.25).stop


def test_patience_stops_a_trial_that_has_not_become_better_for_so_long() -> None:
    rule = Patience(schedule("none", patience=2), "max")
    told = [rule.on_report(1, step, value) for step, value in enumerate([0.5, 0.75, 0.7, 0.75], 1)]
    assert [verdict.stop for verdict in told] == [False, False, False, True]
    assert told[-1].decision.why == "not better than 0.75 for 2 epochs"
    assert not any(rule.on_report(2, step, step / 10).stop for step in range(1, 9))
    assert not any(rule.on_report(3, step, 0.5).stop for step in (1, 8))  # at the budget a trial is complete


def test_patience_works_beside_any_scheduler_and_loss_falls() -> None:
    rungs = Rungs([("a", 1)], schedule("none", patience=1), "min")
    assert [rungs.judge(("a", 1), 1, step, value) for step, value in enumerate([0.5, 0.25, 0.3], 1)] == [GO, GO, STOP]
    assert rungs.take_decision(1).why == "not better than 0.25 for 1 epochs"
    rungs = Rungs([("a", 1)], schedule("asha", patience=3), "max")
    assert rungs.judge(("a", 1), 1, 1, 0.9) == GO
    assert rungs.judge(("a", 1), 2, 1, 0.1) == STOP  # by the rung
    assert rungs.take_decision(2).cutoff == 0.9


def test_hyperbands_brackets_begin_at_every_rung_and_get_equal_training() -> None:
    band = Hyperband(schedule("hyperband"), "max")
    stopped_first: Counter[int] = Counter()
    for number in range(1, 801):
        for step in range(1, 9):
            _, decision = band.on_report(number, step, 1000.0 - number)  # ever worse: stopped at its first rung
            if decision is not None or step == 8:
                stopped_first[step] += 1
                break
    # Brackets from rung 1, 2, 4 and 8 (nobody stopped), in proportion 2^3/4 : 2^2/3 : 2/2 : 1.
    shares = {1: 2.0, 2: 4 / 3, 4: 1.0, 8: 1.0}
    for step, share in shares.items():
        expected = 800 * share / sum(shares.values())
        assert abs(stopped_first[step] - expected) < 5 * expected**0.5


@pytest.mark.parametrize("scheduler", ["hyperband", "median"])
def test_a_scheduler_rebuilt_half_way_decides_as_one_that_saw_all(scheduler: str) -> None:
    def scores(number: int, step: int) -> float:
        return (number * 37 % 11) / 11 + step / 100

    told = [(number, step) for number in range(1, 40) for step in range(1, 9)]
    whole, first, second = (Rungs([("a", 1)], schedule(scheduler), "max") for _ in range(3))
    stopped: set[int] = set()
    verdicts = []
    for number, step in told:
        if number not in stopped:
            verdicts.append((number, step, whole.judge(("a", 1), number, step, scores(number, step))))
            if verdicts[-1][2] == STOP:
                stopped.add(number)
    assert stopped
    half = len(verdicts) // 2
    assert [first.judge(("a", 1), n, s, scores(n, s)) for n, s, _ in verdicts[:half]] == [
        v for _, _, v in verdicts[:half]
    ]
    for n, s, _ in verdicts[:half]:
        second.judge(("a", 1), n, s, scores(n, s))
    assert [second.judge(("a", 1), n, s, scores(n, s)) for n, s, _ in verdicts[half:]] == [
        v for _, _, v in verdicts[half:]
    ]


@pytest.mark.parametrize("eta", [1.1, 1.3, 1.49])
def test_a_report_that_comes_again_enters_no_rung_that_the_trial_has_passed(eta: float) -> None:
    """Where rungs lie nearer to each other than reports, a trial skips some; a second attempt repeats its report."""
    once, again = (Asha(RungSchedule(9, 1, eta, 1), 1, "max") for _ in range(2))
    for number in range(1, 9):
        for step in range(1, 9):
            score = 0.5 + 0.01 * number + 0.1 * step
            verdict = once.on_report(number, step, score)
            assert again.on_report(number, step, score) == verdict
            if step in (3, 5):
                assert again.on_report(number, step, score) == CONTINUE
            if verdict.stop:
                break
    assert [rung.scores for rung in again.rungs] == [rung.scores for rung in once.rungs]
