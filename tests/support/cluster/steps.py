"""What the scenarios share. They run on the laptop of a lab, and print what happened when."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from support.cluster.lab import MACHINES, PACE

T = TypeVar("T")
STARTED = time.monotonic()
PATIENCE = 300.0  # s; nothing here takes a minute on a machine that has nothing else to do


def say(*words: object) -> None:
    print(f"{time.monotonic() - STARTED:6.1f} s ", *words, flush=True)


def fail(what: str) -> NoReturn:
    sys.exit(f"{time.monotonic() - STARTED:6.1f} s  FAILED: {what}")


def check(holds: object, what: object) -> None:
    """An assertion that says what it saw."""
    if not holds:
        fail(str(what))


def run(command: str, *, code: int = 0, timeout: float = 4 * PATIENCE) -> str:
    """Run a shell command that must end with `code`; its output."""
    done = subprocess.run(
        command,
        shell=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    check(done.returncode == code, f"{command}: exit status {done.returncode}, not {code}\n{done.stdout[-4000:]}")
    return done.stdout


def until(what: str, holds: Callable[[], T], seconds: float) -> T:
    """Wait for it, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.25)
    fail(f"after {seconds:g} s still not: {what}")


def no_ray(seconds: float) -> None:
    """Wait until no process of Ray is left on any machine."""
    deadline = time.monotonic() + seconds
    while left := ray_processes():
        check(time.monotonic() < deadline, "still there:\n" + "\n".join(left))
        time.sleep(0.25)


@contextmanager
def background(command: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command beside us; its output is shown when the block fails."""
    with log.open("w") as file:
        process = subprocess.Popen(command, shell=True, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process
    except BaseException:
        print(f"--- {command}\n{log.read_text()[-6000:]}\n---", flush=True)
        raise
    finally:
        process.kill()
        process.wait()


def pace(seconds: float | None) -> None:
    """From now on each report of a trial waits so long, wherever it trains; None: it does not wait."""
    limit, draft = PACE / "limit", PACE / "draft"
    if seconds is None:
        limit.unlink(missing_ok=True)
        return
    draft.write_text(f"0 {seconds}")
    draft.replace(limit)


def token() -> None:
    """The one thing to do before the first `ray up`."""
    run("mkdir -p -m 700 ~/.ray && umask 077 && ray get-auth-token --generate")


def on_machine(name: str, *words: str) -> str:
    """Run a command with the files of machine `name`; its output, empty when it failed."""
    pid = (MACHINES / name).read_text().split()[0]
    enter = ["nsenter", "--target", pid, "--mount", "--wd=/"]
    return subprocess.run([*enter, *words], capture_output=True, text=True, check=False).stdout


@dataclass(frozen=True)
class Run:
    """A run's folder on a machine."""

    machine: str
    folder: str

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of its record; [] while there is none."""
        code = (
            "import json, sqlite3, sys; "
            "db = sqlite3.connect(f'file:{sys.argv[1]}/sweep.sqlite?mode=ro', uri=True, timeout=20); "
            "print(json.dumps(db.execute(sys.argv[2]).fetchall()))"
        )
        said = on_machine(self.machine, "python3", "-I", "-S", "-c", code, self.folder, query)
        return [tuple(row) for row in json.loads(said or "[]")]

    def files(self) -> set[str]:
        return set(on_machine(self.machine, "ls", self.folder).split())


def ray_processes() -> list[str]:
    """Machine and command of each of Ray's processes in the whole lab."""
    spaces = {}
    for path in MACHINES.glob("*"):
        with suppress(ValueError, OSError):
            spaces[os.readlink(f"/proc/{int(path.read_text().split()[0])}/ns/pid")] = path.name
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            space = os.readlink(folder / "ns/pid")
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        command = " ".join(words)
        if space in spaces and re.search(r"/ray/|\bray::|ray-dashboard|ray\.util|/ray (start|stop)", command):
            found.append(f"{spaces[space]} {command[:150]}")
    return sorted(found)
