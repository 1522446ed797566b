"""The options of a sweep: a dataclass with defaults from the script's `Sweep`, from keyword arguments or from flags."""

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
from rungwise.results.exporters.loggers.settings import LogSettings
from rungwise.results.exporters.tracking_uri import tracking_uri
from rungwise.results.io.text import say
from rungwise.results.record.definition import SEARCHES
from rungwise.text import unknown
from rungwise.trainable.data.data_source import DEFAULT_ROOT, STANDARDISE, DataSource
from rungwise.trainable.data.table.columns import Columns
from rungwise.trainable.resources import AUTO, TrialResources

RENAMED = {"like": "warm_start"}  # flags of version 0.1 -> now; understood until version 0.3
OWN = "own"  # the sampler that the script's Sweep makes
ORDERS = ("auto", "fixed", "arrival")
UNTIL_SURE = 12  # searches of each arm, where --until-sure names no number
BUDGETS = ("trials", "epochs")
SCHEDULERS = ("asha", "hyperband", "median", "none")  # built by sweeps/engine/schedulers/registry.py


class OptionError(RungwiseError, TypeError):
    """Keyword arguments that are no options, or of another type; a line each."""

    code = 2


@dataclass(frozen=True)
class Options:
    """What the command line, or `run`, asks for beyond the script's `Sweep`."""

    trials: int
    """Trials of each search of each arm. On a run that exists, a larger number adds the missing trials."""
    searches: int
    """Independent searches of each arm. The answer compares arms by the spread between their searches."""
    epochs: int
    """Epochs of a trial that is not stopped early."""
    grace: float
    """Epochs before the first rung, where ASHA may stop a trial."""
    eta: float
    """Reduction factor: about 1/eta of the trials pass a rung. Rungs are at grace, grace*eta, grace*eta^2, ...
    epochs."""
    name: str
    """Name of the run; its folder is OUT/NAME."""
    model: str
    """mlp, cnn, or a function of your own (module:function, or file.py:function)."""
    sampler: str
    """How hyperparameters are suggested: tpe, random, grid, qmc, cmaes, gp, nsga2, nsga3, or own (the script's)."""
    sampler_options: Annotated[str, tyro.conf.arg(metavar="JSON")]
    """Arguments of Optuna's sampler: '{"n_startup_trials": 20, "group": true}'."""
    scheduler: str
    """How poor trials are stopped early: asha, hyperband, median, none. A trial that diverges is always stopped."""
    patience: float | None
    """Epochs without improvement after which a trial is stopped, with any scheduler."""
    worth: float | None
    """Smallest difference worth having, in the metric's unit (percentage points of an accuracy); by default 5% of the
    control's error. It is fixed before the test split is scored."""
    confirm_configs: int | None
    """Best configurations of each search that are retrained on fresh seeds; by default 3 of a single search, 1 of each
    of several."""
    confirm_seeds: int | None
    """Fresh seeds for each of these configurations; by default 5 of a single search, 2 of each of several."""
    refit_seeds: int | None
    """Further fresh seeds of the best configuration of all; the best of all its seeds by validation score becomes the
    model. By default 0 of a single search, 3 of several."""
    untuned_seeds: int | None
    """Fresh seeds on which the defaults are trained for each search, to see what tuning gained; 0 leaves them out. By
    default 0 of a single search, 2 of each of several."""
    max_parameters: int | None
    """Largest number of model parameters. A larger model is rejected before it trains, and the sampler learns that the
    point is infeasible."""
    data: str
    """Dataset: a known name, a table (.csv, .tsv, .parquet, .arrow), an .npz file, or a folder that has one folder of
    images per class."""
    target: str | None = None
    """Column of a table to predict; by default label."""
    drop: Annotated[tuple[str, ...], tyro.conf.arg(metavar="COLUMN")] = ()
    """Columns of a table to leave out."""
    categorical: Annotated[tuple[str, ...], tyro.conf.arg(metavar="COLUMN")] = ()
    """Columns of a table to read as categories, although they look like numbers or identifiers."""
    embed: Annotated[tuple[str, ...], tyro.conf.arg(metavar="COLUMN")] = ()
    """Columns of categories for each of which a vector is learned; the hyperparameter embedding is its length."""
    numeric: Annotated[tuple[str, ...], tyro.conf.arg(metavar="COLUMN")] = ()
    """Columns of a table to read as numbers, although they look like identifiers."""
    group: str | None = None
    """Column of a table, such as a patient: rows with the same value stay in one split."""
    time: str | None = None
    """Column of a table that orders its rows in time: the latest rows are the test split."""
    task: str | None = None
    """Of a table: classification or regression, where the target leaves it open."""
    folds: int = 0
    """Models that a trial trains, each validated on another fold of the samples; its score is the mean over them. For
    small data; 0 = one model, validated on one split."""
    preprocess: str = STANDARDISE
    """standardise, or none: arrays of any shape and type go to a model of your own as they are."""
    out: Path = Path("runs")
    """Folder of all runs."""
    seed: int = 0
    """Seed of suggestions, initial weights, sample order and dropout."""
    until_sure: int = 0
    """Add one search to every arm at a time until the answer is no longer open, up to this number per arm (12 without a
    number; 0 = add none). Intervals are widened to stay valid over repeated looks."""
    budget: str = "trials"
    """What all searches get the same number of: trials or epochs. epochs: each search trains as many epochs as --trials
    full trainings take, so that what early stopping saves goes into further trials; the last one is stopped there."""
    concurrency: int = 0
    """Trials that run at once; 0 = as many as fit, but at most a quarter of the trials, so that the sampler can
    learn."""
    order: str = "auto"
    """fixed: each search has one trial in flight, so that the same command gives the same answer however many run at
    once. arrival: suggestions follow the order in which trials end, which one search needs to fill many workers.
    auto = fixed, unless there is only one search or --concurrency asks for more than there are."""
    cpus_per_trial: float = 1.0
    """CPU cores per trial, and threads of torch."""
    gpus_per_trial: float = 0.0
    """GPUs per trial; 0.25 lets four trials share one, 0 trains on the CPU. With --pack: GPUs per process (a process
    trains several trials)."""
    device: str = AUTO
    """auto: the GPU that --gpus-per-trial asks for, else the CPU; mps: a Mac's GPU, for one trial at a time."""
    pack: str = "off"
    """Trials that one process trains at once, as one batched network: off, a number, or auto (the fastest number)."""
    precision: str = "fp32"
    """fp32: matrix products in float32; bf16: in bfloat16, with sums and weights in float32."""
    address: str | None = field(default_factory=lambda: os.environ.get("RUNGWISE_ADDRESS"))
    """Ray cluster to attach to: auto, or host:port; by default RUNGWISE_ADDRESS, or a private Ray on this machine."""
    mirror: Annotated[str | None, tyro.conf.arg(metavar="WHERE")] = field(
        default_factory=lambda: os.environ.get("RUNGWISE_MIRROR")
    )
    """Shared folder or s3://bucket/path for checkpoints and a copy of the run, at most 30 s old. A driver that finds no
    run in OUT resumes from that copy. By default RUNGWISE_MIRROR."""
    tracking_uri: Annotated[str | None, tyro.conf.arg(metavar="URI")] = None
    """MLflow store: sqlite:///file or http(s)://server; by default sqlite:///OUT/mlflow.db."""
    loggers: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LOGGER")] = ("mlflow",)
    """What the sweep is logged to while it runs: mlflow, tensorboard, wandb, optuna, or a function of your own
    (module:function, or file.py:function). Without a value: nothing."""
    experiment: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Experiment of MLflow and project of W&B; by default MLFLOW_EXPERIMENT_NAME or WANDB_PROJECT, or the script's
    name. With MLFLOW_RUN_ID, the sweep is nested under that run."""
    tags: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Tags of the sweep in MLflow and W&B: team=vision data=v2."""
    data_root: Path | None = None
    """Folder of torchvision datasets; missing ones are downloaded to it."""
    time_budget: float | None = None
    """Minutes, or 90s, 20m, 1.5h, that the sweep may take, approximately. The search ends early enough for the
    confirmation, so that there is an answer. The same command continues the search."""
    trial_timeout: Annotated[float | None, tyro.conf.arg(metavar="MINUTES")] = None
    """Minutes without a report after which a trial counts as hung and fails; by default never."""
    confirm: Annotated[bool, tyro.conf.arg(help_behavior_hint="(default: confirm)")] = True
    """Skip the confirmation: the sweep ends after the search, without an answer."""
    audit: float = 0.0
    """Share of the stopped trials that are trained to the end afterwards, to see whether a winner was stopped."""
    checkpoint_seconds: float = 30.0
    """Seconds between two checkpoints of a running trial."""
    retries: int = 3
    """How often a trial whose process or machine died resumes from its last checkpoint before it counts as lost."""
    warm_start: Annotated[tuple[str | Path, ...], tyro.conf.arg(metavar="WHERE")] = ()
    """Earlier trials, from which the sampler learns what fits this space: folders of runs, Optuna storages
    (sqlite:///study.db::NAME, a journal file), tables (.csv, .tsv, .parquet), MLflow experiments (mlflow:NAME)."""
    enqueue: Annotated[tuple[str, ...], tyro.conf.arg(metavar="JSON")] = ()
    """Hyperparameters to try first, in every arm that allows them: '{"lr": 0.01}'. The others are suggested."""
    widen: bool = False
    """Resume although the space changed; the new space must contain the old one."""
    accept_changed_model: bool = False
    """Resume although your own model or training changed since the run began."""
    fresh: bool = False
    """Start over under a new name (NAME-2, NAME-3, ...). Nothing is overwritten."""
    plan: bool = False
    """Print what the sweep will cost, estimated from a few timed steps, and exit."""
    price_per_hour: float | None = None
    """Price of one device (GPU, or CPU core) per hour, for --plan."""
    one: Annotated[str | None, tyro.conf.arg(metavar="JSON")] = None
    """Train one configuration in this process, without Ray, for a debugger: '{"lr": 0.1}'."""
    quiet: bool = False
    """Print the result only."""

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self.out / self.name

    @property
    def resources(self) -> TrialResources:
        """What a process that trains takes."""
        return TrialResources(self.cpus_per_trial, self.gpus_per_trial, self.device)

    @property
    def store_uri(self) -> str:
        """MLflow's tracking URI."""
        return tracking_uri(self.folder, self.tracking_uri)

    def log_settings(self) -> LogSettings:
        """What the sweep is logged to, of the flags and the environment."""
        script = Path(getattr(sys.modules["__main__"], "__file__", None) or "script").absolute()
        return LogSettings.chosen(self.loggers, self.experiment, self.tags, str(script.parent), os.environ)

    @property
    def source(self) -> DataSource:
        """Where the data is, and how it is read."""
        columns = Columns(**{each.name: getattr(self, each.name) for each in fields(Columns)})
        return DataSource(self.data, columns, self.preprocess, self.data_root or DEFAULT_ROOT)

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
        preprocess=sweep.preprocess,
        folds=sweep.folds,
        **{each.name: getattr(sweep.columns, each.name) for each in fields(Columns)},
    )


def named_options(sweep: Sweep, values: Mapping[str, Any]) -> Options:
    """Options from keyword arguments; what is left out is what an empty command line means.

    Raises OptionError, which names every wrong option.
    """
    from pydantic import TypeAdapter, ValidationError

    values = {current_name(name): value for name, value in values.items()}
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


def current_name(name: str) -> str:
    """The name of an option that may be given by its old name, which a note says."""
    if name not in RENAMED:
        return name
    old, new = (f"--{each.replace('_', '-')}" for each in (name, RENAMED[name]))
    say(f"note: {old} is now {new}; the old name will be removed in version 0.3", sys.stderr)
    return RENAMED[name]
