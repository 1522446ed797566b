"""A private Ray as `sweeps/engine/cluster/startup_patches.py` starts it: what runs, and that it ends at once, however
it ends."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.sweeping import ROOT, every_process, wait_until

from rungwise.engine.cluster.driver_folder import OWNER, UNOWNED_SECONDS, remove_abandoned

START = """
import json, os, psutil
from rungwise.engine.cluster.local_ray import Ray
ray = Ray(None)
ray.start(2, 0)
"""
STOP = """
started = time.monotonic()
ray.stop()
print(started - began, time.monotonic() - started)
"""
LOOK = """
found = psutil.Process().children(recursive=True)
print(json.dumps([[process.pid, " ".join(process.cmdline())] for process in found]), flush=True)
"""


def run(code: str, seconds: float = 600.0) -> str:
    """What a process of its own prints; TimeoutExpired when it takes longer."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stderr
    return done.stdout


def left(found: list[tuple[int, str]]) -> list[str]:
    """Those of the processes that still run when they have had time to end."""

    def running() -> list[str]:
        living = {pid for pid, *_ in every_process()}
        return [line for pid, line in found if pid in living]

    wait_until(lambda: not running())
    return running()


APART = """
children = psutil.Process().children(recursive=True)
assert children and all(os.getsid(process.pid) != os.getsid(0) for process in children)
open_to_others = [path for path, *_ in os.walk(ray._folder) if os.lstat(path).st_mode & 0o077]
assert not open_to_others, open_to_others
"""


def test_a_private_ray_has_no_agents_a_session_and_folders_of_its_own_and_leaves_nothing() -> None:
    threads = "import threading, time; time.sleep(0.5)\nprint([thread.name for thread in threading.enumerate()])\n"
    told = run(START + APART + LOOK + threads + "ray.stop()").splitlines()
    assert "ray_listen_error_messages" not in told[1]  # a third of the ends in the first second took a minute
    found = json.loads(told[0])
    assert sum("gcs_server" in line for _, line in found) == 1
    assert sum(line == "cat" for _, line in found) == 2, found  # in the place of the raylet's two agents
    assert [line for _, line in found if "agent.py" in line or "agent/main.py" in line] == []
    assert left(found) == []


def test_ray_starts_on_some_of_the_cores_of_a_large_machine() -> None:
    """Where there are more than trials ask for, Ray hands their number to the raylet as it is: it must be an int."""
    large = """
import multiprocessing
from rungwise.engine.cluster.local_ray import Ray
multiprocessing.cpu_count = lambda: 64
import ray
for cpus in (3.0, 1.5):
    one = Ray(None)
    one.start(cpus, 0)
    print(ray.cluster_resources()["CPU"])
    one.stop()
"""
    assert list(map(float, run(large).split())) == [3, 2]


def test_a_start_that_ran_into_rays_limit_is_tried_again_and_leaves_nothing_of_the_first_try() -> None:
    late = """
import psutil
from rungwise.engine.cluster import compat, local_ray
init, tries = compat.init_private_ray, []
def late(*given):
    tries.append(given)
    init(*given)
    if len(tries) == 1:
        raise Exception("The current node timed out during startup.")
compat.init_private_ray = late
local_ray.SLOW_SECONDS = 0.0
one = local_ray.Ray(None)
one.start(1, 0)
names = [process.name() for process in psutil.Process().children(recursive=True)]
print(len(tries), names.count("gcs_server"), names.count("raylet"), one.gone())
one.stop()
"""
    assert run(late) == "2 1 1 None\n"


def test_nothing_is_left_when_the_raylet_is_killed() -> None:
    kill = """
raylet = next(process for process in psutil.Process().children(recursive=True) if process.name() == "raylet")
raylet.kill()
psutil.wait_procs([raylet], timeout=600)
psutil.wait_procs([process for process in psutil.process_iter() if process.pid in pids], timeout=600)
ray.stop()
"""
    pids = 'pids = {process.pid for process in found if process.name() == "cat"}\n'
    found = json.loads(run(START + LOOK + pids + kill))
    assert any(line == "cat" for _, line in found)
    assert left(found) == []


def test_the_next_driver_removes_what_dead_drivers_left_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="rwt-", dir="/tmp") as short, ExitStack() as stack:
        monkeypatch.setattr(tempfile, "tempdir", short)
        before = time.time() - 2 * UNOWNED_SECONDS

        def folder(name: str, *content: str, age: float = before) -> Path:
            made = Path(short) / name
            (made / "ray" / "session").mkdir(parents=True)
            for child in content:
                (made / child).touch()
            os.utime(made, (age, age))
            return made

        dead = [
            folder("rw-abandond", OWNER, "token"),
            folder("rw-unlocked", "token"),  # killed before it locked its folder, or while it removed it
        ]
        stay = [
            folder("rw-is_alive", OWNER, "token"),
            folder("rw-just_now", age=time.time()),
            folder("rw-users_01", "thesis.tex"),
            folder("rw-my backup"),
        ]
        fcntl.flock(stack.enter_context((stay[0] / OWNER).open("r+")), fcntl.LOCK_EX)
        remove_abandoned()
        assert [path.exists() for path in dead] == [False, False]
        assert [path.exists() for path in stay] == [True] * 4


def test_a_ray_that_is_ended_as_soon_as_it_runs_ends_at_once() -> None:
    """Ctrl-C in the first second."""
    started, stopped = map(float, run("import time; began = time.monotonic()\n" + START + STOP).split())
    assert stopped < 20 + 5 * started  # not a minute; a busy machine takes longer for both


def test_sigterm_is_the_drivers_own_while_its_ray_ends_and_afterwards() -> None:
    """Ray's core resets it to the system's default before it ends its processes."""
    signals = """
import signal, time
from ray._private.node import Node
caught = []
signal.signal(signal.SIGTERM, lambda *_: caught.append(len(caught)))
kill_all = Node.kill_all_processes
def ours():
    caught_signals = next(line for line in open("/proc/self/status") if line.startswith("SigCgt")).split()[1]
    return int(caught_signals, 16) >> (signal.SIGTERM - 1) & 1
def kill_all_when_ours(*args, **options):
    until = time.monotonic() + 60
    while not ours() and time.monotonic() < until:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)
    return kill_all(*args, **options)
Node.kill_all_processes = kill_all_when_ours
ray.stop()
os.kill(os.getpid(), signal.SIGTERM)
print(caught)
"""
    assert run(START + signals) == "[0, 1]\n"
