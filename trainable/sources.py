"""Where samples come from: the embedded MNIST, torchvision, scikit-learn, or a user's own file.

Every source ends as a `Raw`: samples and labels as the publisher ordered them. Splitting, statistics and
the checks of content are `data.py`'s.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from trainable.idx import read_idx

Array = npt.NDArray[Any]
Pair = tuple[Array, Array]

MNIST = Path(__file__).with_name("mnist.parquet")
TORCHVISION = {
    "fashion-mnist": ("FashionMNIST", "Fashion-MNIST, Zalando SE 2017; MIT"),
    "kmnist": ("KMNIST", "Kuzushiji-MNIST, ROIS-DS Center for Open Data in the Humanities; CC BY-SA 4.0"),
    "emnist": ("EMNIST", "EMNIST balanced, Cohen et al. 2017 (NIST Special Database 19)"),
    "cifar10": ("CIFAR10", "CIFAR-10, Krizhevsky 2009 (University of Toronto)"),
}
IDX_CLASSES = {
    "fashion-mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}
NAMES = ("mnist", *TORCHVISION, "digits")
SUFFIXES = (".npz", ".parquet")
NPZ_KEYS = ("x", "y"), ("x", "y", "x_validation", "y_validation", "x_test", "y_test")


class DataError(ValueError):
    """A dataset that cannot be used: the rule, the value and the way out, in one line."""


@dataclass(frozen=True)
class Raw:
    """Samples (N, C, H, W) or (N, F) and labels (N,), with the publisher's own parts where there are any."""

    train: Pair
    validation: Pair | None
    test: Pair | None
    source: str
    classes: tuple[str, ...] = ()


def is_file(name: str) -> bool:
    """Whether `name` means a file of the user's rather than a dataset that has a name."""
    return "/" in name or "\\" in name or name.endswith(SUFFIXES)


def read(name: str, root: Path) -> Raw:
    """Read a known dataset or a file; torchvision's are downloaded to `root` when they are not there."""
    if name == "mnist":
        return _mnist(MNIST)
    if name == "digits":
        return _digits()
    if name in TORCHVISION:
        return _torchvision(name, root)
    return _npz(Path(name)) if name.endswith(".npz") else _parquet(Path(name))


def check_file(path: Path) -> str | None:
    """What is wrong with a user's file, as far as its directory or footer tells; None = nothing."""
    try:
        if path.suffix not in SUFFIXES:
            return f"a data file must end in {' or '.join(SUFFIXES)}, but got {str(path)!r}"
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                _check_keys(path, [Path(item).stem for item in archive.namelist()])
        else:
            _check_columns(path, pq.read_schema(path))
    except DataError as error:
        return str(error)
    except (OSError, zipfile.BadZipFile, pa.ArrowException) as error:
        return _unreadable(path, error)
    return None


def _unreadable(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"a data file must exist, but there is none at {str(path)!r}"
    text = " ".join(str(error).split())
    return f"a data file must be readable and whole, but {str(path)!r} is not: {type(error).__name__}: {text}"


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file, refusing any page whose checksum does not hold.

    Without verification 255 of 300 single-bit flips read back as wrong pixels and no error.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read()
    except (OSError, pa.ArrowException) as error:
        raise DataError(_unreadable(path, error)) from error


def images(column: pa.ChunkedArray, shape: tuple[int, ...]) -> Array:
    """A fixed-size binary column as uint8 (N, *shape)."""
    width = column.type.byte_width
    parts = [
        np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * width, chunk.offset * width) for chunk in column.chunks
    ]
    joined = np.concatenate(parts) if parts else np.empty(0, np.uint8)
    return joined.reshape(-1, *shape)


def _mnist(path: Path) -> Raw:
    table = read_table(path)
    if table.column_names != ["image", "label"] or len(table) != 70_000:
        raise DataError(f"the embedded MNIST must have 70000 rows of image and label, but {str(path)!r} has not")
    x = images(table["image"], (1, 28, 28))
    y = table["label"].to_numpy()
    metadata = table.schema.metadata or {}
    source = metadata.get(b"source", b"MNIST").decode(errors="replace")
    return Raw((x[:60_000], y[:60_000]), None, (x[60_000:], y[60_000:]), source, tuple("0123456789"))


def _digits() -> Raw:
    from sklearn.datasets import load_digits  # half a second to import

    found = load_digits()
    x = found.images.astype(np.uint8)[:, None]  # (1797, 1, 8, 8), 0..16
    source = "Optical Recognition of Handwritten Digits, Alpaydin, Kaynak (UCI, via scikit-learn); CC BY 4.0"
    return Raw((x, found.target), None, None, source, tuple("0123456789"))


