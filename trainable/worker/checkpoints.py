"""Checkpoints of a trial: the newest and the one before it, each with its SHA-256.

    <root>/<trial>/<step>-<attempt>-<owner>.safetensors    `State.content`, of the built-in training
    <root>/<trial>/<step>-<attempt>-<owner>.tar            a folder, of a training of the user's own (`own.archive`)
    <root>/<trial>/<step>-<attempt>-<owner>.sha256         its digest, also kept in the record

`root` is <run>/checkpoints, or <mirror>/<run>/checkpoints, which may be a URI: all machines must reach it. `owner`
identifies run and hyperparameters: a head that was lost may have given the same number to other hyperparameters, and
another run may have had the same name. Files of another owner are ignored. File names of an earlier version end with
the attempt; such a file counts while the record has its digest.

The record's digest takes precedence; the one in the file serves a process that died before its message reached the
driver. A checkpoint that fails its digest is refused, and the one before is loaded. An attempt writes and deletes files
of its own name only: a machine that was cut off, and returns when the trial goes on elsewhere, damages nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from rungwise.storage import Folder, below, folder_of
from rungwise.trainable.messages import CheckpointSaved
from rungwise.trainable.storage import CheckpointError

FOLDER = "checkpoints"
KEPT = 2
STATE, ARCHIVE = ".safetensors", ".tar"  # suffixes
Loaded = TypeVar("Loaded")


def owner(run: str, config: Mapping[str, Any]) -> str:
    """The owner of a trial's files: a digest of the run's id and the trial's hyperparameters, a Config as JSON.

    Of a user's own model only the function's name counts, since its file may have been moved.
    """
    config = {**config, "model": str(config.get("model", "")).rpartition(":")[2]}
    return hashlib.sha256(json.dumps([run, config], sort_keys=True).encode()).hexdigest()[:12]


class Checkpoints:
    """The checkpoints of one trial below `root`; `attempt` is the number of the one that writes."""

    def __init__(self, root: str | Path, trial: int, attempt: int = 1, owner: str = "") -> None:
        self._folder = Folder(below(root, str(trial)))
        self._attempt, self._owner = attempt, owner

    def save(self, step: int, content: bytes | Path, suffix: str = STATE) -> CheckpointSaved:
        """Write a checkpoint, then delete all but the newest two of this attempt, and then those of earlier attempts.

        Args:
            step: Reports sent when it was taken.
            content: The file's content, or a file of this machine.
            suffix: `STATE` or `ARCHIVE`.
        """
        if isinstance(content, Path):
            with content.open("rb") as source:
                digest = hashlib.file_digest(source, "sha256").hexdigest()
        else:
            digest = hashlib.sha256(content).hexdigest()
        name = self._name(step, self._attempt)
        self._folder.write(f"{name}{suffix}", content)
        self._folder.write(f"{name}.sha256", digest.encode())
        files = self._files()
        own = [file for file in files if file.attempt == self._attempt]
        outlived = [file for file in files if file.attempt < self._attempt and len(own) >= KEPT]
        for file in own[:-KEPT] + outlived:
            self._folder.delete(f"{file.stem}.sha256")
            self._folder.delete(f"{file.stem}{file.suffix}")
        return CheckpointSaved(step, digest)

    def load(self, read: Callable[[str, str], Loaded], digests: Mapping[int, str]) -> tuple[Loaded | None, list[str]]:
        """Load the newest intact checkpoint.

        Args:
            read: Makes a state of a file at a path or URI, and its SHA-256. May raise CheckpointError and OSError.
            digests: The record's {step: SHA-256}.

        Returns:
            What `read` returned, or None; and why newer ones were refused, one line each.
        """
        refused: list[str] = []
        files = [*reversed(self._files()), *reversed(self._earlier(digests))]
        for file in sorted(files, key=lambda file: file.step, reverse=True):
            try:
                digest = digests.get(file.step) or self._digest(file)
                return read(self._path(file), digest), refused
            except (CheckpointError, OSError) as error:
                refused.append(str(error))
        return None, refused

    def saved(self) -> list[CheckpointSaved]:
        """Checkpoints with a digest beside them, oldest first."""
        names = set(self._folder.names())
        complete = [file for file in self._files() if f"{file.stem}.sha256" in names]
        return [CheckpointSaved(file.step, self._digest(file)) for file in complete]

    def remove(self) -> None:
        """Delete all files of the trial, which has ended."""
        self._folder.remove()

    def file(self, step: int) -> str | None:
        """The path or URI of the last attempt's state after report `step`; None when there is none.

        Its digest is in the record.
        """
        files = [file for file in self._earlier([step]) + self._files() if file.step == step]
        return self._path(files[-1]) if files else None

    def _files(self, owner: str | None = None) -> list[_File]:
        """Files of this owner, oldest first."""
        owner = self._owner if owner is None else owner
        names = self._folder.names()
        files = [_parsed(name) for name in names if name.endswith((STATE, ARCHIVE))]
        return sorted(file for file in files if file and file.owner == owner)

    def _earlier(self, steps: Iterable[int]) -> list[_File]:
        """Files that an earlier version wrote, of these steps."""
        return [file for file in self._files("") if file.step in steps] if self._owner else []

    def _name(self, step: int, attempt: int) -> str:
        return "-".join(filter(None, [str(step), str(attempt), self._owner]))

    def _path(self, file: _File) -> str:
        return below(self._folder.where, f"{file.stem}{file.suffix}")

    def _digest(self, file: _File) -> str:
        return self._folder.read(f"{file.stem}.sha256").decode().strip()


def save_after(file: str | Path, content: Path) -> CheckpointSaved:
    """Keep what was made of a trial's final checkpoint beside it, as that of one more step.

    Args:
        file: The final checkpoint, a path or URI as `Checkpoints.file` returns it.
        content: A file of this machine.

    Raises:
        OSError: It cannot be written.
    """
    name = str(file).partition("?")[0].rpartition("/")[2]
    final = _parsed(name)
    assert final is not None, name
    with content.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
    stem = final.stem.replace(str(final.step), str(final.step + 1), 1)
    folder = Folder(folder_of(file))
    folder.write(f"{stem}{final.suffix}", content)
    folder.write(f"{stem}.sha256", digest.encode())
    return CheckpointSaved(final.step + 1, digest)


class _File(NamedTuple):
    """A checkpoint's name."""

    step: int
    attempt: int  # 0: of an earlier version, whose names have no attempt
    owner: str
    stem: str
    suffix: str


def _parsed(name: str) -> _File | None:
    stem, _, suffix = name.rpartition(".")
    step, _, rest = stem.partition("-")
    attempt, _, owner = rest.partition("-")
    return _File(int(step), int(attempt or 0), owner, stem, f".{suffix}") if (step + attempt).isdigit() else None
