"""The confirmed model of a run: `load("runs/mnist_l2").predict(images)`. The only file here that knows torch.

A `torch.export` archive can hold pickles, and pickles are code that runs when it is loaded. One that was exported by
`trainable.export` holds none, and one that does hold any is refused.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from results.answer import answer
from results.model_folder import CONFIG, FOLDER, PROGRAM, ModelError, described, difference
from results.record import FILE, Reader, RecordError

__all__ = ["Model", "ModelError", "load"]

_BATCH = 4096
# What torch.export.save writes for a model without pickles; the rest of the archive is not looked at by torch.
_PLAIN = re.compile(r"[^/]+/(data/weights/(weight_\d+|[^/]+_config\.json)|data/constants/[^/]+_config\.json|models/.+)")
_SAMPLES = re.compile(r"[^/]+/data/sample_inputs/[^/]+")
_TEXTS = re.compile(r"[^/]+/(archive_format|archive_version|byteorder|\.data/(version|serialization_id))")


@dataclass(frozen=True)
class Model:
    """A confirmed model, ready to use."""

    folder: Path
    classes: tuple[str, ...]
    shape: tuple[int, ...]  # of one sample: (C, H, W) or (F,)
    dtype: str  # of a raw sample: uint8 or float32
    config: dict[str, Any]  # its hyperparameters
    about: dict[str, Any]  # its trial, arm and scores
    description: dict[str, Any]  # all of config.json
    program: torch.nn.Module

    def predict(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Raw samples (N, *shape), or one of `shape` -> probabilities (N, K); of a regression the targets (N, 1), in
        their own unit. Raises ModelError for another shape.

        Images are uint8 as in the data set, not normalised; grey ones may come without their channel axis.
        """
        given = np.asarray(samples)
        x = given[None] if given.shape in (self.shape, self.shape[1:]) else given
        if x.shape[1:] == self.shape[1:] and self.shape[0] == 1 and len(self.shape) == 3:
            x = x[:, None]
        if x.shape[1:] != self.shape:
            raise ModelError(f"samples must be {self.dtype} (N, {_text(self.shape)}), but are ({_text(given.shape)})")
        if x.dtype != self.dtype and (self.dtype == "uint8" or not np.issubdtype(x.dtype, np.number)):
            raise ModelError(f"samples must be {self.dtype}, but are {x.dtype}: give them raw, not normalised")
        x = np.ascontiguousarray(x, dtype=self.dtype)
        with torch.no_grad():
            parts = [self.program(torch.tensor(x[start : start + _BATCH])) for start in range(0, len(x), _BATCH)]
        return torch.cat(parts).numpy() if parts else np.empty((0, len(self.classes) or 1), np.float32)

    def classify(self, samples: NDArray[Any]) -> list[str]:
        """The most probable class of each sample. Raises ModelError for a regression, which knows none."""
        if not self.classes:
            raise ModelError("a model must know classes to classify, but this one is of a regression: use predict")
        return [self.classes[index] for index in self.predict(samples).argmax(1)]


def load(run: str | Path) -> Model:
    """The confirmed model of a run's folder, or of a folder that holds a model.

    Raises ModelError, also when the run's folder holds another model than the one that its answer names.
    """
    folder = Path(run)
    if not (folder / CONFIG).exists():
        _require_answer(folder)
        folder = folder / FOLDER
    whole = described(folder)
    if PROGRAM not in whole["sha256"]:
        raise ModelError(
            f"the model in {folder} has its weights and no program, because torch.export refused it "
            f"({whole['unexported']}): build it by its own function, and load weights.safetensors"
        )
    try:
        return Model(
            folder=folder,
            classes=tuple(whole["classes"]),
            shape=tuple(whole["shape"]),
            dtype=whole["dtype"],
            config=whole["config"],
            about=whole["about"],
            description=whole,
            program=_program((folder / PROGRAM).read_bytes(), folder / PROGRAM),
        )
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"{folder / CONFIG} must say all about the model, but {type(error).__name__}: {error}"
        ) from error


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


def _program(content: bytes, path: Path) -> torch.nn.Module:
    if problem := _pickled(content):
        raise ModelError(f"{path} must hold no pickle, because pickles are code, but {problem}")
    try:
        return torch.export.load(io.BytesIO(content)).module()
    except Exception as error:  # whatever a torn or foreign archive makes of torch
        raise ModelError(f"{path} must be a torch.export program, but {error}") from error


def _pickled(content: bytes) -> str | None:
    """What of a torch.export archive torch would unpickle without its restrictions; None when nothing."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                if _SAMPLES.fullmatch(name):
                    torch.load(io.BytesIO(archive.read(name)), weights_only=True)  # as torch tries first
                elif not _PLAIN.fullmatch(name) and not _TEXTS.fullmatch(name):
                    return f"it holds {name}"
                elif name.endswith("_config.json"):
                    entries = json.loads(archive.read(name)).get("config", {})
                    if any(entry.get("use_pickle", True) for entry in entries.values()):
                        return f"{name} says so"
    except Exception as error:
        return f"it cannot be looked into ({type(error).__name__}: {error})"
    return None


def _text(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
