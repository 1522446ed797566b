"""A trial's checkpoints: the newest and the one before it, each with the SHA-256 that it must have.

    <root>/<trial>/<step>-<attempt>.safetensors    what `State.content` holds
    <root>/<trial>/<step>-<attempt>.sha256         its digest, also kept in the record

`root` is <run>/checkpoints, or <mirror>/<run>/checkpoints, which may be a URI: all machines must reach it.

The record's digest is the one that counts; the file beside it serves a process that died before it could tell the
driver. A checkpoint that fails its digest is refused, and the one before is taken. An attempt writes and deletes files
of its own name only: a machine that was cut off, and comes back when the trial goes on elsewhere, spoils nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.storage import Folder, below

if TYPE_CHECKING:  # the driver uses this module too, and never imports torch
    from trainable.config import Config
    from trainable.data import Tensors
    from trainable.state import State

FOLDER = "checkpoints"
KEPT = 2


class CheckpointError(ValueError):
    """A state that cannot be kept, or a checkpoint that cannot be trusted or does not belong to this trial."""


@dataclass(frozen=True)
class Saved:
    """One checkpoint in storage."""

    step: int  # reports sent when it was taken
    sha256: str


class Checkpoints:
    """The checkpoints of one trial below `root`; `attempt` is the number of the one that writes."""

    def __init__(self, root: str | Path, trial: int, attempt: int = 1) -> None:
        self._folder = Folder(below(root, str(trial)))
        self._attempt = attempt

    def save(self, state: State) -> Saved:
        """Write the state, then forget all but the newest two of this attempt, and what it no longer goes back to."""
        content = state.content()
        digest = hashlib.sha256(content).hexdigest()
        name = _name(state.step, self._attempt)
        self._folder.write(f"{name}.safetensors", content)
        self._folder.write(f"{name}.sha256", digest.encode())
        found = self._found()
        own = [(step, attempt) for step, attempt in found if attempt == self._attempt]
        outlived = [(step, attempt) for step, attempt in found if attempt < self._attempt and len(own) >= KEPT]
        for step, attempt in own[:-KEPT] + outlived:
            self._folder.delete(f"{_name(step, attempt)}.sha256")
            self._folder.delete(f"{_name(step, attempt)}.safetensors")
        return Saved(state.step, digest)

    def load(self, config: Config, data: Tensors, known: Mapping[int, str]) -> tuple[State | None, list[str]]:
        """The newest whole state, or None; and why newer ones were refused. `known` is the record's {step: sha256}."""
        from trainable.state import State

        refused: list[str] = []
        for step, attempt in reversed(self._found()):
            try:
                digest = known.get(step) or self._digest(step, attempt)
                return State.load(self._file(step, attempt), config, data, digest), refused
            except (CheckpointError, OSError) as error:
                refused.append(str(error))
        return None, refused

    def saved(self) -> list[Saved]:
        """What lies there with a digest beside it, oldest first."""
        names = set(self._folder.names())
        return [
            Saved(step, self._digest(step, attempt))
            for step, attempt in self._found()
            if f"{_name(step, attempt)}.sha256" in names
        ]

    def remove(self) -> None:
        """The trial has ended: it will not go on."""
        self._folder.remove()

    def file(self, step: int) -> str | None:
        """Where the last attempt's state after report `step` lies: a path or URI; None when it is not there."""
        found = [attempt for there, attempt in self._found() if there == step]
        return self._file(step, max(found)) if found else None

    def _found(self) -> list[tuple[int, int]]:
        """(step, attempt) of all that are there, oldest first."""
        stems = [name.removesuffix(".safetensors") for name in self._folder.names() if name.endswith(".safetensors")]
        pairs = [stem.partition("-")[::2] for stem in stems]
        return sorted((int(step), int(attempt or 0)) for step, attempt in pairs if (step + attempt).isdigit())

    def _file(self, step: int, attempt: int) -> str:
        return below(self._folder.where, f"{_name(step, attempt)}.safetensors")

    def _digest(self, step: int, attempt: int) -> str:
        return self._folder.read(f"{_name(step, attempt)}.sha256").decode().strip()


def _name(step: int, attempt: int) -> str:
    return f"{step}-{attempt}" if attempt else str(step)  # 0: of a time when names held no attempt
