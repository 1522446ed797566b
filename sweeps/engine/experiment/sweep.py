"""A sweep: one question, as a value. A sweep script is a docstring, one `Sweep` and one call of `main`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast

from rungwise.engine.experiment.space import Space, plain
from rungwise.trainable.import_path import import_path_of
from rungwise.trainable.report import MODES

Mode = Literal["max", "min"]
Sampler = str | Callable[[int], Any]  # a name, or a function: seed -> optuna.samplers.BaseSampler


@dataclass(frozen=True)
class Sweep:
    """The question, the space, the arms it compares, and the budget.

    Every trial trains to `epochs` unless ASHA stops it: after `grace` epochs, and then at every eta-fold of that,
    a trial goes on only when its `metric` is within the best 1/eta of what its arm reported there before
    (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning").
    """

    name: str  # of the sweep, and of its run's folder unless --name says otherwise
    space: Space  # what is searched
    question: str | None = ""  # one sentence; the script's docstring is a good place: question=__doc__
    fixed: Mapping[str, Any] = field(default_factory=dict)  # hyperparameters that no trial varies
    # name -> what the arm fixes; a distribution is what it searches instead
    arms: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"all": {}})
    model: str | Callable[..., Any] = "mlp"  # mlp, cnn, or a function Config -> torch.nn.Module (docs/model.md)
    data: str = "mnist"
    metric: str = "val_accuracy"
    mode: Mode = None  # type: ignore[assignment]  # max or min; follows from the metric: losses and errors are minimised
    also: Mapping[str, Mode] | Sequence[str] = field(default_factory=dict)  # more objectives: a Pareto front
    max_parameters: int | None = None  # a larger model is refused before it trains, and the sampler told
    sampler: Sampler | Mapping[str, Sampler] = "tpe"  # of all arms, or {arm: its own}
    sampler_options: Mapping[str, Any] = field(default_factory=dict)  # of the sampler's constructor
    scheduler: str = "asha"
    patience: float | None = None  # epochs without a better metric after which a trial is stopped
    confirm_configs: int = 3  # of each arm, trained again on fresh seeds
    confirm_seeds: int = 5
    trials: int = 32
    epochs: int = 6
    reports_per_epoch: int = 1
    grace: float = 1.0  # epochs before the first rung
    eta: float = 3.0  # a rung lets about 1/eta of the trials pass

    def __post_init__(self) -> None:
        """NumPy's numbers become Python's, and what follows from a metric is filled in. `check` says what is wrong."""
        for each in fields(self):
            object.__setattr__(self, each.name, plain(getattr(self, each.name)))
        if cast(Mode | None, self.mode) is None:
            object.__setattr__(self, "mode", _mode(self.metric))
        names = dict.fromkeys(self.also) if isinstance(self.also, list | tuple) else self.also
        if isinstance(names, Mapping):
            also = {name: _mode(name) if mode is None else mode for name, mode in names.items()}
            object.__setattr__(self, "also", also)

    @property
    def objectives(self) -> dict[str, str]:
        """{metric: max or min}, the one that stops trials first."""
        return {self.metric: self.mode, **cast(Mapping[str, str], self.also)}

    @property
    def model_name(self) -> str:
        """The model as `Config.model` says it. Raises ModelError for a function that no worker could find."""
        return self.model if isinstance(self.model, str) else import_path_of(self.model)


def _mode(metric: object) -> Mode | None:
    return MODES.get(metric) if isinstance(metric, str) else None
