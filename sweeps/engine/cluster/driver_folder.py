"""The temporary folder of a driver: locked while its driver lives, removed by the next driver when that was killed."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import IO

from rungwise.files import lock, try_lock

PREFIX, OWNER = "rw-", "owner"  # of a driver's temporary folder, and the file that it holds locked
CONTENT = {"token", "ray", "tune", "code"}  # all else that such a folder may hold
UNOWNED_SECONDS = 60.0  # a driver locks its folder within milliseconds


def create() -> tuple[Path, IO[str]]:
    """A new folder of mode 0700, and its owner's file: the folder is in use for as long as that file is open."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=temporary_root()))
    owner = (folder / OWNER).open("w")
    lock(owner)
    return folder, owner


def temporary_root() -> str:
    """TMPDIR, or /tmp when that is too long: a Unix socket's name has room for 107 bytes, and Ray takes 83 of them."""
    return folder if len(folder := tempfile.gettempdir()) <= 24 else "/tmp"


def remove_abandoned() -> None:
    """Remove the temporary folders of drivers that were killed: the kernel let go of their locks."""
    for folder in {path for root in (temporary_root(), "/tmp") for path in Path(root).glob(f"{PREFIX}*")}:
        try:
            if _unowned(folder):
                remove(folder)
                continue
            with (folder / OWNER).open("r+") as owner:
                if try_lock(owner):
                    remove(folder)
        except OSError:  # in use, another user's, or gone meanwhile
            continue


def _unowned(folder: Path) -> bool:
    """Whether nobody will lock a folder of ours: its driver was killed before it did, or while it removed the folder
    and a dying process put something back."""
    about, holds = folder.lstat(), {child.name for child in folder.iterdir()}
    ours = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and len(folder.name) == len(PREFIX) + 8
    return ours and holds <= CONTENT and time.time() - about.st_mtime > UNOWNED_SECONDS


def remove(folder: Path) -> None:
    """Remove a driver's folder, its owner's file last: what a dying process still holds is left to the next driver."""
    for wait in (0.0, 0.1, 0.3, 0.6):  # a process that was killed a moment ago may write still
        time.sleep(wait)
        children = [child for child in folder.iterdir() if child.name != OWNER] if folder.exists() else []
        for child in children:
            shutil.rmtree(child, ignore_errors=True) if child.is_dir() else child.unlink(missing_ok=True)
        if not any(child.exists() for child in children):
            shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
