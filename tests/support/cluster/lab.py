"""Throw-away machines on one Linux box, as root and without Docker, so that `ray up` can be run for real.

    PYTHONPATH=tests python -m support.cluster.lab --machines 3 -- COMMAND
        COMMAND on a laptop that reaches 10.77.0.1, .2 and .3 by SSH
    PYTHONPATH=tests python -m support.cluster.lab --aws -- COMMAND
        COMMAND on a laptop whose AWS account is a mock (moto): each instance that anyone starts there becomes a machine

A machine is a set of namespaces: network (a cable to a bridge), mounts (own /tmp, /root, /home, /run, /dev/shm, and no
checkout, so that only what is shipped is there), processes (`ray stop` sees this machine only), and a real sshd. All
machines live within the namespaces of the laptop: when COMMAND ends the kernel removes everything, and nothing outside
was touched. A machine has what clusters/node.sh makes of a bare one (image.py), so that `ray up`, which runs it again,
finds nothing to install: there is no registry here. The laptop's environment is hidden; /srv/shared stands for NFS.

In COMMAND, `MACHINES/<name>` holds a machine's process 1 and its cable: see `power_off` and `cable`. What trains on the
machines can be slowed down from there, so that a scenario depends on no machine's speed: `PACE` (tests/support/paced).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from support.cluster.image import CHECKOUT, PYTHON_HOME, SYSTEM_PATH, machine_home

HERE = Path(__file__).resolve().parent
TESTS = HERE.parents[1]  # `support` is found there, by what runs on the laptop
VENV = Path(sys.prefix)
HIDDEN = ["/tmp", "/root", "/run", "/home", "/dev/shm", str(CHECKOUT), str(VENV.parent)]
MACHINES = Path("/run/lab")
SHARED = Path("/srv/shared")
PACE = Path("/srv/pace")
LAPTOP_PATH = f"{VENV}/bin:{SYSTEM_PATH}"
OF_RAY = {
    "AUTOSCALER_UPDATE_INTERVAL_S": "2",  # 5 unless told otherwise, as the next
    "AUTOSCALER_NODE_SSH_INTERVAL_S": "1",
    "RAY_prestart_worker_first_driver": "0",  # processes that no trial uses: a second each
}
PACED = HERE.parent / "paced/sitecustomize.py"
WITHOUT_SERVE = """
if Path(sys.argv[0]).name == "ray":
    sys.modules["ray.serve"] = None  # its imports are half of what each of Ray's commands costs
"""
NAMESPACES = ["--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child=KILL", "--mount-proc"]
UNSHARE = ["unshare", *NAMESPACES, "--propagation", "private"]


@dataclass(frozen=True)
class Network:
    """Addresses of the lab and the user that its machines know."""

    gateway: str  # the laptop
    prefix: int
    login: str


OFFICE = Network("10.77.0.254", 24, "root")
EC2 = Network("172.31.15.254", 20, "ubuntu")  # moto's default subnet is 172.31.0.0/20
REGION = "us-west-2"
ACCOUNT = {
    "AWS_ENDPOINT_URL": f"http://{EC2.gateway}:5000",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Machine:
    """One machine, up from its construction on until `off`."""

    count = 0

    def __init__(self, name: str, address: str, key: str, network: Network, public: str = "") -> None:
        """`key`: the public SSH key that may log in; `public`: a second address."""
        Machine.count += 1
        self.name, self.address, self.public, self.cable = name, address, public, f"cable{Machine.count}"
        variables = {**OF_RAY, "PACE": str(PACE), "PYTHONPATH": f"$PYTHONPATH:{PACE}"}
        variables |= ACCOUNT if network is EC2 else {}
        environment = {
            "PATH": SYSTEM_PATH,
            "NAME": name,
            "ADDRESS": address,
            "PREFIX": str(network.prefix),
            "GATEWAY": network.gateway,
            "PUBLIC": public,
            "LOGIN": network.login,
            "PUBLIC_KEY": key,
            "BASHRC": "\n".join(f"export {name}={value}" for name, value in variables.items()),
            "PYTHON_HOME": str(PYTHON_HOME),
            "IMAGE": str(machine_home()),
            "HIDDEN": " ".join(HIDDEN),
        }
        self._log = MACHINES / f"{name}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*UNSHARE, "sh", str(HERE / "machine.sh")],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self._first_process()
        _shell(
            f"ip link add {self.cable} type veth peer name eth0 netns {self.pid} && "
            f"ip link set {self.cable} master bridge up"
        )
        if public:
            _shell(f"ip route replace {public}/32 via {address}")
        (MACHINES / name).write_text(f"{self.pid} {self.cable}")

    def _first_process(self) -> int:
        """The machine's process 1, once it has a network of its own."""
        ours = os.readlink("/proc/self/ns/net")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        for _ in range(1000):
            if self._process.poll() is not None:
                break
            with contextlib.suppress(FileNotFoundError):
                if (found := children.read_text().split()) and os.readlink(f"/proc/{found[0]}/ns/net") != ours:
                    return int(found[0])
            time.sleep(0.02)
        raise RuntimeError(f"{self.name} did not boot: {self._log.read_text()}")

    def wait(self) -> None:
        """Until its sshd answers."""
        for _ in range(1000):
            with contextlib.suppress(OSError), socket.create_connection((self.address, 22), timeout=1):
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} does not answer: {self._log.read_text()[-2000:]}")

    def off(self) -> None:
        power_off(self.name)
        self._process.wait()
        if self.public:
            subprocess.run(["ip", "route", "del", f"{self.public}/32"], stderr=subprocess.DEVNULL, check=False)


