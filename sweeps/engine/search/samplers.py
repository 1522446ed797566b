"""Which Optuna sampler suggests, and what it cannot do. Adding one is one function here, and one entry of `SAMPLERS`.

Every suggestion has a sampler of its own, seeded by the trial's number, so that a resumed search suggests what an
uninterrupted one would have. What a sampler keeps from trial to trial lies in the study's attributes, which the record
holds too (`results.exporters.optuna_study`).
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
from rungwise.engine.search.seeds import derived_seed
from rungwise.errors import RungwiseError
from rungwise.trainable.config import unknown
from rungwise.trainable.faults import ordinary, reason

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

STARTUP_TRIALS = 10  # random suggestions before TPE models anything, Optuna's own default
LARGEST_GRID = 100_000  # points: GridSampler holds them all

Make = Callable[[int], "BaseSampler"]  # the user's own: a seed -> any Optuna sampler


class SamplerError(RungwiseError, RuntimeError):
    """A sampler that suggests nothing: no trial is to blame, and the sweep ends."""


@dataclass(frozen=True)
class Ask:
    """What a sampler is made for: one suggestion."""

    seed: int  # of this suggestion
    sweep_seed: int  # of the sweep, any whole number
    space: Space  # of the arm
    options: Mapping[str, Any] = field(default_factory=dict)  # the user's, for the sampler's constructor

    @property
    def numpys_seed(self) -> int:
        """The sweep's seed as NumPy takes it: below 2**32."""
        return self.sweep_seed if self.sweep_seed < 2**32 else derived_seed("sweep", self.sweep_seed)


@dataclass(frozen=True)
class Situation:
    """What a sampler will find, as far as it is known before the sweep starts."""

    trials: int  # of the arm
    stops: bool  # whether trials are stopped early
    objectives: int
    seed: int = 0  # of the sweep


@dataclass(frozen=True)
class Kind:
    """One sampler: its class (by name, in `optuna.samplers`), how it is made, and what it cannot do."""

    of: str | Callable[[], type[BaseSampler]]
    arguments: Callable[[Ask], dict[str, Any]]  # of its constructor
    cannot: Callable[[Space, Situation], list[str]] = lambda _space, _found: []

    def cls(self) -> type[BaseSampler]:
        import optuna

        return self.of() if callable(self.of) else getattr(optuna.samplers, self.of)

    def make(self, ask: Ask) -> BaseSampler:
        return self.cls()(**{**self.arguments(ask), **ask.options})


def _grid_class() -> type[BaseSampler]:
    """Optuna's GridSampler without its stop: it knows no ask and tell, and our trials are counted beforehand."""
    from optuna.samplers import GridSampler

    class GridWithoutStop(GridSampler):
        def after_trial(self, *_: Any) -> None:
            return

    return GridWithoutStop


def _tpe_class() -> type[BaseSampler]:
    from rungwise.engine.search.fast_tpe import Tpe

    return Tpe


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


def _grid_cannot(space: Space, found: Situation) -> list[str]:
    try:
        axes = grid(space)
    except ValueError as error:
        return [str(error)]
    points = 1
    for values in axes.values():
        points *= len(values)
    if points > LARGEST_GRID:
        return [f"--sampler grid takes at most {LARGEST_GRID:,} points, but the space has {points:,}"]
    if found.trials > points:
        return [
            f"--sampler grid tries every point once, but an arm's {points} points are fewer than its {found.trials} "
            "trials; ask for fewer --trials"
        ]
    return []


def _cmaes_cannot(space: Space, found: Situation) -> list[str]:
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
    return problems + _one_objective("cmaes", found) + _whole_trials("cmaes", found)


def _whole_trials(name: str, found: Situation) -> list[str]:
    if not found.stops:
        return []
    return [
        f"--sampler {name} learns from trials that ran to the end only, but most would be stopped early; "
        "say --scheduler none, or use tpe"
    ]


def _one_objective(name: str, found: Situation) -> list[str]:
    return [f"--sampler {name} takes one objective, but got {found.objectives}"] if found.objectives > 1 else []


def _needs_whole_trials(name: str) -> Callable[[Space, Situation], list[str]]:
    return lambda _space, found: _whole_trials(name, found)


