"""Where samples come from: the embedded MNIST, torchvision, scikit-learn, or a user's own file or folder.

Every source ends as a `Raw`: samples and labels as the publisher ordered them. Splitting, statistics and
the checks of content are `data.py`'s.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rungwise.errors import RungwiseError
from rungwise.text import printable
from rungwise.trainable.data import memory
from rungwise.trainable.data.idx import read_idx
from rungwise.trainable.data.image_folder import PictureError, decoded, listed, parts, pixels, spoken

Array = npt.NDArray[Any]
Pair = tuple[Array, Array]

MNIST = Path(__file__).with_name("mnist.parquet")
# name -> class in torchvision.datasets, bytes, source; all that have images of 28x28 or 32x32 and a class for each
TORCHVISION = {
    "fashion-mnist": ("FashionMNIST", 70_000 * 28 * 28, "Fashion-MNIST, Zalando SE 2017; MIT"),
    "kmnist": (
        "KMNIST",
        70_000 * 28 * 28,
        "Kuzushiji-MNIST, ROIS-DS Center for Open Data in the Humanities; CC BY-SA 4.0",
    ),
    "emnist": ("EMNIST", 131_600 * 28 * 28, "EMNIST balanced, Cohen et al. 2017 (NIST Special Database 19)"),
    "emnist-byclass": ("EMNIST", 814_255 * 28 * 28, "EMNIST by class, Cohen et al. 2017 (NIST Special Database 19)"),
    "emnist-bymerge": ("EMNIST", 814_255 * 28 * 28, "EMNIST by merge, Cohen et al. 2017 (NIST Special Database 19)"),
    "emnist-letters": ("EMNIST", 145_600 * 28 * 28, "EMNIST letters, Cohen et al. 2017 (NIST Special Database 19)"),
    "emnist-digits": ("EMNIST", 280_000 * 28 * 28, "EMNIST digits, Cohen et al. 2017 (NIST Special Database 19)"),
    "emnist-mnist": ("EMNIST", 70_000 * 28 * 28, "EMNIST MNIST, Cohen et al. 2017 (NIST Special Database 19)"),
    "qmnist": ("QMNIST", 120_000 * 28 * 28, "QMNIST, Yadav and Bottou 2019; BSD"),
    "cifar10": ("CIFAR10", 60_000 * 3 * 32 * 32, "CIFAR-10, Krizhevsky 2009 (University of Toronto)"),
    "cifar100": ("CIFAR100", 60_000 * 3 * 32 * 32, "CIFAR-100, Krizhevsky 2009 (University of Toronto)"),
    "svhn": (
        "SVHN",
        99_289 * 3 * 32 * 32,
        "Street View House Numbers, cropped, Netzer et al. 2011; non-commercial use",
    ),
}
# Tables that scikit-learn brings: name -> function in sklearn.datasets, source
SKLEARN = {
    "iris": ("load_iris", "Iris, Fisher 1936 (UCI, via scikit-learn); CC BY 4.0"),
    "wine": ("load_wine", "Wine, Aeberhard, Forina (UCI, via scikit-learn); CC BY 4.0"),
    "breast-cancer": (
        "load_breast_cancer",
        "Breast Cancer Wisconsin, Wolberg et al. (UCI, via scikit-learn); CC BY 4.0",
    ),
    "diabetes": ("load_diabetes", "Diabetes progression, Efron et al. 2004 (via scikit-learn)"),
}
IDX_CLASSES = {
    "fashion-mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}
NAMES = ("mnist", *TORCHVISION, "digits", *SKLEARN)
SUFFIXES = (".npz", ".parquet")
EXACT = 2**53  # whole numbers that float64 holds
FEW_ROWS = 20
NPZ_KEYS = ("x", "y"), ("x", "y", "x_validation", "y_validation", "x_test", "y_test")


class DataError(RungwiseError, ValueError):
    """A dataset that cannot be used: the rule, the value and the way out, in one line."""


@dataclass(frozen=True)
class Raw:
    """Samples (N, C, H, W) or (N, F) and labels (N,), with the publisher's own parts where there are any.

    Labels are whole numbers or text, which are classes, or real numbers, which are targets of a regression.
    """

    train: Pair
    validation: Pair | None
    test: Pair | None
    source: str
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what was changed or left out on the way here
    pictures: bool = False  # read from image files, whose range is 0..255
    regression: bool = False  # the labels are targets, though they may look like classes


def is_file(name: str) -> bool:
    """Whether `name` means a file or folder of the user's rather than a dataset that has a name."""
    return "/" in name or "\\" in name or name.endswith(SUFFIXES) or (name not in NAMES and Path(name).is_dir())


