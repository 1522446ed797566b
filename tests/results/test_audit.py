"""The audit of early stopping, on a record whose numbers can be counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from rungwise.results.analysis.audit import audit
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import Decision, State
from rungwise.results.record.writer import Record


def enter(
    record: Record, number: int, scores: list[float], state: State, *, rung: float | None = None, source: int = 0
):
    phase = "audit" if source else "search"
    record.add_trial(number, arm="a", phase=phase, config={}, params={}, distributions={}, source=source or None)
    attempt = record.start_attempt(number)
    for step, score in enumerate(scores, 1):
        record.add_report(number, attempt, step, {"epoch": float(step), "val_accuracy": score})
    record.end_trial(number, state, decision=None if rung is None else Decision(rung, 0.5, True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Record(tmp_path) as record:
        record.set_meta("definition", {"metric": "val_accuracy", "mode": "max", "epochs": 3, "arms": {"a": {}}})
        enter(record, 1, [0.5, 0.6, 0.7], State.COMPLETED)
        enter(record, 2, [0.6, 0.7, 0.8], State.COMPLETED)
        enter(record, 3, [0.4], State.STOPPED, rung=1.0)
        enter(record, 4, [0.3], State.STOPPED, rung=1.0)
    return tmp_path


def test_a_sweep_that_audited_nothing_has_no_audit(folder: Path) -> None:
    with Reader(folder) as reader:
        assert audit(reader) is None


def test_a_stopped_winner_is_named_with_what_stopping_it_cost(folder: Path) -> None:
    with Record(folder) as record:
        enter(record, 5, [0.4, 0.7, 0.85], State.COMPLETED, source=3)
        enter(record, 6, [0.3, 0.3, 0.3], State.COMPLETED, source=4)
    with Reader(folder) as reader:
        found = audit(reader)
    assert found is not None
    assert (found.stopped, found.audited, found.winner) == (2, 2, 3)
    assert found.regret == pytest.approx(0.05)
    assert found.epochs_saved == 4.0  # two trials, two of three epochs each
    assert found.share_saved == pytest.approx(4 / 12)
    # At epoch 1 the order of 1, 2, 5, 6 is 0.5 0.6 0.4 0.3, at the end 0.7 0.8 0.85 0.3: ranks 3 4 2 1 and 2 3 4 1,
    # so rho = 1 - 6 * (1 + 1 + 4 + 0) / (4 * 15) = 0.4.
    (rung,) = found.rungs
    assert (rung.epoch, rung.n) == (1.0, 4)
    assert rung.correlation == pytest.approx(0.4)
    assert found.grace is None


def test_stopping_that_was_right_costs_nothing_and_its_rung_is_good_enough(folder: Path) -> None:
    with Record(folder) as record:
        enter(record, 5, [0.4, 0.5, 0.6], State.COMPLETED, source=3)
        enter(record, 6, [0.3, 0.3, 0.3], State.COMPLETED, source=4)
    with Reader(folder) as reader:
        found = audit(reader)
    assert found is not None
    assert (found.regret, found.winner, found.grace) == (0.0, None, 1.0)
