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


def submit(run: Run, *words: str) -> str:
    """The number of a job of clusters/slurm.sh with these options, and a command."""
    return command(run, "sbatch", "--parsable", "--output=log", *words).strip()


def ended(run: Run, job: str) -> dict[str, str]:
    """What Slurm says of the job once it has left the queue."""
    assert wait_until(lambda: not command(run, "squeue", "-h")), (run.home / "log").read_text()
    return dict(word.partition("=")[::2] for word in command(run, "scontrol", "show", "job", job).split())


def test_a_job_ends_as_its_command_and_is_queued_again_only_when_that_was_stopped(run: Run) -> None:
    waiting = "touch begun; while :; do sleep 0.05; done"
    given = {
        "exit 3": None,
        f"trap 'exit 0' TERM; {waiting}": "USR1",  # it has just finished
        f"trap 'exit 143' TERM; {waiting}": "TERM",  # Slurm itself queues a preempted job again
        f'trap "exit 143" TERM; [ -z "$SLURM_RESTART_COUNT" ] || exit 0; {waiting}': "USR1",
    }
    found = []
    for words, signal in given.items():
        job = submit(run, str(SCRIPT), "sh", "-c", words)
        if signal:
            assert wait_until((run.home / "begun").exists)
            (run.home / "begun").unlink()
            command(run, "scancel", "--batch", f"--signal={signal}", job)
        about = ended(run, job)
        found.append((about["JobState"], about["ExitCode"], about["Restarts"]))
    assert found == [
        ("FAILED", "3:0", "0"), ("COMPLETED", "0:0", "0"), ("FAILED", "143:0", "0"), ("COMPLETED", "0:0", "1")
    ]  # fmt: skip


@pytest.mark.long  # over a minute, half of which Ray takes to start twice
def test_a_sweep_on_two_nodes_is_queued_again_before_its_time_is_over_and_loses_nothing(run: Run) -> None:
    run.allow(6)
    sweep = ["python", str(run.script), "--out", str(run.out), "--no-confirm", "--trials", "2", "--searches", "2"]
    job = submit(run, "--nodes=2", "--cpus-per-task=1", "--mem=1500", str(SCRIPT), *sweep)
    log = run.home / "log"
    assert wait_until(lambda: run.tickets > 6 and "2 machines, 2 CPUs" in log.read_text()), log.read_text()
    command(run, "scancel", "--batch", "--signal=USR1", job)  # as --signal=B:USR1@120 does
    assert wait_until(lambda: command(run, "squeue", "-h", "-o", "%t").strip() == "PD"), log.read_text()
    assert run.query("SELECT state FROM sessions") == [("INTERRUPTED",)]
    run.allow(None)
    about = ended(run, job)
    assert (about["JobState"], about["Restarts"]) == ("COMPLETED", "1")
    assert_nothing_lost(run.folder, 8, 9)
