"""clusters/slurm.sh on a real Slurm, whose two nodes are this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cluster.slurm import slurm
from support.sweeping import ROOT, Run, assert_nothing_lost, stopping, wait_until

SCRIPT = ROOT / "clusters/slurm.sh"

pytestmark = [
    pytest.mark.long,  # over a minute, half of which Ray takes to start twice
    pytest.mark.cluster,
    pytest.mark.skipif(os.geteuid() != 0, reason="slurmd starts the jobs of other users, and needs root"),
]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    assert shutil.which("slurmctld"), "scripts/system-packages.sh slurmctld slurmd"
    with stopping(Run(tmp_path)) as run, slurm(run.temporary) as environment:
        run.environment |= {**environment, **run.environment}
        run.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        yield run
        command(run, "scancel", "--me", "--state=PENDING")
        command(run, "scancel", "--me", "--signal=KILL", "--full")
        assert wait_until(lambda: not command(run, "squeue", "-h"))


def command(run: Run, *words: str) -> str:
    return subprocess.run(words, env=run.environment, cwd=run.home, capture_output=True, text=True, check=False).stdout


def test_a_sweep_on_two_nodes_is_queued_again_before_its_time_is_over_and_loses_nothing(run: Run) -> None:
    run.allow(6)
    options = ["--parsable", "--output=log", "--nodes=2", "--cpus-per-task=1", "--mem=1500"]
    sweep = ["python", str(run.script), "--out", str(run.out), "--no-confirm", "--trials", "2", "--searches", "2"]
    job = command(run, "sbatch", *options, str(SCRIPT), *sweep).strip()
    log = run.home / "log"
    assert wait_until(lambda: run.tickets > 6 and "2 machines, 2 CPUs" in log.read_text()), log.read_text()
    command(run, "scancel", "--batch", "--signal=USR1", job)  # as --signal=B:USR1@120 does
    assert wait_until(lambda: command(run, "squeue", "-h", "-o", "%t").strip() == "PD"), log.read_text()
    assert run.query("SELECT state FROM sessions") == [("INTERRUPTED",)]
    run.allow(None)
    assert wait_until(lambda: not command(run, "squeue", "-h")), log.read_text()
    shown = command(run, "scontrol", "show", "job", job)
    assert "JobState=COMPLETED" in shown
    assert "Restarts=1" in shown
    assert_nothing_lost(run.folder, 8, 9)
