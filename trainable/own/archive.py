"""A checkpoint of a training of the user's own as one file: a folder, and the reports that led to it.

    rungwise.json     {"format", "step", "history"}
    files/...         what the user's code wrote into the folder of `Trial.save`

An uncompressed tar archive, so that a folder of any size is copied without being held in memory.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rungwise.storage import download
from rungwise.trainable.storage import CheckpointError

FORMAT = 1
HEADER, FILES = "rungwise.json", "files"


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint holds."""

    step: int  # reports sent when it was taken
    history: Sequence[Mapping[str, Any]] = field(default_factory=list)  # these reports: {"step": n, metric: value}
    folder: Path | None = None  # of the user's files; None: there are none


def pack(snapshot: Snapshot, file: Path) -> None:
    """Write `file`. Raises OSError."""
    header = json.dumps({"format": FORMAT, "step": snapshot.step, "history": list(snapshot.history)}).encode()
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as archive:
        about = tarfile.TarInfo(HEADER)
        about.size = len(header)
        archive.addfile(about, io.BytesIO(header))
        if snapshot.folder is not None:
            _add_files(archive, snapshot.folder.resolve())


def unpack(path: str, sha256: str, folder: Path) -> Snapshot:
    """Read the archive at a path or URI, its files into `folder`, which is emptied first.

    Raises:
        CheckpointError: for a file that is torn, altered, or no archive of ours.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    local = folder / "archive.tar"
    try:
        download(path, local)
        with local.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != sha256:
            raise CheckpointError(f"checkpoint {path!r} must have SHA-256 {sha256}, but has {digest}")
        with tarfile.open(local) as archive:
            archive.extractall(folder, filter="data")
        header = json.loads((folder / HEADER).read_text())
        if header["format"] != FORMAT:
            raise CheckpointError(f"checkpoint {path!r} must have format {FORMAT}, but has {header['format']}")
        files = folder / FILES
        return Snapshot(int(header["step"]), list(header["history"]), files if files.is_dir() else None)
    except OSError as error:
        raise CheckpointError(f"a checkpoint must be readable, but {path!r} is not: {error}") from error
    except (tarfile.TarError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"checkpoint {path!r} must be whole, but is not: {error}") from error
    finally:
        local.unlink(missing_ok=True)


def _add_files(archive: tarfile.TarFile, folder: Path) -> None:
    """Add the folder's content. A link within it stays one; of one that leads out of it, what it leads to is copied."""
    outside: list[Path] = []

    def portable(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if member.issym():
            link = folder / Path(member.name).relative_to(FILES)
            target = Path(os.path.realpath(link))
            if not target.is_relative_to(folder):
                outside.append(link)
                return None
            member.linkname = os.path.relpath(target, link.parent)  # an absolute path is gone with this folder
        return _anonymous(member)

    archive.add(folder, FILES, filter=portable)
    archive.dereference = True
    for link in outside:
        if link.exists():
            archive.add(link, f"{FILES}/{link.relative_to(folder).as_posix()}", filter=_anonymous)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the names of this machine's user."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
