"""Image files as samples. A training set and the images given to `predict` are read by the same function.

folder/CLASS/*.png                                      split at random, always the same way
folder/{train,validation,test}/CLASS/*.png              split by these folders
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from rungwise.errors import RungwiseError
from rungwise.trainable.data.raw import PARTS, Array, part_of

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
_GREY = ("1", "L", "LA", "La", "I")
_ALIKE = (*_GREY, "P", "PA", "RGB", "RGBA", "RGBa", "RGBX")  # 8 bits of light, which keep their value
DIM = 128  # below this brightest pixel, images use a range of their own, such as 0..16
FEW_LEVELS = 65535 // 4  # with a darker brightest pixel, a 16-bit picture keeps fewer than 64 of 256 levels


class PictureError(RungwiseError, ValueError):
    """Images that cannot be used; one line with the rule, the value and the remedy."""


@dataclass(frozen=True)
class Picture:
    """An image as a viewer shows it: mode L or RGB, 8 bits a pixel, upright, without transparency."""

    image: Image.Image
    changes: tuple[str, ...]  # conversions that this took
    deepest: int | None = None  # the largest value of a 16-bit picture


def read_picture(source: Path | bytes, name: str) -> Picture:
    """Read an image file, or the content of one, called `name` in messages. Raises PictureError.

    Grey images stay grey, all others become RGB. 16 bits per pixel are scaled to 8; 32-bit and floating-point pixels
    are rejected, because the file does not state their range. EXIF rotation is applied, and transparent pixels are
    composited on white.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
                return _upright(file)
    except FileNotFoundError:
        raise PictureError(f"an image must exist, but there is none at {name}") from None
    except Exception as error:  # Pillow's readers raise whatever a torn or hostile file makes of them
        text = " ".join(str(error).split()) or type(error).__name__
        raise PictureError(f"an image must be a readable picture, but {name} is not: {text}") from error


def _upright(file: Image.Image) -> Picture:
    changes, deepest = [], None
    if getattr(file, "is_animated", False):
        changes.append("first frame or page only")
    turned = file.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
    kind = file.format
    file.load()
    image = ImageOps.exif_transpose(file)
    if turned:
        changes.append("rotated according to EXIF")
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and kind in ("PNG", "PPM")):  # Pillow's I of these has 16 bits
        deep = np.asarray(image, np.float64)
        deepest = int(deep.max())
        image = Image.fromarray((deep / 257).round().astype(np.uint8))  # 65535 = 257 * 255
        changes.append("16 bits per pixel scaled to 8")
    elif mode in ("I", "F"):
        what = "32-bit" if mode == "I" else "floating-point"
        raise ValueError(f"its pixels are {what} numbers of unknown range; save it with 8 or 16 bits per pixel")
    elif mode not in _ALIKE:
        changes.append(f"{mode} converted to RGB")
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        if np.asarray(clear)[..., 3].min() < 255:
            image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
            changes.append("transparent parts composited on white")
    grey = mode in _GREY or mode.startswith("I;16")
    return Picture(image.convert("L" if grey else "RGB"), tuple(changes), deepest)


def decode_images(sources: Iterable[tuple[str, Path | bytes]]) -> tuple[Array, list[str]]:
    """Decode (name, file or content) of each image.

    Returns:
        uint8 (N, C, H, W), with C = 1 if all images are grey, else 3; and one line per kind of conversion.

    Raises:
        PictureError: An image cannot be read, or sizes differ.
    """
    arrays: list[Array] = []
    changes: Counter[str] = Counter()
    deepest: list[int] = []
    first = ""
    for name, source in sources:
        picture = read_picture(source, name)
        changes.update(picture.changes)
        if picture.deepest is not None:
            deepest.append(picture.deepest)
        x = np.asarray(picture.image)
        x = x[None] if x.ndim == 2 else x.transpose(2, 0, 1)
        if arrays and x.shape[1:] != arrays[0].shape[1:]:
            (h, w), (h0, w0) = x.shape[1:], arrays[0].shape[1:]
            raise PictureError(
                f"all images must have one size, but {name} has {w}x{h}{_as_turned(picture)} and {first} {w0}x{h0}; "
                "resize them beforehand"
            )
        first = first or name
        arrays.append(x)
    if not arrays:
        raise PictureError("there must be at least one image, but there is none")
    notes = [f"{count:,} of {len(arrays):,} images: {change}" for change, count in changes.items()]
    if deepest and max(deepest) < FEW_LEVELS:
        notes.append(
            f"the brightest 16-bit pixel is {max(deepest):,} of 65,535, so images keep only few grey levels; "
            "rescale them beforehand"
        )
    channels = {len(x) for x in arrays}
    if len(channels) > 1:
        grey = sum(len(x) == 1 for x in arrays)
        notes.append(f"{grey:,} of {len(arrays):,} images are grey and get three identical channels")
    return np.stack([np.broadcast_to(x, (max(channels), *x.shape[1:])) for x in arrays]), notes


def _as_turned(picture: Picture) -> str:
    return "".join(f" ({change})" for change in picture.changes if "EXIF" in change)


