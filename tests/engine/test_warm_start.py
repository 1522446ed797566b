"""--warm-start with what other tools ran: Optuna storages, tables, MLflow experiments."""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import optuna
import pyarrow as pa
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from pyarrow import csv, parquet

from rungwise import CategoricalDistribution, FloatDistribution, IntDistribution, Sweep
from rungwise.engine.experiment.experiment import Experiment, resolve
from rungwise.engine.search.earlier.trial import WarmStartError
from rungwise.engine.search.warm_start import earlier_trials
from rungwise.results.exporters.mlflow_client import Store

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


def experiment(**changed: Any) -> Experiment:
    space = {
        "lr": FloatDistribution(1e-3, 1e-1, log=True),
        "layers": IntDistribution(1, 3),
        "optimizer": CategoricalDistribution(["adam", "sgd"]),
    }
    return resolve(Sweep(**{"name": "s", "space": space, "epochs": 3, **changed}))


def objective(trial: optuna.Trial) -> float:
    lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    trial.suggest_int("layers", 1, 3)
    trial.suggest_categorical("optimizer", ["adam", "sgd"])
    trial.suggest_float("momentum", 0.0, 1.0)
    if trial.number == 3:
        trial.report(0.1, 1)
        raise optuna.TrialPruned
    if trial.number == 4:
        raise ZeroDivisionError
    return lr


def study(storage: Any, name: str = "mine", direction: str = "maximize") -> optuna.Study:
    made = optuna.create_study(
        storage=storage, study_name=name, direction=direction, sampler=optuna.samplers.RandomSampler(seed=0)
    )
    made.enqueue_trial({"lr": 5e-4})  # out of this sweep's range
    made.optimize(objective, n_trials=12, catch=(ZeroDivisionError,))
    return made


