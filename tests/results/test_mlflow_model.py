"""The confirmed model in MLflow: loads without this project, is registered once, and is champion only when better."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from support.confirmed import L2, NO_L2, keep_model, sweep, two_arms
from support.demo import Rows
from support.mlflow_tables import TABLES
from support.tampering import in_expressions, tampered

from rungwise.results.cli.main import main
from rungwise.results.exporters.mlflow import export, mlflow_feed
from rungwise.results.exporters.mlflow_client import ExportError
from rungwise.results.exporters.mlflow_model import CHAMPION
from rungwise.results.exporters.tracking_uri import sqlite_uri
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import SweepState
from rungwise.results.record.writer import Record

MODELS = (
    "logged_models", "logged_model_tags", "logged_model_params", "logged_model_metrics",
    "registered_models", "registered_model_aliases", "model_versions", "model_version_tags",
)  # fmt: skip
# Runs where only MLflow and torch are: in a folder of its own, without this project's modules.
USER = """
import sys, json
import mlflow, numpy
mlflow.set_tracking_uri(sys.argv[1])
images = numpy.load("images.npy")
served = mlflow.pyfunc.load_model("models:/mnist_l2@champion")
numpy.save("served.npy", served.predict(images))
try:
    served.predict(images / 255)
except Exception as error:
    print("refused:", error)
