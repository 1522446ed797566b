"""The answer: hand-counted sweeps of two arms, one arm, many arms, and of everything that may be missing."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from support import demo
from support.confirmed import L2, NO_L2, SEEDS, sweep, two_arms

from rungwise.results.analysis.answer import CONSTANT_SCORES, Answer, answer
from rungwise.results.analysis.findings import FailedSeeds, Replicate, Verdict, WinnersCurse, verdict_of
from rungwise.results.analysis.statistics import Difference
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State


def asked(folder: Path) -> Answer:
    with Reader(folder) as reader:
        found = answer(reader)
    assert json.loads(json.dumps(found.asdict()))["sentence"] == found.sentence  # every answer is JSON
    return found


ONE_SEARCH = (
    "Whether L2 helps cannot be told from one search per arm: another search finds other configurations. --searches 5 "
    "tells. "
)
DATA = demo.DEFINITION["data"] | {"classes": list("0123456789")}


def test_two_arms_are_compared_by_their_chosen_configurations_test_scores(tmp_path: Path) -> None:
    found = asked(two_arms(tmp_path / "run"))
    assert (found.split, found.measure, found.unit, found.scale) == ("test", "test accuracy", "points", 100.0)
    assert (found.control, found.best, found.replicate) == ("no L2", "L2", Replicate.SEED)
    (only,) = found.comparisons
    assert (only.arm, only.against, only.verdict) == ("L2", "no L2", Verdict.ONE_SEARCH)
    wanted = stats.ttest_ind(L2, NO_L2, equal_var=False)
    assert only.difference is not None
    assert only.difference.mean == pytest.approx(0.003)
    assert only.difference.p == pytest.approx(wanted.pvalue)
    # sd 1.000 and 0.707 thousandths: error sqrt(1.5 / 5) = 0.548, freedom 7.2, so 2.351 * 0.548 = 1.288
    assert only.difference.low == pytest.approx(0.003 - 0.001288, abs=1e-6)
    assert only.difference.low == pytest.approx(wanted.confidence_interval().low)
    told = (
        "The configuration found with L2 has 0.30 points more test accuracy than the one found with no L2 "
        "(95% interval 0.17 to 0.43 more, over 5 seeds, for these two configurations)."
    )
    assert found.headlines == (told,)
    assert found.details == (
        f"{ONE_SEARCH}Best by validation is L2: 98.40% test accuracy (n=5 seeds, 95% interval 98.27 to 98.53%), "
        "with lr=0.003."
    )
    assert found.sentence == f"{told} {found.details}"


def test_a_notebook_shows_the_sentence_of_an_answer(tmp_path: Path) -> None:
    from IPython.lib.pretty import pretty

    found = asked(two_arms(tmp_path / "run"))
    assert pretty(found) == str(found) == found.sentence


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
    assert arm.best_seen is not None
    assert (arm.best_seen.trial, arm.best_seen.epoch) == (2, 2.0)
    assert arm.optimism == pytest.approx(0.005)  # 0.99 seen, 0.985 confirmed


def test_the_model_to_keep_is_the_best_arms_best_seed_by_validation(tmp_path: Path) -> None:
    found = asked(two_arms(tmp_path / "run"))
    chosen = found.arm("L2").chosen
    assert chosen is not None
    assert chosen.trials == dict(zip(SEEDS, range(14, 19), strict=True))
    assert found.model == 16  # 0.985 twice: the first


def test_the_arm_that_is_named_first_is_the_control(tmp_path: Path) -> None:
    there = asked(two_arms(tmp_path / "there")).comparisons[0]
    answered = asked(two_arms(tmp_path / "back", arms={"L2": {}, "no L2": {"l2": 0.0}}))
    (back,) = answered.comparisons
    assert (back.arm, back.against) == ("no L2", "L2")
    assert there.difference is not None
    assert back.difference is not None
    assert back.difference.mean == -there.difference.mean
    assert (back.difference.low, back.difference.high) == (
        pytest.approx(-(there.difference.high or 0)),
        pytest.approx(-(there.difference.low or 0)),
    )
    assert answered.headlines == (
        "The configuration found with no L2 has 0.30 points less test accuracy than the one found with L2 "
        "(95% interval 0.17 to 0.43 less, over 5 seeds, for these two configurations).",
    )


def test_an_interval_that_holds_0_says_both_directions(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run")
    for arm, values in (("no L2", NO_L2), ("L2", [0.981, 0.980, 0.983, 0.981, 0.981])):
        made.score(made.confirmed(arm, made.search(arm, 0.98), values), values)
    found = asked(tmp_path / "run")
    assert found.comparisons[0].verdict is Verdict.ONE_SEARCH
    # sd 0.707 and 1.095 thousandths: error sqrt(1.7 / 5) = 0.583, freedom 6.84, margin 2.376 * 0.583 = 1.386
    assert found.headlines[0] == (
        "The configuration found with L2 has 0.02 points more test accuracy than the one found with no L2 "
        "(95% interval 0.12 less to 0.16 more, over 5 seeds, for these two configurations)."
    )
    assert "would be needed" not in found.sentence


def test_one_search_an_arm_never_says_that_an_arm_helps_or_hurts(tmp_path: Path) -> None:
    """40 sweeps of two alike arms and 10 of arms far apart, with 2 to 12 seeds each."""
    draw = random.Random(17)
    for case in range(50):
        seeds = range(draw.randint(2, 12))
        made = sweep(tmp_path / str(case))
        for arm, shift in (("no L2", 0.0), ("L2", 0.01 if case >= 40 else 0.0)):
            found_by_search = draw.gauss(0.98 - shift, 0.0005)
            values = [round(draw.gauss(found_by_search, 0.0008), 4) for _ in seeds]
            made.score(made.confirmed(arm, made.search(arm, 0.98), values, seeds), values)
        made.record.close()
        found = asked(tmp_path / str(case))
        assert [one.verdict for one in found.comparisons] == [Verdict.ONE_SEARCH]
        assert not re.search(r"L2 (helps|hurts)\b(?! cannot)", found.sentence)
        assert ONE_SEARCH in found.sentence


@pytest.mark.parametrize(
    ("low", "high", "higher", "verdict"),
    [
        (0.001, 0.003, True, Verdict.HELPS),
        (0.001, 0.003, False, Verdict.HURTS),
        (-0.003, -0.001, True, Verdict.HURTS),
        (-0.003, -0.001, False, Verdict.HELPS),
        (-0.001, 0.003, True, Verdict.CANNOT_TELL),
        (0.0, 0.003, True, Verdict.CANNOT_TELL),
        (None, None, True, Verdict.CANNOT_TELL),
    ],
)
def test_searches_would_give_the_verdict_of_their_interval_and_seeds_none(
    low: float | None, high: float | None, higher: bool, verdict: Verdict
) -> None:
    found = Difference(5, 5, 0.002 if low is None or low >= 0 else -0.002, low, high, None, 1)
    assert verdict_of(found, Replicate.SEARCH, higher) is verdict
    assert verdict_of(found, Replicate.SEED, higher) is Verdict.ONE_SEARCH


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
    assert arm.optimism == pytest.approx(0.108 - 0.11)  # confirmed a little better than seen
    (only,) = found.comparisons
    assert only.difference is not None
    assert only.difference.mean == pytest.approx(-0.204)
    # sd 8.367 and 13.038 thousandths: error 6.928, freedom 6.82, margin 2.378 * 6.928 = 16.47
    assert found.headlines[0] == (
        "The configuration found with L2 has 0.204 nats less test loss than the one found with no L2 "
        "(95% interval 0.187 to 0.221 less, over 5 seeds, for these two configurations)."
    )


def test_one_arm_is_not_compared(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run", arms={"all": {}})
    made.score(made.confirmed("all", made.search("all", 0.99, lr=0.02), L2), L2)
    found = asked(tmp_path / "run")
    assert (found.comparisons, found.best) == ((), "all")
    assert found.sentence == "98.40% test accuracy (n=5 seeds, 95% interval 98.27 to 98.53%), with lr=0.02."
    assert found.headlines == (found.sentence,)


def test_several_arms_are_one_family_whose_intervals_hold_together(tmp_path: Path) -> None:
    arms: dict[str, Any] = {"none": {}, "L1": {}, "L2": {}, "dropout": {}}
    draws = {
        "none": [0.0, 1.0, 2.0, 1.0, 1.0],
        "L1": [0.9, 1.4, 2.9, 1.4, 1.5],
        "L2": [2.0, 4.0, 3.0, 4.0, 2.1],
        "dropout": [0.5, 0.6, 2.3, 0.7, 1.2],
    }
    made = sweep(tmp_path / "run", arms=arms)
    for arm, draw in draws.items():
        values = [0.98 + value / 1000 for value in draw]
        made.score(made.confirmed(arm, made.search(arm, 0.99), values), values)
    found = asked(tmp_path / "run")
    assert [(one.arm, one.against) for one in found.comparisons] == [
        ("L1", "none"), ("L2", "none"), ("dropout", "none")
    ]  # fmt: skip
    for one in found.comparisons:
        wanted = stats.ttest_ind(draws[one.arm], draws["none"], equal_var=False)
        interval = wanted.confidence_interval(1 - 0.05 / 3)
        assert one.difference is not None
        assert one.difference.comparisons == 3
        assert one.difference.p == pytest.approx(min(1.0, 3 * wanted.pvalue))
        assert (one.difference.low, one.difference.high) == (
            pytest.approx(interval.low / 1000),
            pytest.approx(interval.high / 1000),
        )
    assert "The 95% intervals hold for the 3 comparisons together. Whether any of them helps " in found.sentence
    assert any("hold for all 3 comparisons together (Bonferroni)" in line for line in found.note_texts)


def test_an_arm_that_failed_everywhere_lost_and_is_counted(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run", arms={"none": {}, "L1": {}, "L2": {}}, data=DATA)
    for arm, values in (("none", NO_L2), ("L1", L2)):
        made.score(made.confirmed(arm, made.search(arm, 0.98), values), values)
    made.search("L2", 0.3, state=State.DIVERGED)
    made.search("L2", state=State.FAILED)
    found = asked(tmp_path / "run")
    there, lost = found.comparisons
    assert there.difference is not None
    assert there.difference.comparisons == 2  # the family does not shrink
    assert (lost.verdict, lost.difference) == (Verdict.ARM_FAILED, None)
    assert found.headlines[1] == "L2 lost against none: of its 2 trials, 1 diverged and 1 failed."


def test_a_control_that_diverges_on_every_seed_lost(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run")
    source = made.search("no L2", 0.98)
    for seed in SEEDS:
        made.confirm("no L2", source, seed, float("nan"), state=State.DIVERGED)
    made.score(made.confirmed("L2", made.search("L2", 0.98), L2), L2)
    found = asked(tmp_path / "run")
    assert [one.verdict for one in found.comparisons] == [Verdict.CONTROL_FAILED]
    assert found.headlines == ("no L2 lost against L2: of its 5 confirmations, 5 diverged.",)


def test_an_empty_sweep_has_no_answer(tmp_path: Path) -> None:
    sweep(tmp_path / "run").record.close()
    found = asked(tmp_path / "run")
    assert found.sentence == "No answer yet. No trial has reported."
    assert (found.best, found.model, found.comparisons, found.notes, found.confirmed) == (None, None, (), (), False)
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
        "No answer yet. Nothing is confirmed. Best validation accuracy in the search: no L2 95.00%, L2 97.00%."
    )
    assert (found.arm("L2").seen, found.arm("L2").optimism, found.best) == (0.97, None, None)


def test_all_diverged_is_no_answer_and_no_error(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run")
    made.search("no L2", float("nan"), state=State.DIVERGED)
    source = made.search("L2", 0.5, float("inf"), state=State.DIVERGED)
    made.confirm("L2", source, 11, 0.5, float("nan"), state=State.DIVERGED)
    made.confirm("L2", source, 12, state=State.FAILED)
    found = asked(tmp_path / "run")
    assert found.sentence == (
        "No answer yet. No trial has reported. no L2 lost: its only trial diverged. L2 lost: of its 2 "
        "confirmations, 1 diverged and 1 failed."
    )
    assert found.arm("L2").candidates[0].failed == {11: State.DIVERGED, 12: State.FAILED}
    assert (found.arm("L2").chosen, found.comparisons) == (None, ())
    (note,) = found.notes
    assert note == FailedSeeds("L2", 2, False, {State.DIVERGED: 1, State.FAILED: 1}, 2, None)


def test_without_test_scores_there_is_no_verdict(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run")
    made.score(made.confirmed("no L2", made.search("no L2", 0.98), NO_L2), [0.5] * 5)
    made.confirmed("L2", made.search("L2", 0.98), L2)  # not scored yet
    found = asked(tmp_path / "run")
    assert (found.split, found.measure) == ("validation", "validation accuracy")
    (only,) = found.comparisons
    assert (only.verdict, only.difference) == (Verdict.NO_TEST_SCORES, None)
    assert found.sentence == (
        "No verdict on L2 against no L2 yet: the test scores are missing. Best by validation is L2: 98.40% validation "
        "accuracy (n=5 seeds, 95% interval 98.27 to 98.53%), with lr=0.01. There are no test scores yet: this is a "
        "validation score, by which configurations were chosen."
    )


def test_an_arm_that_is_ahead_on_the_test_split_only_is_named(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run")
    made.score(made.confirmed("no L2", made.search("no L2", 0.98), NO_L2), L2)
    made.score(made.confirmed("L2", made.search("L2", 0.98), L2), NO_L2)
    found = asked(tmp_path / "run")
    assert "(95% interval 0.17 to 0.43 less, over 5 seeds" in found.sentence
    assert found.details.startswith(f"{ONE_SEARCH}Best by validation is L2: 98.10% test accuracy ")
    assert found.details.endswith(" On the test split, by which nothing is chosen, no L2 is ahead: 98.40%.")


def test_an_arm_that_is_not_confirmed_yet_is_named(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run")
    made.search("L2", 0.98)
    made.score(made.confirmed("no L2", made.search("no L2", 0.98), NO_L2), NO_L2)
    found = asked(tmp_path / "run")
    assert found.comparisons == ()
    assert found.sentence == (
        "Nothing of L2 is confirmed yet, so it is not compared. Best by validation is no L2: 98.10% test accuracy "
        "(n=5 seeds, 95% interval 98.01 to 98.19%), with lr=0.01."
    )


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run")
    for arm, value in (("no L2", 0.98), ("L2", 0.99)):
        made.score(made.confirmed(arm, made.search(arm, 0.98), [value]), [value])
    found = asked(tmp_path / "run")
    assert found.headlines[0] == (
        "The configuration found with L2 has 1.00 points more test accuracy than the one found with no L2 "
        "(over 1 seed: no interval, for these two configurations)."
    )
    assert "99.00% test accuracy (n=1 seed, so no interval)" in found.sentence
    assert "L2 has one seed, which has no spread: confirm on two or more for an interval." in found.note_texts


@pytest.mark.parametrize("last", [0.9800, 0.9801])
def test_seeds_that_agree_are_neither_certain_nor_unknown(tmp_path: Path, last: float) -> None:
    """All differences are 1.00 point, or all but one: 10,000 samples allow an sd of 0.10 points at least."""
    made = sweep(tmp_path / "run")
    for arm, values in (("no L2", [0.97] * 5), ("L2", [0.98] * 4 + [last])):
        made.score(made.confirmed(arm, made.search(arm, 0.98), values), values)
    found = asked(tmp_path / "run")
    assert "has 1.00 points more test accuracy" in found.headlines[0]
    assert "(95% interval 0.89 to 1.11 more, over 5 seeds, " in found.headlines[0]


def test_a_seed_that_diverged_counts_as_a_constant_prediction(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run", data=DATA)
    made.record.set_meta(CONSTANT_SCORES, {"accuracy": 0.1135, "loss": 2.3})
    made.score(made.confirmed("no L2", made.search("no L2", 0.98), NO_L2), NO_L2)
    source = made.search("L2", 0.98)
    made.score(made.confirmed("L2", source, L2[:3]), L2[:3])
    for seed in SEEDS[3:]:
        made.confirm("L2", source, seed, 0.99, float("nan"), state=State.DIVERGED)
    found = asked(tmp_path / "run")
    arm = found.arm("L2")
    assert arm.scores == dict(zip(SEEDS, [*L2[:3], 0.1135, 0.1135], strict=True))
    assert arm.score is not None
    assert (arm.score.n, arm.score.mean) == (5, pytest.approx((sum(L2[:3]) + 2 * 0.1135) / 5))
    difference = found.comparisons[0].difference
    assert difference is not None
    assert (difference.n, difference.n_other) == (5, 5)
    assert difference.mean < -0.3
    assert found.best == "no L2"  # the survivors of L2 have the better mean
    assert (
        "Of 5 confirmations of L2, 2 diverged; each counts as 11.35%, what a constant prediction scores. "
        in found.sentence
    )


@pytest.mark.parametrize(
    ("definition", "confusion", "score"),
    [
        ({}, None, None),
        ({"data": DATA}, None, 0.1),  # ten classes
        ({"data": DATA}, [[50, 10], [30, 10]], 0.6),  # 60 of 100 test samples are of the first class
    ],
)
def test_an_older_record_says_as_well_as_it_can_what_a_failed_seed_counts(
    tmp_path: Path, definition: dict[str, Any], confusion: list[list[int]] | None, score: float | None
) -> None:
    made = sweep(tmp_path / "run", arms={"all": {}}, **definition)
    if confusion:
        made.record.set_meta("test", {"trial": 2, "confusion": confusion})
    source = made.search("all", 0.98)
    made.score(made.confirmed("all", source, [0.97, 0.98]), [0.97, 0.98])
    made.confirm("all", source, 15, state=State.FAILED)
    found = asked(tmp_path / "run")
    assert found.constant_score == score
    values = [0.97, 0.98] if score is None else [0.97, 0.98, score]
    assert list(found.arm("all").scores.values()) == values
    told = "left out, as the record does not say what a constant" if score is None else f"each counts as {score:.2%}"
    assert f"Of 3 confirmations of all, 1 failed; {told}" in found.sentence


def test_a_seed_that_was_lost_is_missing_until_it_is_trained_again(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run", data=DATA)
    made.score(made.confirmed("no L2", made.search("no L2", 0.98), NO_L2), NO_L2)
    source = made.search("L2", 0.98)
    made.score(made.confirmed("L2", source, L2[:3]), L2[:3])
    made.confirm("L2", source, 14, 0.99, state=State.LOST)
    made.confirm("L2", source, 15, 0.99, state=State.RUNNING)
    found = asked(tmp_path / "run")
    difference = found.comparisons[0].difference
    assert difference is not None
    assert (difference.n, difference.n_other) == (3, 5)
    assert difference.mean == pytest.approx(sum(L2[:3]) / 3 - 0.981)
    assert ", over 3 and 5 seeds, " in found.headlines[0]
    assert (
        "Of 5 confirmations of L2, 1 is running and 1 was lost: not counted until the same command has trained it "
        "again." in found.sentence
    )


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
    assert found.note_texts == (
        "Winner's curse, no L2: trial 1 ended with 98.50% validation accuracy in the search, the same settings "
        "average 98.20% on fresh seeds: the search was optimistic by 0.30 points.",
        "Winner's curse, L2: trial 2 ended with 99.00% validation accuracy in the search, the same settings "
        "average 98.50% on fresh seeds: the search was optimistic by 0.50 points.",
        "The model that is kept is that of trial 16, the best by validation of 5 seeds of L2. Scores of arms are means "
        "over seeds.",
        "Intervals are 95% t-intervals over training seeds (differences: Welch's), for these configurations and this "
        "test split; another search would add to them.",
        # 1.96 * sqrt(0.981 * 0.019 / 10000) = 0.268 points, 1.96 * sqrt(0.984 * 0.016 / 10000) = 0.246
        "On another 10,000 samples an accuracy would differ by about ± 0.27 (no L2), 0.25 (L2) points. A difference "
        "changes by less, because all arms are scored on the same samples.",
        "Budget of the searches: no L2: 1 trial, 2 epochs; L2: 2 trials, 4 epochs. --budget epochs gives every "
        "search equally many epochs.",
        "Trials were suggested in the order in which others ended (--order arrival): the same command may suggest "
        "others, and give another answer.",
    )
    fixed = asked(two_arms(tmp_path / "fixed", order="fixed"))
    assert fixed.note_texts == found.note_texts[:-1]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"lr": 0.08}, "The best configuration of L2 is at the edge of lr (0.08 of 0.0001 to 0.1): another range"),
        ({"lr": 0.00013}, "The best configuration of L2 is at the edge of lr (0.00013 of 0.0001 to 0.1): another"),
        ({"lr": 0.01}, ""),
        (
            {"l2": 4e-7},
            "The l2 that was found with L2 (4e-07 of 1e-07 to 0.01) is as good as none, which is what no L2",
        ),
        ({"l2": 3e-5}, ""),
        ({"l2": 9e-3}, "The best configuration of L2 is at the edge of l2 (0.009 of 1e-07 to 0.01): another range"),
        ({"dropout": 0.007}, "The best configuration of L2 has next to no dropout (0.007 of 0 to 0.5)."),
        (
            {"dropout": 0.49},
            "The best configuration of L2 is at the edge of dropout (0.49 of 0 to 0.5): another range",
        ),
        ({"hidden": "128-64"}, ""),  # choices have no edge
        ({"layers": 3}, ""),  # of 1, 2 and 3 one is an end two times in three
        ({"width": 512}, "The best configuration of L2 is at the edge of width (512 of 32 to 512): another range"),
    ],
)
def test_where_a_configuration_lies_in_its_space_is_noted(tmp_path: Path, params: dict[str, Any], said: str) -> None:
    made = sweep(tmp_path / "run")
    made.score(made.confirmed("no L2", made.search("no L2", 0.98, lr=0.01), NO_L2), NO_L2)
    made.score(made.confirmed("L2", made.search("L2", 0.98, **params), L2), L2)
    lines = [line for line in asked(tmp_path / "run").note_texts if re.search("edge|as none|next to no", line)]
    assert [line[: len(said)] for line in lines] == ([said] if said else [])


def test_the_winners_curse_is_of_one_configuration_and_said_where_there_is_one(tmp_path: Path) -> None:
    """The best value that any trial saw on its way belongs to another configuration than the one that is confirmed."""
    made = sweep(tmp_path / "run", arms={"all": {}})
    made.search("all", 0.99, 0.6)
    chosen = made.search("all", 0.7, 0.8)
    made.confirmed("all", chosen, [0.9, 0.91, 0.92])
    found = asked(tmp_path / "run")
    assert found.arm("all").optimism == pytest.approx(0.8 - 0.91)
    assert not [note for note in found.notes if isinstance(note, WinnersCurse)]


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
    assert only.difference is not None
    assert -1 <= (only.difference.low or 0) < 0
    assert only.difference.high == 1  # Welch's t of two seeds says 2.3
    assert found.headlines == (
        "The configuration found with high has 77.50 points more test accuracy than the one found with low "
        "(over 2 seeds, which differ too much for an interval, for these two configurations).",
    )
    assert "98.00" not in found.sentence
    assert "93.00% test accuracy (n=2 seeds, which differ too much for an interval)" in found.sentence
