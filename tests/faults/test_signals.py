"""SIGTERM to the driver's whole group, as `timeout` and CI runners send it, and to every process of its control group,
as systemd and Slurm do: at moments from its first import to its last words."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle
from support.sweeping import Run, assert_nothing_lost, interrupt, wait_until

from rungwise.engine.execution.signals import Signals
from rungwise.engine.execution.stopping import Stop
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import FILE, SweepState

TRIALS, EPOCHS = 4, 3
LIMIT = 600.0  # seconds; nothing takes so long, whatever runs beside it
FLAGS = (*("--trials", str(TRIALS // 2), "--epochs", str(EPOCHS), "--scheduler", "none", "--concurrency", "1"),
         *("--confirm-configs", "1", "--confirm-seeds", "1"))  # fmt: skip

# The script says which module it is about to import, so that a test can strike at that very moment; at the import of
# $STAYS_AT it waits for the signal.
SAY = """import contextlib
import os
import sys
import time


class Say:
    def find_spec(self, name, path=None, target=None):
        with contextlib.suppress(OSError):  # its terminal is gone
            # At once: it may be killed in between.
            os.write(2, f"import {name} into {os.getpid()}\\n".encode())
        if name == os.environ.get("STAYS_AT"):
            time.sleep(600)


sys.meta_path.insert(0, Say())
"""

Moment = Callable[[Run], object]


def importing(name: str) -> Moment:
    """The driver that was started last does."""
    return lambda run: f"import {name} into {run.drivers[-1].pid}\n" in run.said


def running(program: str) -> Moment:
    return lambda run: any(program in line.split(" ")[0] for line in run.processes().values())


def recorded(sql: str) -> Moment:
    """Rows that an earlier driver wrote count as soon as this one is about to search."""
    return lambda run: SEARCHES(run) and run.query(f"SELECT 1 FROM {sql} LIMIT 1")


SEARCHES = importing("ray.tune.tuner")
MOMENTS: dict[str, Moment] = {
    "it imports the engine": importing("tyro"),
    "it reads its flags": importing("tyro._calling"),
    "it looks at what is asked": importing("optuna"),
    "it imports Ray": importing("ray._raylet"),
    "Ray's first process starts": running("gcs_server"),
    "Ray's second process starts": running("raylet"),
    "it is about to search": SEARCHES,
    "a trial is dealt": recorded("trials"),
    "a trial reports": recorded("reports"),
    "a trial is confirmed": recorded("trials WHERE phase = 'confirm'"),
    "the test split is scored": recorded("scores"),
}


def chosen(*brief: str) -> list[Any]:
    """All moments; those that are not named are in the long set."""
    return [pytest.param(MOMENTS[name], id=name, marks=() if name in brief else pytest.mark.long) for name in MOMENTS]


@pytest.fixture
def run(run: Run) -> Run:
    own = "import wave  # a module of the script's own\n\nSWEEP ="
    run.script.write_text(SAY + run.script.read_text().replace("SWEEP =", own, 1))
    return run


def left(run: Run) -> list[str]:
    """What is there of the temporary folders of Ray."""
    return [str(path) for folder in run.temporary.glob("rw-*") for path in (folder, *folder.rglob("*"))]


def strike(run: Run, moment: Moment, send: Callable[[subprocess.Popen[str]], None], wrap: tuple[str, ...] = ()) -> None:
    """Start the sweep, `send` it a SIGTERM at `moment`, and see that it ends in order and leaves nothing."""
    driver = run.start(*FLAGS, wrap=wrap)
    assert wait_until(lambda: driver.poll() is not None or moment(run), LIMIT)
    assert driver.poll() is None, f"it ended before that moment: {run.said}"
    send(driver)
    assert driver.wait(LIMIT) == 128 + signal.SIGTERM, run.said
    assert "Traceback" not in run.said
    assert "*** SIG" not in run.said  # Ray's core prints a stack
    run.await_silence(LIMIT)
    assert not left(run), left(run)
    if (run.folder / FILE).exists():
        with Reader(run.folder) as reader:
            states = {session.state for session in reader.sessions()}
        assert states <= {SweepState.INTERRUPTED, SweepState.FINISHED}


def to_the_group(driver: subprocess.Popen[str]) -> None:
    os.killpg(driver.pid, signal.SIGTERM)


# That a trial reports is a moment of test_resume.py.
@pytest.mark.parametrize("moment", chosen("it looks at what is asked", "Ray's second process starts"))
def test_sigterm_to_the_group_ends_the_driver_in_order_and_leaves_nothing(run: Run, moment: Moment) -> None:
    strike(run, moment, to_the_group)


@pytest.mark.long  # twin: test_start.py, test_sigterm_is_the_drivers_own_while_its_ray_ends_and_afterwards
def test_sigterm_after_ray_has_ended_is_answered_with_the_summary(run: Run) -> None:
    def ended(run: Run) -> bool:
        return bool(run.query("SELECT 1 FROM scores LIMIT 1")) and not running("raylet")(run)

    strike(run, ended, to_the_group)
    assert "tiny: finished" in run.said


@pytest.mark.long
def test_a_sweep_that_gets_sigterm_at_every_moment_loses_nothing(run: Run) -> None:
    for moment in MOMENTS.values():
        strike(run, moment, to_the_group)
    assert run.start(*FLAGS).wait(LIMIT) == 0, run.said
    assert_nothing_lost(run.folder, TRIALS + 2, EPOCHS)


@pytest.mark.parametrize("moment", ["tyro", "wave", "tyro._calling", "optuna"])
def test_ctrl_c_before_anything_runs_ends_the_driver_at_once_without_a_word(run: Run, moment: str) -> None:
    run.environment["STAYS_AT"] = moment
    driver = run.start(*FLAGS)
    assert wait_until(lambda: importing(moment)(run), LIMIT)
    assert interrupt(driver) == 130, run.said
    said = [line for line in run.said.splitlines() if not line.startswith("import ")]
    assert said == []
    assert not run.processes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_within_a_callback_out_of_which_nothing_can_be_raised_is_not_lost(number: int) -> None:
    script = f"""
