"""Whatever a user's code raises is one FAILED result with a line that says it, in both kinds of worker."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rungwise.trainable import faults
from rungwise.trainable.config import Config
from rungwise.trainable.data.dataset import Dataset
from rungwise.trainable.import_path import ModelError, import_function
from rungwise.trainable.messages import Failure, FailureKind, PackResults, TrialAssignment, TrialEnd, TrialResult
from rungwise.trainable.worker.pack_worker import PackWorker
from rungwise.trainable.worker.worker import TrialWorker

MODELS = """
import sys, threading
from torch import nn

class Unpicklable(RuntimeError):
    def __init__(self, code, lock):
        super().__init__()
        self.code, self.lock = code, lock
    def __str__(self):
        return f"code {self.code}\\nand a second line"

class Silent(Exception):
    def __str__(self):
        raise SystemExit("even my text")

class Number(Exception):
    def __str__(self):
        return 5

class Bare(BaseException):
    pass

class Net(nn.Module):
    def __init__(self, inputs, classes, fault):
        super().__init__()
        self.layer, self.fault = nn.Linear(inputs, classes), fault
    def forward(self, x):
        if self.training:
            match self.fault:
                case "unpicklable": raise Unpicklable(7, threading.Lock())
                case "silent": raise Silent
                case "number": raise Number
                case "exit": sys.exit("bye")
                case "exit0": sys.exit()
                case "interrupt": raise KeyboardInterrupt
                case "bare": raise Bare("no Exception")
                case "assert": assert False
                case "stop": raise StopIteration
                case "unicode": raise ValueError("größe \\ud800 \\x00 \\x1b[31m end")
                case "long": raise ValueError("x" * 10_000_000)
        return self.layer(x.flatten(1))
"""
FAULTS = {
    "unpicklable": "Unpicklable: code 7",
    "silent": "Silent: its text raised SystemExit",
    "number": "Number: its text raised TypeError",
    "exit": "SystemExit: bye",
    "exit0": "SystemExit",
    "interrupt": "KeyboardInterrupt",
    "bare": "Bare: no Exception",
    "assert": "AssertionError",
    "stop": "StopIteration",
    "unicode": r"ValueError: größe \ud800 \x00 \x1b[31m end",
    "long": "ValueError: xxxxxxxxxx",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "models.py"
    each = "\n".join(f"def of_{name}(config, shape, classes): return Net(784, classes, {name!r})" for name in FAULTS)
    during = "def at_once(config): raise SystemExit(3)"
    path.write_text(f"{MODELS}\n{each}\n{during}\n")
    return path


def assignment(model: str, **more: Any) -> TrialAssignment:
    config = Config(batch_size=100, epochs=2).model_dump(mode="json") | {"model": model} | more
    return TrialAssignment(1, "all", "search", config)


@pytest.fixture(params=[TrialWorker, PackWorker])
def last(request: pytest.FixtureRequest, small: Dataset, tmp_path: Path) -> Callable[[TrialAssignment], Failure]:
    """last(assignment) -> why a trial FAILED, as its process, or a lane's, says last."""

    def run(assignment: TrialAssignment) -> Failure:
        class Here(request.param):  # type: ignore[name-defined, misc]
            def setup(self, config: dict[str, Any]) -> None:
                super().setup(config, data=small, checkpoints=str(tmp_path))

        if request.param is TrialWorker:
            worker = Here(config=assignment.to_tune())
            while not (result := TrialResult.from_tune(worker.step())).ended:
                pass
        else:
            worker = Here(config={"slots": 2, "limit": 2})
            worker.step()
            worker.answer([], [assignment])
            while not (result := PackResults.take_from_tune(worker.step()).results[0]).ended:
                worker.answer([], [])
        assert result.state is TrialEnd.FAILED
        assert result.failure is not None
        assert result.failure.kind is FailureKind.EXCEPTION
        return result.failure

    return run


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_a_model_raises_is_one_failed_result_with_a_printable_line(
    models: Path, last: Callable[[TrialAssignment], Failure], fault: str
) -> None:
    failure = last(assignment(f"{models}:of_{fault}"))
    assert failure.message.startswith(FAULTS[fault])
    assert "(models.py:" in failure.message
    assert len(failure.message) < 600
    assert failure.message.isprintable()
    assert "in forward" in failure.error
    assert len(failure.error) < 30_000
    for text in (failure.message, failure.error):
        text.encode()  # no half of a character
        assert "\0" not in text


