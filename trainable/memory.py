"""How much memory there is, asked before a dataset is read: a machine that swaps, or kills, says nothing useful."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

SHARE = 0.5  # of what is free: the driver and Ray's object store hold a copy each, and reading takes some
CGROUP = Path("/sys/fs/cgroup")


def free() -> int | None:
    """Bytes that can be had without swapping: the system's, or this container's when that is less; None = unknown."""
    found = []
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        with contextlib.suppress(ValueError, OSError, AttributeError):
            found.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        limit, used = ((CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        found.append(int(limit) - int(used))
    except (OSError, ValueError):  # no limit
        pass
    return min(found, default=None)


def problem(name: str, needed: int) -> str | None:
    """Why a dataset of `needed` bytes does not fit; None when it does."""
    have = free()
    if have is None or needed <= SHARE * have:
        return None
    return (
        f"a dataset must fit into half of the free memory, but {name!r} takes {needed / 1e9:.1f} GB and "
        f"{have / 1e9:.1f} GB are free"
    )
