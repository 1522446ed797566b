"""What a user's own training may do wrong: it ends its own trial, with one line, and nothing else."""

from __future__ import annotations

import io
import logging
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.own import function, program, run_out, said, worker
from support.sweeping import ROOT, Run, stopping

import rungwise
from rungwise import FloatDistribution, Sweep
from rungwise.engine.cluster.scoring_process import call
from rungwise.engine.execution.test_scoring import Unmade
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.trainable.faults import Fault
from rungwise.trainable.messages import TrialAssignment, TrialEnd
from rungwise.trainable.train import restore_defaults

SPACE: Any = {"lr": FloatDistribution(1e-3, 1e-1)}


# -- no report: --trial-timeout ----------------------------------------------------------------------------------


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    """What a hanging training waits for: it comes when the test has ended."""
    event = threading.Event()
    yield event
    event.set()


def trainings(event: threading.Event, folder: Path) -> dict[str, Any]:
    def generator(**_: Any) -> Any:
        event.wait()
        yield {"score": 1}

    def call(**_: Any) -> None:
        event.wait()

    return {
        "generator": function(generator),
        "call": function(call),
        "program": program(folder, "sh", "-c", "until [ -e go ]; do sleep 0.1; done", template=""),
    }


@pytest.mark.parametrize("door", ["generator", "call", "program"])
def test_a_trial_that_reports_nothing_is_failed_with_one_line(
    door: str, tmp_path: Path, hanging: threading.Event
) -> None:
    trial = worker(trainings(hanging, tmp_path)[door], tmp_path, report_seconds=0.6)
    result = said(trial)
    assert result.state is TrialEnd.FAILED
    assert result.failure is not None
    assert result.failure.message == "TrialTimeout: no report for 0.01 min (--trial-timeout); it was ended"
    (tmp_path / "go").touch()


def test_a_limit_that_is_not_reached_changes_no_report(tmp_path: Path) -> None:
    def train(**_: Any) -> Any:
        for epoch in range(3):
            yield {"score": epoch}

    def fail(**_: Any) -> Any:
        yield {"score": 1}
        sys.exit("no")

    results = run_out(worker(function(train), tmp_path, report_seconds=600.0))
    assert [result.metrics["score"] for result in results] == [0, 1, 2]
    failed = run_out(worker(function(fail), tmp_path, report_seconds=600.0))[-1]
    assert failed.failure is not None
    assert failed.failure.message.startswith("SystemExit: no")


