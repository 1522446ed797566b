"""An Optuna objective as a trial: what its `trial` answers, and what reaches the driver. No Ray here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from support.objectives import Process, ends

from rungwise.trainable.messages import FailureKind, SuggestionAnswer, TrialEnd

optuna.logging.set_verbosity(optuna.logging.WARNING)


def nested(levels: int) -> list[Any]:
    return [nested(levels - 1)] if levels else []


def layered(trial: Any) -> float:
    """Conditional: as many widths as layers."""
    layers = trial.suggest_int("layers", 1, 3)
    lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    widths = [trial.suggest_categorical(f"width_{index}", [16, 32, "all"]) for index in range(layers)]
    for epoch in range(3):
        trial.report(lr * layers + epoch, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return lr * layers + 2 + widths.count("all")


VALUES = {"layers": 2, "lr": 0.01, "width_0": 32, "width_1": "all"}


def test_what_is_asked_is_what_optuna_would_note(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def objective(trial: Any) -> float:
        for _ in range(2):  # the second time nothing is asked
            trial.suggest_float("real", 0.0, 1.0)
            trial.suggest_float("grid", 0.0, 1.0, step=0.25)
            trial.suggest_float("log", 1e-3, 1.0, log=True)
            trial.suggest_int("whole", 1, 9)
            trial.suggest_int("even", 2, 10, step=2)
            trial.suggest_int("power", 1, 1024, log=True)
            trial.suggest_categorical("kind", ["a", 1, True, None])
            trial.suggest_uniform("old", 0, 1)
            trial.suggest_loguniform("old log", 1e-3, 1)
            trial.suggest_discrete_uniform("old grid", 0, 1, 0.5)
        seen.append({name: vars(kind) for name, kind in trial.distributions.items()})
        return 0.5

    values = {"real": 0.5, "grid": 0.75, "log": 0.1, "whole": 3, "even": 4, "power": 64, "kind": None, "old": 0.25,
              "old log": 0.01, "old grid": 0.5}  # fmt: skip
    process = Process(objective, tmp_path)
    results = list(process.results(values))
    asked = {r.asks.name: optuna.distributions.json_to_distribution(r.asks.distribution) for r in results if r.asks}
    study = optuna.create_study()
    study.enqueue_trial(values)
    trial = study.ask()
    with pytest.warns(FutureWarning):  # Optuna's, of the old names
        objective(trial)
    assert asked == trial.distributions
    assert process.asked == list(trial.params)
    assert trial.params == values
    assert seen[0]["even"] == {"low": 2, "high": 10, "log": False, "step": 2}
    assert seen[0]["kind"] == {"choices": ["a", 1, True, None]}


def test_the_objective_is_given_what_optuna_gives_it_and_returns_the_same(tmp_path: Path) -> None:
    """`study.optimize` and our process, with one sampler's draws: parameters, reports and value are the same."""
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=3))
    study.optimize(layered, n_trials=5)
    for index, theirs in enumerate(study.trials):
        process = Process(layered, tmp_path / str(index))
        (tmp_path / str(index)).mkdir()
        results = list(process.results(theirs.params))
        assert process.asked == list(theirs.params)
        reports = {r.step - 1: r.objective for r in results if r.step and r.step <= 3}
        assert reports == theirs.intermediate_values
        assert results[-1].state is TrialEnd.COMPLETED
        assert results[-1].objective == theirs.value


def test_a_question_is_no_report_and_is_repeated_until_it_is_answered(tmp_path: Path) -> None:
    process = Process(layered, tmp_path)
    first, again = process.step(), process.step()
    assert first == again
    assert (first.step, first.objective, first.metrics, first.state) == (0, None, {}, None)
    assert first.asks is not None
    assert (first.asks.name, json.loads(first.asks.distribution)["name"]) == ("layers", "IntDistribution")
    process.remote(SuggestionAnswer(1, "lr", 0.1))  # to another question
    process.remote(SuggestionAnswer(2, "layers", 3))  # to another trial
    assert process.step() == first
    process.remote(SuggestionAnswer(1, "layers", 1))
    assert process.step().asks != first.asks
    process.run.close()


# -- reports ---------------------------------------------------------------------------------------------------


def rows(results: list[Any]) -> list[tuple[int, float, float, bool, bool]]:
    """(step, epoch, value, whether a rung judges it, whether it is said again)"""
    return [(r.step, r.metrics["epoch"], r.objective, r.is_judged, r.remembered) for r in results if r.step]


def test_only_a_report_whose_verdict_is_asked_for_is_judged(tmp_path: Path) -> None:
    def objective(trial: Any) -> float:
        for epoch, value in enumerate([0.1, 0.2, 0.3], start=1):
            trial.report(value, epoch)
            if epoch == 2:
                assert trial.should_prune() is False
        return 0.3

    results = list(Process(objective, tmp_path).results())
    assert rows(results) == [(1, 1, 0.1, False, False), (2, 2, 0.2, True, False), (3, 3, 0.3, True, False)]
    assert [r.state for r in results] == [None, None, TrialEnd.COMPLETED]


