"""A training that is an Optuna objective: the function asks for its hyperparameters while it runs (define-by-run).

    def objective(trial):
        lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        for epoch in range(20):
            ...
            trial.report(accuracy, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return accuracy

It runs in a thread, as a function that calls `trial.report` does. What it asks goes to the driver as a result without a
report; the answer comes before Tune asks this process for the next result.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rungwise.trainable.faults import message
from rungwise.trainable.messages import (
    Failure,
    FailureKind,
    SuggestionAnswer,
    SuggestionRequest,
    TrialAssignment,
    TrialEnd,
    TrialResult,
)
from rungwise.trainable.own.calls import CallReports
from rungwise.trainable.own.function import function_problems, is_generator
from rungwise.trainable.own.objective_trial import ObjectiveError, ObjectiveTrial
from rungwise.trainable.own.run import OwnRun
from rungwise.trainable.own.training import OwnTraining, searched
from rungwise.trainable.own.trial import Trial
from rungwise.trainable.training.loop_functions import name_of, unsendable
from rungwise.trainable.worker.trial_run import WorkerContext


class PrunedByItself(Exception):
    """An objective raised `optuna.TrialPruned` although no rung had stopped it; its reports have been sent."""


@dataclass(frozen=True)
class ObjectiveTraining(OwnTraining):
    """`def objective(trial)`."""

    objective: Callable[..., Any]
    asks = True
    kind = "objective"

    @property
    def name(self) -> str:
        return name_of(self.objective)

    def own_problems(self) -> list[str]:
        if not (self.test is None or callable(self.test)):
            return ["test must be a function of (config, trial), but got a program"]
        return (
            self._signature_problems()
            + function_problems(test=self.test)
            + unsendable(objective=self.objective, data=self.data.load)
        )

    def _signature_problems(self) -> list[str]:
        if is_generator(self.objective):
            return [f"{self.name} must return its score, but is a generator, whose reports are for train={self.name}"]
        try:
            inspect.signature(self.objective).bind(None)
        except TypeError as error:
            return [f"{self.name} must be called with a trial alone, but {error}: def {self.name}(trial)"]
        except ValueError:  # it has no signature
            return []
        return []

    def budget(self, config: Mapping[str, Any]) -> float:
        return float("inf")  # its own loop ends it, and what it returns is its score

    def start(self, assignment: TrialAssignment, context: WorkerContext) -> ObjectiveRun:
        return ObjectiveRun(self, assignment, context)

    def reports(
        self, config: Mapping[str, Any], trial: Trial, run: OwnRun
    ) -> Iterator[Mapping[str, Any] | TrialResult]:
        assert isinstance(run, ObjectiveRun)
        given = {name: config[name] for name in searched(config)}
        shown = ObjectiveTrial(trial, given, run.objectives, run)

        def call() -> dict[str, float] | None:
            try:
                returned = self.objective(shown)
            except Exception as error:
                if not is_pruned(error):
                    raise
                shown.last_pruned_report()
                raise PrunedByItself(message(error)) from None
            run.has_returned = True
            return shown.last_report(returned)

        return ObjectiveReports(call, run)

    def notes(self, run: OwnRun) -> tuple[str, ...]:
        """What is fixed and was not asked for: an arm of it may compare nothing."""
        assert isinstance(run, ObjectiveRun)
        if not run.has_returned or run.assignment.phase != "search":
            return ()
        unasked = [name for name in searched(run.assignment.config) if name not in run.asked]
        return tuple(f"{self.name} returned without asking for {name!r}, which the sweep fixes" for name in unasked)


class ObjectiveReports(CallReports):
    """The reports of an objective, with a result that `asks` where it waits for a suggestion."""

    def __init__(self, call: Callable[[], Any], run: ObjectiveRun) -> None:
        super().__init__(call)
        self._question = run.question
        self._request: SuggestionRequest | None = None
        self._answer: SuggestionAnswer | None = None

    def __next__(self) -> Any:
        """See `CallReports`. A request is repeated until it is answered."""
        if self._request is None or self._answer is not None:
            item: Any = super().__next__()
            if not isinstance(item, SuggestionRequest):
                return item
            self._request, self._answer = item, None
        return self._question(self._request)

    def ask(self, request: SuggestionRequest) -> Any:
        """Called by the objective: the suggested value. Raises ObjectiveError when there is none, and TrialStopped."""
        self.hand_over(request)
        answer, self._request = self._answer, None
        assert answer is not None
        if answer.problem is not None:
            raise ObjectiveError(answer.problem)
        return answer.value

    def take_answer(self, answer: SuggestionAnswer) -> None:
        """The driver's answer; one to another request is late, and says nothing."""
        if self._request is not None and answer.name == self._request.name:
            self._answer = answer


class ObjectiveRun(OwnRun):
    """A trial in flight."""

    def __init__(self, training: ObjectiveTraining, assignment: TrialAssignment, context: WorkerContext) -> None:
        super().__init__(training, assignment, context)
        self.objectives = context.objectives
        self.attributes: dict[str, Any] = {}  # set by the objective, they go out with the next result
        self.asked: set[str] = set()  # names of hyperparameters
        self.has_returned = False  # the objective

    def results(self) -> Iterator[TrialResult]:
        last: TrialResult | None = None
        try:
            for last in super().results():
                yield last
        except PrunedByItself as pruned:
            yield self._pruned(last if last is not None and last.step else None, str(pruned))

    def finalize_result(self, result: TrialResult) -> TrialResult:
        attributes, self.attributes = self.attributes, {}
        return replace(super().finalize_result(result), attributes=attributes)

    def ask(self, request: SuggestionRequest) -> Any:
        """Called by the objective: the suggested value."""
        assert isinstance(self._reports, ObjectiveReports)
        return self._reports.ask(request)

    def question(self, request: SuggestionRequest) -> TrialResult:
        """The message that asks for a suggestion."""
        assignment = self.assignment
        return TrialResult(assignment.trial, assignment.attempt, device=self._context.device, asks=request)

    def take_answer(self, answer: SuggestionAnswer) -> None:
        if answer.trial == self.assignment.trial and isinstance(self._reports, ObjectiveReports):
            self._reports.take_answer(answer)

    def _pruned(self, last: TrialResult | None, why: str) -> TrialResult:
        """STOPPED, where the search can make something of its reports; without any its parameters will not do."""
        if last is not None and self.assignment.phase == "search":
            return replace(last, state=TrialEnd.STOPPED, remembered=True)
        failure = Failure(FailureKind.INFEASIBLE, f"infeasible: it raised TrialPruned {why}".rstrip())
        assignment = self.assignment
        return TrialResult(assignment.trial, assignment.attempt, state=TrialEnd.FAILED, failure=failure)


def is_pruned(error: BaseException) -> bool:
    """Whether it is `optuna.TrialPruned`, of whatever version."""
    return any(
        kind.__name__ == "TrialPruned" and kind.__module__.partition(".")[0] == "optuna" for kind in type(error).__mro__
    )
