"""The definition of a sweep as its record keeps it: question, arms, space, budget. Every view reads it with these
defaults.

`engine.experiment.experiment.Experiment` is the same, with the Python objects that JSON cannot hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import ceil
from typing import Any, Self

from rungwise.results.io.redaction import Verbatim
from rungwise.trainable.messages import StudyKey

SEARCHES = 5  # of each arm where arms are compared, unless a sweep says otherwise


@dataclass(frozen=True)
class DatasetSummary:
    """The data that a sweep trained on."""

    name: str = ""
    digest: str = ""  # SHA-256 of samples and labels
    source: str = ""
    shape: Sequence[int] | None = None  # of a sample
    classes: Sequence[str] | None = None  # empty: the labels are real numbers; None: the record does not say
    train: int | None = None  # samples of each split
    validation: int | None = None
    test: int | None = None
    columns: Mapping[str, str] | None = None  # of a table: column -> what was done to it
    # Of how many parts of the samples each search has one as its test split; None: all searches have the same one.
    test_parts: int | None = None

    def samples(self, split: str) -> int | None:
        """How many samples the "test" or "validation" split has; None when the record does not say, or has none."""
        return (self.test if split == "test" else self.validation) or None

    @property
    def test_ratio(self) -> float | None:
        """Test samples for each training sample, where searches have test splits of their own."""
        return 1 / (self.test_parts - 1) if self.test_parts else None

    @classmethod
    def from_json(cls, text: Mapping[str, Any]) -> Self:
        """Unknown keys are left out."""
        return cls(**_known_fields(cls, text))

    def to_json(self) -> dict[str, Any]:
        """{} when nothing is known."""
        named = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: _listed(value) for name, value in named.items() if value is not None and value != ""}


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What was asked, of which data, within which budget. 0 and "" stand for what the record does not say.

    The fields have the names, the form and the order of the record's JSON.
    """

    name: str = ""  # of the run
    sweep: str = ""  # name of the sweep that the run is of
    question: str = ""
    metric: str = "val_accuracy"
    mode: str = "max"  # or min
    trials: int = 0  # of each search of each arm
    searches: int = 1  # independent ones, of each arm
    budget: str = "trials"  # of a search; "epochs": those of `trials` trainings to the end, whatever is stopped early
    order: str = "arrival"  # of suggestions; "fixed": each search has one trial in flight, and time decides nothing
    epochs: int = 0  # of a model that is trained to the end
    reports_per_epoch: int = 1
    folds: int = 0  # models that a trial trains for `epochs`, one a fold, with a report of each; 0: one model
    grace: float = 0.0  # epochs before the first rung
    eta: float = 0.0
    scheduler: str = ""
    sampler: str = ""
    samplers: Mapping[str, str] = field(default_factory=dict)  # arm -> its sampler, where they differ
    sampler_options: Mapping[str, Any] = field(default_factory=dict)
    objectives: Mapping[str, str] = field(default_factory=dict)  # {metric: max or min}, the one that stops trials first
    worth: float | None = None  # the smallest difference worth having, in the metric's unit; None: not said
    until_sure: int = 0  # searches are added until the answer is sure, up to so many of each arm; 0: none are added
    patience: float | None = None  # epochs
    max_parameters: int | None = None
    constraints: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # reported metric -> ["<=" or ">=", limit]
    seed: int = 0
    arms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # arm -> what it fixes; a range as text
    fixed: Mapping[str, Any] = field(default_factory=dict)
    # {hyperparameter: Optuna distribution as JSON}, or what is kept of a function (`engine.experiment.space.to_json`)
    space: Mapping[str, str] | str = field(default_factory=dict)
    model: str | Mapping[str, str] = "mlp"  # or {"function": its name}
    # {} for the built-in one; {"kind": "built-in", "loss": name, ...} with functions of the user's in its loop; else
    # {"kind": "function", "name": its name, "test": whether it scores a test split}
    training: Mapping[str, Any] = field(default_factory=dict)
    data: DatasetSummary = field(default_factory=DatasetSummary)
    unknown: Mapping[str, Any] = field(default_factory=dict)  # what another version of Rungwise keeps besides

    def __post_init__(self) -> None:
        """A sweep of one objective has its metric as the only one."""
        if not self.objectives:
            object.__setattr__(self, "objectives", {self.metric: self.mode})

    @staticmethod
    def from_json(text: Mapping[str, Any] | None) -> Definition:
        """Of the JSON that `to_json` makes, or that an earlier version made; None is a record without a definition."""
        values = _known_fields(Definition, text or {})
        if len(values.get("arms", {})) > 1 and "searches" not in values:  # an earlier version counted all arms together
            values["trials"] = ceil(values.get("trials", 0) / len(values["arms"]))
        values["data"] = DatasetSummary.from_json(values.get("data", {}))
        values["unknown"] = {key: value for key, value in (text or {}).items() if key not in _KEYS}
        return Definition(**values)

    def to_json(self) -> Verbatim:
        """What the record keeps: all that differs from the defaults, and a few words that are never left out."""
        values: dict[str, Any] = {name: _listed(getattr(self, name)) for name in _KEYS} | {"data": self.data.to_json()}
        if values["objectives"] == {self.metric: self.mode}:
            values["objectives"] = {}
        always = _ALWAYS | ({"searches"} if len(self.arms) > 1 else set())  # without it `trials` are of all arms
        said = {key: value for key, value in values.items() if key in always or value != _DEFAULTS[key]}
        return Verbatim(said | dict(self.unknown))

    @property
    def studies(self) -> list[StudyKey]:
        """Every search of every arm, in the order in which trials are dealt in turn."""
        return [StudyKey(arm, search) for search in range(1, self.searches + 1) for arm in self.arms]

    @property
    def all_trials(self) -> int:
        """Trials of all searches of all arms together."""
        return self.trials * self.searches * len(self.arms)

    @property
    def trial_epochs(self) -> int:
        """The full budget of a trial, over all its folds."""
        return self.epochs * (self.folds or 1)

    @property
    def trial_reports(self) -> int:
        """How many reports a trial sends that is not stopped."""
        return self.folds or self.epochs * self.reports_per_epoch

    @property
    def repeat_epochs(self) -> int:
        """Epochs of a trial on fresh seeds, which with folds trains the model that is scored besides."""
        return self.epochs * (self.folds + 1 if self.folds else 1)

    def to_epochs(self, reports: float) -> float:
        """The epochs that a trial has trained after so many reports."""
        return reports * self.epochs if self.folds else reports / self.reports_per_epoch

    def to_reports(self, epochs: float) -> int:
        """The report of a trial nearest to so many epochs, 1 at least."""
        return max(1, round(epochs / self.epochs if self.folds else epochs * self.reports_per_epoch))

    @property
    def tested_samples(self) -> int | None:
        """How many different samples the searches of an arm are tested on; None when the record does not say."""
        samples, parts = self.data.samples("test"), self.data.test_parts
        return samples * min(self.searches, parts) if samples and parts else samples

    @property
    def epochs_of_search(self) -> int:
        """Epochs of `trials` trainings to the end: the budget of a search that is dealt by epochs."""
        return self.trials * self.trial_epochs

    @property
    def most_trials(self) -> int:
        """The most trials that a search can have. Of a budget in epochs each trial takes one at least, or one fold."""
        least = self.epochs if self.folds else 1
        return self.epochs_of_search // least if self.budget == "epochs" else self.trials

    @property
    def sign(self) -> float:
        """1 when more of the metric is better, else -1."""
        return -1.0 if self.mode == "min" else 1.0

    def violations(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """By how much a report's `metrics` break each constraint, as Optuna takes it: more than 0 breaks it.

        A metric that the report lacks, or that is no number, is not looked at.
        """
        found = {}
        for name, (operator, limit) in self.constraints.items():
            if math.isfinite(value := metrics.get(name, math.nan)):
                found[name] = float(value - limit if operator == "<=" else limit - value)
        return found

    def breach(self, metrics: Mapping[str, float]) -> str | None:
        """The first constraint that a report's `metrics` break, in words; None when they break none."""
        for name, violation in self.violations(metrics).items():
            if violation > 0:
                operator, limit = self.constraints[name]
                bound = "at most" if operator == "<=" else "at least"
                return f"{name} must be {bound} {limit:g}, but got {metrics[name]:g}"
        return None

    @property
    def is_own(self) -> bool:
        """Whether the training loop is the user's."""
        return bool(self.training.get("kind", "built-in") != "built-in")

    @property
    def suggests_while_running(self) -> bool:
        """Whether a trial asks for its hyperparameters while it runs, as an Optuna objective does."""
        return bool(self.training.get("kind") == "objective")

    @property
    def has_test(self) -> bool:
        """Whether confirmed trials are scored on a test split."""
        return bool(self.training.get("test", True))

    @property
    def is_regression(self) -> bool:
        """Whether the data has targets and no classes."""
        return self.data.classes is not None and not self.data.classes


_KEYS = tuple(each.name for each in fields(Definition) if each.name != "unknown")
_ALWAYS = frozenset({"question", "metric", "mode", "reports_per_epoch", "seed", "fixed"})


def _known_fields(cls: type, text: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that `cls` has as fields, without those that say nothing."""
    names = {each.name for each in fields(cls)} - {"unknown"}
    return {key: value for key, value in text.items() if key in names and value is not None}


def _listed(value: Any) -> Any:
    """Lists in place of tuples, as JSON has them; dicts of their own."""
    if isinstance(value, Mapping):
        return {key: _listed(part) for key, part in value.items()}
    return [_listed(part) for part in value] if isinstance(value, list | tuple) else value


_DEFAULTS = {name: getattr(Definition(), name) for name in _KEYS} | {"objectives": {}, "data": {}}


def rung_steps(grace: float, budget: float, eta: float) -> Iterator[float]:
    """The rungs below `budget`, lowest first: grace, grace * eta, grace * eta**2, ... All in one unit."""
    step = grace
    while step < budget:
        yield step
        step *= eta