def _idx(name: str, root: Path) -> Raw | None:
    """A set in MNIST's format that lies under the data root, or None. Needs neither torchvision nor torch."""
    kind, source = TORCHVISION[name]
    raw = root / kind / "raw"
    files = [raw / f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
    if name not in IDX_CLASSES or not all(file.is_file() for file in files):
        return None
    try:
        x, y, x_test, y_test = map(read_idx, files)
    except (OSError, ValueError) as error:
        raise DataError(_unreadable(raw, error)) from error
    return Raw((x[:, None], y), None, (x_test[:, None], y_test), source, IDX_CLASSES[name])


def _torchvision(name: str, root: Path) -> Raw:
    if found := _idx(name, root):
        return found
    from torchvision import datasets  # 1.7 s to import, and torch with it

    kind, source = TORCHVISION[name]
    options: dict[str, Any] = {"split": "balanced"} if name == "emnist" else {}
    try:
        parts = [getattr(datasets, kind)(root, train=train, download=True, **options) for train in (True, False)]
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        text = " ".join(str(error).split())
        raise DataError(
            f"{name} must be under the data root or downloadable, but {str(root)!r} has no whole copy and the "
            f"download failed ({type(error).__name__}: {text}); pass --data-root with a copy in torchvision's layout"
        ) from error
    pairs = [(_channels_first(name, np.asarray(part.data)), np.asarray(part.targets)) for part in parts]
    return Raw(pairs[0], None, pairs[1], source, tuple(str(label) for label in parts[0].classes))


def _channels_first(name: str, x: Array) -> Array:
    if name == "cifar10":
        return x.transpose(0, 3, 1, 2)
    if name == "emnist":  # published with rows and columns exchanged
        x = x.transpose(0, 2, 1)
    return x[:, None]


def _npz(path: Path) -> Raw:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(_unreadable(path, error)) from error
    _check_keys(path, arrays)
    parts = [(arrays["x" + end], arrays["y" + end]) for end in ("", "_validation", "_test") if "x" + end in arrays]
    source = f"{path.name}, the user's file"
    validation, test = parts[1:] or (None, None)
    return Raw(parts[0], validation, test, source)


def _check_keys(path: Path, keys: Iterable[str]) -> None:
    if set(keys) not in [set(allowed) for allowed in NPZ_KEYS]:
        allowed = " or ".join(", ".join(keys) for keys in NPZ_KEYS)
        raise DataError(f"{str(path)!r} must hold the arrays {allowed}, but holds {', '.join(sorted(keys)) or 'none'}")


def _parquet(path: Path) -> Raw:
    table = read_table(path)
    names = _check_columns(path, table.schema)
    for name in table.column_names:
        if table[name].null_count:
            raise DataError(f"columns of {str(path)!r} must have no nulls, but {name!r} has {table[name].null_count}")
    if names == ["image"]:
        field = table.schema.field("image")
        x = images(table["image"], _shape(path, field))
    else:
        x = np.column_stack([table[name].to_numpy() for name in names])
    y = table["label"].to_numpy()
    source = f"{path.name}, the user's file"
    if "split" not in table.column_names:
        return Raw((x, y), None, None, source)
    split = np.asarray(table["split"].to_pylist())
    wanted = ("train", "validation", "test")
    if set(split) != set(wanted):
        found = ", ".join(sorted({str(part) for part in split}))
        raise DataError(f"column 'split' of {str(path)!r} must say {', '.join(wanted)}, but says {found}")
    parts = [(x[split == part], y[split == part]) for part in wanted]
    return Raw(parts[0], parts[1], parts[2], source)


def _check_columns(path: Path, schema: pa.Schema) -> list[str]:
    """The feature columns: `image` alone, or every column but `label` and `split`, which must be numbers."""
    names = [name for name in schema.names if name not in ("label", "split")]
    numeric = all(pa.types.is_integer(t) or pa.types.is_floating(t) for t in (schema.field(n).type for n in names))
    image = names == ["image"] and pa.types.is_fixed_size_binary(schema.field("image").type)
    if len(set(schema.names)) != len(schema.names):
        raise DataError(f"columns of {str(path)!r} must have different names, but got {', '.join(schema.names)}")
    if "label" not in schema.names or not pa.types.is_integer(schema.field("label").type):
        raise DataError(f"{str(path)!r} must have an integer column 'label', but has {', '.join(schema.names)}")
    if not names or not (numeric or image):
        raise DataError(
            f"{str(path)!r} must have one fixed-size binary column 'image' or number columns only beside 'label' "
            f"and 'split', but has {', '.join(f'{n}: {schema.field(n).type}' for n in schema.names)}"
        )
    if image:
        _shape(path, schema.field("image"))
    return names


def _shape(path: Path, field: pa.Field) -> tuple[int, ...]:
    text = (field.metadata or {}).get(b"shape", b"").decode()
    sizes = tuple(int(part) for part in text.split(",")) if text.replace(",", "").isdecimal() else ()
    if len(sizes) != 3 or int(np.prod(sizes)) != field.type.byte_width:
        raise DataError(
            f"column 'image' of {str(path)!r} must say its shape as field metadata, such as shape=1,28,28 for 784 "
            f"bytes, but says {text!r} for {field.type.byte_width} bytes"
        )
    return sizes
