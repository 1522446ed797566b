"""ASHA's rungs, counted by hand.

Of the objectives that earlier trials left at a rung, in ascending order of merit, the cutoff is the (1 - 1/eta)
quantile, with linear interpolation: for eta=2 the median, for eta=3 the point two thirds of the way up. A trial goes
on when it is not below it. All numbers here are sums of powers of two, so that equality is exact, unless said.
"""

import math
from pathlib import Path

import pytest
from ray.tune.experiment import Trial as TuneTrial

from rungwise.engine.schedulers.base import RungSchedule
from rungwise.engine.schedulers.per_arm import Rungs
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import Decision, State
from rungwise.results.record.writer import Record
from rungwise.trainable.messages import TrialAssignment, TrialEnd, TrialResult

GO, STOP = "CONTINUE", "STOP"


def halving(mode: str = "max", arms: tuple[str, ...] = ("a",)) -> Rungs:
    """Rungs at 1, 2 and 4 of 8 epochs."""
    return Rungs([(arm, 1) for arm in arms], RungSchedule(budget=8, grace=1, eta=2.0, reports_per_epoch=1), mode)


def verdicts(rungs: Rungs, rows: list[tuple[int, int, float, str, Decision | None]], arm: str = "a") -> None:
    """Check rows of (trial, step, objective, verdict, decision), in the order of arrival."""
    for number, step, value, verdict, decision in rows:
        assert rungs.judge((arm, 1), number, step, value) == verdict, (number, step)
        assert rungs.take_decision(number) == decision, (number, step)


@pytest.mark.parametrize(
    ("ladder", "rungs"),
    [
        (RungSchedule(budget=8, grace=1, eta=2.0, reports_per_epoch=1), [1, 2, 4, 8]),
        (RungSchedule(budget=9, grace=1, eta=3.0, reports_per_epoch=1), [1, 3, 9]),
        (RungSchedule(budget=10, grace=1, eta=3.0, reports_per_epoch=1), [1, 3, 9, 10]),
        (RungSchedule(budget=6, grace=2, eta=3.0, reports_per_epoch=1), [2, 6]),
        (
            RungSchedule(budget=6, grace=6, eta=3.0, reports_per_epoch=1),
            [6],
        ),  # the first rung is the budget: nobody stops
        (RungSchedule(budget=8, grace=1, eta=2.0, reports_per_epoch=4), [0.25, 0.5, 1, 2]),
        (RungSchedule(budget=4, grace=1, eta=1.5, reports_per_epoch=1), [1, 1.5, 2.25, 3.375, 4]),
        (RungSchedule(budget=6, grace=None, eta=3.0, reports_per_epoch=1), [6]),
    ],
)
def test_the_ladder_climbs_by_eta_from_grace_to_the_budget(ladder: RungSchedule, rungs: list[float]) -> None:
    assert ladder.epochs() == rungs


def test_a_rung_lets_the_better_half_pass_with_eta_2() -> None:
    verdicts(
        halving(),
        [
            # trial, step, objective
            (1, 1, 0.5, GO, Decision(1, None, False)),  # nobody was there before
            (2, 1, 0.25, STOP, Decision(1, 0.5, True)),  # median of .5
            (3, 1, 0.375, GO, Decision(1, 0.375, False)),  # median of .25 .5; equal is enough
            (4, 1, 0.34375, STOP, Decision(1, 0.375, True)),  # median of .25 .375 .5
            (5, 1, 0.875, GO, Decision(1, 0.359375, False)),  # median of .25 .34375 .375 .5
            (1, 2, 0.5, GO, Decision(2, None, False)),
            (5, 2, 0.75, GO, Decision(2, 0.5, False)),
            (3, 2, 0.5625, STOP, Decision(2, 0.625, True)),  # median of .5 .75: it passed rung 1, not rung 2
            (1, 3, 0.0, GO, None),  # between rungs nobody is judged
            (1, 4, 0.5, GO, Decision(4, None, False)),
            (5, 3, 0.75, GO, None),
            (5, 4, 0.25, STOP, Decision(4, 0.5, True)),
            (1, 8, 0.0, GO, None),  # the budget is no rung: reaching it is COMPLETED
        ],
    )


def test_a_rung_lets_the_best_third_pass_with_eta_3() -> None:
    rungs = Rungs([("a", 1)], RungSchedule(budget=9, grace=1, eta=3.0, reports_per_epoch=1), "max")
    # (trial, objective, verdict, cutoff); two thirds of the way up the sorted earlier ones
    for number, value, verdict, cutoff in [
        (1, 0.0, GO, None),
        (2, 3.0, GO, 0.0),  # of 0
        (3, 1.5, STOP, 2.0),  # of 0 3: two thirds of the way
        (4, 6.0, GO, 2.0),  # of 0 1.5 3: position 4/3, a third of the way from 1.5 to 3
        (5, 2.5, STOP, 3.0),  # of 0 1.5 3 6: position 2
        (6, 4.0, GO, 2.8333333),  # of 0 1.5 2.5 3 6: position 8/3, two thirds of the way from 2.5 to 3
    ]:
        assert rungs.judge(("a", 1), number, 1, value) == verdict
        decision = rungs.take_decision(number)
        assert decision is not None
        assert decision.stopped == (verdict == STOP)
        assert decision.cutoff == (None if cutoff is None else pytest.approx(cutoff))


