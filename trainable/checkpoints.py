"""A trial's checkpoints: the newest and the one before it, each with the SHA-256 that it must have.

    <run>/checkpoints/<trial>/<step>.safetensors    what `State.save` wrote
    <run>/checkpoints/<trial>/<step>.sha256         its digest, also kept in the record

The record's digest is the one that counts; the file beside it serves a process that died before it could tell the
driver. A checkpoint that fails its digest is refused, and the one before is taken.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the driver uses this module too, and never imports torch
    from trainable.config import Config
    from trainable.data import Tensors
    from trainable.state import State

FOLDER = "checkpoints"
KEPT = 2


@dataclass(frozen=True)
class Saved:
    """One checkpoint on disk."""

    step: int  # reports sent when it was taken
    sha256: str


class Checkpoints:
    """The checkpoints of one trial below `root`."""

    def __init__(self, root: str | Path, trial: int) -> None:
        self._folder = Path(root) / str(trial)

    def save(self, state: State) -> Saved:
        """Write the state, then forget all but the newest two."""
        self._folder.mkdir(parents=True, exist_ok=True)
        digest = state.save(self.file(state.step))
        _write(self._digest(state.step), digest)
        for step in self._steps()[:-KEPT]:
            self._digest(step).unlink(missing_ok=True)
            self.file(step).unlink(missing_ok=True)
        return Saved(state.step, digest)

    def load(self, config: Config, data: Tensors, known: Mapping[int, str]) -> tuple[State | None, list[str]]:
        """The newest whole state, or None; and why newer ones were refused. `known` is the record's {step: sha256}."""
        from trainable.state import CheckpointError, State

        refused: list[str] = []
        for step in reversed(self._steps()):
            try:
                digest = known.get(step) or self._digest(step).read_text().strip()
                return State.load(self.file(step), config, data, digest), refused
            except (CheckpointError, OSError) as error:
                refused.append(str(error))
        return None, refused

    def saved(self) -> list[Saved]:
        """What lies on disk with a digest beside it, oldest first."""
        return [
            Saved(step, self._digest(step).read_text().strip()) for step in self._steps() if self._digest(step).exists()
        ]

    def remove(self) -> None:
        """The trial has ended: it will not go on."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _steps(self) -> list[int]:
        return sorted(int(file.stem) for file in self._folder.glob("*.safetensors") if file.stem.isdigit())

    def file(self, step: int) -> Path:
        """Where the state after report `step` lies."""
        return self._folder / f"{step}.safetensors"

    def _digest(self, step: int) -> Path:
        return self._folder / f"{step}.sha256"


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
