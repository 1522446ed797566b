"""A complete sweep in this process, from first trial to exported model, without Tune's loop and Ray's workers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rungwise import FloatDistribution, Sweep
from rungwise.engine.cluster.scoring_process import ScoringProcess
from rungwise.engine.execution.remaining_work import checkpoint_root, has_work, missing_repeats
from rungwise.engine.execution.test_scoring import Confirmation
from rungwise.engine.experiment.command_line import parse
from rungwise.engine.experiment.experiment import Experiment, resolve
from rungwise.results.analysis.answer import Answer, answer
from rungwise.results.record.reader import Reader
from rungwise.results.record.writer import Record
from rungwise.trainable.data.dataset import Dataset
from rungwise.trainable.messages import TrialResult
from rungwise.trainable.protocol import SweepData
from rungwise.trainable.worker.worker import TrialWorker
from support.loop import Loop

SWEEP = Sweep(
    name="tiny",
    space={"lr": FloatDistribution(1e-3, 1e-1, log=True)},
    fixed={"hidden": (4,), "batch_size": 64},
    data="digits",
    scheduler="none",
    trials=2,
    epochs=2,
)


class Here(Confirmation):
    """Its workers are this process."""

    def _on_worker(self, work: Callable[..., Any], *given: Any) -> Any:
        return work(*given, self._process.resources)


class Bench:
    """One run's folder, and the command that works on it."""

    def __init__(self, folder: Path, data: Dataset | None, *flags: str, sweep: Sweep = SWEEP) -> None:
        self.folder, self.sweep = folder, sweep
        self.data = SweepData(None if data is None else data.without_test(), data)
        folder.mkdir(parents=True, exist_ok=True)
        asked = ["--out", str(folder.parent), "--name", folder.name, "--confirm-configs", "1", "--confirm-seeds", "2"]
        self.options = parse(sweep, [*asked, *flags])
        self.checkpoints = checkpoint_root(self.options)

    @property
    def experiment(self) -> Experiment:
        return resolve(self.sweep, self.options)

    def todo(self) -> bool:
        """Whether the command has anything left to do."""
        return has_work(self.folder, self.experiment, self.checkpoints)

    def command(self) -> list[str]:
        """Search, train again, score, keep the model; returns what could not be made of it."""
        loop = Loop(self.folder, self.sweep, trials=self.options.trials, in_flight=1, repeats=self._repeats)
        self.record = loop.record
        with Reader(self.folder) as reader:
            known = reader.meta("id")
        if known is None:
            self.record.set_meta("id", "mine")
            self.record.commit()
        loop.search._run = "mine"
        try:
            while not isinstance(trial := loop.deal(), str):
                worker = self._worker(trial.config)
                while not loop.tell(trial, TrialResult.from_tune(worker.step())):
                    pass
            confirmation = Here(self.record, self.experiment, self.data, self.process, self.checkpoints)
            confirmation.score()
            return list(confirmation.keep())
        finally:
            self.record.close()

    def _worker(self, message: dict[str, Any]) -> TrialWorker:
        experiment = self.experiment
        given = {"data": self.data.search, "checkpoints": self.checkpoints, "checkpoint_seconds": 0.0}
        given |= {"training": experiment.trained_by, "objectives": tuple(experiment.objectives)}

        class Worker(TrialWorker):
            def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
                super().setup(config, **given)

        return Worker(config=message)

    def _repeats(self) -> Any:
        self.record.commit()
        with Reader(self.folder) as reader:
            return missing_repeats(reader, self.experiment, self.checkpoints)

    @property
    def process(self) -> ScoringProcess:
        return ScoringProcess(self.options.resources, lambda: False)

    @property
    def answer(self) -> Answer:
        with Reader(self.folder) as reader:
            return answer(reader)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with Reader(self.folder) as reader:
            return reader._db.execute(sql).fetchall()


def states_left_by_kills(patch: pytest.MonkeyPatch, bench: Bench, copies: Path) -> list[Path]:
    """Run the command; what a SIGKILL after each of its commits, and after the model's rename, would have left."""
    from rungwise.engine.execution import test_scoring as confirm

    left: list[Path] = []

    real_commit, real_install = Record.commit, confirm.install

    def copy() -> None:
        left.append(copies / str(len(left)) / bench.folder.name)
        shutil.copytree(bench.folder, left[-1])

    def commit(record: Record) -> None:
        changed = record._db.in_transaction
        real_commit(record)
        if changed:
            copy()

    def install(content: Mapping[str, bytes], folder: Path) -> None:
        real_install(content, folder)
        copy()

    with patch.context() as patched:
        patched.setattr(Record, "commit", commit)
        patched.setattr(confirm, "install", install)
        bench.command()
    return left
