"""Images in files: PNG, JPEG and whatever else Pillow reads, in a folder for each class or in a column of a table.

folder/CLASS/*.png                                      split by a fixed draw
folder/{train,validation,test}/CLASS/*.png              split as it is
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

Array = npt.NDArray[Any]
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
PARTS = ("train", "validation", "test")


class PictureError(ValueError):
    """Images that cannot be used: the rule, the value and the way out, in one line."""


def listed(folder: Path) -> dict[str, list[Path]]:
    """{class: its images} of a folder, both in the order of their names. Raises PictureError when there are none."""
    found = {
        child.name: sorted(file for file in child.rglob("*") if file.suffix.lower() in SUFFIXES)
        for child in sorted(folder.iterdir())
        if child.is_dir() and not child.name.startswith(".")
    }
    if len(found) < 2 or not all(found.values()):
        told = ", ".join(f"{name}: {len(files)}" for name, files in found.items()) or "no folders"
        raise PictureError(f"a folder of images must have a folder with images for each class, but {folder} has {told}")
    return found


def parts(folder: Path) -> list[Path]:
    """The folders of train, validation and test; `folder` alone when it is not split. Raises PictureError."""
    there = [folder / name for name in PARTS if (folder / name).is_dir()]
    if there and len(there) < len(PARTS):
        raise PictureError(
            f"a folder that is split must hold {', '.join(PARTS)}, but {folder} has no {_missing(folder)}"
        )
    return there or [folder]


def _missing(folder: Path) -> str:
    return ", ".join(name for name in PARTS if not (folder / name).is_dir())


def decoded(sources: Iterable[tuple[str, Path | bytes]]) -> Array:
    """(name, file or content) of each -> uint8 (N, C, H, W), C = 1 when all are grey, else 3. Raises PictureError."""
    found: list[Array] = []
    first = ""
    for name, source in sources:
        try:
            with Image.open(_opened(source)) as image:
                grey = image.mode in ("1", "L", "I", "I;16", "LA")
                x = np.asarray(image.convert("L" if grey else "RGB"))
        except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
            text = " ".join(str(error).split())
            raise PictureError(f"an image must be readable, but {name} is not: {text}") from error
        x = x[None] if x.ndim == 2 else x.transpose(2, 0, 1)
        if found and x.shape[1:] != found[0].shape[1:]:
            (h, w), (h0, w0) = x.shape[1:], found[0].shape[1:]
            raise PictureError(
                f"images must have one size, but {name} has {w}x{h} and {first} {w0}x{h0}; resize them beforehand"
            )
        first = first or name
        found.append(x)
    if not found:
        raise PictureError("there must be an image, but there is none")
    channels = max(len(x) for x in found)
    return np.stack([np.broadcast_to(x, (channels, *x.shape[1:])) for x in found])


def pixels(source: Path) -> int:
    """Bytes that an image takes in memory at most, from its header alone."""
    with Image.open(source) as image:
        return 3 * image.width * image.height


def _opened(source: Path | bytes) -> Path | IO[bytes]:
    return io.BytesIO(source) if isinstance(source, bytes) else source
