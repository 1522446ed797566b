"""The budget of each search: a number of trials, or of epochs (`--budget epochs`), whichever the sweep deals by.

By trials, searches train as many epochs as early stopping leaves them. By epochs, each search trains what `trials`
trainings to the end would take: what early stopping saves goes into further trials. The trial that reaches the budget
is stopped there, so that all searches train equally many epochs.

Where the time budget is over (`--time-budget`), every search has had its budget.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Self

from rungwise.engine.experiment.experiment import Experiment
from rungwise.results.record.types import Trial
from rungwise.trainable.messages import StudyKey


class SearchBudget:
    """What each search has had of its budget."""

    def __init__(self, experiment: Experiment) -> None:
        self._studies, self._per_epoch = experiment.studies, experiment.reports_per_epoch
        self._by_epochs, self._trials = experiment.budget == "epochs", experiment.trials
        self._reports = experiment.trials * experiment.trial_reports
        self._steps: dict[StudyKey, dict[int, int]] = {}  # study -> trial -> last step
        self.is_over = False  # whether no search may go on, whatever it has had

    @classmethod
    def of_record(cls, experiment: Experiment, trials: Iterable[Trial], steps: Mapping[int, int]) -> Self:
        """As the search trials of a record have used it; `steps`: the last step of each trial that reported."""
        budget = cls(experiment)
        for trial in trials:
            if trial.phase == "search":
                budget.report(trial.study, trial.trial, steps.get(trial.trial, 0))
        return budget

    def report(self, study: StudyKey, trial: int, step: int = 0) -> None:
        """A search trial is dispatched (step 0), or has sent its report `step`."""
        steps = self._steps.setdefault(study, {})
        steps[trial] = max(step, steps.get(trial, 0))

    def is_spent(self, study: StudyKey) -> bool:
        """Whether the search may have no further trial."""
        steps = self._steps.get(study, {})
        if self.is_over:
            return True
        if not self._by_epochs:
            return len(steps) >= self._trials
        # A trial counts as an epoch at least: a search whose trials all fail at once must end, too.
        return sum(max(step, self._per_epoch) for step in steps.values()) >= self._reports

    @property
    def all_have_reported(self) -> bool:
        """Whether each search has a trial with a report, so that it could end now."""
        return all(any(self._steps.get(study, {}).values()) for study in self._studies)

    def is_cut(self, study: StudyKey) -> bool:
        """Whether the search's trial in flight must stop."""
        return self.is_over or (self._by_epochs and self.is_spent(study))

    def ended_studies(self, in_flight: Container[StudyKey]) -> list[StudyKey]:
        """The searches that have spent their budgets, and have no trial in flight."""
        return [study for study in self._studies if self.is_spent(study) and study not in in_flight]
