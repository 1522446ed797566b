"""`rungwise.run`: a sweep from Python, its run returned, its errors raised."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import rungwise
from rungwise import FloatDistribution, RungwiseError, Sweep
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import SweepState

SWEEP = Sweep(
    name="mine",
    question="Which learning rate?",
    data="digits",
    trials=2,
    epochs=1,
    space={"lr": FloatDistribution(1e-3, 1e-1, log=True)},
    arms={"all": {}},
)
QUICK = {"confirm": False, "quiet": True, "concurrency": 1, "loggers": ()}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"trails": 3}, "unknown option 'trails'; did you mean 'trials'?"),
        ({"trials": "many"}, "trials: Input should be a valid integer"),
        ({"one": "{}"}, "unknown option 'one'"),
        ({"trials": 0}, "--trials must be at least 1 (got 0)"),
    ],
)
def test_a_wrong_option_is_an_error_of_code_2_that_names_it(
    options: dict[str, object], says: str, tmp_path: Path
) -> None:
    with pytest.raises(RungwiseError) as raised:
        rungwise.run(SWEEP, out=tmp_path, **options)
    assert says in str(raised.value)
    assert raised.value.code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_no_worker_could_import_is_an_error_of_code_2(tmp_path: Path) -> None:
    with pytest.raises(RungwiseError) as raised:
        rungwise.run(replace(SWEEP, model=lambda *_: None), out=tmp_path)
    assert raised.value.code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_deleted_working_directory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(RungwiseError) as raised:
        rungwise.run(SWEEP, **QUICK)
    assert str(raised.value) == "the working directory no longer exists: change to another one (cd)"
    assert raised.value.code == 2


@pytest.mark.parametrize("package", ["ray", "optuna"])
def test_a_script_with_the_name_of_a_package_is_one_line_with_the_way_out(tmp_path: Path, package: str) -> None:
    script = tmp_path / f"{package}.py"
    script.write_text("from rungwise import Sweep, main\nmain(Sweep('mine', {}))\n")
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2
    assert done.stderr == f"error: {script} hides the package {package}, which a sweep imports: rename the file\n"


def test_a_run_is_returned_and_the_same_call_with_more_trials_extends_it(tmp_path: Path) -> None:
    first = rungwise.run(SWEEP, out=str(tmp_path), **QUICK)
    assert (first.folder, first.state, first.trials.num_rows) == (tmp_path / "mine", "FINISHED", 2)
    assert rungwise.run(SWEEP, out=tmp_path, trials=3, **QUICK).trials.num_rows == 3


def test_ctrl_c_is_a_keyboard_interrupt_and_the_record_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "mine"

    def interrupt() -> None:
        while not running():
            stop.wait(0.05)
        signal.raise_signal(signal.SIGINT) if not stop.is_set() else None

    def running() -> bool:
        if stop.is_set():
            return True
        try:
            with Reader(folder) as reader:
                return bool(reader.trials())
        except rungwise.RungwiseError:
            return False

    stop = threading.Event()
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            rungwise.run(SWEEP, out=tmp_path, trials=200, **QUICK)
    finally:
        stop.set()
        thread.join()
    with Reader(folder) as reader:
        reader.verify()
        assert reader.state() is SweepState.INTERRUPTED
