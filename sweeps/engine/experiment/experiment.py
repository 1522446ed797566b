"""What one command asks for: the script's `Sweep` with what its flags say of it. The record keeps it as the definition.

All that decides what is tried, trained and compared stands here once; `Options` says where and how it runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from rungwise.engine.experiment import space
from rungwise.engine.experiment.flags import OWN, Options, default_options
from rungwise.engine.experiment.space import Space, is_distribution
from rungwise.engine.experiment.sweep import Sampler, Sweep
from rungwise.results.io.redaction import redacted_values
from rungwise.results.record.definition import DatasetSummary, Definition
from rungwise.trainable.folds.training import FoldedTraining
from rungwise.trainable.protocol import SweepData, Training
from rungwise.trainable.training.builtin import BuiltInTraining
from rungwise.trainable.training.loop_functions import LoopFunctions


@dataclass(frozen=True, kw_only=True)
class Experiment(Definition):
    """A definition with the Python objects that its JSON describes in words.

    `arms` hold the values alone, and `space` and `data` nothing, until `with_data` has completed them.
    """

    # The parts that JSON cannot hold.
    space_object: Space  # a dict of distributions, or a function of an Optuna trial
    arm_objects: Mapping[str, Mapping[str, Any]]  # arm -> values that it fixes, distributions that it searches
    sampler_object: Sampler | Mapping[str, Sampler]  # of all arms, or {arm: its own}
    model_path: str  # as `Config.model` says it: mlp, cnn, module:function
    trained_by: Training
    # What is trained again after the search. The record does not keep it: the next command may ask for more.
    confirm_configs: int  # of each search
    confirm_seeds: int  # of each of these; 0: nothing is confirmed
    refit_seeds: int  # further ones for the best configuration of all: the best of its trials is the model
    untuned_seeds: int  # on which the defaults are trained for each search
    audit: float  # share of the stopped trials that are trained to the end

    def with_data(self, data: SweepData) -> Self:
        """The same with all that the record keeps: of which data, in which space."""
        summary = DatasetSummary(**data.about)
        arms = {
            arm: {name: _text(value) if is_distribution(value) else value for name, value in settings.items()}
            for arm, settings in self.arm_objects.items()
        }
        known = {} if self.trained_by.asks else space.to_json(self.space_object)  # an objective's shows as it asks
        return replace(self, arms=arms, space=known, data=summary)

    @property
    def confirmations(self) -> int:
        """How many trials the confirmation trains."""
        return len(self.studies) * min(self.confirm_configs, self.trials) * self.confirm_seeds

    @property
    def repeats(self) -> int:
        """How many trials are trained besides the searches, audits apart."""
        untuned = 0 if self.untuned_config is None else self.searches * self.untuned_seeds
        return self.confirmations + (self.refit_seeds if self.confirmations else 0) + untuned

    @property
    def untuned_config(self) -> dict[str, Any] | None:
        """The configuration of the untuned control, without its seed: what no trial of the first arm varies, and
        defaults. None where nothing is searched, and where a hyperparameter has no default."""
        first = next(iter(self.arms))
        if not callable(self.space_object) and not self.space_of(first):
            return None
        budget = {"epochs": self.epochs, "reports_per_epoch": self.reports_per_epoch}
        found = self.trained_by.with_defaults({"seed": self.seed, **self.given(first), **budget})
        return None if found is None else {name: value for name, value in found.items() if name != "seed"}

    def space_of(self, arm: str) -> Space:
        """The space that `arm` searches: what it fixes is not searched, and where it has a range that one counts."""
        if callable(self.space_object):
            return self.space_object
        fixed = self.fixes(arm)
        own = {name: value for name, value in self.arm_objects[arm].items() if name not in fixed}
        return {name: dist for name, dist in {**self.space_object, **own}.items() if name not in fixed}

    def fixes(self, arm: str) -> dict[str, Any]:
        """What `arm` says that is a value and no range."""
        return _values(self.arm_objects[arm])

    def sampler_of(self, arm: str) -> Sampler:
        """What suggests for `arm`: a sampler's name, or a function of a seed."""
        sampler = self.sampler_object
        return sampler.get(arm, "tpe") if isinstance(sampler, Mapping) else sampler

    @property
    def common(self) -> dict[str, Any]:
        """The hyperparameters that no trial of any arm varies."""
        return {**({} if self.model_path == "mlp" else {"model": self.model_path}), **self.fixed}

    @property
    def single(self) -> dict[str, Any]:
        """The hyperparameters of `--one` that it does not say: those of all trials, and, as only the user's own code
        knows its defaults, those of the first arm."""
        return self.given(next(iter(self.arms))) if self.trained_by.is_own and self.arms else self.common

    def given(self, arm: str) -> dict[str, Any]:
        """The hyperparameters that no trial of `arm` varies."""
        return {**self.common, **self.fixes(arm)}


