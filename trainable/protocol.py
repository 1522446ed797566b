"""What a training is: what the driver asks of it before and after a search, and a worker process in between.

The built-in network (`trainable.training.builtin`) and a user's function, objective or program (`trainable.own`) are
trainings. No torch and no Ray here; a training is sent to workers, so it must be picklable.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rungwise.trainable.messages import CheckpointSaved, StudyKey, TrialAssignment
from rungwise.trainable.resources import TrialResources

if TYPE_CHECKING:
    from rungwise.trainable.worker.trial_run import TrialRun, WorkerContext

File = tuple[str, str]  # path or URI of a trial's final checkpoint, and its SHA-256
BUDGET = ("epochs", "reports_per_epoch")  # keys of a configuration that the sweep sets, not the search
RESERVED = ("seed", *BUDGET)  # keys of a configuration that every trial has


@dataclass(frozen=True)
class SweepData:
    """The data of a sweep on the driver."""

    search: Any  # what trials are given: without the test split, where the data is ours
    full: Any  # what scores on the test split are made with
    nbytes: int = 0  # in memory
    about: Mapping[str, Any] = field(default_factory=dict)  # fields of `results.record.definition.DatasetSummary`
    notes: Sequence[str] = ()  # what was changed when it was read


@dataclass(frozen=True)
class TestScores:
    """What confirmed trials score on the test split."""

    scores: Mapping[int, Mapping[str, float]]  # trial -> {metric, without "val_" or "test_": value}
    unfit: Mapping[int, str] = field(default_factory=dict)  # trial -> why its checkpoint fits no network of today
    # trial -> {metric: number of samples, what it scores on each}, packed as in `trainable.export.sample_scores`
    samples: Mapping[int, Mapping[str, tuple[int, bytes]]] = field(default_factory=dict)
    # trial -> the checkpoint that its test has left beside its final one: it is the model
    models: Mapping[int, CheckpointSaved] = field(default_factory=dict)
    products: str | None = None  # what computed matrix products there, where that is known


@dataclass(frozen=True)
class SavedModel:
    """The files of a run's folder model/."""

    files: Mapping[str, bytes]
    unexported: str | None = None  # why it has no program that runs without its source


