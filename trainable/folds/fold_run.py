"""A trial on a worker that trains one model a fold, and reports the mean over the folds so far after each.

So a fold is what an epoch is elsewhere: the scheduler compares trials after as many folds. A trial whose final model is
scored on the test split then trains that model, on all samples that its search may see.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rungwise.trainable.config import parse_config
from rungwise.trainable.messages import (
    FOLD,
    SCORED_PHASES,
    CheckpointSaved,
    TrialAssignment,
    TrialEnd,
    TrialResult,
)
from rungwise.trainable.report import Report
from rungwise.trainable.storage import CheckpointError, checkpoint_header, read_checkpoint
from rungwise.trainable.worker.trial_run import TrialRun, WorkerContext, diverged, failure_from

if TYPE_CHECKING:  # torch is imported where training happens, never on the driver
    import torch

    from rungwise.trainable.config import Config
    from rungwise.trainable.data.dataset import Dataset
    from rungwise.trainable.data.tensors import Tensors
    from rungwise.trainable.folds.folded_data import FoldedDataset
    from rungwise.trainable.training.state import State

FORMAT = "rungwise folds 1"
_KEPT_BYTES = 2**28  # of folds that a process has ready


@dataclass
class FoldTensors:
    """The data of a process: folds are made when they are needed, and kept while they take little memory."""

    data: FoldedDataset
    device: torch.device
    _ready: OrderedDict[tuple[int | None, ...], tuple[Tensors, int]] = field(default_factory=OrderedDict, init=False)

    def fold(self, search: int, number: int, seed: int | None) -> Tensors:
        """As `FoldedDataset.fold`."""
        return self._get((search, number, seed), lambda: self.data.fold(search, number, seed))

    def whole(self, search: int) -> Tensors:
        """As `FoldedDataset.whole`, without the test part."""
        return self._get((search,), lambda: self.data.whole(search).without_test())

    def _get(self, key: tuple[int | None, ...], make: Callable[[], Dataset]) -> Tensors:
        from rungwise.trainable.data.tensors import Tensors

        if key not in self._ready:
            dataset = make()
            self._ready[key] = Tensors.of(dataset, self.device), dataset.nbytes
            while len(self._ready) > 1 and sum(size for _, size in self._ready.values()) > _KEPT_BYTES:
                self._ready.popitem(last=False)
        self._ready.move_to_end(key)
        return self._ready[key][0]


class FoldRun(TrialRun):
    """A trial in flight. A checkpoint holds what the folds reported that are done; a fold that was cut off begins
    again."""

    def __init__(self, assignment: TrialAssignment, context: WorkerContext) -> None:
        super().__init__(assignment, context)
        self._rows: list[dict[str, Any]] = []  # the last report of each fold that is done
        self._saved = (0, time.monotonic())  # folds and time of the last checkpoint
        self._final: State | None = None  # of the model that is scored on the test split
        self._final_report: Report | None = None

    def results(self) -> Iterator[TrialResult]:
        from rungwise.trainable.train import restore_defaults

        restore_defaults()
        config, data = parse_config(self.assignment.config), self._context.data
        rows, refused = self._store.load(_read_rows, self.assignment.checkpoints)
        self._rows, self._refused = rows or [], tuple(refused)
        resumed_at = len(self._rows)
        if rows:
            self._restored, self._saved = resumed_at, (resumed_at, time.monotonic())
        for fold in range(1, data.data.plan.folds + 1):
            if fold > len(self._rows):
                self._rows.append(self._train_fold(config, fold))
            if self._is_last(fold) and self._is_scored and _is_finite(self._rows[-1]):
                self._final, self._final_report = self._train(config, data.whole(self.assignment.search))
            if fold > min(self.assignment.reported, resumed_at):
                yield self._result_of(fold, config, resumed_at)

    def finalize_result(self, result: TrialResult) -> TrialResult:
        result = self._with_origin(result)
        try:
            if result.state is TrialEnd.COMPLETED and self._final is not None:
                # One step after those of the folds, which the record may hold.
                saved = self._store.save(result.step + 1, self._final.content())
                return replace(result, checkpoint=saved)
            if not result.ended and time.monotonic() - self._saved[1] >= self._context.checkpoint_seconds:
                return replace(result, checkpoint=self._checkpoint())
        except CheckpointError as error:  # a user's module whose state is no tensors
            return replace(result, state=TrialEnd.FAILED, failure=failure_from(error))
        except OSError as error:
            if result.ended:
                raise
            self._saved = (self._saved[0], time.monotonic())
            return replace(result, unsaved=str(error))
        return result

    def save(self) -> None:
        if len(self._rows) > self._saved[0]:
            with suppress(OSError):  # the trial resumes from the previous checkpoint
                self._checkpoint()

    @property
    def _is_scored(self) -> bool:
        return self.assignment.phase in SCORED_PHASES

    def _is_last(self, fold: int) -> bool:
        return bool(fold == self._context.data.data.plan.folds)

    def _train_fold(self, config: Config, fold: int) -> dict[str, Any]:
        """The last report of the fold's training. On fresh seeds folds are fresh, too."""
        seed = config.seed if self._is_scored else None
        own = config.model_copy(update={"seed": _fold_seed(config.seed, fold)})
        state, report = self._train(own, self._context.data.fold(self.assignment.search, fold, seed))
        return {**report.asdict(), "parameters": self._parameters_of(state)}

    def _train(self, config: Config, tensors: Tensors) -> tuple[State, Report]:
        """A trained state and its last report, with the time of all. Raises Infeasible for too many parameters."""
        from rungwise.trainable.train import train
        from rungwise.trainable.training.state import State

        started = time.perf_counter()
        state = State.fresh(config, tensors)
        self._require_few(self._parameters_of(state))
        *_, report = train(config, tensors, state=state)
        return state, replace(report, seconds=time.perf_counter() - started)

    @staticmethod
    def _parameters_of(state: State) -> int:
        from rungwise.trainable.model import parameters

        return parameters(state.model)

    def _result_of(self, fold: int, config: Config, resumed_at: int) -> TrialResult:
        """The message to the driver after a fold. Raises KeyError when it lacks an objective."""
        rows = self._rows[:fold]
        metrics = mean_of_folds(rows)
        trained = fold + (self._final is not None and self._is_last(fold))
        metrics["epoch"] = float(trained * config.epochs)
        objectives = self._context.objectives
        if "parameters" in objectives:
            metrics["parameters"] = max(row["parameters"] for row in rows)
        if "seconds_per_epoch" in objectives:
            metrics["seconds_per_epoch"] = sum(row["seconds"] for row in rows) / (fold * config.epochs)
        result = self._result(fold, metrics, resumed_at)
        if not _is_finite(rows[-1]) or result.objective is None:
            return diverged(result, metrics)
        if self._final_report is not None and not self._final_report.finite:
            return diverged(result, self._final_report.asdict())
        return replace(result, state=TrialEnd.COMPLETED) if self._is_last(fold) else result

    def _checkpoint(self) -> CheckpointSaved:
        from safetensors.numpy import save

        content = save({}, {"rungwise": json.dumps({"format": FORMAT, "folds": self._rows})})
        saved = self._store.save(len(self._rows), content)
        self._saved = (saved.step, time.monotonic())
        return saved


