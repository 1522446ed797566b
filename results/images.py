"""Pictures from files as a model wants them: its number of channels, its size, its range."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

_MODES = {1: "L", 3: "RGB"}


class ImageError(ValueError):
    """A file cannot be used as an image; the message names it."""


@dataclass(frozen=True)
class Picture:
    """One file, ready for the model, and what had to be done to it."""

    pixels: NDArray[np.uint8]  # (C, H, W)
    notes: tuple[str, ...]


def read(path: Path, described: dict[str, Any], invert: bool = False) -> Picture:
    """Read an image for a model with this config.json. Raises ImageError.

    Transparent pixels count as white; an image of other proportions gets a border of its own colour; a brighter or
    darker range than the model's is scaled to it. `invert`: for dark drawings on light paper, when the model knows
    light ones on dark.
    """
    shape = tuple(described["shape"])
    if described["dtype"] != "uint8" or len(shape) != 3 or shape[0] not in _MODES:
        raise ImageError(f"the model must know grey or colour images, but its samples are {described['dtype']} {shape}")
    channels, height, width = shape
    notes = []
    image = _opened(path, _MODES[channels])
    if invert:
        image = ImageOps.invert(image)
    if image.size != (width, height):
        notes.append(f"resized from {image.width}x{image.height} to {width}x{height}")
        image = _fitted(image, width, height)
    pixels = np.asarray(image, dtype=np.uint8).reshape(height, width, channels).transpose(2, 0, 1)
    highest = float(described.get("highest", 255.0))
    dark = sum(described["mean"]) / channels < highest / 2
    if not invert and dark != (_border(image) < 127.5):
        paper, known = ("light", "dark") if dark else ("dark", "light")
        notes.append(f"its background is {paper}, but the model knows {known} ones: try --invert")
    if highest < 255:
        pixels = np.round(pixels * (highest / 255)).astype(np.uint8)
    return Picture(np.ascontiguousarray(pixels), tuple(notes))


def _opened(path: Path, mode: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                file.load()
                image = ImageOps.exif_transpose(file)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"an image must be a readable picture, but {str(path)!r} is not: {error}") from error
    if image.mode.startswith("I"):  # 16 bits a pixel; converting would cut them off at 255
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 65535 * 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


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
