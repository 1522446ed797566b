"""A trial's checkpoints: the newest and the one before it, each with the SHA-256 that it must have.

    <root>/<trial>/<step>-<attempt>-<owner>.safetensors    what `State.content` holds
    <root>/<trial>/<step>-<attempt>-<owner>.sha256         its digest, also kept in the record

`root` is <run>/checkpoints, or <mirror>/<run>/checkpoints, which may be a URI: all machines must reach it. `owner` says
whose a file is: a head that is lost may have dealt the same number to other hyperparameters, and another run may have
had the same name. Who is not the owner sees no such file. Names of an earlier version end with the attempt; such a
file counts while the record knows its digest.

The record's digest is the one that counts; the file beside it serves a process that died before it could tell the
driver. A checkpoint that fails its digest is refused, and the one before is taken. An attempt writes and deletes files
of its own name only: a machine that was cut off, and comes back when the trial goes on elsewhere, spoils nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rungwise.storage import Folder, below
from rungwise.trainable.messages import CheckpointSaved
from rungwise.trainable.storage import CheckpointError

if TYPE_CHECKING:  # the driver uses this module too, and never imports torch
    from rungwise.trainable.config import Config
    from rungwise.trainable.data.tensors import Tensors
    from rungwise.trainable.training.state import State

FOLDER = "checkpoints"
KEPT = 2


def owner(run: str, config: Mapping[str, Any]) -> str:
    """Whose a trial's files are: told by the run's id and the trial's hyperparameters, a Config as JSON.

    Of a model of the user's own counts its name: its file may have been moved since.
    """
    config = {**config, "model": str(config.get("model", "")).rpartition(":")[2]}
    return hashlib.sha256(json.dumps([run, config], sort_keys=True).encode()).hexdigest()[:12]


class Checkpoints:
    """The checkpoints of one trial below `root`; `attempt` is the number of the one that writes."""

    def __init__(self, root: str | Path, trial: int, attempt: int = 1, owner: str = "") -> None:
        self._folder = Folder(below(root, str(trial)))
        self._attempt, self._owner = attempt, owner

    def save(self, state: State) -> CheckpointSaved:
        """Write the state, then forget all but the newest two of this attempt, and what it no longer goes back to."""
        content = state.content()
        digest = hashlib.sha256(content).hexdigest()
        name = self._name(state.step, self._attempt)
        self._folder.write(f"{name}.safetensors", content)
        self._folder.write(f"{name}.sha256", digest.encode())
        found = self._found()
        own = [file for file in found if file.attempt == self._attempt]
        outlived = [file for file in found if file.attempt < self._attempt and len(own) >= KEPT]
        for file in own[:-KEPT] + outlived:
            self._folder.delete(f"{file.stem}.sha256")
            self._folder.delete(f"{file.stem}.safetensors")
        return CheckpointSaved(state.step, digest)

    def load(self, config: Config, data: Tensors, known: Mapping[int, str]) -> tuple[State | None, list[str]]:
        """The newest whole state, or None; and why newer ones were refused. `known` is the record's {step: sha256}."""
        from rungwise.trainable.training.state import State

        refused: list[str] = []
        files = [*reversed(self._found()), *reversed(self._earlier(known))]
        for file in sorted(files, key=lambda file: file.step, reverse=True):
            try:
                digest = known.get(file.step) or self._digest(file)
                return State.load(self._path(file), config, data, digest), refused
            except (CheckpointError, OSError) as error:
                refused.append(str(error))
        return None, refused

    def saved(self) -> list[CheckpointSaved]:
        """What lies there with a digest beside it, oldest first."""
        names = set(self._folder.names())
        found = [file for file in self._found() if f"{file.stem}.sha256" in names]
        return [CheckpointSaved(file.step, self._digest(file)) for file in found]

    def remove(self) -> None:
        """The trial has ended: it will not go on."""
        self._folder.remove()

    def file(self, step: int) -> str | None:
        """Where the last attempt's state after report `step` lies: a path or URI; None when it is not there.

        The caller knows its digest, from the record.
        """
        found = [file for file in self._earlier([step]) + self._found() if file.step == step]
        return self._path(found[-1]) if found else None

    def _found(self, owner: str | None = None) -> list[_File]:
        """All that are there and ours, oldest first."""
        wanted = self._owner if owner is None else owner
        names = self._folder.names()
        files = [_parsed(name.removesuffix(".safetensors")) for name in names if name.endswith(".safetensors")]
        return sorted(file for file in files if file and file.owner == wanted)

    def _earlier(self, known: Iterable[int]) -> list[_File]:
        """Those that an earlier version wrote, of steps that the record knows."""
        return [file for file in self._found("") if file.step in known] if self._owner else []

    def _name(self, step: int, attempt: int) -> str:
        return "-".join(filter(None, [str(step), str(attempt), self._owner]))

    def _path(self, file: _File) -> str:
        return below(self._folder.where, f"{file.stem}.safetensors")

    def _digest(self, file: _File) -> str:
        return self._folder.read(f"{file.stem}.sha256").decode().strip()


class _File(NamedTuple):
    """A checkpoint's name."""

    step: int
    attempt: int  # 0: of a time when names held no attempt
    owner: str
    stem: str


def _parsed(stem: str) -> _File | None:
    step, _, rest = stem.partition("-")
    attempt, _, owner = rest.partition("-")
    return _File(int(step), int(attempt or 0), owner, stem) if (step + attempt).isdigit() else None
