"""Every sampler through a real search: it suggests what it must, and the same after a driver died."""

import json
from dataclasses import replace
from math import log10
from pathlib import Path
from typing import Any

import optuna
import optunahub
import pytest
from optuna.trial import TrialState
from support.loop import Loop

from rungwise import CategoricalDistribution, FloatDistribution, IntDistribution, Sweep
from rungwise.engine.experiment.experiment import resolve
from rungwise.engine.search.earlier.trial import WarmStartError
from rungwise.engine.search.samplers import (
    SAMPLERS,
    SamplerContext,
    SearchConditions,
    build_sampler,
    grid,
    notes,
    problems,
)
from rungwise.engine.search.warm_start import earlier_trials, points
from rungwise.engine.validation.ranges import problems as space_problems
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.results.record.writer import Record
from rungwise.trainable.messages import Constraint, Failure, FailureKind, TrialEnd
from rungwise.trainable.training.builtin import BuiltInTraining

SPACE = {"lr": FloatDistribution(1e-4, 1e-1, log=True), "dropout": FloatDistribution(0.0, 0.5)}
POINTS = {"batch_size": IntDistribution(32, 96, step=32), "batch_norm": CategoricalDistribution([True, False])}
WHOLE = SearchConditions(trials=10, stops=False, objectives=1)


def sweep(**changes: Any) -> Sweep:
    return Sweep(**{"name": "demo", "space": SPACE, "epochs": 2, "scheduler": "none", **changes})


def hill(config: dict[str, Any], step: int) -> float:
    """Best at lr = 0.01 without dropout."""
    return step / 16 - abs(log10(config["lr"]) + 2) / 4 - config["dropout"] / 8


def search(loop: Loop, trials: int) -> None:
    for _ in range(trials):
        loop.train(loop.deal(), hill if "lr" in loop.sweep.space else lambda config, _: config["batch_size"] / 100)


def suggested(loop: Loop) -> list[dict[str, Any]]:
    return [row.params for row in loop.rows().values()]


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_a_search_cut_short_suggests_what_an_uninterrupted_one_would_have(tmp_path: Path, name: str) -> None:
    """One trial at a time, killed after the 9th and the 13th; cmaes is then in its third generation."""
    options = {"population_size": 4} if name.startswith("nsga") else {}
    if name in ("cmaes", "gp"):
        options = {"n_startup_trials": 4}
    how = {"space": POINTS if name == "grid" else SPACE, "sampler_options": options}
    trials = {"grid": 6, "gp": 8}.get(name, 18)
    (tmp_path / "whole").mkdir()
    whole = Loop(tmp_path / "whole", sweep(**how), trials=trials, sampler=name)
    search(whole, trials)
    cut = [3, 5] if trials < 10 else [9, 13]
    folder = tmp_path / "cut"
    folder.mkdir()
    for first, last in zip([0, *cut], [*cut, trials], strict=True):
        part = Loop(folder, sweep(**how), trials=trials, sampler=name)
        search(part, last - first)
        part.record.commit()
        part.crash()
    assert suggested(Loop(folder, sweep(**how), trials=trials, sampler=name)) == suggested(whole)
    points = len({json.dumps(params) for params in suggested(whole)})
    assert points > trials / 2 if name.startswith("nsga") else points == trials  # a child may equal its parent


@pytest.mark.parametrize("name", ["tpe", "cmaes", "nsga2"])
def test_a_sampler_that_learns_ends_nearer_the_best_than_it_began(tmp_path: Path, name: str) -> None:
    options = {"n_startup_trials": 4, "popsize": 4} if name == "cmaes" else {}
    loop = Loop(tmp_path, sweep(sampler_options=options), trials=60, sampler=name)
    search(loop, 60)
    scores = [hill(params, 2) for params in suggested(loop)]
    assert sum(scores[-15:]) / 15 > sum(scores[:15]) / 15


def test_a_grid_tries_every_point_once(tmp_path: Path) -> None:
    loop = Loop(tmp_path, sweep(space=POINTS), trials=6, sampler="grid")
    search(loop, 6)
    assert {(p["batch_size"], p["batch_norm"]) for p in suggested(loop)} == {
        (size, norm) for size in (32, 64, 96) for norm in (True, False)
    }
    assert grid({"dropout": FloatDistribution(0.0, 0.5, step=0.25)}) == {"dropout": [0.0, 0.25, 0.5]}


