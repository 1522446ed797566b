"""The class `Sweep`, which a sweep script fills in: a docstring, one `Sweep` and one call of `main`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, fields
from typing import Any, Literal, cast

from rungwise.engine.experiment.space import Space, plain
from rungwise.metric_names import usual_mode
from rungwise.results.io.text import say
from rungwise.trainable.data.data_source import STANDARDISE
from rungwise.trainable.data.table.columns import NO_COLUMNS, Columns
from rungwise.trainable.import_path import import_path_of
from rungwise.trainable.report import MODES

Mode = Literal["max", "min"]
TRAININGS = ("train", "objective", "program")  # fields, each a training of the user's own
Sampler = str | Callable[[int], Any]  # a name, or a function: seed -> optuna.samplers.BaseSampler


@dataclass(frozen=True)
class Sweep:
    """One question: the search space, the arms to compare, and the budget.

    Every trial trains for `epochs` unless ASHA stops it. Trials are compared after `grace` epochs and then at every
    eta-fold of that; a trial continues only if its `metric` is within the best 1/eta of what its arm reported there so
    far (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning").

    Args:
        name: Name of the sweep, and of its run folder unless `--name` is given.
        space: What is searched: a dict of distributions by hyperparameter, or a function of an Optuna trial that
            returns the hyperparameters (docs/sweep.md). Not with `objective`, which asks for them.
        question: One sentence; usually the script's docstring, `question=__doc__`.
        fixed: Hyperparameters that are the same in every trial.
        arms: The alternatives: {arm: {hyperparameter: value}}. A value fixes the hyperparameter in that arm; a
            distribution replaces the one of `space`.
        train: Your own training in place of the built-in network: a generator of reports, or a function that calls
            `trial.report` (docs/own-training.md).
        objective: An Optuna objective, unchanged, in place of `train`: it calls `trial.suggest_float`, `trial.report`
            and so on, and returns a number, or a tuple of one for each objective (docs/coming-from-optuna.md).
        program: Your own training as a program in any language: the words of its command line, to which the
            hyperparameters are added (docs/own-program.md).
        program_arguments: The form of a hyperparameter on that command line: "--{name}={value}". By default
            `--lr 0.003`, and `--nesterov` for True.
        test: With a training of your own: scores a confirmed trial on the test split; called once, after all choices
            are made. With `program` it may be a program, too.
        columns: What the columns of a table are for: `Columns(target="price", drop=["id"])` (docs/data.md).
        preprocess: "standardise", or "none": arrays of any shape and type, such as token ids or spectrograms, go to a
            model of your own as they are.
        data_per_worker: With `train` or `objective`: `data` is called once in each process that trains, not on the
            driver.
        metrics: Metrics of your own in the built-in loop: {name: function of (outputs, targets)}, reported as
            val_<name>.
        loss: A loss of your own in the built-in loop: a function of (outputs, targets) of a batch.
        optimizer: An optimiser of your own in the built-in loop: a function of (model, config).
        schedule: A schedule of your own in the built-in loop: share of all steps -> factor of the learning rate.
        model: "mlp", "cnn", or a function from a `Config` to a `torch.nn.Module` (docs/model.md).
        data: Name of a dataset, or path of a file or folder (docs/data.md). With `train`: also a function that returns
            whatever the trials need; nothing by default.
        metric: The reported metric that selects and stops trials: "val_accuracy" by default; of an objective "value",
            or "value_0" where there are further objectives.
        mode: "max" or "min", or Optuna's "maximize" and "minimize". By default the name of `metric` says it: losses and
            errors (val_rmse) are minimised, scores in general use (macro_f1) maximised.
        objectives: Further objectives, as metric names or {metric: mode}; the sampler then searches the Pareto front.
        max_parameters: Largest number of model parameters. A larger model is rejected before it trains, and the
            sampler treats the point as infeasible.
        constraints: Limits of reported metrics: {"latency_ms": ("<=", 5)}. The sampler learns by how much a trial
            breaks them, and one that does is never the best.
        sampler: A name (see `--sampler`) or a function from a seed to an Optuna sampler; or {arm: sampler}.
        sampler_options: Keyword arguments of the sampler's constructor.
        scheduler: The early-stopping rule: "asha", "hyperband", "median" or "none".
        trial_timeout: Minutes without a report after which a trial is FAILED; None: it may take as long as it likes.
        patience: Epochs without improvement of the metric after which a trial is stopped; None: never.
        confirm_configs: Best configurations of each search that are trained again on fresh seeds; None: 3 of a single
            search, 1 of each of several.
        confirm_seeds: Fresh seeds for each of these configurations; None: 5 of a single search, 2 of each of several.
        refit_seeds: Further fresh seeds for the best configuration of all; the best of its trials becomes the model.
            None: 0 of a single search, 3 of several.
        untuned_seeds: Fresh seeds on which the defaults are trained for each search, to see what tuning gained.
            None: 0 of a single search, 2 of each of several.
        trials: Trials of each search of each arm.
        searches: Independent searches of each arm; None: 5 where arms are compared, 1 where there is one arm.
        worth: The smallest difference that is worth having, in the metric's unit (percentage points of an accuracy);
            None: 5% of the control's error, or of its loss.
        epochs: Epochs of a trial that is not stopped.
        folds: Models that a trial trains, each validated on another fold of the samples; its score is the mean over
            them. 0: one model, validated on one split (docs/small-tables.md).
        reports_per_epoch: Evaluations, and therefore reports, per epoch.
        grace: Epochs before the first rung.
        eta: Reduction factor: about 1/eta of the trials pass a rung.
        also: The name of `objectives` in version 0.1.
    """

    name: str
    space: Space = field(default_factory=dict)
    question: str | None = ""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    arms: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"all": {}})
    model: str | Callable[..., Any] = "mlp"
    train: Callable[..., Any] | None = None
    objective: Callable[[Any], Any] | None = None
    program: Sequence[str] | None = None
    program_arguments: str | None = None
    test: Callable[..., Any] | Sequence[str] | None = None
    metrics: Mapping[str, Callable[[Any, Any], Any]] = field(default_factory=dict)
    loss: Callable[[Any, Any], Any] | None = None
    optimizer: Callable[[Any, Any], Any] | None = None
    schedule: Callable[[float], float] | None = None
    data: str | Callable[[], Any] | None = None
    columns: Columns = NO_COLUMNS
    preprocess: str = STANDARDISE
    data_per_worker: bool = False
    metric: str = None  # type: ignore[assignment]  # filled in by __post_init__
    mode: Mode = None  # type: ignore[assignment]  # filled in by __post_init__
    objectives: Mapping[str, Mode] | Sequence[str] = field(default_factory=dict)
    max_parameters: int | None = None
    constraints: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    sampler: Sampler | Mapping[str, Sampler] = "tpe"
    sampler_options: Mapping[str, Any] = field(default_factory=dict)
    scheduler: str = "asha"
    patience: float | None = None
    trial_timeout: float | None = None
    confirm_configs: int | None = None
    confirm_seeds: int | None = None
    refit_seeds: int | None = None
    untuned_seeds: int | None = None
    trials: int = 32
    searches: int | None = None
    worth: float | None = None
    epochs: int = 6
    folds: int = 0
    reports_per_epoch: int = 1
    grace: float = 1.0
    eta: float = 3.0
    also: InitVar[Mapping[str, Mode] | Sequence[str] | None] = None

    def __post_init__(self, also: Mapping[str, Mode] | Sequence[str] | None) -> None:
        """Convert NumPy numbers to Python's and derive modes from metrics; validation comes later, all at once."""
        for each in fields(self):
            object.__setattr__(self, each.name, plain(getattr(self, each.name)))
        for command in ("program", "test"):  # a path is a word, too
            if isinstance(words := getattr(self, command), list | tuple):
                object.__setattr__(self, command, [os.fspath(w) if isinstance(w, os.PathLike) else w for w in words])
        if cast(str | None, self.metric) is None:
            value = "value_0" if self.objectives else "value"
            object.__setattr__(self, "metric", "val_accuracy" if self.objective is None else value)
        if cast(Mode | None, self.mode) is None:
            object.__setattr__(self, "mode", _mode(self.metric))
        object.__setattr__(self, "mode", _short(self.mode))
        if also is not None:
            say("note: `also` of a Sweep is now `objectives`; the old name will be removed in version 0.3", sys.stderr)
            object.__setattr__(self, "objectives", plain(also))
        names = dict.fromkeys(self.objectives) if isinstance(self.objectives, list | tuple) else self.objectives
        if isinstance(names, Mapping):
            modes = {name: _mode(name) if mode is None else _short(mode) for name, mode in names.items()}
            object.__setattr__(self, "objectives", modes)

    @property
    def all_objectives(self) -> dict[str, str]:
        """{metric: "max" or "min"}; the first one selects and stops trials."""
        return {self.metric: self.mode, **cast(Mapping[str, str], self.objectives)}

    @property
    def data_name(self) -> str:
        """The data as `--data` names it; "" for what a function of the user's returns, and for none."""
        if isinstance(self.data, str):
            return self.data
        return "mnist" if self.data is None and not self.trainings else ""

    @property
    def trainings(self) -> list[str]:
        """Names of the fields that give a training of the user's own: at most one is legal."""
        return [name for name in TRAININGS if getattr(self, name) is not None]

    @property
    def precision(self) -> str:
        """The precision of the built-in training that the script fixes; `Config`'s default where it fixes none."""
        return str(self.fixed.get("precision", "fp32"))

    @property
    def model_name(self) -> str:
        """The model as `Config.model` names it.

        Raises:
            ModelError: The model is a function that a worker process could not import.
        """
        return self.model if isinstance(self.model, str) else import_path_of(self.model)


def _short(mode: Any) -> Any:
    """A mode, where Optuna's word stands for it."""
    return {"maximize": "max", "minimize": "min"}.get(mode, mode) if isinstance(mode, str) else mode


def _mode(metric: object) -> Mode | None:
    return MODES.get(metric) or usual_mode(metric) if isinstance(metric, str) else None
