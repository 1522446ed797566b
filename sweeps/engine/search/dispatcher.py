"""Dispatches trials: which arm is next, what its study suggests, and what is trained again once the search has ended.

Resume is the same code: trials that the record holds as RUNNING are dispatched again before any new one, and the
studies start from what the record holds (`results.exporters.optuna_study`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from ray.tune.search import Searcher

from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.outcome import OBJECTIVE
from rungwise.engine.search.arm_study import ArmStudy, initial_sampler, sampler_factory
from rungwise.engine.search.live_suggestions import LiveSuggestions, Send, sender
from rungwise.engine.search.reruns import Repeat
from rungwise.engine.search.samplers import restore_cmaes_state
from rungwise.engine.search.seeds import derived_seed
from rungwise.results.io.redaction import Verbatim
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import ReportRow, State, Trial
from rungwise.results.record.writer import Record
from rungwise.trainable.messages import Failure, FailureKind, TrialAssignment, TrialEnd, TrialResult, take_actor
from rungwise.trainable.worker.checkpoints import owner

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class _ResumedTrial:
    """A trial that was in flight when the last driver ended."""

    trial: Trial
    number: int  # in its arm's study, when it is of the search
    reported: int  # last step in the record
    checkpoints: Mapping[int, str]  # step -> sha256


class Search(Searcher):
    """Dispatches trials: first those that the record holds as in flight, then new ones to the arms in turn, and when
    all of these have ended, the reruns that `repeats` returns."""

    def __init__(
        self,
        experiment: Experiment,
        record: Record,
        in_flight: Callable[[], int],
        repeats: Callable[[], Iterable[Repeat]] = tuple,
        refused: Callable[[int, str, Failure], None] = lambda *_: None,
    ) -> None:
        """
        Args:
            experiment: the sweep's arms, spaces, samplers and budget.
            record: where every trial is entered before it is dispatched.
            in_flight: returns how many trials may be in flight.
            repeats: returns the reruns; called when the search has ended, and again when all that it returned are
                trained, until it returns nothing new.
            refused: called with the number, the arm and the failure of a trial whose suggestion cannot be trained.
        """
        super().__init__(metric=OBJECTIVE, mode=experiment.mode)
        self._experiment, self._record, self._in_flight = experiment, record, in_flight
        self._arms = list(experiment.arms)
        self._studies = {
            arm: ArmStudy(experiment, arm, sampler_factory(experiment, arm), initial_sampler(experiment))
            for arm in self._arms
        }
        self._resumed: deque[_ResumedTrial] = deque()
        self._searched = 0  # search trials dispatched
        self._last = 0  # the highest number of any trial
        self._find_repeats, self._refused = repeats, refused
        self._repeats: deque[Repeat] | None = None  # None: the search has not ended yet
        self._repeated: set[tuple[str, int, int]] = set()  # keys of those dispatched: each once a session
        with Reader(record.path.parent) as reader:
            self._run = str(reader.meta("id") or "")  # the owner of the checkpoints
        self._suggestions = LiveSuggestions(record)
        self._live: dict[str, str | None] = {}  # Tune trial -> arm of its study; None for a repeat

    def replay(
        self,
        trials: list[Trial],
        studies: Mapping[str, optuna.Study],
        curves: Mapping[int, Mapping[int, ReportRow]],
        checkpoints: Mapping[int, Mapping[int, str]],
        points: Mapping[str, list[dict[str, Any]]] | None = None,
    ) -> None:
        """Start from what the record holds.

        Args:
            trials: all trials, in the order in which they were dispatched.
            studies: {arm: its study}, as `results.exporters.optuna_study` rebuilds them.
            curves: {trial: {step: report}}.
            checkpoints: {trial: {step: sha256}}.
            points: {arm: points that it tries first}.
        """
        for arm, study in studies.items():
            if self._experiment.sampler_of(arm) == "cmaes":
                sampler = sampler_factory(self._experiment, arm)(0)
                study = restore_cmaes_state(study, sampler, self._experiment.space_of(arm))
            self._studies[arm].adopt(study, (points or {}).get(arm, []))
        num_searched = dict.fromkeys(self._arms, 0)
        resumed = []
        for trial in trials:
            if trial.state is State.RUNNING:
                reported = max(curves.get(trial.trial, {}), default=0)
                resumed.append(
                    _ResumedTrial(trial, num_searched[trial.arm], reported, checkpoints.get(trial.trial, {}))
                )
            num_searched[trial.arm] += trial.phase == "search"
        # The order of an uninterrupted sweep: those that had begun come first, those only staged wait, and a process
        # that becomes free goes to the newest of them.
        begun = any(trial.attempts for trial in trials)
        newest_first = [one for one in reversed(resumed) if begun and not one.trial.attempts]
        self._resumed = deque([one for one in resumed if not begun or one.trial.attempts] + newest_first)
        self._searched = sum(num_searched.values())
        self._last = max((trial.trial for trial in trials), default=0)

    def next_trial(self, trial_id: str) -> TrialAssignment | str | None:
        """What the worker of the Tune trial `trial_id` trains next; None while enough are in flight; FINISHED when all
        are dispatched."""
        if len(self._live) >= self._in_flight():
            return None
        if self._resumed:
            return self._resume(trial_id, self._resumed.popleft())
        while self._searched < self._experiment.trials:
            if assignment := self._suggest_trial(trial_id):
                return assignment
        if any(self._live.values()):
            return None  # the reruns depend on how the last trials end
        if self._repeats is None or not (self._repeats or self._live):  # what these choose may lack its model
            repeats = [repeat for repeat in self._find_repeats() if repeat.key not in self._repeated]
            self._repeats = deque(repeats)
            self._repeated |= {repeat.key for repeat in repeats}
        if self._repeats:
            return self._repeat(trial_id, self._repeats.popleft())
        return None if self._live else str(Searcher.FINISHED)

    def report(self, trial_id: str, result: TrialResult) -> None:
        """A trial has sent a report and goes on."""
        if arm := self._live[trial_id]:
            self._studies[arm].report(trial_id, result)

    def suggest_one(self, trial_id: str, result: TrialResult, send: Send) -> None:
        """A trial asks for one more hyperparameter: `send` it, once it is in the record."""
        if arm := self._live[trial_id]:
            self._suggestions.answer(trial_id, result, self._studies[arm], send)

    def complete(self, trial_id: str, result: TrialResult | None) -> None:
        """A trial has ended; `result` is its last one, or None when it was lost."""
        if arm := self._live.pop(trial_id):
            self._studies[arm].complete(trial_id, result)

    def _resume(self, trial_id: str, resumed: _ResumedTrial) -> TrialAssignment:
        trial = resumed.trial
        if trial.phase == "search":
            self._studies[trial.arm].continue_trial(trial_id, resumed.number)
        return replace(
            self._assignment(trial_id, trial.trial, trial.arm, trial.phase, trial.config),
            attempt=trial.attempts + 1,
            reported=resumed.reported,
            checkpoints=resumed.checkpoints,
        )

    def _suggest_trial(self, trial_id: str) -> TrialAssignment | None:
        """A new search trial, entered in the record; None when the space suggested an illegal one, which FAILED."""
        index, self._searched = self._searched + 1, self._searched + 1
        self._last += 1
        number, arm = self._last, self._arms[(index - 1) % len(self._arms)]
        suggestion = self._studies[arm].ask(trial_id, index)
        problem = suggestion.problem
        values = {
            "seed": derived_seed(self._experiment.seed, "trial", index),
            **self._experiment.given(arm),
            **suggestion.values,
            "epochs": self._experiment.epochs,
            "reports_per_epoch": self._experiment.reports_per_epoch,
        }
        try:
            values = self._experiment.trained_by.parse(values)
        except ValidationError as error:
            details = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            problem = problem or Failure(FailureKind.EXCEPTION, f"illegal hyperparameters: {details}")
            values = {name: repr(value) for name, value in values.items()}  # as they are they may not even be JSON
        except ValueError as error:  # a model that cannot be imported, or what the user's own checks raise
            problem = problem or Failure(FailureKind.EXCEPTION, str(error))
        self._record.add_trial(
            number, arm=arm, phase="search", config=values, params=suggestion.params,
            distributions=suggestion.distributions,
        )  # fmt: skip
        if suggestion.trial_attributes or suggestion.study_attributes:
            kept, shared = Verbatim(suggestion.trial_attributes), Verbatim(suggestion.study_attributes)
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
        message = TrialResult.from_tune(result)
        if message.asks is None:
            self.report(trial_id, message)
        else:
            self.suggest_one(trial_id, message, sender(take_actor(result)))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.complete(trial_id, None if error else TrialResult.last_from_tune(result))

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher into snapshots that nobody reads: the record is what we resume from

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a search is rebuilt from the record, by `replay`, not from Tune's snapshots")
