"""Sweeps of two identical arms on the simulator: how often the answer says otherwise; and of a planted gain: how often
it is seen.

    python benchmarks/simulate.py --aa 200

What is real: the studies (Optuna's TPE, seeded as in a sweep), the rungs (ASHA), the choice of each search's winner,
and the answer. What is not: a trial is a curve drawn from `curves/surrogate.py`, and what a confirmed model scores on
each of 10,000 test samples is drawn as in `calibrate.py`, around the accuracy that its configuration has on average.
Both arms search what mnist_l2's arms search, in its ranges: learning rate, dropout and a decay of the weights. These
curves were measured at constant learning rates, where two searches differ by 0.16 points (one standard deviation), so
0.40 points are planted.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from calibrate import SyntheticRecord, shift_for, slope
from ray.tune.schedulers import TrialScheduler
from simulate import FINEST, surrogate

from rungwise import FloatDistribution
from rungwise.engine.experiment.experiment import Experiment, resolve
from rungwise.engine.experiment.flags import default_options
from rungwise.engine.schedulers.per_arm import Rungs, rung_schedule
from rungwise.engine.search.arm_study import ArmStudy, sampler_factory
from rungwise.engine.search.seeds import derived_seed
from rungwise.results.analysis.answer import Answer, answer
from rungwise.results.analysis.findings import Verdict
from rungwise.trainable.messages import StudyKey, TrialEnd, TrialResult

SEARCHES, TRIALS, SEEDS = 5, 16, 2
SAMPLES, SEED_SD = 10_000, 0.015  # test samples; points between seeds, beside what the samples add
SPACE = {
    "lr": FloatDistribution(3e-4, 3e-2, log=True),
    "dropout": FloatDistribution(0.0, 0.5),
    "weight_decay": FloatDistribution(1e-6, 1e-2, log=True),
}
FIXED = {"optimizer": "adam", "batch_size": 128}
WORTH, PLANTED = 0.001, 0.004
MOST_FALSE, LEAST_SEEN = 0.08, 0.8  # of 200: the upper 95% limit of 5%; the power to be had at PLANTED


def simulated(seed: int, planted: float = 0.0, searches: int = SEARCHES) -> Answer:
    """The answer to one sweep, whose second arm is better by `planted`."""
    from curves.measure import SWEEP

    sweep = replace(
        SWEEP,
        space=SPACE,
        fixed=FIXED,
        arms={"one": {}, "other": {}},
        trials=TRIALS,
        searches=searches,
        reports_per_epoch=1,
    )
    experiment = resolve(sweep, replace(default_options(sweep), seed=seed))
    rungs = Rungs(experiment.studies, rung_schedule(experiment), "max")
    arms: dict[str, list[Any]] = {arm: [] for arm in sweep.arms}
    for study in experiment.studies:
        gain = planted if study.arm == "other" else 0.0
        config = winner(experiment, study, rungs)
        curves = [surrogate().draw(config, derived_seed(seed, "confirm", *study, each)) for each in range(SEEDS)]
        draw = np.random.default_rng(derived_seed(seed, "test", *study))
        arms[study.arm].append(
            [
                (float(one.accuracy[-1]) + gain, shift_for(one.truth + gain) + draw.normal(0, SEED_SD / 100 / slope()))
                for one in curves
            ]
        )
    record: Any = SyntheticRecord(SAMPLES, WORTH, arms, np.random.default_rng(derived_seed(seed, "samples")))
    return answer(record)


def winner(experiment: Experiment, key: StudyKey, rungs: Rungs) -> dict[str, Any]:
    """The configuration that one search finds: its best trial of those trained longest."""
    study = ArmStudy(experiment, key, sampler_factory(experiment, key))
    ranked = []
    for place in range(1, experiment.trials + 1):
        name, number = str(place), 1000 * key.search + place
        config = {**FIXED, **study.ask(name, place).values}
        curve = surrogate().draw(config, derived_seed(experiment.seed, "luck", *key, place))
        for step in range(1, experiment.epochs + 1):
            value = float(curve.accuracy[step * FINEST - 1])
            result = TrialResult(number, step=step, objective=value)
            if step == experiment.epochs:
                study.complete(name, replace(result, state=TrialEnd.COMPLETED))
            elif rungs.judge(key, number, step, value) == TrialScheduler.STOP:
                study.complete(name, result)
                break
            else:
                study.report(name, result)
        ranked.append((step, value, config))
    return max(ranked, key=lambda one: one[:2])[2]


def verdict(seed: int, planted: float) -> Verdict:
    (comparison,) = simulated(seed, planted).comparisons
    return comparison.verdict


def compare(count: int, processes: int) -> int:
    """Say how often identical arms are told apart, and how often a planted gain is seen; the exit code."""
    with ProcessPoolExecutor(processes) as pool:
        same = list(pool.map(partial(verdict, planted=0.0), range(count)))
        better = list(pool.map(partial(verdict, planted=PLANTED), range(count)))
    false = same.count(Verdict.HELPS) + same.count(Verdict.HURTS)
    seen, wrong = better.count(Verdict.HELPS), better.count(Verdict.HURTS)
    print(f"in {count} sweeps of two identical arms the answer said otherwise {false} times")
    print(f"a gain of {100 * PLANTED:.2f} points was seen in {seen} of {count} sweeps, and taken for a loss in {wrong}")
    return 0 if false <= MOST_FALSE * count and seen >= LEAST_SEEN * count and not wrong else 1
