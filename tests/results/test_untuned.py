"""What tuning gained over the defaults: the interval by hand, its sentences, and that it is no arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats
from support import demo
from support.confirmed import HIGH, LOW, Sweep, asked, begun, searched

from rungwise.results.analysis.findings import Verdict
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.results.report.snapshot import FrozenReader, read
from rungwise.results.tables.tables import tables
from rungwise.trainable.messages import UNTUNED, Constraint, Failure, FailureKind


def untuned(made: Sweep, scores: Sequence[float], states: Sequence[State] = (State.COMPLETED,) * 2) -> None:
    """Two trainings with the defaults for each score; those that completed have it."""
    for search, score in enumerate(scores, 1):
        for seed, state in zip((1, 2), states, strict=True):
            told = (0.97,) if state is State.COMPLETED else ()
            number = made._trial(UNTUNED, UNTUNED, None, 1000 * search + seed, told, state, "", {}, search)
            if state is State.COMPLETED:
                made.score([number], [score + (seed - 1.5) * 0.0002])


@pytest.fixture
def made(tmp_path: Path) -> Sweep:
    """Two arms, of five searches each; the control is at 98.04%."""
    made = begun(tmp_path / "run", 5)
    searched(made, "no L2", LOW)
    searched(made, "L2", HIGH)
    return made


def test_the_gain_is_the_control_minus_the_defaults_by_welchs_test(made: Sweep, tmp_path: Path) -> None:
    before = asked(tmp_path / "run")
    defaults = [score - 0.002 for score in LOW]
    untuned(made, defaults)
    now = asked(tmp_path / "run")
    assert now.gain is not None
    assert now.gain.difference is not None
    wanted = stats.ttest_ind(LOW, defaults, equal_var=False).confidence_interval()
    assert (now.gain.difference.low, now.gain.difference.high) == pytest.approx(tuple(wanted))
    assert (now.gain.arm, now.gain.verdict, now.gain.difference.comparisons) == ("no L2", Verdict.HELPS, 1)
    assert "Tuning gained 0.20 points (95% interval 0.15 to 0.25) over the defaults of no L2, which score 97.84%." in (
        now.sentence
    )
    changed = {field: (getattr(before, field), getattr(now, field)) for field in ("arms", "comparisons", "model")}
    assert all(one == other for one, other in changed.values())  # no arm, in no family, never best, never the model
    assert now.notes == before.notes


def test_three_searches_that_agree_are_said_to_be_too_few(tmp_path: Path) -> None:
    made = begun(tmp_path / "run", 3)
    searched(made, "no L2", LOW[:3])
    searched(made, "L2", [score + 0.005 for score in LOW[:3]])
    untuned(made, [score - 0.01 for score in LOW[:3]])
    found = asked(tmp_path / "run")
    assert "Cannot tell yet whether L2 makes a difference" in found.sentence
    assert "3 searches per arm. A verdict takes 4 searches or more: --searches 5." in found.sentence
    assert "Cannot tell whether tuning gained anything, and a verdict takes 4 searches or more: between" in (
        found.sentence
    )


@pytest.mark.parametrize(
    ("shift", "verdict", "sentence"),
    [
        (0.002, Verdict.HURTS, "Tuning lost 0.20 points (95% interval 0.15 to 0.25) against the defaults of no L2"),
        (
            0.0,
            Verdict.CANNOT_TELL,
            "Cannot tell whether tuning gained anything: between 0.05 points less and 0.05 more",
        ),
    ],
)
def test_a_loss_and_an_open_answer_are_said(
    made: Sweep, tmp_path: Path, shift: float, verdict: Verdict, sentence: str
) -> None:
    untuned(made, [score + shift for score in LOW])
    found = asked(tmp_path / "run")
    assert found.gain is not None
    assert found.gain.verdict is verdict
    assert sentence in found.sentence


def test_a_training_that_diverged_counts_and_one_that_is_missing_is_waited_for(made: Sweep, tmp_path: Path) -> None:
    untuned(made, (0.97, 0.971, 0.972, 0.97, 0.971), (State.COMPLETED, State.DIVERGED))
    found = asked(tmp_path / "run")
    assert found.gain is not None
    assert found.gain.score is not None
    assert found.gain.score.mean == pytest.approx((0.9708 - 0.0001 + 0.1135) / 2)
    assert "Of 10 trainings with the defaults, 5 diverged: each counts as 11.35%." in found.sentence
    made._trial(UNTUNED, UNTUNED, None, 77, (), State.LOST, "", {}, 5)
    assert asked(tmp_path / "run").gain is None


def test_defaults_that_do_not_train_and_that_may_not_be_trained_have_no_size(made: Sweep, tmp_path: Path) -> None:
    untuned(made, (0.0,) * 5, (State.DIVERGED, State.FAILED))
    found = asked(tmp_path / "run")
    assert "Training with the defaults of no L2 fails: of 10 trainings, 5 diverged and 5 failed." in found.sentence
    made.trials += 1
    made.record.add_trial(
        made.trials, arm=UNTUNED, phase=UNTUNED, config=demo.config(9), params={}, distributions={}, search=1
    )
    why = Failure(
        FailureKind.INFEASIBLE,
        "infeasible: parameters <= 1000 must hold, but got 25450",
        Constraint("parameters", 1000, 25450),
    )
    made.record.end_trial(made.trials, State.FAILED, failure=why)
    made.record.commit()
    assert f"Tuning is not compared with the defaults of no L2: {why.message}." in asked(tmp_path / "run").sentence


def test_of_one_search_the_gain_is_that_of_one_configuration(tmp_path: Path) -> None:
    made = begun(tmp_path / "run", 1, arms={"all": {}})
    searched(made, "all", (0.98,))
    untuned(made, (0.95,))
    found = asked(tmp_path / "run")
    assert found.gain is not None
    assert found.gain.verdict is Verdict.ONE_SEARCH
    assert "The configuration that the search found has 3.00 points more test accuracy than the defaults (" in (
        found.sentence
    )


def test_an_arm_of_the_same_name_is_not_taken_for_it(tmp_path: Path) -> None:
    made = begun(tmp_path / "run", 5, arms={UNTUNED: {"l2": 0.0}, "L2": {}})
    searched(made, UNTUNED, LOW)
    searched(made, "L2", HIGH)
    before = asked(tmp_path / "run")
    untuned(made, [score - 0.01 for score in LOW])
    now = asked(tmp_path / "run")
    assert replace(now, gain=None) == before
    assert now.gain is not None


def test_tables_and_report_name_its_phase_and_count_it_as_no_arm(made: Sweep, tmp_path: Path) -> None:
    untuned(made, (0.97,) * 5)
    with Reader(tmp_path / "run") as reader:
        rows = tables(reader).trials.to_pylist()
    of_defaults = [row for row in rows if row["phase"] == UNTUNED]
    assert len(of_defaults) == 10
    assert {(row["arm"], row["source"]) for row in of_defaults} == {(UNTUNED, None)}
    assert sorted(row["search"] for row in of_defaults) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    with FrozenReader(tmp_path / "run") as reader:
        assert read(reader).arms == ["no L2", "L2"]