def decoded_size(source: Path) -> int:
    """The most bytes that an image takes in memory, from its header alone. Raises PictureError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source) as image:
                return 3 * image.width * image.height
    except Exception as error:  # as in `read_picture`
        text = " ".join(str(error).split()) or type(error).__name__
        raise PictureError(f"an image must be a readable picture, but {source} is not: {text}") from error


# -- folders -------------------------------------------------------------------------------------------------------


def list_classes(folder: Path) -> dict[str, list[Path]]:
    """{class: its images}, both sorted by name. Raises PictureError when a class has no images."""
    images_of = {child.name: _images(child) for child in _folders(folder)}
    if len(images_of) < 2 or not all(images_of.values()):
        counts = ", ".join(f"{name}: {len(files)}" for name, files in images_of.items()) or "no folders"
        raise PictureError(f"a folder of images must contain one folder of images per class, but {folder} has {counts}")
    return images_of


def find_splits(folder: Path) -> dict[str, Path]:
    """{train, validation, test: folder} of a split folder, where validation is optional; {"": folder} of another one.

    Common names are recognised (Training, val, seg_test). Raises PictureError for an incomplete split.
    """
    roles: dict[str, list[Path]] = {}
    for child in _folders(folder):
        if role := _role(child.name):
            roles.setdefault(role, []).append(child)
    if len(roles) < 2:  # one may be a class: a train among cars
        return {"": folder}
    if missing := [role for role in ("train", "test") if role not in roles]:
        names = ", ".join(child.name for children in roles.values() for child in children)
        raise PictureError(
            f"a split folder must contain {', '.join(PARTS)}, but {folder} has no {', '.join(missing)} beside "
            f"{names}; rename these if they are classes"
        )
    for role, children in roles.items():
        if len(children) > 1:
            names = ", ".join(child.name for child in children)
            raise PictureError(f"a split folder must contain one {role}, but {folder} has {names}")
    return {role: _classes_of(roles[role][0]) for role in PARTS if role in roles}


def describe_unread(folder: Path, split: dict[str, Path]) -> list[str]:
    """One line for each thing in a folder of images that is not read in the way its name suggests."""
    notes = []
    renamed = [f"{path.relative_to(folder)} as {role}" for role, path in split.items() if role and path.name != role]
    if renamed:
        notes.append(f"splits in {folder.name}: {', '.join(renamed)}")
    if "" not in split and "validation" not in split:
        notes.append("the folder has no validation split: it is drawn from train")
    used = [path.relative_to(folder).parts[0] for path in split.values() if path != folder]
    others = [child.name for child in _folders(folder) if used and child.name not in used]
    if others:
        notes.append(f"folders beside the splits are ignored: {', '.join(others)}")
    for path in split.values():
        inside = {role for child in _folders(path) for below in _folders(child) if (role := _role(below.name))}
        if len(inside) > 1:
            notes.append(
                f"classes in {path.name} contain folders {', '.join(sorted(inside))}, which are not used as splits"
            )
    left = Counter(kind for path in split.values() for kind in _left_out(path))
    if left:
        what = ", ".join(f"{count:,} {kind}" for kind, count in left.most_common(8))
        notes.append(f"ignored in {folder.name}: {what}")
    return notes


def _folders(folder: Path) -> list[Path]:
    """Its folders sorted by name, without hidden ones and those that macOS adds to archives."""
    with os.scandir(folder) as entries:
        return sorted(Path(entry) for entry in entries if entry.is_dir() and not _hidden(entry.name))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _images(folder: Path) -> list[Path]:
    """All images below, sorted. Hidden files and folders are skipped, links to folders are not followed."""
    images = []
    for where, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not _hidden(name)]
        images += [Path(where, name) for name in files if _is_image(name) and not _hidden(name)]
    return sorted(images)


def _refuse(error: OSError) -> None:
    """Raise: `os.walk` would silently skip a folder that may not be read."""
    raise error


def _left_out(folder: Path) -> Iterator[str]:
    """The kind of each file that `list_classes` skips."""
    for child in folder.iterdir():
        if _is_image(child.name) and not child.is_dir() and not _hidden(child.name):
            yield "images outside a class's folder"
    for child in _folders(folder):
        for where, folders, files in os.walk(child):
            links = [name for name in folders if Path(where, name).is_symlink()]
            yield from ["links to folders"] * len(links)
            yield from (f"folders called {name}" for name in folders if _hidden(name))
            folders[:] = [name for name in folders if not _hidden(name)]
            yield from ("hidden images" for name in files if _is_image(name) and _hidden(name))
            others = (Path(name).suffix.lower() for name in files if not _is_image(name) and not _hidden(name))
            yield from (f"*{suffix}" if suffix else "without a suffix" for suffix in others)


def _role(name: str) -> str | None:
    """The split that a folder's name stands for, as in Training, seg_test and val-images."""
    return next((part for word in re.split(r"[^a-z]+", name.lower()) if (part := part_of(word))), None)


def _classes_of(part: Path) -> Path:
    """The folder with the classes: `part`, or a folder of the same name inside it. Raises PictureError."""
    inside = _folders(part)
    if len(inside) == 1 and _role(inside[0].name) == _role(part.name):  # seg_train/seg_train/CLASS
        part, inside = inside[0], _folders(inside[0])
    if not inside:
        raise PictureError(
            f"a split must contain one folder of images per class, but {part} has none; if {part.name!r} is a class, "
            f"rename it"
        )
    return part
