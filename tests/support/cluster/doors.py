"""Who has no token gets in nowhere; who asks for what is not there gets one clear line."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field

from support.cluster.steps import PATIENCE, check, on_machine, say

HEAD = "10.77.0.1"
SSH = ["ssh", "-i", "/root/.ssh/lab.pem", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR", f"root@{HEAD}"]
FLAGS = ["--trials", "1", "--searches", "1", "--epochs", "1", "--no-confirm", "--quiet"]
OTHER_RAY = """
import runpy, sys
from rungwise.engine.cluster.local_ray import Ray
before = Ray.__init__
def init(self, address):
    before(self, address)
    import ray
    ray.__version__ = "2.59.0"
Ray.__init__ = init
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True)
class Refused:
    """A sweep that must end with exit status 2 and one line that holds `words`."""

    what: str
    command: list[str]
    words: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


def here(*flags: str) -> list[str]:
    """A sweep on the laptop."""
    return [sys.executable, "sweeps/mnist_l2.py", *FLAGS, *flags]


def there(*flags: str) -> list[str]:
    """A sweep on the head, as `ray submit` starts it."""
    command = shlex.join(["python", "rungwise/sweeps/mnist_l2.py", *FLAGS, "--out", "/tmp/refused", *flags])
    return [*SSH, as_ray_does(command)]


def as_ray_does(command: str) -> str:
    """In a shell that reads ~/.bashrc to its end, as `ray submit` and `ray exec` run commands."""
    return f"bash --login -i -c {shlex.quote(command)}"


def cases(*, all_of_them: bool) -> list[Refused]:
    token = {"RAY_AUTH_MODE": "token"}
    head = ["--address", f"{HEAD}:6379"]
    unseen = ("10.77.0.2: does not see", "10.77.0.3: does not see", "--mirror")
    other = [sys.executable, "-c", OTHER_RAY, *here(*head, "--out", "/tmp/r4")[1:]]
    first = [
        Refused("no token", here(*head, "--out", "/tmp/r2"), ("wants its token", "~/.ray"), {"HOME": "/tmp/nobody"}),
        Refused("a folder of one machine", there("--name", "local", "--mirror", "/tmp/here"), unseen),
    ]
    if not all_of_them:
        return first
    return [
        *first,
        Refused(
            "a wrong address", here("--address", "10.77.0.77:6379", "--out", "/tmp/r1"), ("no Ray cluster answers",)
        ),
        Refused(
            "a wrong token",
            here(*head, "--out", "/tmp/r3"),
            ("wants its token",),
            {**token, "RAY_AUTH_TOKEN": "0" * 64},
        ),
        Refused("another Ray", other, ("other versions", "2.59.0"), token),
        Refused(
            "400 CPUs",
            there("--name", "cpus", "--cpus-per-trial", "400"),
            ("400 CPU", "which no machine", "Node types: "),
        ),
    ]


def check_refusals(*, all_of_them: bool) -> None:
    """One after the other: a user starts one sweep."""
    for case in cases(all_of_them=all_of_them):
        started = time.monotonic()
        done = subprocess.run(
            case.command,
            env={**os.environ, **case.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        seconds, said = time.monotonic() - started, done.stdout
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        check(done.returncode == 2, f"{case.what}: exit status {done.returncode}, not 2\n{said[-3000:]}")
        check(len(lines) == 1, f"{case.what}: one line, not\n{said[-3000:]}")
        check(all(words in lines[0] for words in case.words), f"{case.what}: {lines[0]}")
        check("Traceback" not in said, f"{case.what}:\n{said[-3000:]}")
        say(f"{case.what}, after {seconds:.1f} s: {lines[0]}")


def check_plan(slots: int) -> None:
    """A plan on the head counts the trials for which all machines have room."""
    done = subprocess.run(
        there("--name", "planned", "--plan", "--trials", "60", "--order", "arrival"), capture_output=True, text=True
    )
    check(done.returncode == 0, f"--plan: {done.stdout}{done.stderr}")
    ask = (
        "from pathlib import Path; from rungwise.results.record.reader import Reader; "
        "plan = Reader(Path('/tmp/refused/planned')).meta('forecast'); "
        "print(round(3600 * plan['device_hours'] / plan['seconds']))"
    )
    asked = ssh(as_ray_does(f"python -c {shlex.quote(ask)}"))
    counted = asked.stdout.split()
    check(
        counted[-1:] == [str(slots)], f"--plan counts {counted}, not {slots} trials at a time\n{asked.stderr[-2000:]}"
    )
    say(f"a plan: {done.stdout.splitlines()[-3]}")


def ssh(command: str) -> subprocess.CompletedProcess[str]:
    """A shell command on the head."""
    return subprocess.run([*SSH, command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def alive() -> int:
    """Machines that the head knows."""
    bearer = "Authorization: Bearer $(cat ~/.ray/auth_token)"
    return ssh(f'curl -s -H "{bearer}" "http://127.0.0.1:8265/nodes?view=summary"').stdout.count('"ALIVE"')


def check_doors() -> None:
    """Without the token nobody gets in; from outside the dashboard is not even there."""
    client = subprocess.Popen(  # it tries for half a minute
        [sys.executable, "-c", f"import ray; ray.init('ray://{HEAD}:10001')"],
        env={**os.environ, "HOME": "/tmp/nobody"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    open_ports = {
        port
        for port in (22, 8265)
        if not subprocess.run(["bash", "-c", f"exec 3<>/dev/tcp/{HEAD}/{port}"], capture_output=True).returncode
    }
    check(open_ports == {22}, f"of SSH and the dashboard, from outside, these can be reached: {open_ports}")
    for path, header, status in (
        ("api/version", "", "401"),
        ("api/jobs/", "", "401"),
        ("api/jobs/", f"-H 'Authorization: Bearer {'0' * 64}'", "403"),
    ):
        got = ssh(f"curl -s -o /dev/null -w '%{{http_code}}' {header} http://127.0.0.1:8265/{path}").stdout
        check(got == status, f"{path} answers {got}, not {status}")
    submit = "HOME=/tmp/nobody RAY_AUTH_MODE=disabled ray job submit --address http://127.0.0.1:8265 -- true"
    job = ssh(as_ray_does(submit))
    said = job.stdout + job.stderr
    check(
        job.returncode != 0 and "Missing authentication token" in said,
        f"a job without the token, which must be refused for that: {said[-3000:]}",
    )
    check(client.wait(PATIENCE) != 0, "a Ray client was let in without the token")
    say("closed without the token: dashboard, job submission, Ray client")


def check_token_files() -> None:
    """The token is its user's alone on every machine."""
    for machine in ("h1", "h2", "h3"):
        mode = on_machine(machine, "stat", "-c", "%a %U", "/root/.ray/auth_token").strip()
        check(mode == "600 root", f"the token of {machine} has mode {mode}")
