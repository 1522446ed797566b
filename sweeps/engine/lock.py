"""One driver a run. The kernel holds the lock, so a dead driver's is free at once, whatever the file still says."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = "lock"


class Locked(RuntimeError):
    """Another driver works on this run; the message names its host and process."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run in `folder` (made when absent). Raises Locked."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "an unknown process"
            raise Locked(f"one driver a run: {folder} is being written by {holder}; wait, or choose --name") from None
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
        file.truncate(0)
