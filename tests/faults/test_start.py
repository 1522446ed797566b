"""A private Ray as `sweeps/engine/lean.py` starts it: what runs, and that it ends at once, however it ends."""

from __future__ import annotations

import json
import subprocess
import sys

from sweeping import ROOT, every_process, wait_until

START = """
import json, os, psutil
from sweeps.engine.cluster import Ray
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


def test_a_private_ray_has_no_agents_and_leaves_nothing() -> None:
    found = json.loads(run(START + LOOK + "ray.stop()"))
    assert sum("gcs_server" in line for _, line in found) == 1
    assert sum(line == "cat" for _, line in found) == 2, found  # in the place of the raylet's two agents
    assert [line for _, line in found if "agent.py" in line or "agent/main.py" in line] == []
    assert left(found) == []


def test_ray_starts_on_some_of_the_cores_of_a_large_machine() -> None:
    """Where there are more than trials ask for, Ray hands their number to the raylet as it is: it must be an int."""
    large = "import multiprocessing; multiprocessing.cpu_count = lambda: 64"
    for cpus, whole in ((3.0, 3), (1.5, 2)):
        start = START.replace("ray.start(2, 0)", f"ray.start({cpus}, 0)")
        told = run(f"{large}\n{start}\nimport ray as r; print(r.cluster_resources()['CPU']); ray.stop()")
        assert float(told) == whole


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


def test_a_ray_that_is_ended_as_soon_as_it_runs_ends_at_once() -> None:
    """Ctrl-C in the first second: Ray's thread that listens for errors made a third of such ends take a minute."""
    threads = "import threading; print([thread.name for thread in threading.enumerate()])\n"
    clock = "import time; began = time.monotonic()\n"
    for _ in range(2):
        assert "ray_listen_error_messages" not in run(START + "import time; time.sleep(0.5)\n" + threads + "ray.stop()")
        started, stopped = map(float, run(clock + START + STOP).split())
        assert stopped < 20 + 5 * started  # not the minute; a busy machine takes longer for both