def power_off(name: str) -> None:
    """A power cut: the machine's process 1 dies, and the kernel ends all others."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(int((MACHINES / name).read_text().split()[0]), signal.SIGKILL)


def cable(name: str, *, plugged: bool) -> None:
    """Pull the machine's network cable, or plug it in again."""
    veth = (MACHINES / name).read_text().split()[1]
    _shell(f"ip link set {veth} {'up' if plugged else 'down'}")


def _shell(command: str) -> None:
    subprocess.run(["sh", "-ec", command], check=True)


def laptop(machines: int, aws: bool, command: list[str]) -> int:
    """Furnish the laptop, boot what was asked for and run `command`; its exit status. We are process 1 here."""
    network = EC2 if aws else OFFICE
    machine_home()  # of now, whatever is edited while the lab runs
    keep = {"python": PYTHON_HOME, "venv": VENV, "checkout": CHECKOUT}
    _shell("mount -t tmpfs none /mnt; cd /mnt; mkdir " + " ".join(keep))
    for name, folder in keep.items():
        _shell(f"mount --rbind {folder} /mnt/{name}")
    for folder in HIDDEN[:5]:
        _shell(f"mount -t tmpfs -o size=2g,mode={1777 if folder in ('/tmp', '/dev/shm') else 711} none {folder}")
    for name, folder in keep.items():
        _shell(f"mkdir -p {folder}; mount --move /mnt/{name} {folder}")
    _shell(
        "umount /mnt; mount -t tmpfs -o size=2g,mode=755 none /srv; "
        f"mkdir -m 1777 {SHARED} {PACE}; mkdir -p {MACHINES}; "
        "echo '127.0.0.1 localhost laptop' > /run/hosts; mount --bind /run/hosts /etc/hosts; hostname laptop; "
        ": > /run/resolv.conf; mount --bind /run/resolv.conf /etc/resolv.conf; ip link set lo up; "
        f"ip link add bridge type bridge; ip address add {network.gateway}/{network.prefix} dev bridge; "
        "ip link set bridge up; mkdir -m 700 /root/.ssh"
    )
    (PACE / "sitecustomize.py").write_text(PACED.read_text() + WITHOUT_SERVE)
    os.chdir(CHECKOUT)  # the same folder, seen through the new mounts
    environment = {"HOME": "/root", "USER": "root", "PATH": LAPTOP_PATH, "LANG": "C.UTF-8", "TERM": "dumb"}
    environment |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": f"{TESTS}:{PACE}",
        **OF_RAY,
        **(ACCOUNT if aws else {}),
    }
    if aws:
        _open_account(environment)
        threading.Thread(target=_follow_account, daemon=True).start()
    else:
        _shell("ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/lab.pem")
        key = Path("/root/.ssh/lab.pem.pub").read_text().strip()
        booted = [Machine(f"h{n}", f"10.77.0.{n}", key, network) for n in range(1, machines + 1)]
        for machine in booted:
            machine.wait()
    return subprocess.run(command, env=environment, check=False).returncode


def _open_account(environment: dict[str, str]) -> None:
    """Start the mock account and wait for it."""
    os.environ.update(ACCOUNT)
    import boto3

    with (MACHINES / "moto.log").open("w") as log:
        subprocess.Popen(
            [VENV / "bin/python", "-m", "support.cluster.account"],
            env=environment,
            stdout=log,
            stderr=log,
        )
    for _ in range(300):
        try:
            boto3.client("sts").get_caller_identity()
            return
        except Exception:
            time.sleep(0.2)
    raise RuntimeError(f"the mock account does not answer: {(MACHINES / 'moto.log').read_text()}")


def _follow_account() -> None:
    """Keep the machines equal to the account's running instances."""
    import boto3

    ec2 = boto3.client("ec2", REGION)
    up: dict[str, Machine | None] = {}
    with (MACHINES / "events").open("a", buffering=1) as events:
        while True:
            try:
                for reservation in ec2.describe_instances()["Reservations"]:
                    for instance in reservation["Instances"]:
                        name, running = instance["InstanceId"], instance["State"]["Name"] in ("pending", "running")
                        if running and name not in up:
                            pair = ec2.describe_key_pairs(KeyNames=[instance["KeyName"]], IncludePublicKey=True)
                            key, private = pair["KeyPairs"][0]["PublicKey"], instance["PrivateIpAddress"]
                            up[name] = Machine(name, private, key, EC2, instance.get("PublicIpAddress", ""))
                            events.write(f"{time.time():.1f} boots {name} {instance['InstanceType']} {private}\n")
                        elif not running and (machine := up.get(name)):
                            up[name] = None
                            machine.off()
                            events.write(f"{time.time():.1f} ends {name} {machine.address}\n")
            except Exception as error:
                events.write(f"{time.time():.1f} {error!r}\n")
            time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=3)
    parser.add_argument("--aws", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    if given.inside:
        sys.stdout.flush()
        os._exit(laptop(given.machines, given.aws, given.command) & 255)  # process 1: the kernel ends all others
    machine_home()  # before its time counts
    again = [sys.executable, "-m", "support.cluster.lab", "--inside", "--machines", str(given.machines)]
    os.execvp("unshare", [*UNSHARE, *again, *(["--aws"] if given.aws else []), "--", *given.command])


if __name__ == "__main__":
    main()