import os, time, weakref
from rungwise.engine.execution.signals import Interrupted, Signals

class Module: ...

module = Module()
gone = weakref.ref(module, lambda _: os.kill(os.getpid(), {int(number)}))
with Signals() as signals:
    try:
        del module
        time.sleep({LIMIT})
    except Interrupted:
        print("interrupted by", signals.caught)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LIMIT)
    assert (done.stdout, done.stderr) == (f"interrupted by {int(number)}\n", "")


def test_tune_can_pickle_the_stopper_while_signals_are_caught() -> None:
    with Signals() as signals:
        cloudpickle.dumps(Stop(signals, None))


def test_a_second_ctrl_c_gives_the_terminal_its_cursor_back() -> None:
    script = """
import os, signal
from rungwise.results.progress.board import Board
from rungwise.results.progress.live_view import view
from rungwise.engine.execution.signals import Signals

with Signals() as signals:
    signals.defer()
    with view(Board(1, ["a"], [1.0], 1, "val_accuracy"), quiet=False):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
"""
    terminal, end = pty.openpty()
    command = [sys.executable, "-c", script]
    driver = subprocess.Popen(command, stdin=end, stdout=end, stderr=end, env=os.environ | {"TERM": "xterm"})
    os.close(end)
    said = b""
    with suppress(OSError):  # Linux says so when nobody is left at the other end
        while part := os.read(terminal, 4096):
            said += part
    os.close(terminal)
    assert driver.wait(LIMIT) == 130, said
    hidden, shown = said.rfind(b"\x1b[?25l"), said.rfind(b"\x1b[?25h")
    assert 0 <= hidden < shown, said


# The driver's own terminal is its standard input, output and error, in a session whose first process it is.
ON_A_TERMINAL = """
import os, sys
pid = os.fork()
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
os.login_tty(os.open(sys.argv[1], os.O_RDWR))
os.execvp(sys.argv[2], sys.argv[2:])
"""


