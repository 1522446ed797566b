"""The built-in training: a regularised MLP or CNN, or a user's network, in our own loop. `trainable.train` is the loop.

Imports torch only where it trains: the driver asks it, too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rungwise.trainable import config as hyper
from rungwise.trainable.data.data_source import DataSource
from rungwise.trainable.faults import reason
from rungwise.trainable.messages import StudyKey, TrialAssignment
from rungwise.trainable.protocol import File, SavedModel, SweepData, TestScores, Training
from rungwise.trainable.report import MODES
from rungwise.trainable.resources import TrialResources
from rungwise.trainable.storage import MisfitError
from rungwise.trainable.training.loop_functions import NO_FUNCTIONS, LoopFunctions, unsendable

if TYPE_CHECKING:
    import torch

    from rungwise.trainable.data.dataset import Dataset
    from rungwise.trainable.data.raw import Array
    from rungwise.trainable.worker.state_run import StateRun
    from rungwise.trainable.worker.trial_run import WorkerContext


@dataclass(frozen=True)
class BuiltInTraining(Training):
    """Our own loop on a classification or regression dataset."""

    source: DataSource = field(default_factory=DataSource)
    functions: LoopFunctions = NO_FUNCTIONS  # of the user's, in the loop

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source, "functions": self.functions}  # its data is sent by itself

    @property
    def metrics(self) -> dict[str, str | None]:  # type: ignore[override]
        return {**MODES, **{f"val_{name}": None for name in self.functions.metrics}}

    @property
    def packs(self) -> bool:  # type: ignore[override]
        return not self.functions

    def definition(self) -> dict[str, Any]:
        said = dict(self.functions.definition()) if self.functions else {}
        if not self.source.is_standardised:
            said["preprocess"] = self.source.preprocess
        return {"kind": "built-in", **said} if said else {}

    def own_problems(self) -> list[str]:
        named = {name: getattr(self.functions, name) for name in ("loss", "optimizer", "schedule")}
        return unsendable(**named, **{f"metric {name}": each for name, each in self.functions.metrics.items()})

    def problems(self, values: Mapping[str, Any]) -> list[str]:
        return hyper.problems(values)

    def parse(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return hyper.parse_config(values).model_dump(mode="json")

    def with_defaults(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            return self.parse(values)
        except ValueError:  # of a subclass of Config: a field without a default
            return None

    def describe(self, values: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        return hyper.described(hyper.config_class(values))

    def whole_numbers(self, values: Mapping[str, Any]) -> frozenset[str]:
        fields = hyper.config_class(values).model_fields
        return frozenset(name for name, each in fields.items() if each.annotation is int)

    def data_problems(self, objectives: Sequence[str], *, packed: bool) -> list[str]:
        """A user's own file is read to the end, as it has not been tested."""
        from rungwise.trainable.data import dataset

        lines, name = dataset.problems(self.source), self.source.name
        if lines or (name in dataset.DATASETS and name not in dataset.SMALL):
            return lines
        try:
            classes, tests = self._labels
        except dataset.DataError as error:
            return [str(error)]
        regression = not classes
        wrong = ("val_accuracy",) if regression else ("val_mse", "val_mae", "val_r2")
        kind, way = ("real numbers", "metric='val_r2'") if regression else ("classes", "metric='val_accuracy'")
        lines = [f"labels are {kind}, so there is no {name}; say {way}" for name in objectives if name in wrong]
        held = min((set(labels.tolist()) for labels in tests), key=len)
        if not regression and len(held) < 2:
            which = f"only {classes[held.pop()]!r}" if held else "none"
            lines.append(
                f"the test split must contain samples of two classes, but contains {which}; split the data otherwise "
                "(docs/data.md)"
            )
        if regression and not held:
            lines.append(
                "the test split must contain samples, but contains none; split the data otherwise (docs/data.md)"
            )
        if packed and self.source.columns.embed:
            lines.append("--pack trains without embedded columns, but --embed names some; leave one of them off")
        if regression and packed:
            lines.append("--pack trains classifications only, but the labels are real numbers; leave it off")
        return lines

    @cached_property
    def _dataset(self) -> Dataset:
        """Read once: by the checks before Ray starts, and for the search that follows them in this process."""
        from rungwise.trainable.data.dataset import load

        return replace(load(self.source), functions=self.functions)

    @property
    def _labels(self) -> tuple[tuple[str, ...], list[Array]]:
        """Names of the classes, none of a regression; and the labels of every test split that there is."""
        test = self._dataset.test
        return self._dataset.classes, [self._dataset.train.y[:0] if test is None else test.y]

    def load(self) -> SweepData:
        return describe_data(self._dataset)

    def unfit(self, values: Mapping[str, Any], data: SweepData) -> list[str]:
        config = hyper.parse_config(values)
        # A trial's configuration in the record has all fields; a model of the user's own may have one of this name.
        chosen = config.model in hyper.MODELS and config.embedding != hyper.Config().embedding
        if chosen and not self.source.columns.embed:
            return ["embedding is the size of the vectors of columns that --embed names, but no column is embedded"]
        if not self.source.is_standardised and config.model in hyper.MODELS:
            return [f"--preprocess none is for a model of your own, but the model is {config.model}"]
        return hyper.unfit(config, tuple(data.about["shape"]))

    def rehearse(self, values: Mapping[str, Any], data: SweepData) -> list[str]:
        """Of a model of the user's own: that it makes no logits. What it raises, training will raise too."""
        from rungwise.trainable.export.model_check import rehearse
        from rungwise.trainable.model import OutputError

        config = hyper.parse_config(values)
        if config.model in hyper.MODELS:
            return []
        try:
            rehearse(config, self.data_of(data.search, 1))
        except OutputError as error:
            return [str(error)]
        except Exception:  # comes again, where a debugger can stop at it
            return []
        return []

    def export_notes(self, configurations: Sequence[Mapping[str, Any]], data: SweepData) -> list[str]:
        """A line for each model of the user's own that torch.export refuses. Takes seconds."""
        models = [hyper.parse_config(values) for values in configurations]
        own = [model for model in models if model.model not in hyper.MODELS]
        if not own:
            return []
        from rungwise.trainable.export.saved_model import unexportable

        example = self.data_of(data.full, 1)
        problems = dict.fromkeys(problem for model in own if (problem := unexportable(model, example)))
        return [
            f"the model can be trained and scored, but torch.export refuses it, so model/ will contain its weights and "
            f"no program: {problem}"
            for problem in problems
        ]

    def prepare(self, data: Any, resources: TrialResources) -> tuple[Any, str]:
        """See `Training`. Raises ValueError for data with a test split."""
        from rungwise.trainable.data.tensors import Tensors

        if data.test is not None:
            raise ValueError("a trial must not see the test split; give it data.without_test()")
        tensors = Tensors.of(data, _device(resources))
        return tensors, str(tensors.device)

    def start(self, assignment: TrialAssignment, context: WorkerContext) -> StateRun:
        from rungwise.trainable.worker.state_run import StateRun

        return StateRun(assignment, context)

    def time_epochs(
        self, configs: list[dict[str, Any]], resources: TrialResources, together: int, limit: int
    ) -> tuple[list[float], list[int]]:
        from rungwise.trainable.worker.timing import probe

        return probe(configs, self._timed_data(), resources, together, limit)

    def _timed_data(self) -> Dataset:
        from rungwise.trainable.data.dataset import load

        return load(self.source).without_test()

    def score(
        self,
        files: Mapping[int, File],
        configs: Mapping[int, Mapping[str, Any]],
        studies: Mapping[int, StudyKey],
        data: Any,
        resources: TrialResources,
    ) -> TestScores:
        from rungwise.trainable.export.test_evaluation import score, score_samples
        from rungwise.trainable.packing.matmul import product_kernel

        device = _device(resources)
        scores: dict[int, dict[str, float]] = {}
        samples: dict[int, dict[str, tuple[int, bytes]]] = {}
        unfit: dict[int, str] = {}
        for trial, file in files.items():
            try:
                scores |= score({trial: file}, configs, data, device)
                samples[trial] = score_samples(file, configs[trial], data, device)
            except MisfitError as error:
                unfit[trial] = reason(error)
        return TestScores(scores, unfit, samples, products=product_kernel(device))

    def export(
        self, file: File, config: Mapping[str, Any], about: Mapping[str, Any], data: Dataset, resources: TrialResources
    ) -> SavedModel:
        from rungwise.trainable.export.saved_model import export

        _device(resources)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            unexported = export(file, config, data, folder, about)["unexported"]
            return SavedModel({made.name: made.read_bytes() for made in folder.iterdir()}, unexported)

    def diagnose(
        self, file: File, config: Mapping[str, Any], data: Dataset, resources: TrialResources
    ) -> dict[str, Any]:
        from rungwise.trainable.export.test_evaluation import diagnose

        return diagnose(file, config, data, _device(resources))

    def constant_scores(self, data: Any) -> dict[str, float]:
        from rungwise.trainable.export.constant_prediction import constant_scores

        return constant_scores(data) if data.test else {}


def _device(resources: TrialResources) -> torch.device:
    from rungwise.trainable.train import prepare_process

    return prepare_process(resources.threads, resources.device)


def describe_data(full: Dataset) -> SweepData:
    """A dataset as a sweep's data: what trials are given of it, and what the record says about it."""
    from rungwise.trainable.data.dataset import notes

    about = {
        "name": full.name,
        "digest": full.digest,
        "source": full.source,
        "shape": list(full.shape),
        "classes": list(full.classes),
        "train": len(full.train),
        "validation": len(full.validation),
        "test": len(full.test) if full.test else 0,
        "columns": None if full.encoder is None else dict(full.encoder.described()),
    }
    return SweepData(full.without_test(), full, full.nbytes, about, notes(full))
