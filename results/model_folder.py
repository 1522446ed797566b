"""A confirmed model's folder as `trainable.export` wrote it: config.json, and files that are what it says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

FORMAT = 1
FOLDER, CONFIG, PROGRAM, EXAMPLES = "model", "config.json", "model.pt2", "examples.safetensors"


class ModelError(ValueError):
    """The model cannot be used; the message names the file and why."""


def described(folder: Path) -> dict[str, Any]:
    """What config.json holds, once every file has the digest that it says. Raises ModelError."""
    try:
        content: dict[str, Any] = json.loads((folder / CONFIG).read_text())
        if content["format"] != FORMAT:
            raise ModelError(f"{folder / CONFIG} must have format {FORMAT}, but has {content['format']}")
        for name, digest in content["sha256"].items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise ModelError(f"{folder / name} must have SHA-256 {digest}, but has another: copy it again")
        if missing := {PROGRAM, EXAMPLES} - content["sha256"].keys():
            raise ModelError(f"{folder / CONFIG} must know every file, but lacks {', '.join(sorted(missing))}")
    except FileNotFoundError as error:
        raise ModelError(
            f"a run has a model once it is confirmed, but there is no {error.filename}: run the sweep to its end"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{folder} must hold a whole model, but {type(error).__name__}: {error}") from error
    return content
