"""The command line that every sweep script has: a dataclass read by tyro, with defaults from the script's `Sweep`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import tyro

from rungwise.engine.experiment.sweep import Sweep
from rungwise.errors import RungwiseError
from rungwise.results.io.text import say
from rungwise.trainable.config import unknown
from rungwise.trainable.resources import TrialResources

RENAMED = {"like": "warm_start"}  # flags of version 0.1 -> now; understood until version 0.3
OWN = "own"  # the sampler that the script's Sweep makes
ORDERS = ("auto", "fixed", "arrival")
UNTIL_SURE = 12  # searches of each arm, where --until-sure names no number
BUDGETS = ("trials", "epochs")
SEARCHES = 5  # of each arm, where arms are compared
SCHEDULERS = ("asha", "hyperband", "median", "none")  # built by sweeps/engine/schedulers/registry.py


class OptionError(RungwiseError, TypeError):
    """Keyword arguments that are no options, or of another type; a line each."""

    code = 2


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    trials: int
    """Hyperparameter sets that each search of each arm tries. Asking for more than the run holds adds the
    difference."""
    searches: int
    """Independent searches of each arm: whether an arm helps is judged by the spread between them."""
    epochs: int
    """Full budget of a trial, in epochs."""
    grace: float
    """Epochs before the first rung, where ASHA may stop a trial."""
    eta: float
    """A rung lets about 1/eta of the trials pass; rungs lie at grace, grace*eta, grace*eta^2, ... epochs."""
    name: str
    """Name of the run: its folder is OUT/NAME."""
    model: str
    """Model: mlp, cnn, or a function of your own (module:function, or file.py:function)."""
    sampler: str
    """How hyperparameter sets are suggested: tpe, random, grid, qmc, cmaes, gp, nsga2, nsga3, or own (the script's)."""
    sampler_options: Annotated[str, tyro.conf.arg(metavar="JSON")]
    """Options of the sampler's constructor, as Optuna names them: '{"n_startup_trials": 20, "group": true}'."""
    scheduler: str
    """How poor trials are stopped early: asha, hyperband, median, none. A trial that diverged is always stopped."""
    patience: float | None
    """Epochs without a better metric after which a trial is stopped, whatever the scheduler."""
    worth: float | None
    """Smallest difference worth having, in the metric's unit (points of an accuracy). None = 5% of the control's error.
    Fixed before the test split is scored."""
    confirm_configs: int | None
    """Best configurations of each search that are trained again on fresh seeds; None = 3 of a single search, 1 of each
    of several."""
    confirm_seeds: int | None
    """Fresh seeds that each of them is trained on; the best by mean validation score is scored on the test split.
    None = 5 of a single search, 2 of each of several."""
    refit_seeds: int | None
    """Further fresh seeds that the best configuration of all is trained on; the best of all its seeds by validation
    score becomes the model. None = 0 of a single search, 3 of several."""
    untuned_seeds: int | None
    """Fresh seeds on which the defaults are trained for each search, to see what tuning gained; 0 leaves them out.
    None = 0 of a single search, 2 of each of several."""
    max_parameters: int | None
    """Largest model: one of more parameters is refused before it trains, and the sampler told."""
    data: str
    """Dataset: a known name, a .npz or .parquet file, or a folder with a folder of images for each class."""
    out: Path = Path("runs")
    """Folder of all runs."""
    seed: int = 0
    """Seed of suggestions, initial weights, order of samples and dropout noise."""
    until_sure: int = 0
    """Add searches to all arms in turn until the answer is sure, up to so many of each arm; without a number 12, and
    0 = add none. Intervals are widened, so that they hold however often one looks."""
    budget: str = "trials"
    """What searches have equally many of: trials, or epochs. epochs: each search trains as many as --trials trainings
    to the end would take, so that what early stopping saves goes into further trials; the last one is stopped there."""
    concurrency: int = 0
    """Trials in flight; 0 = as many as fit, and few enough for the sampler to learn (a quarter of the trials)."""
    order: str = "auto"
    """fixed: each search has one trial in flight, so that the same command gives the same answer however many run at
    once. arrival: suggestions follow the order in which trials end, which one search needs to fill many workers.
    auto = fixed, unless there is only one search or --concurrency asks for more than there are."""
    cpus_per_trial: float = 1.0
    """CPU cores a trial takes; torch uses as many threads."""
    gpus_per_trial: float = 0.0
    """GPUs a trial takes; 0.25 lets four share one, 0 = train on the CPU. With --pack it is what a process takes that
    trains many at once."""
    pack: str = "off"
    """Trials that a process trains at once, as one batched network: off, a number, or auto (as many as are fastest)."""
    precision: str = "fp32"
    """Matrix products in float32, or in bfloat16 with sums and weights in float32: fp32, bf16."""
    address: str | None = field(default_factory=lambda: os.environ.get("RUNGWISE_ADDRESS"))
    """Ray cluster to attach to: auto, or host:port. Default: RUNGWISE_ADDRESS, or a private Ray on this machine."""
    mirror: Annotated[str | None, tyro.conf.arg(metavar="WHERE")] = field(
        default_factory=lambda: os.environ.get("RUNGWISE_MIRROR")
    )
    """Shared folder or s3://bucket/path for checkpoints and a copy of the run, at most 30 s old. A driver that finds no
    run in OUT goes on from that copy. Default: RUNGWISE_MIRROR."""
    tracking_uri: Annotated[str | None, tyro.conf.arg(metavar="URI")] = None
    """MLflow store: sqlite:///file or http(s)://server. Default: sqlite:///OUT/mlflow.db."""
    data_root: Path | None = None
    """Where torchvision datasets lie, or are downloaded to when missing."""
    time_budget: float | None = None
    """Minutes after which no more is trained; the same command goes on later."""
    trial_timeout: Annotated[float | None, tyro.conf.arg(metavar="MINUTES")] = None
    """Minutes without a report after which a trial is FAILED: it hangs. None = it may take as long as it likes."""
    confirm: Annotated[bool, tyro.conf.arg(help_behavior_hint="(default: confirm)")] = True
    """Skip the confirmation: the sweep ends after the search, without an answer."""
    audit: float = 0.0
    """Share of the trials stopped early that are trained to the end after all, to see whether a winner was stopped."""
    checkpoint_seconds: float = 30.0
    """Seconds between two checkpoints of a trial in flight."""
    retries: int = 3
    """How often a trial whose process or node died goes on from its last checkpoint, before it is LOST."""
    warm_start: tuple[Path, ...] = ()
    """Folders of earlier runs: the sampler learns from their trials that fit into this space, from the start."""
    enqueue: Annotated[tuple[str, ...], tyro.conf.arg(metavar="JSON")] = ()
    """Points to try first, in every arm that can: '{"lr": 0.01}'; what they leave open is suggested."""
    widen: bool = False
    """Go on although the space changed: the new one must contain the old one."""
    accept_changed_model: bool = False
    """Go on although a model of your own builds another network than when the run began."""
    fresh: bool = False
    """Start over under a new name (NAME-2, NAME-3, ...); nothing is overwritten."""
    plan: bool = False
    """Say what the sweep will cost, from a few timed steps, and stop there."""
    price_per_hour: float | None = None
    """Price of one device (GPU, or CPU core) for an hour, for --plan."""
    one: Annotated[str | None, tyro.conf.arg(metavar="JSON")] = None
    """Run one trial in this process, without Ray: '{"lr": 0.1}'."""
    quiet: bool = False
    """Print the result only."""

    @property
    def resources(self) -> TrialResources:
        """What a process that trains takes."""
        return TrialResources(self.cpus_per_trial, self.gpus_per_trial)

    @property
    def together(self) -> int:
        """Trials that a process trains at once, of a `pack` that is legal; 0 = as many as are fastest."""
        return int({"off": "1", "auto": "0"}.get(self.pack, self.pack))


def default_options(sweep: Sweep) -> Options:
    """What an empty command line says: the script's own values.

    Raises ModelError for a model that is a function which no worker could find.
    """
    return Options(
        trials=sweep.trials,
        searches=(SEARCHES if len(sweep.arms) > 1 else 1) if sweep.searches is None else sweep.searches,
        epochs=sweep.epochs,
        grace=sweep.grace,
        eta=sweep.eta,
        name=sweep.name,
        model=sweep.model_name,
        sampler=sweep.sampler if isinstance(sweep.sampler, str) else OWN,
        worth=sweep.worth,
        confirm_configs=sweep.confirm_configs,
        confirm_seeds=sweep.confirm_seeds,
        refit_seeds=sweep.refit_seeds,
        untuned_seeds=sweep.untuned_seeds,
        sampler_options=json.dumps(dict(sweep.sampler_options)),
        scheduler=sweep.scheduler,
        patience=sweep.patience,
        trial_timeout=sweep.trial_timeout,
        max_parameters=sweep.max_parameters,
        data=sweep.data_name,
        precision=sweep.precision,
    )


def named_options(sweep: Sweep, values: Mapping[str, Any]) -> Options:
    """Options from keyword arguments; what is left out is what an empty command line means.

    Raises OptionError, which names every wrong option.
    """
    from pydantic import TypeAdapter, ValidationError

    values = {_current_name(name): value for name, value in values.items()}
    known = [field.name for field in fields(Options) if field.name != "one"]  # a trial in this process leaves no run
    if strange := [unknown("option", name, known) for name in values if name not in known]:
        raise OptionError("\nerror: ".join(strange))
    default = default_options(sweep)
    by_name = {field.name: getattr(default, field.name) for field in fields(Options)}
    try:
        return TypeAdapter(Options).validate_python({**by_name, **values})
    except ValidationError as error:
        found = (f"{item['loc'][0]}: {item['msg']}, but got {item['input']!r}" for item in error.errors())
        raise OptionError("\nerror: ".join(found)) from None


def _current_name(name: str) -> str:
    """The name of an option that may be given by its old name, which a note says."""
    if name not in RENAMED:
        return name
    old, new = (f"--{each.replace('_', '-')}" for each in (name, RENAMED[name]))
    say(f"note: {old} is now {new}; the old name goes with version 0.3", sys.stderr)
    return RENAMED[name]


def _current_flag(argument: str) -> str:
    """`argument` of a command line, with the current name of a flag in it."""
    flag, equals, value = argument.partition("=")
    name = flag.removeprefix("--").replace("-", "_")
    if not flag.startswith("--") or name not in RENAMED:
        return argument
    return f"--{_current_name(name).replace('_', '-')}{equals}{value}"


def _with_number(arguments: list[str], flag: str, default: int) -> list[str]:
    """`arguments`, in which `flag` has its default where no value follows it."""
    followed = zip(arguments, [*arguments, "--"][1:], strict=True)
    return [
        f"{argument}={default}" if argument == flag and following.startswith("--") else argument
        for argument, following in followed
    ]


def parse(sweep: Sweep, arguments: list[str] | None = None) -> Options:
    """Options from the command line (or `arguments`). A wrong flag prints its problem and exits with code 2."""
    question = " ".join((sweep.question or "").split())
    given = [_current_flag(argument) for argument in (sys.argv[1:] if arguments is None else arguments)]
    return tyro.cli(
        Options,
        args=_with_number(given, "--until-sure", UNTIL_SURE),
        description=question or f"Sweep {sweep.name}.",
        default=default_options(sweep),
        config=(tyro.conf.FlagCreatePairsOff,),
    )
