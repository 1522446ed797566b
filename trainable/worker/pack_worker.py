"""A process that trains several trials at once. One Tune trial is one lane; the driver's referee assigns trials to it.

Each `step` trains one report interval of trials that go together (`trainable.packing.pack`), in turn, and returns
PackResults. The referee answers each of them with `answer`, before Tune asks for the next one: who is stopped, and who
comes.

A trial that cannot be packed is trained by itself.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from rungwise.trainable.faults import ordinary
from rungwise.trainable.messages import FailureKind, PackResults, PackSettings, TrialAssignment, TrialResult
from rungwise.trainable.report import Report
from rungwise.trainable.worker.trial_run import TrialRun, failure_from
from rungwise.trainable.worker.worker import Worker

IDLE_SECONDS = 0.1  # between two questions whether there is work


class PackWorker(Worker):
    """Its config is PackSettings, its results are PackResults."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin, empty. Tune does not use a lane's process for another."""
        from rungwise.trainable.packing.pack import fastest

        self._runs: dict[int, TrialRun] = {}  # by trial
        self._again: dict[int, deque[Report]] = {}  # from checkpoints, to be sent once more
        self._ended: list[TrialResult] = []  # of trials that could not even begin
        self._answered = False
        self._announced = False
        settings = PackSettings.from_tune(new_config)
        self._asked, self._limit = settings.slots, settings.limit
        self._most = fastest(self._context.data, limit=self._asked or self._limit)  # trained together
        return True

    @property
    def _slots(self) -> int:
        """As many trials of every shape here as train fastest together."""
        from rungwise.trainable.packing.pack import shape

        shapes = {shape(run.state.config) for run in self._runs.values() if run.state is not None}
        return self._asked or min(self._limit, self._most * max(1, len(shapes)))

    def answer(self, stopped: list[int], assignments: list[TrialAssignment]) -> None:
        """The referee's verdict on the last results, and new trials."""
        from rungwise.trainable.training.batches import steps_per_epoch

        self._answered = True
        for number in stopped:
            self._forget(number)
        for assignment in assignments:
            number, run = assignment.trial, TrialRun(assignment, self._context)
            try:
                with ordinary():
                    again = deque(run.begin())
                    assert run.state is not None
                    steps_per_epoch(run.state.config, len(self._context.data.y_train))
                self._again[number], self._runs[number] = again, run
            except Exception as error:
                self._ended.append(run.finalize_result(run.failed(error)))

    def step(self) -> dict[str, Any]:
        return self._next_results().to_tune()

    def cleanup(self) -> None:
        """Tune ends this process: keep what the trials have reached."""
        for run in self._runs.values():
            run.keep()

    def _next_results(self) -> PackResults:
        if not self._announced:
            if unreachable := self._unreachable():
                return PackResults(unreachable=unreachable)
            self._announced = True
            return PackResults(slots=self._slots, actor=self._itself())
        if not self._runs and not self._ended:
            time.sleep(IDLE_SECONDS)
        results, self._ended = self._ended, []
        if self._answered:  # else the answer is still on its way
            self._answered = False
            results += self._trained()
        for result in results:
            if result.ended or result.lost is not None:
                self._forget(result.trial)
        return PackResults(tuple(results), self._slots)

    def _forget(self, number: int) -> None:
        self._runs.pop(number, None)
        self._again.pop(number, None)

    def _trained(self) -> list[TrialResult]:
        """Results of what is remembered; if there is none, of the trials that are trained together next."""
        from rungwise.trainable.packing.pack import train_together, unpackable
        from rungwise.trainable.train import train_alone

        if remembered := [number for number in self._runs if self._again[number]]:
            return [self._reported(self._runs[number], self._again[number].popleft()) for number in remembered]
        group = self._next_group()
        states = [run.state for run in group if run.state is not None]
        if not states:
            return []
        packed = unpackable(states[0].config, self._context.data) is None
        try:
            train = train_together if packed else lambda some, data: [train_alone(some[0], data)]
            with ordinary():
                reports = train(states, self._context.data)
        except Exception as error:
            failure = failure_from(error)
            if failure.kind is FailureKind.OUT_OF_MEMORY:
                self._most = max(1, len(group) // 2)
            if len(group) > 1:  # who of them is to blame is found by training them apart
                return [_lost(run, failure.message) for run in group]
            return [run.finalize_result(run.failed(error)) for run in group]
        return [self._reported(run, report) for run, report in zip(group, reports, strict=True)]

    def _next_group(self) -> list[TrialRun]:
        """The trial that has waited longest, and those that can be trained with it: at most as many as is fastest."""
        from rungwise.trainable.packing.pack import groups, unpackable

        data = self._context.data
        numbers = {id(run.state): number for number, run in self._runs.items()}
        states = [run.state for run in self._runs.values() if run.state is not None]
        chosen = states[:1]
        if chosen and unpackable(chosen[0].config, data) is None:
            chosen = groups([one for one in states if unpackable(one.config, data) is None], data, self._most)[0]
        group = {numbers[id(state)]: self._runs.pop(numbers[id(state)]) for state in chosen}
        self._runs |= group  # to the end of the line
        return list(group.values())

    def _reported(self, run: TrialRun, report: Report) -> TrialResult:
        try:
            result = run.result(report)
        except Exception as error:
            result = run.failed(error)
        try:
            return run.finalize_result(result)
        except OSError as error:  # a confirmed model that could not be written
            return _lost(run, f"{type(error).__name__}: {error}")


def _lost(run: TrialRun, why: str) -> TrialResult:
    return TrialResult(run.assignment.trial, run.assignment.attempt, lost=why)