def ended(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """A process in which `text` trains."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-c", f"{IMPORTS}\n{text}", str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


IMPORTS = """
import os, re, sys, threading, time
from pathlib import Path
from support.own import function, program, said, run_out, worker
from rungwise.trainable.worker import time_limit
folder = Path(sys.argv[1])
"""


@pytest.mark.parametrize("end", ["trial.reset_config(trial.config); trial.step()", "trial.stop()"])
def test_the_process_of_a_training_that_cannot_be_stopped_ends(tmp_path: Path, end: str) -> None:
    text = f"""
trial = worker(function(lambda config: time.sleep(1e6)), folder, report_seconds=0.1)
print(said(trial).state, flush=True)
{end}
print("still here", flush=True)"""
    done = ended(tmp_path, text)
    assert (done.returncode, done.stdout) == (1, "FAILED\n"), done.stderr


def test_a_function_that_swallows_its_end_is_completed_and_its_process_ends(tmp_path: Path) -> None:
    text = """
from rungwise.trainable.own import calls
calls.GRACE_SECONDS = 0.1
def train(lr, trial):
    while True:
        try:
            trial.report(score=1)
        except BaseException:
            time.sleep(0.01)
trial = worker(function(train), folder, {"lr": 1, "epochs": 2})
print(*(result.state for result in run_out(trial)), flush=True)
trial.reset_config(trial.config)
print("the next trial begins elsewhere", flush=True)
trial.step()
print("still here", flush=True)"""
    done = ended(tmp_path, text)
    assert done.returncode == 1
    assert done.stdout == "None COMPLETED\nthe next trial begins elsewhere\n", done.stderr


def test_code_that_holds_the_interpreters_lock_ends_its_process(tmp_path: Path) -> None:
    text = """
time_limit.LAST_RESORT_SECONDS = 0.1
trial = worker(function(lambda config: re.match("(a+)+b", "a" * 60)), folder, report_seconds=1.0)
said(trial)"""
    done = ended(tmp_path, text)
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "re.match" in done.stderr or "in match" in done.stderr


# -- processes ---------------------------------------------------------------------------------------------------


def test_a_forked_child_that_goes_on_is_no_second_worker(tmp_path: Path) -> None:
    """It ends where it would report, raise or return: only one process answers."""
    text = """
def fork(child):
    if pid := os.fork():
        os.waitpid(pid, 0)
        return
    with (folder / "children").open("a") as file:
        file.write("x")
    if child == "raises":
        raise ValueError
    if child == "leaves":
        sys.exit()

def generator(trial, child):
    fork(child)
    yield {"score": os.getpid()}

def call(trial, child):
    fork(child)
    trial.report(score=os.getpid())

for train in (generator, call):
    for limit in (None, 600.0):
        for child in ("reports", "raises", "leaves"):
            last = run_out(worker(function(train), folder, {"epochs": 1, "child": child}, report_seconds=limit))[-1]
            print(last.state, last.metrics["score"] == os.getpid(), flush=True)
os._exit(0)"""
    done = ended(tmp_path, text)
    assert (done.returncode, done.stdout) == (0, "COMPLETED True\n" * 12), done.stderr
    assert (tmp_path / "children").read_text() == "x" * 12


# -- what cannot be sent -----------------------------------------------------------------------------------------


def test_what_cannot_be_pickled_is_exit_code_2_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        file = stack.enter_context((tmp_path / "open").open("w"))
        lock = threading.Lock()

        def to_file(**_: Any) -> None:
            file.write("x")

        def locked(**_: Any) -> None:
            with lock:
                return

        for function, reason in ((to_file, "files that are not opened for reading"), (locked, "lock")):
            with pytest.raises(SystemExit) as end:
                rungwise.main(Sweep(name="x", space=SPACE, metric="score", mode="max", train=function), [])
            assert end.value.code == 2
            said = capsys.readouterr().err
            assert f"error: train: {function.__name__} must be sent to processes that train, but " in said
            assert reason in said
    assert [path.name for path in tmp_path.iterdir()] == ["open"]


class Unpicklable(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("never")


def test_what_test_raises_reaches_the_driver_as_its_reason() -> None:
    def test() -> None:
        raise Unpicklable("no luck")

    with pytest.raises(Fault) as raised:
        call(test)
    sent = pickle.loads(pickle.dumps(raised.value))
    assert str(Unmade.of(sent, Path())).startswith("Unpicklable: no luck (test_bounds_of_own.py:")


# -- full disks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", ["scratch", "store"])
def test_a_checkpoint_that_does_not_fit_costs_the_checkpoint_and_not_the_trial(tmp_path: Path, full: str) -> None:
    for name in ("scratch", "store"):
        (tmp_path / name).mkdir()
    small = tmp_path / full
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("a small disk can be mounted by root only")

    def train(trial: Any, **_: Any) -> Any:
        for epoch in range(3):
            yield {"score": epoch}
            with trial.save() as folder, (folder / "model").open("wb") as file:
                for _ in range(8):
                    file.write(bytes(2**20))

    try:
        trial = worker(function(train), tmp_path, checkpoints=str(tmp_path / "store"))
        trial._context = replace(trial._context, scratch=tmp_path / "scratch")
        trial.reset_config(trial.config)
        results = run_out(trial)
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)
    assert [result.metrics["score"] for result in results] == [0, 1, 2]
    assert results[-1].state is TrialEnd.COMPLETED
    assert "No space left" in (results[1].unsaved or "")
    assert all(result.checkpoint is None for result in results)


# -- what a trial leaves behind in its process --------------------------------------------------------------------


def test_a_trial_finds_the_process_as_the_first_one_did_whatever_the_one_before_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIVEN", "by the user")
    gone = tmp_path / "gone"
    gone.mkdir()

    def settings() -> list[Any]:
        os.umask(umask := os.umask(0))
        torch_settings = [torch.get_default_dtype(), torch.is_grad_enabled(), np.geterr()["over"]]
        kept = [Path.cwd(), list(sys.argv), os.environ.get("GIVEN"), umask, tempfile.gettempdir(), *torch_settings]
        alarm = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        return [*kept, sys.getrecursionlimit(), logging.root.manager.disable, list(warnings.filters), *alarm, limit]

    def train(trial: Any, **_: Any) -> Any:
        found.append(settings())
        yield {"score": 1.0}
        print("said")
        print("said", file=sys.stderr)
        os.chdir(gone)
        if gone.exists():
            gone.rmdir()
        sys.argv[:] = []
        os.environ.pop("GIVEN")
        os.umask(0o777)
        tempfile.tempdir = "/nowhere"
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        np.seterr(all="raise")
        sys.setrecursionlimit(500)
        logging.disable()
        warnings.simplefilter("ignore")
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 1000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        sys.stdout, sys.stderr = None, io.StringIO()  # type: ignore[assignment]
        sys.stderr.close()

    found: list[list[Any]] = []
    trial = worker(function(train), tmp_path, report_seconds=None)
    try:
        for number in (1, 2):
            gone.mkdir(exist_ok=True)
            trial.reset(_numbered(number))
            assert run_out(trial)[-1].state is TrialEnd.COMPLETED
    finally:
        trial.reset_config(_numbered(3))
        restore_defaults()  # as its first report would
    assert found[0] == found[1] == settings()


def test_a_training_that_takes_its_output_away_goes_on_under_a_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    results = run_out(worker(function(lambda trial, **_: iter_scores()), tmp_path, report_seconds=60.0))
    assert results[-1].state is TrialEnd.COMPLETED


def iter_scores() -> Any:
    for epoch in range(3):
        yield {"score": epoch}


def _numbered(number: int) -> dict[str, Any]:
    config = {"seed": 7, "epochs": 1, "reports_per_epoch": 1}
    return TrialAssignment(trial=number, arm="all", phase="search", config=config).to_tune()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_generator_that_refuses_to_end_ends_its_trial_alone(tmp_path: Path) -> None:
    def train(trial: Any, **_: Any) -> Any:
        while True:
            try:
                yield {"score": 1.0}
            except BaseException:  # of any kind, as nobody should
                continue

    def fails(trial: Any, **_: Any) -> Any:
        try:
            yield {"score": 1.0}
            yield {"score": 1.0}
        finally:
            raise ValueError("in finally")

    trial = worker(function(train), tmp_path)
    last = run_out(trial)[-1]
    assert last.state is TrialEnd.COMPLETED
    assert last.notes[0].startswith("train raised when it was told to end: RuntimeError: generator ignored")
    trial = worker(function(fails), tmp_path)
    said(trial)
    trial.reset_config(_numbered(2))  # a rung stopped it
    assert said(trial).metrics["score"] == 1.0


# -- all of it in one sweep --------------------------------------------------------------------------------------

SWEEP = '''"""What of all this ends another trial?"""
import os, sys, time
import rungwise
from rungwise import FloatDistribution, Sweep, main


class Unpicklable(Exception):
    def __init__(self):
        super().__init__("no luck")
        self.file = sys.stdout

    def __reduce__(self):
        raise RuntimeError("never")


def train(config, trial):
    for epoch in range(trial.epochs):
        yield {"score": epoch}
        if trial.number == 2:
            raise Unpicklable
        if trial.number == 3:
            sys.exit(4)
        if trial.number == 4:
            time.sleep(1e6)
        if trial.number == 5:
            for _ in range(534):  # 100 MB in its three reports
                print("x" * 65535)
        if trial.number == 6 and epoch == 1:
            os.fork()


SWEEP = Sweep(name="tiny", question=__doc__, train=lambda config, trial: train(config, trial), metric="score",
              mode="max", space={"lr": FloatDistribution(0.1, 1.0)}, trials=7, epochs=3, scheduler="none")
if __name__ == "__main__":
    main(SWEEP)
'''


def test_each_bad_trial_ends_alone_and_leaves_no_process(tmp_path: Path) -> None:
    with stopping(Run(tmp_path, script=SWEEP, logged=False)) as run:
        assert run.finish("--concurrency", "1", "--trial-timeout", "0.3") == 0, run.said
        run.await_silence()
        with Reader(run.folder) as reader:
            rows, curves = reader.trials(), reader.curves()
    reasons = {row.trial: row.reason for row in rows if row.state is State.FAILED}
    assert reasons[2].startswith("Unpicklable: no luck (tiny.py:")
    assert reasons[3].startswith("SystemExit: 4 (tiny.py:")
    assert reasons[4] == "TrialTimeout: no report for 0.3 min (--trial-timeout); it was ended"
    assert [row.trial for row in rows if row.state is State.COMPLETED] == [1, 5, 6, 7]
    assert rows[4].attempts == 2  # the process that hung was to train it
    assert [sorted(curves[number]) for number in (1, 2, 3, 4, 5, 6, 7)] == [
        [1, 2, 3], [1], [1], [1], [1, 2, 3], [1, 2, 3], [1, 2, 3]
    ]  # fmt: skip
