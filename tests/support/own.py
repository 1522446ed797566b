"""A worker that trains trials of a user's own, in this process and without Ray, and sweeps of what goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rungwise.trainable.messages import TrialAssignment, TrialResult
from rungwise.trainable.own.function import FunctionTraining
from rungwise.trainable.own.program.training import ProgramTraining
from rungwise.trainable.own.training import OwnTraining
from rungwise.trainable.own.worker_data import OwnData
from rungwise.trainable.worker.worker import TrialWorker


def function(train: Any) -> FunctionTraining:
    return FunctionTraining(OwnData(), "score", None, train)


def program(folder: Path, *words: str, template: str | None = None, test: Any = None, grace: float = 0.5) -> Any:
    """A program in `folder`, which is given `grace` seconds to end."""
    return ProgramTraining(OwnData(), "score", test, list(words), template, str(folder), grace)


def worker(
    training: OwnTraining,
    folder: Path,
    config: dict[str, Any] | None = None,
    *,
    message: dict[str, Any] | None = None,
    scratch: Path | None = None,
    **how: Any,
) -> TrialWorker:
    """What a trial's process runs; checkpoints, if any, at every report.

    Args:
        training: What it trains.
        folder: Of the run.
        config: Of the trial; also its epochs.
        message: Fields of the assignment that differ.
        scratch: The machine's own folder, where a checkpoint is written first; None: Tune's.
        **how: Arguments of `Worker.setup`.
    """

    class Here(TrialWorker):
        def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
            self._logdir = str(scratch or self._logdir)
            super().setup(config, training=training, **given)

    given: dict[str, Any] = {"objectives": ("score",), "checkpoints": str(folder / "checkpoints")}
    given |= {"checkpoint_seconds": 0.0} | how
    return Here(config=_assigned(config, message))


def _assigned(config: Mapping[str, Any] | None, message: Mapping[str, Any] | None) -> dict[str, Any]:
    values = {"seed": 7, "epochs": 3, "reports_per_epoch": 1, **(config or {})}
    fields: dict[str, Any] = {"trial": 1, "arm": "all", "phase": "search", **(message or {})}
    return TrialAssignment(config=values, **fields).to_tune()


def said(trial: TrialWorker) -> TrialResult:
    return TrialResult.from_tune(trial.step())


def run_out(trial: TrialWorker) -> list[TrialResult]:
    """All results to the last."""
    results = [said(trial)]
    while not results[-1].ended:
        results.append(said(trial))
    return results


class Trials:
    """A worker process's trials of one function, one after the other, with checkpoints directly below a folder."""

    def __init__(self, train: Callable[..., Any], folder: Path, *, data: Any = None, **how: Any) -> None:
        """`how`: as for `worker`, and perhaps the `training` in place of one of `train` and `data`."""
        self._training = how.pop("training", None) or FunctionTraining(OwnData(data), "loss", None, train)
        self._folder, self._how = folder, {"objectives": ("loss",), "checkpoints": str(folder)} | how
        self._worker: TrialWorker | None = None

    def begin(self, config: Mapping[str, Any] | None = None, **message: Any) -> None:
        """Assign a trial; `message`: fields of the assignment."""
        if self._worker is None:
            self._worker = worker(self._training, self._folder, dict(config or {}), message=message, **self._how)
        else:
            self._worker.reset_config(_assigned(config, message))

    def results(self) -> Iterator[TrialResult]:
        """Results to the last one; the trial is stopped when this is closed or not asked any more."""
        assert self._worker is not None
        while True:
            yield (result := said(self._worker))
            if result.ended:
                return

    def run(self, config: Mapping[str, Any] | None = None, **message: Any) -> list[TrialResult]:
        """All results of a trial that no rung stops."""
        self.begin(config, **message)
        return list(self.results())

    def end(self) -> None:
        """The process ends, as Tune ends it."""
        assert self._worker is not None
        self._worker.cleanup()
        self._worker = None


def losses(results: list[TrialResult]) -> list[tuple[int, float | None]]:
    """(step, objective) of each result."""
    return [(result.step, result.objective) for result in results]
