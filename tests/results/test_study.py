"""The studies are what Optuna would hold had it seen the sweep."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from support.demo import NAN, add, attempt, begin, metrics

from rungwise.results.exporters.optuna_study import studies
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State


@pytest.fixture
def trials(run: Path) -> dict[int, optuna.trial.FrozenTrial]:
    with Reader(run) as reader:
        return {trial.user_attrs["trial"]: trial for study in studies(reader).values() for trial in study.trials}


def test_each_arm_has_its_study_in_the_order_of_dealing(run: Path) -> None:
    with Reader(run) as reader:
        found = studies(reader)
    assert {key.arm: [t.user_attrs["trial"] for t in study.trials] for key, study in found.items()} == {
        "no L2": [1, 4],
        "L2": [2, 3, 5, 6, 7, 8],
    }
    assert [trial.number for trial in found[("L2", 1)].trials] == [0, 1, 2, 3, 4, 5]
    assert found[("L2", 1)].direction is optuna.study.StudyDirection.MAXIMIZE


def test_states_follow_the_one_truth(trials: dict[int, optuna.trial.FrozenTrial]) -> None:
    assert {number: trial.state for number, trial in trials.items()} == {
        1: TrialState.COMPLETE,
        2: TrialState.PRUNED,
        3: TrialState.FAIL,
        4: TrialState.FAIL,
        5: TrialState.FAIL,
        6: TrialState.COMPLETE,
        7: TrialState.RUNNING,
        8: TrialState.RUNNING,
    }
    assert trials[2].user_attrs == {"trial": 2, "state": "STOPPED", "reason": "0.4 against a cutoff of 0.5"}


def test_values_are_the_last_attempts_last(trials: dict[int, optuna.trial.FrozenTrial]) -> None:
    assert trials[1].value == 0.8  # not the 0.9 on the way
    assert trials[1].intermediate_values == {1: 0.5, 2: 0.7, 3: 0.9, 4: 0.8}
    assert trials[2].value == 0.4
    assert trials[3].intermediate_values == {1: 0.99}  # the NaN is left out
    assert trials[6].intermediate_values == {1: 0.3, 2: 0.65, 3: 0.75, 4: 0.85}
    assert trials[7].intermediate_values == {}


def test_parameters_keep_their_distributions_and_times(trials: dict[int, optuna.trial.FrozenTrial], run: Path) -> None:
    assert trials[1].params == {"lr": 0.01, "hidden": "128-64"}
    assert trials[1].distributions["lr"] == optuna.distributions.FloatDistribution(1e-4, 0.1, log=True)
    with Reader(run) as reader:
        recorded = reader.trials()[0]
    assert trials[1].datetime_start is not None
    assert trials[1].datetime_start.timestamp() == pytest.approx(recorded.started)
    assert trials[8].datetime_complete is None


def test_a_sampler_goes_on_from_them(run: Path) -> None:
    with Reader(run) as reader:
        study = studies(reader)[("L2", 1)]
    study.sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=1)
    trial = study.ask({"lr": optuna.distributions.FloatDistribution(1e-4, 0.1, log=True)})
    study.tell(trial, 0.5)
    assert study.best_value == 0.85


def test_only_the_search_is_searched(out: Path) -> None:
    record, _ = begin(out / "demo", mode="min", metric="val_loss")
    with record:
        add(record, 1)
        add(record, 2, phase="confirm")
        attempt(record, 1, 0.5)
        record.end_trial(1, State.COMPLETED)
    with Reader(out / "demo") as reader:
        found = studies(reader)
    assert len(found[("L2", 1)].trials) == 1
    assert len(found[("no L2", 1)].trials) == 0
    assert found[("L2", 1)].direction is optuna.study.StudyDirection.MINIMIZE
    assert found[("L2", 1)].best_value == 1.5


@pytest.mark.parametrize("last", [{}, {"val_accuracy": NAN}])
def test_a_completed_trial_without_a_value_fails(out: Path, last: dict[str, float]) -> None:
    record, _ = begin(out / "demo")
    with record:
        add(record, 1)
        number = record.start_attempt(1)
        record.add_report(1, number, 1, metrics(1.0, 0.5))
        record.add_report(1, number, 2, {"epoch": 2.0, **last})
        record.end_trial(1, State.COMPLETED)
    with Reader(out / "demo") as reader:
        (trial,) = studies(reader)[("L2", 1)].trials
    assert trial.state is TrialState.FAIL
    assert trial.intermediate_values == {1: 0.5}


def test_nothing_is_said_on_the_way(run: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from rungwise.results.record.reader import Reader; "
        "from rungwise.results.exporters.optuna_study import studies; studies(Reader(Path(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(run)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