program = mlflow.pytorch.load_model("models:/mnist_l2@champion")
import torch
numpy.save("direct.npy", program(torch.from_numpy(images)).detach().numpy())
assert not {"trainable", "results", "sweeps"} & sys.modules.keys()
"""


def everything(rows: Rows) -> dict[str, list[tuple[object, ...]]]:
    return {table: sorted(rows(f"SELECT * FROM {table}"), key=str) for table in (*TABLES, *MODELS)}


def champion(out: Path) -> Any:
    return MlflowClient(f"sqlite:///{out / 'mlflow.db'}").get_model_version_by_alias("mnist_l2", CHAMPION)


@pytest.fixture
def confirmed(out: Path, exported: Path) -> Path:
    """A finished sweep with its model."""
    folder = two_arms(out / "demo")
    keep_model(folder, exported)
    return folder


def again(out: Path, name: str, exported: Path, shift: float, **changed: Any) -> Path:
    """Another run of the sweep, whose validation accuracies are higher by `shift`, with a model of its own."""
    made = sweep(out / name, **changed)
    for arm, values in (("no L2", NO_L2), ("L2", L2)):
        made.confirmed(arm, made.search(arm, 0.98), [value + 0.001 + shift for value in values])
    made.record.end_session(1, SweepState.FINISHED)
    made.record.close()
    keep_model(out / name, exported, name=name, **changed.get("config", {}))
    return out / name


def test_a_process_without_this_project_gets_the_same_probabilities(
    confirmed: Path, out: Path, exported: Path, tmp_path: Path
) -> None:
    from rungwise.results.model.model import load
    from rungwise.trainable.data.dataset import load as load_data

    export(confirmed)
    test = load_data("digits").test
    assert test is not None
    work = tmp_path / "work"
    work.mkdir()
    np.save(work / "images.npy", test.x)
    command = [sys.executable, "-c", USER, f"sqlite:///{out / 'mlflow.db'}"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    wanted = load(exported).predict(test.x)
    assert np.abs(np.load(work / "served.npy") - wanted).max() < 1e-6
    assert np.abs(np.load(work / "direct.npy") - wanted).max() < 1e-6
    accuracy = np.mean(np.load(work / "served.npy").argmax(1) == test.y)
    assert accuracy == json.loads((exported / "config.json").read_text())["about"]["test"]["accuracy"]
    assert "refused:" in done.stdout  # the signature wants raw uint8
    assert "uint8" in done.stdout


def test_the_model_is_the_exported_files_with_signature_and_example(confirmed: Path, out: Path) -> None:
    from mlflow.models import Model

    export(confirmed)
    client, version = MlflowClient(f"sqlite:///{out / 'mlflow.db'}"), champion(out)
    folder = Path(client.get_model_version_download_uri(version.name, version.version).removeprefix("file://"))
    for file in (confirmed / "model").iterdir():
        assert (folder / "data" / "model" / file.name).read_bytes() == file.read_bytes()
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pth", ".pickle")]
    described = Model.load(folder)
    assert described.signature is not None
    assert str(described.signature.inputs) == "[Tensor('uint8', (-1, 1, 8, 8))]"
    assert str(described.signature.outputs) == "[Tensor('float32', (-1, 10))]"
    example = described.load_input_example(str(folder))
    assert np.asarray(example).shape == (4, 1, 8, 8)
    assert {"pytorch", "python_function"} == described.flavors.keys()
    wanted = (folder / "requirements.txt").read_text()
    assert "torch==" in wanted
    assert "rungwise" not in wanted


@pytest.mark.parametrize("mend", ["export", "doctor"])
def test_artifacts_and_model_of_a_moved_folder_of_runs_are_found_again(
    confirmed: Path, out: Path, tmp_path: Path, mend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (confirmed / "report.html").write_text("the report")
    export(confirmed)
    moved = out.rename(tmp_path / "moved [runs], ü")
    run = moved / confirmed.name
    if mend == "export":
        export(run)
    else:
        main(["doctor", str(run), "--fix"])
        assert f"was moved: it looks for its artifacts in {out.as_uri()}/mlartifacts (fixed)" in capsys.readouterr().out
    client = MlflowClient(sqlite_uri(moved / "mlflow.db"))
    version = client.get_model_version_by_alias("mnist_l2", CHAMPION)
    parent = client.get_run(version.run_id)
    artifacts = [file.path for file in client.list_artifacts(parent.info.run_id)]
    assert artifacts == ["report.html"]
    assert Path(client.download_artifacts(parent.info.run_id, "report.html")).read_text() == "the report"
    model = client.get_logged_model(version.source.removeprefix("models:/"))
    for uri in (model.artifact_location, client.get_model_version_download_uri("mnist_l2", version.version)):
        assert (Path(url2pathname(urlsplit(uri).path)) / "MLmodel").is_file()
    with closing(sqlite3.connect(moved / "mlflow.db")) as db:
        assert str(out) not in "\n".join(db.iterdump()).replace("mlflow.source", "")


def test_an_export_repeated_by_anyone_changes_nothing(confirmed: Path, rows: Rows) -> None:
    exporter = mlflow_feed(confirmed)
    exporter.sync()
    before = everything(rows)
    assert before["model_versions"]
    assert before["logged_model_metrics"]
    exporter.sync()
    export(confirmed)
    assert everything(rows) == before


@pytest.mark.parametrize(
    "method",
    ["create_logged_model", "log_model_artifacts", "finalize_logged_model", "log_outputs", "create_registered_model",
     "create_model_version", "set_logged_model_tags", "set_registered_model_alias"],
)  # fmt: skip
def test_an_export_that_died_after_any_call_is_completed_by_the_next(
    confirmed: Path, out: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    real = getattr(MlflowClient, method)

    def dying(self: MlflowClient, *given: Any, **named: Any) -> Any:
        real(self, *given, **named)
        raise OSError("the connection was lost")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, method, dying)
        with pytest.raises(ExportError, match="the connection was lost"):
            export(confirmed)
    export(confirmed)
    for table, count in (("logged_models", 1), ("registered_models", 1), ("model_versions", 1)):
        assert len(rows(f"SELECT * FROM {table}")) == count
    assert int(champion(out).version) == 1
    (outputs,) = rows("SELECT count(*) FROM inputs WHERE destination_type = 'MODEL_OUTPUT'")[0]
    assert outputs == 1
    assert rows("SELECT status FROM logged_models") == [(2,)]  # READY


def test_the_logged_model_is_told_of_its_version_once_so_mlflow_calls_it_registered(
    confirmed: Path, out: Path, rows: Rows
) -> None:
    export(confirmed)
    rows_before = rows("SELECT tag_value FROM logged_model_tags WHERE tag_key = 'mlflow.modelVersions'")
    assert [json.loads(value) for (value,) in rows_before] == [[{"name": "mnist_l2", "version": "1"}]]
    ((run, model),) = rows("SELECT source_run_id, model_id FROM logged_models")
    assert champion(out).source == f"models:/{model}"  # and the version of the model
    MlflowClient(f"sqlite:///{out / 'mlflow.db'}").delete_tag(run, "rungwise.model")
    export(confirmed)  # looks again
    assert rows("SELECT tag_value FROM logged_model_tags WHERE tag_key = 'mlflow.modelVersions'") == rows_before


@pytest.mark.parametrize("name", ["it's", "..", "a/b: c", "[/L2] (x)"])
def test_a_sweep_of_any_name_has_one_experiment_and_one_version(
    out: Path, exported: Path, rows: Rows, name: str
) -> None:
    folder = again(out, "demo", exported, 0.0)
    with Record(folder) as record, Reader(folder) as reader:
        record.set_meta("definition", reader.meta("definition") | {"sweep": name})
    for _ in range(2):
        export(folder)
        (folder / ".mlflow.lock").unlink()
        parent = "(SELECT source_run_id FROM logged_models)"
        with closing(sqlite3.connect(out / "mlflow.db")) as database, database:
            database.execute(f"DELETE FROM tags WHERE key = 'rungwise.model' AND run_uuid IN {parent}")
    assert len(rows("SELECT * FROM model_versions")) == 1
    assert rows("SELECT name FROM experiments WHERE name != 'Default'") == [(name,)]


def test_the_parent_says_what_was_confirmed(confirmed: Path, rows: Rows) -> None:
    done = export(confirmed)
    said = dict(rows("SELECT key, value FROM latest_metrics WHERE run_uuid = ?", done.run_id))
    assert said["confirmed_test_accuracy/L2"] == pytest.approx(0.984)
    assert said["confirmed_test_accuracy_sd/L2"] == pytest.approx(0.001)
    assert said["confirmed_test_accuracy_low/L2"] == pytest.approx(0.98276, abs=1e-5)
    assert said["confirmed_n/no L2"] == 5
    assert said["optimism/L2"] == pytest.approx(0.005)
    assert said["difference_test_accuracy/L2"] == pytest.approx(0.003)
    assert said["difference_test_accuracy_low/L2"] == pytest.approx(0.00171, abs=1e-5)
    tags = dict(rows("SELECT key, value FROM tags WHERE run_uuid = ?", done.run_id))
    assert tags["rungwise.answer"].startswith(
        "The configuration found with L2 has 0.30 points more test accuracy than the one found with no L2 ("
    )
    phases = rows("SELECT value, count(*) FROM tags WHERE key = 'rungwise.phase' GROUP BY value ORDER BY value")
    assert phases == [("confirm", 15), ("search", 3)]


def test_the_version_says_what_it_is_judged_by(confirmed: Path, out: Path) -> None:
    done = export(confirmed)
    version = champion(out)
    assert (int(version.version), version.run_id) == (1, done.run_id)
    assert float(version.tags["rungwise.validation"]) == pytest.approx(0.985)
    assert version.tags["rungwise.metric"] == "val_accuracy"
    assert version.tags["rungwise.arm"] == "L2"


def test_a_score_of_the_model_has_a_name_that_mlflow_takes(confirmed: Path, rows: Rows) -> None:
    about = json.loads((confirmed / "model" / "config.json").read_text())
    about["about"]["test"] = {"f1@0.5": 0.75}
    (confirmed / "model" / "config.json").write_text(json.dumps(about))
    export(confirmed)
    kept = rows("SELECT metric_name, metric_value FROM logged_model_metrics")
    assert ("model_test_f1_0.5", 0.75) in kept


def test_only_a_better_model_becomes_champion(confirmed: Path, out: Path, exported: Path) -> None:
    export(confirmed)
    export(again(out, "worse", exported, -0.001))
    assert int(champion(out).version) == 1
    export(again(out, "equal", exported, 0.0))
    assert int(champion(out).version) == 1
    best = export(again(out, "better", exported, 0.001))
    assert (int(champion(out).version), champion(out).run_id) == (4, best.run_id)
    export(confirmed)  # the old one, once more
    assert int(champion(out).version) == 4


def test_scores_on_other_data_do_not_dethrone_a_champion(confirmed: Path, out: Path, exported: Path) -> None:
    export(confirmed)
    other = again(out, "other", exported, 0.01, config={"data": {"name": "digits", "digest": "cd" * 32}})
    export(other)
    assert int(champion(out).version) == 1
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    assert len(client.search_model_versions("name = 'mnist_l2'")) == 2


def test_a_model_that_is_not_the_answers_is_not_registered(confirmed: Path, out: Path) -> None:
    config = confirmed / "model" / "config.json"
    content = json.loads(config.read_text())
    content["about"]["trial"] -= 1
    config.write_text(json.dumps(content))
    export(confirmed)
    with pytest.raises(MlflowException, match="not found"):
        champion(out)


def test_a_run_without_model_registers_none(out: Path) -> None:
    export(two_arms(out / "demo"))
    with pytest.raises(MlflowException, match="not found"):
        champion(out)


def test_a_damaged_model_is_named_and_the_rest_is_there(confirmed: Path, rows: Rows) -> None:
    with (confirmed / "model" / "model.pt2").open("r+b") as file:
        file.seek(200)
        file.write(b"\0\1\2\3")
    with pytest.raises(ExportError, match=r"has all but the model, because .*model\.pt2 must have SHA-256"):
        export(confirmed)
    assert rows("SELECT count(*) FROM runs WHERE status = 'FINISHED'") == [(19,)]  # the sweep and its 18 trials
    assert rows("SELECT count(*) FROM model_versions") == [(0,)]


def test_an_export_of_somebody_elses_run_runs_none_of_its_program(
    confirmed: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow keeps the program as it is; whoever loads it from there trusts the store."""
    monkeypatch.chdir(tmp_path)
    tampered(confirmed / "model", in_expressions)
    export(confirmed)
    assert int(champion(out).version) == 1
    assert not Path("owned").exists()


def test_the_report_is_kept_in_its_present_version(confirmed: Path, out: Path) -> None:
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    for text in ("<p>one", "<p>two"):
        (confirmed / "report.html").write_text(text)
        done = export(confirmed)
        (kept,) = [file.path for file in client.list_artifacts(done.run_id) if file.path.endswith(".html")]
        assert Path(client.download_artifacts(done.run_id, kept)).read_text() == text


def test_blocks_within_blocks_see_one_state(confirmed: Path) -> None:
    with Reader(confirmed) as reader, reader.snapshot():
        with reader.snapshot():
            assert len(reader.trials()) == 18
        assert len(reader.trials()) == 18
