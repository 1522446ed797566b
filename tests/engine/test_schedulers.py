"""Hyperband, the median rule and patience, counted by hand; all rebuilt from what the record holds."""

import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from rungwise.engine.schedulers.per_arm import Rungs
from rungwise.engine.schedulers.rules import Asha, Hyperband, Ladder, Median, Patience

STOP, GO = TrialScheduler.STOP, TrialScheduler.CONTINUE


def ladder(scheduler: str, patience: int | None = None, grace: int = 1) -> Ladder:
    return Ladder(budget=8, grace=grace, eta=2.0, reports_per_epoch=1, scheduler=scheduler, patience=patience)


@pytest.mark.parametrize("eta", [1.5, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("mode", ["max", "min"])
def test_asha_is_rays_to_the_bit_of_a_cutoff(eta: float, mode: str) -> None:
    """Where nobody's score is NaN, and trials report one at a time."""
    draw = random.Random(1)
    ours = Asha(Ladder(budget=8, grace=1, eta=eta, reports_per_epoch=1), 1, mode)
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
        verdict, decision = ours.judge(number, steps[number], value)
        assert verdict == rays.on_trial_result(None, trial, {"step": steps[number], "value": value})
        if seen:
            sign = 1 if mode == "max" else -1  # Ray keeps what falls with its sign turned
            assert decision.cutoff == sign * np.nanpercentile(seen, (1 - 1 / eta) * 100)


def test_those_that_stand_beside_count_and_leave_no_trace() -> None:
    draw, asha = random.Random(2), Asha(Ladder(budget=8, grace=1, eta=2.0, reports_per_epoch=1), 1, "max")
    scores: list[float] = []
    for first in range(0, 400, 4):
        cohort = [(number, 1, draw.choice([0.25, 0.5, 0.75])) for number in range(first, first + 4)]  # nearly all tie
        together = scores + [value for _, _, value in cohort]
        for index, (number, step, value) in enumerate(cohort):
            _, decision = asha.judge(number, step, value, cohort[index + 1 :])
            others = [*together[: len(scores) + index], *together[len(scores) + index + 1 :]]
            assert decision.cutoff == (np.median(others))
        scores = together


def test_the_median_rule_stops_whose_best_is_below_the_median_of_the_others_means() -> None:
    rule = Median(ladder("median"), "max")
    for number, values in enumerate([(0.2, 0.4), (0.5, 0.7), (0.6, 0.8)], 1):  # means after 2: 0.3, 0.6, 0.7
        for step, value in enumerate(values, 1):
            verdict, decision = rule.judge(number, step, value)
            assert verdict == GO
            assert decision is None  # at most two others
    verdict, decision = rule.judge(4, 1, 0.55)  # means after 1: 0.2, 0.5, 0.6
    assert (verdict, decision.cutoff, decision.stopped) == (GO, 0.5, False)
    verdict, decision = rule.judge(4, 2, 0.5)  # its best is 0.55
    assert verdict == STOP
    assert (decision.rung, decision.cutoff) == (2.0, pytest.approx(0.6))
    assert rule.judge(5, 1, None)[0] == STOP


def test_the_median_rule_minimises_too_and_waits_for_its_grace() -> None:
    rule = Median(ladder("median", grace=2), "min")
    for number in (1, 2, 3):
        for step in (1, 2):
            rule.judge(number, step, 0.5)
    assert rule.judge(4, 1, 9.0)[0] == GO
    assert rule.judge(4, 2, 0.75)[0] == STOP
    assert rule.judge(5, 2, 0.25)[0] == GO


def test_patience_stops_a_trial_that_has_not_become_better_for_so_long() -> None:
    rule = Patience(ladder("none", patience=2), "max")
    told = [rule.judge(1, step, value) for step, value in enumerate([0.5, 0.75, 0.7, 0.75], 1)]
    assert [verdict for verdict, _ in told] == [GO, GO, GO, STOP]
    assert told[-1][1].why == "not better than 0.75 for 2 epochs"
    rising = [rule.judge(2, step, step / 10)[0] for step in range(1, 9)]
    assert rising == [GO] * 8
    last = [rule.judge(3, step, 0.5)[0] for step in (1, 8)]  # at the budget a trial is complete
    assert last == [GO, GO]


def test_patience_works_beside_any_scheduler_and_loss_falls() -> None:
    rungs = Rungs(["a"], ladder("none", patience=1), "min")
    assert [rungs.judge("a", 1, step, value) for step, value in enumerate([0.5, 0.25, 0.3], 1)] == [GO, GO, STOP]
    assert rungs.take_decision(1).why == "not better than 0.25 for 1 epochs"
    rungs = Rungs(["a"], ladder("asha", patience=3), "max")
    assert rungs.judge("a", 1, 1, 0.9) == GO
    assert rungs.judge("a", 2, 1, 0.1) == STOP  # by the rung
    assert rungs.take_decision(2).cutoff == 0.9


def test_hyperbands_brackets_begin_at_every_rung_and_get_equal_training() -> None:
    band = Hyperband(ladder("hyperband"), "max")
    stopped_first: Counter[int] = Counter()
    for number in range(1, 801):
        for step in range(1, 9):
            _, decision = band.judge(number, step, 1000.0 - number)  # ever worse: stopped at its first rung
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
    whole, first, second = (Rungs(["a"], ladder(scheduler), "max") for _ in range(3))
    stopped: set[int] = set()
    verdicts = []
    for number, step in told:
        if number not in stopped:
            verdicts.append((number, step, whole.judge("a", number, step, scores(number, step))))
            if verdicts[-1][2] == STOP:
                stopped.add(number)
    assert stopped
    half = len(verdicts) // 2
    assert [first.judge("a", n, s, scores(n, s)) for n, s, _ in verdicts[:half]] == [v for _, _, v in verdicts[:half]]
    for n, s, _ in verdicts[:half]:
        second.judge("a", n, s, scores(n, s))
    assert [second.judge("a", n, s, scores(n, s)) for n, s, _ in verdicts[half:]] == [v for _, _, v in verdicts[half:]]


@pytest.mark.parametrize("eta", [1.1, 1.3, 1.49])
def test_a_report_that_comes_again_enters_no_rung_that_the_trial_has_passed(eta: float) -> None:
    """Where rungs lie nearer to each other than reports, a trial skips some; a second attempt repeats its report."""
    once, again = (Asha(Ladder(9, 1, eta, 1), 1, "max") for _ in range(2))
    for number in range(1, 9):
        for step in range(1, 9):
            score = 0.5 + 0.01 * number + 0.1 * step
            verdict = once.judge(number, step, score)
            assert again.judge(number, step, score) == verdict
            if step in (3, 5):
                assert again.judge(number, step, score) == ("CONTINUE", None)
            if verdict[0] == STOP:
                break
    assert [dict(seen) for _, seen in again._brackets[0]._rungs] == [dict(seen) for _, seen in once._brackets[0]._rungs]