class Training(ABC):
    """What trains the trials of a sweep."""

    metrics: Mapping[str, str | None] | None = None
    """{metric that a report has: "max" or "min", or None where the sweep must say it}; None: whatever is reported."""
    packs: bool = False
    """Whether a process can train several trials at once (`--pack`)."""
    has_test: bool = True
    """Whether confirmed trials can be scored on data that no trial has seen."""
    is_own: bool = False
    """Whether the loop is the user's: then the metrics, the data and the meaning of hyperparameters are, too."""
    one_line_errors: ClassVar[tuple[type[Exception], ...]] = ()
    """What its trials raise whose message says all: of another exception, which is the user's own, a traceback says
    more."""
    asks: bool = False
    """Whether a trial asks for its hyperparameters while it runs: they are in `params` of the record alone, and no
    configuration has them before a repetition."""

    def definition(self) -> dict[str, Any]:
        """What the record's definition says of it, as JSON; {} for the built-in one."""
        return {}

    def own_problems(self) -> list[str]:
        """What is wrong with the training itself, a line each."""
        return []

    def files(self) -> Mapping[str, Path]:
        """{path below a process's working directory: file or folder here} of what a machine of a cluster needs besides
        the modules that the script imports."""
        return {}

    # -- hyperparameters, on the driver ------------------------------------------------------------------------

    @abstractmethod
    def problems(self, values: Mapping[str, Any]) -> list[str]:
        """What is wrong with these hyperparameters, a line each. Those that are absent are no problem."""

    def missing(self, names: Collection[str]) -> list[str]:
        """Hyperparameters without which no trial can begin and which are not among these names."""
        return []

    @property
    def declares_hyperparameters(self) -> bool:
        """Whether `problems` knows all names that there are; else only the body of the user's code does."""
        return not self.is_own

    @abstractmethod
    def parse(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The whole configuration of a trial, as JSON: defaults filled in, and the keys `RESERVED`.

        Raises:
            ValueError: for values that are not legal (pydantic.ValidationError is one).
        """

    def with_defaults(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """`parse` of these values, where everything that they leave out has a default; None where something has none,
        or nobody knows."""
        return None

    @abstractmethod
    def describe(self, values: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        """{hyperparameter: {"type", "unit", "help"}} of a configuration with these values, for tables."""

    @abstractmethod
    def whole_numbers(self, values: Mapping[str, Any]) -> frozenset[str]:
        """Names of the hyperparameters that take whole numbers only."""

    # -- data, on the driver -----------------------------------------------------------------------------------

    @abstractmethod
    def data_problems(self, objectives: Sequence[str], *, packed: bool) -> list[str]:
        """What is wrong with the data, or with these objectives or with packs on it, a line each."""

    @abstractmethod
    def load(self) -> SweepData:
        """The data.

        Raises:
            RungwiseError: for data that cannot be used.
        """

    def unfit(self, values: Mapping[str, Any], data: SweepData) -> list[str]:
        """What of legal hyperparameters does not suit the data, a line each."""
        return []

    def rehearse(self, values: Mapping[str, Any], data: SweepData) -> list[str]:
        """Why no trial with these hyperparameters could succeed, from a try on a few samples, a line each."""
        return []

    def export_notes(self, configurations: Sequence[Mapping[str, Any]], data: SweepData) -> list[str]:
        """What cannot be kept of the models of these configurations, a line each: better known before a search."""
        return []

    # -- training, in a worker process -------------------------------------------------------------------------

    def as_sent(self, data: Any) -> Any:
        """`SweepData.search` as a worker process gets it, in this one: arrays can be read and not written to."""
        return data

    @abstractmethod
    def prepare(self, data: Any, resources: TrialResources) -> tuple[Any, str]:
        """Set up this process, once. Returns what its trials share, and the device that they train on.

        Args:
            data: `SweepData.search`.
            resources: of this process.
        """

    @abstractmethod
    def start(self, assignment: TrialAssignment, context: WorkerContext) -> TrialRun:
        """A trial, not begun yet."""

    @abstractmethod
    def time_epochs(
        self, configs: list[dict[str, Any]], resources: TrialResources, together: int, limit: int
    ) -> tuple[list[float], list[int]]:
        """Measure, in this process, what `--plan` multiplies.

        Args:
            configs: Hyperparameters; `epochs` and `seed` may be absent.
            resources: Of this process.
            together: Trials that train at once in it; 0 = as many as are fastest.
            limit: Of those.

        Returns:
            Of each configuration the seconds of an epoch, and the bytes of a checkpoint.
        """

    def data_of(self, data: Any, search: int) -> Any:
        """What `export` and `diagnose` are given of `SweepData.full` for a trial of the search of this number."""
        return data

    # -- after the search, in a Ray task -----------------------------------------------------------------------

    @abstractmethod
    def score(
        self,
        files: Mapping[int, File],
        configs: Mapping[int, Mapping[str, Any]],
        studies: Mapping[int, StudyKey],
        data: Any,
        resources: TrialResources,
    ) -> TestScores:
        """Score confirmed trials on the test split; called after all choices are made. `data`: `SweepData.full`."""

    def unfit_model(self, trial: int) -> str:
        """What is wrong with the model of a trial that `score` calls unfit."""
        return f"the model of trial {trial} has another network than its file builds now"

    @abstractmethod
    def export(
        self, file: File, config: Mapping[str, Any], about: Mapping[str, Any], data: Any, resources: TrialResources
    ) -> SavedModel:
        """The model of a confirmed trial. `about`: trial, arm and scores, to be kept with it."""

    def diagnose(
        self, file: File, config: Mapping[str, Any], data: Any, resources: TrialResources
    ) -> dict[str, Any] | None:
        """Where the model errs on the test split, as JSON for the report; None: not known."""
        return None

    def constant_scores(self, data: Any) -> dict[str, float]:
        """Scores of a prediction that does not look at its sample: what a training that diverged counts as."""
        return {}
