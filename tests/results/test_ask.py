"""A run is asked: by `results.open`, compare, sql and study, and in the notebook."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from scipy import stats
from support.confirmed import L2, NO_L2, SEEDS, sweep, two_arms
from support.ports import free_port

from rungwise import results
from rungwise.results.analysis.compare import PRODUCTS, compare_folders
from rungwise.results.cli.main import main
from rungwise.results.exporters.optuna_storage import StorageError, write
from rungwise.results.exporters.tracking_uri import sqlite_uri
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import RecordError, SweepState
from rungwise.results.record.writer import Record
from rungwise.results.tables import parquet
from rungwise.results.tables.sql import SqlError, query

ROOT = Path(__file__).parents[2]


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return two_arms(tmp_path / "two")


# -- results.open ------------------------------------------------------------------------------------------------


def test_open_gives_tables_study_and_answer(two: Path) -> None:
    run = results.open(two)
    assert (run.name, run.question, run.arms, run.state) == ("two", "Does L2 help?", ["no L2", "L2"], "FINISHED")
    assert run.trials.to_pandas()["phase"].value_counts().to_dict() == {"confirm": 15, "search": 3}
    assert run.reports.num_rows == 36
    assert run.answer.best == "L2"
    assert [trial.value for trial in run.study("L2").trials] == [0.99, 0.988]
    assert run.sql("select count(*) as n from trials where arm = 'L2'").to_pylist() == [{"n": 12}]


def test_open_refuses_what_is_not_there(two: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="has none"):
        results.open(tmp_path / "nothing")
    with pytest.raises(ValueError, match="an arm must be one of 'no L2', 'L2', but got None"):
        results.open(two).study()
    with pytest.raises(AttributeError, match="has no attribute 'shut'"):
        _ = results.shut


def test_one_arm_needs_no_name(tmp_path: Path) -> None:
    sweep(tmp_path / "one", arms={"all": {}}).record.close()
    assert results.open(tmp_path / "one").study().study_name == "all"


def test_importing_results_is_cheap() -> None:
    code = "import sys, results; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "results" in done.stdout.split()
    assert not {"numpy", "pyarrow", "scipy", "torch", "mlflow", "optuna", "duckdb"} & set(done.stdout.split())


# -- compare -----------------------------------------------------------------------------------------------------


def shifted(folder: Path, seeds: tuple[int, ...] = SEEDS, **changed: Any) -> Path:
    """The same sweep, where L2's test scores are 0, 1, 2, 1, 1 thousandths higher."""
    made = sweep(folder, **changed)
    for arm, values in (("no L2", NO_L2), ("L2", L2)):
        up = [0.0, 0.001, 0.002, 0.001, 0.001] if arm == "L2" else [0.0] * 5
        scores = [value + more for value, more in zip(values, up, strict=True)]
        made.score(made.confirmed(arm, made.search(arm, 0.98), values, seeds), scores)
    made.record.end_session(1, SweepState.FINISHED)
    made.record.close()
    return folder


def test_two_runs_arms_are_compared_together(two: Path, tmp_path: Path) -> None:
    found = compare_folders(two, shifted(tmp_path / "other"))
    assert found.problems == ()
    row = {row.arm: row for row in found.rows}["L2"]
    assert row.difference is not None
    assert row.difference.mean == pytest.approx(0.001)
    assert row.first is not None
    assert row.second is not None
    sides = [list(arm.scores.values()) for arm in (row.second, row.first)]
    wanted = stats.ttest_ind(*sides, equal_var=False).confidence_interval(1 - 0.05 / 2)  # of two arms
    assert (row.difference.low, row.difference.high) == (pytest.approx(wanted.low), pytest.approx(wanted.high))


