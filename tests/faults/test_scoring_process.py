"""The process that scores confirmed models dies, or what it calls ends it: other calls are not affected."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, sys
from pathlib import Path

import ray
from ray.exceptions import RayError

from rungwise.engine.cluster.scoring_process import ScoringProcess
from rungwise.trainable.faults import Fault
from rungwise.trainable.resources import Resources


def die(log):
    with Path(log).open("a") as file:
        file.write("died\\n")
    os._exit(1)


ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
process = ScoringProcess(Resources(cpus=1, gpus=0), lambda: False)
first = process.call(os.getpid)
assert process.call(os.getpid) == first != os.getpid()
try:
    process.call(sys.exit, 3)
except Fault as fault:
    assert "SystemExit: 3" in str(fault), fault
assert process.call(os.getpid) == first
try:
    process.call(die, sys.argv[1])
except RayError:
    print(process.call(abs, -7))
process.end()
"""


def test_a_call_that_kills_its_process_is_tried_again_and_does_not_fail_the_next_one(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(log)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "7" in done.stdout.splitlines()  # Ray prints there, too
    assert log.read_text().splitlines() == ["died"] * 4
