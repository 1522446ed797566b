"""An Optuna objective and its study: real search, rungs, recorder and record, and a process without Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from ray.tune.experiment import Trial
from support.loop import Loop
from support.objectives import train

from rungwise import FloatDistribution, Sweep
from rungwise.engine.experiment.command_line import parse
from rungwise.engine.experiment.experiment import resolve
from rungwise.engine.search.reruns import Repeat, repeats
from rungwise.engine.search.warm_start import earlier_trials, points
from rungwise.engine.validation import fields
from rungwise.engine.validation.check import problems
from rungwise.results.exporters.optuna_study import studies
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.trainable.messages import StudyKey, TrialAssignment


def layered(trial: Any) -> float:
    layers = trial.suggest_int("layers", 1, 3)
    score = 0.0
    for index in range(layers):
        score += trial.suggest_float(f"width_{index}", 0.0, 1.0)
    trial.set_user_attr("score", score)
    for epoch in range(4):
        trial.report(score + epoch, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return score + 3


def sweep(objective: Any = layered, **changes: Any) -> Sweep:
    return Sweep(**{"name": "asks", "objective": objective, "mode": "max", "epochs": 4, "eta": 2.0, **changes})


def deal(loop: Loop) -> Trial:
    trial = loop.deal()
    assert isinstance(trial, Trial)
    return trial


def drawn(trials: list[optuna.trial.FrozenTrial]) -> list[Any]:
    return [(t.params, t.distributions, t.intermediate_values, t.state, t.values) for t in trials]


def test_what_a_trial_asks_for_is_in_the_record_before_it_is_told(tmp_path: Path) -> None:
    loop = Loop(tmp_path, sweep())
    trial = deal(loop)
    process = train(loop, trial, layered, tmp_path, steps=1)
    with Reader(tmp_path) as reader:  # committed
        (row,) = reader.trials()
    assert (list(row.params), list(row.distributions)) == (["layers"], ["layers"])
    assert "layers" not in row.config  # which names the owner of its checkpoints
    assert process.asked == ["layers"]
    assert loop.notes.getvalue() == ""
    with Reader(tmp_path) as reader:
        assert list(reader.reports()) == []
    process.run.close()


def test_the_study_of_a_resumed_driver_is_the_one_that_ended(tmp_path: Path) -> None:
    loop = Loop(tmp_path, sweep(), trials=8)
    while isinstance(trial := loop.deal(), Trial):
        train(loop, trial, layered, tmp_path)
    rows = loop.rows()
    assert {row.state for row in rows.values()} == {State.COMPLETED, State.STOPPED}
    assert all(len(row.params) == row.params["layers"] + 1 for row in rows.values())
    rebuilt = loop.rebuilt()
    assert drawn(loop.live()) == drawn(rebuilt)
    assert [t.user_attrs["score"] for t in rebuilt] == [
        sum(value for name, value in row.params.items() if name != "layers") for row in rows.values()
    ]
    stopped = next(row for row in rows.values() if row.state is State.STOPPED)
    assert stopped.stop_rung is not None
    assert len(rebuilt[stopped.trial - 1].intermediate_values) == stopped.stop_rung


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp", "nsga2", "nsga3"])
def test_every_sampler_that_takes_conditional_spaces_suggests(tmp_path: Path, sampler: str) -> None:
    loop = Loop(tmp_path, sweep(scheduler="none"), trials=12, sampler=sampler)
    while isinstance(trial := loop.deal(), Trial):
        train(loop, trial, layered, tmp_path)
    assert {row.state for row in loop.rows().values()} == {State.COMPLETED}
    assert len({row.params["width_0"] for row in loop.rows().values()}) > 8


def test_an_nsga2_search_is_resumed_with_its_generations(tmp_path: Path) -> None:
    def run(loop: Loop, folder: Path) -> list[dict[str, Any]]:
        while isinstance(trial := loop.deal(), Trial):
            train(loop, trial, layered, folder)
        return [row.params for row in loop.rows().values()]

    def asked(folder: Path, trials: int) -> Loop:
        factory = "nsga2"
        folder.mkdir(exist_ok=True)
        return Loop(folder, sweep(scheduler="none"), trials=trials, sampler=factory, in_flight=1)

    whole = run(asked(tmp_path / "whole", 12), tmp_path / "whole")
    first = asked(tmp_path / "half", 6)
    run(first, tmp_path / "half")
    first.record.close()
    assert run(asked(tmp_path / "half", 12), tmp_path / "half") == whole


def test_a_trial_whose_driver_died_has_the_same_values_and_asks_for_the_rest(tmp_path: Path) -> None:
    loop = Loop(tmp_path, sweep())
    first = train(loop, deal(loop), layered, tmp_path, steps=2)  # layers and a width are known
    before = loop.rows()[1].params
    assert list(before) == ["layers", "width_0"] == first.asked
    first.run.close()
    loop.crash()
    again = Loop(tmp_path, sweep())
    trial = deal(again)
    assert TrialAssignment.from_tune(trial.config).attempt == 2
    drawn_before = again.live()[0].params
    train(again, trial, layered, tmp_path)
    (row,) = again.rows().values()
    assert drawn_before == before
    assert before.items() <= row.params.items()
    assert (row.state, row.attempts, len(row.params)) == (State.COMPLETED, 2, row.params["layers"] + 1)


def test_a_trial_whose_process_died_has_the_same_values(tmp_path: Path) -> None:
    loop = Loop(tmp_path, sweep())
    trial = deal(loop)
    train(loop, trial, layered, tmp_path, steps=3).run.close()
    before = loop.rows()[1].params
    loop.recorder.on_trial_recover(0, [], trial)
    loop.recorder.on_trial_start(0, [], trial)
    train(loop, trial, layered, tmp_path)
    (row,) = loop.rows().values()
    assert before.items() <= row.params.items()
    assert (row.state, row.attempts) == (State.COMPLETED, 2)
    with Reader(tmp_path) as reader:
        steps = [(report.attempt, report.step) for report in reader.reports()]
    assert len(steps) == len(set(steps))
    assert {step for _, step in steps} == {1, 2, 3, 4}


def test_an_objective_that_never_asks_for_a_verdict_is_never_stopped(tmp_path: Path) -> None:
    """Its values stand in the rungs all the same, and a resumed driver has the same rungs."""

    def steady(trial: Any) -> float:
        value = trial.suggest_float("x", 0.0, 1.0)
        for epoch in range(4):
            trial.report(value, epoch)
        return float(value)

    loop = Loop(tmp_path, sweep(steady), trials=8)
    while isinstance(trial := loop.deal(), Trial):
        train(loop, trial, steady, tmp_path)
    assert {row.state for row in loop.rows().values()} == {State.COMPLETED}

    def scores(loop: Loop) -> list[dict[int, float]]:
        return [rung.scores for rung in loop.rungs._rules[StudyKey("all")][0].rungs]  # type: ignore[attr-defined]

    assert scores(loop)[0]
    loop.record.close()
    again = Loop(tmp_path, sweep(steady), trials=8)
    assert scores(again) == scores(loop)


def test_a_trial_that_prunes_itself_is_stopped_and_one_that_refuses_its_parameters_infeasible(tmp_path: Path) -> None:
    def picky(trial: Any) -> float:
        if trial.number == 1:
            raise optuna.TrialPruned("too wide")
        trial.report(trial.suggest_float("x", 0, 1), 0)
        raise optuna.TrialPruned

    loop = Loop(tmp_path, sweep(picky), trials=2)
    while isinstance(trial := loop.deal(), Trial):
        train(loop, trial, picky, tmp_path)
    rows = loop.rows()
    assert [row.state for row in rows.values()] == [State.FAILED, State.STOPPED]
    assert rows[1].reason == "infeasible: it raised TrialPruned too wide"
    assert [t.state.name for t in loop.live()] == ["PRUNED", "PRUNED"]
    assert drawn(loop.live()) == drawn(loop.rebuilt())


def test_arms_fix_what_they_name(tmp_path: Path) -> None:
    arms = {"shallow": {"layers": 1}, "deep": {"layers": 3}}
    loop = Loop(tmp_path, sweep(arms=arms), trials=2)
    while isinstance(trial := loop.deal(), Trial):
        train(loop, trial, layered, tmp_path)
    assert [len(row.params) for row in loop.rows().values()] == [1, 3, 1, 3]
    assert all("layers" not in row.params for row in loop.rows().values())


def test_a_question_that_the_study_cannot_answer_fails_its_trial_only(tmp_path: Path) -> None:
    def dynamic(trial: Any) -> float:
        trial.suggest_categorical("kind", ["a", "b", str(trial.number)])  # Optuna refuses other choices than before
        return 1.0

    loop = Loop(tmp_path, sweep(dynamic), trials=2)
    while isinstance(trial := loop.deal(), Trial):
        train(loop, trial, dynamic, tmp_path)
    rows = loop.rows()
    assert [row.state for row in rows.values()] == [State.COMPLETED, State.FAILED]
    assert "kind could not be suggested: ValueError: CategoricalDistribution does not support" in (rows[2].reason or "")


def test_a_users_own_sampler_that_raises_fails_the_trials_that_ask_it(tmp_path: Path) -> None:
    class Broken(optuna.samplers.RandomSampler):
        def sample_independent(self, *_: Any) -> Any:
            raise ZeroDivisionError("no draw")

    loop = Loop(tmp_path, sweep(), trials=1, sampler=lambda _: Broken())
    train(loop, deal(loop), layered, tmp_path)
    assert "layers could not be suggested: ZeroDivisionError: no draw" in (loop.rows()[1].reason or "")


def test_enqueued_points_are_tried_first_and_must_lie_in_the_range(tmp_path: Path) -> None:
    loop = Loop(tmp_path, sweep(), trials=3)
    with Reader(tmp_path) as reader:
        first_points: dict[str, list[dict[str, Any]]] = {"all": [{"layers": 2, "width_1": 0.25}, {"layers": 9}]}
        loop.search.replay([], studies(reader), {}, {}, first_points)
    while isinstance(trial := loop.deal(), Trial):
        train(loop, trial, layered, tmp_path)
    first, second, third = loop.rows().values()
    assert (first.params["layers"], first.params["width_1"]) == (2, 0.25)
    assert "--enqueue: layers must be within IntDistribution(high=3" in (second.reason or "")
    assert third.state is not State.FAILED


def test_a_repetition_is_dispatched_with_the_values_of_its_trial(tmp_path: Path) -> None:
    found: list[Repeat] = []
    loop = Loop(tmp_path, sweep(), trials=1, repeats=lambda: found)
    train(loop, deal(loop), layered, tmp_path)
    (row,) = loop.rows().values()
    experiment = replace(loop.search._experiment, confirm_configs=1, confirm_seeds=1)
    with Reader(tmp_path) as reader:
        found += repeats(experiment, [row], reader.curves())
    trial = deal(loop)
    process = train(loop, trial, layered, tmp_path)
    repeated = loop.rows()[2]
    assert (repeated.phase, repeated.state, process.asked) == ("confirm", State.COMPLETED, [])
    assert repeated.params == row.params
    assert row.params.items() <= repeated.config.items()


def test_another_runs_trials_are_learnt_from(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    loop = Loop(tmp_path / "before", sweep(), trials=4)
    while isinstance(trial := loop.deal(), Trial):
        train(loop, trial, layered, tmp_path / "before")
    rows = loop.rows()
    loop.record.close()
    experiment = resolve(sweep(arms={"free": {}, "deep": {"layers": 3}}))
    found = earlier_trials(experiment, [tmp_path / "before"])
    assert [one["params"] for one in found["free"]] == [row.params for row in rows.values()]
    deep = [row.params for row in rows.values() if row.params["layers"] == 3]
    assert [{"layers": 3, **one["params"]} for one in found["deep"]] == deep
    asked = points(experiment, ['{"layers": 2, "width_0": 0.5}'])
    assert asked == {"free": [{"layers": 2, "width_0": 0.5}], "deep": [{"width_0": 0.5}]}


# -- before Ray starts -------------------------------------------------------------------------------------------


def test_an_objective_needs_no_space_and_its_values_have_optunas_words(tmp_path: Path) -> None:
    one = sweep(mode="minimize", name="one")
    assert (one.metric, one.mode, one.space, one.data_name) == ("value", "min", {}, "")
    two = sweep(mode="maximize", objectives={"value_1": "minimize"})
    assert two.all_objectives == {"value_0": "max", "value_1": "min"}
    named = sweep(metric="f1", mode="max", objectives={"fit_seconds": "min"})
    assert named.all_objectives == {"f1": "max", "fit_seconds": "min"}
    for each in (one, two, named):
        found = problems(resolve(each), parse(each, ["--out", str(tmp_path)]))
        assert found == []


@pytest.mark.parametrize(
    ("changes", "flags", "rule"),
    [
        ({"mode": None}, [], "mode must be 'max' or 'min', because value may be either"),
        ({}, ["--sampler", "grid"], "--sampler grid needs a dict of distributions"),
        ({}, ["--sampler", "cmaes", "--scheduler", "none"], "--sampler cmaes needs a dict of distributions"),
        ({}, ["--pack", "auto"], "--pack trains the built-in network in the built-in loop"),
        ({"arms": {"a": {"layers": FloatDistribution(0, 1)}}}, [], "an arm of an objective fixes values, but arm 'a'"),
        ({"metric": "test_f1"}, [], "a search must not see test scores"),
    ],
)
def test_what_cannot_be_is_refused_before_ray_starts(
    tmp_path: Path, changes: dict[str, Any], flags: list[str], rule: str
) -> None:
    asked = sweep(**changes)
    options = parse(asked, ["--out", str(tmp_path), *flags])
    assert any(rule in line for line in problems(resolve(asked, options), options))


def test_one_training_and_no_space() -> None:
    assert fields.problems(sweep(train=layered)) == [
        "a sweep has one training, but got train and objective; leave one of them out"
    ]
    assert fields.problems(sweep(space={"x": FloatDistribution(0, 1)})) == [
        "an objective asks for its hyperparameters by trial.suggest_float and so on; leave space out"
    ]
    assert any("must be a function of a trial" in line for line in fields.problems(sweep(objective=3)))