def test_compare_prints_both_answers(two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = shifted(tmp_path / "other", (21, 22, 23, 24, 25))
    assert main(["compare", str(two), str(other)]) == 0
    shown = capsys.readouterr().out
    assert "two: test accuracy" in shown
    assert "98.40% (98.27 to 98.53%, n=5)" in shown
    assert "0.00 (-0.13 to 0.13, contains 0)" in shown
    assert "other: The configuration found with L2 has 0.40 points more test accuracy" in shown


def test_compare_says_in_what_the_runs_differ_that_decides_how_numbers_are_summed(
    two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shifted(tmp_path / "other")
    assert compare_folders(two, other).notes == ()  # an earlier version's: nobody knows
    known = {"processor": {"model": "EPYC", "instructions": "avx2 avx512f"}, "torch build": "5c48869, CUDA 13.0"}
    changed = known | {"processor": {"model": "EPYC", "instructions": "avx2"}}
    for run, info, products in ((two, known, "oneDNN, AVX512"), (other, changed, "MKL, AVX2")):
        with Record(run) as record:
            record.start_session(info)
            record.set_meta(PRODUCTS, products)
    assert compare_folders(two, two).notes == ()
    assert main(["compare", str(two), str(other)]) == 0
    assert (
        "note: the runs differ in instruction sets (avx2 avx512f against avx2), library of matrix products (oneDNN, "
        "AVX512 against MKL, AVX2): there the same command may give other scores"
    ) in capsys.readouterr().err.replace("\n", " ")


def test_runs_of_one_name_are_told_apart_by_their_folders(
    two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shifted(tmp_path / "elsewhere" / two.name, name="two")
    assert main(["compare", str(two), str(other)]) == 0
    shown = capsys.readouterr().out
    for folder in (two, other):
        assert f"{folder}: test accuracy" in shown
        assert shown.count(f"{folder}: ") == 2  # its scores, and its answer


def test_what_does_not_compare_is_said_and_not_subtracted(
    two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shifted(tmp_path / "other", data={"name": "kmnist", "digest": "cd" * 32})
    assert all(row.difference is None for row in compare_folders(two, other).rows)
    assert main(["compare", str(two), str(other)]) == 1
    assert "same samples only, but the runs have mnist abababab and kmnist cdcdcdcd" in capsys.readouterr().err
    empty = sweep(tmp_path / "empty")
    empty.record.close()
    assert main(["compare", str(two), str(tmp_path / "empty")]) == 1
    assert "confirmed in both runs to be compared" in capsys.readouterr().err
    assert main(["compare", str(two), str(tmp_path / "absent")]) == 2


# -- sql ---------------------------------------------------------------------------------------------------------


def test_sql_prints_csv(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "select trial, arm, best_value from trials where phase = 'search' order by best_value desc"
    assert main(["sql", str(two), text]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows == [["trial", "arm", "best_value"], ["2", "L2", "0.99"], ["3", "L2", "0.988"], ["1", "no L2", "0.985"]]
    assert (two / parquet.TRIALS).exists()  # made on the way


def test_sql_joins_both_tables_and_keeps_types(two: Path) -> None:
    found = query(
        two, "select t.arm, count(*) n, max(r.at) as latest from reports r join trials t using (trial) group by 1"
    )
    assert {row["arm"]: row["n"] for row in found.to_pylist()} == {"no L2": 12, "L2": 24}
    assert str(found.schema.field("latest").type) == "timestamp[us, tz=UTC]"


def test_sql_refuses_a_bad_query_and_a_damaged_page(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sql", str(two), "select nothing from trials"]) == 2
    assert 'Referenced column "nothing" not found' in capsys.readouterr().err
    assert main(["sql", str(two), "select 1 from trails"]) == 2
    assert "Table with name trails does not exist! The tables are trials, reports, answer." in capsys.readouterr().err
    with pytest.raises(SqlError):
        query(two, "select")
    content = bytearray((two / parquet.TRIALS).read_bytes())
    content[200] ^= 1
    (two / parquet.TRIALS).write_bytes(content)
    assert main(["sql", str(two), "select 1"]) == 2
    assert "must be a whole Parquet file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM read_csv('{there}')",
        "SELECT * FROM '{there}'",
        "SELECT * FROM glob('{folder}/*')",
        "COPY trials TO '{folder}/new.csv'",
        "ATTACH '{folder}/new.db'",
        "EXPORT DATABASE '{folder}/new'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
    ],
)
def test_sql_reaches_no_file_and_no_extension_unless_asked(
    two: Path, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there.csv"
    there.write_text("a\nsecret\n")
    before = sorted(tmp_path.rglob("*.csv")) + sorted(tmp_path.glob("new*"))
    assert main(["sql", str(two), text.format(there=there, folder=tmp_path)]) == 2
    shown, error = capsys.readouterr()
    assert "secret" not in shown + error
    assert len(error.splitlines()) == 1
    assert sorted(tmp_path.rglob("*.csv")) + sorted(tmp_path.glob("new*")) == before


def test_sql_reads_a_file_when_asked(two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there.csv").write_text("a\n4711\n")
    assert main(["sql", str(two), f"SELECT * FROM '{tmp_path}/there.csv'", "--allow-external"]) == 0
    assert "4711" in capsys.readouterr().out
    assert results.open(two).sql(f"SELECT a FROM '{tmp_path}/there.csv'", external=True).to_pylist() == [{"a": 4711}]


# -- study -------------------------------------------------------------------------------------------------------


@pytest.fixture
def searched(tmp_path: Path) -> Path:
    """Twelve trials of two hyperparameters in every state, so that importances and contours have something to show."""
    from support.demo import fill

    made = sweep(tmp_path / "searched", arms={"no L2": {}, "L2": {}})
    fill(made.record)
    made.trials = 8
    for number in range(12):
        lr = 0.0002 * 1.5**number
        made.search("L2", 0.5, 0.9 - abs(number - 6) / 100, lr=lr, hidden=("128-64", "256-128")[number % 2])
    made.record.close()
    return tmp_path / "searched"


def test_the_studies_are_written_once_however_often(searched: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    with Reader(searched) as reader:
        assert write(reader, url) == write(reader, url) == ["searched: no L2", "searched: L2"]
    found = optuna.load_study(study_name="searched: L2", storage=url)
    wanted = results.open(searched).study("L2")
    assert optuna.get_all_study_names(url) == ["searched: no L2", "searched: L2"]
    assert [(t.state, t.value, t.params, t.intermediate_values, t.user_attrs) for t in found.trials] == [
        (t.state, t.value, t.params, t.intermediate_values, t.user_attrs) for t in wanted.trials
    ]
    assert found.direction is optuna.study.StudyDirection.MAXIMIZE
    assert found.user_attrs["question"] == "Does L2 help?"


def test_a_new_storage_is_whole_or_absent(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = tmp_path / "what? 50%" / "study.db"
    database.parent.mkdir()
    url = sqlite_uri(database)
    with monkeypatch.context() as patched, Reader(searched) as reader:
        patched.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no room")))
        with pytest.raises(StorageError, match="no room"):
            write(reader, url)
    assert not database.exists()
    with Reader(searched) as reader:
        names = write(reader, url)
    assert [path.name for path in database.parent.iterdir()] == ["study.db"]
    assert optuna.get_all_study_names(url) == names


def test_a_study_of_somebody_else_is_left_alone(searched: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    optuna.create_study(study_name="searched: L2", storage=url)
    with Reader(searched) as reader, pytest.raises(StorageError, match="'searched: L2' is not: give another --storage"):
        write(reader, url)
    assert optuna.get_all_study_names(url) == ["searched: L2"]


def test_a_storage_that_cannot_be_used_is_named_without_its_password(
    searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for url in ("nonsense://me:secret@nowhere/x", "sqlite:////nowhere/at/all.db", "no url"):
        assert main(["study", str(searched), "--storage", url]) == 2
        error = capsys.readouterr().err
        assert "must take the studies, but" in error
        assert "secret" not in error


def test_every_plot_of_optuna_opens_the_study(searched: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    with Reader(searched) as reader:
        write(reader, url)
    study = optuna.load_study(study_name="searched: L2", storage=url)
    plots = [name for name in optuna.visualization.__all__ if name.startswith("plot_")]
    # Of several objectives, or of a terminator: not what a sweep has.
    other = {"plot_pareto_front", "plot_hypervolume_history", "plot_terminator_improvement"}
    assert len(set(plots) - other) >= 9
    for name in sorted(set(plots) - other):
        figure = getattr(optuna.visualization, name)(study)
        assert len(figure.data) > 0, name


def test_the_real_dashboard_shows_the_study(searched: Path, tmp_path: Path) -> None:
    assert main(["study", str(searched), "--storage", f"sqlite:///{tmp_path / 'study.db'}"]) == 0
    port = free_port()
    command = [str(Path(sys.executable).parent / "optuna-dashboard"), f"sqlite:///{tmp_path / 'study.db'}"]
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        studies = {study["study_name"]: study for study in fetched(port, "/api/studies", server)["study_summaries"]}
        assert studies.keys() == {"searched: no L2", "searched: L2"}
        detail = fetched(port, f"/api/studies/{studies['searched: L2']['study_id']}?after=0", server)
    finally:
        server.terminate()
        server.wait(600)
    assert detail["directions"] == ["maximize"]
    wanted = results.open(searched).study("L2").trials
    assert [trial["state"].upper() for trial in detail["trials"]] == [
        {"FAIL": "FAIL", "COMPLETE": "COMPLETE"}.get(trial.state.name, trial.state.name) for trial in wanted
    ]


def fetched(port: int, path: str, server: subprocess.Popen[bytes]) -> Any:
    """JSON from the dashboard, once it is up."""
    until = time.monotonic() + 600
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=600) as answer:
                return json.load(answer)
        except (ConnectionError, urllib.error.URLError):
            assert server.poll() is None, "the dashboard has ended"
            assert time.monotonic() < until, "the dashboard does not answer"
            time.sleep(0.1)


# -- the notebook ------------------------------------------------------------------------------------------------

EXECUTE = """
import nbformat, nbclient, os, sys
from traitlets.config import Config
notebook = nbformat.read(sys.argv[1], as_version=4)
patience = {"timeout": 600, "startup_timeout": 600, "iopub_timeout": 600}
# A port is chosen long before the kernel takes it, and may be another process's by then.
sockets = Config({"KernelManager": {"transport": "ipc", "ip": f"{os.environ['TMPDIR']}/notebook"}})
nbclient.NotebookClient(notebook, kernel_name="python3", config=sockets, **patience).execute()
nbformat.write(notebook, "executed.ipynb")
"""


def test_the_notebook_trains_a_sweep_and_runs_from_top_to_bottom(tmp_path: Path) -> None:
    command = [sys.executable, "-c", EXECUTE, str(ROOT / "docs" / "notebook.ipynb")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    cells = json.loads((tmp_path / "executed.ipynb").read_text())["cells"]
    texts = ["".join(output.get("text", "")) for cell in cells for output in cell.get("outputs", [])]
    sentence = results.open(tmp_path / "runs" / "digits").answer.sentence
    assert any(" ".join(sentence.split()) in " ".join(text.split()) for text in texts)
    assert any("(2, 10)" in text for text in texts)
    kinds = {kind for cell in cells for output in cell.get("outputs", []) for kind in output.get("data", {})}
    assert "image/png" in kinds  # the curves
    (page,) = [cell["outputs"][0]["data"] for cell in cells if cell["source"] == ["run.report()"]]
    assert "".join(page["text/plain"]) == sentence
    assert "".join(page["text/html"]).startswith("<iframe srcdoc=")
    assert not np.any(["Traceback" in text for text in texts])
