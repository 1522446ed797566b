"""Imports every module of rungwise as a system would that lacks what only Linux, or only Linux and macOS, have.

    python tests/support/windows.py    # prints what went wrong, as JSON

It hides them from modules of ours alone: packages that we import have been made for each system.
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import pkgutil
import signal
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import rungwise

MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}  # not on Windows
SIGNALS = {"SIGABRT", "SIGBREAK", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM"}  # all of Windows
FUNCTIONS = {"alarm", "getitimer", "setitimer", "pthread_kill", "pthread_sigmask", "sigwait", "siginterrupt"}
OS = {"fork", "getgid", "getpgid", "getsid", "getuid", "geteuid", "killpg", "mkfifo", "setsid", "uname", "wait3",
      "sched_getaffinity", "sysconf", "WNOHANG", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_DIRECTORY"}  # fmt: skip


def without(module: ModuleType, hidden: set[str]) -> ModuleType:
    copy = ModuleType(module.__name__)
    vars(copy).update({name: value for name, value in vars(module).items() if name not in hidden})
    return copy


REPLACED = {
    "os": without(os, OS),
    "signal": without(
        signal, FUNCTIONS | {name for name in dir(signal) if name[:3] == "SIG" and name[3] != "_"} - SIGNALS
    ),
}
original = builtins.__import__


def ours(name: object) -> bool:
    return isinstance(name, str) and name.partition(".")[0] == "rungwise"


def imported(name: str, *arguments: Any, **named: Any) -> ModuleType:
    """`__import__` of such a system; its second argument are the global names of the module that imports."""
    importer: Mapping[str, Any] = next(iter(arguments), None) or named.get("globals") or {}
    if ours(importer.get("__name__")):
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name in REPLACED:
            return REPLACED[name]
    return original(name, *arguments, **named)


def no_proc(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: /proc and /sys/fs/cgroup do not exist for our modules, and for those of pathlib that they call."""
    if event not in ("open", "os.listdir", "os.scandir") or not str(arguments[0]).startswith(("/proc", "/sys/fs")):
        return
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__") in ("pathlib", "glob", "io", "contextlib"):
        frame = frame.f_back
    if ours(frame.f_globals.get("__name__")):
        raise FileNotFoundError(2, "No such file or directory", arguments[0])


def modules() -> list[str]:
    """All modules of ours, but for callbacks for libraries of an extra."""
    found = pkgutil.walk_packages(rungwise.__path__, "rungwise.", onerror=lambda _: None)
    return [module.name for module in found if not module.name.startswith("rungwise.integrations.")]


def asked_of_proc() -> dict[str, object]:
    """What functions of ours answer that look into /proc where there is one."""
    from rungwise.engine.cluster.local_ray import local_resources
    from rungwise.engine.experiment.environment import processor
    from rungwise.results.record.sessions import _lives
    from rungwise.trainable import granted_resources
    from rungwise.trainable.data import memory

    return {
        "cores": local_resources().cpus == os.cpu_count(),
        "limit of memory": granted_resources.memory(),
        "memory": 0 < (memory.free() or 0) < 2**60,
        "processor": [*processor()],
        "processes live": (_lives(os.getpid()), _lives(2**30), _lives(-1)),
    }


def lock_problem() -> str:
    from rungwise.files import lock

    with open(__file__) as file:
        try:
            lock(file)
        except OSError as error:
            return str(error.strerror)
    return "locked"


def main() -> None:
    builtins.__import__ = imported
    sys.addaudithook(no_proc)
    problems = {}
    for name in (names := modules()):
        try:
            importlib.import_module(name)
        except Exception as error:
            problems[name] = f"{type(error).__name__}: {error}"
    print(json.dumps({"modules": names, "problems": problems}))
    if not problems:
        print(json.dumps({"asked of /proc": asked_of_proc(), "lock": lock_problem()}))


if __name__ == "__main__":
    main()
