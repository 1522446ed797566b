"""A record of an earlier version, which says why a trial failed in a sentence alone: it opens, and is gone on with."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from optuna.trial import TrialState

from rungwise.results.exporters.optuna_study import studies
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import FILE, State
from rungwise.results.record.writer import Record
from rungwise.results.tables.tables import tables
from rungwise.trainable.messages import Constraint, Failure, FailureKind

CONSTRAINT = Constraint("parameters", 200_000, 235_146)
FAILURES = {
    1: None,
    2: (FailureKind.INFEASIBLE, CONSTRAINT),
    3: (FailureKind.OUT_OF_MEMORY, None),
    4: (FailureKind.EXCEPTION, None),
    5: (FailureKind.DIVERGED, None),
    6: (FailureKind.LOST, None),
    7: None,
    8: None,
}


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """The run's folder."""
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.executescript(Path(__file__).with_name("earlier_record.sql").read_text())
    return tmp_path


def failures(folder: Path) -> dict[int, tuple[FailureKind, Constraint | None] | None]:
    with Reader(folder) as reader:
        reader.verify()
        found = {trial.trial: trial.failure for trial in reader.trials()}
        for trial in reader.trials():
            assert trial.failure is None or (trial.failure.message, trial.failure.error) == (trial.reason, trial.error)
    return {trial: failure and (failure.kind, failure.constraint) for trial, failure in found.items()}


def columns(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / FILE)) as db:
        return [row[1] for row in db.execute("PRAGMA table_info(trials)")]


def test_it_is_read_by_the_rule_of_its_time_and_stays_as_it_is(earlier: Path) -> None:
    before = (earlier / FILE).read_bytes()
    assert failures(earlier) == FAILURES
    with Reader(earlier) as reader:
        study = studies(reader)[("all", 1)]
        assert tables(reader).trials.num_rows == 8
    assert study.trials[1].constraints == {"parameters": 35146.0}
    assert [trial.state for trial in study.trials] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.FAIL,
        TrialState.FAIL,
        TrialState.PRUNED,
        TrialState.RUNNING,
    ]
    assert (earlier / FILE).read_bytes() == before


def test_a_driver_adds_what_is_new_and_what_was_there_says_the_same(earlier: Path) -> None:
    assert "failure" not in columns(earlier)
    with Record(earlier) as record:
        record.end_trial(8, State.FAILED, failure=Failure(FailureKind.INFEASIBLE, "whatever", CONSTRAINT, "Traceback"))
    assert "failure" in columns(earlier)
    assert failures(earlier) == FAILURES | {8: (FailureKind.INFEASIBLE, CONSTRAINT)}
    with Record(earlier):  # and opens again
        assert failures(earlier)[2] == FAILURES[2]


@pytest.mark.parametrize("committed", [False, True])
def test_a_driver_that_dies_while_it_adds_a_column_leaves_a_whole_record(
    earlier: Path, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    commit = Record.commit

    def die(record: Record) -> None:
        if committed:
            commit(record)
        record._db.close()  # as a kill does
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Record, "commit", die)
        with pytest.raises(KeyboardInterrupt):
            Record(earlier)
    assert ("failure" in columns(earlier)) is committed
    assert failures(earlier) == FAILURES
    with Record(earlier):
        assert failures(earlier) == FAILURES


@pytest.mark.parametrize(
    "failure",
    [
        Failure(FailureKind.INFEASIBLE, "infeasible: whatever", CONSTRAINT),
        Failure(FailureKind.OUT_OF_MEMORY, "memory", error="Traceback\nno"),
        Failure(FailureKind.EXCEPTION, "infeasible: parameters <= 1 must hold, but got 2"),  # in these words, by chance
        Failure(FailureKind.LOST, "out of memory (its process died)"),
    ],
)
def test_a_new_failure_is_what_its_kind_says_in_whatever_words(tmp_path: Path, failure: Failure) -> None:
    with Record(tmp_path) as record:
        record.add_trial(1, arm="all", phase="search", config={}, params={}, distributions={})
        state = State.LOST if failure.kind is FailureKind.LOST else State.FAILED
        record.end_trial(1, state, failure=failure)
    with Reader(tmp_path) as reader:
        reader.verify()
        (trial,) = reader.trials()
        (frozen,) = studies(reader)[("all", 1)].trials
    assert trial.failure == failure
    assert (trial.reason, trial.error) == (failure.message, failure.error)
    assert frozen.state is (TrialState.PRUNED if failure.kind.is_infeasible else TrialState.FAIL)
    assert frozen.constraints == ({"parameters": 35146.0} if failure.constraint else {})