def resolve(sweep: Sweep, options: Options | None = None) -> Experiment:
    """What `sweep` and the flags ask for together; without `options` they say nothing. Nothing is checked yet.

    Raises ModelError for a model that is a function which no worker could find.
    """
    options = options or default_options(sweep)
    training = _training(sweep, options)
    sampler = sweep.sampler if options.sampler == OWN and not isinstance(sweep.sampler, str) else options.sampler
    return Experiment(
        name=options.name,
        sweep=sweep.name,
        question=" ".join((sweep.question or "").split()),
        metric=sweep.metric,
        mode=sweep.mode,
        trials=options.trials,
        searches=options.searches,
        budget=options.budget,
        order=_order(len(sweep.arms) * options.searches, options),
        epochs=options.epochs,
        reports_per_epoch=sweep.reports_per_epoch,
        folds=options.folds,
        grace=options.grace,
        eta=options.eta,
        scheduler=options.scheduler,
        sampler=options.sampler,
        samplers=_names(sampler) if isinstance(sampler, Mapping) else {},
        sampler_options=_json_object(options.sampler_options),
        objectives=sweep.all_objectives,
        worth=options.worth,
        until_sure=options.until_sure,
        patience=options.patience,
        max_parameters=options.max_parameters,
        constraints={name: list(limit) for name, limit in sweep.constraints.items()},
        seed=options.seed,
        arms={arm: _values(settings) for arm, settings in sweep.arms.items()},
        fixed=_fixed(sweep, options),
        model={"function": options.model.rpartition(":")[2]} if ":" in options.model else options.model,
        training=redacted_values(training.definition()),
        space_object=sweep.space if sweep.objective is None else space.asked_by_objective,
        arm_objects=sweep.arms,
        sampler_object=sampler,
        model_path=options.model,
        trained_by=training,
        confirm_configs=_or(options.confirm_configs, 3 if options.searches == 1 else 1),
        confirm_seeds=_or(options.confirm_seeds, 5 if options.searches == 1 else 2) if options.confirm else 0,
        refit_seeds=_or(options.refit_seeds, 0 if options.searches == 1 else 3) if options.confirm else 0,
        untuned_seeds=_or(options.untuned_seeds, 0 if options.searches == 1 else 2) if options.confirm else 0,
        audit=options.audit,
    )


def _order(studies: int, options: Options) -> str:
    """The order of suggestions. "auto" looks at what is asked, never at the machine: another one gives the same."""
    if options.order != "auto":
        return options.order
    several_of_one = options.concurrency > studies or (options.concurrency == 0 and studies == 1)
    return "arrival" if several_of_one else "fixed"


def _or(number: int | None, default: int) -> int:
    return default if number is None else number


def _training(sweep: Sweep, options: Options) -> Training:
    """What trains the trials: the user's function, objective or program, or the built-in network."""
    functions = LoopFunctions(sweep.metrics, sweep.loss, sweep.optimizer, sweep.schedule)
    if not sweep.trainings and options.folds:
        return FoldedTraining(options.source, functions, folds=options.folds)
    if not sweep.trainings:
        return BuiltInTraining(options.source, functions)
    from rungwise.trainable.own.function import FunctionTraining
    from rungwise.trainable.own.program.training import ProgramTraining
    from rungwise.trainable.own.worker_data import OwnData

    load = sweep.data if callable(sweep.data) else None
    data = OwnData(load, sweep.data_per_worker, options.source if options.data else None)
    if sweep.program is not None:
        template = sweep.program_arguments
        return ProgramTraining(data, sweep.metric, sweep.test, sweep.program, template, os.getcwd())
    if sweep.objective is not None:
        from rungwise.trainable.own.objective import ObjectiveTraining

        return ObjectiveTraining(data, sweep.metric, sweep.test, sweep.objective)
    assert sweep.train is not None
    return FunctionTraining(data, sweep.metric, sweep.test, sweep.train)


def _fixed(sweep: Sweep, options: Options) -> dict[str, Any]:
    """What the script fixes, with --precision where that differs."""
    return {**sweep.fixed, **({} if options.precision == sweep.precision else {"precision": options.precision})}


def _values(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if not is_distribution(value)}


def _names(samplers: Mapping[str, Sampler]) -> dict[str, str]:
    return {arm: sampler if isinstance(sampler, str) else OWN for arm, sampler in samplers.items()}


def _json_object(text: str) -> dict[str, Any]:
    """The JSON object in `text`; {} for anything else, which `check` refuses."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(distribution: Any) -> str:
    (text,) = space.to_json({"": distribution}).values()
    return str(text)
