"""Files that are whole or absent, and locks that the kernel frees when their holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

HALF = ".coming-home"  # in a run's folder: what of it has come from elsewhere, and not all has


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes `path`'s place when the block ends well: fsynced, renamed, the folder fsynced.

    Its temporary name is fixed and locked: what a killed writer left behind is overwritten by the next one, and two
    writers at a time take turns. Raises OSError; `path` is then as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with locked(temporary) as file:
        file.truncate()
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            temporary.unlink()
            raise
        os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """The file `path`, made when absent, held by nobody else; waits for its turn."""
    while True:
        with open(path, "r+b", opener=not_following) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # While we waited, its holder may have renamed or removed the file that we opened: take the new one then.
            if _is_at(file, path):
                yield file
                return


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def not_following(path: str, flags: int) -> int:
    """An opener that makes the file when it is absent, and follows no link: in a run's folder that somebody else made
    it may lead to any file of the user's."""
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o644)
