"""`rungwise` as its user runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.demo import DEFINITION, Rows, add, attempt, begin, damage

import rungwise
from rungwise.results.cli.main import main
from rungwise.results.cli.show import sparkline
from rungwise.results.record.types import State, SweepState
from rungwise.results.record.writer import Record

COMMANDS = (
    "compare", "copy", "doctor", "export", "follow", "list", "predict", "pull", "report", "show", "sql", "study"
)  # fmt: skip


def start(*words: object, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rungwise", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )


def results(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    process = start(*words, **variables)
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_two_exports_that_make_the_store_at_once_both_say_what_they_did_and_nothing_else(out: Path, rows: Rows) -> None:
    (out / "mlflow.db").unlink()
    exports = []
    for name in ("a", "b"):
        record, session = begin(out / name)
        with record:
            add(record, 1)
            attempt(record, 1, 0.5)
            record.end_session(session, SweepState.FINISHED)
        exports.append(start("export", out / name))
    for name, process in zip("ab", exports, strict=True):
        said, complained = process.communicate()
        assert complained == ""
        assert said.splitlines()[0] == f"parquet {out / name / 'trials.parquet'}, reports.parquet"
        assert said.splitlines()[1].startswith(f"mlflow  sqlite:///{out / 'mlflow.db'}: 1 trials, ")
        assert len(said.splitlines()) == 2
        assert process.returncode == 0
    assert rows("SELECT count(*) FROM runs") == [(4,)]
    assert rows("SELECT count(*) FROM experiments WHERE name = 'mnist_l2'") == [(1,)]


def test_export_takes_the_uri_from_the_environment_and_exits_1_when_it_fails(run: Path) -> None:
    done = results("export", run, MLFLOW_TRACKING_URI="http://ada:sesame@127.0.0.1:9")
    assert done.returncode == 1
    assert done.stdout.startswith("parquet ")
    assert "cannot be reached" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "sesame" not in done.stdout + done.stderr


def test_follow_prints_one_json_line(run: Path) -> None:
    done = results("follow", run)
    assert done.returncode == 0
    assert json.loads(done.stdout)["mlflow"] == "complete"
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("command", ["export", "show", "follow"])
def test_a_folder_without_a_record_is_refused_with_2(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"a run's folder holds sweep.sqlite, but {tmp_path} has none\n"


def test_a_damaged_record_is_refused_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sweep.sqlite").write_bytes(b"no record" * 1000)
    assert main(["show", str(tmp_path)]) == 2
    assert "cannot be read as a record" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["show", "export"])
def test_a_record_damaged_further_on_is_refused_with_2(
    run: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(run)
    assert main([command, str(run)]) == 2
    assert "malformed" in capsys.readouterr().err


@pytest.mark.usefixtures("run")
def test_list_is_a_line_a_run(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", str(out)]) == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.split()[:2] == ["run", "sweep"]
    assert "demo" in line
    assert "INTERRUPTED" in line
    assert "2 to go on, 2 completed, 1 stopped, 1 diverged, 1 failed, 1 lost" in line
    assert "val_accuracy 90.00%" in line


def test_a_run_that_is_only_planned_is_planned_everywhere_and_not_running(
    out: Path, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / "later").mkdir()
    with Record(out / "later") as record:
        record.set_meta("definition", DEFINITION | {"name": "later"})
        record.set_meta("id", "id-of-later")
    assert main(["list", str(out)]) == 0
    assert re.search(r"later +mnist_l2 +PLANNED +none", capsys.readouterr().out)
    assert main(["show", str(out / "later")]) == 0
    assert capsys.readouterr().out.startswith("later: planned\n")
    assert main(["export", str(out / "later")]) == 0
    assert rows("SELECT status FROM runs WHERE name = 'later'") == [("SCHEDULED",)]
    assert main(["report", str(out / "later")]) == 0
    assert "The sweep is planned, and has not begun." in (out / "later" / "report.html").read_text()


def test_a_trial_in_flight_runs_while_its_sweep_does(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record, _ = begin(out / "alive")
    with record:
        add(record, 1)
        attempt(record, 1, 0.5)
        assert main(["list", str(out)]) == 0
    assert re.search("alive .* RUNNING +1 running ", capsys.readouterr().out)


def test_list_of_nothing_is_refused_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", str(tmp_path)]) == 2
    assert "holds RUN/sweep.sqlite" in capsys.readouterr().err


def test_show_puts_the_best_first_and_shows_what_varies(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(run)]) == 0
    title, question, heading, *lines = capsys.readouterr().out.splitlines()
    assert (title, question) == ("demo: interrupted", "Does L2 help?")
    assert "optimizer" in heading  # adam or sgd
    assert "params" not in heading
    assert "hidden" not in heading  # the same in all trials
    assert [line.split()[:2] for line in lines[:3]] == [["1", "1"], ["2", "6"], ["3", "2"]]
    assert "▁▄█▆" in lines[0]
    assert len(lines) == 8


@pytest.mark.parametrize("terminal", [True, False])
def test_a_reason_is_cut_on_a_terminal_and_whole_when_piped(
    out: Path, terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = "OSError: " + "/some/where/deep" * 60 + "/weights.pt"
    record, session = begin(out / "long")
    with record:
        add(record, 1)
        attempt(record, 1)
        record.end_trial(1, State.FAILED, reason=reason)
        record.end_session(session, SweepState.FINISHED)
    if terminal:
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["show", str(out / "long")]) == 0
    shown = capsys.readouterr().out
    assert (reason in shown) is not terminal
    assert "OSError: /some/where/deep" in shown


def test_show_stops_at_top(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(run), "--top", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3 + 2


def test_help_is_quick_and_names_every_command() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "rungwise", "--help"], capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not imported & {"torch", "ray", "mlflow", "pandas", "pyarrow", "sklearn", "scipy", "plotly", "optuna"}
    helps = dict(re.findall(r"^    (\w+) +(\S.*)$", done.stdout, re.MULTILINE))
    assert sorted(helps) == [*COMMANDS]  # each with its help, in one line
    assert "--version" in done.stdout


def test_version_is_the_installed_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(["--version"])
    assert exit_status.value.code == 0
    assert capsys.readouterr().out == f"rungwise {rungwise.__version__}\n"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], "COMMAND"),
        (["shwo", "runs/a"], "'shwo'"),
        (["show"], "RUN"),
        (["show", "runs/a", "--tops", "3"], "--tops 3"),
        (["show", "runs/a", "--top", "x"], "'x'"),
    ],
)
def test_a_wrong_command_is_one_line_and_exit_code_2(
    words: list[str], names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(words)
    assert exit_status.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rungwise")
    assert names in line
    assert line.endswith("--help)")


def test_a_closed_pipe_is_no_error(run: Path) -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m rungwise show {run} | head -1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "demo: interrupted\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("values", "curve"),
    [
        ([], ""),
        ([0.5], "▁"),
        ([0.0, 1.0, float("nan"), 0.5], "▁█x▅"),
        ([float("inf")], "x"),
        (list(range(1000)), "▁▁▂▂▂▃▃▃▃▄▄▄▅▅▅▆▆▆▆▇▇▇██"),
    ],
)
def test_a_sparkline_runs_from_lowest_to_highest(values: list[float], curve: str) -> None:
    assert sparkline(values) == curve


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_show_cuts_no_number_however_narrow_the_terminal(
    run: Path, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")
    record, _ = begin(run.parent / "wide")
    with record:
        for number, value in enumerate((0.000312345, 0.0123456, 1.5e-7), 1):
            record.add_trial(
                number, arm="L2", phase="search", config={}, distributions={},
                params=dict.fromkeys(("lr", "momentum", "weight_decay", "label_smoothing"), value),
            )  # fmt: skip
            attempt(record, number, 0.5, 0.98765)
    assert main(["show", str(run.parent / "wide")]) == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    for number in ("0.0003123", "0.01235", "1.5e-07"):
        assert shown.count(number) == 4
    assert shown.count("98.77%") == 3
    assert ("▁█" in shown) is (columns == 200)  # the curve gives way, the numbers do not