def test_with_mode_min_the_smaller_half_passes_and_the_cutoff_has_the_objectives_own_sign() -> None:
    verdicts(
        halving("min"),
        [
            (1, 1, 0.5, GO, Decision(1, None, False)),
            (2, 1, 0.75, STOP, Decision(1, 0.5, True)),
            (3, 1, 0.625, GO, Decision(1, 0.625, False)),  # median of .5 .75
            (4, 1, -1.0, GO, Decision(1, 0.625, False)),  # median of .5 .625 .75
            (4, 2, 2.0, GO, Decision(2, None, False)),
            (3, 2, 2.5, STOP, Decision(2, 2.0, True)),
        ],
    )


def test_the_bad_trials_rank_counts_at_its_rung_after_it_was_stopped() -> None:
    rungs = halving()
    for number, value in ((1, 0.5), (2, 0.0), (3, 0.0), (4, 0.0)):
        rungs.judge(("a", 1), number, 1, value)
    rungs.judge(("a", 1), 5, 1, 0.125)  # median of 0 0 0 .5 is 0
    assert rungs.take_decision(5) == Decision(1, 0.0, False)


def test_rungs_finer_than_an_epoch_are_counted_in_reports_and_told_in_epochs() -> None:
    rungs = Rungs([("a", 1)], RungSchedule(budget=8, grace=1, eta=2.0, reports_per_epoch=4), "max")
    verdicts(
        rungs,
        [
            (1, 1, 0.5, GO, Decision(0.25, None, False)),
            (2, 1, 0.25, STOP, Decision(0.25, 0.5, True)),
            (1, 2, 0.5, GO, Decision(0.5, None, False)),
            (1, 3, 0.5, GO, None),
            (1, 4, 0.5, GO, Decision(1, None, False)),
            (3, 1, 1.0, GO, Decision(0.25, 0.375, False)),  # median of .25 .5
            (3, 2, 0.25, STOP, Decision(0.5, 0.5, True)),
        ],
    )


def test_a_rung_between_two_reports_is_judged_at_the_next_one() -> None:
    rungs = Rungs([("a", 1)], RungSchedule(budget=4, grace=1, eta=1.5, reports_per_epoch=1), "max")
    verdicts(
        rungs,
        [
            (1, 1, 0.5, GO, Decision(1, None, False)),
            (1, 2, 0.5, GO, Decision(1.5, None, False)),
            (1, 3, 0.5, GO, Decision(2.25, None, False)),
            (2, 1, 0.5, GO, Decision(1, 0.5, False)),
            (2, 2, 0.25, STOP, Decision(1.5, 0.5, True)),
        ],
    )


def test_without_a_scheduler_only_a_non_finite_objective_stops_a_trial() -> None:
    rungs = Rungs([("a", 1)], RungSchedule(budget=4, grace=None, eta=3.0, reports_per_epoch=1), "max")
    verdicts(rungs, [(1, 1, 1.0, GO, None), (2, 1, 0.0, GO, None), (2, 3, -1.0, GO, None)])
    assert rungs.judge(("a", 1), 2, 4, None) == STOP


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_non_finite_objective_stops_its_trial_at_once_and_enters_no_rung(mode: str, value: float) -> None:
    rungs = halving(mode)

    def tell(number: int, step: int, objective: float) -> str:
        trial = TuneTrial("rungwise", config=TrialAssignment(number, "a", "search", {}).to_tune(), stub=True)
        return rungs.on_trial_result(None, trial, TrialResult(number, step=step, objective=objective).to_tune())

    assert tell(1, 1, value) == STOP
    assert rungs.take_decision(1) is None
    assert tell(2, 1, 0.5) == GO
    assert rungs.take_decision(2) == Decision(1, None, False)  # nobody was there before
    assert tell(2, 3, value) == STOP  # between rungs too
    assert rungs.take_decision(2) is None


def test_a_trial_that_failed_before_its_first_report_is_no_matter_of_rungs() -> None:
    assert halving().verdict(TrialAssignment(1, "a", "search", {}), TrialResult(1, state=TrialEnd.FAILED)) == STOP


@pytest.mark.parametrize("phase", ["confirm", "audit"])
def test_a_trial_that_is_trained_again_is_not_judged_and_enters_no_rung(phase: str) -> None:
    rungs = halving()
    rungs.judge(("a", 1), 1, 1, 0.5)
    again = TrialAssignment(2, "a", phase, {})
    assert rungs.verdict(again, TrialResult(2, step=1, objective=0.0)) == GO
    assert rungs.take_decision(2) is None
    verdicts(rungs, [(3, 1, 0.375, STOP, Decision(1, 0.5, True))])  # against .5 alone


