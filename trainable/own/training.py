"""A training of the user's own as a `Training`: what functions, objectives and programs have in common."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import pickle
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from rungwise.metric_names import without_split
from rungwise.packages.versions import package_version
from rungwise.trainable.faults import ordinary, reason
from rungwise.trainable.messages import CheckpointSaved, StudyKey, TrialAssignment, TrialResult
from rungwise.trainable.own import archive
from rungwise.trainable.own.arguments import Arguments, FunctionError
from rungwise.trainable.own.report_numbers import ReportError, numbers, require_shares
from rungwise.trainable.own.run import OwnRun
from rungwise.trainable.own.trial import TestProcess, Trial
from rungwise.trainable.own.worker_data import OwnData, WorkerData, load
from rungwise.trainable.protocol import RESERVED, File, SavedModel, SweepData, TestScores, Training
from rungwise.trainable.resources import TrialResources
from rungwise.trainable.training.loop_functions import name_of
from rungwise.trainable.training.seeding import seed_everything
from rungwise.trainable.worker.checkpoints import save_after
from rungwise.trainable.worker.trial_run import WorkerContext

CONFIG = "config.json"
PROBED_REPORTS = 2  # of a trial that `--plan` times


@dataclass(frozen=True)
class OwnTraining(Training):
    """What the doors have in common; a door says how its code is called (`reports`)."""

    data: OwnData
    metric: str  # the objective
    test: Callable[..., Any] | Sequence[str] | None  # a function; a program's may be a program, too
    is_own = True
    one_line_errors: ClassVar[tuple[type[Exception], ...]] = (FunctionError, ReportError)

    @property
    @abstractmethod
    def kind(self) -> str:
        """The door: "function", "objective" or "program"."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What messages call it."""

    @abstractmethod
    def reports(
        self, config: Mapping[str, Any], trial: Trial, run: OwnRun
    ) -> Iterator[Mapping[str, Any] | TrialResult]:
        """Train; its reports, and results that are none and go to the driver as they are. Closed when the trial is
        stopped."""

    def budget(self, config: Mapping[str, Any]) -> float:
        """Reports after which a trial has ended, whatever it would report next."""
        return int(config["epochs"]) * int(config["reports_per_epoch"])

    # Any name and value is legal, unless a door knows what its code takes. What an objective asks for is known when it
    # does: a value that an arm fixes is checked then.

    def problems(self, values: Mapping[str, Any]) -> list[str]:
        return []

    def parse(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return dict(values)

    def describe(self, values: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        return {}

    def whole_numbers(self, values: Mapping[str, Any]) -> frozenset[str]:
        return frozenset()

    def definition(self) -> dict[str, Any]:
        return {"kind": self.kind, "name": self.name, "test": self.has_test}

    def notes(self, run: OwnRun) -> tuple[str, ...]:
        """What a trial that has ended is to say, once a sweep."""
        return ()

    @property
    def has_test(self) -> bool:  # type: ignore[override]
        return self.test is not None

    # -- data --------------------------------------------------------------------------------------------------

    def data_problems(self, objectives: Sequence[str], *, packed: bool) -> list[str]:
        if self.data.source is None:
            return []
        from rungwise.trainable.data.dataset import problems

        return problems(self.data.source)

    def load(self) -> SweepData:
        if self.data.source is not None:
            from rungwise.trainable.training.builtin import BuiltInTraining

            return BuiltInTraining(self.data.source).load()
        if self.data.load is None or self.data.per_worker:
            return SweepData(None, None)
        name = name_of(self.data.load)
        loaded = load(self.data.load)
        try:
            with ordinary():
                pickled, buffers = _pickled(loaded)
        except Exception as error:
            raise FunctionError(
                f"data: what {name} returned must be sent to the processes that train, but {reason(error)}; with "
                "data_per_worker=True each of them calls it"
            ) from error
        nbytes = len(pickled) + sum(buffer.raw().nbytes for buffer in buffers)
        return SweepData(loaded, loaded, nbytes, {"name": name})

    def as_sent(self, data: Any) -> Any:
        pickled, buffers = _pickled(data)
        return pickle.loads(pickled, buffers=[buffer.raw().toreadonly() for buffer in buffers])

    def prepare(self, data: Any, resources: TrialResources) -> tuple[Any, str]:
        from rungwise.trainable.train import prepare_process

        device = prepare_process(resources.threads, resources.device)
        return (WorkerData(self.data.load) if self.data.per_worker and self.data.load else data), device.type

    def start(self, assignment: TrialAssignment, context: WorkerContext) -> OwnRun:
        return OwnRun(self, assignment, context)

    def time_epochs(
        self, configs: list[dict[str, Any]], resources: TrialResources, together: int, limit: int
    ) -> tuple[list[float], list[int]]:
        """By the first reports of each: the second one, where there is one, tells no longer of a start."""
        prepared, device = self.prepare(self.as_sent(self.load().search), resources)
        seconds, sizes = [], []
        for config in configs:
            with tempfile.TemporaryDirectory() as scratch:
                context = WorkerContext(prepared, (self.metric,), None, scratch, math.inf, device, Path(scratch))
                values = self.parse({"seed": 0, "reports_per_epoch": 1, "epochs": PROBED_REPORTS, **config})
                run = self.start(TrialAssignment(1, "", "plan", values), context)
                took = 0.0
                for result in itertools.islice(run.results(), PROBED_REPORTS):
                    took = result.metrics.get("seconds", took)
                run.close()
                seconds.append(took * int(values["reports_per_epoch"]))
                sizes.append(0)  # what the user's code saves is not known before it does
        return seconds, sizes

    # -- after the search --------------------------------------------------------------------------------------

    @cached_property
    def _test_arguments(self) -> Arguments:
        assert callable(self.test)
        return Arguments(self.test)

    def score(
        self,
        files: Mapping[int, File],
        configs: Mapping[int, Mapping[str, Any]],
        studies: Mapping[int, StudyKey],
        data: Any,
        resources: TrialResources,
    ) -> TestScores:
        prepared, device = self.prepare(data, resources)
        if isinstance(prepared, WorkerData):
            prepared = prepared.get()
        scores: dict[int, dict[str, float]] = {}
        models: dict[int, CheckpointSaved] = {}
        unfit: dict[int, str] = {}
        for number, (file, digest) in files.items():
            with tempfile.TemporaryDirectory() as temporary:
                snapshot = archive.unpack(str(file), digest, Path(temporary) / "checkpoint")
                process = TestProcess(Path(temporary))
                trial = Trial.of(
                    configs[number], number=number, arm=studies[number].arm, phase="test", attempt=1, device=device,
                    data=prepared, checkpoint=snapshot.folder, reported=snapshot.step, process=process,
                )  # fmt: skip
                seed_everything(trial.seed)
                try:
                    with ordinary():
                        scores[number] = self._named(self.tested(configs[number], trial))
                except Exception as error:
                    ended_early = snapshot.folder is None and snapshot.step < self.budget(configs[number]) < math.inf
                    if isinstance(error, self.one_line_errors) or not ended_early:
                        raise
                    unfit[number] = f"test raised {reason(error)}"
                    continue
                if process.saved is not None:
                    packed = Path(temporary) / "model.tar"
                    archive.pack(replace(snapshot, folder=process.saved), packed)
                    models[number] = save_after(file, packed)
        return TestScores(scores, unfit, models=models)

    def unfit_model(self, trial: int) -> str:
        return (
            f"trial {trial} returned before its budget and had saved nothing for test: save whenever you return early "
            "(trial.save), not only when trial.save_due"
        )

    def tested(self, config: Mapping[str, Any], trial: Trial) -> Any:
        """What the user's test returns of a confirmed trial; what it saves, the trial's process has."""
        call, _ = self._test_arguments.bind(config, trial)
        return call()

    def _named(self, returned: object) -> dict[str, float]:
        """Test scores by the names that the record has: without "test_" or "val_". Raises ReportError."""
        found = numbers(returned, (), "test")
        measured, expected = self.metric.removeprefix("val_"), without_split(self.metric)
        named = {name.removeprefix("test_").removeprefix("val_"): value for name, value in found.items()}
        if expected in named:
            named[measured] = named.pop(expected)  # of "val/f1", the record's name is the whole one
        if measured not in named:
            raise ReportError(
                f"test must return {expected!r}, which {self.metric!r} is on the test split, but returned "
                f"{', '.join(map(repr, found)) or 'nothing'}"
            )
        require_shares(named, (measured,))
        return named

    def export(
        self, file: File, config: Mapping[str, Any], about: Mapping[str, Any], data: Any, resources: TrialResources
    ) -> SavedModel:
        with tempfile.TemporaryDirectory() as temporary:
            folder = archive.unpack(str(file[0]), file[1], Path(temporary) / "checkpoint").folder
            files = {
                path.relative_to(folder).as_posix(): path.read_bytes()
                for path in sorted(folder.rglob("*") if folder else ())
                if path.is_file() and folder is not None
            }
        if CONFIG in files:  # the description's name, and that of the configuration of a Hugging Face model
            files = {f"files/{name}": content for name, content in files.items()}
        described = {
            "format": 1,
            "kind": "own",
            "training": self.name,
            "config": dict(config),
            "about": dict(about),
            "versions": {name: package_version(name) for name in ("rungwise",)},
            "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        }
        return SavedModel({**files, CONFIG: (json.dumps(described, indent=1) + "\n").encode()})


def _pickled(value: Any) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """`value` as it is sent: the memory of its arrays apart, which is not copied."""
    import cloudpickle

    buffers: list[pickle.PickleBuffer] = []
    pickled = cloudpickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append)
    return pickled, buffers


def searched(values: Mapping[str, Any]) -> list[str]:
    """Names of a configuration's hyperparameters."""
    return [name for name in values if name not in RESERVED]
