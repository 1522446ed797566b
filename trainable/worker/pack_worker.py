"""A process that trains several trials at once. To Tune it is one trial; the driver's coordinator assigns trials to it.

Each `step` trains one report interval of trials that can be packed (`trainable.packing.pack`) and returns PackResults;
the trials take turns. Before Tune asks for the next step, the coordinator calls `answer`, which says which trials stop
and which trials begin.

A trial that cannot be packed is trained by itself.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from rungwise.trainable.faults import ordinary
from rungwise.trainable.messages import FailureKind, PackResults, PackSettings, TrialAssignment, TrialResult
from rungwise.trainable.report import Report
from rungwise.trainable.worker.state_run import StateRun
from rungwise.trainable.worker.trial_run import failure_from
from rungwise.trainable.worker.worker import Worker

IDLE_SECONDS = 0.1  # that a step takes when there is no trial to train


class PackWorker(Worker):
    """Trains the trials that it is assigned. Its config is PackSettings, its results are PackResults."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin without trials. Tune does not use this process for another trial."""
        from rungwise.trainable.packing.pack import fastest

        self._runs: dict[int, StateRun] = {}  # by trial
        self._resent: dict[int, deque[Report]] = {}  # by trial: reports from its checkpoint, to be sent again
        self._ended: list[TrialResult] = []  # of trials that failed to begin
        self._answered = False
        self._announced = False
        settings = PackSettings.from_tune(new_config)
        self._fixed_slots, self._limit = settings.slots, settings.limit
        self._pack_size = fastest(self._context.data, limit=self._fixed_slots or self._limit)
        return True

    @property
    def _slots(self) -> int:
        """How many trials this process can hold: of every shape as many as train fastest together."""
        from rungwise.trainable.packing.pack import shape

        shapes = {shape(run.state.config) for run in self._runs.values() if run.state is not None}
        return self._fixed_slots or min(self._limit, self._pack_size * max(1, len(shapes)))

    def answer(self, stopped: list[int], assignments: list[TrialAssignment]) -> None:
        """Take the coordinator's decision on the last results.

        Args:
            stopped: numbers of trials that end here.
            assignments: trials that begin here.
        """
        from rungwise.trainable.training.batches import steps_per_epoch

        self._answered = True
        for number in stopped:
            self._forget(number)
        for assignment in assignments:
            number, run = assignment.trial, StateRun(assignment, self._context)
            try:
                with ordinary():
                    reports = deque(run.begin())
                    assert run.state is not None
                    steps_per_epoch(run.state.config, len(self._context.data.y_train))
                self._resent[number], self._runs[number] = reports, run
            except Exception as error:
                self._ended.append(run.finalize_result(run.failed(error)))

    def step(self) -> dict[str, Any]:
        return self._next_results().to_tune()

    def cleanup(self) -> None:
        """Save the states of all trials, as Tune ends this process."""
        for run in self._runs.values():
            run.save()

    def _next_results(self) -> PackResults:
        if not self._announced:
            if unreachable := self._unreachable():
                return PackResults(unreachable=unreachable, worker=self._context.worker)
            self._announced = True
            return PackResults(slots=self._slots, actor=self._actor_handle())
        if not self._runs and not self._ended:
            time.sleep(IDLE_SECONDS)
        results, self._ended = self._ended, []
        if self._answered:  # else the answer is still on its way
            self._answered = False
            results += self._train_next()
        for result in results:
            if result.ended or result.lost is not None:
                self._forget(result.trial)
        return PackResults(tuple(results), self._slots)

    def _forget(self, number: int) -> None:
        self._runs.pop(number, None)
        self._resent.pop(number, None)

    def _train_next(self) -> list[TrialResult]:
        """Results from checkpoints, if some are left to be sent again; else train the next group of trials."""
        from rungwise.trainable.packing.pack import train_together, unpackable
        from rungwise.trainable.train import train_alone

        if resending := [number for number in self._runs if self._resent[number]]:
            return [self._result(self._runs[number], self._resent[number].popleft()) for number in resending]
        group = self._next_group()
        states = [run.state for run in group if run.state is not None]
        if not states:
            return []
        packed = unpackable(states[0].config, self._context.data) is None
        try:
            train = train_together if packed else lambda states, data: [train_alone(states[0], data)]
            with ordinary():
                reports = train(states, self._context.data)
        except Exception as error:
            failure = failure_from(error)
            if failure.kind is FailureKind.OUT_OF_MEMORY:
                self._pack_size = max(1, len(group) // 2)
            if len(group) > 1:  # the one at fault shows when each is trained alone
                return [_lost(run, failure.message) for run in group]
            return [run.finalize_result(run.failed(error)) for run in group]
        return [self._result(run, report) for run, report in zip(group, reports, strict=True)]

    def _next_group(self) -> list[StateRun]:
        """The trial that has waited longest, and trials that can be packed with it."""
        from rungwise.trainable.packing.pack import groups, unpackable

        data = self._context.data
        numbers = {id(run.state): number for number, run in self._runs.items()}
        states = [run.state for run in self._runs.values() if run.state is not None]
        chosen = states[:1]
        if chosen and unpackable(chosen[0].config, data) is None:
            chosen = groups(
                [state for state in states if unpackable(state.config, data) is None], data, self._pack_size
            )[0]
        group = {numbers[id(state)]: self._runs.pop(numbers[id(state)]) for state in chosen}
        self._runs |= group  # to the end of the queue
        return list(group.values())

    def _result(self, run: StateRun, report: Report) -> TrialResult:
        try:
            result = run.result(report)
        except Exception as error:
            result = run.failed(error)
        try:
            return run.finalize_result(result)
        except OSError as error:  # a confirmed model that could not be written
            return _lost(run, f"{type(error).__name__}: {error}")


def _lost(run: StateRun, reason: str) -> TrialResult:
    return TrialResult(run.assignment.trial, run.assignment.attempt, lost=reason)