def test_a_sequence_fills_the_space_more_evenly_than_chance(tmp_path: Path) -> None:
    """Sobol's first points after the random one: 16 of them have at least one in each eighth of either axis."""
    loop = Loop(tmp_path, sweep(), trials=17, sampler="qmc")
    search(loop, 17)
    for name, low, high in (("dropout", 0.0, 0.5), ("lr", -4.0, -1.0)):
        values = [log10(p[name]) if name == "lr" else p[name] for p in suggested(loop)[1:]]
        assert len({int(8 * (value - low) / (high - low)) for value in values}) == 8


def test_a_sampler_of_ones_own_suggests(tmp_path: Path) -> None:
    seeds = []

    def own(seed: int) -> optuna.samplers.BaseSampler:
        seeds.append(seed)
        return optuna.samplers.PartialFixedSampler({"dropout": 0.25}, optuna.samplers.RandomSampler(seed))

    loop = Loop(tmp_path, sweep(), trials=3, sampler=own)
    search(loop, 3)
    assert [params["dropout"] for params in suggested(loop)] == [0.25] * 3
    assert len(set(seeds)) == 3
    assert problems(own, {}, SPACE, WHOLE) == []


HUB = """
import optuna
import optunahub

class Nearby(optunahub.samplers.SimpleBaseSampler):
    \"\"\"A step from the best point so far.\"\"\"

    def sample_relative(self, study, trial, search_space):
        best = max(study.get_trials(states=[optuna.trial.TrialState.COMPLETE]), key=lambda t: t.value, default=None)
        random = self._random_sampler
        drawn = {name: random.sample_independent(study, trial, name, kind) for name, kind in search_space.items()}
        return drawn if best is None else {name: (value + 3 * best.params[name]) / 4 for name, value in drawn.items()}
"""


def test_a_sampler_from_optunahub_suggests_and_resumes(tmp_path: Path) -> None:
    """A package laid out as the hub's are, read from a folder: tests download nothing."""
    package = tmp_path / "registry" / "samplers" / "nearby"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(HUB)
    module = optunahub.load_local_module("samplers/nearby", registry_root=str(tmp_path / "registry"))

    def own(seed: int) -> optuna.samplers.BaseSampler:
        sampler: optuna.samplers.BaseSampler = module.Nearby(seed=seed)
        return sampler

    assert problems(own, {}, SPACE, WHOLE) == []
    whole, part = tmp_path / "whole", tmp_path / "part"
    for folder, pieces in ((whole, [12]), (part, [5, 7])):
        folder.mkdir()
        for trials in pieces:
            loop = Loop(folder, sweep(), trials=12, sampler=own)
            search(loop, trials)
            loop.record.commit()
            loop.crash()
    found = suggested(Loop(whole, sweep(), trials=12, sampler=own))
    assert found == suggested(Loop(part, sweep(), trials=12, sampler=own))
    for index in range(1, 12):
        best = max(found[:index], key=lambda params: hill(params, 2))
        assert abs(found[index]["dropout"] - best["dropout"]) <= 0.5 / 4


