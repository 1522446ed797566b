"""MLflow says what the record says, row by row, however often and whenever it is exported."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import confirmed
from support.confirmed import two_arms
from support.demo import INF, Rows, add, attempt, begin, metrics
from support.mlflow_tables import TABLES

from rungwise.results.exporters.loggers.logger import Logged
from rungwise.results.exporters.loggers.settings import KEY, LogSettings
from rungwise.results.exporters.mlflow import Exported, MlflowLogger, export, mlflow_feed
from rungwise.results.exporters.mlflow_client import ExportError, Store
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State, SweepState
from rungwise.results.record.writer import Record


def everything(rows: Rows) -> dict[str, list[tuple[object, ...]]]:
    return {table: sorted(rows(f"SELECT * FROM {table}"), key=str) for table in TABLES}


def children(rows: Rows) -> dict[int, dict[str, object]]:
    """{trial: its run as MLflow has it}"""
    found: dict[int, dict[str, object]] = {}
    sql = "SELECT r.*, t.value FROM runs r JOIN tags t USING (run_uuid) WHERE t.key = 'rungwise.trial'"
    for uuid, trial in rows("SELECT run_uuid, value FROM tags WHERE key = 'rungwise.trial'"):
        names = ("name", "status", "start_time", "end_time")
        run = rows(f"SELECT {', '.join(names)} FROM runs WHERE run_uuid = ?", uuid)[0]
        assert int(trial) not in found, sql
        found[int(trial)] = {
            **dict(zip(names, run, strict=True)),
            "tags": dict(rows("SELECT key, value FROM tags WHERE run_uuid = ?", uuid)),
            "params": dict(rows("SELECT key, value FROM params WHERE run_uuid = ?", uuid)),
            "metrics": sorted(rows("SELECT step, key, value, is_nan, timestamp FROM metrics WHERE run_uuid = ?", uuid)),
        }
    return found


def parent(rows: Rows) -> tuple[str, str, int | None]:
    (found,) = rows(
        "SELECT run_uuid, status, end_time FROM runs WHERE run_uuid NOT IN "
        "(SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId')"
    )
    return found  # type: ignore[return-value]


def test_mlflow_holds_the_record_row_by_row(run: Path, rows: Rows) -> None:
    done = export(run)
    with Reader(run) as reader:
        trials, curves = reader.trials(), reader.curves()
    found = children(rows)
    assert sorted(found) == [1, 2, 3, 4, 5, 6, 7]  # 8 was dealt, but never started
    for trial in trials[:7]:
        expected = []
        for step, report in curves.get(trial.trial, {}).items():
            for name, value in report.metrics.items():
                if name == "epoch":  # is the step
                    continue
                nan = value != value
                stored = 0.0 if nan else max(-sys.float_info.max, min(value, sys.float_info.max))
                expected.append((step, name, stored, int(nan), round(report.at * 1000)))
        said = [line[:4] for line in found[trial.trial]["metrics"] if line[1] != "best_val_accuracy"]
        assert said == [line[:4] for line in sorted(expected)]
        assert trial.started is not None
        assert found[trial.trial]["start_time"] == round(trial.started * 1000)
        if trial.ended is not None:
            assert found[trial.trial]["end_time"] == round(trial.ended * 1000)
    assert done.trials == 7
    assert done.metrics == sum(len(child["metrics"]) for child in found.values()) + len(
        rows("SELECT * FROM metrics WHERE run_uuid = ?", parent(rows)[0])
    )


def test_statuses_and_tags_follow_the_one_truth(run: Path, rows: Rows) -> None:
    export(run)
    found = children(rows)
    assert {trial: child["status"] for trial, child in found.items()} == {
        1: "FINISHED",
        2: "KILLED",
        3: "FAILED",
        4: "FAILED",
        5: "FAILED",
        6: "FINISHED",
        7: "KILLED",  # in flight when the sweep was interrupted
    }
    states = {trial: child["tags"]["rungwise.state"] for trial, child in found.items()}
    assert states[2] == "STOPPED"
    assert states[7] == "INTERRUPTED"
    tags = found[2]["tags"]
    assert (tags["rungwise.stop_rung"], tags["rungwise.cutoff"], tags["rungwise.arm"]) == ("1.0", "0.5", "L2")
    assert tags["rungwise.reason"] == "0.4 against a cutoff of 0.5"
    assert tags["mlflow.parentRunId"] == parent(rows)[0]
    assert found[1]["name"] == "trial 1 (no L2)"
    assert "ZeroDivisionError: 1 / 0" in found[4]["tags"]["rungwise.error"]
    assert found[5]["tags"]["rungwise.attempts"] == "2"


def test_the_arm_and_the_config_are_a_trials_params_and_nothing_else_is(run: Path, rows: Rows) -> None:
    export(run)
    assert children(rows)[6]["params"] == {
        "arm": "L2",
        "hidden": "128-64",
        "lr": "0.01",
        "l2": "0.0",
        "batch_norm": "True",
        "optimizer": "sgd",
        "seed": "6",
    }


def test_the_columns_of_a_table_are_params_and_the_datasets_schema(out: Path, rows: Rows) -> None:
    columns = {"age": "number, standardised", "plan": "category, one column for each of 3", "id": "left out: it counts"}
    record, session = begin(out / "demo", data={"name": "t.csv", "digest": "ab", "train": 70, "columns": columns})
    record.end_session(session, SweepState.FINISHED)
    record.close()
    export(out / "demo")
    params = dict(rows("SELECT key, value FROM params WHERE key LIKE 'data.%'"))
    assert params == {"data.columns_used": "age, plan", "data.columns_left_out": "id"}
    ((schema, profile),) = rows("SELECT dataset_schema, dataset_profile FROM datasets")
    types = {column["name"]: column["type"] for column in json.loads(schema)["mlflow_colspec"]}
    assert types == {"age": "double", "plan": "string"}
    assert json.loads(profile)["columns_left_out"] == {"id": "it counts"}


def test_the_parent_holds_definition_dataset_and_best(run: Path, rows: Rows) -> None:
    export(run)
    uuid, status, _ = parent(rows)
    assert status == "KILLED"
    tags = dict(rows("SELECT key, value FROM tags WHERE run_uuid = ?", uuid))
    assert tags["mlflow.runName"] == "demo"
    assert tags["rungwise.state"] == "INTERRUPTED"
    assert tags["mlflow.note.content"] == "Does L2 help?"
    assert json.loads(tags["rungwise.definition"])["eta"] == 3
    params = dict(rows("SELECT key, value FROM params WHERE run_uuid = ?", uuid))
    assert (params["metric"], params["grace"], params["fixed.batch_norm"]) == ("val_accuracy", "1", "True")
    best = dict(rows("SELECT key, value FROM latest_metrics WHERE run_uuid = ?", uuid))
    assert best["best_val_accuracy"] == best["best_val_accuracy/no L2"] == 0.9  # not the diverged 0.99
    assert best["best_val_accuracy/L2"] == 0.85
    assert (best["trials_completed"], best["trials_lost"], best["trials_running"]) == (2.0, 1.0, 2.0)
    (dataset,) = rows("SELECT name, digest, dataset_source FROM datasets")
    assert dataset[:2] == ("mnist", ("ab" * 32)[:36])
    assert rows("SELECT name FROM experiments WHERE name = 'mnist_l2'") == [("mnist_l2",)]
    (where,) = rows("SELECT artifact_location FROM experiments WHERE name = 'mnist_l2'")[0]
    assert where == (run.parent / "mlartifacts").as_uri()
    told = dict(rows("SELECT key, value FROM experiment_tags"))
    assert told["mlflow.experimentKind"] == "custom_model_development"  # else the page opens as generative AI
    with Reader(run) as reader:
        assert told["mlflow.note.content"] == reader.definition().question != ""


def test_a_repeat_is_told_from_a_trial_of_the_search_by_its_name(out: Path, rows: Rows) -> None:
    export(two_arms(out / "two"))
    names = {name for (name,) in rows("SELECT name FROM runs")}
    assert {"two", "trial 1 (no L2)", "trial 2 (L2)", "trial 4, confirm of 1 (no L2)"} <= names


def test_exporting_twice_changes_nothing(run: Path, rows: Rows) -> None:
    exporter = mlflow_feed(run)
    exporter.sync()
    before = everything(rows)
    assert exporter.sync().metrics == 0
    assert everything(rows) == before
    assert export(run).metrics == 0  # a new exporter, which has to look first
    assert everything(rows) == before


def test_metrics_logged_before_the_exporter_died_are_not_doubled(run: Path, rows: Rows, out: Path) -> None:
    import sqlite3
    from contextlib import closing

    export(run)
    before = everything(rows)
    with closing(sqlite3.connect(out / "mlflow.db")) as database, database:
        # as if killed after trial 1's metrics, before their tag, and in the middle of trial 6's
        database.execute("DELETE FROM tags WHERE key = 'rungwise.seq'")
        database.execute("DELETE FROM metrics WHERE key = 'penalty'")
    export(run)
    assert everything(rows) == before


def test_a_sweep_followed_pass_by_pass_ends_up_as_one_exported_at_the_end(out: Path, rows: Rows) -> None:
    record, session = begin(out / "demo")
    exporter = mlflow_feed(out / "demo")
    with record:
        exporter.sync()
        assert parent(rows)[1:] == ("RUNNING", None)
        add(record, 1)
        attempt(record, 1, 0.5, 0.6)
        exporter.sync()
        assert children(rows)[1]["status"] == "RUNNING"
        attempt(record, 1, 0.6, 0.7, first=2)  # the second attempt says the same of step 2
        exporter.sync()
        record.end_trial(1, State.COMPLETED)
        record.end_session(session, SweepState.FINISHED)
    exporter.sync()
    followed = children(rows)
    assert len(followed[1]["metrics"]) == 3 * 6 + 1  # nothing said twice, and the best
    assert [line[:3] for line in followed[1]["metrics"] if line[1] == "best_val_accuracy"] == [
        (3, "best_val_accuracy", 0.7)
    ]
    assert followed[1]["status"] == "FINISHED"
    for table in TABLES:
        assert len(rows(f"SELECT * FROM {table}")) > 0


def test_where_a_second_attempt_differs_its_word_is_the_later_one(out: Path, rows: Rows) -> None:
    record, _ = begin(out / "demo")
    exporter = mlflow_feed(out / "demo")
    with record:
        add(record, 1)
        attempt(record, 1, 0.5, 0.6)
        exporter.sync()
        attempt(record, 1, 0.4, first=2)
        exporter.sync()
    said = [line for line in children(rows)[1]["metrics"] if line[:2] == (2, "val_accuracy")]
    assert max(said, key=lambda line: line[4])[2] == 0.4


def test_reports_finer_than_an_epoch_keep_their_epoch(out: Path, rows: Rows) -> None:
    record, _ = begin(out / "demo", reports_per_epoch=2)
    with record:
        add(record, 1)
        number = record.start_attempt(1)
        for step in (1, 2, 3):
            record.add_report(1, number, step, metrics(step / 2, 0.5))
    export(out / "demo")
    assert [line[:3] for line in children(rows)[1]["metrics"] if line[1] == "epoch"] == [
        (1, "epoch", 0.5),
        (2, "epoch", 1.0),
        (3, "epoch", 1.5),
    ]


def test_interrupted_then_resumed_then_finished(run: Path, rows: Rows) -> None:
    exporter = mlflow_feed(run)
    exporter.sync()
    assert children(rows)[7]["status"] == "KILLED"
    with Record(run) as record:
        session = record.start_session({})
        exporter.sync()
        assert parent(rows)[1] == "RUNNING"
        assert children(rows)[7]["status"] == "RUNNING"
        assert children(rows)[7]["tags"]["rungwise.state"] == "RUNNING"
        assert children(rows)[1]["status"] == "FINISHED"
        for trial in (7, 8):
            attempt(record, trial, 0.9, 0.95)
            record.end_trial(trial, State.COMPLETED)
        record.end_session(session, SweepState.FINISHED)
    export(run)
    with Reader(run) as reader:
        ended = {trial.trial: trial.ended for trial in reader.trials()}
        last = reader.sessions()[-1].ended
    found = children(rows)
    assert len(found) == 8
    for trial in (7, 8):
        assert found[trial]["status"] == "FINISHED"
        assert found[trial]["end_time"] == round((ended[trial] or 0) * 1000)
    assert parent(rows)[1:] == ("FINISHED", round((last or 0) * 1000))
    best = dict(rows("SELECT key, value FROM latest_metrics WHERE run_uuid = ?", parent(rows)[0]))
    assert best["best_val_accuracy"] == 0.95


def test_an_export_that_is_killed_before_the_trials_does_not_leave_an_interrupted_run_running(
    run: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MlflowLogger, "_sync_trial", killed)
    with pytest.raises(KeyboardInterrupt):
        export(run)
    assert rows("SELECT name, status FROM runs") == [("demo", "KILLED")]


def test_a_killed_drivers_run_is_interrupted_not_running(out: Path, rows: Rows) -> None:
    import socket

    record, _ = begin(out / "demo")
    with record:
        add(record, 1)
        attempt(record, 1, 0.5)
        record.start_session({"host": socket.gethostname(), "pid": 2**22 + 1})  # beyond any process id
    export(out / "demo")
    assert parent(rows)[1] == "KILLED"
    assert children(rows)[1]["tags"]["rungwise.state"] == "INTERRUPTED"


def test_more_trials_of_a_resumed_run_are_a_tag_not_a_stale_param(run: Path, rows: Rows) -> None:
    export(run)
    with Record(run) as record:
        definition = Reader(run).meta("definition")
        record.set_meta("definition", definition | {"trials": 64, "searches": 1, "sampler": "random"})
    export(run)
    tags = dict(rows("SELECT key, value FROM tags WHERE run_uuid = ?", parent(rows)[0]))
    assert (tags["rungwise.trials"], tags["rungwise.sampler"]) == ("64", "random")


def test_long_curves_are_split_and_complete(out: Path, rows: Rows) -> None:
    record, _ = begin(out / "demo")
    with record:
        add(record, 1, **{f"p{i}": i for i in range(250)})
        number = record.start_attempt(1)
        for step in range(1, 402):
            record.add_report(1, number, step, metrics(float(step), 0.5))
    done = export(out / "demo")
    assert done.metrics == 401 * 6 == len(children(rows)[1]["metrics"])
    assert len(children(rows)[1]["params"]) == 257  # and the arm
    assert children(rows)[1]["tags"]["rungwise.seq"] == "401"


def test_metric_names_that_mlflow_refuses_are_mended(out: Path, rows: Rows) -> None:
    record, _ = begin(out / "demo")
    with record:
        add(record, 1)
        record.add_report(1, record.start_attempt(1), 1, {"epoch": 1.0, "top@5 (%)": 0.5})
    export(out / "demo")
    assert [line[1] for line in children(rows)[1]["metrics"]] == ["top_5 ___"]


@pytest.mark.parametrize("name", ["it's", 'say "hi"', "ünïcode"])
def test_odd_names_of_runs_are_found_again(out: Path, rows: Rows, name: str) -> None:
    record, _ = begin(out / "demo", name=name)
    with record:
        record.set_meta("id", None)
        add(record, 1)
        attempt(record, 1, 0.5)
    export(out / "demo")
    assert export(out / "demo").metrics == 0
    assert len(rows("SELECT * FROM runs")) == 2


def test_an_empty_sweep_is_a_parent_alone(out: Path, rows: Rows) -> None:
    record, session = begin(out / "demo")
    with record:
        record.end_session(session, SweepState.FAILED)
    assert export(out / "demo").trials == 0
    assert parent(rows)[1] == "FAILED"


def test_a_deleted_trial_is_made_again_and_a_deleted_experiment_refused(run: Path, rows: Rows, out: Path) -> None:
    from mlflow import MlflowClient

    export(run)
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    (uuid,) = rows("SELECT run_uuid FROM tags WHERE key = 'rungwise.trial' AND value = '1'")[0]
    client.delete_run(uuid)
    assert export(run).metrics == 4 * 6 + 1
    client.delete_experiment(client.get_experiment_by_name("mnist_l2").experiment_id)
    with pytest.raises(ExportError, match="experiment 'mnist_l2' is deleted; restore it"):
        export(run)


def test_a_dead_server_is_one_line_within_seconds(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ExportError) as caught:
        export(run, "http://ada:sesame@127.0.0.1:9")
    assert str(caught.value) == (
        "MLflow at http://***@127.0.0.1:9 must accept the runs, "
        "but it cannot be reached ([Errno 111] Connection refused)"
    )


def test_a_bad_uri_is_refused_before_mlflow_is_asked(run: Path) -> None:
    with pytest.raises(ExportError, match="no runs in plain folders"):
        export(run, "./mlruns")


def test_a_file_that_is_no_database_is_one_line(run: Path, out: Path) -> None:
    (out / "mlflow.db").write_text("this is not SQLite, but long enough to be looked at" * 100)
    with pytest.raises(ExportError, match="not a database"):
        export(run)


def test_infinity_is_the_largest_float_and_nan_is_nan(run: Path, out: Path) -> None:
    from mlflow import MlflowClient

    export(run)
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mnist_l2").experiment_id
    (found,) = client.search_runs([experiment], "tags.`rungwise.trial` = '3'")
    assert found.data.metrics["train_loss"] == sys.float_info.max < INF
    assert found.data.metrics["val_loss"] != found.data.metrics["val_loss"]


ODD = {
    "width[0]": 8,
    "width(0)": 9,
    "lr (sgd)": 0.1,
    "/x": 1,
    "a//b": 2,
    "..": 3,
    "ü=@1": 4,
    "n" * 300: 5,
    "LR": 6,
    "lr": 7,
}


def test_hyperparameters_of_any_name_are_params_each_its_own_and_a_tag_says_which(out: Path, rows: Rows) -> None:
    record, session = begin(out / "demo", fixed={"a+b": 1, "a*b": 2})
    with record:
        record.add_trial(1, arm="L2", phase="search", config={}, params=ODD, distributions={})
        record.start_attempt(1)
        record.end_trial(1, State.FAILED)
        record.end_session(session, SweepState.FINISHED)
    export(out / "demo")
    params = children(rows)[1]["params"]
    assert params.pop("arm") == "L2"  # type: ignore[attr-defined]
    assert sorted(params.values()) == sorted(map(str, ODD.values()))  # type: ignore[attr-defined]
    tags = dict(rows("SELECT key, value FROM tags WHERE run_uuid = ?", parent(rows)[0]))
    names = json.loads(tags["rungwise.names"])
    assert {names["params"].get(legal, legal): value for legal, value in params.items()} == {  # type: ignore[attr-defined]
        name: str(value) for name, value in ODD.items()
    }
    assert set(names["fixed"].values()) == {"a+b", "a*b"}
    fixed = dict(rows("SELECT key, value FROM params WHERE run_uuid = ?", parent(rows)[0]))
    assert {names["fixed"][key.removeprefix("fixed.")]: fixed[key] for key in fixed if key.startswith("fixed.")} == {
        "a+b": "1",
        "a*b": "2",
    }


def test_arms_of_any_name_have_numbers_of_their_own(out: Path, rows: Rows) -> None:
    arms = ["a+b", "a*b", "/x", "..", "x" * 300, "[/L2]"]
    record, session = begin(out / "demo", arms={arm: {} for arm in arms})
    with record:
        for number, arm in enumerate(arms, 1):
            add(record, number, arm=arm)
            attempt(record, number, number / 10)
            record.end_trial(number, State.COMPLETED)
        record.end_session(session, SweepState.FINISHED)
    export(out / "demo")
    told = dict(rows("SELECT key, value FROM latest_metrics WHERE run_uuid = ?", parent(rows)[0]))
    best = {key.partition("/")[2]: value for key, value in told.items() if key.startswith("best_val_accuracy/")}
    names = json.loads(dict(rows("SELECT key, value FROM tags"))["rungwise.names"])["arms"]
    assert {names[legal]: value for legal, value in best.items()} == {arm: n / 10 for n, arm in enumerate(arms, 1)}


def test_a_name_keeps_what_it_got_whoever_comes_later_and_whoever_exports(out: Path, rows: Rows) -> None:
    record, _ = begin(out / "demo")
    exporter = mlflow_feed(out / "demo")
    with record:
        for number, params in enumerate(({"b[1]": 1}, {"b(1)": 1, "b_1_": 2}), 1):
            record.add_trial(number, arm="L2", phase="search", config={}, params=params, distributions={})
            record.add_report(number, record.start_attempt(number), 1, {"epoch": 1.0, f"z{'*+'[number - 1]}": 0.5})
            record.commit()
            exporter.sync()
    before = everything(rows)
    assert children(rows)[1]["params"] == {"arm": "L2", "b_1_": "1"}
    assert export(out / "demo").metrics == 0
    assert everything(rows) == before
    assert len({line[1] for trial in (1, 2) for line in children(rows)[trial]["metrics"]}) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["50% done%20", "what?", "C# lab", "größe_日本", 'it\'s "q" a;b&c'])
def test_a_store_is_beside_its_runs_whatever_their_folder_is_called(
    tmp_path: Path, empty_store: Path, name: str
) -> None:
    import shlex
    import shutil
    import sqlite3
    from contextlib import closing
    from urllib.parse import unquote, urlsplit

    from sqlalchemy import make_url

    from rungwise.results.exporters.tracking_uri import tracking_uri

    out = tmp_path / name
    out.mkdir()
    shutil.copy(empty_store, out / "mlflow.db")
    record, session = begin(out / "demo")
    with record:
        add(record, 1)
        attempt(record, 1, 0.5)
        record.end_session(session, SweepState.FINISHED)
    (out / "demo" / "report.html").write_text("<p>")
    export(out / "demo")
    assert [path.name for path in tmp_path.iterdir()] == [name]  # nothing beside
    with closing(sqlite3.connect(out / "mlflow.db")) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (2,)
        ((where,),) = database.execute("SELECT artifact_uri FROM runs WHERE name = 'demo'").fetchall()
    assert (Path(unquote(urlsplit(where).path)) / "report.html").read_text() == "<p>"
    assert Path(unquote(urlsplit(where).path)).is_relative_to(out / "mlartifacts")
    (typed,) = shlex.split(shlex.quote(tracking_uri(out / "demo", None, {})))
    assert make_url(typed).database == str(out / "mlflow.db")  # what `mlflow ui` will open


def test_a_slow_store_holds_no_state_of_the_record_and_its_log_stays_small(
    run: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a reader holds a state, SQLite cannot bring the log home, and it grows with all that the driver writes."""
    record = Record(run)
    left = []

    def slowly(store: Store, *given: Any, **named: Any) -> int:
        record.event("meanwhile")
        record.commit()
        record._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        _, pages, home = record._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        left.append(pages - home)
        return real(store, *given, **named)

    real = Store.log
    monkeypatch.setattr(Store, "log", slowly)
    with record:
        export(run)
    assert len(left) == 8
    assert set(left) == {0}
    assert rows("SELECT count(*) FROM tags WHERE key = 'rungwise.trial'") == [(7,)]


