"""The tables say what the record says: counted by hand on a run with a trial in every state."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pytest
from support.demo import INF, add, attempt, begin

from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.results.tables.tables import Tables, tables


@pytest.fixture
def both(run: Path) -> Tables:
    with Reader(run) as reader:
        return tables(reader)


def row(table: pa.Table, trial: int) -> dict[str, object]:
    return next(row for row in table.to_pylist() if row["trial"] == trial)


def test_every_trial_is_one_row_and_every_report_is_one_row(run: Path, both: Tables) -> None:
    with Reader(run) as reader:
        trials, reports = reader.trials(), list(reader.reports())
    assert both.trials["trial"].to_pylist() == [trial.trial for trial in trials] == list(range(1, 9))
    assert both.trials["state"].to_pylist() == [trial.state for trial in trials]
    told = {report.seq: report for report in reports}
    assert both.reports.num_rows == len(told)
    for line in both.reports.to_pylist():
        report = told[line["seq"]]
        assert (line["trial"], line["attempt"], line["step"]) == (report.trial, report.attempt, report.step)
        assert line["at"].timestamp() == pytest.approx(report.at, abs=1e-6)
        for name, value in report.metrics.items():
            assert line[name] == value or (math.isnan(value) and math.isnan(line[name]))
        assert {name for name in ("val_accuracy", "val_f1", "lr") if line[name] is None} == {
            name for name in ("val_accuracy", "val_f1", "lr") if name not in report.metrics
        }


def test_nan_and_infinity_stay_and_null_means_not_reported(both: Tables) -> None:
    last = both.reports.filter((pa.compute.field("trial") == 3) & (pa.compute.field("step") == 2)).to_pylist()[0]
    assert math.isnan(last["val_loss"])
    assert math.isnan(last["val_accuracy"])
    assert last["train_loss"] == INF
    assert last["penalty"] == -INF
    assert last["val_f1"] is None


def test_the_decision_at_a_rung_is_kept(both: Tables) -> None:
    decided = [line for line in both.reports.to_pylist() if line["rung"] is not None]
    assert [(line["trial"], line["rung"], line["cutoff"], line["stopped"]) for line in decided] == [(2, 1.0, 0.5, True)]
    stopped = row(both.trials, 2)
    assert (stopped["stop_rung"], stopped["cutoff"]) == (1.0, 0.5)


def test_best_is_over_finite_reports_of_the_last_attempt(both: Tables) -> None:
    best = {line["trial"]: (line["best_value"], line["best_step"]) for line in both.trials.to_pylist()}
    assert best[1] == (0.9, 3)
    assert best[3] == (0.99, 1)  # its NaN at step 2 is no value
    assert best[5] == (0.95, 2)  # attempt 2 never came to step 2
    assert best[6] == (0.85, 4)  # attempt 2 took back the 0.97 of step 2
    assert best[4] == best[7] == best[8] == (None, None)
    assert both.trials["best_val_accuracy"].equals(both.trials["best_value"])


def test_a_diverged_failed_or_lost_trial_has_no_rank(both: Tables) -> None:
    ranks = dict(zip(both.trials["trial"].to_pylist(), both.trials["rank"].to_pylist(), strict=True))
    assert ranks == {1: 1, 6: 2, 2: 3, 3: None, 4: None, 5: None, 7: None, 8: None}


def test_last_epochs_and_seconds(both: Tables) -> None:
    assert row(both.trials, 1)["last_val_accuracy"] == 0.8
    assert row(both.trials, 1)["epochs"] == 4.0
    assert row(both.trials, 6)["seconds"] == 10.0  # five reports of 2 s, the superseded one included
    assert row(both.trials, 6)["attempts"] == 2
    assert row(both.trials, 4)["seconds"] is None
    assert row(both.trials, 7)["last_val_f1"] == 0.5


def test_mode_min_takes_the_smallest(out: Path) -> None:
    record, _ = begin(out / "demo", metric="val_loss", mode="min")
    with record:
        for trial, losses in ((1, (0.5, 0.2, 0.4)), (2, (0.3, -INF, 0.3))):
            add(record, trial)
            number = record.start_attempt(trial)
            for step, loss in enumerate(losses, 1):
                record.add_report(trial, number, step, {"epoch": float(step), "val_loss": loss})
            record.end_trial(trial, State.COMPLETED)
    with Reader(out / "demo") as reader:
        trials = tables(reader).trials
    assert trials["best_val_loss"].to_pylist() == [0.2, 0.3]
    assert trials["rank"].to_pylist() == [1, 2]
    assert trials["best_step"].to_pylist() == [2, 1]


def test_columns_keep_their_type_whatever_was_sampled(both: Tables) -> None:
    types = {field.name: field.type for field in both.trials.schema}
    assert types["params_lr"] == types["params_l2"] == pa.float64()
    assert types["params_batch_norm"] == pa.bool_()
    assert types["params_seed"] == pa.int64()
    assert types["params_hidden"] == types["params_optimizer"] == pa.string()
    assert row(both.trials, 1)["params_hidden"] == "128-64"
    assert types["started"] == types["ended"] == pa.timestamp("us", tz="UTC")
    assert {field.type for field in both.reports.schema if field.name.startswith(("val_", "train_"))} == {pa.float64()}


def test_the_types_of_the_metadata_hold_when_no_value_tells_them(out: Path) -> None:
    begin(out / "demo")[0].close()
    with Reader(out / "demo") as reader:
        both = tables(reader)
    assert both.trials.schema.field("params_lr").type == pa.float64()
    assert both.trials.schema.field("params_hidden").type == pa.string()


def test_a_whole_number_from_a_float_distribution_is_a_float(out: Path) -> None:
    record, _ = begin(out / "demo")
    with record:
        add(record, 1, lr=1)
    with Reader(out / "demo") as reader:
        assert tables(reader).trials.schema.field("params_lr").type == pa.float64()


def test_units_and_descriptions_are_in_the_metadata(both: Tables) -> None:
    for table in (both.trials, both.reports):
        for field in table.schema:
            assert field.metadata[b"description"], field.name
            assert b"unit" in field.metadata
    assert both.reports.schema.field("epoch").metadata[b"unit"] == b"epochs"
    assert both.trials.schema.field("params_lr").metadata == {
        b"unit": b"step size",
        b"description": b"peak learning rate",
    }
    about = both.trials.schema.metadata
    assert about[b"rungwise.run"] == b"demo"
    assert b'"question"' in about[b"rungwise.definition"]
    assert {b"rungwise.format", b"rungwise.version"} <= about.keys()


def test_losses_of_a_regression_are_in_its_targets_unit(out: Path) -> None:
    from rungwise.results.io.metric_format import MetricFormat
    from rungwise.results.record.writer import Record

    (out / "demo").mkdir()
    with Record(out / "demo") as record:
        record.set_meta("definition", {"name": "demo", "metric": "val_mae", "mode": "min", "data": {"classes": []}})
        add(record, 1)
        attempt(record, 1, 0.5)
        record.add_report(1, 1, 2, {"epoch": 2.0, "val_loss": 4.0, "val_mae": 1.5})
    with Reader(out / "demo") as reader:
        both = tables(reader)
    units = {field.name: field.metadata[b"unit"] for field in [*both.reports.schema, *both.trials.schema]}
    assert {units[name] for name in ("train_loss", "val_loss", "last_val_loss")} == {b"target^2"}
    assert units["val_mae"] == units["best_val_mae"] == b"target"
    assert [MetricFormat("loss", "test", False, regression).unit for regression in (False, True)] == ["nats", ""]


@pytest.mark.parametrize("trials", [0, 1])
def test_an_empty_sweep_has_tables_too(out: Path, trials: int) -> None:
    record, _ = begin(out / "demo")
    with record:
        for trial in range(trials):
            add(record, trial + 1)
    with Reader(out / "demo") as reader:
        both = tables(reader)
    assert both.trials.num_rows == trials
    assert both.reports.num_rows == 0
    assert {"epoch", "val_accuracy", "at"} <= set(both.reports.column_names)


def test_a_record_without_a_definition_has_tables_too(out: Path) -> None:
    from rungwise.results.record.writer import Record

    (out / "demo").mkdir()
    with Record(out / "demo") as record:
        add(record, 1)
        attempt(record, 1, 0.5)
    with Reader(out / "demo") as reader:
        assert tables(reader).trials["best_value"].to_pylist() == [0.5]
