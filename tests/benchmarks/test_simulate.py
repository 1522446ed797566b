"""The simulator against a real sequential sweep and against virtual time counted by hand; the curves file."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from curves import measure
from curves.surrogate import Curve, Measured, Surrogate
from simulate import Setting, Simulation
from support.loop import Loop

from rungwise.engine.search.seeds import derived_seed
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.results.tables.parquet import read


@pytest.fixture(scope="module")
def surrogate() -> Surrogate:
    return Surrogate(Measured.load())


@pytest.mark.parametrize(
    "setting",
    [
        Setting(workers=1, trials=24, reports=1),
        Setting(workers=1, trials=24, reports=3, grace=1 / 3, eta=2.0),
    ],
)
def test_one_worker_gets_the_suggestions_and_rung_decisions_of_a_sequential_sweep(
    tmp_path: Path, surrogate: Surrogate, setting: Setting
) -> None:
    simulated = Simulation(setting, 5, surrogate).run().trials
    sweep = Loop(tmp_path, setting.sweep(), trials=24, seed=5, in_flight=1)
    while not isinstance(trial := sweep.deal(), str):
        assert trial is not None
        curve = surrogate.draw(trial.config["config"], derived_seed(5, "luck", trial.config["trial"]))
        at = curve.accuracy[6 // setting.reports - 1 :: 6 // setting.reports]
        sweep.train(trial, lambda _config, step, at=at: float(at[step - 1]))
    rows = sweep.rows()
    assert [trial.params for trial in simulated] == [rows[trial.number].params for trial in simulated]
    assert [trial.state for trial in simulated] == [rows[trial.number].state for trial in simulated]
    assert {trial.state for trial in simulated} == {State.COMPLETED, State.STOPPED}
    decided: dict[int, list[Any]] = {trial.number: [] for trial in simulated}
    with Reader(tmp_path) as reader:
        for report in reader.reports():
            if report.decision:
                decided[report.trial].append(report.decision)
    assert [trial.decisions for trial in simulated] == [decided[trial.number] for trial in simulated]
    assert len(simulated) == len(rows) == 24


class Flat(Surrogate):
    """Every trial: 2 s a sixth of an epoch, 1 s a validation, always the same accuracy."""

    def __init__(self) -> None:
        pass

    def draw(self, config: Mapping[str, Any], seed: int) -> Curve:
        return Curve(np.full(36, 0.5), 2.0, 1.0, 0.5)


def test_virtual_time_is_what_one_counts_by_hand() -> None:
    none = Setting(scheduler="none", sampler="random", trials=8, reports=1, trial_seconds=0.0, report_seconds=0.0)
    # A trial is 6 epochs of 6 * 2 + 1 = 13 s. With two workers four of them follow each other.
    assert Simulation(none, 0, Flat()).run().seconds == 4 * 6 * 13
    # One after the other, each begun 10 s later; the driver spends 1 s on each of 48 reports.
    slow = replace(none, workers=1, trial_seconds=10.0, report_seconds=1.0)
    assert Simulation(slow, 0, Flat()).run().seconds == 8 * (10 + 6 * 13) + 48
    # Two reports an epoch validate twice.
    fine = replace(none, reports=2)
    assert Simulation(fine, 0, Flat()).run().seconds == 4 * 6 * 14
    # As many as there are workers: a quarter of 8 trials is 2; without the rule all run at once.
    assert Simulation(replace(none, workers=8), 0, Flat()).run().seconds == 4 * 6 * 13
    assert Simulation(replace(none, workers=8, share=1), 0, Flat()).run().seconds == 6 * 13


def test_the_curves_are_those_of_the_script_that_measures_them() -> None:
    table = read(measure.FILE)
    assert table.schema.remove_metadata().equals(measure.SCHEMA.remove_metadata())
    assert [field.metadata[b"unit"] for field in pq.read_schema(measure.FILE)] == [
        field.metadata[b"unit"] for field in measure.SCHEMA
    ]
    rows = table.to_pylist()
    assert [(row["trial"], row["step"]) for row in rows] == [
        (trial, step) for trial in range(measure.TRIALS) for step in range(1, 37)
    ]
    for row in rows[::36]:
        config, values = measure.configuration(row["trial"])
        assert row["config"] == config
        assert {name: row[name] for name in values if name in row} == {
            name: value for name, value in values.items() if name in row
        }
    assert all(0 < row["val_accuracy"] < 1 and row["seconds"] > row["validation_seconds"] > 0 for row in rows)
    assert measure.FILE.stat().st_size < 500_000