@pytest.mark.parametrize(
    ("sampler", "options", "space", "situation", "says"),
    [
        ("grid", {}, SPACE, WHOLE, "grid needs a finite choice for every hyperparameter, but lr is a range"),
        ("grid", {}, lambda _: {}, WHOLE, "grid needs a dict of distributions"),
        ("grid", {}, POINTS, WHOLE, "an arm's 6 points are fewer than its 10 trials"),
        ("grid", {}, {"batch_size": IntDistribution(1, 10**6)}, WHOLE, "at most 100,000 points, but the space has"),
        ("cmaes", {}, POINTS, WHOLE, "cmaes moves in continuous spaces, but batch_norm is a choice of categories"),
        ("cmaes", {}, lambda _: {}, WHOLE, "cmaes needs a dict of distributions"),
        ("cmaes", {}, SPACE, SearchConditions(10, False, 2), "cmaes takes one objective, but got 2"),
        ("cmaes", {}, SPACE, SearchConditions(10, True, 1), "cmaes learns from trials that ran to the end only"),
        ("gp", {}, SPACE, SearchConditions(10, True, 1), "gp learns from trials that ran to the end only"),
        ("nsga2", {}, SPACE, SearchConditions(10, True, 1), "nsga2 learns from trials that ran to the end only"),
        ("tpe", {"n_startup": 3}, SPACE, WHOLE, "unknown option of --sampler tpe 'n_startup'; did you mean"),
        ("tpe", {"n_startup_trials": "ten"}, SPACE, WHOLE, "tpe refuses its options {'n_startup_trials': 'ten'}: '<'"),
        ("nsga3", {}, SPACE, SearchConditions(10, True, 1), "nsga3 learns from trials that ran to the end only"),
        ("hill", {}, SPACE, WHOLE, "unknown --sampler 'hill'. Known: cmaes, gp, grid"),
        ("nsga2", {"population_size": 1}, SPACE, WHOLE, "refuses its options {'population_size': 1}"),
        (
            optuna.samplers.RandomSampler(), {}, SPACE, WHOLE,
            "sampler must be a name or a function of a seed, but got RandomSampler; say sampler=lambda seed: Random",
        ),
        (lambda _: 3, {}, SPACE, WHOLE, "sampler must make an optuna.samplers.BaseSampler of a seed, but made 3"),
        (lambda: 3, {}, SPACE, WHOLE, "sampler must be a function of a seed, but raised TypeError"),
    ],
)  # fmt: skip
def test_what_a_sampler_cannot_do_is_said_before_the_sweep(
    sampler: Any, options: dict[str, Any], space: Any, situation: SearchConditions, says: str
) -> None:
    found = problems(sampler, options, space, situation)
    assert len(found) == 1
    assert says in found[0]


def test_cmaes_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rungwise.engine.search.samplers.find_spec", lambda _: None)
    assert problems("cmaes", {}, SPACE, WHOLE) == [
        "--sampler cmaes needs the package cmaes: pip install 'rungwise[samplers]'"
    ]


def test_a_sequence_says_that_it_draws_categories_at_random() -> None:
    assert notes("qmc", POINTS) == ["--sampler qmc spreads numbers evenly, and draws batch_norm at random"]
    assert notes("qmc", SPACE) == notes("tpe", POINTS) == []


def test_options_reach_the_sampler() -> None:
    sampler: Any = build_sampler("tpe", SamplerContext(1, 2, SPACE, {"n_startup_trials": 3, "group": True}))
    assert (sampler._n_startup_trials, sampler._group, sampler._multivariate) == (3, True, True)
    assert problems("tpe", {"n_startup_trials": 3, "group": True, "constant_liar": False}, SPACE, WHOLE) == []
    assert all(problems(name, {}, SPACE, WHOLE) == [] for name in SAMPLERS if name not in ("grid", "gp"))


def test_an_arm_may_search_a_range_and_by_a_sampler_of_its_own(tmp_path: Path) -> None:
    """As sweeps/search_methods.py does."""
    choices = {"lr": CategoricalDistribution([0.01, 0.1]), "dropout": CategoricalDistribution([0.0, 0.25])}
    asked = sweep(arms={"grid": choices, "chance": {"dropout": 0.5}}, sampler={"grid": "grid", "chance": "random"})
    loop = Loop(tmp_path, asked, trials=8, sampler=asked.sampler)
    search(loop, 8)
    rows = list(loop.rows().values())
    assert {(row.config["lr"], row.config["dropout"]) for row in rows[::2]} == {
        (lr, dropout) for lr in (0.01, 0.1) for dropout in (0.0, 0.25)
    }
    assert [row.params.keys() for row in rows[1::2]] == [{"lr"}] * 4
    assert {row.config["dropout"] for row in rows[1::2]} == {0.5}


# -- constraints -------------------------------------------------------------------------------------------------


