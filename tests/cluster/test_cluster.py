"""A real `ray up`, on machines made of namespaces. Each scenario is a script that says what happened when."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
TOOLS = ("unshare", "ip", "rsync", "ssh", "ssh-keygen", "/usr/sbin/sshd")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces of other users' processes need root"),
]


@pytest.fixture(autouse=True)
def tools() -> None:
    assert not MISSING, f"scripts/system-packages.sh installs {', '.join(MISSING)}"


def lab(*words: str, limit: float = 3600) -> None:
    """Run a command on a laptop; what it said is shown either way (`make test-cluster` runs pytest with -s)."""
    command = [sys.executable, "-m", "support.cluster.lab", *words]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(TESTS)}, timeout=limit, check=False)
    assert done.returncode == 0


def test_a_machine_has_what_node_sh_made_and_neither_the_checkout_nor_the_laptops_packages() -> None:
    ssh = "ssh -i /root/.ssh/lab.pem -o StrictHostKeyChecking=no -o LogLevel=ERROR root@10.77.0.1"
    own = "~/python/bin/python -c 'import torch, ray' && ! ~/python/bin/python -c 'import moto' 2>/dev/null"
    bare = "! python3 -c 'import ray' 2>/dev/null && python3 -c ''"
    lab("--machines", "1", "--", *ssh.split(), f"test ! -e {TESTS} && test ! -e {sys.executable} && {own} && {bare}")


def test_three_machines_and_one_loses_power() -> None:
    lab("--machines", "3", "--", "python", "-m", "support.cluster.scenario_local")


@pytest.mark.long  # two minutes more: a larger sweep, the cable, and all that the doors refuse
def test_three_machines_one_loses_power_and_one_its_cable() -> None:
    lab("--machines", "3", "--", "python", "-m", "support.cluster.scenario_local", "--long")


@pytest.mark.long  # `make test-cluster` would take a minute and a half longer
def test_trainings_of_ones_own_find_their_files_on_three_machines_and_one_loses_power() -> None:
    lab("--machines", "3", "--", "python", "-m", "support.cluster.scenario_own")


def test_spot_workers_come_for_the_sweep_one_is_interrupted_then_the_head_and_none_stays() -> None:
    lab("--aws", "--", "python", "-m", "support.cluster.scenario_aws")


@pytest.mark.long  # `make test-cluster` would take three minutes longer
def test_lanes_bring_machines_and_the_loss_of_one_loses_no_trial() -> None:
    lab("--aws", "--", "python", "-m", "support.cluster.scenario_lanes")