def test_a_returned_value_that_was_not_reported_is_the_last_report(tmp_path: Path) -> None:
    def best_of(trial: Any) -> float:
        for step, value in ((0, 0.5), (10, 0.4)):
            trial.report(value, step)
        return 0.5

    results = list(Process(best_of, tmp_path).results())
    assert rows(results) == [(1, 1, 0.5, False, False), (2, 11, 0.4, False, False), (3, 11, 0.5, True, False)]
    assert results[-1].state is TrialEnd.COMPLETED


def test_a_returned_value_that_was_judged_is_no_second_report(tmp_path: Path) -> None:
    def objective(trial: Any) -> float:
        trial.report(0.5, 1)
        trial.should_prune()
        return 0.5

    results = list(Process(objective, tmp_path).results())
    assert rows(results) == [(1, 1, 0.5, True, False), (1, 1, 0.5, True, True)]
    assert [r.state for r in results] == [None, TrialEnd.COMPLETED]


def test_an_objective_without_reports_returns_its_one_report(tmp_path: Path) -> None:
    (result,) = Process(lambda _: 0.25, tmp_path).results()
    assert (result.step, result.objective, result.state) == (1, 0.25, TrialEnd.COMPLETED)
    (several,) = Process(lambda _: (0.25, 3), tmp_path, objectives=("error", "fit_seconds")).results()
    assert {"error": 0.25, "fit_seconds": 3.0}.items() <= several.metrics.items()


def test_more_reports_than_epochs_are_all_sent(tmp_path: Path) -> None:
    def objective(trial: Any) -> float:
        for epoch in range(9):  # of 4
            trial.report(epoch / 10, epoch)
            trial.should_prune()
        return 0.8

    assert [r.step for r in Process(objective, tmp_path).results()] == [*range(1, 10), 9]


def test_a_step_is_reported_once_as_in_optuna(tmp_path: Path) -> None:
    def objective(trial: Any) -> float:
        trial.report(0.1, 1)
        with pytest.warns(UserWarning, match="step 1 has one already"):
            trial.report(0.9, 1)
        for wrong, kind in (((None, 2), TypeError), ((0.1, "x"), TypeError), ((0.1, -1), ValueError)):
            with pytest.raises(kind):
                trial.report(*wrong)
        return 0.1

    assert rows(list(Process(objective, tmp_path).results())) == [(1, 1, 0.1, True, False)]


def test_a_stopped_trial_is_told_so_by_should_prune_and_may_clean_up(tmp_path: Path) -> None:
    said: list[object] = []

    def objective(trial: Any) -> float:
        trial.report(0.1, 1)
        said.append(trial.should_prune())
        said.append(trial.should_prune())
        try:
            trial.report(0.2, 2)
        finally:
            said.append("cleaned up")
        return 0.1

    process = Process(objective, tmp_path)
    assert process.step().step == 1
    process.run.close()  # what Tune does after the scheduler said stop
    assert said == [True, True, "cleaned up"]


@pytest.mark.parametrize("phase", ["search", "confirm"])
def test_an_objective_may_prune_itself(tmp_path: Path, phase: str) -> None:
    def late(trial: Any) -> float:
        trial.report(0.1, 1)
        raise optuna.TrialPruned

    def early(_: Any) -> float:
        raise optuna.TrialPruned("too wide")

    results = list(Process(late, tmp_path, phase=phase).results())
    assert (results[0].step, results[0].is_judged) == (1, False)
    if phase == "search":
        assert (results[-1].state, results[-1].step, results[-1].remembered) == (TrialEnd.STOPPED, 1, True)
    else:  # what is confirmed runs to its end
        assert results[-1].state is TrialEnd.FAILED
    (result,) = Process(early, tmp_path, phase=phase).results()
    assert ends([result]) == (TrialEnd.FAILED, "infeasible: it raised TrialPruned too wide")
    assert result.failure is not None
    assert result.failure.kind is FailureKind.INFEASIBLE


def test_nan_is_diverged_and_another_exception_failed(tmp_path: Path) -> None:
    def broken(_: Any) -> float:
        raise KeyError("lr")

    assert ends(list(Process(lambda _: float("nan"), tmp_path).results()))[0] is TrialEnd.DIVERGED
    state, why = ends(list(Process(broken, tmp_path).results()))
    assert state is TrialEnd.FAILED
    assert why.startswith("KeyError: 'lr'")


# -- what is given, and what breaks a rule -----------------------------------------------------------------------


def test_what_an_arm_fixes_is_returned_without_a_question(tmp_path: Path) -> None:
    process = Process(layered, tmp_path, config={"layers": 1, "depth": 9})
    results = list(process.results(VALUES))
    assert process.asked == ["lr", "width_0"]
    assert results[-1].notes == ("layered returned without asking for 'depth', which the sweep fixes",)
    state, why = ends(list(Process(layered, tmp_path, config={"layers": 7}).results(VALUES)))
    assert state is TrialEnd.FAILED
    assert "layers must be within IntDistribution(low=1, high=3" in why
    assert "but 7 was given" in why


