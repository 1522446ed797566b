"""The built-in training by cross-validation (`--folds`): on the driver its data, on a worker its trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rungwise.trainable.folds.assignment import TEST_PARTS
from rungwise.trainable.messages import StudyKey, TrialAssignment
from rungwise.trainable.protocol import File, SweepData, TestScores
from rungwise.trainable.resources import TrialResources
from rungwise.trainable.training.builtin import BuiltInTraining, describe_data

if TYPE_CHECKING:
    from rungwise.trainable.data.dataset import Dataset
    from rungwise.trainable.data.raw import Array
    from rungwise.trainable.folds.fold_run import FoldRun, FoldTensors
    from rungwise.trainable.folds.folded_data import FoldedDataset
    from rungwise.trainable.worker.trial_run import WorkerContext


@dataclass(frozen=True)
class FoldedTraining(BuiltInTraining):
    """Our own loop, once a fold. The data of a sweep is a `FoldedDataset`."""

    folds: int = field(default=5, kw_only=True)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "folds": self.folds}

    @property
    def packs(self) -> bool:  # type: ignore[override]
        return False

    @cached_property
    def _folded(self) -> FoldedDataset:
        """Read once, as `BuiltInTraining._dataset`."""
        from rungwise.trainable.folds.folded_data import load_folded

        return replace(load_folded(self.source, self.folds), functions=self.functions)

    @property
    def _labels(self) -> tuple[tuple[str, ...], list[Array]]:
        data = self._folded
        searches = range(1, (TEST_PARTS if data.plan.is_nested else 1) + 1)
        return data.about.classes, [data.y[data.plan.is_test(search)] for search in searches]

    def load(self) -> SweepData:
        data = self._folded
        example = data.whole(1)
        described = describe_data(example)
        fold = data.fold(1, 1)
        about = {
            **described.about,
            "digest": data.digest,
            "train": len(fold.train),
            "validation": len(example.train),  # each of them once, in its fold
            "test_parts": TEST_PARTS if data.plan.is_nested else None,
        }
        return SweepData(data, data, data.nbytes, about, described.notes)

    def data_of(self, data: FoldedDataset, search: int) -> Dataset:
        return data.whole(search)

    def prepare(self, data: FoldedDataset, resources: TrialResources) -> tuple[FoldTensors, str]:
        from rungwise.trainable.folds.fold_run import FoldTensors
        from rungwise.trainable.train import prepare_process

        device = prepare_process(resources.threads, resources.device)
        return FoldTensors(data, device), str(device)

    def start(self, assignment: TrialAssignment, context: WorkerContext) -> FoldRun:  # type: ignore[override]
        from rungwise.trainable.folds.fold_run import FoldRun

        return FoldRun(assignment, context)

    def _timed_data(self) -> Dataset:
        return self._folded.fold(1, 1)

    def score(
        self,
        files: Mapping[int, File],
        configs: Mapping[int, Mapping[str, Any]],
        studies: Mapping[int, StudyKey],
        data: FoldedDataset,
        resources: TrialResources,
    ) -> TestScores:
        """Each trial on the test part of its search. What a model scores on each sample is kept where all models are
        scored on the same ones."""
        found = TestScores({})
        for search in sorted({studies[trial].search for trial in files}):
            some = {trial: file for trial, file in files.items() if studies[trial].search == search}
            scored = super().score(some, configs, studies, data.whole(search), resources)
            samples = {} if data.plan.is_nested else {**found.samples, **scored.samples}
            found = replace(
                scored, scores={**found.scores, **scored.scores}, unfit={**found.unfit, **scored.unfit}, samples=samples
            )
        return found

    def constant_scores(self, data: FoldedDataset) -> dict[str, float]:
        """The mean over the test parts."""
        of_parts: Sequence[dict[str, float]] = [
            super(FoldedTraining, self).constant_scores(data.whole(search))
            for search in range(1, (TEST_PARTS if data.plan.is_nested else 1) + 1)
        ]
        return {name: sum(part[name] for part in of_parts) / len(of_parts) for name in of_parts[0]}