def test_a_model_that_is_too_large_is_told_as_infeasible_by_how_much(tmp_path: Path) -> None:
    loop = Loop(tmp_path, sweep(), trials=3)
    constraint = Constraint("parameters", 200_000, 235_146)
    loop.fail(loop.deal(), Failure(FailureKind.INFEASIBLE, "in whatever words", constraint))
    assert loop.rows()[1].state is State.FAILED
    for (trial,) in (loop.live(), loop.rebuilt()):
        assert trial.state is TrialState.PRUNED
        assert trial.constraints == {"parameters": 35146.0}


def test_a_space_that_prunes_is_legal_and_says_infeasible(tmp_path: Path) -> None:
    def space(trial: optuna.Trial) -> dict[str, Any]:
        width = trial.suggest_int("width", 8, 64)
        if width > 16:
            raise optuna.TrialPruned(f"width must be at most 16, but got {width}")
        return {"hidden": (width,)}

    assert space_problems(space, {}, BuiltInTraining()) == []
    loop = Loop(tmp_path, sweep(space=space), trials=12)
    while isinstance(trial := loop.deal(), object) and trial is not None and not isinstance(trial, str):
        loop.train(trial, lambda *_: 0.5)
    refused = [row for row in loop.rows().values() if row.state is State.FAILED]
    assert refused
    assert all(row.reason and row.reason.startswith("infeasible: width must be at most 16") for row in refused)
    assert [t.state for t in loop.live()] == [t.state for t in loop.rebuilt()]
    assert {t.state for t in loop.live()} <= {TrialState.PRUNED, TrialState.COMPLETE}


# -- several objectives --------------------------------------------------------------------------------------------


def test_a_study_of_two_objectives_holds_both_values_live_and_rebuilt(tmp_path: Path) -> None:
    loop = Loop(tmp_path, sweep(objectives={"parameters": "min"}, scheduler="asha", eta=2.0), trials=3)
    for accuracy, size in ((0.5, 100.0), (0.75, 300.0), (0.25, 50.0)):
        trial = loop.deal()
        for step in (1, 2):
            more = {"state": TrialEnd.COMPLETED} if step == 2 else {}
            metrics = {"epoch": step, "val_accuracy": accuracy, "parameters": size}
            if loop.report(trial, accuracy, step, metrics=metrics, **more):
                break
    for trials in (loop.live(), loop.rebuilt()):
        assert [t.values for t in trials] == [[0.5, 100.0], [0.75, 300.0], None]
        assert [t.state for t in trials] == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED]
    directions = loop.search._studies[("all", 1)].study.directions
    assert [d.name for d in directions] == ["MAXIMIZE", "MINIMIZE"]


# -- warm start ----------------------------------------------------------------------------------------------------


def test_points_to_try_first_are_tried_first_in_every_arm_that_can(tmp_path: Path) -> None:
    asked = sweep(arms={"plain": {"dropout": 0.0}, "dropped": {}})
    first = points(resolve(asked), ['{"lr": 0.01, "dropout": 0.125}', '{"lr": 0.0625}'])
    assert first == {
        "plain": [{"lr": 0.01}, {"lr": 0.0625}],
        "dropped": [{"lr": 0.01, "dropout": 0.125}, {"lr": 0.0625}],
    }
    loop = Loop(tmp_path, asked, trials=6)
    loop.search.replay([], {arm: study.study for arm, study in loop.search._studies.items()}, {}, {}, first)
    for _ in range(6):
        loop.train(loop.deal(), hill)
    rows = list(loop.rows().values())
    assert [row.params["lr"] for row in rows[:4]] == [0.01, 0.01, 0.0625, 0.0625]
    assert rows[1].params["dropout"] == 0.125
    assert rows[4].params["lr"] not in (0.01, 0.0625)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lr=1", "--enqueue takes a JSON object (got 'lr=1'"),
        ("[1]", "--enqueue takes a JSON object such as"),
        ('{"lr": 5}', "--enqueue must be within the space, but got"),
        ('{"lr": "high"}', "--enqueue must be within the space, but got"),
        ('{"rl": 0.1}', "unknown hyperparameter of the space 'rl'; did you mean 'lr'?"),
    ],
)
def test_a_point_that_is_not_in_the_space_is_refused(text: str, says: str) -> None:
    with pytest.raises(WarmStartError) as refused:
        points(resolve(sweep()), [text])
    assert says in str(refused.value)


