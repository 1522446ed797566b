"""The Pareto front, counted by hand: in the tables, the terminal and the report."""

import json
from pathlib import Path

import optuna
import pytest

from rungwise.results.analysis.pareto import front, lines, points
from rungwise.results.cli.show import Selection, trial_table
from rungwise.results.exporters.optuna_storage import write
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.results.record.writer import Record
from rungwise.results.report.report import render
from rungwise.results.tables.tables import tables

LR = {
    "lr": json.dumps({"name": "FloatDistribution", "attributes": {"low": 0.0, "high": 1.0, "log": False, "step": None}})
}
SCORES = {1: (0.9, 300.0), 2: (0.8, 100.0), 3: (0.85, 300.0), 4: (0.9, 400.0), 5: (0.95, 500.0), 6: (0.99, 10.0)}


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Six trials with accuracy and size; the sixth was stopped, and so is on no front."""
    with Record(tmp_path) as record:
        record.start_session({})
        record.set_meta(
            "definition",
            {"name": "two", "metric": "val_accuracy", "mode": "max", "arms": {"all": {}}, "epochs": 2,
             "objectives": {"val_accuracy": "max", "parameters": "min"}},
        )  # fmt: skip
        for number, (accuracy, size) in SCORES.items():
            record.add_trial(
                number, arm="all", phase="search", config={"lr": 0.1}, params={"lr": 0.1}, distributions=LR
            )
            record.start_attempt(number)
            for epoch, value in ((1, 0.999), (2, accuracy)):  # what a trial had on the way does not count
                metrics = {"epoch": epoch, "val_accuracy": value, "parameters": size, "seconds": 1.0}
                record.add_report(number, 1, epoch, metrics)
            record.end_trial(number, State.STOPPED if number == 6 else State.COMPLETED)
    return tmp_path


def test_a_point_is_on_the_front_when_no_other_beats_it() -> None:
    assert front({k: v for k, v in SCORES.items() if k != 6}, ["max", "min"]) == {1, 2, 5}
    assert front(SCORES, ["max", "min"]) == {6}
    assert front({"a": (1.0, 1.0), "b": (1.0, 1.0)}, ["min", "min"]) == {"a", "b"}  # equals do not beat each other
    assert front({"a": (1.0, 2.0), "b": (1.0, 1.0)}, ["min", "min"]) == {"b"}
    assert front({}, ["max"]) == set()


def test_the_front_is_a_column_lines_and_a_part_of_the_page(two: Path) -> None:
    with Reader(two) as reader:
        found = points(reader)
        column = tables(reader).trials.column("pareto").to_pylist()
    assert [point.trial.trial for point in found] == [5, 1, 4, 3, 2]
    assert column == [True, True, False, False, True, False]
    assert lines(found) == [
        "front   val_accuracy 95.00%, parameters 500 (trial 5) with lr=0.1",
        "front   val_accuracy 90.00%, parameters 300 (trial 1) with lr=0.1",
        "front   val_accuracy 80.00%, parameters 100 (trial 2) with lr=0.1",
    ]
    page = render(two)
    assert 'id="pareto"' in page
    assert "5 completed trials; 3 of them are on the Pareto front" in page


def test_a_trial_that_breaks_a_constraint_is_on_no_front(two: Path) -> None:
    with Reader(two) as reader:
        definition = reader.meta("definition")
    with Record(two) as record:
        record.set_meta("definition", definition | {"constraints": {"parameters": ["<=", 400.0]}})
    with Reader(two) as reader:
        found = [(point.trial.trial, point.front) for point in points(reader)]
        column = tables(reader).trials.column("pareto").to_pylist()
    assert found == [(1, True), (4, False), (3, False), (2, True)]
    assert column == [True, True, False, False, False, False]


def test_show_has_a_column_for_each_objective_and_the_front(two: Path) -> None:
    with Reader(two) as reader:
        table = trial_table(reader, Selection().rows(tables(reader).trials), 3, brief=False)
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert columns["trial"] == ["1", "2", "3"]  # all had 0.999 on the way
    assert columns["parameters"] == ["300", "100", "300"]
    assert columns["front"] == ["yes", "yes", ""]


def test_optunas_dashboard_gets_a_study_of_both_objectives(two: Path) -> None:
    storage = f"sqlite:///{two}/optuna.db"
    with Reader(two) as reader:
        (name,) = write(reader, storage)
    study = optuna.load_study(study_name=name, storage=storage)
    assert study.metric_names == ["val_accuracy", "parameters"]
    assert {trial.number + 1 for trial in study.best_trials} == {1, 2, 5}


def test_a_sweep_for_one_objective_has_no_front(run: Path) -> None:
    with Reader(run) as reader:
        assert points(reader) == []
        assert "pareto" not in tables(reader).trials.column_names
    assert 'id="pareto"' not in render(run)
