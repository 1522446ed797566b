"""Checks of names: samplers, schedulers, packs, the run; and whether a sampler can search the space."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.flags import BUDGETS, ORDERS, OWN, SCHEDULERS, Options
from rungwise.engine.search import samplers, warm_start
from rungwise.engine.search.samplers import SAMPLERS, SearchConditions
from rungwise.results.exporters.loggers import registry
from rungwise.results.exporters.loggers.settings import tag_problems
from rungwise.results.io.paths import run_name_problem, shown
from rungwise.text import unknown
from rungwise.trainable import config as hyper


def problems(experiment: Experiment, options: Options) -> list[str]:
    lines = [
        unknown("--sampler", sampler, list(SAMPLERS))
        for sampler in map(experiment.sampler_of, experiment.arms)
        if isinstance(sampler, str) and sampler not in (*SAMPLERS, OWN)
    ]
    given = experiment.sampler_object
    if given == OWN:
        lines.append("--sampler own is what the script's Sweep(sampler=...) makes, but this one names none of its own")
    if isinstance(given, Mapping) and (strange := [arm for arm in given if arm not in experiment.arms]):
        lines.append(unknown("arm of sampler", strange[0], list(experiment.arms)))
    if not _is_object(options.sampler_options):
        lines.append(f"--sampler-options takes a JSON object (got {options.sampler_options!r})")
    if experiment.scheduler not in SCHEDULERS:
        lines.append(unknown("--scheduler", experiment.scheduler, list(SCHEDULERS)))
    if options.budget not in BUDGETS:
        lines.append(unknown("--budget", options.budget, list(BUDGETS)))
    if options.order not in ORDERS:
        lines.append(unknown("--order", options.order, list(ORDERS)))
    if options.pack not in ("auto", "off") and not (options.pack.isdigit() and int(options.pack) >= 1):
        lines.append(f"--pack takes auto, off, or how many trials a process trains at once (got {options.pack!r})")
    elif options.pack != "off":
        lines += unpackable(experiment)
        if options.trial_timeout is not None:
            lines.append(
                "--trial-timeout ends the process of a trial, and with --pack that of all others in it, too: say one "
                f"of them, but got --trial-timeout {options.trial_timeout:g} and --pack {options.pack}"
            )
    lines += [*registry.problems(options.loggers), *tag_problems(options.tags)]
    if problem := run_name_problem(options.name):
        lines.append(f"--name: {problem}, but got {shown(options.name)}")
    return lines


def search_problems(experiment: Experiment, options: Options) -> list[str]:
    """What the sampler cannot do with a space that is legal, and what the search is to begin with."""
    lines = []
    for arm in experiment.arms:
        stops = experiment.scheduler != "none" or experiment.patience is not None
        conditions = SearchConditions(experiment.trials, stops, len(experiment.objectives), experiment.seed)
        lines += samplers.problems(
            experiment.sampler_of(arm), experiment.sampler_options, experiment.space_of(arm), conditions
        )
    if "grid" in map(experiment.sampler_of, experiment.arms) and (options.warm_start or options.enqueue):
        lines.append("--sampler grid tries its points in an order of its own, but got --warm-start or --enqueue")
    return [*lines, *warm_start.problems(experiment, options.warm_start, options.enqueue, options.store_uri)]


def unpackable(experiment: Experiment) -> list[str]:
    """What a process would train one at a time, which it does as well without --pack."""
    if experiment.folds:
        return ["--pack trains trials of the same samples, but with --folds each model has other ones; leave it off"]
    if not experiment.trained_by.packs:
        has = "a training of its own" if experiment.trained_by.is_own else "functions of its own in the loop"
        return [f"--pack trains the built-in network in the built-in loop, but the sweep has {has}; leave it off"]
    given = {arm: experiment.given(arm) for arm in experiment.arms}
    models = sorted({str(values.get("model", "mlp")) for values in given.values()} - {"mlp"})
    augmented = sorted({name for values in given.values() for name in hyper.AUGMENTATION if values.get(name)})
    lines = [f"--pack trains model='mlp' only, but the sweep has model={model!r}; leave it off" for model in models]
    return lines + [f"--pack trains without augmentation, but the sweep has {name}; leave it off" for name in augmented]


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except json.JSONDecodeError:
        return False
