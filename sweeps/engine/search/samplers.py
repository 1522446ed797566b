"""The Optuna samplers by name, and what each cannot do. To add one: one function here, and one entry of `SAMPLERS`.

Every suggestion has a sampler of its own, seeded by the trial's number, so that a resumed search suggests what an
uninterrupted one would have. What a sampler passes from trial to trial lies in the study's attributes, which the
record holds too (`results.exporters.optuna_study`).
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rungwise.engine.experiment.space import Space, distributions
from rungwise.engine.search import compat
from rungwise.engine.search.seeds import derived_seed
from rungwise.errors import RungwiseError
from rungwise.text import unknown
from rungwise.trainable.faults import ordinary, reason

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

STARTUP_TRIALS = 10  # random suggestions before TPE models anything, Optuna's own default
LARGEST_GRID = 100_000  # points: GridSampler holds them all

SamplerFactory = Callable[[int], "BaseSampler"]  # the user's own: a seed -> any Optuna sampler


class SamplerError(RungwiseError, RuntimeError):
    """A sampler that suggests nothing: no trial is to blame, and the sweep ends."""


@dataclass(frozen=True)
class SamplerContext:
    """The suggestion for which a sampler is built."""

    seed: int  # of this suggestion
    study_seed: int  # one for all suggestions of the search, any whole number
    space: Space  # of the arm
    options: Mapping[str, Any] = field(default_factory=dict)  # the user's, for the sampler's constructor

    @property
    def numpy_seed(self) -> int:
        """The search's seed as NumPy takes it: below 2**32."""
        return self.study_seed if self.study_seed < 2**32 else derived_seed("sweep", self.study_seed)


@dataclass(frozen=True)
class SearchConditions:
    """One search of one arm, as far as it is determined before the sweep starts."""

    trials: int  # of one search
    stops: bool  # whether trials are stopped early
    objectives: int
    seed: int = 0  # of the sweep


@dataclass(frozen=True)
class SamplerSpec:
    """One sampler: its class (by name, in `optuna.samplers`), the arguments of its constructor, and its limits."""

    of: str | Callable[[], type[BaseSampler]]
    arguments: Callable[[SamplerContext], dict[str, Any]]  # of its constructor
    limits: Callable[[Space, SearchConditions], list[str]] = lambda _space, _conditions: []  # violated ones

    def cls(self) -> type[BaseSampler]:
        import optuna

        return self.of() if callable(self.of) else getattr(optuna.samplers, self.of)

    def build(self, context: SamplerContext) -> BaseSampler:
        return self.cls()(**{**self.arguments(context), **context.options})


def _grid_class() -> type[BaseSampler]:
    """Optuna's GridSampler, which would stop a study at the end of its grid: that fails under ask and tell, and the
    number of trials is checked beforehand."""
    from optuna.samplers import GridSampler

    class GridWithoutStop(GridSampler):
        def after_trial(self, *_: Any) -> None:
            return

    return GridWithoutStop


def _tpe_class() -> type[BaseSampler]:
    from optuna.samplers import TPESampler

    return compat.fast_tpe_class() or TPESampler


def grid(space: Space) -> dict[str, list[Any]]:
    """{hyperparameter: its values}. Raises ValueError for a range that has no grid."""
    if callable(space):
        raise ValueError("--sampler grid needs a dict of distributions, but the space is a function")
    return {name: _values(name, distribution) for name, distribution in distributions(space).items()}