def test_a_function_that_exits_is_a_failed_trial_too(models: Path, last: Callable[[TrialAssignment], Failure]) -> None:
    failure = last(assignment(f"{models}:at_once"))
    assert failure.message.startswith("SystemExit: 3 (models.py:")


def test_a_script_that_reads_flags_at_its_top_fails_its_trials_and_says_why(
    tmp_path: Path, last: Callable[[TrialAssignment], Failure], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "flags.py"
    script.write_text(
        "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--width', required=True)\n"
        "ours = parser.parse_args()\ndef net(config): ...\n"
    )
    monkeypatch.setattr("sys.argv", ["worker"])
    failure = last(assignment(f"{script}:net"))
    assert "flags.py:net' could not be found: SystemExit: 2 (flags.py:4); processes that train run" in failure.message


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("os:system", "is a builtin_function_or_method"),
        ("json:JSONEncoder", "is the class JSONEncoder"),
        ("os:sep", "is str"),
        ("shutil:copytree", None),
        ("functools:reduce", "is a builtin_function_or_method"),
        ("random:random", "is a builtin_function_or_method"),
        ("inspect:currentframe", "is one that takes nothing"),
    ],
)
def test_a_name_of_something_that_builds_no_model_is_refused(name: str, says: str | None) -> None:
    if says is None:
        assert import_function(name)
        return
    with pytest.raises(ModelError, match=f"must be a function of a Config, but '{name}' {says}"):
        import_function(name)


def test_ctrl_c_is_obeyed_where_a_users_keyboard_interrupt_is_not() -> None:
    assert threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), faults.ordinary():
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(faults.Fault, match=r"^KeyboardInterrupt \(test_faults.py:"), faults.ordinary():
            raise KeyboardInterrupt
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_exit_of_rays_own_sigterm_handler_is_obeyed() -> None:
    handler: dict[str, Any] = {"__name__": "ray._private.worker"}
    exec("def sigterm_handler():\n    raise SystemExit(1)", handler)
    with pytest.raises(SystemExit), faults.ordinary():
        handler["sigterm_handler"]()


@pytest.mark.parametrize(
    "left",
    ["torch.set_grad_enabled(False)", "torch.set_default_dtype(torch.float64)", "torch.set_default_device('meta')"],
)
def test_what_a_model_sets_for_its_process_is_undone_before_the_next_trial(
    small: Dataset, tmp_path: Path, left: str
) -> None:
    """A process trains many trials; the model of one may change what torch does for all of them."""
    (tmp_path / "rude.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef rude(config, shape, classes):\n"
        f"    {left}\n    return nn.Linear(1, 1)\n"
    )

    class Worker(TrialWorker):
        def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
            super().setup(config, data=small, checkpoints=str(tmp_path))

    def dealt(number: int, config: Config) -> dict[str, Any]:
        return TrialAssignment(number, "a", "search", config.model_dump(mode="json")).to_tune()

    worker = Worker(config=dealt(1, Config(model="cnn", channels=(2,), hidden=(), epochs=1)))
    wanted = TrialResult.from_tune(worker.step()).metrics
    worker.reset_config(dealt(2, Config(model=f"{tmp_path / 'rude.py'}:rude", epochs=1)))
    assert TrialResult.from_tune(worker.step()).state is TrialEnd.FAILED
    worker.reset_config(dealt(3, Config(model="cnn", channels=(2,), hidden=(), epochs=1)))
    again = TrialResult.from_tune(worker.step()).metrics
    assert {name: again[name] for name in ("train_loss", "val_loss")} == {
        name: wanted[name] for name in ("train_loss", "val_loss")
    }