def test_a_repetition_has_the_values_of_its_trial_and_asks_nothing(tmp_path: Path) -> None:
    process = Process(layered, tmp_path, phase="confirm", config=VALUES)
    assert list(process.results())[-1].state is TrialEnd.COMPLETED
    assert process.asked == []
    fewer = {name: value for name, value in VALUES.items() if name != "width_1"}
    state, why = ends(list(Process(layered, tmp_path, phase="confirm", config=fewer).results()))
    assert state is TrialEnd.FAILED
    assert "width_1: the trial that this one repeats was never asked for it" in why


@pytest.mark.parametrize(
    ("returned", "objectives", "rule"),
    [
        (None, ("value",), "must return a number, but returned None"),
        ("best", ("value",), "must return a number, but returned 'best'"),
        ((1.0, 2.0), ("value",), "must return a number, but returned (1.0, 2.0)"),
        (1.0, ("error", "cost"), "must return 2 numbers, of error, cost, but returned 1.0"),
    ],
)
def test_what_is_returned_must_be_a_number_for_each_objective(
    tmp_path: Path, returned: Any, objectives: tuple[str, ...], rule: str
) -> None:
    state, why = ends(list(Process(lambda _: returned, tmp_path, objectives=objectives).results()))
    assert state is TrialEnd.FAILED
    assert rule in why


@pytest.mark.parametrize(
    ("ask", "rule"),
    [
        (lambda t: t.suggest_float("x", 1, 0), "low must be at most high, but got low=1, high=0"),
        (lambda t: t.suggest_float("x", 0, float("inf")), "high must be finite"),
        (lambda t: t.suggest_int("x", "a", 3), "low must be a number, but got 'a'"),
        (lambda t: t.suggest_float("x", 0.1, 1, step=0.1, log=True), "log and step exclude each other"),
        (lambda t: t.suggest_categorical("x", []), "choices must not be empty"),
        (lambda t: t.suggest_categorical("x", [(3, 3)]), "a choice must be a boolean, a number, text or None"),
        (lambda t: t.suggest_int("epochs", 1, 9), "'epochs' belongs to the sweep"),
        (lambda t: t.suggest_int("a\nb", 1, 9), "must be one line of printable characters"),
        (lambda t: t.suggest_int("", 1, 9), "must be one line of printable characters"),
        (lambda t: t.suggest_int("x", 0, 2**63), "x: high must contain integers of 64 bits, but one is larger"),
        (lambda t: t.suggest_int("x", -1e30, 1), "x: low must contain integers of 64 bits, but one is larger"),
        (lambda t: t.suggest_categorical("x", [2**64]), "x: choices must contain integers of 64 bits"),
        (lambda t: t.set_user_attr("n", [2**64]), "the attribute 'n' must contain integers of 64 bits"),
        (lambda t: t.set_user_attr("n", nested(63)), "the attribute 'n' must be nested at most"),
        (lambda t: (t.suggest_int("y", 1, 9), t.suggest_float("y", 1, 9)), "y: the range must stay"),
        (lambda t: t.study, "trial.study is not known here"),
    ],
)
def test_a_question_that_breaks_a_rule_fails_its_trial_with_the_rule(tmp_path: Path, ask: Any, rule: str) -> None:
    state, why = ends(list(Process(lambda trial: ask(trial) and 1.0, tmp_path).results({"y": 2})))
    assert state is TrialEnd.FAILED
    assert rule in why


def test_user_attributes_travel_with_the_next_result(tmp_path: Path) -> None:
    def objective(trial: Any) -> float:
        trial.set_user_attr("widths", (1, 2))
        with pytest.raises(TypeError):
            trial.set_user_attr("model", object())
        trial.report(0.1, 1)
        trial.should_prune()
        assert trial.user_attrs == {"widths": [1, 2]}
        trial.set_user_attr("note", "end")
        return 0.2

    first, last = Process(objective, tmp_path).results()
    assert (first.attributes, last.attributes) == ({"widths": [1, 2]}, {"note": "end"})


@pytest.mark.parametrize("phase", ["one", "plan"])
def test_without_a_study_what_is_not_given_is_the_middle_of_its_range(tmp_path: Path, phase: str) -> None:
    seen: list[dict[str, Any]] = []

    def objective(trial: Any) -> float:
        value = layered(trial)
        trial.suggest_float("grid", 0, 1, step=0.25)
        seen.append(dict(trial.params))
        return value

    process = Process(objective, tmp_path, phase=phase, config={"layers": 1})
    assert ends(list(process.results())) == (TrialEnd.COMPLETED, "")
    (params,) = seen
    assert params.pop("lr") == pytest.approx(10**-2.5)
    assert params == {"layers": 1, "width_0": 16, "grid": 0.5}
    assert process.asked == []


def test_it_knows_its_number_and_what_the_sweep_gives(tmp_path: Path) -> None:
    def objective(trial: Any) -> float:
        assert (trial.number, trial.arm, trial.phase, trial.seed, trial.device) == (1, "all", "search", 1, "cpu")
        assert trial.datetime_start.year >= 2024
        return 1.0

    assert ends(list(Process(objective, tmp_path).results())) == (TrialEnd.COMPLETED, "")
