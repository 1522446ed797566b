"""Answers of sweeps by cross-validation: the corrected resampled t-test, and what counts as the score of a trial."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support import demo
from support.confirmed import DATA, Sweep, asked, begun, searched

from rungwise.results.analysis.compare import compare_folders
from rungwise.results.analysis.findings import Verdict
from rungwise.results.analysis.statistics import difference, estimate, resampled_difference, searches_needed
from rungwise.results.record.reader import Reader
from rungwise.results.report.snapshot import FrozenReader, read
from rungwise.results.report.trial_panel import panel_data
from rungwise.results.tables.tables import tables

FIFTHS = DATA | {"train": 80, "validation": 120, "test": 30, "test_parts": 5}
T4 = 2.7764  # Student's t, 0.975 quantile, 4 degrees of freedom
DIFFERENCES = [0.02, 0.05, 0.01, 0.06, 0.03]  # mean 0.034, variance 4.3e-4


def test_the_interval_is_that_of_the_corrected_resampled_t_test() -> None:
    """Nadeau and Bengio 2003, section 4: variance (1/J + n_test/n_train) s2, J - 1 degrees of freedom."""
    found = resampled_difference(DIFFERENCES, 30 / 120)
    error = math.sqrt((1 / 5 + 1 / 4) * 4.3e-4)
    assert found.mean == pytest.approx(0.034)
    assert (found.low, found.high) == (
        pytest.approx(0.034 - T4 * error, abs=1e-5),
        pytest.approx(0.034 + T4 * error, abs=1e-5),
    )
    assert found.p == pytest.approx(2 * stats.t.sf(0.034 / error, 4))
    three = resampled_difference(DIFFERENCES, 0.25, 3)
    assert three.low == pytest.approx(0.034 - stats.t.ppf(1 - 0.05 / 6, 4) * error)
    uncorrected = resampled_difference(DIFFERENCES, 0.0)
    assert (uncorrected.low, uncorrected.high) == pytest.approx(
        tuple(stats.ttest_1samp(DIFFERENCES, 0).confidence_interval())
    )


def test_the_correction_keeps_its_level_where_searches_are_as_alike_as_it_takes_them_to_be() -> None:
    """Differences whose correlation is the share of test samples, 1/5: without the correction a third errs."""
    draw = np.random.default_rng(0)
    shared, own = draw.normal(size=(2000, 1)), draw.normal(size=(2000, 10))
    differences = math.sqrt(0.2) * shared + math.sqrt(0.8) * own

    def errors(ratio: float) -> float:
        found = [resampled_difference(row.tolist(), ratio) for row in differences]
        return sum((one.low or 0) > 0 or (one.high or 0) < 0 for one in found) / len(found)

    assert 0.04 < errors(0.25) < 0.062
    assert errors(0.0) > 0.2


def test_searches_that_agree_are_not_certain_and_one_has_no_interval() -> None:
    """Two models that differ on a tenth of 5 x 30 samples at least: see `discordance`."""
    for searches, samples in ((4, 4 * 30), (5, 5 * 30), (8, 5 * 30)):  # no more than there are
        found = resampled_difference([0.1] * searches, 0.25, share=True, samples=30)
        assert found.low == pytest.approx(0.1 - stats.t.ppf(0.975, searches - 1) * math.sqrt(0.1 / samples))
    assert resampled_difference([0.1], 0.25).low is None
    with pytest.raises(ValueError, match="must have a value"):
        resampled_difference([], 0.25)


def test_a_level_over_several_test_splits_is_wider_than_over_one() -> None:
    values = [0.9, 0.92, 0.95, 0.91, 0.93]
    plain, shared = estimate(values), estimate(values, ratio=0.25)
    assert plain.low is not None
    assert shared.low is not None
    assert shared.mean - shared.low == pytest.approx((plain.mean - plain.low) * math.sqrt((1 / 5 + 1 / 4) * 5))
    near_one = estimate([0.95, 0.99, 1.0, 0.97], share=True, samples=30, ratio=0.25)
    assert near_one.high == 1.0  # cut off, as the truth cannot lie beyond
    alike = estimate([1.0] * 5, share=True, samples=30, ratio=0.25)
    assert alike.low == pytest.approx(1 - T4 / 150)  # one of all samples


def test_more_searches_tell_less_where_they_share_samples() -> None:
    independent = difference([one + 0.9 for one in DIFFERENCES], [0.9, 0.91, 0.9, 0.89, 0.9])
    shared = resampled_difference(DIFFERENCES, 0.25)
    assert searches_needed(independent, 0.05) is not None
    assert searches_needed(shared, 0.04) is None
    needed = searches_needed(shared, 0.07)
    assert needed is not None
    assert needed > 5


def nested(folder: Path, **changed: Any) -> Sweep:
    return begun(folder, data=FIFTHS, folds=5, epochs=2, **changed)


def test_arms_are_compared_search_by_search_on_the_test_part_of_each(tmp_path: Path) -> None:
    made, control = nested(tmp_path / "run"), [0.80, 0.95, 0.70, 0.90, 0.85]
    searched(made, "no L2", control)
    searched(made, "L2", [one + more + 0.05 for one, more in zip(control, DIFFERENCES, strict=True)])
    found = asked(tmp_path / "run")
    (one,) = found.comparisons
    assert one.verdict is Verdict.HELPS  # though parts differ by 25 points, arms differ by 6 to 11 on each
    expected = resampled_difference([more + 0.05 for more in DIFFERENCES], 1 / 4, share=True, samples=30)
    assert one.difference is not None
    assert one.difference.low == pytest.approx(expected.low)
    judged = "5 searches per arm by 5-fold cross-validation, each tested on another fifth of the samples"
    assert judged in found.sentence
    assert "independent" not in found.sentence
    notes = " ".join(found.note_texts)
    assert "corrected for the samples that searches share (Nadeau and Bengio 2003)" in notes
    assert "Validation scores are means over 5 folds" in notes
    assert "On another 30 samples" not in notes  # the interval holds for other samples


def test_two_runs_are_compared_search_by_search_too(tmp_path: Path) -> None:
    control = [0.80, 0.95, 0.70, 0.90, 0.85]
    better = [one + more + 0.05 for one, more in zip(control, DIFFERENCES, strict=True)]
    for name, scores in (("first", control), ("second", better)):
        made = nested(tmp_path / name)
        searched(made, "no L2", control)
        searched(made, "L2", scores)
    (same, other) = compare_folders(tmp_path / "first", tmp_path / "second").rows
    assert (same.difference, same.arm) == (resampled_difference([0.0] * 5, 0.25, 2, share=True, samples=30), "no L2")
    assert other.difference is not None
    assert other.difference.ratio == 0.25
    assert other.difference.mean == pytest.approx(0.084)
    made = nested(tmp_path / "short", searches=1)
    made.score([made.confirm("L2", made.search("L2", 0.9), seed, 0.9) for seed in (1, 2)], [0.9, 0.91])
    assert "one search is tested on a part" in compare_folders(tmp_path / "first", tmp_path / "short").problems[0]


def test_with_one_search_the_interval_is_over_seeds_and_says_so(tmp_path: Path) -> None:
    made = nested(tmp_path / "run", searches=1)
    for arm, score in (("no L2", 0.9), ("L2", 0.95)):
        source = made.search(arm, 0.97, 0.98)
        made.score([made.confirm(arm, source, seed, 0.98) for seed in (1, 2)], [score, score + 0.01])
    found = asked(tmp_path / "run")
    assert found.comparisons[0].verdict is Verdict.ONE_SEARCH
    assert any("On another 30 samples" in line for line in found.note_texts)


def test_searches_of_data_with_a_test_split_of_its_own_are_independent(tmp_path: Path) -> None:
    made = begun(tmp_path / "run", data=DATA, folds=5)
    searched(made, "no L2", [0.9] * 5)
    searched(made, "L2", [0.93, 0.94, 0.95, 0.94, 0.93])
    found = asked(tmp_path / "run")
    assert "5 independent searches per arm by 5-fold cross-validation, 2 fresh seeds each" in found.sentence


def test_the_mean_over_most_folds_is_a_trials_score_and_more_folds_rank_first(tmp_path: Path) -> None:
    record, _ = demo.begin(tmp_path / "run", folds=3, epochs=2)
    made = Sweep(record)
    whole = made.search("L2", 0.99, 0.95, 0.91)
    short = made.search("L2", 0.98, state=demo.State.STOPPED)
    record.add_report(whole, 1, 4, demo.metrics(8.0, 0.9, fold_val_accuracy=0.87))
    record.commit()
    with Reader(tmp_path / "run") as reader:
        trials = tables(reader).trials
        columns = tables(reader).reports.schema
    rows = {row["trial"]: row for row in trials.to_pylist()}
    assert (rows[whole]["best_val_accuracy"], rows[whole]["rank"]) == (0.9, 1)
    assert (rows[short]["best_val_accuracy"], rows[short]["rank"]) == (0.98, 2)
    assert b"in the last fold alone" in columns.field("fold_val_accuracy").metadata[b"description"]
    assert b"mean over the folds so far" in columns.field("val_accuracy").metadata[b"description"]
    assert asked(tmp_path / "run").arm("L2").seen == 0.9
    with FrozenReader(tmp_path / "run") as frozen:
        panel = panel_data(read(frozen), tmp_path / "run")["trials"][whole]["about"]
    assert ("validation accuracy of its folds", "none, none, none, 87.00%") in panel
