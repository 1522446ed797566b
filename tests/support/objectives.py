"""A process that runs a user's objective, without Ray: what a TrialWorker does with its trial, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial

from rungwise.trainable.messages import SuggestionAnswer, TrialAssignment, TrialEnd, TrialResult
from rungwise.trainable.own.objective import ObjectiveRun, ObjectiveTraining
from rungwise.trainable.own.worker_data import OwnData
from rungwise.trainable.worker.trial_run import WorkerContext
from support.loop import Loop

BUDGET = {"seed": 1, "epochs": 4, "reports_per_epoch": 1}


class Process:
    """One trial of `objective` in this process; also the handle through which the driver answers."""

    def __init__(
        self,
        objective: Callable[[Any], Any],
        folder: Path,
        assignment: TrialAssignment | None = None,
        *,
        phase: str = "search",
        objectives: tuple[str, ...] = ("value",),
        config: Mapping[str, Any] | None = None,
    ) -> None:
        training = ObjectiveTraining(OwnData(), objectives[0], None, objective)
        context = WorkerContext(None, objectives, None, str(folder / "checkpoints"), math.inf, "cpu", folder)
        assignment = assignment or TrialAssignment(1, "all", phase, {**BUDGET, **(config or {})})
        self.run = ObjectiveRun(training, assignment, context)
        self.asked: list[str] = []  # names
        self.answer = self  # an actor's method has `remote`
        self._results = self.run.results()

    def remote(self, answer: SuggestionAnswer) -> None:
        self.run.take_answer(answer)

    def step(self) -> TrialResult:
        """The next result, as a TrialWorker returns it."""
        try:
            result = next(self._results)
        except Exception as error:
            result = self.run.failed(error)
        if result.asks is not None:
            self.asked.append(result.asks.name)
        return self.run.finalize_result(result)

    def results(self, values: Mapping[str, Any] | None = None) -> Iterator[TrialResult]:
        """All results to the last one; what it asks is answered by `values`."""
        while True:
            result = self.step()
            yield result
            if result.ended:
                return
            if result.asks is not None:
                name = result.asks.name
                self.run.take_answer(SuggestionAnswer(result.trial, name, (values or {})[name]))


def train(loop: Loop, trial: Trial, objective: Callable[[Any], Any], folder: Path, steps: int | None = None) -> Process:
    """Let the objective's process work on a trial that `loop` dealt, for so many steps or until it has ended."""
    objectives = tuple(loop.sweep.all_objectives)
    process = Process(objective, folder, TrialAssignment.from_tune(trial.config), objectives=objectives)
    while steps is None or steps > 0:
        steps = None if steps is None else steps - 1
        result = process.step()
        if loop.tell(trial, result, actor=process if result.asks is not None else None):
            process.run.close()
            break
    return process


def ends(results: list[TrialResult]) -> tuple[TrialEnd | None, str]:
    """How it ended, and why."""
    failure = results[-1].failure
    return results[-1].state, "" if failure is None else failure.message