def old_run(folder: Path, **changes: Any) -> Path:
    """Six trials of the demo sweep, the last one stopped; a definition as a sweep's."""
    folder.mkdir()
    loop = Loop(folder, sweep(scheduler="asha", eta=2.0, **changes), trials=6)
    loop.record.set_meta(
        "definition",
        {"metric": "val_accuracy", "mode": "max", "arms": {"all": {}}, "epochs": 2, "reports_per_epoch": 1,
         "data": {"name": "digits", "digest": "d"}},
    )  # fmt: skip
    for index in range(6):
        loop.train(loop.deal(), lambda _, step, index=index: -1.0 if index == 5 else step / 10 + index / 100)
    loop.record.close()
    return folder


def test_earlier_trials_are_known_to_the_sampler_in_a_space_that_overlaps(tmp_path: Path) -> None:
    run = old_run(tmp_path / "old")
    narrower = sweep(space={"lr": FloatDistribution(1e-3, 1e-1, log=True), "dropout": FloatDistribution(0.0, 0.5)})
    with Reader(run) as reader:
        rows = reader.trials()
    inside = [row for row in rows if row.params["lr"] >= 1e-3]
    assert 0 < len(inside) < 6
    found = earlier_trials(resolve(narrower), [run], "d")["all"]
    assert [one["params"] for one in found] == [row.params for row in inside]
    assert {one["state"] for one in found} <= {"COMPLETE", "PRUNED"}
    longer = earlier_trials(resolve(replace(narrower, epochs=4)), [run], "d")["all"]
    assert {one["state"] for one in longer} == {"PRUNED"}  # none of them ran for four epochs

    new = tmp_path / "new"
    new.mkdir()
    with Record(new) as record:
        record.set_meta("earlier", {"all": found})
    loop = Loop(new, narrower, trials=4)
    assert len(loop.live()) == len(found)
    search(loop, 2)
    loop.record.commit()
    loop.crash()
    again = Loop(new, narrower, trials=4)
    assert len(again.live()) == len(found) + 2
    search(again, 2)
    assert len(again.rows()) == 4


def test_runs_that_are_of_no_use_are_refused(tmp_path: Path) -> None:
    run = old_run(tmp_path / "old")
    elsewhere = {"lr": FloatDistribution(0.5, 1.0), "dropout": FloatDistribution(0.0, 0.5)}
    for changes, digest, says in [
        ({"metric": "val_loss", "mode": "min"}, "d", "--warm-start needs runs of the same objective"),
        ({"reports_per_epoch": 2}, "d", "as many reports an epoch"),
        ({}, "other", "--warm-start needs runs on the same data"),
        ({"fixed": {"hidden": (7,)}}, "d", "none of the 6 trials of .* fits .* hidden is .* there and"),
        ({"space": elsewhere}, "d", "none of the 6 trials of .* fits .* lr lies outside 0.5 to 1"),
    ]:
        with pytest.raises(WarmStartError, match=says):
            earlier_trials(resolve(sweep(**changes)), [run], digest)
    with pytest.raises(WarmStartError, match="--warm-start takes the folder of a run, but"):
        earlier_trials(resolve(sweep()), [tmp_path / "none"])


@pytest.mark.parametrize("sampler", ["grid", "qmc"])
def test_a_seed_of_any_size_that_a_flag_takes_begins_a_grid_or_a_sequence(tmp_path: Path, sampler: str) -> None:
    found = []
    for index, seed in enumerate((2**32 - 1, 2**32, 2**32, 2**63 - 1)):
        (tmp_path / str(index)).mkdir()
        loop = Loop(tmp_path / str(index), sweep(space=POINTS), trials=6, sampler=sampler, seed=seed)
        assert problems(sampler, {}, POINTS, SearchConditions(trials=6, stops=False, objectives=1, seed=seed)) == []
        search(loop, 6)
        found.append(suggested(loop))
    assert found[1] == found[2]
    assert found[1] != found[0] != found[3]
