"""The environment of a driver session: host, process, command line, versions, commit. The record keeps it."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from rungwise.packages.versions import package_version
from rungwise.results.io.redaction import redacted, redacted_uri

_INSTRUCTIONS = ("avx", "fma", "amx", "sve", "asimd", "bf16")  # how flags of such instruction sets begin
_PACKAGES = ("rungwise", "ray", "optuna", "torch", "mlflow", "pyarrow", "numpy")


def session_info() -> dict[str, Any]:
    """Who drives: host, process, command line without secrets, versions, commit."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "command": command_line(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {package: package_version(package) for package in _PACKAGES},
        "processor": processor(),
        "torch build": _torch_build(),
        "commit": _commit(),
    }


def processor() -> dict[str, str]:
    """The driver's processor: its model, and of its instruction sets those that decide how products are summed."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {"model": platform.processor() or platform.machine()}
    found = dict(re.findall(r"^(model name|flags|Features)\s*:\s*(.*)$", text, re.MULTILINE))
    flags = set(f"{found.get('flags', '')} {found.get('Features', '')}".split())
    known = sorted(flag for flag in flags if flag.startswith(_INSTRUCTIONS))
    return {"model": found.get("model name", platform.machine()), "instructions": " ".join(known)}


def _torch_build() -> str | None:
    """torch's commit, and the CUDA that it was built for; read from a file, as importing it takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text()
    except OSError:
        return None
    values = dict(re.findall(r"^(git_version|cuda)\b[^=]*= '(.*)'$", text, re.MULTILINE))
    cuda = [f"CUDA {values['cuda']}"] if "cuda" in values else []
    return ", ".join([values.get("git_version", "unknown commit"), *cuda])


def command_line() -> list[str]:
    """The command that was typed, with any password in it starred out."""
    words = [sys.argv[0], *sys.argv[1:]]
    for index, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if equals and "://" in value and "://" not in flag:
            words[index] = f"{flag}={redacted_uri(value)}"
        else:
            words[index] = redacted_uri(word) if "://" in word else redacted(word)
    return ["python", *words]


def _commit() -> str | None:
    """The git commit of the sweep script, with '+' when there are uncommitted changes; None outside a checkout."""
    where = Path(sys.argv[0]).resolve().parent
    git = ["git", "-C", str(where)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")
