"""Answers over independent searches: verdicts, their sentences word for word, the crossed interval, and odd records."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support import confirmed
from support.confirmed import DATA, HIGH, LOW, asked, begun, searched

from rungwise.results.analysis.answer import LOOKS, Answer
from rungwise.results.analysis.findings import Comparison, FailedSearches, Replicate, Verdict, are_alternatives
from rungwise.results.analysis.phrasing.notes import FALSE_VERDICTS, IDENTICAL_SWEEPS
from rungwise.results.analysis.statistics import Difference, crossed_difference, searches_needed
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import RecordError, State
from rungwise.results.record.writer import Record
from rungwise.results.tables.tables import tables

ROOT = Path(__file__).parents[2]


def two_arms(folder: Path, control: Sequence[float], other: Sequence[float], **changed: Any) -> Answer:
    made = begun(folder, len(control), **changed)
    searched(made, "no L2", control)
    searched(made, "L2", other)
    made.record.close()
    return asked(folder)


def test_arms_are_compared_by_welchs_test_over_searches(tmp_path: Path) -> None:
    found = two_arms(tmp_path / "run", LOW, HIGH)
    (only,) = found.comparisons
    assert (found.replicate, only.verdict, only.won, only.pairs) == (Replicate.SEARCH, Verdict.HELPS, 5, 5)
    wanted = stats.ttest_ind(HIGH, LOW, equal_var=False)
    assert only.difference is not None
    assert only.difference.mean == pytest.approx(0.002)
    assert only.difference.p == pytest.approx(wanted.pvalue)
    assert (only.difference.low, only.difference.high) == pytest.approx(tuple(wanted.confidence_interval()))
    assert found.arm("L2").scores == pytest.approx(dict(zip((1, 2, 3, 4, 5), HIGH, strict=True)))
    assert found.headlines == (
        "L2 helps: 0.20 points more test accuracy than no L2 (95% interval 0.15 to 0.25), with 1 of 16 trials each. "
        "5 independent searches per arm, 2 fresh seeds each; L2 won 5 of 5.",
    )
    assert "cannot be told from one search" not in found.sentence
    assert "98.04% test accuracy (n=5 independent searches per arm, 95% interval 98.00 to 98.08%)" in found.details


def test_refits_enter_no_estimate_and_the_best_seed_of_all_is_the_model(tmp_path: Path) -> None:
    made = begun(tmp_path / "run", 5)
    searched(made, "no L2", LOW)
    searched(made, "L2", HIGH)
    before = asked(tmp_path / "run")
    assert before.model is not None
    assert before.model_source is not None
    better = [
        made._trial(before.best or "", "refit", before.model_source, 70 + seed, (value,), State.COMPLETED, "", {})
        for seed, value in enumerate((0.5, 0.999, 0.998))
    ]
    now = asked(tmp_path / "run")
    assert (now.model, now.model_score, now.split) == (better[1], None, "test")
    assert (now.arms, now.comparisons, now.sentence) == (before.arms, before.comparisons, before.sentence)
    made.score([better[1]], [0.9871])
    now = asked(tmp_path / "run")
    assert (now.arms, now.comparisons, now.sentence) == (before.arms, before.comparisons, before.sentence)
    assert (
        f"The model that is kept is that of trial {better[1]} (98.71% test accuracy): the best of 5 seeds of the best "
        "configuration that the 5 searches of no L2 found, both by validation. Scores of arms are means over "
        "searches, without the 3 seeds that were added for the model."
    ) in now.note_texts


def test_the_measured_error_rate_is_the_same_in_the_report_and_on_the_pages(tmp_path: Path) -> None:
    texts = two_arms(tmp_path / "run", LOW, HIGH).note_texts
    found = [" ".join(texts)] + [(ROOT / page).read_text() for page in ("README.md", "docs/read.md")]
    said = r"In (\d+) simulated sweeps of two identical arms (?:it|the answer) said otherwise (\d+) times"
    assert [re.findall(said, " ".join(text.split())) for text in found] == [[("200", "7")]] * 3
    assert (IDENTICAL_SWEEPS, FALSE_VERDICTS) == (200, 7)


def test_trials_and_epochs_of_each_arm_are_said_and_unequal_epochs_have_a_way_out(tmp_path: Path) -> None:
    made = begun(tmp_path / "run", 1)
    searched(made, "no L2", (0.98,))
    searched(made, "L2", (0.98,))
    made.search("no L2", 0.9, 0.95, 0.96)
    made.search("L2", 0.9)
    found = asked(tmp_path / "run")
    assert found.arm("no L2").epochs == 5
    assert found.arm("L2").trials == 2
    assert (
        "Budget of the searches: no L2: 2 trials, 5 epochs; L2: 2 trials, 3 epochs. --budget epochs gives every search "
        "equally many epochs."
    ) in found.note_texts
    made.search("L2", 0.9)
    made.search("L2", 0.9)
    assert "Budget of the searches: no L2: 2 trials, 5 epochs; L2: 4 trials, 5 epochs." in (
        asked(tmp_path / "run").note_texts
    )


def test_the_budget_of_a_verdict_is_in_epochs_where_it_was_dealt_so(tmp_path: Path) -> None:
    found = two_arms(tmp_path / "run", LOW, HIGH, budget="epochs", epochs=6)
    assert "with 96 epochs each. 5 independent searches per arm" in found.sentence


@pytest.mark.parametrize(
    ("control", "arm", "alternatives"),
    [
        ({"l2": 0.0}, {}, False),
        ({"l2": 0.0}, {"l2": 1e-4}, False),
        ({"augment": "none"}, {"augment": "flip"}, False),
        ({}, {"dropout": 0.1}, False),
        ({"hidden": []}, {"hidden": [16]}, False),
        ({"batch_norm": False}, {"batch_norm": True}, False),
        ({"model": "lstm", "l2": 0.0}, {"model": "lstm", "l2": 1e-4}, False),
        ({"model": "lstm"}, {"model": "transformer"}, True),
        ({"hidden": [64]}, {"hidden": [64, 64]}, True),
    ],
)
def test_only_a_treatment_helps_or_hurts(control: dict[str, Any], arm: dict[str, Any], alternatives: bool) -> None:
    assert are_alternatives(control, arm) is alternatives


def test_the_verdict_of_two_models_is_that_one_is_better(tmp_path: Path) -> None:
    arms = {"no L2": {"model": "lstm"}, "L2": {"model": "transformer"}}
    found = two_arms(tmp_path / "run", LOW, HIGH, arms=arms)
    assert found.sentence.startswith("L2 is better: ")


def test_the_sentences_of_all_verdicts(tmp_path: Path) -> None:
    found = replace(two_arms(tmp_path / "run", LOW, HIGH), worth=0.001)
    seen = Difference(8, 8, 0.0021, 0.00091, 0.0033, 0.001, 1, 0.0012, 0.0030, 1e-7, 0.0, 12.0)
    helps = Comparison("L2", "no L2", Verdict.HELPS, seen, won=7, pairs=8)
    assert found.comparison_text(helps) == (
        "L2 helps: 0.21 points more test accuracy than no L2 (95% interval 0.09 to 0.33), with 1 of 16 trials each. "
        "8 independent searches per arm, 2 fresh seeds each; L2 won 7 of 8."
    )
    other = replace(seen, mean=-0.0021, low=-0.0033, high=-0.00091)
    hurts = replace(helps, verdict=Verdict.HURTS, difference=other, won=1)
    assert found.comparison_text(hurts) == (
        "L2 hurts: 0.21 points less test accuracy than no L2 (95% interval 0.09 to 0.33 less), with 1 of 16 trials "
        "each. 8 independent searches per arm, 2 fresh seeds each; L2 won 1 of 8."
    )
    for verdict, words in ((helps, "L2 is better: 0.21 points more"), (hurts, "L2 is worse: 0.21 points less")):
        assert found.comparison_text(replace(verdict, alternatives=True)).startswith(words)
    little = replace(helps, difference=replace(seen, mean=0.0005, low=0.0001, high=0.0009), small=True)
    assert found.comparison_text(little) == (
        "L2 helps, but by less than the 0.10 points worth having: 0.05 (95% interval 0.01 to 0.09), with 1 "
        "of 16 trials each. 8 independent searches per arm, 2 fresh seeds each; L2 won 7 of 8."
    )
    same = replace(seen, n=12, n_other=12, mean=0.0001, inner_low=-0.0006, inner_high=0.0008)
    assert found.comparison_text(Comparison("L2", "no L2", Verdict.NO_DIFFERENCE, same, small=True)) == (
        "L2 makes no difference worth having: between 0.06 points less and 0.08 more test accuracy than no L2 (90% "
        "interval; worth having: 0.10 points), with 1 of 16 trials each. 12 independent searches per arm."
    )
    wide = replace(seen, n=5, n_other=5, mean=0.0003, low=-0.0009, high=0.0016)
    open_ = Comparison("L2", "no L2", Verdict.CANNOT_TELL, wide, needed=12)
    assert found.comparison_text(open_) == (
        "Cannot tell yet whether L2 makes a difference: between 0.09 points less and 0.16 more test accuracy than no "
        "L2 (95% interval), with 1 of 16 trials each; 5 searches per arm. Resolving a difference of 0.10 points would "
        "take about 12 searches (7 more): --searches 12, or --until-sure 16, which stops when the answer is clear."
    )
    assert found.comparison_text(replace(open_, needed=17)).endswith("17 searches (12 more): --searches 17.")
    assert found.comparison_text(replace(open_, needed=None)).endswith(
        "Searches score too differently for 200 of them to show a difference of 0.10 points: more --trials make them "
        "more alike, more --confirm-seeds average out the luck of a seed."
    )
    few_samples = replace(open_, needed=None, difference=replace(wide, sample_variance=0.001**2))
    assert found.comparison_text(few_samples).endswith(
        "This test split is too small to resolve 0.10 points, however many searches there are: use a larger one."
    )
    useless = replace(open_, needed=5, difference=replace(wide, n=2, n_other=2, low=-1.0, high=1.0))
    assert found.comparison_text(useless) == (
        "Cannot tell yet whether L2 makes a difference: its searches score too differently for an interval, with 1 of "
        "16 trials each; 2 searches per arm. A verdict takes 4 searches or more: --searches 5."
    )


@pytest.mark.parametrize(
    ("shift", "worth", "verdict", "small"),
    [
        (0.0000, 0.001, Verdict.NO_DIFFERENCE, True),
        (0.0000, 0.0003, Verdict.CANNOT_TELL, False),
        (0.0000, None, Verdict.CANNOT_TELL, False),
        (0.0020, 0.001, Verdict.HELPS, False),
        (0.0020, 0.01, Verdict.HELPS, True),
        (-0.0020, 0.001, Verdict.HURTS, False),
    ],
)
def test_the_verdict_follows_from_interval_and_worth(
    tmp_path: Path, shift: float, worth: float | None, verdict: Verdict, small: bool
) -> None:
    found = two_arms(tmp_path / "run", LOW, [score + shift for score in LOW], worth=worth)
    (only,) = found.comparisons
    assert (only.verdict, only.small) == (verdict, small)
    assert (only.needed is not None) == (verdict is Verdict.CANNOT_TELL and worth is not None)


def test_three_searches_are_too_few_for_a_verdict_however_they_agree(tmp_path: Path) -> None:
    found = two_arms(tmp_path / "run", (0.9800, 0.9801, 0.9802), (0.9830, 0.9831, 0.9832))
    (only,) = found.comparisons
    assert only.verdict is Verdict.CANNOT_TELL
    assert only.needed == 5
    assert found.headlines[0].startswith("Cannot tell yet whether L2 makes a difference: between 0.2")
    told = (
        "more test accuracy than no L2 (95% interval), with 1 of 16 trials each; 3 searches per arm. A verdict takes 4"
    )
    assert told in found.sentence


def test_searches_that_agree_are_neither_certain_nor_unknown(tmp_path: Path) -> None:
    found = two_arms(tmp_path / "run", (0.98,) * 5, (0.985,) * 5)
    (only,) = found.comparisons
    assert only.verdict is Verdict.HELPS
    assert only.difference is not None
    assert only.difference.low is not None
    assert 0.003 < only.difference.low < 0.005


def test_a_search_of_which_nothing_trained_counts_as_a_constant_prediction(tmp_path: Path) -> None:
    made = begun(tmp_path / "run")
    searched(made, "no L2", LOW[:4])
    made.search("no L2", 0.3, state=State.DIVERGED, search=5)
    searched(made, "L2", LOW)
    found = asked(tmp_path / "run")
    assert found.arm("no L2").scores[5] == 0.1135
    assert found.arm("no L2").failed_searches == 1
    assert FailedSearches("no L2", 1, 5, 0.1135) in found.notes
    assert "Of 5 searches of no L2, 1 found nothing that trains: each counts as 11.35%." in found.note_texts
    assert found.best == "L2"


def test_a_seed_that_diverged_counts_within_its_search(tmp_path: Path) -> None:
    made = begun(tmp_path / "run")
    searched(made, "no L2", LOW)
    searched(made, "L2", LOW[:4])
    source = made.search("L2", 0.98, search=5)
    good = made.confirm("L2", source, 51, 0.98, search=5)
    made.confirm("L2", source, 52, 0.2, state=State.DIVERGED, search=5)
    made.score([good], [0.98])
    found = asked(tmp_path / "run")
    assert found.arm("L2").scores[5] == pytest.approx((0.98 + 0.1135) / 2)
    assert "Of 2 confirmations of L2, trial" in found.sentence
    assert "1 diverged; each counts as 11.35%, what a constant prediction scores." in found.sentence


def test_searches_that_are_not_scored_yet_leave_the_verdict_open(tmp_path: Path) -> None:
    made = begun(tmp_path / "run")
    searched(made, "no L2", LOW)
    searched(made, "L2", LOW[:4])
    source = made.search("L2", 0.98, search=5)
    made.confirm("L2", source, 51, 0.98, search=5)
    found = asked(tmp_path / "run")
    assert found.split == "validation"
    assert [one.verdict for one in found.comparisons] == [Verdict.NO_TEST_SCORES]


def test_the_model_is_the_best_seed_of_the_best_search_of_the_better_arm(tmp_path: Path) -> None:
    made = begun(tmp_path / "run", 2)
    for arm, validation in (("no L2", 0.97), ("L2", 0.98)):
        for search in (1, 2):
            source = made.search(arm, 0.99, search=search)
            for seed in (1, 2):
                made.confirm(arm, source, seed, validation + search / 1000 + seed / 10_000, search=search)
    found = asked(tmp_path / "run")
    assert found.best == "L2"
    assert found.model == made.trials  # the last one
    assert any("the better of 2 seeds of the best configuration that the 2 searches of L2 found" in line
               for line in found.note_texts)  # fmt: skip


def test_looks_at_the_test_split_are_counted(tmp_path: Path) -> None:
    made = begun(tmp_path / "run")
    searched(made, "no L2", LOW)
    searched(made, "L2", LOW)
    made.record.set_meta(LOOKS, [4])
    made.record.commit()
    assert not any("scored after" in line for line in asked(tmp_path / "run").note_texts)
    made.record.set_meta(LOOKS, [4, 5])
    made.record.commit()
    assert any("scored after 4 and 5 searches per arm" in line for line in asked(tmp_path / "run").note_texts)


# -- the crossed interval ------------------------------------------------------------------------------------------


def test_the_crossed_interval_is_the_formula_by_hand() -> None:
    a = np.array([[1.0, 1, 1, 0], [1, 1, 0, 1], [1, 0, 1, 1], [1, 1, 1, 1]])
    b = np.array([[0.0, 1, 0, 0], [1, 0, 0, 1], [0, 0, 1, 1], [1, 0, 0, 0]])
    found = crossed_difference(a, b, share=True)
    means = [0.75, 0.75, 0.75, 1.0], [0.25, 0.5, 0.5, 0.25]
    between = [np.var(side, ddof=1) for side in means]  # 1/64 and 1/48
    within = [side.var(axis=0, ddof=1).mean() - s2 for side, s2 in zip((a, b), between, strict=True)]
    differences = np.array([0.5, 0.5, 0.5, 0.25])
    sample = max(0.0, differences.var(ddof=1) - sum(e2 / 4 for e2 in within)) / 4
    least = 0.4375 / 4 / 2  # of a side: two shares that differ by so much on four samples
    sides = [max(s2, e2 / 4, least) / 4 for s2, e2 in zip(between, within, strict=True)]
    variance = sum(sides)
    freedom = (variance + sample) ** 2 / sum(side**2 / 3 for side in sides)
    margin = stats.t.ppf(0.975, freedom) * math.sqrt(variance + sample)
    assert found.mean == pytest.approx(0.4375)
    assert (found.variance, found.sample_variance) == (pytest.approx(variance), pytest.approx(sample))
    assert (found.low, found.high) == (pytest.approx(0.4375 - margin), pytest.approx(0.4375 + margin))
    inner = stats.t.ppf(0.95, freedom) * math.sqrt(variance + sample)
    assert (found.inner_low, found.inner_high) == (pytest.approx(0.4375 - inner), pytest.approx(0.4375 + inner))


def test_few_samples_widen_the_interval_and_many_do_not() -> None:
    draw = np.random.default_rng(3)

    def arms(samples: int) -> tuple[np.ndarray, np.ndarray]:
        taste = draw.normal(0, 0.2, (2, samples))  # of an arm for a sample
        return tuple(0.9 + one + draw.normal(0, 0.01, (5, samples)) for one in taste)  # type: ignore[return-value]

    few, many = (crossed_difference(*arms(samples)) for samples in (100, 100_000))
    assert few.variance is not None
    assert many.variance is not None
    assert few.sample_variance > 10 * few.variance
    assert math.sqrt(many.sample_variance) == pytest.approx(math.sqrt(0.08 / 100_000), rel=0.02)


def test_bits_of_every_model_cross_the_comparison_with_the_samples(tmp_path: Path) -> None:
    made = begun(tmp_path / "run", 4, data=DATA | {"test": 100})
    draw = np.random.default_rng(1)
    matrices = {}
    for arm, right in (("no L2", 0.8), ("L2", 0.9)):
        rows = []
        for search in range(1, 5):
            source = made.search(arm, 0.9, search=search)
            bits = draw.random((2, 100)) < right
            trials = [made.confirm(arm, source, seed, 0.9, search=search) for seed in (1, 2)]
            made.score(trials, bits.mean(axis=1).tolist())
            for trial, one in zip(trials, bits, strict=True):
                made.record.add_sample_scores(trial, "test", "accuracy", 100, np.packbits(one).tobytes())
            rows.append(bits.mean(axis=0))
        matrices[arm] = np.array(rows)
    made.record.commit()
    found = asked(tmp_path / "run")
    assert found.comparisons[0].difference == crossed_difference(matrices["L2"], matrices["no L2"], share=True)
    assert any("hold for other samples like those of this test split, too" in line for line in found.note_texts)


def test_sample_scores_that_do_not_fit_their_number_are_refused(tmp_path: Path) -> None:
    made = begun(tmp_path / "run", 4)
    trial = made.search("L2", 0.9)
    made.record.add_sample_scores(trial, "test", "accuracy", 100, b"too few")
    made.record.commit()
    with Reader(tmp_path / "run") as reader, pytest.raises(RecordError, match="must be 13 bytes for 100 samples"):
        reader.sample_scores("accuracy")


def test_a_record_without_sample_scores_and_searches_opens_and_gets_both(tmp_path: Path) -> None:
    made = begun(tmp_path / "run", 1)
    number = made.search("L2", 0.9)
    db = made.record._db
    made.record.commit()
    for sql in (
        "UPDATE trials SET search = NULL",
        "DROP TABLE sample_scores",
        "DROP TRIGGER temp.trials_added",
        "DROP TRIGGER temp.trials_changed",
        "ALTER TABLE trials DROP COLUMN search",
        "DELETE FROM meta WHERE key = 'schema'",
    ):
        db.execute(sql)
    db.close()
    with Reader(tmp_path / "run") as reader:
        assert reader.sample_scores("accuracy") == {}
        assert [trial.search for trial in reader.trials()] == [1]
    with Record(tmp_path / "run") as record:
        record.add_sample_scores(number, "test", "loss", 1, b"1234")
    with Reader(tmp_path / "run") as reader:
        reader.verify()
        assert reader.sample_scores("loss") == {number: (1, b"1234")}


# -- what it would take --------------------------------------------------------------------------------------------


def test_searches_needed_are_planned_from_worth_and_not_from_what_was_seen() -> None:
    seen = Difference(5, 5, 0.0, -0.001, 0.001, 0.9, 1, -0.001, 0.001, 2e-7, 0.0, 8.0)
    wanted = searches_needed(seen, 0.0015)
    assert wanted is not None
    assert searches_needed(replace(seen, mean=0.001), 0.0015) == wanted
    assert searches_needed(seen, 0.001) > wanted > 5  # type: ignore[operator]
    # By simulation: with the upper limit of the spread, so many searches see it in 80% of cases or a little more.
    sd = math.sqrt(2e-7 * 5 / 2 * 8 / stats.chi2.ppf(0.2, 8))
    draw = np.random.default_rng(0)
    a, b = (draw.normal(shift, sd, (4000, wanted)) for shift in (0.0015, 0.0))
    seen_by = float(np.mean(stats.ttest_ind(a, b, axis=1, equal_var=False).pvalue < 0.05))
    assert 0.78 < seen_by < 0.9
    assert searches_needed(replace(seen, sample_variance=1e-6), 0.0015) is None  # no number of searches adds samples


def test_until_sure_widens_the_interval_and_says_so(tmp_path: Path) -> None:
    plain = two_arms(tmp_path / "plain", LOW, [score + 0.0002 for score in LOW])
    found = two_arms(tmp_path / "sure", LOW, [score + 0.0002 for score in LOW], until_sure=12)
    once, again = plain.comparisons[0].difference, found.comparisons[0].difference
    assert once is not None
    assert again is not None
    wanted = stats.ttest_ind([score + 0.0002 for score in LOW], LOW, equal_var=False).confidence_interval(1 - 0.0152)
    assert (again.low, again.high) == pytest.approx(tuple(wanted))
    assert again.low < once.low < once.inner_low  # type: ignore[operator]
    assert (again.inner_low, again.inner_high) == (again.low, again.high)
    assert any("Searches were added until the answer was sure, up to 12 per arm" in line for line in found.note_texts)


def test_the_table_answer_holds_the_scores_that_the_comparison_is_made_of(tmp_path: Path) -> None:
    found = two_arms(tmp_path / "run", LOW, HIGH)
    with Reader(tmp_path / "run") as reader:
        made = tables(reader)
    rows = made.answer.to_pandas()
    control, other = (rows[rows.arm == arm].score for arm in ("no L2", "L2"))
    (only,) = found.comparisons
    assert only.difference is not None
    assert other.mean() - control.mean() == pytest.approx(only.difference.mean)
    interval = stats.ttest_ind(other, control, equal_var=False).confidence_interval()
    assert tuple(interval) == pytest.approx((only.difference.low, only.difference.high))
    assert rows.search.tolist() == [1, 2, 3, 4, 5] * 2
    assert rows.control.tolist() == [True] * 5 + [False] * 5
    assert set(rows.measure) == {"test accuracy"}
    assert set(rows.models) == {2}
    scored = made.trials.to_pandas().set_index("trial").test_accuracy
    for row in rows.itertuples():  # the mean of its search's two seeds
        assert scored[made.trials.to_pandas().query("source == @row.source").trial].mean() == pytest.approx(row.score)


def test_with_one_search_the_table_answer_has_a_row_for_each_seed(tmp_path: Path) -> None:
    with Reader(confirmed.two_arms(tmp_path / "run")) as reader:
        rows = tables(reader).answer.to_pandas()
    assert rows[rows.arm == "no L2"].score.tolist() == pytest.approx(confirmed.NO_L2)
    assert rows.seed.tolist() == [*confirmed.SEEDS] * 2
    assert rows.search.isna().all()
