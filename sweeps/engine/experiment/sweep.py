"""A sweep: one question, as a value. A sweep script is a docstring, one `Sweep` and one call of `main`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, fields
from typing import Any, Literal, cast

from rungwise.engine.experiment.space import Space, plain
from rungwise.results.io.text import say
from rungwise.trainable.import_path import reference
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
    # beside `metric`, with their modes or without: a Pareto front
    objectives: Mapping[str, Mode] | Sequence[str] = field(default_factory=dict)
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
    also: InitVar[Mapping[str, Mode] | Sequence[str] | None] = None  # the name of `objectives` in version 0.1

    def __post_init__(self, also: Mapping[str, Mode] | Sequence[str] | None) -> None:
        """NumPy's numbers become Python's, and what follows from a metric is filled in. `check` says what is wrong."""
        for each in fields(self):
            object.__setattr__(self, each.name, plain(getattr(self, each.name)))
        if cast(Mode | None, self.mode) is None:
            object.__setattr__(self, "mode", _mode(self.metric))
        if also is not None:
            say("note: `also` of a Sweep is now `objectives`; the old name goes with version 0.3", sys.stderr)
            object.__setattr__(self, "objectives", plain(also))
        names = dict.fromkeys(self.objectives) if isinstance(self.objectives, list | tuple) else self.objectives
        if isinstance(names, Mapping):
            modes = {name: _mode(name) if mode is None else mode for name, mode in names.items()}
            object.__setattr__(self, "objectives", modes)

    @property
    def all_objectives(self) -> dict[str, str]:
        """{metric: max or min}, `metric` first, by which trials are stopped."""
        return {self.metric: self.mode, **cast(Mapping[str, str], self.objectives)}

    @property
    def model_name(self) -> str:
        """The model as `Config.model` says it. Raises ModelError for a function that no worker could find."""
        return self.model if isinstance(self.model, str) else reference(self.model)


def _mode(metric: object) -> Mode | None:
    return MODES.get(metric) if isinstance(metric, str) else None
