"""The Optuna study of one search of an arm: suggestions, reports and ends of its trials."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState
from pydantic import ValidationError
from ray.tune.search.optuna import OptunaSearch

from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.space import contains, misnamed, suggest_value, to_optuna
from rungwise.engine.search import compat
from rungwise.engine.search.initial_point import DefaultPointSampler
from rungwise.engine.search.samplers import SamplerContext, SamplerError, build_sampler
from rungwise.engine.search.seeds import derived_seed
from rungwise.results.exporters.optuna_study import kept
from rungwise.results.record.types import State, outcome
from rungwise.trainable.faults import message, ordinary, reason
from rungwise.trainable.messages import OBJECTIVE, Failure, FailureKind, StudyKey, SuggestionRequest, TrialResult

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from rungwise.engine.search.fast_tpe import FastTPESampler

_DIRECTIONS = {"min": optuna.study.StudyDirection.MINIMIZE, "max": optuna.study.StudyDirection.MAXIMIZE}
_OPTUNA_STATE = {
    State.COMPLETED: TrialState.COMPLETE,
    State.STOPPED: TrialState.PRUNED,
    State.DIVERGED: TrialState.FAIL,
    State.FAILED: TrialState.FAIL,
    State.LOST: TrialState.FAIL,
}


@dataclass(frozen=True)
class Suggestion:
    """What a study suggests for one trial."""

    params: dict[str, Any]  # the parameters that were sampled
    distributions: dict[str, str]  # of params, as JSON
    config: dict[str, Any]  # the trial's whole configuration, as JSON; {} of a trial that is trained already
    problem: Failure | None = None  # why it cannot be trained
    trial_attributes: dict[str, Any] = field(default_factory=dict)  # from the sampler, for later suggestions
    study_attributes: dict[str, Any] = field(default_factory=dict)  # and of the study: what is new there


class ArmStudy(OptunaSearch):
    """One search's study, on Ray's OptunaSearch. It fixes three faults of that class (ray 2.60, optuna_search.py):

    - a trial that ASHA stopped becomes COMPLETE with its last value, so that TPE mixes scores after few and after all
      epochs, and its last report is dropped; here that is reported, and the trial is PRUNED;
    - a NaN makes `tell` raise, and the trial stays RUNNING; here it becomes FAIL;
    - the sampler's random state depends on the number of earlier draws; here every suggestion has a sampler of its own,
      seeded by the trial's place in the study, so that a resumed search makes the same suggestions.
    """

    def __init__(
        self,
        experiment: Experiment,
        key: StudyKey,
        sampler: Callable[[int], BaseSampler],
        first: BaseSampler | None = None,
    ) -> None:
        """`sampler` builds the one that suggests the n-th trial; `first` suggests while the study is empty."""
        self._experiment, self._key = experiment, key
        arm, name = key.arm, key.name(experiment.searches)
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # not a line for every study and trial
        self._search_space = to_optuna(experiment.space_of(arm))
        super().__init__(space=self._search_space, metric=OBJECTIVE, mode=experiment.mode, study_name=name)  # type: ignore[arg-type]
        directions = [_DIRECTIONS[mode] for mode in experiment.objectives.values()]
        self.study = optuna.create_study(study_name=name, directions=directions)
        self._trials: dict[str, optuna.Trial] = {}  # by the id of the Tune trial
        self._samplers: dict[str, BaseSampler] = {}  # likewise: of trials that go on asking
        self._build_sampler, self._first, self._arm = sampler, first, arm
        self._previous: FastTPESampler | None = None  # the sampler of the previous suggestion
        self._violations = experiment.violations
        self._secondary_metrics = list(experiment.objectives)[1:]
        self._steps: dict[str, int] = {}  # Tune trial -> last step reported to Optuna
        self._points: list[dict[str, Any]] = []
        self._num_earlier_trials = 0  # trials of other runs, with which the study began

    def adopt(self, study: optuna.Study, points: list[dict[str, Any]]) -> None:
        """Continue a study rebuilt from the record; `points` are tried first."""
        self.study, self._points, self._previous = study, points, None
        self._num_earlier_trials = sum("trial" not in trial.user_attrs for trial in study.trials)

    def continue_trial(self, trial_id: str, number: int) -> None:
        """Let the Tune trial `trial_id` continue the study's RUNNING trial `number`."""
        index = self._num_earlier_trials + number
        is_first = self._first is not None and index == 0 and not self._points
        self._samplers[trial_id] = self._first if is_first and self._first else self._build_sampler(number + 1)
        self._trials[trial_id] = compat.resumed_trial(self.study, index)
        reported = self.study.get_trials(deepcopy=False)[index].intermediate_values
        self._steps[trial_id] = max(reported, default=0)

    def _next_sampler(self, number: int) -> BaseSampler:
        """The sampler of the study's trial `number`; TPE takes over the trials that the previous one has read."""
        if self._first is not None and not self._points and not compat.number_of_trials(self.study):
            return self._first
        sampler = self._build_sampler(number)
        fast_tpe = compat.fast_tpe_class()
        if fast_tpe is not None and isinstance(sampler, fast_tpe):
            if self._previous is not None:
                sampler.take_over(self._previous)
            self._previous = sampler
        return sampler

    def ask(self, trial_id: str, number: int) -> Suggestion:
        """Suggest for the study's trial `number`, from 1. A space function that raises is this trial's problem only."""
        problem: Failure | None = None
        values: dict[str, Any] = {}
        attributes_before = compat.study_attributes(self.study)
        if self._points and (tried := compat.number_of_trials(self.study) - self._num_earlier_trials) < len(
            self._points
        ):
            self.study.enqueue_trial(self._points[tried])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.sampler = self._samplers[trial_id] = self._next_sampler(number)
            if callable(self._search_space):  # Ray would mix the sampled parameters into what the function returns
                self._trials[trial_id] = self.study.ask()
                try:
                    with ordinary():
                        values = dict(self._search_space(self._trials[trial_id]))
                except optuna.TrialPruned as error:  # the user's way to reject the parameters
                    problem = Failure(FailureKind.INFEASIBLE, f"infeasible: {message(error)}")
                except Exception as error:
                    problem = Failure(FailureKind.EXCEPTION, f"the space function raised {reason(error)}")
            else:
                try:
                    with ordinary():
                        values = compat.suggest(self, self.study, self._trials, self._search_space, trial_id)
                except Exception as error:  # of a user's own sampler
                    raise SamplerError(f"the sampler of arm {self._arm!r} raised {reason(error)}") from error
        trial = self._trials[trial_id]
        distributions = _as_json(trial)
        attributes = compat.study_attributes(self.study).items()
        changed = {name: value for name, value in attributes if attributes_before.get(name) != value}
        if callable(self._search_space) and (wrong := [*misnamed(values), *misnamed(trial.distributions)]):
            # The record would hold other names, which a later driver would not recognise: it holds none.
            config, _ = self._configuration(number, {})
            return Suggestion({}, {}, config, Failure(FailureKind.EXCEPTION, wrong[0]))
        config, illegal = self._configuration(number, values)
        trial_attributes = kept(compat.trial_attributes(self.study, trial))
        return Suggestion(dict(trial.params), distributions, config, problem or illegal, trial_attributes, changed)

    def _configuration(self, number: int, values: Mapping[str, Any]) -> tuple[dict[str, Any], Failure | None]:
        """The whole configuration of the study's trial `number`, for which `values` are suggested, and why it is not
        legal."""
        experiment = self._experiment
        config = {
            "seed": derived_seed(experiment.seed, "trial", *self._key, number),
            **experiment.given(self._arm),
            "epochs": experiment.epochs,
            **values,
            "reports_per_epoch": experiment.reports_per_epoch,
        }
        try:
            return experiment.trained_by.parse(config), None
        except ValidationError as error:
            details = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            illegal = Failure(FailureKind.EXCEPTION, f"illegal hyperparameters: {details}")
            return {name: repr(value) for name, value in config.items()}, illegal  # as it is it may not even be JSON
        except ValueError as error:  # a model that cannot be imported, or what the user's own checks raise
            return config, Failure(FailureKind.EXCEPTION, str(error))

    def is_suggested(self, trial_id: str, name: str) -> bool:
        """Whether the trial has a value for `name` already: `suggest` then gives it again."""
        return name in self._trials[trial_id].distributions

    def suggest_one(self, trial_id: str, request: SuggestionRequest) -> Suggestion:
        """Suggest a further hyperparameter for a trial that is trained already; all that it has is returned.

        Raises ValueError for a range that Optuna refuses, and what the sampler does.
        """
        trial, name = self._trials[trial_id], request.name
        distribution = optuna.distributions.json_to_distribution(request.distribution)
        shared, own = compat.study_attributes(self.study), compat.trial_attributes(self.study, trial)
        enqueued = own.get("fixed_params", {})
        if name in enqueued and not contains(distribution, enqueued[name]):
            raise ValueError(f"--enqueue: {name} must be within {distribution}, but got {enqueued[name]!r}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.sampler = self._samplers[trial_id]
            suggest_value(trial, name, distribution)
        now = compat.study_attributes(self.study)
        changed = {key: value for key, value in now.items() if shared.get(key) != value}
        kept_now = kept(compat.trial_attributes(self.study, trial))
        is_new = bool(changed) or kept_now != kept(own)
        return Suggestion(dict(trial.params), _as_json(trial), {}, None, kept_now if is_new else {}, changed)

    def report(self, trial_id: str, result: TrialResult) -> None:
        """Tell the study of a trial's report."""
        value, step = result.objective, result.step
        if value is not None and step > self._steps.get(trial_id, 0):  # a second attempt repeats the first one's steps
            if not self._secondary_metrics:  # Optuna takes reports of one objective only
                self._trials[trial_id].report(value, step)
            self._steps[trial_id] = step

    def complete(self, trial_id: str, result: TrialResult | None) -> None:
        """Tell the study that a trial has ended; `result` is its last one, or None when it was lost."""
        if result is not None:
            self.report(trial_id, result)
        state = _OPTUNA_STATE[outcome(result)]
        failure = result.failure if result is not None else None
        trial = self._trials.pop(trial_id)
        self._samplers.pop(trial_id, None)
        values = self._values(result) if result is not None and state is TrialState.COMPLETE else None
        if state is TrialState.COMPLETE and values is None:
            state = TrialState.FAIL
        reported = self._steps.pop(trial_id, 0)
        if state is TrialState.PRUNED and not reported:
            state = TrialState.FAIL  # stopped before its first report
        if failure is not None and failure.kind.is_infeasible and not reported:
            state = TrialState.PRUNED  # without a value: TPE ranks it below all others, and it would overlook a FAIL
        if failure is not None and failure.constraint is not None:
            trial.set_constraint(failure.constraint.name, failure.constraint.violation)
        for name, violation in self._violations(result.metrics if result is not None else {}).items():
            trial.set_constraint(name, violation)
        self.study.tell(trial, values, state=state)

    def _values(self, result: TrialResult) -> list[float] | None:
        """The last values of all objectives, the primary one first; None unless all are finite."""
        values = [result.objective, *(result.metrics.get(name) for name in self._secondary_metrics)]
        finite = [float(value) for value in values if value is not None and isfinite(value)]
        return finite if len(finite) == len(values) else None


def _as_json(trial: optuna.Trial) -> dict[str, str]:
    return {name: optuna.distributions.distribution_to_json(kind) for name, kind in trial.distributions.items()}


def sampler_factory(experiment: Experiment, key: StudyKey) -> Callable[[int], BaseSampler]:
    """A function that builds the sampler of one suggestion of a search, from the trial's place in it.

    Seeds follow from sweep, arm, search and place: searches are independent, and time decides nothing.
    """
    arm, space, options = key.arm, experiment.space_of(key.arm), experiment.sampler_options
    study_seed = experiment.seed if key.search == 1 else derived_seed(experiment.seed, "study", *key)
    return lambda number: build_sampler(
        experiment.sampler_of(arm),
        SamplerContext(derived_seed(experiment.seed, "sampler", *key, number), study_seed, space, options),
    )


def initial_sampler(experiment: Experiment) -> BaseSampler | None:
    """The sampler of the first trial of an arm whose study is empty; None = the arm's own.

    Only TPE begins with a default point: the others promise a grid, a sequence, or pure chance. And only where arms are
    not compared: a regulariser that begins with next to none of itself seems to do nothing.
    """
    (arm, *others) = experiment.arms
    return DefaultPointSampler() if experiment.sampler_of(arm) == "tpe" and not others else None