def test_a_terminal_that_is_closed_ends_the_sweep_in_order(run: Run) -> None:
    terminal, end = pty.openpty()
    run.environment["TERM"] = "xterm"
    driver = run.start(*FLAGS, wrap=(sys.executable, "-c", ON_A_TERMINAL, os.ttyname(end)))
    os.set_blocking(terminal, False)

    def reported() -> bool:
        with suppress(BlockingIOError, OSError):  # nobody else reads what the live view writes
            while os.read(terminal, 65_536):
                pass
        return driver.poll() is not None or run.reports() > 0

    assert wait_until(reported, LIMIT)
    assert driver.poll() is None
    os.close(end)
    os.close(terminal)
    assert driver.wait(LIMIT) == 128 + signal.SIGHUP, run.said
    run.await_silence(LIMIT)
    assert not left(run), left(run)
    with Reader(run.folder) as reader:
        assert reader.state() is SweepState.INTERRUPTED


def test_a_sweep_that_outlives_its_terminal_is_not_ended_by_it() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.caught is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_sigquit_is_noted_as_sigterm_is() -> None:
    with Signals() as signals:
        signals.defer()
        os.kill(os.getpid(), signal.SIGQUIT)
        assert signals.caught == signal.SIGQUIT


# The main thread is in a call that no signal interrupts, as of a dead Ray's client, when SIGTERM comes.
HANGING = """
import ctypes, os, signal, threading
from rungwise.engine.cluster.local_ray import Ray
from rungwise.engine.execution.ray_watch import Watch
from rungwise.engine.execution.signals import Signals

ray, mutex, lock = Ray(None), ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock
ray.gone = lambda: "gcs_server ended with status -15"
with Signals() as signals:
    signals.defer()
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with Watch(ray, signals):
        lock(mutex)
        lock(mutex)
"""


def test_sigterm_is_noted_while_the_driver_hangs_in_a_dead_ray() -> None:
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")


@pytest.mark.parametrize("program", ["gcs_server", pytest.param("raylet", marks=pytest.mark.long)])
def test_a_ray_that_dies_ends_the_sweep_with_one_line_and_the_same_command_goes_on(run: Run, program: str) -> None:
    driver = run.start(*FLAGS)
    assert wait_until(lambda: driver.poll() is not None or run.reports(), LIMIT), run.said
    for pid, line in run.processes().items():
        if program in line.split(" ")[0]:
            os.kill(pid, signal.SIGKILL)
    assert driver.wait(LIMIT) == 1, run.said
    assert "Traceback" not in run.said
    assert [line for line in run.said.splitlines() if line.startswith("error: ")] == [
        f"error: Ray is dead ({program} ended with status -9); the same command resumes"
    ]
    run.await_silence(LIMIT)
    assert not left(run), left(run)
    with Reader(run.folder) as reader:
        assert reader.state() is SweepState.FAILED


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of our own."""
    roots = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/cpu"))
    for root in roots:
        folder = root / f"rungwise-test-{os.getpid()}"
        with suppress(OSError):
            folder.mkdir()
            if (folder / "cgroup.procs").exists():
                break
            folder.rmdir()
    else:
        pytest.skip("no control group can be made here: that takes root, and a writable /sys/fs/cgroup")
    yield folder
    assert wait_until(lambda: not (folder / "cgroup.procs").read_text(), LIMIT)
    wait_until(lambda: suppressed(folder.rmdir))


def suppressed(act: Callable[[], None]) -> bool:
    try:
        act()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("moment", chosen("a trial reports"))
def test_sigterm_to_every_process_of_the_control_group_ends_the_driver_soon_and_leaves_nothing(
    run: Run, moment: Moment, group: Path
) -> None:
    def to_all(_: subprocess.Popen[str]) -> None:
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGTERM)

    enter = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
    strike(run, moment, to_all, wrap=enter)