def read(name: str, root: Path) -> Raw:
    """Read a known dataset or a file; torchvision's are downloaded to `root` when they are not there."""
    if name == "mnist":
        return _mnist(MNIST)
    if name == "digits":
        return _digits()
    if name in TORCHVISION:
        return _torchvision(name, root)
    if name in SKLEARN:
        return _sklearn(name)
    if Path(name).is_dir():
        return _folder(Path(name))
    return _npz(Path(name)) if name.endswith(".npz") else _parquet(Path(name))


def check_file(path: Path) -> str | None:
    """What is wrong with a user's file or folder, as far as its directory or footer tells; None = nothing."""
    try:
        if path.is_dir():
            files = [file for part in parts(path).values() for mine in listed(part).values() for file in mine]
            return memory.problem(str(path), len(files) * pixels(files[0]))
        if path.suffix not in SUFFIXES:
            return f"a data file must end in {' or '.join(SUFFIXES)}, or be a folder, but got {str(path)!r}"
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                _check_keys(path, [Path(item).stem for item in archive.namelist()])
                return memory.problem(str(path), sum(item.file_size for item in archive.infolist()))
        footer = pq.read_metadata(path)
        _check_columns(path, footer.schema.to_arrow_schema())
        groups = (footer.row_group(index) for index in range(footer.num_row_groups))
        return memory.problem(str(path), sum(group.total_byte_size for group in groups))
    except (DataError, PictureError) as error:
        return printable(str(error))
    except (OSError, zipfile.BadZipFile, pa.ArrowException) as error:
        return _unreadable(path, error)


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
    y = np.concatenate([np.from_dlpack(part) for part in table["label"].chunks])  # to_numpy() imports pandas: 0.4 s
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
    kind, _, source = TORCHVISION[name]
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
    if (raw := _idx(name, root)) is not None:
        return raw
    from torchvision import datasets  # 1.7 s to import, and torch with it

    kind, _, source = TORCHVISION[name]
    options: list[dict[str, Any]] = [{"train": True}, {"train": False}]
    if kind == "EMNIST":
        options = [{**each, "split": name.partition("-")[2] or "balanced"} for each in options]
    elif kind == "SVHN":
        options = [{"split": "train"}, {"split": "test"}]
    try:
        found = [getattr(datasets, kind)(root, download=True, **each) for each in options]
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        text = " ".join(str(error).split())
        raise DataError(
            f"{name} must be under the data root or downloadable, but {str(root)!r} has no whole copy and the "
            f"download failed ({type(error).__name__}: {text}); pass --data-root with a copy in torchvision's layout"
        ) from error
    pairs = [
        (
            _channels_first(name, np.asarray(part.data)),
            _labels(name, getattr(part, "targets", getattr(part, "labels", None))),
        )
        for part in found
    ]
    classes = getattr(found[0], "classes", [str(digit) for digit in range(10)])
    return Raw(pairs[0], None, pairs[1], source, tuple(map(str, classes[1:] if name == "emnist-letters" else classes)))


def _channels_first(name: str, x: Array) -> Array:
    if name.startswith("cifar"):
        return x.transpose(0, 3, 1, 2)
    if name == "svhn":
        return x
    if name.startswith("emnist"):  # published with rows and columns exchanged
        x = x.transpose(0, 2, 1)
    return x[:, None]


def _labels(name: str, y: Any) -> Array:
    labels = np.asarray(y)
    if name == "qmnist":  # the digit comes first, then who wrote it and where it is in NIST's files
        return labels[:, 0]
    return labels - 1 if name == "emnist-letters" else labels  # letters are published as 1 to 26


