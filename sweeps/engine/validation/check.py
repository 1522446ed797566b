"""All checks of a sweep, before Ray starts: every problem at once, with its rule, the value and the valid choices."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.flags import Options
from rungwise.engine.validation import bounds, choices, hyperparameters, machine
from rungwise.results.exporters.tracking_uri import valid_uri
from rungwise.text import unknown
from rungwise.trainable.own.report_numbers import OUR_NAMES
from rungwise.trainable.protocol import BUDGET, RESERVED


def problems(experiment: Experiment, options: Options) -> list[str]:
    """One line for each problem; [] when the sweep can start."""
    training = experiment.trained_by
    if wrong_training := [*_fold_count(experiment), *training.own_problems()]:
        return wrong_training  # the other checks ask it
    lines = [*bounds.problems(experiment, options), *choices.problems(experiment, options)]
    lines += training.data_problems(list(experiment.objectives), packed=options.pack != "off")
    lines += hyperparameters.name_problems(experiment)
    lines += hyperparameters.problems(experiment)
    lines += [] if lines else choices.search_problems(experiment, options)
    lines += _of_the_built_in(experiment, options)
    lines += _of_folds(experiment, options)
    lines += _names_of_ours(experiment)
    lines += hyperparameters.duplicate_keys(Path(sys.argv[0]))
    lines += machine.resource_problems(experiment, options)
    lines += machine.folder_problems(experiment, options)
    if not lines:  # bad input leaves nothing behind
        lines += machine.creation_problems(options.folder)
    if options.tracking_uri is not None and (wrong := valid_uri(options.tracking_uri)):
        lines.append(wrong)
    return list(dict.fromkeys(lines))


def one_problems(experiment: Experiment, options: Options) -> list[str]:
    """The same for `--one`, which needs legal hyperparameters and data, and no Ray."""
    try:
        values = json.loads(options.one or "")
    except json.JSONDecodeError as error:
        return [f"--one takes a JSON object (got {options.one!r}: {error})"]
    if not isinstance(values, dict):
        return [f"--one takes a JSON object such as '{{\"lr\": 0.1}}' (got {options.one!r})"]
    if wrong_training := [*_fold_count(experiment), *experiment.trained_by.own_problems()]:
        return wrong_training
    lines = [f"{name} is the sweep's budget; say --epochs" for name in BUDGET if name in values]
    lines += _undeclared(experiment, values)
    lines += _of_the_built_in(experiment, options)
    lines += _of_folds(experiment, options)
    lines += _names_of_ours(experiment)
    values = {"seed": experiment.seed, **experiment.single, **values, "epochs": experiment.epochs}
    lines += experiment.trained_by.problems(values)
    lines += experiment.trained_by.data_problems(list(experiment.objectives), packed=False)
    if options.plan:
        lines.append("--one runs a trial and --plan none: say one of them")
    return list(dict.fromkeys([*lines, *machine.resource_problems(experiment, options)]))


def _undeclared(experiment: Experiment, values: Mapping[str, Any]) -> list[str]:
    """Names that neither the space nor the script's fixed values have, where a training of the user's own takes any."""
    if experiment.trained_by.declares_hyperparameters or callable(experiment.space_object):
        return []
    declared = [experiment.space_object, experiment.fixed, *experiment.arm_objects.values()]
    names = sorted({name for some in declared for name in some})
    return [unknown("hyperparameter", name, names) for name in values if name not in (*names, *RESERVED)]


def _names_of_ours(experiment: Experiment) -> list[str]:
    """Metrics of the user's own training under a name that the tables give to something else."""
    if not experiment.trained_by.is_own:
        return []
    fields = {"metric": [experiment.metric], "objectives": experiment.objectives, "constraints": experiment.constraints}
    first = {name: field for field, names in reversed(fields.items()) for name in names if name.lower() in OUR_NAMES}
    return [
        f"{field}: a metric must not be called {name!r}, which is {OUR_NAMES[name.lower()]}, a column of every table; "
        f"what your training reports under this name is called 'reported_{name}'"
        for name, field in first.items()
    ]


def _fold_count(experiment: Experiment) -> list[str]:
    is_count = experiment.folds == 0 or experiment.folds >= 2
    return [] if is_count else [f"--folds must be 2 or more, or 0 for one split (got {experiment.folds})"]


def _of_folds(experiment: Experiment, options: Options) -> list[str]:
    """What folds do not go with."""
    if not experiment.folds:
        return []
    if experiment.trained_by.is_own:
        return [
            "--folds divides the data of the built-in training, and a training of your own reads its own: report the "
            "mean after each of its folds (docs/own-training.md), and leave --folds out"
        ]
    given = [
        (experiment.reports_per_epoch != 1, "reports_per_epoch", "a report is a fold"),
        (experiment.patience is not None, "--patience", "a later fold is no improvement of an earlier one"),
        (options.until_sure > 0, "--until-sure",
         "its levels hold for independent searches, and those of --folds share samples; ask for --searches"),
    ]  # fmt: skip
    return [f"{name} does not go with --folds: {why}" for wrong, name, why in given if wrong]


def _of_the_built_in(experiment: Experiment, options: Options) -> list[str]:
    """What a sweep with a training of its own says that only the built-in training reads."""
    if not experiment.trained_by.is_own:
        return []
    given = [
        (experiment.model_path != "mlp", "model", "your training builds its own"),
        (experiment.max_parameters is not None, "max_parameters", "your training knows its model's size"),
        (options.precision != "fp32", "precision", "your training chooses its own"),
    ]
    return [f"{name} is for the built-in training, and {why}: leave it out" for wrong, name, why in given if wrong]
