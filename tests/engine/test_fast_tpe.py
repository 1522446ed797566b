"""Our TPE against Optuna's: the same suggestions, whatever became of the trials before."""

from __future__ import annotations

import random
import warnings
from typing import Any

import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from rungwise.engine.search.fast_tpe import FastTPESampler


def suggestions(kind: type[TPESampler], options: dict[str, Any], *, modes: tuple[str, ...] = ("max",)) -> list[Any]:
    """What a study of 120 trials, up to five of them in flight, is told to try."""
    study = optuna.create_study(directions=[f"{mode}imize" for mode in modes])
    chance, in_flight, made = random.Random(0), [], []
    before: Any = None
    for number in range(120):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.sampler = sampler = kind(seed=number, **options)
        if isinstance(sampler, FastTPESampler) and before is not None:
            sampler.take_over(before)
        before = sampler
        trial = study.ask()
        params: dict[str, Any] = {"lr": trial.suggest_float("lr", 1e-4, 0.1, log=True)}
        params["depth"] = trial.suggest_int("depth", 1, 4)
        params["optimizer"] = trial.suggest_categorical("optimizer", ["sgd", "adam", "adamw"])
        if params["depth"] > 2:
            params["width"] = trial.suggest_int("width", 8, 64, step=8)
        made.append(params)
        in_flight.append((trial, params))
        while len(in_flight) > 4:
            end(study, *in_flight.pop(chance.randrange(len(in_flight))), chance)
    return made


def end(study: optuna.Study, trial: optuna.Trial, params: dict[str, Any], chance: random.Random) -> None:
    score = -abs(params["lr"] - 0.01) - params["depth"] + chance.gauss(0, 0.5)
    several = len(study.directions) > 1
    match chance.choice(["complete", "complete", "pruned", "pruned", "pruned at once", "failed"]):
        case "complete":
            study.tell(trial, [score, params["depth"]] if several else score)
        case "pruned":
            for step in range(1, chance.randrange(2, 5)):
                if not several:
                    trial.report(round(score, 1), step)  # rounded: ties
            study.tell(trial, state=TrialState.PRUNED)
        case "pruned at once":
            study.tell(trial, state=TrialState.PRUNED)
        case "failed":
            study.tell(trial, state=TrialState.FAIL)


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize(
    "options", [{}, {"constant_liar": False}, {"multivariate": False}, {"n_startup_trials": 3}, {"group": True}]
)
def test_suggests_what_optunas_own_suggests(options: dict[str, Any], mode: str) -> None:
    assert suggestions(FastTPESampler, options, modes=(mode,)) == suggestions(TPESampler, options, modes=(mode,))


def test_leaves_several_objectives_to_optuna() -> None:
    both = [suggestions(kind, {"constant_liar": True}, modes=("max", "min")) for kind in (FastTPESampler, TPESampler)]
    assert both[0] == both[1]


def test_leaves_broken_constraints_to_optuna() -> None:
    def infeasible(kind: type[TPESampler]) -> list[float]:
        study, made = optuna.create_study(), []
        for number in range(40):
            study.sampler = kind(seed=number)
            trial = study.ask()
            made.append(trial.suggest_float("x", 0, 1))
            trial.set_constraint("size", made[-1] - 0.5)
            study.tell(trial, abs(made[-1] - 0.7))
        return made

    assert infeasible(FastTPESampler) == infeasible(TPESampler)


def test_reads_a_trial_that_has_ended_once() -> None:
    study, read = optuna.create_study(), []

    class Counted(optuna.distributions.FloatDistribution):
        def to_internal_repr(self, value: float) -> float:
            read.append(value)
            return super().to_internal_repr(value)

    before: FastTPESampler | None = None
    for number in range(60):
        study.sampler = sampler = FastTPESampler(seed=number)
        if before is not None:
            sampler.take_over(before)
        before = sampler
        trial = study.ask({"x": Counted(0, 1)})
        study.tell(trial, trial.params["x"])
    counts = {value: read.count(value) for value in read}
    assert max(counts.values()) <= 4  # by the storage when it is suggested and told, and by us once
