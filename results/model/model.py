"""The confirmed model of a run: `load("runs/mnist_l2").predict(images)`. The only file here that knows torch.

A run may come from another person. Its built-in network is made again from hyperparameters and weights, which are
numbers. A `torch.export` program is code that runs when it is loaded: it is used only when the user says that its maker
is trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rungwise.results.analysis.answer import answer
from rungwise.results.model.model_folder import CONFIG, FOLDER, OWN, PROGRAM, WEIGHTS, ModelError, described, difference
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import FILE, RecordError
from rungwise.text import one_line

__all__ = ["Model", "ModelError", "load"]

_BATCH = 4096


@dataclass(frozen=True)
class Model:
    """A confirmed model, ready to use."""

    folder: Path
    classes: tuple[str, ...]
    shape: tuple[int, ...]  # of one sample: (C, H, W) or (F,)
    dtype: str  # of a raw sample: uint8, float32 or float64
    config: dict[str, Any]  # its hyperparameters
    about: dict[str, Any]  # its trial, arm and scores
    description: dict[str, Any]  # all of config.json
    program: torch.nn.Module

    def predict(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Raw samples (N, *shape), or one of `shape` -> probabilities (N, K); of a regression the targets (N, 1), in
        their own unit. Raises ModelError for another shape.

        Images are uint8 as in the data set, not normalised; grey ones may come without their channel axis.
        """
        raw = np.asarray(samples)
        x = raw[None] if raw.shape in (self.shape, self.shape[1:]) else raw
        if x.shape[1:] == self.shape[1:] and self.shape[0] == 1 and len(self.shape) == 3:
            x = x[:, None]
        if x.shape[1:] != self.shape:
            raise ModelError(f"samples must be {self.dtype} (N, {_text(self.shape)}), but are ({_text(raw.shape)})")
        if x.dtype != self.dtype and (self.dtype == "uint8" or not np.issubdtype(x.dtype, np.number)):
            raise ModelError(f"samples must be {self.dtype}, but are {x.dtype}: give them raw, not normalised")
        with np.errstate(over="ignore"):  # becomes inf, and is refused
            x = np.ascontiguousarray(x, dtype=self.dtype)
        if self.dtype != "uint8" and not np.isfinite(x.astype(np.float32)).all():
            raise ModelError("samples must be finite in float32, as those that were trained on")
        with torch.no_grad():
            parts = [self.program(torch.tensor(x[start : start + _BATCH])) for start in range(0, len(x), _BATCH)]
        return torch.cat(parts).numpy() if parts else np.empty((0, len(self.classes) or 1), np.float32)

    def classify(self, samples: NDArray[Any]) -> list[str]:
        """The most probable class of each sample. Raises ModelError for a regression, which knows none."""
        if not self.classes:
            raise ModelError("a model must know classes to classify, but this one is of a regression: use predict")
        return [self.classes[index] for index in self.predict(samples).argmax(1)]


def load(run: str | Path, trust: bool = False) -> Model:
    """The confirmed model of a run's folder, or of a folder that holds a model.

    `trust`: a torch.export program may be loaded where there is no other way, that is, for a model function of the
    user's own. It can run any code of whoever made it. Raises ModelError, also when the run's folder holds another
    model than the one that its answer names.
    """
    folder = Path(run)
    if not (folder / CONFIG).exists():
        _require_answer(folder)
        folder = folder / FOLDER
    description = described(folder)
    if description.get("kind") == OWN:
        saved = ", ".join(sorted(description["sha256"])) or "nothing"
        raise ModelError(
            f"{folder} contains what the run's own training saved ({saved}): load it as that training does"
        )
    try:
        description["highest"] = float(description.get("highest", 255.0))
        return Model(
            folder=folder,
            classes=tuple(map(str, description["classes"])),
            shape=tuple(description["shape"]),
            dtype=description["dtype"],
            config=description["config"],
            about=description["about"],
            description=description,
            program=_network(folder, description, trust),
        )
    except ModelError:
        raise
    except Exception as error:  # a hostile description may be anything
        text = one_line(error)  # torch's own may hold a stack of C++
        raise ModelError(f"{folder} must contain a complete model, but {type(error).__name__}: {text}") from error


def _network(folder: Path, description: dict[str, Any], trust: bool) -> torch.nn.Module:
    from rungwise.trainable.export.serving import (  # our networks are built in one place, for training and here
        can_rebuild,
        rebuild,
    )

    if WEIGHTS in description["sha256"] and can_rebuild(description):
        return rebuild(description, folder / WEIGHTS)
    if PROGRAM not in description["sha256"]:
        raise ModelError(
            f"the model in {folder} has its weights and no program, because torch.export refused it "
            f"({description['unexported']}): build it by its own function, and load weights.safetensors"
        )
    if not trust:
        raise ModelError(
            f"the model in {folder} can only be used through its torch.export program, which may run any code of "
            "whoever made it; if you trust them, say so: --trust, in Python trust=True"
        )
    return torch.export.load(folder / PROGRAM).module()


def _require_answer(run: Path) -> None:
    if not (run / FILE).is_file() or not (run / FOLDER / CONFIG).is_file():
        return
    try:
        with Reader(run) as reader:
            problem = difference(reader, answer(reader))
    except RecordError as error:
        raise ModelError(str(error)) from error
    if problem:
        raise ModelError(f"{problem}; the sweep's command, given again, makes it")


def _text(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
