"""The studies are what Optuna would hold had it seen the sweep."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from support.demo import NAN, add, attempt, begin, metrics

from rungwise.results.exporters.loggers.registry import feed_of
from rungwise.results.exporters.loggers.settings import LogSettings
from rungwise.results.exporters.mirror import Mirror
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


def live(run: Path) -> dict[str, dict[int, optuna.trial.FrozenTrial]]:
    """{study: {trial of the record: trial}} of the run's own storage."""
    storage = f"sqlite:///{run / 'optuna.db'}"
    return {
        name: {trial.user_attrs["trial"]: trial for trial in optuna.load_study(study_name=name, storage=storage).trials}
        for name in optuna.get_all_study_names(storage)
    }


def synced(run: Path) -> int:
    feed = feed_of("optuna", run, LogSettings())
    metrics = feed.sync().metrics
    feed.close()
    return metrics


def values(trial: optuna.trial.FrozenTrial) -> tuple[object, ...]:
    return trial.state, trial.values, trial.params, trial.intermediate_values, trial.user_attrs


def test_the_live_study_follows_a_trial_from_its_start_to_its_end(tmp_path: Path) -> None:
    record, _ = begin(tmp_path / "demo")
    feed, run = feed_of("optuna", tmp_path / "demo", LogSettings()), tmp_path / "demo"
    with record:
        add(record, 1)
        attempt(record, 1, 0.5)
        feed.sync()
        ((number, trial),) = live(run)["demo: L2"].items()
        assert (number, trial.state, trial.intermediate_values) == (1, TrialState.RUNNING, {1: 0.5})
        attempt(record, 1, 0.6, 0.7, first=2)
        feed.sync()
        assert live(run)["demo: L2"][1].intermediate_values == {1: 0.5, 2: 0.6, 3: 0.7}
        record.end_trial(1, State.COMPLETED)
        add(record, 2)
    feed.sync()
    assert [values(one)[:2] for one in live(run)["demo: L2"].values()] == [
        (TrialState.COMPLETE, [0.7]),
        (TrialState.RUNNING, None),
    ]


def test_a_storage_left_in_the_middle_is_completed_and_no_trial_is_there_twice(run: Path) -> None:
    with Reader(run) as reader:
        expected = {
            f"demo: {study.study_name}": {trial.user_attrs["trial"]: values(trial) for trial in study.trials}
            for study in studies(reader).values()
        }
    count = synced(run)
    assert count > 0
    assert synced(run) == 0

    def there() -> dict[str, dict[int, tuple[object, ...]]]:
        return {name: {number: values(trial) for number, trial in each.items()} for name, each in live(run).items()}

    assert there() == expected
    parts = ("params", "values", "intermediate_values", "user_attributes", "system_attributes")
    tables = [*(f"trial_{part}" for part in parts), "trials"]
    for script in (  # as if killed before the last trials, in the middle of one, before the end of one
        "".join(f"DELETE FROM {each} WHERE trial_id > 3;" for each in tables),
        "UPDATE trials SET state = 'RUNNING' WHERE trial_id = 1;"
        "DELETE FROM trial_intermediate_values WHERE step > 1 AND trial_id = 1",
        "UPDATE trials SET state = 'RUNNING' WHERE trial_id = 1; DELETE FROM trial_values WHERE trial_id = 1",
        "UPDATE trials SET state = 'PRUNED' WHERE trial_id = 4",  # of a run that went on otherwise, elsewhere
    ):
        with closing(sqlite3.connect(run / "optuna.db")) as database, database:
            database.executescript(script)
        synced(run)
        assert there() == expected


def test_a_damaged_file_is_set_aside_and_written_anew(run: Path) -> None:
    synced(run)
    (run / "optuna.db").write_bytes(b"SQLite format 3\0" + bytes(5000))
    feed = feed_of("optuna", run, LogSettings())
    done = feed.sync()
    feed.close()
    (note,) = done.notes
    assert re.fullmatch(r"optuna.db is damaged \(.+\); it is kept as optuna.db.broken-1, and was written anew", note)
    assert (run / "optuna.db.broken-1").stat().st_size == 5016
    assert set(live(run)) == {"demo: no L2", "demo: L2"}
    assert synced(run) == 0


def test_a_mirror_holds_no_database_that_may_be_in_the_middle_of_a_write(run: Path, tmp_path: Path) -> None:
    synced(run)
    Mirror(str(tmp_path / "mirror"), "demo").push(run)
    assert not list((tmp_path / "mirror" / "demo").glob("optuna.db*"))
    assert (tmp_path / "mirror" / "demo" / "sweep.sqlite").exists()
