"""What is worth having is fixed before the first test score, and looks at the test split are counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import demo
from support.confirmed import sweep

from rungwise import FloatDistribution, Sweep
from rungwise.engine.experiment.command_line import parse
from rungwise.engine.experiment.experiment import Experiment, resolve
from rungwise.engine.validation import check
from rungwise.engine.worth import add_search, fix_worth, record_look, with_added_searches, worth_change
from rungwise.results.analysis.answer import LOOKS, WORTH
from rungwise.results.record.reader import Reader
from rungwise.results.record.writer import Record

SWEEP = Sweep(
    name="worth",
    space={"lr": FloatDistribution(1e-3, 1e-1, log=True)},
    arms={"no L2": {"l2": 0.0}, "L2": {"l2": 0.1}},
    data="digits",
)


def asked(**changed: Any) -> Experiment:
    return resolve(replace(SWEEP, **changed))


def confirmed(folder: Path, validation: float, reported: str = "", **definition: Any) -> Record:
    """The control's only confirmation, not scored yet, ended with this validation objective."""
    made = sweep(folder, arms=SWEEP.arms, **definition)
    made.confirm("no L2", made.search("no L2", 0.9), 11, validation, metric=reported)
    return made.record


@pytest.mark.parametrize(
    ("accuracy", "worth"), [(0.983, 0.0009), (0.993, 0.0004), (0.90, 0.005), (1.0, 0.0001), (0.4, 0.03)]
)
def test_by_default_it_is_a_twentieth_of_the_controls_error_to_one_digit(
    tmp_path: Path, accuracy: float, worth: float
) -> None:
    with confirmed(tmp_path / "run", accuracy) as record:
        fix_worth(record, asked())
        with Reader(tmp_path / "run") as reader:
            assert reader.meta(WORTH) == {"value": pytest.approx(worth), "given": False}


def test_of_a_loss_it_is_a_twentieth_of_the_loss(tmp_path: Path) -> None:
    told: dict[str, Any] = {"metric": "val_loss", "mode": "min"}
    with confirmed(tmp_path / "run", 0.41, "val_loss", **told) as record:
        fix_worth(record, asked(**told))
        with Reader(tmp_path / "run") as reader:
            assert reader.meta(WORTH) == {"value": pytest.approx(0.02), "given": False}


def test_of_a_score_without_an_upper_end_it_is_a_twentieth_of_the_score(tmp_path: Path) -> None:
    told: dict[str, Any] = {"metric": "reward", "mode": "max"}
    with confirmed(tmp_path / "run", 210.0, "reward", **told) as record:
        fix_worth(record, asked())
        with Reader(tmp_path / "run") as reader:
            assert reader.meta(WORTH) == {"value": pytest.approx(10.0), "given": False}


def test_a_test_score_fixes_it_and_a_changed_one_is_told(tmp_path: Path) -> None:
    with confirmed(tmp_path / "run", 0.9) as record, Reader(tmp_path / "run") as reader:
        fix_worth(record, asked(worth=0.2))
        assert reader.meta(WORTH) == {"value": pytest.approx(0.002), "given": True}
        fix_worth(record, asked(worth=0.3))  # nothing is scored yet
        assert worth_change(reader, asked(worth=0.4)) == []
        record.add_score(2, "test", "accuracy", 0.9)
        fix_worth(record, asked(worth=0.4))
        assert reader.meta(WORTH) == {"value": pytest.approx(0.003), "given": True}
        assert worth_change(reader, asked(worth=0.4)) == ["worth: 0.3 -> 0.4, after the test split was scored"]
        assert worth_change(reader, asked(worth=0.3)) == worth_change(reader, asked()) == []


def test_a_look_counts_once_for_each_number_of_searches(tmp_path: Path) -> None:
    with confirmed(tmp_path / "run", 0.9) as record, Reader(tmp_path / "run") as reader:
        record_look(record, 5)
        assert reader.meta(LOOKS) is None  # nothing was scored
        record.add_score(2, "test", "accuracy", 0.9)
        record.commit()
        for searches in (5, 5, 4, 12):
            record_look(record, searches)
        assert reader.meta(LOOKS) == [5, 12]


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--searches", "0"), "--searches must be at least 1 (got 0)"),
        (("--worth", "0"), "--worth must be greater than 0 (got 0.0)"),
        (("--worth", "-1"), "--worth must be greater than 0 (got -1.0)"),
        (("--worth", "nan"), "--worth must be greater than 0 (got nan)"),
        (("--order", "fixd"), "unknown --order"),
        (("--budget", "epoch"), "unknown --budget 'epoch'; did you mean 'epochs'?"),
        (("--trials", "0"), "--trials must be at least 1 (got 0)"),
        (("--refit-seeds", "-1"), "--refit-seeds must be at least 0 (got -1)"),
        (("--untuned-seeds", "-1"), "--untuned-seeds must be at least 0 (got -1)"),
    ],
)
def test_what_cannot_be_is_refused_before_ray(tmp_path: Path, flags: tuple[str, ...], line: str) -> None:
    options = parse(SWEEP, ["--out", str(tmp_path / "runs"), *flags])
    found = check.problems(resolve(SWEEP, options), options)
    assert [one for one in found if one.startswith(line)], found