def _sklearn(name: str) -> Raw:
    from sklearn import datasets  # half a second to import

    function, source = SKLEARN[name]
    found = getattr(datasets, function)()
    classes = tuple(map(str, found.target_names)) if "target_names" in found else ()
    return Raw((found.data, found.target), None, None, source, classes)


def _folder(path: Path) -> Raw:
    try:
        split = parts(path)
        images_of = {role: listed(part) for role, part in split.items()}
        names = sorted({name for part in images_of.values() for name in part})
        pairs, notes = {}, spoken(path, split)
        for role, part in images_of.items():
            files = [(file, names.index(name)) for name, mine in part.items() for file in mine]
            x, changes = decoded((str(file), file) for file, _ in files)
            pairs[role] = (x, np.array([label for _, label in files]))
            notes += [f"{role}: {change}" if role else change for change in changes]
    except PictureError as error:
        raise DataError(printable(str(error))) from error
    except OSError as error:
        raise DataError(_unreadable(path, error)) from error
    classes = tuple(printable(name) for name in names)
    if len(set(classes)) < len(classes):
        raise DataError(f"classes must have different names, but {str(path)!r} has {', '.join(classes)}")
    return Raw(
        pairs.get("train") or pairs[""],
        pairs.get("validation"),
        pairs.get("test"),
        f"{printable(path.name)}, the user's folder",
        classes,
        tuple(printable(note) for note in notes),
        pictures=True,
    )


def _npz(path: Path) -> Raw:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(_unreadable(path, error)) from error
    _check_keys(path, arrays)
    arrays = {key: _digits_kept(path, key, array) for key, array in arrays.items()}
    parts = [(arrays["x" + end], arrays["y" + end]) for end in ("", "_validation", "_test") if "x" + end in arrays]
    source = f"{printable(path.name)}, the user's file"
    validation, test = parts[1:] or (None, None)
    return Raw(parts[0], validation, test, source)


def _check_keys(path: Path, keys: Iterable[str]) -> None:
    if set(keys) not in [set(allowed) for allowed in NPZ_KEYS]:
        allowed = " or ".join(", ".join(keys) for keys in NPZ_KEYS)
        raise DataError(f"{str(path)!r} must hold the arrays {allowed}, but holds {', '.join(sorted(keys)) or 'none'}")


def _parquet(path: Path) -> Raw:
    table = read_table(path)
    names = _check_columns(path, table.schema)
    used = [*names, *(name for name in ("label", "split") if name in table.column_names)]
    for name in used:
        if table[name].null_count:
            raise DataError(f"columns of {str(path)!r} must have no nulls, but {name!r} has {table[name].null_count}")
    field = table.schema.field(names[0])
    pictures = names == ["image"] and not _numeric(field.type)
    notes = _notes_of_columns(table, names)
    if pictures and pa.types.is_fixed_size_binary(field.type):
        x, pictures = images(table["image"], _shape(path, field)), False
    elif pictures:
        try:
            x, changes = decoded(
                (f"row {row} of {path}", _content(value)) for row, value in enumerate(table["image"].to_pylist())
            )
        except PictureError as error:
            raise DataError(str(error)) from error
        notes += changes
    else:
        x = np.column_stack([_digits_kept(path, name, table[name].to_numpy()) for name in names])
    y = table["label"].to_numpy()
    if y.dtype == object:  # text
        y = y.astype(str)
    told = Raw(
        (x, y),
        None,
        None,
        f"{printable(path.name)}, the user's file",
        notes=tuple(notes),
        pictures=pictures,
        regression=(table.schema.field("label").metadata or {}).get(b"kind") == b"target",
    )
    if "split" not in table.column_names:
        return told
    split = np.asarray(table["split"].to_pylist())
    wanted = ("train", "validation", "test")
    if set(split) != set(wanted):
        found = ", ".join(sorted({str(part) for part in split}))
        raise DataError(f"column 'split' of {str(path)!r} must say {', '.join(wanted)}, but says {found}")
    train, validation, test = ((x[split == part], y[split == part]) for part in wanted)
    return replace(told, train=train, validation=validation, test=test)