def mean_of_folds(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The numbers of a report: means over the folds so far, and as `fold_<metric>` those of the last one alone.

    Args:
        rows: The last report of each fold. `lr` and `seconds` are those of the last fold.
    """
    last = {name: value for name, value in rows[-1].items() if name not in ("step", "epoch", "parameters")}
    averaged = [name for name in last if name not in ("lr", "seconds")]
    # Rounded, so that trials with equal scores in another order are a tie, and none is stopped for its last digit.
    means = {name: float(f"{math.fsum(row[name] for row in rows) / len(rows):.12g}") for name in averaged}
    return {**last, **means, **{f"{FOLD}{name}": last[name] for name in averaged if name.startswith("val_")}}


def _read_rows(file: str, sha256: str) -> list[dict[str, Any]]:
    """The rows of a checkpoint. Raises CheckpointError."""
    content = read_checkpoint(file, sha256)
    try:
        header = checkpoint_header(content)
        if header["format"] == FORMAT:
            return list(header["folds"])
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"checkpoint {file!r} must be whole, but is not: {error}") from error
    raise CheckpointError(f"checkpoint {file!r} must hold folds, but holds a model")


def _is_finite(row: dict[str, Any]) -> bool:
    return Report.from_dict({name: value for name, value in row.items() if name != "parameters"}).finite


def _fold_seed(seed: int, fold: int) -> int:
    """The seed of a fold's weights, sample order and noise: its own, so that luck averages out, too."""
    return int.from_bytes(hashlib.sha256(f"{seed}/fold/{fold}".encode()).digest()[:4], "big") >> 1
