"""A confirmed model's folder as `trainable.export` wrote it: config.json, and files that are what it says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from results.answer import Answer
from results.record import Reader

FORMAT = 1
FOLDER, CONFIG, PROGRAM, EXAMPLES = "model", "config.json", "model.pt2", "examples.safetensors"


class ModelError(ValueError):
    """The model cannot be used; the message names the file and why."""


def difference(reader: Reader, found: Answer) -> str | None:
    """How the model in the run's folder differs from the one that the record's answer names; None when it is that one,
    or when nothing is confirmed. The record grows, so a model that was the answer's once may not be it now. Digests are
    not looked at.
    """
    if (trial := found.model) is None:
        return None
    folder = reader.folder / FOLDER
    try:
        content = json.loads((folder / CONFIG).read_text())
        holds, trained = content["about"].get("trial"), content["config"]
    except FileNotFoundError:
        return f"{folder} holds no model, but the answer's is that of trial {trial}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{folder / CONFIG} cannot be read ({type(error).__name__}: {error})"
    if holds != trial:
        return f"{folder} holds the model of trial {holds}, but the answer's is that of trial {trial}"
    (config,) = (one.config for one in reader.trials("confirm") if one.trial == trial)
    names = (config.keys() & trained.keys()) - {"model"}  # a function's file lies elsewhere on other machines
    if wrong := sorted(name for name in names if trained[name] != config[name]):
        return f"{folder} holds the model of another trial {trial}, with another {', '.join(wrong)}"
    return None


def described(folder: Path) -> dict[str, Any]:
    """What config.json holds, once every file has the digest that it says. Raises ModelError."""
    try:
        content: dict[str, Any] = json.loads((folder / CONFIG).read_text())
        if content["format"] != FORMAT:
            raise ModelError(f"{folder / CONFIG} must have format {FORMAT}, but has {content['format']}")
        for name, digest in content["sha256"].items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise ModelError(f"{folder / name} must have SHA-256 {digest}, but has another: copy it again")
        whole = {EXAMPLES} if content.get("unexported") else {PROGRAM, EXAMPLES}
        if missing := whole - content["sha256"].keys():
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
