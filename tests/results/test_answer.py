"""The answer: hand-counted sweeps of two arms, one arm, many arms, and of everything that may be missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from support.confirmed import L2, NO_L2, SEEDS, sweep, two_arms

from results.answer import Answer, answer
from results.record import Reader, State


def asked(folder: Path) -> Answer:
    with Reader(folder) as reader:
        found = answer(reader)
    assert json.loads(json.dumps(found.asdict()))["sentence"] == found.sentence  # every answer is JSON
    return found


def test_two_arms_are_compared_by_their_chosen_configurations_test_scores(tmp_path: Path) -> None:
    found = asked(two_arms(tmp_path / "run"))
    assert (found.split, found.measure, found.unit, found.scale) == ("test", "test accuracy", "points", 100.0)
    assert (found.control, found.best) == ("no L2", "L2")
    (only,) = found.comparisons
    assert (only.arm, only.against, only.verdict, only.together) == ("L2", "no L2", "better", 1)
    wanted = stats.ttest_rel(L2, NO_L2)
    assert only.difference.paired
    assert only.difference.mean == pytest.approx(0.003)
    assert only.difference.p == only.p_holm == pytest.approx(wanted.pvalue)
    assert only.difference.low == pytest.approx(wanted.confidence_interval().low)
    # differences 3, 2, 3, 3, 4 thousandths: sd sqrt(0.5), margin 2.776 * sqrt(0.5 / 5) = 0.878
    assert only.sentence == (
        "L2 helps by 0.30 ± 0.09 points of test accuracy against no L2 (n=5 paired seeds, 95 % interval 0.21 to 0.39)."
    )
    assert found.sentence == (
        f"{only.sentence} Best by validation is L2: 98.40 % test accuracy (n=5 seeds, 95 % interval 98.27 to 98.53), "
        "with lr=0.003."
    )
    assert found.pairs == ()


def test_an_arm_is_its_best_configuration_by_mean_validation(tmp_path: Path) -> None:
    arm = asked(two_arms(tmp_path / "run")).arm("L2")
    assert [candidate.source for candidate in arm.candidates] == [2, 3]
    assert arm.chosen == arm.candidates[0]
    assert arm.chosen is not None
    assert arm.chosen.validation is not None
    assert arm.score is not None
    assert arm.chosen.params == {"lr": 0.003}
    assert "seed" not in arm.chosen.config
    assert arm.chosen.values == dict(zip(SEEDS, [value + 0.001 for value in L2], strict=True))  # last reports
    assert arm.chosen.validation.mean == pytest.approx(0.985)
    assert (arm.score.n, arm.score.mean) == (5, pytest.approx(0.984))
    assert arm.score.sd == pytest.approx(0.001)
    assert arm.chosen.searched == arm.seen == 0.99
    assert arm.flattered == pytest.approx(0.005)  # 0.99 seen, 0.985 confirmed


def test_the_model_to_keep_is_the_best_arms_best_seed_by_validation(tmp_path: Path) -> None:
    found = asked(two_arms(tmp_path / "run"))
    chosen = found.arm("L2").chosen
    assert chosen is not None
    assert chosen.trials == dict(zip(SEEDS, range(14, 19), strict=True))
    assert found.model == 16  # 0.985 twice: the first


def test_the_arm_that_is_named_first_is_the_control(tmp_path: Path) -> None:
    there = asked(two_arms(tmp_path / "there")).comparisons[0]
    back = asked(two_arms(tmp_path / "back", arms={"L2": {}, "no L2": {"l2": 0.0}})).comparisons[0]
    assert (back.arm, back.against, back.verdict) == ("no L2", "L2", "worse")
    assert back.difference.mean == -there.difference.mean
    assert (back.difference.low, back.difference.high) == (
        pytest.approx(-(there.difference.high or 0)),
        pytest.approx(-(there.difference.low or 0)),
    )
    assert back.sentence.startswith("no L2 hurts by 0.30 ± 0.09 points of test accuracy against L2 (")
    assert "0.21 to 0.39" in back.sentence


def test_a_difference_within_the_noise_is_not_called_one(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run")
    for arm, values in (("no L2", NO_L2), ("L2", [0.981, 0.980, 0.983, 0.981, 0.981])):
        made.score(made.confirmed(arm, made.search(arm, 0.98), values), values)
    (only,) = asked(tmp_path / "run").comparisons
    # differences 1, -1, 1, 0, 0 thousandths: mean 0.2, sd sqrt(0.7), margin 2.776 * sqrt(0.7 / 5) = 1.039
    assert only.verdict == "unknown"
    assert only.difference.needed == 140  # power 0.8 for d = 0.2 / sqrt(0.7) = 0.239
    assert only.sentence == (
        "Cannot tell whether L2 helps against no L2: the 95 % interval -0.09 to 0.13 points of test accuracy contains "
        "0 (n=5 paired seeds); about n=140 seeds would be needed to see a difference of this size."
    )


def test_a_loss_is_better_when_it_is_lower(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run", metric="val_loss", mode="min")
    low, high = [0.10, 0.11, 0.10, 0.12, 0.11], [0.30, 0.32, 0.31, 0.33, 0.30]
    for arm, values in (("no L2", high), ("L2", low)):
        source = made.search(arm, 0.5, 0.05 + values[0], 0.01 + values[0], metric="val_loss")
        worse = made.search(arm, 0.9, metric="val_loss")
        for one, extra in ((worse, 0.4), (source, 0.0)):
            trials = [
                made.confirm(arm, one, seed, 0.01, value + extra, metric="val_loss")
                for seed, value in zip(SEEDS, values, strict=True)
            ]
        made.score(trials, values, "loss")
        made.score(trials, [0.9] * 5)
    found = asked(tmp_path / "run")
    assert (found.measure, found.unit, found.scale, found.best) == ("test loss", "nats", 1.0, "L2")
    arm = found.arm("L2")
    assert arm.chosen is not None
    assert arm.chosen.source == arm.candidates[0].source < arm.candidates[1].source
    assert arm.seen == pytest.approx(0.11)  # the lowest
    assert arm.flattered == pytest.approx(0.108 - 0.11)  # confirmed a little better than seen
    (only,) = found.comparisons
    assert (only.verdict, only.difference.mean) == ("better", pytest.approx(-0.204))
    assert only.sentence.startswith("L2 helps: it lowers the test loss by 0.204 ± 0.0111 nats against no L2 (n=5 ")


def test_one_arm_is_not_compared(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run", arms={"all": {}})
    made.score(made.confirmed("all", made.search("all", 0.99, lr=0.02), L2), L2)
    found = asked(tmp_path / "run")
    assert (found.comparisons, found.pairs, found.best) == ((), (), "all")
    assert found.sentence == "98.40 % test accuracy (n=5 seeds, 95 % interval 98.27 to 98.53), with lr=0.02."


def test_several_arms_are_corrected_for_being_several(tmp_path: Path) -> None:
    arms: dict[str, Any] = {"none": {}, "L1": {}, "L2": {}, "dropout": {}}
    draws = {
        "none": [0.0, 1.0, 2.0, 1.0, 1.0],
        "L1": [0.9, 1.4, 2.9, 1.4, 1.5],  # a little better: 0.9, 0.4, 0.9, 0.4, 0.5
        "L2": [2.0, 4.0, 3.0, 4.0, 2.1],  # clearly better than its noise alone, not after Holm
        "dropout": [0.5, 0.6, 2.3, 0.7, 1.2],
    }
    made = sweep(tmp_path / "run", arms=arms)
    for arm, draw in draws.items():
        values = [0.98 + value / 1000 for value in draw]
        made.score(made.confirmed(arm, made.search(arm, 0.99), values), values)
    found = asked(tmp_path / "run")
    ps = [stats.ttest_rel(draws[arm], draws["none"]).pvalue for arm in ("L1", "L2", "dropout")]
    assert [one.difference.p for one in found.comparisons] == [pytest.approx(p) for p in ps]
    first, second, third = sorted(ps)
    corrected = {first: 3 * first, second: max(3 * first, 2 * second), third: max(3 * first, 2 * second, third)}
    assert [one.p_holm for one in found.comparisons] == [pytest.approx(corrected[p]) for p in ps]
    assert {(one.against, one.together) for one in found.comparisons} == {("none", 3)}
    assert "p-values are corrected for 3 comparisons (Holm)." in found.sentence
    assert [(one.arm, one.against) for one in found.pairs] == [
        ("L1", "none"), ("L2", "none"), ("dropout", "none"), ("L2", "L1"), ("dropout", "L1"), ("dropout", "L2")
    ]  # fmt: skip
    assert {one.together for one in found.pairs} == {6}


def test_what_is_significant_alone_and_not_among_many_is_told_so(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run", arms={"none": {}, "a": {}, "b": {}})
    base = [0.0, 1.0, 2.0, 1.0, 1.0]
    shifts = {"none": [0.0] * 5, "a": [0.3, 1.2, 0.9, 1.4, 0.1], "b": [0.3, -0.4, 0.1, -0.2, 0.3]}
    assert 0.025 < stats.ttest_1samp(shifts["a"], 0).pvalue < 0.05
    for arm, shift in shifts.items():
        values = [0.98 + (one + more) / 1000 for one, more in zip(base, shift, strict=True)]
        made.score(made.confirmed(arm, made.search(arm, 0.99), values), values)
    first = asked(tmp_path / "run").comparisons[0]
    assert first.difference.low is not None
    assert first.difference.low > 0
    assert first.verdict == "unknown"
    assert "leaves 0 out alone, but not as one of 2 comparisons (Holm p=0.0" in first.sentence


def test_an_empty_sweep_has_no_answer(tmp_path: Path) -> None:
    sweep(tmp_path / "run").record.close()
    found = asked(tmp_path / "run")
    assert found.sentence == "No answer yet: no trial has reported."
    assert (found.best, found.model, found.comparisons, found.notes) == (None, None, (), ())
    assert [(arm.arm, arm.candidates, arm.score, arm.seen) for arm in found.arms] == [
        ("no L2", (), None, None),
        ("L2", (), None, None),
    ]


def test_a_search_without_confirmation_has_no_answer(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run")
    made.search("no L2", 0.9, 0.95)
    made.search("L2", 0.99, float("nan"), state=State.DIVERGED)  # never best
    made.search("L2", 0.97, 0.96)
    found = asked(tmp_path / "run")
    assert found.sentence == (
        "No answer yet: nothing is confirmed. Best val_accuracy seen in the search: no L2 95.00 %, L2 97.00 %."
    )
    assert (found.arm("L2").seen, found.arm("L2").flattered, found.best) == (0.97, None, None)


def test_all_diverged_is_no_answer_and_no_error(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run")
    made.search("no L2", float("nan"), state=State.DIVERGED)
    source = made.search("L2", 0.5, float("inf"), state=State.DIVERGED)
    made.confirm("L2", source, 11, 0.5, float("nan"), state=State.DIVERGED)
    made.confirm("L2", source, 12, state=State.FAILED)
    found = asked(tmp_path / "run")
    assert found.sentence == "No answer yet: no trial has reported."
    assert found.arm("L2").candidates[0].dropped == {"DIVERGED": 1, "FAILED": 1}
    assert found.arm("L2").chosen is None
    assert found.notes == ("Confirmations of L2, trial 2, that do not count: 1 DIVERGED, 1 FAILED.",)


def test_without_test_scores_the_answer_is_on_validation_and_says_so(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run")
    made.score(made.confirmed("no L2", made.search("no L2", 0.98), NO_L2), [0.5] * 5)
    made.confirmed("L2", made.search("L2", 0.98), L2)  # not scored yet
    found = asked(tmp_path / "run")
    assert (found.split, found.measure) == ("validation", "validation accuracy")
    assert found.comparisons[0].difference.mean == pytest.approx(0.003)
    assert found.sentence.startswith("L2 helps by 0.30 ± 0.09 points of validation accuracy against no L2 (")
    assert found.sentence.endswith(
        "There are no test scores: these are validation scores, by which the configurations were chosen."
    )


def test_an_arm_that_is_not_confirmed_yet_is_named(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run")
    made.search("L2", 0.98)
    made.score(made.confirmed("no L2", made.search("no L2", 0.98), NO_L2), NO_L2)
    found = asked(tmp_path / "run")
    assert found.comparisons == ()
    assert found.sentence == (
        "Nothing of L2 is confirmed, so it is not compared. Best by validation is no L2: 98.10 % test accuracy "
        "(n=5 seeds, 95 % interval 98.01 to 98.19), with lr=0.01."
    )


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run")
    for arm, value in (("no L2", 0.98), ("L2", 0.99)):
        made.score(made.confirmed(arm, made.search(arm, 0.98), [value]), [value])
    found = asked(tmp_path / "run")
    assert found.comparisons[0].sentence == (
        "Cannot tell whether L2 helps against no L2: the difference is 1.00 points of test accuracy, but one seed has "
        "no spread."
    )
    assert "99.00 % test accuracy (n=1 seed, so no interval)" in found.sentence
    assert "One seed has no spread: confirm on two or more for an interval." in found.notes


def test_seeds_that_are_all_alike_are_no_certainty(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run", arms={"all": {}})
    made.score(made.confirmed("all", made.search("all", 0.98), [0.97, 0.97]), [0.96, 0.96])
    assert "96.00 % test accuracy (n=2 seeds, all alike, so no interval)" in asked(tmp_path / "run").sentence


def test_a_failed_confirmation_leaves_the_other_seeds(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run")
    made.score(made.confirmed("no L2", made.search("no L2", 0.98), NO_L2), NO_L2)
    source = made.search("L2", 0.98)
    made.score(made.confirmed("L2", source, L2[:3]), L2[:3])
    made.confirm("L2", source, 14, 0.99, state=State.LOST)
    made.confirm("L2", source, 15, 0.99, state=State.RUNNING)
    found = asked(tmp_path / "run")
    (only,) = found.comparisons
    assert (only.difference.n, only.difference.paired) == (3, True)
    assert only.difference.mean == pytest.approx((3 + 2 + 3) / 3000)
    assert "Confirmations of L2, trial 7, that do not count: 1 LOST, 1 RUNNING." in found.notes


def test_a_configuration_that_fails_on_seeds_is_not_chosen_for_the_lucky_rest(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run", arms={"all": {}})
    lucky, steady = made.search("all", 0.99), made.search("all", 0.98)
    made.confirm("all", lucky, 11, 0.999)
    made.confirm("all", lucky, 12, 0.99, state=State.DIVERGED)
    made.confirmed("all", steady, [0.97, 0.971])
    chosen = asked(tmp_path / "run").arm("all").chosen
    assert chosen is not None
    assert chosen.source == steady


def test_a_seed_that_was_lost_does_not_cost_a_configuration_its_place(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run", arms={"all": {}})
    poor, good = made.search("all", 0.90), made.search("all", 0.99)
    made.confirmed("all", poor, [0.90, 0.901, 0.899, 0.90, 0.90])
    made.confirmed("all", good, [0.99, 0.991, 0.989, 0.99])
    made.confirm("all", good, 15, 0.99, state=State.LOST)
    chosen = asked(tmp_path / "run").arm("all").chosen
    assert chosen is not None
    assert chosen.source == good


@pytest.mark.parametrize(("mode", "few", "many"), [("max", 0.951, 0.95), ("min", 0.05, 0.051)])
def test_a_mean_of_few_seeds_must_be_better_by_its_luck(tmp_path: Path, mode: str, few: float, many: float) -> None:
    """Half a standard error between one seed and five: the spread is 0.01."""
    made = sweep(tmp_path / "run", arms={"all": {}}, mode=mode)
    lucky, steady = made.search("all", few), made.search("all", many)
    made.confirmed("all", lucky, [few])
    made.confirmed("all", steady, [many + change for change in (-0.01, 0.01, 0.0, -0.01, 0.01)])
    found = asked(tmp_path / "run").arm("all")
    assert [one.source for one in found.candidates] == [steady, lucky]


def test_seeds_that_are_not_scored_yet_make_no_answer_on_the_test_split(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run", arms={"all": {}})
    trials = made.confirmed("all", made.search("all", 0.98), L2)
    made.score(trials[:2], L2[:2])
    found = asked(tmp_path / "run")
    assert (found.split, found.arm("all").score.n) == ("validation", 5)  # type: ignore[union-attr]
    assert "Not all of these models are scored on the test split yet" in found.sentence
    made.score(trials[2:], L2[2:])
    assert asked(tmp_path / "run").split == "test"


def test_an_audit_is_no_confirmation(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run", arms={"all": {}})
    source = made.search("all", 0.5, state=State.STOPPED)
    made._trial("all", "audit", source, 1, [0.5, 0.99], State.COMPLETED, "", {})
    found = asked(tmp_path / "run")
    assert (found.arm("all").seen, found.arm("all").candidates) == (0.5, ())


def test_the_notes_say_what_an_interval_does_not_hold(tmp_path: Path) -> None:
    found = asked(two_arms(tmp_path / "run"))
    assert found.notes == (
        "Winner's curse, no L2: trial 1 ended with 98.50 % validation accuracy in the search, the same settings with "
        "98.20 % on fresh seeds: the search flattered them by 0.30 points.",
        "Winner's curse, L2: trial 2 ended with 99.00 % validation accuracy in the search, the same settings with "
        "98.50 % on fresh seeds: the search flattered them by 0.50 points.",
        "Intervals are 95 % t-intervals over training seeds, for these configurations and this test split; another "
        "search would add to them.",
        # 1.96 * sqrt(0.981 * 0.019 / 10000) = 0.268 points
        "Another 10,000 samples would move an accuracy by about ± 0.27 points, and a difference by less: all arms are "
        "scored on the same samples.",
    )


def test_the_winners_curse_is_of_one_configuration_and_said_where_there_is_one(tmp_path: Path) -> None:
    """The best value that any trial saw on its way belongs to another configuration than the one that is confirmed."""
    made = sweep(tmp_path / "run", arms={"all": {}})
    made.search("all", 0.99, 0.6)
    chosen = made.search("all", 0.7, 0.8)
    made.confirmed("all", chosen, [0.9, 0.91, 0.92])
    found = asked(tmp_path / "run")
    assert found.arm("all").flattered == pytest.approx(0.8 - 0.91)
    assert not [note for note in found.notes if "Winner" in note]


def test_no_interval_of_an_accuracy_leaves_0_to_100(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run", arms={"low": {}, "high": {}})
    for arm, values in (("low", [0.01, 0.30]), ("high", [0.88, 0.98])):
        source = made.search(arm, values[0])
        made.score(made.confirmed(arm, source, values), values)
    found = asked(tmp_path / "run")
    for arm in found.arms:
        assert arm.score is not None
        assert arm.score.low is not None
        assert arm.score.high is not None
        assert 0 < arm.score.low < arm.score.mean < arm.score.high < 1
    (only,) = found.comparisons
    assert only.difference.low == pytest.approx(-0.432, abs=1e-3)
    assert only.difference.high == 1  # Student's t of two seeds says 1.98
    assert only.sentence == (
        "Cannot tell whether high helps against low: n=2 paired seeds are too few; they differ by 77.50 points of test "
        "accuracy on average."
    )
    assert "too few for an interval" in found.sentence