def _values(name: str, distribution: BaseDistribution) -> list[Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match distribution:
        case CategoricalDistribution():
            return list(distribution.choices)
        case IntDistribution():
            return list(range(distribution.low, distribution.high + 1, distribution.step))
        case FloatDistribution() if distribution.step is not None:
            count = round((distribution.high - distribution.low) / distribution.step) + 1
            return [distribution.low + index * distribution.step for index in range(count)]
    raise ValueError(
        f"--sampler grid needs a finite choice for every hyperparameter, but {name} is a range without steps: "
        f"give it CategoricalDistribution([...]) or a step"
    )


def _grid_limits(space: Space, conditions: SearchConditions) -> list[str]:
    try:
        axes = grid(space)
    except ValueError as error:
        return [str(error)]
    points = 1
    for values in axes.values():
        points *= len(values)
    if points > LARGEST_GRID:
        return [f"--sampler grid takes at most {LARGEST_GRID:,} points, but the space has {points:,}"]
    if conditions.trials > points:
        return [
            f"--sampler grid tries every point once, but an arm's {points} points are fewer than its "
            f"{conditions.trials} trials; ask for fewer --trials"
        ]
    return []


def _cmaes_limits(space: Space, conditions: SearchConditions) -> list[str]:
    problems = []
    if find_spec("cmaes") is None:
        problems.append("--sampler cmaes needs the package cmaes: pip install 'rungwise[samplers]'")
    if callable(space):
        problems.append("--sampler cmaes needs a dict of distributions, but the space is a function")
    else:
        from optuna.distributions import CategoricalDistribution

        problems += [
            f"--sampler cmaes moves in continuous spaces, but {name} is a choice of categories; fix it, make it an "
            "arm, or use tpe"
            for name, distribution in distributions(space).items()
            if isinstance(distribution, CategoricalDistribution)
        ]
    return problems + _one_objective("cmaes", conditions) + _needs_full_trials("cmaes", conditions)


def _needs_full_trials(name: str, conditions: SearchConditions) -> list[str]:
    if not conditions.stops:
        return []
    return [
        f"--sampler {name} learns from trials that ran to the end only, but most would be stopped early; "
        "say --scheduler none, or use tpe"
    ]


def _one_objective(name: str, conditions: SearchConditions) -> list[str]:
    return (
        [f"--sampler {name} takes one objective, but got {conditions.objectives}"] if conditions.objectives > 1 else []
    )


def _only_full_trials(name: str) -> Callable[[Space, SearchConditions], list[str]]:
    return lambda _space, conditions: _needs_full_trials(name, conditions)


def restore_cmaes_state(study: Study, sampler: BaseSampler, space: Space) -> Study:
    """The study with CMA-ES's state attached to its last COMPLETE trial again, as of the last generation there.

    The state follows from the trials: generation by generation, the sampler is told the first ones of each that
    completed. (Optuna keeps it as a pickle, which no record of ours holds.)
    """
    import optuna

    assert not callable(space)  # refused beforehand
    trials = study.trials
    complete = [trial for trial in trials if trial.state is optuna.trial.TrialState.COMPLETE]
    generations = max((trial.system_attrs.get("cma:generation", 0) for trial in trials), default=0)
    for _ in range(generations if complete else 0):
        scratch = optuna.create_study(direction=study.direction, sampler=sampler)
        scratch.add_trials([trial for trial in trials if trial.state.is_finished()])
        trial = scratch.ask(distributions(space))
        attributes = compat.trial_attributes(scratch, trial)
        state = {name: text for name, text in attributes.items() if name.startswith("cma:optimizer")}
        complete[-1].system_attrs = {**complete[-1].system_attrs, **state}
    restored = optuna.create_study(study_name=study.study_name, direction=study.direction)
    restored.add_trials(trials)
    return restored


SAMPLERS: dict[str, SamplerSpec] = {
    # multivariate and constant_liar are Optuna 5's defaults, said here because resume and concurrency rest on them.
    "tpe": SamplerSpec(
        _tpe_class,
        lambda context: {
            "seed": context.seed, "n_startup_trials": STARTUP_TRIALS, "multivariate": True, "constant_liar": True,
        },
    ),
    "random": SamplerSpec("RandomSampler", lambda context: {"seed": context.seed}),
    # The order of the grid, and the scrambling of the sequence, are the search's: one for all its suggestions.
    "grid": SamplerSpec(
        _grid_class, lambda context: {"search_space": grid(context.space), "seed": context.numpy_seed}, _grid_limits
    ),
    "qmc": SamplerSpec(
        "QMCSampler", lambda context: {"seed": context.numpy_seed, "scramble": True, "warn_independent_sampling": False}
    ),
    "cmaes": SamplerSpec(
        "CmaEsSampler", lambda context: {"seed": context.seed, "warn_independent_sampling": False}, _cmaes_limits
    ),
    "gp": SamplerSpec("GPSampler", lambda context: {"seed": context.seed}, _only_full_trials("gp")),
    "nsga2": SamplerSpec("NSGAIISampler", lambda context: {"seed": context.seed}, _only_full_trials("nsga2")),
    "nsga3": SamplerSpec("NSGAIIISampler", lambda context: {"seed": context.seed}, _only_full_trials("nsga3")),
}  # fmt: skip


def build_sampler(sampler: str | SamplerFactory, context: SamplerContext) -> BaseSampler:
    """One of `SAMPLERS` by name, or what the user's own function returns for the suggestion's seed."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of samplers that are new in Optuna
        return sampler(context.seed) if callable(sampler) else SAMPLERS[sampler].build(context)


def problems(sampler: Any, options: Mapping[str, Any], space: Space, conditions: SearchConditions) -> list[str]:
    """Why the sampler (whatever object a script names) cannot search this arm, one line each; [] = it can."""
    if callable(sampler):
        more = "--sampler-options are for samplers of a name, but this one is made by a function: give it them there"
        return _own_problems(sampler) + ([more] if options else [])
    if not isinstance(sampler, str):
        name = type(sampler).__name__
        return [f"sampler must be a name or a function of a seed, but got {name}; say sampler=lambda seed: {name}(...)"]
    if sampler not in SAMPLERS:
        return [unknown("--sampler", sampler, list(SAMPLERS))]
    spec = SAMPLERS[sampler]
    names = [name for name in inspect.signature(spec.cls().__init__).parameters if name != "self"]
    lines = [unknown(f"option of --sampler {sampler}", name, names) for name in options if name not in names]
    lines += spec.limits(space, conditions)
    if not lines:
        try:
            _suggest_once(build_sampler(sampler, SamplerContext(0, conditions.seed, space, options)), space)
        except Exception as error:  # whatever Optuna makes of them: AttributeError, AssertionError, ...
            lines = [f"--sampler {sampler} refuses its options {dict(options)}: {error}"]
    return lines


def _suggest_once(sampler: BaseSampler, space: Space) -> None:
    """Optuna checks some options only at the first suggestion. Raises what the sampler does."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # not a line for the study
    study = optuna.create_study(sampler=sampler)
    with warnings.catch_warnings(), contextlib.suppress(optuna.TrialPruned):
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if callable(space):
            space(study.ask())
        else:
            study.ask(distributions(space))


def notes(sampler: str | SamplerFactory, space: Space) -> list[str]:
    """Sampler behaviour that a user may not expect: a line each."""
    if sampler != "qmc" or callable(space):
        return []
    from optuna.distributions import CategoricalDistribution

    categorical = [name for name, kind in distributions(space).items() if isinstance(kind, CategoricalDistribution)]
    return (
        [f"--sampler qmc spreads numbers evenly, and draws {', '.join(categorical)} at random"] if categorical else []
    )


def _own_problems(sampler: SamplerFactory) -> list[str]:
    from optuna.samplers import BaseSampler

    try:
        with ordinary():
            built: Any = build_sampler(sampler, SamplerContext(0, 0, {}))
    except Exception as error:
        return [f"sampler must be a function of a seed, but raised {reason(error)}"]
    if not isinstance(built, BaseSampler):
        return [f"sampler must make an optuna.samplers.BaseSampler of a seed, but made {built!r}"]
    return []