def taken(place: str | Path, asked: Experiment | None = None, **more: Any) -> tuple[list[dict[str, Any]], str]:
    """(trials of the only arm, what is said)"""
    notes: list[str] = []
    found = earlier_trials(asked or experiment(), [place], notes=notes, **more)
    return found["all"], notes[0]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An Optuna storage with the study `mine`."""
    url = f"sqlite:///{tmp_path_factory.mktemp('optuna') / 'study.db'}"
    study(url)
    return url


def inside(url: str) -> list[optuna.trial.FrozenTrial]:
    trials = optuna.load_study(study_name="mine", storage=url).trials
    return [trial for trial in trials if trial.state.name == "COMPLETE" and trial.params["lr"] >= 1e-3]


@pytest.mark.parametrize("written", ["{url}", "{url}::mine", "{path}", "{path}::mine"])
def test_a_study_of_optuna_is_taken_by_name_and_the_rest_is_said(storage: str, written: str) -> None:
    found, note = taken(written.format(url=storage, path=storage.removeprefix("sqlite:///")))
    expected = inside(storage)
    assert 0 < len(expected) < 12
    names = ("lr", "layers", "optimizer")
    assert [one["params"] for one in found] == [{name: trial.params[name] for name in names} for trial in expected]
    assert [one["values"] for one in found] == [trial.values for trial in expected]
    assert {one["state"] for one in found} == {"COMPLETE"}
    assert f"{len(expected)} of 12 trials taken" in note
    assert re.search(r"[1-9] left out because lr lies outside 0.001 to 0.1;", note)
    assert "1 left out because it was stopped early, and how its steps compare with epochs here is not known" in note
    assert "not used: momentum, which this sweep neither searches nor fixes" in note
    assert "its values count as val_accuracy, as it names none" in note


def test_a_journal_file_is_taken_and_of_several_studies_one_must_be_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    made = JournalStorage(JournalFileBackend(str(path)))
    study(made)
    before = path.read_bytes()
    assert len(taken(str(path))[0]) > 5
    assert path.read_bytes() == before
    study(made, "other", "minimize")
    with pytest.raises(WarmStartError, match=r"must name a study, as .* contains the studies mine, other"):
        taken(str(path))
    with pytest.raises(WarmStartError, match=r"but .*other has minimize and this sweep \w+ \(max\)$"):
        taken(f"{path}::other")
    with pytest.raises(WarmStartError, match="mine"):
        taken(f"{path}::min")


def test_what_the_sampler_learns_from_them_goes_into_its_study(storage: str, tmp_path: Path) -> None:
    from rungwise.results.exporters.optuna_study import studies
    from rungwise.results.record.reader import Reader
    from rungwise.results.record.writer import Record

    found, _ = taken(storage)
    with Record(tmp_path) as record:
        record.set_meta("definition", {"name": "s", "arms": {"all": {}}, "searches": 1})
        record.set_meta("earlier", {"all": found})
    with Reader(tmp_path) as reader:
        (made,) = studies(reader).values()
    assert [trial.values for trial in made.trials] == [trial.values for trial in inside(storage)]


HEADERS: dict[str, Callable[[str], str]] = {
    "plain": lambda name: name,
    "optuna": lambda name: {"val_accuracy": "value"}.get(name, f"params_{name}"),
    "mlflow": lambda name: {"val_accuracy": "metrics.val_accuracy"}.get(name, f"params.{name}"),
    "ray": lambda name: {"val_accuracy": "val_accuracy"}.get(name, f"config/{name}"),
}


@pytest.mark.parametrize("kind", HEADERS)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_table_is_taken_whoever_wrote_it(tmp_path: Path, kind: str, suffix: str) -> None:
    columns = {
        "lr": [0.01, 0.05, 0.5, None, 0.02],
        "layers": [1, 2.0, 2, 3, 2],
        "optimizer": ["adam", "sgd", "sgd", "adam", "lion"],
        "val_accuracy": [0.5, 0.75, 0.9, 0.8, 0.7],
    }
    table = pa.table({HEADERS[kind](name): values for name, values in columns.items()})
    path = tmp_path / f"trials{suffix}"
    if suffix == ".parquet":
        parquet.write_table(table, path)
    else:
        csv.write_csv(table, path, csv.WriteOptions(delimiter="\t" if suffix == ".tsv" else ","))
    found, note = taken(str(path))
    assert [one["params"] for one in found] == [
        {"lr": 0.01, "layers": 1, "optimizer": "adam"},
        {"lr": 0.05, "layers": 2, "optimizer": "sgd"},
    ]
    assert [one["values"] for one in found] == [[0.5], [0.75]]
    for why in ("lr lies outside 0.001 to 0.1", "it has no lr", "optimizer is none of adam, sgd"):
        assert f"1 left out because {why}" in note


def test_rows_that_did_not_end_or_trained_for_another_budget_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    path.write_text(
        "\ufefflr;layers;optimizer;epochs;state;val_accuracy\n"
        "0.01;1;adam;3;COMPLETE;0.5\n0.01;1;adam;30;COMPLETE;0.6\n0.01;1;adam;3;FAIL;0.7\n0.01;1;adam;3;COMPLETE;93.1\n"
        "0.01;1;adam;3;COMPLETE;\n"
    )
    found, note = taken(str(path))
    assert [one["values"] for one in found] == [[0.5]]
    for why in ("it trained for 30 epochs, and trials here for 3", "its state is FAIL", "val_accuracy is 93.1 there"):
        assert why in note
    assert "1 left out for other reasons" in note
    path.write_text("lr;layers;optimizer;val_accuracy\n0,02;1;adam;0,25\n")  # as a spreadsheet of many countries
    assert [(one["params"]["lr"], one["values"]) for one in taken(str(path))[0]] == [(0.02, [0.25])]
    with pytest.raises(WarmStartError, match="column of the metric"):
        taken(str(path), experiment(metric="val_loss", mode="min"))


def test_what_is_no_number_is_left_out_whatever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "TRIALS.CSV"  # as some programs name it
    strange = ["NaN", "Infinity", "1e400", "9" * 4000, "[" * 50_000, "True", "x\ny", "\0"]
    rows = [["0.01", "2", "adam", "0.5"], *([lr, "2", "adam", "0.6"] for lr in strange)]
    rows += [["0.01", layers, "adam", "0.6"] for layers in strange]
    path.write_text("\n".join(["lr,layers,optimizer,val_accuracy", *(",".join(map(json.dumps, row)) for row in rows)]))
    found, note = taken(str(path))
    assert [one["values"] for one in found] == [[0.5]]
    assert f"1 of {len(rows)} trials taken" in note
    path = tmp_path / "trials.parquet"
    columns = {
        "lr": pa.array([Decimal("0.01"), Decimal("0.02")]),
        "layers": pa.array([math.nan, 2.0]),  # of a library that writes no nulls
        "optimizer": pa.array(["adam", "adam"]).dictionary_encode(),
        "val_accuracy": pa.array([0.5, 0.6]),
    }
    parquet.write_table(pa.table(columns), path)
    found, _ = taken(str(path))
    assert json.dumps([one["params"] for one in found]) == '[{"lr": 0.02, "layers": 2, "optimizer": "adam"}]'


def test_notes_are_short_however_many_parameters_there_are_and_however_long(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    others = [f"{number} {'x' * 500}" for number in range(300)]
    rows = [["0.01", "2", "adam", "0.5", *others], ["0.01", "2", "y" * 5000, "0.5", *others]]
    path.write_text("\n".join(",".join(row) for row in [["lr", "layers", "optimizer", "val_accuracy", *others], *rows]))
    found, note = taken(str(path))
    assert len(found) == 1
    assert "and 295 more, which this sweep neither searches nor fixes" in note
    assert len(note) < 800


def test_of_two_columns_of_one_name_none_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    path.write_text("val_accuracy,lr,layers,optimizer,val_accuracy\n0.9,0.01,2,adam,0.5\n")
    with pytest.raises(WarmStartError, match="names of columns must differ, but two are 'val_accuracy'"):
        taken(str(path))


@pytest.mark.parametrize("place", ["sqlite://", "sqlite:///"])
def test_a_database_without_a_study_is_refused_in_a_line(place: str) -> None:
    with pytest.raises(WarmStartError, match=f"the Optuna storage {place} cannot be read: [^\n]+$"):
        taken(place)


def test_what_an_arm_fixes_must_be_the_same_where_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    path.write_text("lr,l2,val_accuracy\n0.01,0.0,0.5\n0.01,0.001,0.6\n")
    space = {"lr": FloatDistribution(1e-3, 1e-1), "l2": FloatDistribution(1e-6, 1e-2)}
    asked = resolve(Sweep(name="s", space=space, arms={"no L2": {"l2": 0.0}, "L2": {}}))
    notes: list[str] = []
    found = earlier_trials(asked, [str(path)], notes=notes)
    assert {arm: [one["values"] for one in each] for arm, each in found.items()} == {"no L2": [[0.5]], "L2": [[0.6]]}
    assert notes == [f"--warm-start {path}: 1 for no L2, 1 for L2 of 2 trials taken"]
    path.write_text("lr,val_accuracy\n0.01,0.5\n")
    notes.clear()
    assert len(earlier_trials(asked, [str(path)], notes=notes)["no L2"]) == 1
    assert notes[0].endswith("taken to be as here, as it does not say: l2")


def test_an_experiment_of_mlflow_is_taken(tmp_path: Path, empty_store: Path) -> None:
    from mlflow.entities import Metric

    database = tmp_path / "mlflow.db"
    database.write_bytes(empty_store.read_bytes())
    uri = f"sqlite:///{database}"
    store = Store(uri)
    made = store.experiment("vision")
    for lr, accuracy, status in ((0.01, 0.5, "FINISHED"), (0.5, 0.6, "FINISHED"), (0.02, 0.7, "FAILED")):
        run = store.create(made, "run", 1000, {})
        params = {"lr": str(lr), "layers": "2", "optimizer": "adam", "batch": "64"}
        store.log(run, [Metric("val_accuracy", accuracy, 1000, 1)], params, {})
        store.set_status(run, status, 2000)
    store.create(made, "parent", 1000, {})
    for place in ("mlflow:vision", f"{uri}::vision", uri, str(database)):
        found, note = taken(place, tracking_uri=uri)
        assert [(one["params"], one["values"]) for one in found] == [
            ({"lr": 0.01, "layers": 2, "optimizer": "adam"}, [0.5])
        ]
        assert "1 of 3 trials taken" in note
        assert "its status is FAILED" in note
        assert "not used: batch" in note
    with pytest.raises(WarmStartError, match="must contain the experiment 'visoin'"):
        taken("mlflow:visoin", tracking_uri=uri)


def test_what_holds_no_trials_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "broken.parquet").write_text("hello")
    with closing(sqlite3.connect(tmp_path / "other.db")) as database, database:
        database.execute("CREATE TABLE t (x)")
    before = sorted(path.name for path in tmp_path.iterdir())
    for place, says in [
        ("text.txt", "is a file of another kind"),
        ("broken.parquet", "cannot be read as a table"),
        ("other.db", "neither an Optuna storage nor an MLflow store"),
        ("absent.db", "is none that exists"),
        ("absent", "is none that exists"),
    ]:
        with pytest.raises(WarmStartError, match=says):
            taken(str(tmp_path / place))
    with pytest.raises(WarmStartError, match="is none that exists"):
        taken(f"sqlite:///{tmp_path}/absent.db::x")
    with pytest.raises(WarmStartError, match="there is no file"):
        taken("mlflow:x", tracking_uri=f"sqlite:///{tmp_path}/absent.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
