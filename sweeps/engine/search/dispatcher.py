"""What is tried next: one Optuna study an arm, trials dealt to the arms in turn, every deal entered in the record.

Resume is the same code: trials that the record holds as RUNNING are dealt again before any new one, and the studies
start from what the record knows (`results.exporters.optuna_study`).
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState
from pydantic import ValidationError
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.space import misnamed, to_optuna
from rungwise.engine.outcome import OBJECTIVE, outcome
from rungwise.engine.search.fast_tpe import Tpe
from rungwise.engine.search.initial_point import Plain
from rungwise.engine.search.reruns import Repeat
from rungwise.engine.search.samplers import Ask, SamplerError, caught_up, made
from rungwise.engine.search.seeds import derived_seed
from rungwise.results.exporters.optuna_study import kept
from rungwise.results.io.redaction import Verbatim
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import ReportRow, State, Trial
from rungwise.results.record.writer import Record
from rungwise.trainable.config import parse_config
from rungwise.trainable.faults import message, ordinary, reason
from rungwise.trainable.import_path import ModelError
from rungwise.trainable.messages import Failure, FailureKind, TrialAssignment, TrialEnd, TrialResult
from rungwise.trainable.worker.checkpoints import owner

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

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

    values: dict[str, Any]  # hyperparameters
    params: dict[str, Any]  # what was sampled for them
    distributions: dict[str, str]  # of params, as JSON
    problem: Failure | None  # why there are no values
    kept: dict[str, Any]  # what the sampler wants to know of this trial later
    shared: dict[str, Any]  # and of the whole study: what is new there


class ArmStudy(OptunaSearch):
    """One arm's study behind Ray's OptunaSearch. It mends three things (ray 2.60, optuna_search.py):

    - a trial that ASHA stopped is told COMPLETE with its last value, so TPE mixes short with full-length scores, and
      the stopping report itself is dropped; here it is reported, and told PRUNED;
    - a NaN makes `tell` raise, and the trial stays RUNNING for ever; here it is told FAIL;
    - the sampler's random state depends on how many draws came before; here every suggestion has a sampler seeded by
      the trial's number, so a resumed search suggests what an uninterrupted one would have.
    """

    def __init__(
        self, experiment: Experiment, arm: str, sampler: Callable[[int], BaseSampler], first: BaseSampler | None = None
    ) -> None:
        """`sampler` makes the one that suggests our trial of a number; `first` suggests while nothing is known."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # not a line for every study and trial
        self._ot_study: Any  # Ray's class says None
        self._space: Any
        space: Any = to_optuna(experiment.space_of(arm))
        super().__init__(space=space, metric=OBJECTIVE, mode=experiment.mode, study_name=arm)
        self._sampler_of, self._first, self._arm = sampler, first, arm
        self._before: Tpe | None = None  # what suggested last
        self._others = list(experiment.objectives)[1:]
        self._steps: dict[str, int] = {}  # Tune trial -> last step reported to Optuna
        self._points: list[dict[str, Any]] = []
        self._earlier = 0  # trials of other runs, that the study began with

    def adopt(self, study: optuna.Study, points: list[dict[str, Any]]) -> None:
        """Go on with a study rebuilt from the record; `points` are tried first."""
        self._ot_study, self._points, self._before = study, points, None
        self._earlier = sum("trial" not in trial.user_attrs for trial in study.trials)

    def continue_trial(self, trial_id: str, number: int) -> None:
        """The Tune trial `trial_id` carries on the study's RUNNING trial `number`."""
        frozen = self._ot_study.trials[self._earlier + number]
        self._ot_trials[trial_id] = optuna.trial.Trial(self._ot_study, frozen._trial_id)
        self._steps[trial_id] = max(frozen.intermediate_values, default=0)

    def _next_sampler(self, number: int) -> BaseSampler:
        """A sampler of its own for our trial `number`; TPE knows what the one before it knew."""
        study = self._ot_study
        if self._first is not None and not self._points and not study._storage.get_n_trials(study._study_id):
            return self._first
        sampler = self._sampler_of(number)
        if isinstance(sampler, Tpe):
            if self._before is not None:
                sampler.take_over(self._before)
            self._before = sampler
        return sampler

    def ask(self, trial_id: str, number: int) -> Suggestion:
        """Suggest for our trial `number`. A space function that raises is a problem of that trial, not of the sweep."""
        problem: Failure | None = None
        values: dict[str, Any] = {}
        storage, study = self._ot_study._storage, self._ot_study._study_id
        shared = dict(storage.get_study_system_attrs(study))
        if self._points and (before := storage.get_n_trials(study) - self._earlier) < len(self._points):
            self._ot_study.enqueue_trial(self._points[before])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._ot_study.sampler = self._next_sampler(number)
            if callable(self._space):  # Ray would mix the sampled parameters into what the function returns
                self._ot_trials[trial_id] = self._ot_study.ask()
                try:
                    with ordinary():
                        values = dict(self._space(self._ot_trials[trial_id]))
                except optuna.TrialPruned as error:  # the user's way to say that these will not do
                    problem = Failure(FailureKind.INFEASIBLE, f"infeasible: {message(error)}")
                except Exception as error:
                    problem = Failure(FailureKind.EXCEPTION, f"the space function raised {reason(error)}")
            else:
                try:
                    with ordinary():
                        values = self.suggest(trial_id) or {}
                except Exception as error:  # of a user's own sampler
                    raise SamplerError(f"the sampler of arm {self._arm!r} raised {reason(error)}") from error
        asked = self._ot_trials[trial_id]
        distributions = {
            name: optuna.distributions.distribution_to_json(distribution)
            for name, distribution in asked.distributions.items()
        }
        changed = {k: v for k, v in storage.get_study_system_attrs(study).items() if shared.get(k) != v}
        if callable(self._space) and (wrong := [*misnamed(values), *misnamed(asked.distributions)]):
            # The record would hold other names, and a later driver not know them again: none are kept.
            return Suggestion({}, {}, {}, Failure(FailureKind.EXCEPTION, wrong[0]), {}, {})
        attributes = kept(storage.get_trial_system_attrs(asked._trial_id))
        return Suggestion(values, dict(asked.params), distributions, problem, attributes, changed)

    def report(self, trial_id: str, result: TrialResult) -> None:
        """A trial goes on."""
        value, step = result.objective, result.step
        if value is not None and step > self._steps.get(trial_id, 0):  # a second attempt repeats the first one's steps
            if not self._others:  # Optuna takes reports of one objective only
                self._ot_trials[trial_id].report(value, step)
            self._steps[trial_id] = step

    def complete(self, trial_id: str, result: TrialResult | None) -> None:
        """A trial is over; its last result, or None when it was lost."""
        if result is not None:
            self.report(trial_id, result)
        state = _OPTUNA_STATE[outcome(result)]
        failure = result.failure if result is not None else None
        asked = self._ot_trials.pop(trial_id)
        values = self._values(result) if result is not None and state is TrialState.COMPLETE else None
        if state is TrialState.COMPLETE and values is None:
            state = TrialState.FAIL
        reported = self._steps.pop(trial_id, 0)
        if state is TrialState.PRUNED and not reported:
            state = TrialState.FAIL  # stopped before it said anything
        if failure is not None and failure.kind.is_infeasible and not reported:
            state = TrialState.PRUNED  # without a value: TPE ranks it below all others, and it would overlook a FAIL
        if failure is not None and failure.constraint is not None:
            asked.set_constraint(failure.constraint.name, failure.constraint.violation)
        self._ot_study.tell(asked, values, state=state)

    def _values(self, result: TrialResult) -> list[float] | None:
        """The last values of all objectives, the first one first; None unless all are finite."""
        values = [result.objective, *(result.metrics.get(name) for name in self._others)]
        finite = [float(value) for value in values if value is not None and isfinite(value)]
        return finite if len(finite) == len(values) else None


