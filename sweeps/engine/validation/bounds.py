"""Checks of numbers and objectives: the bounds of every flag and field, and each metric's direction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.flags import Options
from rungwise.results.analysis.statistics import FEWEST, REPEATED_LEVELS
from rungwise.text import plural, unknown
from rungwise.trainable.report import MODES, Report

# Objectives that `trainable.worker.worker` reports only in a sweep that names them.
BESIDE = ["parameters", "seconds_per_epoch"]
TEST_WAY = "report a validation score, and give the test split to Sweep(test=...)"
LEAST_ETA = 1.1  # below it rungs lie nearer to each other than reports


def problems(experiment: Experiment, options: Options) -> list[str]:
    rules: list[tuple[bool, str, Any]] = [
        (experiment.trials >= 1, "--trials must be at least 1", experiment.trials),
        (experiment.searches >= 1, "--searches must be at least 1", experiment.searches),
        (experiment.worth is None or 0 < experiment.worth < math.inf, "--worth must be greater than 0",
         experiment.worth),
        (options.until_sure == 0 or FEWEST <= options.until_sure <= max(REPEATED_LEVELS),
         f"--until-sure takes {FEWEST} to {max(REPEATED_LEVELS)} searches", options.until_sure),
        (experiment.epochs >= 1, "--epochs must be at least 1", experiment.epochs),
        (LEAST_ETA <= experiment.eta < math.inf, f"--eta must be a number from {LEAST_ETA} up",
         experiment.eta),
        (0 <= experiment.seed < 2**63, "--seed must be from 0 to 2**63 - 1", experiment.seed),
        (options.concurrency >= 0, "--concurrency must be at least 0 (0 = as many as fit)", options.concurrency),
        (options.retries >= 0, "--retries must be at least 0", options.retries),
        (experiment.confirm_configs >= 1, "--confirm-configs must be at least 1 (or --no-confirm)",
         options.confirm_configs),
        (options.confirm_seeds is None or options.confirm_seeds >= 1,
         "--confirm-seeds must be at least 1 (or --no-confirm)", options.confirm_seeds),
        (experiment.refit_seeds >= 0, "--refit-seeds must be at least 0", options.refit_seeds),
        (experiment.untuned_seeds >= 0, "--untuned-seeds must be at least 0", options.untuned_seeds),
        (0 <= options.audit <= 1, "--audit takes a share from 0 to 1", options.audit),
        (options.checkpoint_seconds >= 0, "--checkpoint-seconds must be at least 0", options.checkpoint_seconds),
        (experiment.reports_per_epoch >= 1, "reports_per_epoch must be at least 1", experiment.reports_per_epoch),
        (experiment.patience is None or experiment.patience > 0, "--patience must be greater than 0",
         experiment.patience),
        (experiment.max_parameters is None or experiment.max_parameters >= 1,
         "--max-parameters must be at least 1", experiment.max_parameters),
        (options.time_budget is None or options.time_budget > 0, "--time-budget must be greater than 0",
         options.time_budget),
        (options.trial_timeout is None or 0 < options.trial_timeout < math.inf,
         "--trial-timeout must be greater than 0", options.trial_timeout),
        (options.price_per_hour is None or 0 <= options.price_per_hour < math.inf,
         "--price-per-hour must be at least 0", options.price_per_hour),
    ]  # fmt: skip
    lines = [f"{rule} (got {value})" for holds, rule, value in rules if not holds]
    if not experiment.grace <= experiment.trial_epochs:  # a NaN is refused too
        of = f" of all {experiment.folds} folds together" if experiment.folds else ""
        lines.append(
            f"grace must be at most epochs{of} (got grace={experiment.grace:g}, epochs={experiment.trial_epochs})"
        )
    if experiment.grace * experiment.reports_per_epoch < 1:
        lines.append(
            f"grace must be at least one report (got grace={experiment.grace:g}, and "
            f"{plural(experiment.reports_per_epoch, 'report')} per epoch)"
        )
    return lines + _objectives(experiment)


def _objectives(experiment: Experiment) -> list[str]:
    if experiment.trained_by.metrics is None:
        return _own_objectives(experiment) + [
            f"a search must not see test scores, but {name!r} is a constraint; {TEST_WAY}"
            for name in experiment.constraints
            if name.startswith("test")
        ]
    reported = [field.name for field in fields(Report) if field.name not in ("step", "others")]
    metrics, lines = list(dict.fromkeys([*reported, *(set(experiment.trained_by.metrics) - set(BESIDE))])), []
    if experiment.metric not in metrics:
        lines.append(unknown("metric", experiment.metric, metrics))
    elif wrong := _mode_problem("mode", experiment.metric, experiment.mode):
        lines.append(wrong)
    for name, mode in list(cast(Mapping[str, str | None], experiment.objectives).items())[1:]:
        if name not in metrics + BESIDE:
            lines.append(unknown("objective", name, metrics + BESIDE))
        elif wrong := _mode_problem("an objective's mode", name, mode):
            lines.append(wrong)
    lines += [unknown("constraint", name, metrics) for name in experiment.constraints if name not in metrics]
    return lines


def _own_objectives(experiment: Experiment) -> list[str]:
    """Of metrics that the user's code reports under whatever name."""
    lines = []
    for name, mode in cast(Mapping[str, str | None], experiment.objectives).items():
        if wrong := _mode_problem("mode" if name == experiment.metric else "an objective's mode", name, mode):
            lines.append(wrong)
        if name.startswith("test"):
            lines.append(f"a search must not see test scores, but {name!r} is an objective; {TEST_WAY}")
    return lines


def _mode_problem(what: str, metric: str, mode: object) -> str | None:
    if mode is None:
        return f"{what} must be 'max' or 'min', because {metric} may be either, but none is given"
    said = f"got {mode!r}" if what == "mode" else f"{metric} has {mode!r}"
    if mode not in ("max", "min"):
        return f"{what} must be 'max' or 'min', but {said}"
    if (known := MODES.get(metric, mode)) != mode:
        better = "less" if known == "min" else "more"
        return f"{what} must be {known!r} for {metric}, of which {better} is better, but {said}; leave it out"
    return None
