"""The environment of a driver session: host, process, command line, versions, commit. The record keeps it."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from rungwise.results.io.redaction import redacted, redacted_uri
from rungwise.versions import package_version

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
        "commit": _commit(),
    }


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