def caught_up(study: Study, sampler: BaseSampler, space: Space) -> Study:
    """The study with CMA-ES's state in its last COMPLETE trial again, as far as the trials there have seen it.

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
        asked = scratch.ask(distributions(space))
        kept = scratch._storage.get_trial_system_attrs(asked._trial_id)
        state = {name: text for name, text in kept.items() if name.startswith("cma:optimizer")}
        complete[-1].system_attrs = {**complete[-1].system_attrs, **state}
    again = optuna.create_study(study_name=study.study_name, direction=study.direction)
    again.add_trials(trials)
    return again


SAMPLERS: dict[str, Kind] = {
    # multivariate and constant_liar are Optuna 5's defaults, said here because resume and concurrency rest on them.
    "tpe": Kind(
        _tpe_class,
        lambda ask: {
            "seed": ask.seed, "n_startup_trials": STARTUP_TRIALS, "multivariate": True, "constant_liar": True,
        },
    ),
    "random": Kind("RandomSampler", lambda ask: {"seed": ask.seed}),
    # The order of the grid, and the scrambling of the sequence, are the sweep's: one for all suggestions.
    "grid": Kind(_grid_class, lambda ask: {"search_space": grid(ask.space), "seed": ask.numpys_seed}, _grid_cannot),
    "qmc": Kind(
        "QMCSampler", lambda ask: {"seed": ask.numpys_seed, "scramble": True, "warn_independent_sampling": False}
    ),
    "cmaes": Kind("CmaEsSampler", lambda ask: {"seed": ask.seed, "warn_independent_sampling": False}, _cmaes_cannot),
    "gp": Kind("GPSampler", lambda ask: {"seed": ask.seed}, _needs_whole_trials("gp")),
    "nsga2": Kind("NSGAIISampler", lambda ask: {"seed": ask.seed}, _needs_whole_trials("nsga2")),
    "nsga3": Kind("NSGAIIISampler", lambda ask: {"seed": ask.seed}, _needs_whole_trials("nsga3")),
}  # fmt: skip


def made(sampler: str | Make, ask: Ask) -> BaseSampler:
    """The sampler that suggests for `ask`: one of `SAMPLERS`, or what the user's own function makes of a seed."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of samplers that are new in Optuna
        return sampler(ask.seed) if callable(sampler) else SAMPLERS[sampler].make(ask)


def problems(sampler: Any, options: Mapping[str, Any], space: Space, found: Situation) -> list[str]:
    """What the sampler (whatever a script says it is) cannot do with this arm, one line each; [] = fine."""
    if callable(sampler):
        more = "--sampler-options are for samplers of a name, but this one is made by a function: give it them there"
        return _own_problems(sampler) + ([more] if options else [])
    if not isinstance(sampler, str):
        made_of = type(sampler).__name__
        way = f"say sampler=lambda seed: {made_of}(...)"
        return [f"sampler must be a name or a function of a seed, but got {made_of}; {way}"]
    if sampler not in SAMPLERS:
        return [unknown("--sampler", sampler, list(SAMPLERS))]
    kind = SAMPLERS[sampler]
    known = [name for name in inspect.signature(kind.cls().__init__).parameters if name != "self"]
    wrong = [unknown(f"option of --sampler {sampler}", name, known) for name in options if name not in known]
    wrong += kind.cannot(space, found)
    if not wrong:
        try:
            _first_point(made(sampler, Ask(0, found.seed, space, options)), space)
        except Exception as error:  # whatever Optuna makes of them: AttributeError, AssertionError, ...
            wrong = [f"--sampler {sampler} refuses its options {dict(options)}: {error}"]
    return wrong


def _first_point(sampler: BaseSampler, space: Space) -> None:
    """Suggest once: Optuna looks at some options only then. Raises what the sampler does."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # not a line for the study
    study = optuna.create_study(sampler=sampler)
    with warnings.catch_warnings(), contextlib.suppress(optuna.TrialPruned):
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if callable(space):
            space(study.ask())
        else:
            study.ask(distributions(space))


def notes(sampler: str | Make, space: Space) -> list[str]:
    """What a user should know of a sampler that can do what is asked, but not as he may think."""
    if sampler != "qmc" or callable(space):
        return []
    from optuna.distributions import CategoricalDistribution

    found = [name for name, kind in distributions(space).items() if isinstance(kind, CategoricalDistribution)]
    return [f"--sampler qmc spreads numbers evenly, and draws {', '.join(found)} at random"] if found else []


def _own_problems(sampler: Make) -> list[str]:
    from optuna.samplers import BaseSampler

    try:
        with ordinary():
            got: Any = made(sampler, Ask(0, 0, {}))
    except Exception as error:
        return [f"sampler must be a function of a seed, but raised {reason(error)}"]
    if not isinstance(got, BaseSampler):
        return [f"sampler must make an optuna.samplers.BaseSampler of a seed, but made {got!r}"]
    return []
