"""Files that are complete or absent, and locks that the kernel frees when their holder dies.

Used by every package, so nothing of ours is imported here.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes `path`'s place when the block ends without an error.

    Its temporary name is fixed and locked: what a killed writer left behind is overwritten by the next one, and two
    writers at a time take turns. Raises OSError; `path` is then as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with locked(temporary) as file:
        file.truncate()
        with _renaming(file, temporary, path):
            yield file


def write_whole(path: Path, content: bytes | Path) -> None:
    """Replace `path` by a file with this content, or a copy of another file. On a disk that several machines share:
    without a lock, under a temporary name of this process. Raises OSError, which names `path`."""
    temporary = path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    with naming(path), temporary.open("wb") as file, _renaming(file, temporary, path):
        copy_content(content, file)


def copy_content(content: bytes | Path, file: Any) -> None:
    """Write bytes, or all of another file without holding it in memory, to an open file or stream."""
    if isinstance(content, bytes):
        file.write(content)
        return
    with content.open("rb") as source:
        shutil.copyfileobj(source, file, 2**20)


@contextmanager
def _renaming(file: BinaryIO, temporary: Path, path: Path) -> Iterator[None]:
    """At the end of the block: fsync, rename, fsync of the folder. After an error nothing is left."""
    try:
        yield
        file.flush()
        os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)  # the rename too must survive a power cut


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A write that fails, as on a full disk, does not say of which file: within the block its error names `path`."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """The file `path`, created when absent, locked against every other process; waits for its turn."""
    while True:
        with open(path, "r+b", opener=not_following) as file:
            lock(file)
            # While we waited, its holder may have renamed or removed the file that we opened: take the new one then.
            if _is_at(file, path):
                yield file
                return


def lock(file: IO[Any]) -> None:
    """Lock an open file; waits until no other process holds it. The kernel frees the lock when the file is closed or
    the process dies."""
    _flock(file, wait=True)


def try_lock(file: IO[Any]) -> bool:
    """Lock an open file unless another process holds it; whether that succeeded."""
    try:
        _flock(file, wait=False)
    except BlockingIOError:
        return False
    return True


def _flock(file: IO[Any], *, wait: bool) -> None:
    try:
        import fcntl
    except ModuleNotFoundError:
        advice = "files of a run are locked by flock, which this system does not have; on Windows, use WSL2"
        raise OSError(errno.ENOTSUP, advice, file.name) from None
    fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def not_following(path: str, flags: int) -> int:
    """An opener that creates the file when it is absent and follows no link: in a run's folder that somebody else made
    a link may lead to any file of the user's."""
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o644)