def test_one_arms_trials_do_not_stop_anothers() -> None:
    rungs = halving(arms=("strong", "weak"))
    verdicts(rungs, [(1, 1, 1.0, GO, Decision(1, None, False)), (3, 1, 0.75, STOP, Decision(1, 1.0, True))], "strong")
    verdicts(rungs, [(2, 1, 0.25, GO, Decision(1, None, False)), (4, 1, 0.5, GO, Decision(1, 0.25, False))], "weak")
    verdicts(rungs, [(5, 1, 0.5, STOP, Decision(1, 0.875, True))], "strong")  # median of 1 .75, not of .25 .5 too


def test_a_decision_is_told_once_and_a_later_report_does_not_hide_it_in_another_trial() -> None:
    rungs = halving()
    rungs.judge(("a", 1), 1, 1, 0.5)
    rungs.judge(("a", 1), 2, 1, 0.25)
    assert rungs.take_decision(1) == Decision(1, None, False)
    assert rungs.take_decision(1) is None
    assert rungs.take_decision(2) == Decision(1, 0.5, True)


def test_a_second_attempts_repeated_reports_enter_no_rung_twice() -> None:
    rungs = halving()
    rungs.judge(("a", 1), 1, 1, 0.5)
    rungs.judge(("a", 1), 1, 2, 0.5)
    rungs.take_decision(1)
    verdicts(
        rungs,
        [
            (1, 1, 0.0, GO, None),  # its process died: it starts again, with other numbers
            (1, 2, 0.0, GO, None),
            (2, 1, 0.375, STOP, Decision(1, 0.5, True)),  # median of .5 alone; of 0 .5 it would be .25
            (1, 4, 0.25, GO, Decision(4, None, False)),
        ],
    )


# (arm, trial, step, objective) as they might come in; attempts and rungs beyond the first included
STREAM = [
    ("a", 1, 1, 0.5), ("b", 2, 1, 0.125), ("a", 3, 1, 0.25), ("a", 1, 2, 0.5), ("b", 4, 1, 0.0), ("a", 5, 1, 0.625),
    ("b", 2, 2, 0.25), ("b", 6, 1, 0.5), ("a", 1, 3, 0.5), ("a", 5, 2, 0.375), ("a", 7, 1, 0.5), ("b", 6, 2, 0.125),
    ("a", 1, 4, 0.75), ("a", 7, 2, 0.625), ("a", 7, 3, 0.5), ("a", 7, 4, 0.5), ("b", 2, 4, 0.5), ("b", 8, 1, 0.25),
]  # fmt: skip


@pytest.mark.parametrize("mode", ["max", "min"])
def test_rungs_replayed_from_the_record_judge_like_rungs_that_lived_through_it(tmp_path: Path, mode: str) -> None:
    def judged(rungs: Rungs, rows: list[tuple[str, int, int, float]]) -> list[tuple[str, Decision | None]]:
        return [(rungs.judge((arm, 1), n, step, value), rungs.take_decision(n)) for arm, n, step, value in rows]

    lived = judged(halving(mode, ("a", "b")), STREAM)
    assert sum(verdict == STOP for verdict, _ in lived) >= 3  # the stream has something to get wrong
    for crash in range(len(STREAM) + 1):
        folder = tmp_path / str(crash)
        folder.mkdir()
        with Record(folder) as record:
            known: set[int] = set()
            for arm, number, step, value in STREAM[:crash]:
                if number not in known:
                    record.add_trial(number, arm=arm, phase="search", config={}, params={}, distributions={})
                    record.start_attempt(number)
                    known.add(number)
                record.add_report(number, 1, step, {"epoch": step, "val_accuracy": value})
        rungs = halving(mode, ("a", "b"))
        with Reader(folder) as reader:
            rungs.replay(reader.trials(), reader.reports(), "val_accuracy")
        assert all(rungs.take_decision(number) is None for number in known)  # old decisions are not news
        assert judged(rungs, STREAM[crash:]) == lived[crash:], f"after a crash at report {crash}"


def test_replay_leaves_out_other_phases_and_non_finite_reports_and_counts_a_repeated_step_once(tmp_path: Path) -> None:
    with Record(tmp_path) as record:
        for number, phase in ((1, "search"), (2, "confirm"), (3, "search")):
            record.add_trial(number, arm="a", phase=phase, config={}, params={}, distributions={})
            record.start_attempt(number)
        record.add_report(1, 1, 1, {"val_accuracy": 0.5})
        record.add_report(2, 1, 1, {"val_accuracy": 1.0})  # the answer's trials are not the search's rivals
        record.add_report(3, 1, 1, {"val_accuracy": math.nan})
        record.end_trial(3, State.DIVERGED)
        record.start_attempt(1)
        record.add_report(1, 2, 1, {"val_accuracy": 0.0})
    rungs = halving()
    with Reader(tmp_path) as reader:
        rungs.replay(reader.trials(), reader.reports(), "val_accuracy")
    verdicts(rungs, [(4, 1, 0.375, STOP, Decision(1, 0.5, True))])  # against .5 alone
