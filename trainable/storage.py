"""Folders that are complete or absent; checkpoint files, and their errors."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rungwise.errors import RungwiseError
from rungwise.files import naming, sync
from rungwise.storage import read


class CheckpointError(RungwiseError, ValueError):
    """A state that cannot be kept, or a checkpoint that cannot be trusted or does not belong to this trial."""


class MisfitError(CheckpointError):
    """A whole checkpoint of another network than the one that is built now."""


def read_checkpoint(file: str | Path, sha256: str | None) -> bytes:
    """The content of a checkpoint at a path or URI. Raises CheckpointError when it cannot be read, or is altered."""
    try:
        content = read(file)
    except OSError as error:
        raise CheckpointError(f"a checkpoint must be readable, but {str(file)!r} is not: {error}") from error
    if sha256 is not None and (digest := hashlib.sha256(content).hexdigest()) != sha256:
        raise CheckpointError(f"checkpoint {str(file)!r} must have SHA-256 {sha256}, but has {digest}")
    return content


def checkpoint_header(content: bytes) -> dict[str, Any]:
    """The JSON that a safetensors file of ours holds beside its tensors. Raises ValueError or KeyError."""
    size = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["rungwise"])
    return header


def install(content: Mapping[str, bytes], folder: Path) -> None:
    """Make a folder of these files and their subfolders, whole or not at all, in place of the one that may be there."""
    temporary = folder.with_name(f".{folder.name}.tmp")  # one driver a run: what a killed one left is overwritten
    _clear(temporary)
    temporary.mkdir(parents=True)
    try:
        for name, data in content.items():
            with naming(folder / name):
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                (temporary / name).write_bytes(data)
        take_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def take_place(temporary: Path, folder: Path) -> None:
    """Rename `temporary` to `folder`. A folder cannot be renamed over another, so an old one steps aside first."""
    for path in (*temporary.rglob("*"), temporary):
        sync(path)
    old = folder.with_name(f".{folder.name}.old")
    _clear(old)
    if folder.exists():
        os.rename(folder, old)
    os.rename(temporary, folder)
    sync(folder.parent)
    _clear(old)


def _clear(path: Path) -> None:
    """Nothing is at `path` any more. Of a link, the link goes: what it leads to is another folder's."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)