def test_a_test_split_of_one_class_is_refused_before_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from rungwise.trainable.data import dataset

    whole = dataset.load("digits")
    assert whole.test is not None
    only = np.flatnonzero(whole.test.y == 3)
    one = replace(whole, test=replace(whole.test, x=whole.test.x[only], y=whole.test.y[only]))
    monkeypatch.setattr(dataset, "load", lambda *_: one)
    options = parse(SWEEP, ["--out", str(tmp_path / "runs")])
    way = "; split the data otherwise (docs/data.md)"
    problem = f"the test split must contain samples of two classes, but contains only '3'{way}"
    assert problem in check.problems(resolve(SWEEP, options), options)
    for lacking in (
        replace(whole, test=None),
        replace(one, test=replace(one.test, x=one.test.x[:0], y=one.test.y[:0])),
    ):
        monkeypatch.setattr(dataset, "load", lambda *_, lacking=lacking: lacking)
        problem = f"the test split must contain samples of two classes, but contains none{way}"
        assert problem in check.problems(resolve(SWEEP, options), options)


def test_defaults_follow_from_the_arms_and_flags_win() -> None:
    two, one = asked(), resolve(replace(SWEEP, arms={"all": {}}))
    assert (two.searches, two.order, two.confirm_configs, two.confirm_seeds) == (5, "fixed", 1, 2)
    assert (one.searches, one.order, one.confirm_configs, one.confirm_seeds) == (1, "arrival", 3, 5)
    flags = parse(SWEEP, ["--searches", "1", "--concurrency", "8"])
    wide = resolve(SWEEP, flags)
    assert (wide.searches, wide.order, wide.confirm_configs, wide.confirm_seeds) == (1, "arrival", 3, 5)
    assert demo.DEFINITION["arms"].keys() == SWEEP.arms.keys()
    assert resolve(SWEEP, parse(SWEEP, ["--searches", "1", "--concurrency", "1"])).order == "fixed"


def test_searches_are_added_while_the_answer_is_open_and_no_more_than_allowed(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run", arms=SWEEP.arms, trials=1, searches=4, until_sure=6, order="fixed")
    scores = {"no L2": (0.90, 0.92, 0.94, 0.96, 0.98, 0.97), "L2": (0.91, 0.90, 0.95, 0.94, 0.99, 0.95)}

    def search(number: int) -> None:
        for arm, values in scores.items():
            source = made.search(arm, 0.9, search=number)
            made.score([made.confirm(arm, source, number, 0.9, search=number)], [values[number - 1]])

    for number in (1, 2, 3, 4):
        search(number)
    experiment = asked(trials=1, searches=4)
    assert add_search(made.record, experiment) is None  # nobody asked for more
    experiment = replace(experiment, until_sure=6)
    more = add_search(made.record, experiment)
    assert more is not None
    assert more.searches == 5
    with Reader(tmp_path / "run") as reader:
        assert reader.definition().searches == 5
    assert with_added_searches(made.record, experiment).searches == 5  # a driver that begins anew goes on there
    assert with_added_searches(made.record, asked(trials=1, searches=4)).searches == 4
    for number in (5, 6):
        search(number)
    more = add_search(made.record, more)
    assert more is not None
    assert add_search(made.record, more) is None  # 6 are all


def test_a_sure_answer_adds_no_search(tmp_path: Path) -> None:
    made = sweep(tmp_path / "run", arms=SWEEP.arms, trials=1, searches=4, until_sure=12, order="fixed")
    for arm, score in (("no L2", 0.90), ("L2", 0.95)):
        for number in (1, 2, 3, 4):
            source = made.search(arm, 0.9, search=number)
            made.score([made.confirm(arm, source, number, 0.9, search=number)], [score + number / 1000])
    assert add_search(made.record, replace(asked(trials=1, searches=4), until_sure=12)) is None


def test_until_sure_without_a_number_means_twelve() -> None:
    assert parse(SWEEP, ["--until-sure"]).until_sure == 12
    assert parse(SWEEP, ["--until-sure", "--quiet"]).until_sure == 12
    assert parse(SWEEP, ["--until-sure", "6", "--quiet"]).until_sure == parse(SWEEP, ["--until-sure=6"]).until_sure == 6
    assert parse(SWEEP, []).until_sure == 0


@pytest.mark.parametrize("most", ["1", "3", "17"])
def test_until_sure_outside_the_known_levels_is_refused(tmp_path: Path, most: str) -> None:
    options = parse(SWEEP, ["--out", str(tmp_path / "runs"), "--until-sure", most])
    problem = f"--until-sure takes 4 to 16 searches (got {most})"
    assert problem in check.problems(resolve(SWEEP, options), options)
