"""Checks of numbers and objectives: the bounds of every flag and field, and each metric's direction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.flags import Options
from rungwise.results.analysis.statistics import FEWEST, REPEATED_LEVELS
from rungwise.trainable import config as hyper
from rungwise.trainable.report import MODES, Report

# Objectives that `trainable.worker.worker` reports only in a sweep that names them.
BESIDE = ["parameters", "seconds_per_epoch"]
TEST_WAY = "report a validation score, and give the test split to Sweep(test=...)"
LEAST_ETA = 1.1  # below it rungs lie nearer to each other than reports


def problems(experiment: Experiment, options: Options) -> list[str]:
    rules: list[tuple[bool, str, Any]] = [
        (experiment.trials >= 1, "--trials >= 1 must hold, but got", experiment.trials),
        (experiment.searches >= 1, "--searches >= 1 must hold, but got", experiment.searches),
        (experiment.worth is None or 0 < experiment.worth < math.inf, "--worth > 0 must hold, but got",
         experiment.worth),
        (options.until_sure == 0 or FEWEST <= options.until_sure <= max(REPEATED_LEVELS),
         f"--until-sure takes {FEWEST} to {max(REPEATED_LEVELS)} searches, but got", options.until_sure),
        (experiment.epochs >= 1, "--epochs >= 1 must hold, but got", experiment.epochs),
        (LEAST_ETA <= experiment.eta < math.inf, f"--eta must be a number from {LEAST_ETA} up, but got",
         experiment.eta),
        (0 <= experiment.seed < 2**63, "--seed must lie from 0 to 2**63 - 1, but got", experiment.seed),
        (options.concurrency >= 0, "--concurrency >= 0 must hold (0 = as many as fit), but got", options.concurrency),
        (options.retries >= 0, "--retries >= 0 must hold, but got", options.retries),
        (experiment.confirm_configs >= 1, "--confirm-configs >= 1 must hold (or --no-confirm), but got",
         options.confirm_configs),
        (options.confirm_seeds is None or options.confirm_seeds >= 1,
         "--confirm-seeds >= 1 must hold (or --no-confirm), but got", options.confirm_seeds),
        (experiment.refit_seeds >= 0, "--refit-seeds >= 0 must hold, but got", options.refit_seeds),
        (experiment.untuned_seeds >= 0, "--untuned-seeds >= 0 must hold, but got", options.untuned_seeds),
        (0 <= options.audit <= 1, "--audit takes a share from 0 to 1, but got", options.audit),
        (options.checkpoint_seconds >= 0, "--checkpoint-seconds >= 0 must hold, but got", options.checkpoint_seconds),
        (experiment.reports_per_epoch >= 1, "reports_per_epoch >= 1 must hold, but got", experiment.reports_per_epoch),
        (experiment.patience is None or experiment.patience > 0, "--patience > 0 must hold, but got",
         experiment.patience),
        (experiment.max_parameters is None or experiment.max_parameters >= 1,
         "--max-parameters >= 1 must hold, but got", experiment.max_parameters),
        (options.time_budget is None or options.time_budget > 0, "--time-budget > 0 must hold, but got",
         options.time_budget),
        (options.trial_timeout is None or 0 < options.trial_timeout < math.inf,
         "--trial-timeout > 0 must hold, but got", options.trial_timeout),
        (options.price_per_hour is None or 0 <= options.price_per_hour < math.inf,
         "--price-per-hour >= 0 must hold, but got", options.price_per_hour),
    ]  # fmt: skip
    found = [f"{rule} {value}" for holds, rule, value in rules if not holds]
    if not experiment.grace <= experiment.epochs:  # a NaN is refused too
        found.append(f"grace <= epochs must hold, but got grace={experiment.grace:g}, epochs={experiment.epochs}")
    if experiment.grace * experiment.reports_per_epoch < 1:
        found.append(
            f"grace must be at least one report, but got grace={experiment.grace:g} epochs "
            f"at {experiment.reports_per_epoch} report(s) an epoch"
        )
    return found + _objectives(experiment)


def _objectives(experiment: Experiment) -> list[str]:
    if experiment.trained_by.metrics is None:
        return _own_objectives(experiment) + [
            f"a search must not see test scores, but {name!r} is a constraint; {TEST_WAY}"
            for name in experiment.constraints
            if name.startswith("test")
        ]
    reported = [field.name for field in fields(Report) if field.name not in ("step", "others")]
    metrics, found = list(dict.fromkeys([*reported, *(set(experiment.trained_by.metrics) - set(BESIDE))])), []
    if experiment.metric not in metrics:
        found.append(hyper.unknown("metric", experiment.metric, metrics))
    elif wrong := _mode_problem("mode", experiment.metric, experiment.mode):
        found.append(wrong)
    for name, mode in list(cast(Mapping[str, str | None], experiment.objectives).items())[1:]:
        if name not in metrics + BESIDE:
            found.append(hyper.unknown("objective", name, metrics + BESIDE))
        elif wrong := _mode_problem("an objective's mode", name, mode):
            found.append(wrong)
    found += [hyper.unknown("constraint", name, metrics) for name in experiment.constraints if name not in metrics]
    return found


def _own_objectives(experiment: Experiment) -> list[str]:
    """Of metrics that the user's code reports under whatever name."""
    found = []
    for name, mode in cast(Mapping[str, str | None], experiment.objectives).items():
        if wrong := _mode_problem("mode" if name == experiment.metric else "an objective's mode", name, mode):
            found.append(wrong)
        if name.startswith("test"):
            found.append(f"a search must not see test scores, but {name!r} is an objective; {TEST_WAY}")
    return found


def _mode_problem(what: str, metric: str, mode: object) -> str | None:
    if mode is None:
        return f"{what} must be said, 'max' or 'min', as {metric} may be either"
    said = f"got {mode!r}" if what == "mode" else f"{metric} has {mode!r}"
    if mode not in ("max", "min"):
        return f"{what} must be 'max' or 'min', but {said}"
    if (known := MODES.get(metric, mode)) != mode:
        better = "less" if known == "min" else "more"
        return f"{what} must be {known!r} for {metric}, of which {better} is better, but {said}; leave it out"
    return None