def sampler_maker(experiment: Experiment, arm: str) -> Callable[[int], BaseSampler]:
    """What makes the sampler that suggests the trial of a number for `arm`."""
    seed, space, options = experiment.seed, experiment.space_of(arm), experiment.sampler_options
    return lambda number: made(
        experiment.sampler_of(arm), Ask(derived_seed(seed, "sampler", number), seed, space, options)
    )


def initial_sampler(experiment: Experiment) -> BaseSampler | None:
    """What suggests the first trial of an arm of which nothing is known; None = its sampler.

    Only TPE begins with a guess of ours: the others promise a grid, a sequence, or pure chance. And only where arms are
    not compared: a regulariser that begins with next to none of itself seems to do nothing.
    """
    (arm, *others) = experiment.arms
    return Plain() if experiment.sampler_of(arm) == "tpe" and not others else None


@dataclass(frozen=True)
class _Again:
    """A trial to be carried on."""

    trial: Trial
    number: int  # in its arm's study, when it is of the search
    reported: int  # last step in the record
    checkpoints: Mapping[int, str]  # step -> sha256


class Search(Searcher):
    """Deals trials: first those that the record holds as in flight, then new ones to the arms in turn, and when all
    of these have ended, what `repeats` asks to be trained again."""

    def __init__(
        self,
        experiment: Experiment,
        record: Record,
        in_flight: Callable[[], int],
        repeats: Callable[[], Iterable[Repeat]] = tuple,
        refused: Callable[[int, str, Failure], None] = lambda *_: None,
    ) -> None:
        """`in_flight`: how many may be; `repeats`: asked when the search has ended, and again when what it said was
        trained, until it has nothing new; `refused`: told of a trial
        (its number, arm, and why) that the space suggested and nobody can train."""
        super().__init__(metric=OBJECTIVE, mode=experiment.mode)
        self.finished = False  # set to deal no more
        self._experiment, self._record, self._in_flight = experiment, record, in_flight
        self._arms = list(experiment.arms)
        self._studies = {
            arm: ArmStudy(experiment, arm, sampler_maker(experiment, arm), initial_sampler(experiment))
            for arm in self._arms
        }
        self._again: deque[_Again] = deque()  # in flight when the last driver ended
        self._searched = 0  # search trials dealt
        self._last = 0  # the highest number of any trial
        self._ask_repeats, self._refused = repeats, refused
        self._repeats: deque[Repeat] | None = None  # None: not asked yet
        self._repeated: set[tuple[str, int, int]] = set()  # what was dealt of them: once a session
        with Reader(record.path.parent) as reader:
            self._run = str(reader.meta("id") or "")  # whose checkpoints ours are
        self._live: dict[str, str | None] = {}  # Tune trial -> arm of its study; None for a repeat

    def replay(
        self,
        trials: list[Trial],
        studies: Mapping[str, optuna.Study],
        curves: Mapping[int, Mapping[int, ReportRow]],
        checkpoints: Mapping[int, Mapping[int, str]],
        points: Mapping[str, list[dict[str, Any]]] | None = None,
    ) -> None:
        """Start from what the record holds: `trials` in order of dealing, `studies` as `results.exporters.optuna_study`
        rebuilt them.

        `points`: {arm: what it tries first}.
        """
        for arm, study in studies.items():
            if self._experiment.sampler_of(arm) == "cmaes":
                sampler = sampler_maker(self._experiment, arm)(0)
                study = caught_up(study, sampler, self._experiment.space_of(arm))
            self._studies[arm].adopt(study, (points or {}).get(arm, []))
        seen = dict.fromkeys(self._arms, 0)
        again = []
        for trial in trials:
            if trial.state is State.RUNNING:
                reported = max(curves.get(trial.trial, {}), default=0)
                again.append(_Again(trial, seen[trial.arm], reported, checkpoints.get(trial.trial, {})))
            seen[trial.arm] += trial.phase == "search"
        # The order of an uninterrupted sweep: those that had begun come first, those only staged wait, and a process
        # that becomes free goes to the newest of them.
        begun = any(trial.attempts for trial in trials)
        newest_first = [one for one in reversed(again) if begun and not one.trial.attempts]
        self._again = deque([one for one in again if not begun or one.trial.attempts] + newest_first)
        self._searched = sum(seen.values())
        self._last = max((trial.trial for trial in trials), default=0)

    def next_trial(self, trial_id: str) -> TrialAssignment | str | None:
        """What the worker of the Tune trial `trial_id` trains next; None while enough are in flight; FINISHED when all
        are dealt."""
        if self.finished:
            return str(Searcher.FINISHED)
        if len(self._live) >= self._in_flight():
            return None
        if self._again:
            return self._carry_on(trial_id, self._again.popleft())
        while self._searched < self._experiment.trials:
            if assignment := self._ask(trial_id):
                return assignment
        if any(self._live.values()):
            return None  # what is trained again depends on how the last trials end
        if self._repeats is None or not (self._repeats or self._live):  # what these choose may lack its model
            asked = [repeat for repeat in self._ask_repeats() if repeat.key not in self._repeated]
            self._repeats = deque(asked)
            self._repeated |= {repeat.key for repeat in asked}
        if self._repeats:
            return self._repeat(trial_id, self._repeats.popleft())
        return None if self._live else str(Searcher.FINISHED)

    def report(self, trial_id: str, result: TrialResult) -> None:
        """A trial goes on."""
        if arm := self._live[trial_id]:
            self._studies[arm].report(trial_id, result)

    def complete(self, trial_id: str, result: TrialResult | None) -> None:
        """A trial is over; its last result, or None when it was lost."""
        if arm := self._live.pop(trial_id):
            self._studies[arm].complete(trial_id, result)

    def _carry_on(self, trial_id: str, again: _Again) -> TrialAssignment:
        trial = again.trial
        if trial.phase == "search":
            self._studies[trial.arm].continue_trial(trial_id, again.number)
        return replace(
            self._assignment(trial_id, trial.trial, trial.arm, trial.phase, trial.config),
            attempt=trial.attempts + 1,
            reported=again.reported,
            checkpoints=again.checkpoints,
        )

    def _ask(self, trial_id: str) -> TrialAssignment | None:
        """A new search trial, entered in the record; None when the space suggested an illegal one, which FAILED."""
        index, self._searched = self._searched + 1, self._searched + 1
        self._last += 1
        number, arm = self._last, self._arms[(index - 1) % len(self._arms)]
        asked = self._studies[arm].ask(trial_id, index)
        problem = asked.problem
        values = {
            "seed": derived_seed(self._experiment.seed, "trial", index),
            **self._experiment.given(arm),
            **asked.values,
            "epochs": self._experiment.epochs,
            "reports_per_epoch": self._experiment.reports_per_epoch,
        }
        try:
            values = parse_config(values).model_dump(mode="json")
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            problem = problem or Failure(FailureKind.EXCEPTION, f"illegal hyperparameters: {told}")
            values = {name: repr(value) for name, value in values.items()}  # as they are they may not even be JSON
        except ModelError as error:
            problem = problem or Failure(FailureKind.EXCEPTION, str(error))
        self._record.add_trial(
            number, arm=arm, phase="search", config=values, params=asked.params, distributions=asked.distributions
        )
        if asked.kept or asked.shared:
            kept, shared = Verbatim(asked.kept), Verbatim(asked.shared)
            self._record.event("sampler", number, arm=arm, kept=kept, shared=shared)
        if problem is None:
            return self._assignment(trial_id, number, arm, "search", values)
        self._record.end_trial(number, State.FAILED, failure=problem)
        self._refused(number, arm, problem)
        self._studies[arm].complete(trial_id, TrialResult(number, state=TrialEnd.FAILED, failure=problem))
        return None

    def _repeat(self, trial_id: str, repeat: Repeat) -> TrialAssignment:
        source, again = repeat.source, repeat.again
        if again is not None:
            self._record.reopen_trial(again.trial, repeat.why)
            assignment = self._assignment(trial_id, again.trial, again.arm, again.phase, repeat.config)
            return replace(assignment, attempt=again.attempts + 1)
        self._last += 1
        self._record.add_trial(
            self._last,
            arm=source.arm,
            phase=repeat.phase,
            config=repeat.config,
            params=source.params,
            distributions=source.distributions,
            source=source.trial,
        )
        return self._assignment(trial_id, self._last, source.arm, repeat.phase, repeat.config)

    def _assignment(
        self, trial_id: str, number: int, arm: str, phase: str, config: Mapping[str, Any]
    ) -> TrialAssignment:
        self._live[trial_id] = arm if phase == "search" else None
        return TrialAssignment(number, arm, phase, config, owner=owner(self._run, config))

    # -- Tune's side -------------------------------------------------------------------------------------------

    def suggest(self, trial_id: str) -> Any:
        assignment = self.next_trial(trial_id)
        return assignment.to_tune() if isinstance(assignment, TrialAssignment) else assignment

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.report(trial_id, TrialResult.from_tune(result))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.complete(trial_id, None if error else TrialResult.last_from_tune(result))

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher into snapshots that nobody reads: the record is what we resume from

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a search is rebuilt from the record, by `replay`, not from Tune's snapshots")
