"""Simulated sweeps of mnist_l2 whose truth is known: how often the answer errs, how often it sees a gain that was
planted, and how often two sweeps that differ by their seed agree.

    python benchmarks/simulate.py --aa 200 --pairs 40
    python benchmarks/simulate.py --pairs 120 --until-sure 12 --gain 0.18    # adds searches until sure

What is real: the studies (Optuna's TPE, seeded as in a sweep), the rungs (ASHA), the choice of each search's winner,
and the answer. What is not: a trial is drawn from `curves/surrogate_l2.py`, and what a confirmed model scores on each
of 10,000 test samples is drawn as in `calibrate.py`, around the accuracy that its configuration has on average. Both
arms are `sweeps/mnist_l2.py`'s arm "L2", with its space, trials and epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from calibrate import SEED_SD, Search, SyntheticRecord, SyntheticSplit, shift_for, slope
from curves.measure_l2 import main_job
from curves.surrogate_l2 import landscape
from ray.tune.schedulers import TrialScheduler

from rungwise.engine.experiment.experiment import Experiment, resolve
from rungwise.engine.experiment.flags import default_options
from rungwise.engine.schedulers.per_arm import Rungs, rung_schedule
from rungwise.engine.search.arm_study import ArmStudy, sampler_factory
from rungwise.engine.search.seeds import derived_seed
from rungwise.results.analysis.answer import Answer, answer
from rungwise.results.analysis.findings import BudgetDecides, Verdict
from rungwise.trainable.messages import StudyKey, TrialEnd, TrialResult

ARMS = ("one", "other")
SEARCHES, SEEDS, SAMPLES = 5, 2, 10_000  # of each arm; of each search's winner; of the test split
WORTH = 0.0009  # the default: 5% of the control's error, to one digit
PLANTED = 0.002  # more than twice that
MOST_FALSE, LEAST_SEEN = 0.08, 0.8  # 16 of 200: the upper 95% limit of 5%


Searched = tuple[list[list[float]], int, dict[str, Any]]  # curves of trials; the winner's index, its configuration


@dataclass(frozen=True)
class Effort:
    """What a sweep spends on each arm, and the difference that it looks for."""

    searches: int = SEARCHES
    trials: int | None = None  # of each search; None: the main job's
    seeds: int = SEEDS  # fresh ones, on which each search's winner is confirmed
    until_sure: int = 0  # searches are added to both arms until the answer is sure, up to so many; 0: none are
    worth: float = WORTH  # the smallest difference that is worth having


DEFAULT = Effort()


@dataclass(frozen=True)
class Simulated:
    """What one sweep said."""

    verdict: Verdict
    difference: float
    half_width: float
    truths: tuple[tuple[float, ...], ...]  # of each arm: the test accuracy that each search's winner has on average
    budget_decides: bool  # whether it says that the answer depends on the budget
    searches: int  # of each arm, with those that were added
    epochs: int  # of both arms' trials and confirmations


def simulated(seed: int, planted: float = 0.0, effort: Effort = DEFAULT) -> Simulated:
    """One sweep, whose second arm is better by `planted`."""
    found, truths = simulated_answer(seed, planted, effort)
    (comparison,) = found.comparisons
    said = comparison.difference
    assert said is not None
    assert said.low is not None
    assert said.high is not None
    depends = any(isinstance(note, BudgetDecides) for note in found.notes)
    epochs = sum(arm.epochs for arm in found.arms) + len(ARMS) * said.n * effort.seeds * main_job().epochs
    return Simulated(comparison.verdict, said.mean, (said.high - said.low) / 2, truths, depends, said.n, epochs)


def simulated_answer(seed: int, planted: float, effort: Effort) -> tuple[Answer, tuple[tuple[float, ...], ...]]:
    """The whole answer, and the true accuracies of the winners of each arm."""
    found: dict[str, list[Search]] = {arm: [] for arm in ARMS}
    truths: dict[str, list[float]] = {arm: [] for arm in ARMS}
    split = SyntheticSplit(SAMPLES, np.random.default_rng(derived_seed(seed, "samples")))
    while True:
        number = len(found[ARMS[0]]) + 1
        for study in (StudyKey(arm, number) for arm in ARMS):
            curves, winner, config = searched(seed, study, effort.trials)
            gain = planted if study.arm == ARMS[1] else 0.0
            draw = np.random.default_rng(derived_seed(seed, "test", *study))
            models = []
            for each in range(effort.seeds):
                training = landscape().draw(config, derived_seed(seed, "confirm", *study, each))
                shift = shift_for(training.truth + gain) + draw.normal(0, SEED_SD / 100 / slope())
                models.append((float(training.accuracy[-1]) + gain, split.right(study.arm, shift)))
            truths[study.arm].append(training.truth + gain)
            found[study.arm].append(Search(models, [[value + gain for value in curve] for curve in curves], winner))
        if number < effort.searches:
            continue
        record: Any = SyntheticRecord(SAMPLES, effort.worth, found, effort.until_sure)
        said = answer(record)
        is_sure = all(one.verdict is not Verdict.CANNOT_TELL for one in said.comparisons)
        if is_sure or number >= effort.until_sure:  # as `engine.worth.add_search` decides
            return said, tuple(tuple(some) for some in truths.values())


@lru_cache(maxsize=64)
def searched(seed: int, study: StudyKey, trials: int | None) -> Searched:
    """What a search of a sweep finds, without a gain: TPE and ASHA compare ranks, which a gain for all trials of an
    arm does not change."""
    experiment = experiment_of(seed, trials)
    return search(experiment, study, Rungs([study], rung_schedule(experiment), "max"))


@lru_cache(maxsize=1)
def experiment_of(seed: int, trials: int | None) -> Experiment:
    """The sweep; its searches do not depend on how many there are."""
    sweep = main_job()
    arms: dict[str, dict[str, Any]] = {arm: {} for arm in ARMS}
    sweep = replace(sweep, arms=arms, trials=trials or sweep.trials, searches=SEARCHES)
    return resolve(sweep, replace(default_options(sweep), seed=seed))


def search(experiment: Experiment, key: StudyKey, rungs: Rungs) -> Searched:
    """One search, whose winner is the best trial of those trained longest."""
    study = ArmStudy(experiment, key, sampler_factory(experiment, key))
    curves, configs = list[list[float]](), list[dict[str, Any]]()
    for place in range(1, experiment.trials + 1):
        name, number = str(place), 1000 * key.search + place
        config = study.ask(name, place).config
        training = landscape().draw(config, derived_seed(experiment.seed, "luck", *key, place))
        curve: list[float] = []
        for step in range(1, experiment.epochs + 1):
            curve.append(float(training.accuracy[step - 1]))
            result = TrialResult(number, step=step, objective=curve[-1])
            if step == experiment.epochs:
                study.complete(name, replace(result, state=TrialEnd.COMPLETED))
            elif rungs.judge(key, number, step, curve[-1]) == TrialScheduler.STOP:
                study.complete(name, result)
                break
            else:
                study.report(name, result)
        curves.append(curve)
        configs.append(config)
    winner = max(range(len(curves)), key=lambda index: (len(curves[index]), curves[index][-1]))
    return curves, winner, configs[winner]


def outcomes(seed: int, effort: Effort, gain: float) -> dict[float, Simulated]:
    """{planted gain: what is said} of one sweep."""
    return {planted: simulated(seed, planted, effort) for planted in (0.0, gain)}


def compare(sweeps: int, pairs: int, processes: int, effort: Effort, gain: float = PLANTED) -> int:
    """Say how often identical arms are told apart, how often a planted gain is seen, and how often two sweeps that
    differ by their seed agree. The exit code is not 0 when the answer errs too often, misses too much, or contradicts
    itself."""
    with ProcessPoolExecutor(processes) as pool:
        run = partial(outcomes, effort=effort, gain=gain)
        found = list(pool.map(run, range(max(sweeps, 2 * pairs)), chunksize=4))
    good = _say_errors(found[:sweeps], gain) if sweeps else True
    for planted in (0.0, gain) if pairs else ():
        contradictory = _say_agreement([one[planted] for one in found[: 2 * pairs]], planted)
        good = good and not contradictory  # how often two agree depends on the number of searches: it is only said
    return 0 if good else 1


def _say_errors(found: Sequence[Mapping[float, Simulated]], gain: float) -> bool:
    same, better, count = [one[0.0] for one in found], [one[gain] for one in found], len(found)
    false = sum(one.verdict in (Verdict.HELPS, Verdict.HURTS) for one in same)
    seen, wrong = (sum(one.verdict is verdict for one in better) for verdict in (Verdict.HELPS, Verdict.HURTS))
    depends = sum(one.budget_decides for one in same)
    widths = [100 * one.half_width for one in same]
    between = np.sqrt(np.mean([np.var(some, ddof=1) for one in same for some in one.truths]))
    expected = [[float(np.mean(some)) for some in one.truths] for one in same]
    centre = np.mean(expected)
    covered = np.mean([abs(one.difference) <= one.half_width for one in same])
    print(f"in {count} sweeps of two identical arms the answer said otherwise {false} times")
    print(f"a gain of {100 * gain:.2f} points was seen in {seen} of {count} sweeps, and taken for a loss in {wrong}")
    print(f"of the identical arms it said {depends} times that the answer depends on the budget")
    print(
        f"half widths of 95% intervals: {np.median(widths):.3f} points (median; {min(widths):.3f} to "
        f"{max(widths):.3f}), which hold 0 in {covered:.1%}; winners score {centre:.2%}, with a standard deviation of "
        f"{100 * between:.3f} points between searches"
    )
    return false <= MOST_FALSE * count and seen >= LEAST_SEEN * count and not wrong


def _say_agreement(sweeps: Sequence[Simulated], planted: float) -> int:
    """Say how often neighbours agree; the number of pairs that contradict each other."""
    verdicts = [one.verdict for one in sweeps]
    same, contradictory = agreement(verdicts[::2], verdicts[1::2])
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in Verdict if verdict in verdicts)
    count = len(verdicts) // 2
    alike = sum(side(a) is side(b) for a, b in zip(verdicts[::2], verdicts[1::2], strict=True))
    print(
        f"of {count} pairs of sweeps with a difference of {100 * planted:.2f} points, {same} had the same verdict, "
        f"{alike} agreed on helps, hurts or neither, and {contradictory} contradicted each other ({counts}); "
        f"{np.mean([one.searches for one in sweeps]):.1f} searches of each arm and "
        f"{np.mean([one.epochs for one in sweeps]):.0f} trial-epochs on average"
    )
    return contradictory


def side(verdict: Verdict) -> Verdict | None:
    """The verdict where it claims a direction; None for "no difference worth having" and "cannot tell"."""
    return verdict if verdict in (Verdict.HELPS, Verdict.HURTS) else None


def agreement(first: Sequence[Verdict], second: Sequence[Verdict]) -> tuple[int, int]:
    """(pairs with the same verdict, pairs of which one says "helps" and the other "hurts")"""
    pairs = list(zip(first, second, strict=True))
    return sum(a is b for a, b in pairs), sum({a, b} == {Verdict.HELPS, Verdict.HURTS} for a, b in pairs)
