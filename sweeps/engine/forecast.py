"""The forecast of a sweep's cost (`--plan`): a few timed probes, the real rungs on simulated scores, and sums.

Probes run side by side, as many as trials will on this machine, because trials share its memory. Simulated scores get
better while a search learns, at a rate fitted once to mnist_l2; the report shows forecast against actual.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rungwise.engine.cluster.local_ray import local_resources
from rungwise.engine.errors import CannotRun
from rungwise.engine.execution.concurrency import ConcurrencyPolicy
from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.flags import Options
from rungwise.engine.search.seeds import derived_seed
from rungwise.results.io.formatting import duration
from rungwise.trainable.worker.checkpoints import KEPT

if TYPE_CHECKING:
    from optuna import Study

    from rungwise.engine.experiment.space import DefineByRun

PROBES = 6  # configurations that are timed
NUM_SIMULATIONS = 40  # of a search
DRAWS = 100  # random points that a space function may refuse one after the other
LEARNING = 1.0  # standard deviations by which the last suggestion is better than the first
NOISE = 0.3  # of a report, in standard deviations between configurations
START_SECONDS, END_SECONDS = 9.0, 8.0  # Ray and the imports; scoring, the model, tables and MLflow
REPORT_BYTES, TRIAL_BYTES = 1_500, 12_000  # in record, tables and MLflow together
MODEL_BYTES = 2_000_000  # the report's page and the exported program


@dataclass(frozen=True)
class Forecast:
    """The cost of a whole sweep."""

    epochs: float
    epochs_range: tuple[float, float]  # of nine in ten simulated sweeps
    seconds: float
    seconds_range: tuple[float, float]  # the same, with the error of the pace
    device_hours: float
    bytes: int
    money: float | None
    seconds_an_epoch: float

    def asdict(self) -> dict[str, Any]:
        """What the report compares with the sweep."""
        return {name: value for name, value in asdict(self).items() if not name.endswith("_range")}

    def lines(self) -> str:
        money = "" if self.money is None else f"\nmoney   {self.money:.2f}"
        fewest, most = (f"{epochs:.0f}" for epochs in self.epochs_range)
        shortest, longest = map(duration, self.seconds_range)
        epochs = fewest if fewest == most else f"{fewest} to {most}"
        return (
            f"epochs  {epochs} trial-epochs of {self.seconds_an_epoch:.2f} s, confirmation included\n"
            f"time    {shortest} to {longest}, about {duration(self.seconds)}\n"
            f"devices {self.device_hours:.2f} device-hours{money}\n"
            f"disk    {self.bytes / 1e6:.1f} MB"
        )


def forecast(experiment: Experiment, options: Options, slots: int | None = None) -> Forecast:
    """Time some configurations and add up. Takes about ten seconds.

    Args:
        experiment: What is asked.
        options: How it is run.
        slots: Trials for which the cluster at --address has room; None on this machine.
    """
    concurrency = ConcurrencyPolicy.of(experiment, options)
    if slots is not None:
        concurrency.follow(lambda: slots)
    running = concurrency.processes
    if experiment.order == "fixed":
        running = min(running, len(experiment.studies))
    here = min(running, max(1, options.resources.fits(local_resources())))
    probes = _probes(experiment, options, here, concurrency.trials_per_worker)
    paces, state = [probe.seconds for probe in probes], max(probe.bytes for probe in probes)
    repeats = experiment.repeats
    counts = [searched + repeats * experiment.repeat_epochs for searched in _searched_epochs(experiment)]
    epochs, seconds = statistics.mean(counts), statistics.mean(paces)
    fewest, *_, most = statistics.quantiles(counts, n=20)

    def wall_seconds(epochs: float, pace: float) -> float:
        return START_SECONDS + epochs * pace / running + closing_seconds(repeats)

    error = 2 * statistics.stdev(paces) / math.sqrt(len(paces))
    wall = wall_seconds(epochs, seconds)
    hours = wall * running * (options.resources.gpus or options.resources.cpus) / 3600
    return Forecast(
        epochs=epochs,
        epochs_range=(fewest, most),
        seconds=wall,
        seconds_range=(wall_seconds(fewest, max(min(paces), seconds - error)), wall_seconds(most, seconds + error)),
        device_hours=hours,
        bytes=int(
            REPORT_BYTES * epochs * experiment.trial_reports / experiment.trial_epochs
            + TRIAL_BYTES * (experiment.all_trials + repeats)
            + (MODEL_BYTES + state if repeats else 0)
            + repeats * state * _states(experiment, options, seconds)
        ),
        money=None if options.price_per_hour is None else hours * options.price_per_hour,
        seconds_an_epoch=seconds,
    )


def _searched_epochs(experiment: Experiment) -> list[float]:
    """Epochs of all searches together, one number a simulated sweep."""
    if experiment.budget == "epochs":
        return [float(experiment.epochs_of_search * len(experiment.studies))] * 2
    return [_simulate_search(experiment, seed) for seed in range(NUM_SIMULATIONS)]


def closing_seconds(repeats: int) -> float:
    """What follows the last trial of a sweep that trains so many configurations again."""
    return END_SECONDS if repeats else END_SECONDS / 2


def _states(experiment: Experiment, options: Options, seconds: float) -> int:
    """How many states of a confirmed trial stay, which takes `seconds` an epoch: the last, and the one before it."""
    before = experiment.epochs * seconds > options.checkpoint_seconds
    return KEPT if before else 1


@dataclass(frozen=True)
class _Probe:
    """The cost of one configuration."""

    seconds: float  # an epoch
    bytes: int  # of a state, the optimiser's included


def _probes(experiment: Experiment, options: Options, running: int, share: int) -> list[_Probe]:
    """`PROBES` random configurations, timed in `running` processes at a time.

    Packed, each is timed with copies of itself, at most `share`: trials of several shapes fill a pack less well.
    """
    import cloudpickle

    configs = list(_random_configs(experiment))
    common = {
        "path": list(map(str, sys.path)),
        "training": base64.b64encode(cloudpickle.dumps(experiment.trained_by)).decode(),
        "resources": astuple(options.resources),
        "together": min(options.together, share),
        "limit": share,
    }
    portions = [portion for first in range(running) if (portion := configs[first::running])]
    with contextlib.ExitStack() as stack:
        processes = [_start_probes(stack, {**common, "configs": portion}) for portion in portions]
        return [probe for process in processes for probe in _read_probes(process)]


def _start_probes(stack: contextlib.ExitStack, job: Mapping[str, Any]) -> subprocess.Popen[str]:
    """Start a process that works on `job`; it ends with `stack` at the latest."""
    here = str(Path(__file__).absolute().parents[2])  # through the links of rungwise/
    paths = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        # -P: a folder `rungwise` in the user's working directory is not ours
        [sys.executable, "-P", "-m", "rungwise.trainable.worker.timing"],
        stdin=pipe, stdout=pipe, stderr=pipe, text=True, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    stack.enter_context(process)  # closes its pipes, and waits
    stack.callback(process.kill)
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as file:
        file.write(json.dumps(job))
    process.stdin = None
    return process


def _read_probes(process: subprocess.Popen[str]) -> list[_Probe]:
    """A probe for each configuration. Raises CannotRun when they could not be trained."""
    output, errors = process.communicate()
    if process.returncode or not output:
        last = errors.strip().splitlines()[-1:] or [f"the process ended with status {process.returncode}"]
        raise CannotRun(f"--plan times a few trials, but one could not be trained: {last[0]}")
    timings = json.loads(output)
    return [_Probe(*pair) for pair in zip(timings["seconds"], timings["bytes"], strict=True)]


def _random_configs(experiment: Experiment) -> Iterator[Mapping[str, Any]]:
    import optuna

    from rungwise.engine.experiment.space import to_optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    arms = list(experiment.arms)
    for index in range(PROBES):
        arm = arms[index % len(arms)]
        study = optuna.create_study(
            sampler=optuna.samplers.RandomSampler(seed=derived_seed(experiment.seed, "probe", index))
        )
        space = to_optuna(experiment.space_of(arm))
        values = _sample_space(space, study) if callable(space) else study.ask(space).params
        yield {**experiment.given(arm), **values, "reports_per_epoch": experiment.reports_per_epoch}


def _sample_space(space: DefineByRun, study: Study) -> dict[str, Any]:
    """A random point that the function does not refuse."""
    from optuna import TrialPruned

    for _ in range(DRAWS):
        with contextlib.suppress(TrialPruned):
            return dict(space(study.ask()))
    raise CannotRun(f"the space function refused {DRAWS} random points", code=2)


def _simulate_search(experiment: Experiment, seed: int) -> float:
    """Epochs that one simulated search trains: real rungs, random scores."""
    from ray.tune.schedulers import TrialScheduler

    from rungwise.engine.schedulers.per_arm import Rungs, rung_schedule

    rng = random.Random(seed)
    rungs = Rungs(experiment.studies, rung_schedule(experiment), "max")
    studies, reports = experiment.studies, 0
    for number in range(experiment.all_trials):
        quality = rng.gauss(0, 1) + LEARNING * number / experiment.all_trials
        for step in range(1, rungs.schedule.budget + 1):
            reports += 1
            score = quality + rng.gauss(0, NOISE)
            if rungs.judge(studies[number % len(studies)], number, step, score) == TrialScheduler.STOP:
                break
    return experiment.to_epochs(reports)
