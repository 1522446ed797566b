"""A worker that trains trials of a user's own, in this process and without Ray, and sweeps of what goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rungwise.trainable.messages import TrialResult
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
    **how: Any,
) -> TrialWorker:
    """What a trial's process runs; checkpoints, if any, at every report.

    Args:
        training: What it trains.
        folder: Of the run.
        config: Of the trial; also its epochs.
        message: Fields of the assignment that differ.
        **how: Arguments of `Worker.setup`.
    """

    class Here(TrialWorker):
        def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
            super().setup(config, training=training, **given)

    given: dict[str, Any] = {"objectives": ("score",), "checkpoints": str(folder / "checkpoints")}
    given |= {"checkpoint_seconds": 0.0} | how
    values = {"seed": 7, "epochs": 3, "reports_per_epoch": 1} | (config or {})
    return Here(config={"trial": 1, "arm": "all", "phase": "search", "config": values} | (message or {}))


def said(trial: TrialWorker) -> TrialResult:
    return TrialResult.from_tune(trial.step())


def run_out(trial: TrialWorker) -> list[TrialResult]:
    """All results to the last."""
    results = [said(trial)]
    while not results[-1].ended:
        results.append(said(trial))
    return results
