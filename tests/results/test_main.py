"""`rungwise` as its user runs it."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import confirmed
from support.demo import DEFINITION, Rows, add, attempt, begin, damage

import rungwise
from rungwise.cli import main
from rungwise.results.cli.show import sparkline
from rungwise.results.record.types import State, SweepState
from rungwise.results.record.writer import Record

COMMANDS = (
    "compare", "copy", "dashboard", "demo", "doctor", "export", "list", "predict", "pull", "report", "show", "sql",
    "stop", "study", "watch",
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
        assert said.splitlines()[0] == f"parquet {out / name / 'trials.parquet'}, reports.parquet, answer.parquet"
        assert said.splitlines()[1].startswith(f"mlflow  sqlite:///{out / 'mlflow.db'}: 1 trial, ")
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


@pytest.mark.parametrize("command", ["export", "show", "doctor"])
def test_a_folder_without_a_record_is_refused_with_2(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # no runs/
    folder = tmp_path / "none"
    folder.mkdir()
    assert main([command, str(folder)]) == 2
    assert capsys.readouterr().err == f"error: a run's folder contains sweep.sqlite, but {folder} has none\n"


@pytest.mark.parametrize("command", ["show", "watch", "stop", "report", "export", "list", "dashboard"])
def test_what_the_system_refuses_is_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "x" * 300]) == 2
    assert re.fullmatch(r"error: \[Errno \d+\] File name too long: 'x+.*'\n", capsys.readouterr().err)


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
    assert "2 to resume, 2 completed, 1 stopped, 1 diverged, 1 failed, 1 lost" in line
    assert line.rstrip().endswith("none yet")  # no answer


def test_a_trial_of_an_interrupted_sweep_is_to_resume(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", str(run)])
    shown = capsys.readouterr().out
    assert "TO RESUME" in shown
    assert "RUNNING" not in shown


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
    assert "contains RUN/sweep.sqlite" in capsys.readouterr().err


def test_show_puts_the_best_first_and_shows_what_varies(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(run)]) == 0
    title, question, *answer, heading, first, second, third, _, _, _, _, _ = capsys.readouterr().out.splitlines()
    lines = [first, second, third]
    assert answer == ["", "No answer yet: no trial was confirmed.", ""]
    assert (title, question) == ("demo: interrupted", "Does L2 help?")
    assert "optimizer" in heading  # adam or sgd
    assert "params" not in heading
    assert "hidden" not in heading  # the same in all trials
    assert [line.split()[:2] for line in lines] == [["1", "1"], ["2", "6"], ["3", "2"]]
    assert "▁▄█▆" in first


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


def test_show_stops_at_top_and_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(run), "--top", "2"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 2 + 3 + 1 + 2 + 1  # title and question, answer, heading, trials, the rest
    assert shown[-1] == "6 more trials: --top 8 shows all"


def test_show_draws_a_line_between_search_and_confirmation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(confirmed.two_arms(tmp_path / "run"))]) == 0
    table = capsys.readouterr().out.partition(" rank ")[2]
    lines = table.splitlines()[1:]
    phases = ["line" if set(line) <= {" ", "─"} else "confirm" if "(confirm)" in line else "search" for line in lines]
    assert [phase for phase, _ in itertools.groupby(phases)] == ["search", "line", "confirm"]
    assert phases.count("line") == 1


def make_run(folder: Path, name: str, started: float, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("time.time", lambda: started)
    record, session = begin(folder / name)
    with record:
        add(record, 1)
        attempt(record, 1, 0.5)
        record.end_session(session, SweepState.FINISHED)
    monkeypatch.undo()
    return folder / name


def test_a_command_without_a_run_takes_the_newest_and_a_name_stands_for_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, started in (("first", 1_000.0), ("newest", 3_000.0), ("second", 2_000.0)):
        make_run(tmp_path / "runs", name, started, monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert main(["show"]) == 0
    assert capsys.readouterr().out.startswith("newest: finished\n")
    assert main(["show", "second"]) == 0
    assert capsys.readouterr().out.startswith("second: finished\n")
    assert main(["report"]) == 0
    assert capsys.readouterr().out == "runs/newest/report.html\n"
    assert main(["sql", "select count(*) as n from trials"]) == 0
    assert capsys.readouterr().out == "n\r\n1\r\n"
    assert (tmp_path / "runs/newest/trials.parquet").exists()
    assert main(["copy", str(tmp_path / "copies")]) == 0
    assert [path.name for path in (tmp_path / "copies").iterdir()] == ["newest"]
    assert main(["predict", "drawing.png"]) == 2
    assert "runs/newest" in capsys.readouterr().err  # which holds no model
    main(["compare"])
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()][:2] == ["second", "newest"]
    main(["compare", "newest"])
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()][:2] == ["newest", "second"]
    assert main(["show", "frist"]) == 2
    expected = "error: a run's folder contains sweep.sqlite, but frist has none; runs in runs: first, newest, second\n"
    assert capsys.readouterr().err == expected


def test_without_any_run_a_run_must_be_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["show"]) == 2
    assert (
        capsys.readouterr().err == "error: a RUN must be given, because runs/ in the working folder contains no run\n"
    )


def test_help_is_quick_and_names_every_command() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "rungwise", "--help"], capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not imported & {"torch", "ray", "mlflow", "pandas", "pyarrow", "sklearn", "scipy", "plotly", "optuna"}
    listed = re.findall(r"^│ (\w+) +(\S.*) │$", done.stdout, re.MULTILINE)
    assert sorted(name for name, _ in listed) == [*COMMANDS]  # each once, with its help, in one line
    assert "--version" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_no_help_names_a_default_of_a_switch(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert not re.search(r"\(default: (False|True|None|'')\)|\) \(default|\.0\)", told)


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    bare = capsys.readouterr()
    assert main(["--help"]) == 0
    assert capsys.readouterr() == bare


def test_version_is_the_installed_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"rungwise {rungwise.__version__}\n"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["shwo", "runs/a"], "unknown command 'shwo'; did you mean show?"),
        (["pull"], "SOURCE and NAME must be given"),
        (["copy"], "WHERE must be given"),
        (["predict"], "a FILE must be given, an image or a table"),
        (["show", "runs/a", "--tops", "3"], "unknown flag --tops; did you mean --top?"),
        (["show", "runs/a", "--top", "x"], "--top must be a whole number (got 'x')"),
        (["show", "runs/a", "--top"], "--top needs a value"),
        (["show", "runs/a", "--sort", "-h"], "--sort needs a value"),
        (["export", "runs/a", "runs/b"], "unexpected argument 'runs/b'"),
        (["follow", "runs/a"], "unknown command 'follow'"),
    ],
)
def test_a_wrong_command_names_the_right_one_and_has_exit_code_2(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    printed = capsys.readouterr()
    command = f"rungwise {words[0]}" if words and words[0] in COMMANDS else "rungwise"
    assert (printed.out, printed.err) == ("", f"error: {problem} (see {command} --help)\n")


@pytest.mark.parametrize(
    ("command", "first"),
    [("show {run}", "demo: interrupted"), ("demo --help-all", "usage: rungwise demo [-h] [OPTIONS]")],
)
def test_a_closed_pipe_is_no_error(command: str, first: str, run: Path) -> None:
    piped = f"{sys.executable} -m rungwise {command.format(run=run)} | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", piped], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{first}\n", "")


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


@pytest.mark.parametrize("columns", [40, 60, 79, 80, 100, 200])
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
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= columns  # nor does the terminal break one
    assert ("▁█" in shown) is (columns == 200)  # the curve gives way, the numbers do not


# -- show, list and sql of a confirmed run ---------------------------------------------------------------------


@pytest.fixture
def two_arms(tmp_path: Path) -> Path:
    return confirmed.two_arms(tmp_path / "runs" / "two")


def test_show_and_list_begin_with_the_answer(two_arms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = rungwise.open_run(two_arms).answer.sentence
    assert main(["show", str(two_arms)]) == 0
    shown = capsys.readouterr().out
    assert sentence in shown
    assert shown.index(sentence) < shown.index("rank")
    assert main(["list", str(two_arms.parent)]) == 0
    assert sentence.split(". ")[0] in capsys.readouterr().out


def test_list_tells_trials_of_the_search_from_repeats(two_arms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", str(two_arms.parent)])
    assert "  3 completed; 15 repeats  " in capsys.readouterr().out


def test_a_run_without_a_confirmation_says_that_it_has_no_answer(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(run)]) == 0
    assert "No answer yet" in capsys.readouterr().out


def test_show_filters_sorts_and_prints_csv_and_json(two_arms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(two_arms), "--arm", "L2", "--phase", "confirm", "--sort", "-trial", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {(row["arm"], row["phase"]) for row in rows} == {("L2", "confirm")}
    numbers = [int(row["trial"]) for row in rows]
    assert len(numbers) > 3
    assert numbers == sorted(numbers, reverse=True)
    assert main(["show", str(two_arms), "--phase", "search", "--sort", "lr", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rates = [row["params_lr"] for row in found]
    assert rates == sorted(rates)
    assert {row["phase"] for row in found} == {"search"}
    for name in ("csv", "json"):
        main(["show", str(two_arms), "--format", name])
        long = capsys.readouterr().out
        main(["show", str(two_arms), f"--{name}"])
        assert capsys.readouterr().out == long
    assert main(["show", str(two_arms), "--csv", "--json"]) == 2
    assert "only one format can be printed, but csv and json are asked for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--arm", "l2"], "--arm must be one of L2, no L2 (got 'l2')"),
        (["--phase", "x"], "--phase must be one of confirm, search (got 'x')"),
        (["--sort", "epocs"], "unknown --sort 'epocs'; did you mean 'epochs'?"),
    ],
)
def test_show_refuses_what_the_run_does_not_have(
    two_arms: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(two_arms), *words]) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")


def on_terminal(columns: int, *words: object, code: int = 0) -> str:
    """What `rungwise` prints on a terminal of that width, without its colours, before it ends with exit code `code`."""
    command = shlex.join([sys.executable, "-m", "rungwise", *map(str, words)])
    environment = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES")}
    done = subprocess.run(
        ["script", "-qec", f"stty cols {columns}; {command}", "/dev/null"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment | {"TERM": "xterm"},
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.stdout).replace("\r\n", "\n")


def test_an_error_on_a_terminal_is_the_line_that_a_log_gets_broken_at_words() -> None:
    assert on_terminal(60, "show", "--top", "x", code=2).split() == (
        ["error:", "--top", "must", "be", "a", "whole", "number", "(got", "'x')", "(see", "rungwise", "show", "--help)"]
    )


@pytest.mark.parametrize("words", [[], [""]])
def test_sql_without_a_query_lists_the_columns(
    words: list[str], two_arms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sql", str(two_arms), *words]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {"table": "trials", "column": "params_lr", "type": "double"}.items() <= next(
        row for row in rows if row["column"] == "params_lr"
    ).items()
    assert {row["table"] for row in rows} == {"trials", "reports", "answer"}


def test_sql_prints_a_line_for_each_cell_where_the_columns_do_not_fit(two_arms: Path) -> None:
    query = "select trial, arm, state, best_value, params_lr from trials order by trial limit 2"
    wide, narrow = on_terminal(100, "sql", two_arms, query), on_terminal(40, "sql", two_arms, query)
    assert wide.split()[:5] == ["trial", "arm", "state", "best_value", "params_lr"]
    assert "row 1" not in wide
    assert [line.split() for line in narrow.splitlines()][:3] == [["row", "1"], ["trial", "1"], ["arm", "no", "L2"]]
    assert max(map(len, narrow.splitlines())) <= 40


def test_list_breaks_the_answer_and_never_a_number(two_arms: Path) -> None:
    text = on_terminal(60, "list", two_arms.parent)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 60
    said = [line[line.index("FINISHED") + 8 :] if "FINISHED" in line else line for line in text.splitlines()[1:]]
    sentence = rungwise.open_run(two_arms).answer.headlines[0].split(". ")[0]
    assert " ".join(" ".join(said).split()) == " ".join(sentence.split())


def test_report_watch_writes_the_page_until_the_sweep_ends(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, session = begin(out / "alive")
    add(record, 1)
    pages = []

    def sweep_goes_on(_: float) -> None:
        pages.append((out / "alive" / "report.html").read_text())
        if len(pages) == 2:
            record.end_session(session, SweepState.FINISHED)
            record.close()

    monkeypatch.setattr("time.sleep", sweep_goes_on)
    assert main(["report", str(out / "alive"), "--watch"]) == 0
    last = (out / "alive" / "report.html").read_text()
    assert ['http-equiv="refresh"' in page for page in (*pages, last)] == [True, True, False]


def test_ctrl_c_ends_report_watch_and_the_renewal_of_its_page(out: Path) -> None:
    record, _ = begin(out / "alive")  # this process is its driver
    add(record, 1)
    record.commit()
    words = [sys.executable, "-m", "rungwise.results", "report", str(out / "alive"), "--watch"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        assert "report.html" in command.stdout.readline()
        assert 'http-equiv="refresh"' in (out / "alive" / "report.html").read_text()
        command.send_signal(signal.SIGINT)
        assert "Traceback" not in command.communicate()[1]
    assert command.returncode == 130
    assert 'http-equiv="refresh"' not in (out / "alive" / "report.html").read_text()
    record.close()


def test_a_curve_has_no_question_marks_where_the_encoding_has_no_blocks(two_arms: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "rungwise.results", "show", str(two_arms), "--top", "2"],
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        encoding="latin-1",
        check=True,
    )
    assert "?" not in shown.stdout.partition(" rank ")[2]
    assert sparkline([0.0, 1.0, float("nan"), 0.5], bars="_.-~=+*#") == "_#x="
