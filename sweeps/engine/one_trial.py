"""`--one`: a trial in the driver's own process, which a debugger can step through."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

from rungwise.engine.errors import CannotRun, refuse
from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.flags import Options
from rungwise.errors import RungwiseError
from rungwise.results.io.text import say
from rungwise.trainable.faults import ordinary
from rungwise.trainable.messages import TrialAssignment
from rungwise.trainable.protocol import SweepData
from rungwise.trainable.worker.trial_run import Infeasible, WorkerContext


def train_one(experiment: Experiment, options: Options) -> int:
    """Train one configuration in this process, without Ray, and print its reports. Returns the exit code.

    Raises:
        CannotRun: The configuration or the data cannot be used, or the trial failed.
    """
    from rungwise.engine.validation import check, hints

    refuse(check.one_problems(experiment, options))
    training = experiment.trained_by
    values = {"seed": experiment.seed, **experiment.single, **json.loads(options.one or "{}")}
    values |= {"epochs": experiment.epochs, "reports_per_epoch": experiment.reports_per_epoch}
    config, data = training.parse(values), load_data(experiment)
    refuse(training.unfit(values, data))
    refuse(training.rehearse(values, data))
    hints.print_notes(options, training.export_notes([values], data))
    prepared, device = training.prepare(training.as_sent(data.search), options.resources)
    with tempfile.TemporaryDirectory() as scratch:
        context = WorkerContext(
            prepared, tuple(experiment.objectives), experiment.max_parameters, scratch, math.inf, device, Path(scratch)
        )
        run = training.start(TrialAssignment(1, next(iter(experiment.arms)), "one", config), context)
        try:
            with ordinary():
                for result in run.results():
                    if result.failure is not None and not result.step:
                        raise CannotRun(result.failure.message)
                    if result.remembered:  # the end, after a report that is printed
                        continue
                    numbers = {"step": result.step, **result.metrics}
                    say("  ".join(f"{name} {value:.6g}" for name, value in numbers.items()))
        except Infeasible as problem:
            raise CannotRun(str(problem), code=2) from None
        except training.one_line_errors as problem:
            raise CannotRun(str(problem), code=1) from None
        finally:
            run.close()
    return 0


def load_data(experiment: Experiment) -> SweepData:
    """The data of a sweep. Raises CannotRun, with exit code 2, for data that cannot be used."""
    try:
        return experiment.trained_by.load()
    except RungwiseError as error:
        raise CannotRun(str(error), code=2) from None
