"""Whole sweeps, as a user starts them: a command in a subprocess, with Ray, SQLite, Optuna, MLflow and Parquet.

Each command runs in a temporary folder of its own that is also its TMPDIR, which all its processes inherit: what is
left of a sweep, files or processes, is found by that name, whoever else works on this machine.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna.trial import TrialState

from rungwise import Sweep, main
from rungwise.results.exporters.mlflow import STATUS
from rungwise.results.exporters.optuna_study import studies
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State, SweepState
from rungwise.results.tables import parquet

ROOT = Path(__file__).resolve().parents[2]
SHARED_DATA = ROOT.parent / "shared" / "data"

QUESTION = '''
"""Four ways for a trial to end, in one sweep."""
from rungwise import CategoricalDistribution, FloatDistribution, Sweep, main

SWEEP = Sweep(
    name="ends",
    question=__doc__,
    space={"lr": CategoricalDistribution([0.01, 1e-6]), "dropout": FloatDistribution(0.0, 0.2)},
    arms={
        "sound": {},
        # Plain SGD with steps of 1e9 has no finite loss after an epoch.
        "wild": {"lr": 1e9, "optimizer": "sgd", "batch_norm": False},
        # digits has 1,078 training samples: one batch an epoch cannot make two reports.
        "broken": {"lr": 0.01, "batch_size": 1000},
    },
    data="digits",
    trials=6,
    searches=1,
    epochs=4,
    reports_per_epoch=2,
    grace=0.5,
    eta=2.0,
)

if __name__ == "__main__":
    main(SWEEP)
'''


@dataclass
class Command:
    """A finished command and where it wrote."""

    code: int
    out: str
    err: str
    folder: Path  # of its runs
    temporary: Path
    argv: list[str]


def environment(temporary: Path) -> dict[str, str]:
    paths = f"{ROOT / 'tests/support/paced'}{os.pathsep}{ROOT}"
    return {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": paths, "COLUMNS": "120"}


def leftovers(temporary: Path, seconds: float = 600.0) -> list[str]:
    """Processes and files that a command left behind `seconds` after its end, where it ran and in its TMPDIR."""
    until = time.monotonic() + seconds
    while True:
        # torch makes itself a cache for all its processes, once.
        found = [str(path) for path in temporary.iterdir() if not path.name.startswith("torchinductor_")]
        for process in psutil.process_iter():
            try:
                if process.environ().get("TMPDIR") == str(temporary) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {' '.join(process.cmdline())[:100]}")
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.1)


@pytest.fixture(scope="module")
def short_folder() -> Iterator[Path]:
    """Ray's sockets need a path of at most 107 bytes, which pytest's own folders use up."""
    folder = Path(tempfile.mkdtemp(prefix="t"))
    yield folder
    shutil.rmtree(folder)


def command(script: Path, short_folder: Path, *arguments: str) -> Command:
    temporary = Path(tempfile.mkdtemp(dir=short_folder))
    runs = short_folder / f"runs-{temporary.name}"
    argv = [sys.executable, str(script), "--out", str(runs), *arguments]
    done = subprocess.run(
        argv, capture_output=True, text=True, env=environment(temporary), cwd=temporary, timeout=600, check=False
    )
    return Command(done.returncode, done.stdout, done.stderr, runs, temporary, argv)


@pytest.fixture(scope="module")
def script(short_folder: Path) -> Path:
    file = short_folder / "question.py"
    file.write_text(QUESTION)
    return file


@pytest.fixture(scope="module")
def ends(script: Path, short_folder: Path) -> Command:
    """The one sweep that most tests here look at."""
    # Sound: one good lr, then four bad ones. One at a time: whom ASHA compares with whom is then always the same.
    done = command(script, short_folder, "--no-confirm", "--seed", "8", "--concurrency", "1")
    assert done.code == 0, done.err
    return done


@pytest.fixture
def reader(ends: Command) -> Iterator[Reader]:
    with Reader(ends.folder / "ends") as reader:
        yield reader


@pytest.fixture(scope="module")
def mlflow_runs(ends: Command) -> dict[int | None, Any]:
    """{trial: MLflow run}, the parent under None."""
    from mlflow import MlflowClient

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, of SQLAlchemy
        client = MlflowClient(f"sqlite:///{ends.folder}/mlflow.db")
        (experiment,) = [found for found in client.search_experiments() if found.name == "ends"]
        runs = client.search_runs([experiment.experiment_id], max_results=1000)
        numbers = [run.data.tags.get("rungwise.trial") for run in runs]
        by_trial = {number and int(number): run for number, run in zip(numbers, runs, strict=True)}
        assert len(by_trial) == len(runs)  # no trial twice
        for number, run in by_trial.items():
            if number is not None:
                run.history = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
    return by_trial


# -- how trials end --------------------------------------------------------------------------------------------


def test_each_arm_ends_as_it_must(reader: Reader) -> None:
    states = Counter((trial.arm, trial.state) for trial in reader.trials())
    assert states[("wild", State.DIVERGED)] == 6
    assert states[("broken", State.FAILED)] == 6
    assert {state for arm, state in states if arm == "sound"} == {State.COMPLETED, State.STOPPED}
    assert states.total() == 18
    assert reader.state() is SweepState.FINISHED


def test_a_stopped_trial_is_told_with_its_rung_and_cutoff_everywhere(
    reader: Reader, ends: Command, mlflow_runs: dict[int | None, Any]
) -> None:
    table = {row["trial"]: row for row in parquet.read(ends.folder / "ends" / "trials.parquet").to_pylist()}
    reports = parquet.read(ends.folder / "ends" / "reports.parquet").to_pylist()
    study = {trial.user_attrs["trial"]: trial for trial in studies(reader)[("sound", 1)].trials}
    stopped = [trial for trial in reader.trials() if trial.state is State.STOPPED]
    assert len(stopped) >= 2
    for trial in stopped:
        assert trial.stop_rung in (0.5, 1.0, 2.0)
        curve = [report.metrics["val_accuracy"] for report in reader.reports(trial=trial.trial)]
        assert len(curve) == trial.stop_rung * 2  # stopped where it was judged, not later
        assert trial.cutoff is not None
        assert curve[-1] < trial.cutoff
        assert f"against a cutoff of {trial.cutoff:.2%} at epoch {trial.stop_rung:g}" in (trial.reason or "")
        assert study[trial.trial].state is TrialState.PRUNED
        assert list(study[trial.trial].intermediate_values.values()) == curve
        assert mlflow_runs[trial.trial].info.status == "KILLED"
        assert mlflow_runs[trial.trial].data.tags["rungwise.stop_rung"] == str(trial.stop_rung)
        row = table[trial.trial]
        assert (row["state"], row["stop_rung"], row["cutoff"]) == ("STOPPED", trial.stop_rung, trial.cutoff)
        last = [report for report in reports if report["trial"] == trial.trial][-1]
        assert (last["rung"], last["cutoff"], last["stopped"]) == (trial.stop_rung, trial.cutoff, True)


def test_the_cutoffs_are_the_medians_of_what_came_before_in_the_same_arm(reader: Reader) -> None:
    arms = {trial.trial: trial.arm for trial in reader.trials()}
    before: dict[tuple[str, float], list[float]] = {}
    judged = 0
    for report in reader.reports():
        if report.decision is None:
            continue
        rung = before.setdefault((arms[report.trial], report.decision.rung), [])
        value = report.metrics["val_accuracy"]
        assert report.metrics["epoch"] == report.decision.rung
        if rung:
            middle = sorted(rung)[(len(rung) - 1) // 2 : len(rung) // 2 + 1]
            assert report.decision.cutoff == pytest.approx(sum(middle) / len(middle))
            assert report.decision.stopped == (value < report.decision.cutoff)
        else:
            assert (report.decision.cutoff, report.decision.stopped) == (None, False)
        rung.append(value)
        judged += 1
    assert judged >= 6


def test_a_diverged_trial_keeps_its_last_report_and_says_what_was_not_finite(reader: Reader) -> None:
    for trial in reader.trials():
        if trial.state is State.DIVERGED:
            (report,) = reader.reports(trial=trial.trial)
            bad = [name for name, value in report.metrics.items() if not math.isfinite(value)]
            assert bad
            assert all(f"{name} is " in (trial.reason or "") for name in bad)


def test_a_failed_trial_keeps_its_traceback_and_is_not_retried(reader: Reader) -> None:
    for trial in reader.trials():
        if trial.state is State.FAILED:
            assert (trial.reason or "").startswith("ValueError: an epoch must have at least as many steps as reports")
            assert "Traceback" in (trial.error or "")
            assert trial.attempts == 1
            assert list(reader.reports(trial=trial.trial)) == []


def test_optunas_studies_hold_every_trial_under_its_word(reader: Reader) -> None:
    words = {
        State.COMPLETED: TrialState.COMPLETE,
        State.STOPPED: TrialState.PRUNED,
        State.DIVERGED: TrialState.FAIL,
        State.FAILED: TrialState.FAIL,
    }
    told = Counter(trial.state for study in studies(reader).values() for trial in study.trials)
    assert told == Counter(words[trial.state] for trial in reader.trials())


def test_mlflow_holds_every_trial_under_its_word(reader: Reader, mlflow_runs: dict[int | None, Any]) -> None:
    trials = {trial.trial: trial for trial in reader.trials()}
    assert mlflow_runs.keys() - {None} == trials.keys()
    parent = mlflow_runs[None]
    assert parent.info.status == "FINISHED"
    for number, trial in trials.items():
        run = mlflow_runs[number]
        assert run.info.status == STATUS[trial.state]
        assert run.data.tags["rungwise.state"] == trial.state
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params["lr"] == str(trial.config["lr"])
    for state, times in Counter(trial.state for trial in trials.values()).items():
        assert parent.data.metrics[f"trials_{state.lower()}"] == times


def test_parquet_and_mlflow_hold_the_records_reports_and_no_others(
    reader: Reader, ends: Command, mlflow_runs: dict[int | None, Any]
) -> None:
    record = {(report.trial, report.attempt, report.step): report for report in reader.reports()}
    table = parquet.read(ends.folder / "ends" / "reports.parquet").to_pylist()
    assert [(row["trial"], row["attempt"], row["step"]) for row in table] == sorted(record)
    values = 0
    for row in table:
        report = record[row["trial"], row["attempt"], row["step"]]
        assert {name: row[name] for name in report.metrics} == pytest.approx(report.metrics, rel=0, abs=0, nan_ok=True)
        logged = {
            metric.key: metric.value
            for name, history in mlflow_runs[row["trial"]].history.items()
            for metric in history
            if metric.step == row["step"] and name != "best_val_accuracy"  # a summary of them
        }
        # MLflow's SQL stores keep an infinity as the largest float.
        finite = {name: value for name, value in report.metrics.items() if not math.isinf(value)}
        assert {name: logged[name] for name in finite} == pytest.approx(finite, rel=0, abs=0, nan_ok=True)
        assert logged.keys() == report.metrics.keys()
        values += len(logged)
    reports = [
        history
        for number, run in mlflow_runs.items()
        if number is not None
        for name, history in run.history.items()
        if name != "best_val_accuracy"
    ]
    assert values == sum(map(len, reports))


def test_parquets_trials_are_the_records(reader: Reader, ends: Command) -> None:
    rows = parquet.read(ends.folder / "ends" / "trials.parquet").to_pylist()
    for row, trial in zip(rows, reader.trials(), strict=True):
        assert (row["trial"], row["arm"], row["state"]) == (trial.trial, trial.arm, trial.state)
        assert (row["reason"], row["attempts"], row["node"]) == (trial.reason, trial.attempts, trial.node)
        assert (row["params_lr"], row["seed"]) == (trial.config["lr"], trial.config["seed"])
        assert row["params_dropout"] == trial.params["dropout"]


def test_a_diverged_or_failed_trial_is_never_best(
    reader: Reader, ends: Command, mlflow_runs: dict[int | None, Any]
) -> None:
    sound = [trial.trial for trial in reader.trials() if trial.arm == "sound"]
    best = max(r.metrics["val_accuracy"] for r in reader.reports() if r.trial in sound)
    assert mlflow_runs[None].data.metrics["best_val_accuracy"] == best
    assert "best_val_accuracy/wild" not in mlflow_runs[None].data.metrics
    rows = parquet.read(ends.folder / "ends" / "trials.parquet").to_pylist()
    assert sorted(row["rank"] for row in rows if row["rank"]) == list(range(1, 7))
    assert {row["arm"] for row in rows if row["rank"]} == {"sound"}
    assert next(row["best_value"] for row in rows if row["rank"] == 1) == best
    lines = [line for line in ends.out.splitlines() if line.startswith("best")]
    assert lines[0].startswith(f"best    sound: val_accuracy {best:.2%} in the search (trial ")
    assert lines[1:] == [f"best    {arm}: no trial that counts reported val_accuracy" for arm in ("wild", "broken")]


# -- the same bits everywhere ----------------------------------------------------------------------------------


def test_a_trial_on_ray_gives_the_bits_of_the_same_config_and_seed_in_this_process(
    reader: Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    from rungwise.trainable.config import Config
    from rungwise.trainable.data.dataset import load
    from rungwise.trainable.data.tensors import Tensors
    from rungwise.trainable.train import prepare_process, train

    prepare_process(1)
    data = Tensors.of(load("digits").without_test(), "cpu")
    trial = next(trial for trial in reader.trials() if trial.state is State.COMPLETED)
    here = [report.asdict() for report in train(Config.model_validate(trial.config), data, "cpu")]
    there = [{"step": report.step, **report.metrics} for report in reader.reports(trial=trial.trial)]
    exact = ("step", "epoch", "train_loss", "penalty", "val_loss", "val_accuracy", "lr")
    assert len(here) == 8
    assert [[row[name] for name in exact] for row in here] == [[row[name] for name in exact] for row in there]

    config = {name: value for name, value in trial.config.items() if name not in ("epochs", "reports_per_epoch")}
    sweep = Sweep(name="ends", space={}, data="digits", epochs=4, reports_per_epoch=2)
    with pytest.raises(SystemExit) as end:
        main(sweep, ["--one", json.dumps(config)])
    assert end.value.code == 0
    said = [dict(re.findall(r"(\w+) (\S+)", line)) for line in capsys.readouterr().out.splitlines()]
    assert [[row[name] for name in exact] for row in said] == [[f"{row[name]:.6g}" for name in exact] for row in there]


# -- what a user sees ------------------------------------------------------------------------------------------


def test_a_piped_sweep_prints_plain_lines_and_a_summary_from_the_record(ends: Command, reader: Reader) -> None:
    assert "\x1b" not in ends.out + ends.err
    assert all(
        re.match(r"[\w. ]+ elapsed(, about [\w ]+ left)?; \d+/18 trials", line) for line in ends.err.splitlines()
    ), ends.err
    lines = ends.out.splitlines()
    assert re.fullmatch(r"ends: finished after [\w. ]+", lines[0])
    states = Counter(trial.state.lower() for trial in reader.trials())
    ended = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    assert f"trials  {ended} (of 18: 6 in each of 3 arms)" in lines
    reached = {report.trial: report.metrics["epoch"] for report in reader.reports()}
    ended = [trial for trial in reader.trials() if trial.state is not State.FAILED]
    saved = 1 - sum(reached.values()) / (4 * len(ended))
    assert (
        f"epochs  {sum(reached.values()):g} of {4 * len(ended)} trained in the search "
        f"(early stopping saved {saved:.0%})"
    ) in lines
    assert (
        f"files   {ends.folder}/ends/: report.html, trials.parquet, reports.parquet, answer.parquet, sweep.sqlite"
        in lines
    )
    (mlflow,) = [line for line in lines if line.startswith("mlflow  ")]
    assert mlflow.endswith(f"mlflow ui --backend-store-uri sqlite:///{ends.folder}/mlflow.db")
    page = lines[lines.index(mlflow) + 1].strip()
    assert page == "and open http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning"


def test_a_finished_sweep_leaves_its_results_and_nothing_else(ends: Command) -> None:
    assert leftovers(ends.temporary) == []
    files = {str(path.relative_to(ends.folder)) for path in ends.folder.rglob("*") if path.is_file()}
    kept = {
        "ends/sweep.sqlite",
        "ends/trials.parquet",
        "ends/reports.parquet",
        "ends/answer.parquet",
        "ends/report.html",
        "mlflow.db",
    }
    assert kept <= files
    # Beside them only SQLite's own files, the record's mark, and empty locks.
    others = {name for name in files - kept if not name.endswith(("-wal", "-shm", "-mark", "lock"))}
    assert {Path(name).name for name in others} == {"report.html"}  # MLflow's copy
    assert all(name.startswith("mlartifacts/") for name in others)


def test_the_record_says_who_asked_what_of_which_data(reader: Reader) -> None:
    definition = reader.meta("definition")
    assert (definition["sweep"], definition["trials"], definition["epochs"]) == ("ends", 6, 4)
    assert definition["searches"] == 1
    assert definition["question"] == "Four ways for a trial to end, in one sweep."
    assert set(definition["space"]) == {"lr", "dropout"}
    assert definition["data"]["train"] == 1078
    (session,) = reader.sessions()
    assert session.state is SweepState.FINISHED
    assert session.info["command"][1].endswith("question.py")
    assert session.info["versions"].keys() >= {"ray", "optuna", "torch", "mlflow"}


def test_the_same_command_again_trains_nothing_and_says_the_same(ends: Command, reader: Reader) -> None:
    before = repr((reader.trials(), list(reader.reports())))  # a NaN is not equal to itself
    again = subprocess.run(
        ends.argv,
        capture_output=True,
        text=True,
        env=environment(ends.temporary),
        cwd=ends.temporary,
        timeout=600,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert repr((reader.trials(), list(reader.reports()))) == before
    assert [session.state for session in reader.sessions()] == [SweepState.FINISHED]  # there was nothing to do
    assert again.stdout.splitlines()[1:] == ends.out.splitlines()[1:]  # all but the time it took


def test_a_run_is_not_continued_with_another_space_and_other_data(ends: Command, reader: Reader) -> None:
    before = repr((reader.trials(), reader.meta("definition"), reader.sessions()))
    other = ends.folder.parent / "other.py"
    changed = QUESTION
    for old, new in (("FloatDistribution(0.0, 0.2)", "FloatDistribution(0.1, 0.2)"), ('"digits"', '"mnist"')):
        assert old in changed
        changed = changed.replace(old, new)
    other.write_text(changed)
    argv = [sys.executable, str(other), *ends.argv[2:], "--trials", "7"]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        env=environment(ends.temporary),
        cwd=ends.temporary,
        timeout=600,
        check=False,
    )
    assert done.returncode == 2
    assert "--name 'ends' contains a run of another definition" in done.stderr
    for line in ("data.name: digits -> mnist", "data.train: 1078 -> 50000"):
        assert line in done.stderr
    assert re.search(r'space.dropout: .*"low": 0.0.* -> .*"low": 0.1', done.stderr)
    assert repr((reader.trials(), reader.meta("definition"), reader.sessions())) == before
    assert leftovers(ends.temporary) == []


# -- interruption ----------------------------------------------------------------------------------------------


@pytest.mark.long  # always: faults/test_resume.py
def test_ctrl_c_ends_a_sweep_in_order_within_15_seconds_and_leaves_no_process(short_folder: Path) -> None:
    temporary = Path(tempfile.mkdtemp(dir=short_folder))
    runs = short_folder / "interrupted"
    argv = [sys.executable, str(ROOT / "sweeps/mnist_l2.py"), "--epochs", "500", "--out", str(runs)]
    started = time.monotonic()
    # A terminal sends Ctrl-C to the whole group: the driver and what it started.
    driver = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(temporary), cwd=temporary,
        start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 600
        while _reports(runs / "mnist_l2") < 1:
            assert driver.poll() is None, driver.communicate()
            assert time.monotonic() < until
            time.sleep(0.2)
        os.killpg(driver.pid, signal.SIGINT)
        began = time.monotonic()
        out, err = driver.communicate(timeout=600)
        took = time.monotonic() - began
    finally:
        driver.kill()
    assert driver.returncode == 130, err
    assert took < 15 * max(1.0, (began - started) / 10)  # a start takes ten seconds when nobody else works here
    assert leftovers(temporary) == []
    assert "Traceback" not in err
    assert "mnist_l2: interrupted after" in out
    assert "resume  " in out
    with Reader(runs / "mnist_l2") as reader:
        assert reader.state() is SweepState.INTERRUPTED
        trials = reader.trials()
    assert trials
    assert {trial.state for trial in trials} == {State.RUNNING}  # to be continued by the same command


def _reports(folder: Path) -> int:
    if not (folder / "sweep.sqlite").exists():
        return 0
    with Reader(folder) as reader:
        return len(list(reader.reports()))


# -- the shipped scripts ---------------------------------------------------------------------------------------


def shipped(short_folder: Path, name: str, trials: int, *arguments: str) -> list[str]:
    """Run a shipped script and check what is true of every sweep; the summary's lines."""
    each = str(trials // 2 if name == "mnist_l2" else trials)  # of its two arms
    done = command(ROOT / "sweeps" / f"{name}.py", short_folder, "--trials", each, *arguments)
    assert done.code == 0, done.err
    assert "\x1b" not in done.out + done.err
    assert all(re.match(r"[\w. ]+ elapsed", line) for line in done.err.splitlines()), done.err
    assert leftovers(done.temporary) == []
    with Reader(done.folder / name) as reader:
        assert len(reader.trials("search")) == trials
        assert {trial.state for trial in reader.trials()} <= {State.COMPLETED, State.STOPPED}
    lines = done.out.splitlines()
    assert {"best", "trials", "epochs", "files", "mlflow"} <= {line.split()[0] for line in lines if line}
    for file in ("trials.parquet", "reports.parquet", "answer.parquet", "sweep.sqlite"):
        assert (done.folder / name / file).is_file()
    assert any(re.match(r"mlflow .*mlflow ui --backend-store-uri sqlite:////", line) for line in lines), done.out
    return lines


def test_the_main_job_answers_for_both_arms(short_folder: Path) -> None:
    lines = shipped(
        short_folder,
        "mnist_l2",
        2,
        "--epochs",
        "1",
        "--searches",
        "1",
        "--confirm-configs",
        "1",
        "--confirm-seeds",
        "1",
        "--concurrency",
        "1",
    )
    best = [
        re.match(r"best +(no L2|L2): val_accuracy (\d+\.\d\d)% in the search \(trial \d, epoch 1\) with lr=", line)
        for line in lines
    ]
    scores = {match[1]: float(match[2]) for match in best if match}
    assert scores.keys() == {"no L2", "L2"}
    assert all(score > 90 for score in scores.values())  # an epoch of MNIST
    assert "trials  2 completed (of 2: 1 in each of 2 arms)" in lines
    assert "epochs  2 of 2 trained in the search (early stopping saved 0%), 2 more to confirm" in lines


@pytest.mark.long  # always: the main job
def test_the_fashion_job_tunes_depth_and_widths(short_folder: Path) -> None:
    if not (SHARED_DATA / "FashionMNIST").is_dir():
        pytest.skip("Fashion-MNIST is not on this machine, and tests download nothing")
    small = ["--no-confirm", "--epochs", "1", "--seed", "78"]  # whose first two networks are small
    lines = shipped(short_folder, "fashion_mlp", 2, *small, "--data-root", str(SHARED_DATA))
    (best,) = [line for line in lines if line.startswith("best ")]
    assert re.search(r"depth=[123], .*width_1=\d+", best)
