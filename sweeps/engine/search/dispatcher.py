"""Dispatches trials: chooses the next search, asks its study for a suggestion, and repeats trials of ended searches.

With the order "fixed" a search has at most one trial in flight. Its suggestions and rungs then depend on its own past
alone, so they are the same however many searches run at once, and however fast.

A resumed sweep uses the same code: trials that are RUNNING in the record are dispatched again before any new one, and
the studies are rebuilt from the record (`results.exporters.optuna_study`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune.search import Searcher

from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.schedulers.budget import SearchBudget
from rungwise.engine.search.arm_study import ArmStudy, initial_sampler, sampler_factory
from rungwise.engine.search.live_suggestions import LiveSuggestions, Send, sender
from rungwise.engine.search.numbering import META as NUMBERING
from rungwise.engine.search.numbering import Numbering
from rungwise.engine.search.reruns import Repeat
from rungwise.engine.search.samplers import restore_cmaes_state
from rungwise.results.io.redaction import Verbatim
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import ReportRow, State, Trial
from rungwise.results.record.writer import Record
from rungwise.trainable.messages import (
    OBJECTIVE,
    UNTUNED,
    Failure,
    StudyKey,
    TrialAssignment,
    TrialEnd,
    TrialResult,
    take_actor,
)
from rungwise.trainable.worker.checkpoints import owner

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class _ResumedTrial:
    """A trial that was in flight when the last driver ended."""

    trial: Trial
    number: int  # in its study, when it is of the search
    reported: int  # last step in the record
    checkpoints: Mapping[int, str]  # step -> sha256


class Search(Searcher):
    """Dispatches trials: first those that were in flight, then new ones of the searches in turn, then the reruns that
    `repeats` returns."""

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
            repeats: returns the reruns; called when no search can have another trial, whenever another search has
                ended, and again when all that it returned are trained, until it returns nothing new.
            refused: called with the number, the arm and the failure of a trial whose suggestion cannot be trained.
        """
        super().__init__(metric=OBJECTIVE, mode=experiment.mode)
        self._experiment, self._record, self._in_flight = experiment, record, in_flight
        self._one_at_a_time = experiment.order == "fixed"
        self._studies = {
            key: ArmStudy(experiment, key, sampler_factory(experiment, key), initial_sampler(experiment))
            for key in experiment.studies
        }
        self._resumed: deque[_ResumedTrial] = deque()
        self._dispatched = dict.fromkeys(self._studies, 0)  # search trials of each study
        self.budget = SearchBudget(experiment)
        self._numbering = Numbering(experiment, [], [])
        self._find_repeats, self._refused = repeats, refused
        self._repeats: deque[Repeat] = deque()
        self._num_ended_when_looked = -1  # studies that had ended when reruns were looked for
        self._repeated: set[tuple[str, int, int]] = set()  # keys of those dispatched: each once a session
        with Reader(record.path.parent) as reader:
            self._run = str(reader.meta("id") or "")  # the owner of the checkpoints
        self._suggestions = LiveSuggestions(record)
        self._live: dict[str, StudyKey | None] = {}  # Tune trial -> its study; None for a repeat

    def replay(
        self,
        trials: list[Trial],
        studies: Mapping[StudyKey, optuna.Study],
        curves: Mapping[int, Mapping[int, ReportRow]],
        checkpoints: Mapping[int, Mapping[int, str]],
        points: Mapping[str, list[dict[str, Any]]] | None = None,
    ) -> None:
        """Start from what the record holds.

        Args:
            trials: all trials, by number.
            studies: {search of an arm: its study}, as `results.exporters.optuna_study` rebuilds them.
            curves: {trial: {step: report}}.
            checkpoints: {trial: {step: sha256}}.
            points: {arm: points that it tries first}.
        """
        for key, study in studies.items():
            if self._experiment.sampler_of(key.arm) == "cmaes":
                sampler = sampler_factory(self._experiment, key)(0)
                study = restore_cmaes_state(study, sampler, self._experiment.space_of(key.arm))
            if key not in self._studies:  # of a search beyond those asked for now, which may have a trial in flight
                factory = sampler_factory(self._experiment, key)
                self._studies[key] = ArmStudy(self._experiment, key, factory)
            self._studies[key].adopt(study, (points or {}).get(key.arm, []))
        num_searched = dict.fromkeys(self._studies, 0)
        resumed = []
        for trial in trials:
            if trial.state is State.RUNNING:
                reported = max(curves.get(trial.trial, {}), default=0)
                number = num_searched.get(trial.study, 0)
                resumed.append(_ResumedTrial(trial, number, reported, checkpoints.get(trial.trial, {})))
            if trial.phase == "search":
                num_searched[trial.study] += 1
        # The order of an uninterrupted sweep: those that had begun come first, those only staged wait, and a process
        # that becomes free goes to the newest of them.
        begun = any(trial.attempts for trial in trials)
        newest_first = [one for one in reversed(resumed) if begun and not one.trial.attempts]
        self._resumed = deque([one for one in resumed if not begun or one.trial.attempts] + newest_first)
        self._dispatched |= {key: count for key, count in num_searched.items() if key in self._dispatched}
        steps = {number: max(curve) for number, curve in curves.items() if curve}
        self.budget = SearchBudget.of_record(self._experiment, trials, steps)
        with Reader(self._record.path.parent) as reader:
            kept = reader.meta(NUMBERING) or []
        self._numbering = Numbering(self._experiment, kept, trials)
        if self._numbering.kept != kept:
            self._record.set_meta(NUMBERING, self._numbering.kept)

    def next_trial(self, trial_id: str) -> TrialAssignment | str | None:
        """What the worker of the Tune trial `trial_id` trains next; None while enough are in flight; FINISHED when all
        are dispatched."""
        if len(self._live) >= self._in_flight():
            return None
        if self._resumed:
            return self._resume(trial_id, self._resumed.popleft())
        while study := self._next_study():
            if assignment := self._suggest_trial(trial_id, study):
                return assignment
        num_ended = len(self.budget.ended_studies({study for study in self._live.values() if study}))
        # Nothing is left and nothing in flight: what the last confirmations chose may lack its refits, or its model.
        if num_ended > self._num_ended_when_looked or not (self._repeats or self._live):
            self._num_ended_when_looked = num_ended
            repeats = [repeat for repeat in self._find_repeats() if repeat.key not in self._repeated]
            self._repeats.extend(repeats)
            self._repeated |= {repeat.key for repeat in repeats}
        if self._repeats:
            return self._repeat(trial_id, self._repeats.popleft())
        return None if self._live else str(Searcher.FINISHED)

    def _next_study(self) -> StudyKey | None:
        """The study that has had the fewest trials, of those that may have another one now."""
        busy = set(self._live.values()) if self._one_at_a_time else set()
        waiting = [
            (count, index, study)
            for index, (study, count) in enumerate(self._dispatched.items())
            if not self.budget.is_spent(study) and study not in busy
        ]
        return min(waiting)[2] if waiting else None

    def report(self, trial_id: str, result: TrialResult) -> None:
        """Tell the study of a report; the trial continues."""
        if study := self._live[trial_id]:
            self.budget.report(study, result.trial, result.step)
            self._studies[study].report(trial_id, result)

    def suggest_one(self, trial_id: str, result: TrialResult, send: Send) -> None:
        """Answer a trial that asks for one more hyperparameter: `send` it once it is in the record."""
        if study := self._live[trial_id]:
            self._suggestions.answer(trial_id, result, self._studies[study], send)

    def complete(self, trial_id: str, result: TrialResult | None) -> None:
        """Tell the study that a trial has ended; `result` is its last one, or None if it was lost."""
        if study := self._live.pop(trial_id):
            if result is not None:
                self.budget.report(study, result.trial, result.step)
            self._studies[study].complete(trial_id, result)

    def _resume(self, trial_id: str, resumed: _ResumedTrial) -> TrialAssignment:
        trial = resumed.trial
        if trial.phase == "search":
            self._studies[trial.study].continue_trial(trial_id, resumed.number)
        return replace(
            self._assignment(trial_id, trial.trial, trial.study, trial.phase, trial.config),
            attempt=trial.attempts + 1,
            reported=resumed.reported,
            checkpoints=resumed.checkpoints,
        )

    def _suggest_trial(self, trial_id: str, study: StudyKey) -> TrialAssignment | None:
        """A new search trial, which is in the record; None if the suggestion was illegal, and is recorded as FAILED."""
        place = self._dispatched[study]
        self._dispatched[study] += 1
        number = self._numbering.search_trial(study, place)
        self.budget.report(study, number)
        suggestion = self._studies[study].ask(trial_id, place + 1)
        problem = suggestion.problem
        self._record.add_trial(
            number, arm=study.arm, phase="search", config=suggestion.config, params=suggestion.params,
            distributions=suggestion.distributions, search=study.search,
        )  # fmt: skip
        if suggestion.trial_attributes or suggestion.study_attributes:
            kept, shared = Verbatim(suggestion.trial_attributes), Verbatim(suggestion.study_attributes)
            self._record.event("sampler", number, arm=study.arm, kept=kept, shared=shared)
        if problem is None:
            return self._assignment(trial_id, number, study, "search", suggestion.config)
        self._record.end_trial(number, State.FAILED, failure=problem)
        self._refused(number, study.arm, problem)
        self._studies[study].complete(trial_id, TrialResult(number, state=TrialEnd.FAILED, failure=problem))
        return None

    def _repeat(self, trial_id: str, repeat: Repeat) -> TrialAssignment:
        source, again = repeat.source, repeat.again
        if again is not None:
            self._record.reopen_trial(again.trial, repeat.why)
            assignment = self._assignment(trial_id, again.trial, again.study, again.phase, repeat.config)
            return replace(assignment, attempt=again.attempts + 1)
        if repeat.phase == "confirm":
            number = self._numbering.confirmation(repeat.study, repeat.rank, repeat.repetition)
        elif repeat.phase == "refit":
            number = self._numbering.refit(repeat.repetition)
        elif repeat.phase == UNTUNED:
            number = self._numbering.untuned(repeat.study.search, repeat.repetition)
        else:
            number = self._numbering.next_free()
        self._record.add_trial(
            number,
            arm=repeat.study.arm,
            search=repeat.study.search,
            phase=repeat.phase,
            config=repeat.config,
            params=source.params if source else {},
            distributions=source.distributions if source else {},
            source=source.trial if source else None,
        )
        return self._assignment(trial_id, number, repeat.study, repeat.phase, repeat.config)

    def _assignment(
        self, trial_id: str, number: int, study: StudyKey, phase: str, config: Mapping[str, Any]
    ) -> TrialAssignment:
        self._live[trial_id] = study if phase == "search" else None
        trial_owner = owner(self._run, config)
        return TrialAssignment(number, study.arm, phase, config, owner=trial_owner, search=study.search)

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
        return {}  # Tune pickles its searcher into snapshots that are never read: a run resumes from its record

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a search is rebuilt from the record, by `replay`, not from Tune's snapshots")
