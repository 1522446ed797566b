"""A real Slurm of two nodes, both of them this machine: munged, slurmctld and two slurmd, as root, in one folder."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.ports import free_port
from support.sweeping import wait_until

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1
KillWait=2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=4000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=4000
PartitionName=all Nodes=ALL Default=YES
"""


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Within the block, the environment in which sbatch and the like speak to it. Jobs must have ended at its end."""
    ports, host = [free_port() for _ in range(3)], socket.gethostname()
    key, configuration = folder / "munge.key", folder / "slurm.conf"
    (folder / "state").mkdir()
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(128))
    configuration.write_text(CONFIGURATION.format(folder=folder, ports=ports, host=host))
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    files = {"socket": "socket", "log-file": "log", "pid-file": "pid", "seed-file": "seed"}
    munge = [f"--{option}={folder}/munge.{suffix}" for option, suffix in files.items()]
    servers = []

    def start(*command: str) -> None:
        name = f"{len(servers)}-{command[0]}.log"
        with (folder / name).open("w") as log:
            servers.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    def idle() -> bool:
        said = subprocess.run(["sinfo", "-h", "-o", "%D %t"], env=environment, capture_output=True, text=True)
        return said.stdout.split() == ["2", "idle"]

    try:
        start("munged", "--foreground", "--force", f"--key-file={key}", *munge)
        assert wait_until((folder / "munge.socket").exists)
        start("slurmctld", "-D", "-c")
        for node in ("n1", "n2"):
            start("slurmd", "-D", "-N", node)
        assert wait_until(idle), "".join(log.read_text() for log in folder.glob("*.log"))
        yield environment
    finally:
        for server in reversed(servers):
            server.terminate()
            server.wait()
