"""All checks of a sweep, before Ray starts: every problem at once, with its rule, the value and the valid choices."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.flags import Options
from rungwise.engine.validation import bounds, choices, hyperparameters, machine
from rungwise.results.exporters.tracking_uri import valid_uri
from rungwise.trainable.protocol import BUDGET


def problems(experiment: Experiment, options: Options) -> list[str]:
    """One line for each problem; [] when the sweep can start."""
    training = experiment.trained_by
    if wrong_training := training.own_problems():
        return wrong_training
    found = [*bounds.problems(experiment, options), *choices.problems(experiment, options)]
    found += training.data_problems(list(experiment.objectives), options.data_root, packed=options.pack != "off")
    found += hyperparameters.name_problems(experiment)
    found += hyperparameters.problems(experiment)
    found += [] if found else choices.search_problems(experiment, options)
    found += hyperparameters.duplicate_keys(Path(sys.argv[0]))
    found += machine.resource_problems(options)
    found += machine.folder_problems(experiment, options)
    if not found:  # bad input leaves nothing behind
        found += machine.creation_problems(options.out / options.name)
    if options.tracking_uri is not None and (wrong := valid_uri(options.tracking_uri)):
        found.append(wrong)
    return list(dict.fromkeys(found))


def one_problems(experiment: Experiment, options: Options) -> list[str]:
    """The same for `--one`, which needs legal hyperparameters and data, and no Ray."""
    try:
        values = json.loads(options.one or "")
    except json.JSONDecodeError as error:
        return [f"--one takes a JSON object, but got {options.one!r} ({error})"]
    if not isinstance(values, dict):
        return [f"--one takes a JSON object such as '{{\"lr\": 0.1}}', but got {options.one!r}"]
    found = [f"{name} is the sweep's budget; say --epochs" for name in BUDGET if name in values]
    values = {"seed": experiment.seed, **experiment.common, **values, "epochs": experiment.epochs}
    found += experiment.trained_by.problems(values)
    found += experiment.trained_by.data_problems([], options.data_root, packed=False)
    if options.plan:
        found.append("--one runs a trial and --plan none: say one of them")
    return found + machine.resource_problems(options)
