"""Free memory, which is checked before a dataset is read, and the setting by which a process keeps freed memory."""

from __future__ import annotations

import contextlib
import ctypes

from rungwise.trainable import granted_resources as granted

SHARE = 0.5  # of what is free: the driver and Ray's object store hold a copy each, and reading takes some
_TRIM, _MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_KEPT = 2**30  # bytes


def free() -> int | None:
    """Bytes that can be had without swapping: the system's, or this container's when that is less; None = unknown."""
    import psutil

    limits: list[int] = []
    with contextlib.suppress(OSError, psutil.Error):  # no /proc
        limits.append(psutil.virtual_memory().available)
    if (left := granted.memory()) is not None:
        limits.append(left)
    return min(limits, default=None)


def problem(name: str, needed: int) -> str | None:
    """Why a dataset of `needed` bytes does not fit; None when it does."""
    have = free()
    if have is None or needed <= SHARE * have:
        return None
    return (
        f"a dataset must fit into half of the free memory, but {name!r} takes {needed / 1e9:.1f} GB and "
        f"{have / 1e9:.1f} GB are free"
    )


def keep() -> None:
    """Let malloc keep up to a GiB of what this process frees, instead of giving it back after every step of a model.

    By default glibc maps each block of 32 MB or more anew, and gives back what lies free at the heap's end; the next
    step then pays for the same pages again: 5.5 of 15.7 CPU seconds of a CNN's epoch (24-48 channels, 28x28 images,
    batch 128), and 1.7 of 2.4 of its validation. A C library without `mallopt` is left as it is.
    """
    with contextlib.suppress(OSError, AttributeError):
        tune = ctypes.CDLL(None).mallopt
        tune(_TRIM, _KEPT)
        tune(_MMAP, _KEPT)