def test_a_page_of_runs_says_what_each_is_and_what_it_scored(tmp_path: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    folder = confirmed.two_arms(tmp_path / "two")
    export(folder)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        query = database.execute
        tags = dict(query("SELECT key, value FROM experiment_tags").fetchall())
        assert tags["mlflow.experimentKind"] == "custom_model_development"
        assert tags["mlflow.note.content"] == "Does L2 help?"
        named = dict(query("SELECT name, run_uuid FROM runs").fetchall())
        assert "trial 4, confirm of 1 (no L2)" in named
        latest = "SELECT key, value FROM latest_metrics WHERE run_uuid = ?"
        metrics = dict(query(latest, (named["trial 4, confirm of 1 (no L2)"],)).fetchall())
        assert metrics["test_accuracy"] == pytest.approx(confirmed.NO_L2[0])
        assert metrics["best_val_accuracy"] >= metrics["val_accuracy"]
        inputs = query(
            "SELECT count(*) FROM inputs WHERE destination_id = ?", (named["trial 4, confirm of 1 (no L2)"],)
        )
        assert inputs.fetchone() == (1,)


def test_an_early_stopped_run_says_why_it_is_killed(run: Path, rows: Rows) -> None:
    export(run)
    tags = children(rows)[2]["tags"]
    assert tags["mlflow.note.content"] == (
        "Stopped early at epoch 1: val_accuracy did not reach 50.00%. MLflow calls such a run KILLED."
    )


def logged(run: Path, settings: LogSettings) -> Logged:
    """One pass of a run that was asked to be logged like this."""
    with Record(run) as record:
        record.set_meta(KEY, settings.to_json())
    return mlflow_feed(run).sync()


def test_an_experiment_of_ones_own_and_tags_that_mlflow_refuses_are_mapped_and_said(run: Path, rows: Rows) -> None:
    tags = {"team": "a", "cost (EUR)": "1", "long": "x" * 6000}
    done = logged(run, LogSettings(experiment="vision / l2", tags=tags))
    assert [name for (name,) in rows("SELECT name FROM experiments WHERE name <> 'Default'")] == ["vision / l2"]
    (uuid, _, _) = parent(rows)
    there = dict(rows("SELECT key, value FROM tags WHERE run_uuid = ?", uuid))
    assert (there["team"], there["cost _EUR_"], len(there["long"])) == ("a", "1", 5000)
    assert done.notes == (
        "the tag 'long' has 6000 characters, of which the first 5000 are there",
        "the tag 'cost (EUR)' is stored as 'cost _EUR_'",
        "an infinite metric is stored as the largest float, as SQL has no infinity",
    )
    assert mlflow_feed(run).sync().metrics == 0


def test_names_that_mlflow_refuses_are_said(out: Path) -> None:
    record, _ = begin(out / "demo")
    with record:
        add(record, 1)
        number = record.start_attempt(1)
        record.add_report(1, number, 1, {"epoch": 1.0, "val_accuracy": 0.5, "f1 (macro)": 0.5})
    assert mlflow_feed(out / "demo").sync().notes == ("the metric 'f1 (macro)' is stored as 'f1 _macro_'",)


def test_a_sweep_is_nested_under_the_run_of_the_environment(run: Path, rows: Rows, out: Path) -> None:
    store = Store(f"sqlite:///{out / 'mlflow.db'}")
    pipeline = store.create(store.experiment("pipeline"), "pipeline", 1000, {})
    done = logged(run, LogSettings(parent=pipeline.run_id))
    assert isinstance(done, Exported)
    tags = dict(rows("SELECT key, value FROM tags WHERE run_uuid = ?", done.run_id))
    assert tags["mlflow.parentRunId"] == pipeline.run_id
    found = dict(rows("SELECT e.name, COUNT(*) FROM runs JOIN experiments e USING (experiment_id) GROUP BY e.name"))
    assert found == {"pipeline": 9}  # itself, the sweep, seven trials
    assert mlflow_feed(run).sync().metrics == 0
    assert not any("pipeline" in note for note in done.notes)


def test_a_run_of_the_environment_that_the_store_lacks_is_said_and_holds_up_nothing(run: Path, rows: Rows) -> None:
    done = logged(run, LogSettings(parent="0" * 32))
    assert done.notes[0] == f"MLFLOW_RUN_ID is {'0' * 32}, a run that this store does not have: nested under none"
    assert len(children(rows)) == 7
