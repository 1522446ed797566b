"""A confirmed model's folder as `trainable.export.saved_model` wrote it: config.json, and files that are what it
says."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path
from typing import Any

from rungwise.errors import RungwiseError
from rungwise.results.analysis.answer import Answer
from rungwise.results.io.paths import UnsafeName, name_problem, resolve_below, shown
from rungwise.results.record.reader import Reader

FORMAT = 1
OWN = "own"  # kind of a model that the user's own training saved: files of its own
FOLDER, CONFIG, WEIGHTS, PROGRAM, EXAMPLES = (
    "model", "config.json", "weights.safetensors", "model.pt2", "examples.safetensors",
)  # fmt: skip
_LONGEST = 2**24  # bytes of a config.json


class ModelError(RungwiseError, ValueError):
    """The model cannot be used; the message names the file and why."""


def difference(reader: Reader, answer: Answer) -> str | None:
    """How the model in the run's folder differs from the one that the record's answer names; None when it is that one,
    or when nothing is confirmed. The record grows, so a model that was the answer's once may not be it now. Digests are
    not looked at.
    """
    if (trial := answer.model) is None:
        return None
    folder = reader.folder / FOLDER
    try:
        content = _read_config(folder)
        holds, trained = content["about"].get("trial"), dict(content["config"])
    except FileNotFoundError:
        return f"{folder} contains no model, but the answer's is that of trial {trial}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"{folder / CONFIG} cannot be read ({type(error).__name__}: {error})"
    if holds != trial:
        return f"{folder} contains the model of trial {holds}, but the answer's is that of trial {trial}"
    (config,) = (trial_row.config for trial_row in reader.trials() if trial_row.trial == trial)
    names = (config.keys() & trained.keys()) - {"model"}  # a function's file lies elsewhere on other machines
    if wrong := sorted(name for name in names if trained[name] != config[name]):
        return f"{folder} contains the model of another trial {trial}, with another {', '.join(wrong)}"
    return None


def described(folder: Path) -> dict[str, Any]:
    """What config.json holds, once every file has the digest that it says. Raises ModelError."""
    try:
        content = _read_config(folder)
        if content["format"] != FORMAT:
            raise ModelError(f"{folder / CONFIG} must have format {FORMAT}, but has {content['format']!r}")
        digests: dict[str, str] = content["sha256"]
        if content.get("kind") == OWN:
            _require_digests(folder, digests)
            return content
        if unknown := digests.keys() - {WEIGHTS, PROGRAM, EXAMPLES}:  # a name is whatever its maker wrote: a device
            raise ModelError(
                f"{folder / CONFIG} must know {WEIGHTS}, {PROGRAM}, {EXAMPLES}, but says {min(unknown)[:80]!r}"
            )
        required = {WEIGHTS, EXAMPLES} if content.get("unexported") else {PROGRAM, EXAMPLES}
        if missing := required - digests.keys():
            raise ModelError(f"{folder / CONFIG} must know every file, but lacks {', '.join(sorted(missing))}")
        _require_digests(folder, digests)
    except FileNotFoundError as error:
        raise ModelError(
            f"a run has a model once it is confirmed, but there is no {error.filename}: run the sweep to its end"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{folder} must contain a complete model, but {type(error).__name__}: {error}") from error
    return content


def _require_digests(folder: Path, digests: dict[str, str]) -> None:
    """Every file has the digest that config.json says. Raises ModelError, OSError."""
    for name, digest in digests.items():
        try:
            if problem := name_problem(name):
                raise UnsafeName(f"{problem}, but got {shown(name)}")
            _require_file(folder / name)
            path = resolve_below(folder, name)
        except UnsafeName as error:
            raise ModelError(f"{folder / CONFIG} must name files below its folder, but {error}") from None
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise ModelError(f"{path} must have SHA-256 {digest[:64]}, but has another: copy it again")


def _read_config(folder: Path) -> dict[str, Any]:
    """Raises what reading does for a file that is absent, no file, too long, or no JSON."""
    _require_file(folder / CONFIG, _LONGEST)
    content: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    return content


def _require_file(path: Path, longest: int | None = None) -> None:
    """A device or a pipe has no end. Raises ModelError, FileNotFoundError."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ModelError(f"{path} must be a file, but is none")
    if longest is not None and status.st_size > longest:
        raise ModelError(f"{path} must have at most {longest:,} bytes, but has {status.st_size:,}")