def _digits_kept(path: Path, name: str, column: Array) -> Array:
    """The column, whose numbers float64 must hold; beyond 2^53 whole numbers become others. Raises DataError."""
    if column.dtype.kind in "iu" and column.size and (int(column.max()) > EXACT or int(column.min()) < -EXACT):
        raise DataError(
            f"whole numbers must be within +-2^53 to keep their digits, but {name!r} of {str(path)!r} reaches from "
            f"{column.min()} to {column.max()}; subtract a constant, or save identifiers as text and leave them out"
        )
    return column


def _notes_of_columns(table: pa.Table, names: list[str]) -> list[str]:
    """What a user should know of the columns: those of pandas' index are none, and one may number the rows."""
    index = [name for name in _index_columns(table.schema) if name not in ("label", "split")]
    notes = []
    if index:
        notes.append(f"left out, because they are the index of a pandas table: {', '.join(map(repr, index))}")
    for name in names:
        if _numeric(table.schema.field(name).type) and len(table) > FEW_ROWS:
            numbers = np.sort(table[name].to_numpy())
            steps = np.diff(numbers)
            if steps[0] > 0 and (steps == steps[0]).all() and (numbers == np.trunc(numbers)).all():
                notes.append(
                    f"column {name!r} numbers the rows, {numbers[0]:.0f} to {numbers[-1]:.0f}, and is a feature; leave "
                    "it out of the file if it is an index"
                )
    return notes


def _index_columns(schema: pa.Schema) -> list[str]:
    """Columns in which pandas keeps the index: by its own metadata, or by the name that it gives."""
    try:
        said = (schema.pandas_metadata or {}).get("index_columns", [])
    except ValueError:  # JSON that is none
        said = []
    index = {name for name in said if isinstance(name, str)}
    return [name for name in schema.names if name in index or re.fullmatch(r"__index_level_\d+__", name)]


def _check_columns(path: Path, schema: pa.Schema) -> list[str]:
    """The feature columns: `image` alone, or every column but `label` and `split`, which must be numbers."""
    index = _index_columns(schema)
    names = [name for name in schema.names if name not in ("label", "split", *index)]
    numeric = all(_numeric(schema.field(name).type) for name in names)
    image = names == ["image"] and _is_image(schema.field("image").type)
    if len(set(schema.names)) != len(schema.names):
        raise DataError(f"columns of {str(path)!r} must have different names, but got {', '.join(schema.names)}")
    label = schema.field("label").type if "label" in schema.names else None
    if label is None or not (_numeric(label) or pa.types.is_string(label) or pa.types.is_large_string(label)):
        raise DataError(
            f"{str(path)!r} must have a column 'label' of whole numbers or text (classes) or real numbers (targets), "
            f"but has {', '.join(f'{field.name}: {field.type}' for field in schema)}"
        )
    if not names or not (numeric or image):
        raise DataError(
            f"{str(path)!r} must have one binary column 'image' or number columns only beside 'label' "
            f"and 'split', but has {', '.join(f'{n}: {schema.field(n).type}' for n in schema.names)}"
        )
    if image and pa.types.is_fixed_size_binary(schema.field("image").type):
        _shape(path, schema.field("image"))
    return names


def _numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_image(kind: pa.DataType) -> bool:
    """Raw pixels, files in a column, or files as Hugging Face's datasets have them: {bytes, path}."""
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_fixed_size_binary(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _content(value: Any) -> bytes:
    content: bytes = value["bytes"] if isinstance(value, dict) else value
    return content or b""


def _shape(path: Path, field: pa.Field) -> tuple[int, ...]:
    text = (field.metadata or {}).get(b"shape", b"").decode()
    sizes = tuple(int(part) for part in text.split(",")) if text.replace(",", "").isdecimal() else ()
    if len(sizes) != 3 or int(np.prod(sizes)) != field.type.byte_width:
        raise DataError(
            f"column 'image' of {str(path)!r} must say its shape as field metadata, such as shape=1,28,28 for 784 "
            f"bytes, but says {text!r} for {field.type.byte_width} bytes"
        )
    return sizes
