"""A training function driven through the class that Tune calls, without Ray: one trial, result by result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rungwise.trainable.messages import TrialAssignment, TrialResult
from rungwise.trainable.own.function import FunctionTraining
from rungwise.trainable.own.worker_data import OwnData
from rungwise.trainable.worker.worker import TrialWorker

BUDGET = {"seed": 7, "epochs": 3, "reports_per_epoch": 1}


class Trials:
    """A worker process's trials of one function, with checkpoints below a folder."""

    def __init__(
        self, train: Callable[..., Any], folder: Path, *, scratch: Path | None = None, **settings: Any
    ) -> None:
        self._settings = {
            "training": FunctionTraining(OwnData(settings.pop("data", None)), "loss", None, train),
            "objectives": ("loss",),
            "checkpoints": str(folder),
            "checkpoint_seconds": 0.0,
            **settings,
        }
        self._scratch = scratch  # the machine's own folder, where a checkpoint is written first; None: Tune's
        self._worker: TrialWorker | None = None

    def begin(self, config: Mapping[str, Any] | None = None, **assignment: Any) -> None:
        """Assign a trial; `assignment`: fields of TrialAssignment."""
        fields = {"trial": 1, "arm": "all", "phase": "search", **assignment}
        assigned = TrialAssignment(config={**BUDGET, **(config or {})}, **fields).to_tune()
        if self._worker is not None:
            self._worker.reset_config(assigned)
            return
        settings, scratch = self._settings, self._scratch

        class Here(TrialWorker):
            def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
                self._logdir = str(scratch or self._logdir)
                super().setup(config, **settings)

        self._worker = Here(config=assigned)

    def results(self) -> Iterator[TrialResult]:
        """Results to the last one; the trial is stopped when this is closed or not asked any more."""
        assert self._worker is not None
        while True:
            yield (result := TrialResult.from_tune(self._worker.step()))
            if result.ended:
                return

    def run(self, config: Mapping[str, Any] | None = None, **assignment: Any) -> list[TrialResult]:
        """All results of a trial that no rung stops."""
        self.begin(config, **assignment)
        return list(self.results())

    def end(self) -> None:
        """The process ends, as Tune ends it."""
        assert self._worker is not None
        self._worker.cleanup()
        self._worker = None


def losses(results: list[TrialResult]) -> list[tuple[int, float | None]]:
    """(step, objective) of each result."""
    return [(result.step, result.objective) for result in results]
