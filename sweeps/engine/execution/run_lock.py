"""The lock of a run: one driver at a time. The kernel releases it when the driver dies."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rungwise.errors import RungwiseError
from rungwise.files import not_following, try_lock
from rungwise.results.record.sessions import LOCK, local_holder

SAYS = "pid {pid} on {host}"
PAUSE, SILENCE = 0.01, 10.0  # seconds between two tries, and for which a holder may not have said who it is


class Locked(RungwiseError, RuntimeError):
    """Another driver works on this run; the message names its host and process."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run in `folder` (made when absent). Raises Locked."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a+", opener=not_following) as file:
        silent = time.monotonic() + SILENCE
        while not try_lock(file):
            file.seek(0)
            holder = file.read().strip()
            # Between its lock and its word a driver is nobody yet, or one that was killed before.
            if _may_live(holder) or time.monotonic() > silent:
                holder = holder or "an unknown process"
                raise Locked(f"one driver a run: {folder} is being written by {holder}; wait, or choose --name")
            time.sleep(PAUSE)
        file.truncate(0)
        file.write(SAYS.format(pid=os.getpid(), host=socket.gethostname()))
        file.flush()
        yield
        file.truncate(0)


def _may_live(holder: str) -> bool:
    """Whether the driver that the file names may hold the lock; on another host nobody knows."""
    pid = local_holder(holder)
    if pid is None:
        return bool(holder)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True
