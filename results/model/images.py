"""Image files converted to a model's input: number of channels, size, range."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from rungwise.errors import RungwiseError
from rungwise.trainable.data.image_folder import DIM, PictureError, read_picture

_MODES = {1: "L", 3: "RGB"}


class ImageError(RungwiseError, ValueError):
    """A file cannot be used as an image; the message names it."""


@dataclass(frozen=True)
class Picture:
    """One file, ready for the model, and what had to be done to it."""

    pixels: NDArray[np.uint8]  # (C, H, W)
    notes: tuple[str, ...]


def read(path: Path, described: dict[str, Any], invert: bool = False) -> Picture:
    """Read an image for a model with this config.json. Raises ImageError.

    Read as the training set's pictures were; one of other proportions gets a border of its own colour; one for a model
    of images with few levels, such as 0..16, is scaled to them. `invert`: for dark drawings on light paper, when the
    model knows light ones on dark.
    """
    shape = tuple(described["shape"])
    if described["dtype"] != "uint8" or len(shape) != 3 or shape[0] not in _MODES:
        raise ImageError(f"the model must know grey or colour images, but its samples are {described['dtype']} {shape}")
    channels, height, width = shape
    try:
        picture = read_picture(path, repr(str(path)))
    except PictureError as error:
        raise ImageError(str(error)) from error
    notes = list(picture.changes)
    if picture.image.mode == "RGB" and channels == 1:
        notes.append("its colours become grey")
    image = picture.image.convert(_MODES[channels])
    if invert:
        image = ImageOps.invert(image)
    if image.size != (width, height):
        notes.append(f"resized from {image.width}x{image.height} to {width}x{height}")
        image = _fitted(image, width, height)
    pixels = np.asarray(image, dtype=np.uint8).reshape(height, width, channels).transpose(2, 0, 1)
    highest = float(described.get("highest", 255.0))
    dark = sum(described["mean"]) / channels < highest / 2
    if described["mean"] and not invert and dark != (_border(image) < 127.5):
        paper, expected = ("light", "dark") if dark else ("dark", "light")
        notes.append(f"its background is {paper}, but the model knows {expected} ones: try --invert")
    if highest < DIM:
        notes.append(f"scaled to the model's range, 0 to {highest:g}")
        pixels = np.round(pixels * (highest / 255)).astype(np.uint8)
    return Picture(np.ascontiguousarray(pixels), tuple(notes))


def _fitted(image: Image.Image, width: int, height: int) -> Image.Image:
    """Scale to fit, and pad what is missing with the border's colour."""
    border = np.concatenate([edge.reshape(-1, *edge.shape[1:]) for edge in _edges(image)])
    colour = np.median(border, axis=0).round().astype(int)
    fill = tuple(colour.tolist()) if colour.ndim else int(colour)
    return ImageOps.pad(image, (width, height), Image.Resampling.LANCZOS, fill)


def _border(image: Image.Image) -> float:
    """Mean brightness of the outermost pixels."""
    return float(np.mean(np.concatenate([edge.ravel() for edge in _edges(image)])))


def _edges(image: Image.Image) -> list[NDArray[np.uint8]]:
    """The four sides, each (length,) or (length, channels)."""
    pixels = np.asarray(image)
    return [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
