"""What others on the machine and readers of the results can see: no open door, no secret, no code in a run."""

from __future__ import annotations

import ast
import re
import stat
import subprocess
from pathlib import Path

from support.sweeping import ROOT, SESSION_SECONDS, Run, every_process, wait_until

PASSWORD, KEY, TOKEN = "sesame-open-7041", "hidden-key-5113", "hidden-token-9226"


def listening(pids: set[int]) -> dict[str, str]:
    """{address: process} of every TCP socket that one of `pids` listens on."""
    lines = subprocess.run(["ss", "-H", "-ltnp"], capture_output=True, text=True, check=True).stdout.splitlines()
    found = {}
    for line in lines:
        if pids & {int(pid) for pid in re.findall(r"pid=(\d+)", line)}:
            found[line.split()[3]] = line.split()[-1]
    return found


def containing(folder: Path, *secrets: str) -> list[str]:
    """The files below `folder` in which one of the secrets can be read."""
    found = []
    for path in folder.rglob("*"):
        try:
            content = path.read_bytes() if path.is_file() else b""
        except OSError:
            continue
        found += [f"{path}: {secret}" for secret in secrets if secret.encode() in content]
    return found


def rays_own_token() -> int | None:
    """When Ray last wrote the token that it leaves readable by everybody; None when there is none."""
    token = Path.home() / ".ray/auth_token"
    return token.stat().st_mtime_ns if token.exists() else None


def test_a_sweep_listens_on_loopback_keeps_its_folder_private_and_shows_no_secret(run: Run) -> None:
    """A sweep with a password in --tracking-uri and secrets in its environment, looked at while it runs and after."""
    before = rays_own_token()
    run.environment |= {"MLFLOW_TRACKING_TOKEN": TOKEN, "AWS_SECRET_ACCESS_KEY": KEY}
    flags = ("--trials", "4", "--epochs", "9", "--scheduler", "none")
    run.allow(8)
    driver = run.start(*flags, "--tracking-uri", f"http://ada:{PASSWORD}@127.0.0.1:9")
    assert run.await_pause(driver), run.said
    assert wait_until(lambda: driver.poll() is not None or run.reports()), run.said

    doors = listening(set(run.processes()))
    assert len(doors) >= 4, doors  # control store, raylet, workers: the look works
    assert [door for door in doors if not re.match(r"(127\.0\.0\.1|\[::ffff:127\.0\.0\.1\]|\[::1\]):", door)] == []

    (private,) = run.temporary.glob("rw-*")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert stat.S_IMODE((private / "token").stat().st_mode) == 0o600
    assert rays_own_token() == before

    mine = run.processes()
    lines = {pid: line for pid, line, _ in every_process() if pid in mine and pid != driver.pid}
    assert len(lines) > 5, lines  # the look works
    assert [line for line in lines.values() if PASSWORD in line or KEY in line or TOKEN in line] == []
    # The driver's environment travels to its own processes; on disk it must not be, not even in Ray's logs.
    assert containing(run.temporary, PASSWORD, KEY, TOKEN) == []

    run.allow(None)
    assert driver.wait(SESSION_SECONDS) == 0, run.said
    assert "http://***@127.0.0.1:9" in run.said  # what is shown instead
    assert containing(run.out, PASSWORD, KEY, TOKEN) == []
    assert not any(secret in run.said for secret in (PASSWORD, KEY, TOKEN))
    assert [path.name for path in run.folder.rglob("*") if path.is_file() and path.read_bytes()[:1] == b"\x80"] == []


def test_no_room_reads_a_pickle() -> None:
    """`torch.load`, `pickle` and their kin run what a file says; runs hold SQLite, Parquet, JSON and safetensors."""
    offenders = []
    files = [path for room in ("sweeps", "trainable", "results") for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 30
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom):
                names.append(node.module or "")
            if {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"} & {n.split(".")[0] for n in names}:
                offenders.append(f"{path}:{node.lineno}")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
                owner = node.func.value
                weights_only = any(k.arg == "weights_only" for k in node.keywords)
                no_pickle = any(k.arg == "allow_pickle" and not k.value.value for k in node.keywords)  # type: ignore[attr-defined]
                if isinstance(owner, ast.Name) and owner.id == "torch" and not weights_only:
                    offenders.append(f"{path}:{node.lineno}")
                if isinstance(owner, ast.Name) and owner.id == "np" and not no_pickle:
                    offenders.append(f"{path}:{node.lineno}")
    assert offenders == []
