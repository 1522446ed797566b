"""The model of mnist_l2's trainings against trainings that it has not seen; the file that it is fitted to."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
from curves import measure_l2
from curves.surrogate import rms, unwarp
from curves.surrogate_l2 import Landscape, Measurements, landscape

from rungwise.results.tables.parquet import read


def test_the_file_is_that_of_the_script_that_measures_it() -> None:
    table = read(measure_l2.FILE)
    assert table.schema.remove_metadata().equals(measure_l2.SCHEMA.remove_metadata())
    assert [field.metadata[b"unit"] for field in pq.read_schema(measure_l2.FILE)] == [
        field.metadata[b"unit"] for field in measure_l2.SCHEMA
    ]
    rows = table.to_pylist()
    epochs = range(1, measure_l2.main_job().epochs + 1)
    assert [(row["trial"], row["step"]) for row in rows] == [
        (trial, step) for trial in range(measure_l2.TRIALS) for step in epochs
    ]
    for row in rows[:: len(epochs)]:
        config, values = measure_l2.configuration(row["trial"])
        assert row["config"] == config
        assert {name: row[name] for name in ("seed", "lr", "dropout", "l2")} == {
            name: values[name] for name in ("seed", "lr", "dropout", "l2")
        }
    assert measure_l2.FILE.stat().st_size < 100_000


def test_the_space_is_that_of_the_main_jobs_arm() -> None:
    sweep = measure_l2.main_job()
    assert isinstance(sweep.space, dict)
    assert sweep.arms[measure_l2.ARM] == {}
    assert {"lr", "dropout", "l2"} == sweep.space.keys()
    assert json.dumps(sweep.fixed)  # plain values, which a configuration takes over


def test_what_it_says_of_good_configurations_that_it_has_not_seen_is_wrong_by_no_more_than_luck() -> None:
    measured = Measurements.load()
    expected, seen = (100 * unwarp(some) for some in Landscape(measured).held_out())
    luck = rms(np.array([100 * unwarp(some[:, -1]).std(ddof=1) for some in measured.trainings if len(some) > 1]))
    good = seen[:, -1] > 98
    assert good.sum() > 40
    assert 0.05 < luck < 0.11  # points of test accuracy between seeds
    assert rms((expected - seen)[good, -1]) < 1.3 * luck


def test_the_same_seed_draws_the_same_training_and_another_seed_another() -> None:
    config = {"lr": 0.005, "dropout": 0.05, "l2": 1e-4}
    first, again, other = (landscape().draw(config, seed) for seed in (1, 1, 2))
    assert (first.accuracy == again.accuracy).all()
    assert (first.accuracy != other.accuracy).any()
    assert first.truth == other.truth
    assert 0.98 < first.truth < 0.985
    ends = [100 * landscape().draw(config, seed).accuracy[-1] for seed in range(200)]
    assert 0.04 < np.std(ends) < 0.12
