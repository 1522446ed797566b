"""Datasets that have a name: the embedded MNIST, those of torchvision, and tables of scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rungwise.trainable.data.parquet_file import pixels_of, read_table
from rungwise.trainable.data.raw import Array, DataError, Raw, unreadable

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


def read_published(name: str, root: Path) -> Raw:
    """Read the dataset called `name`; those of torchvision are downloaded to `root` when they are not there.

    Raises:
        DataError: when its files are missing, torn or altered.
    """
    if name == "mnist":
        return read_mnist(MNIST)
    if name == "digits":
        return _read_digits()
    return _read_torchvision(name, root) if name in TORCHVISION else _read_sklearn(name)


def read_mnist(path: Path) -> Raw:
    """The embedded MNIST from its Parquet file. Raises DataError for a torn or altered one."""
    table = read_table(path)
    if table.column_names != ["image", "label"] or len(table) != 70_000:
        raise DataError(f"the embedded MNIST must have 70000 rows of image and label, but {str(path)!r} has not")
    x = pixels_of(table["image"], (1, 28, 28))
    y = np.concatenate([np.from_dlpack(part) for part in table["label"].chunks])  # to_numpy() imports pandas: 0.4 s
    metadata = table.schema.metadata or {}
    source = metadata.get(b"source", b"MNIST").decode(errors="replace")
    return Raw((x[:60_000], y[:60_000]), None, (x[60_000:], y[60_000:]), source, tuple("0123456789"))


def _read_digits() -> Raw:
    from sklearn.datasets import load_digits  # half a second to import

    digits = load_digits()
    x = digits.images.astype(np.uint8)[:, None]  # (1797, 1, 8, 8), 0..16
    source = "Optical Recognition of Handwritten Digits, Alpaydin, Kaynak (UCI, via scikit-learn); CC BY 4.0"
    return Raw((x, digits.target), None, None, source, tuple("0123456789"))


def read_idx(path: Path) -> Array:
    """Read a file in MNIST's own format (http://yann.lecun.com/exdb/mnist), of unsigned bytes: magic 00 00 08 D, D
    big-endian sizes, then the bytes in C order. Raises ValueError for another one."""
    content = path.read_bytes()
    if content[:3] != b"\x00\x00\x08":
        raise ValueError(f"an idx file of unsigned bytes starts with 00 00 08, but {path} with {content[:3].hex(' ')}")
    sizes = np.frombuffer(content, dtype=">u4", count=content[3], offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * content[3]).reshape(sizes)


def _read_idx_files(name: str, root: Path) -> Raw | None:
    """A dataset in MNIST's format that lies below the data root, or None. Needs neither torchvision nor torch."""
    kind, _, source = TORCHVISION[name]
    raw = root / kind / "raw"
    files = [raw / f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
    if name not in IDX_CLASSES or not all(file.is_file() for file in files):
        return None
    try:
        x, y, x_test, y_test = map(read_idx, files)
    except (OSError, ValueError) as error:
        raise DataError(unreadable(raw, error)) from error
    return Raw((x[:, None], y), None, (x_test[:, None], y_test), source, IDX_CLASSES[name])


def _read_torchvision(name: str, root: Path) -> Raw:
    if (raw := _read_idx_files(name, root)) is not None:
        return raw
    from torchvision import datasets  # 1.7 s to import, and torch with it

    kind, _, source = TORCHVISION[name]
    options: list[dict[str, Any]] = [{"train": True}, {"train": False}]
    if kind == "EMNIST":
        options = [{**each, "split": name.partition("-")[2] or "balanced"} for each in options]
    elif kind == "SVHN":
        options = [{"split": "train"}, {"split": "test"}]
    try:
        splits = [getattr(datasets, kind)(root, download=True, **each) for each in options]
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        text = " ".join(str(error).split())
        raise DataError(
            f"{name} must be under the data root or downloadable, but {str(root)!r} has no whole copy and the "
            f"download failed ({type(error).__name__}: {text}); pass --data-root with a copy in torchvision's layout"
        ) from error
    pairs = [
        (
            channels_first(name, np.asarray(part.data)),
            labels_from_0(name, getattr(part, "targets", getattr(part, "labels", None))),
        )
        for part in splits
    ]
    classes = getattr(splits[0], "classes", [str(digit) for digit in range(10)])
    return Raw(pairs[0], None, pairs[1], source, tuple(map(str, classes[1:] if name == "emnist-letters" else classes)))


def channels_first(name: str, x: Array) -> Array:
    """(N, C, H, W) of the images of torchvision's dataset `name`, upright."""
    if name.startswith("cifar"):
        return x.transpose(0, 3, 1, 2)
    if name == "svhn":
        return x
    if name.startswith("emnist"):  # published with rows and columns exchanged
        x = x.transpose(0, 2, 1)
    return x[:, None]


def labels_from_0(name: str, y: Any) -> Array:
    """(N,) of the labels of torchvision's dataset `name`."""
    labels = np.asarray(y)
    if name == "qmnist":  # the digit comes first, then its writer and its place in NIST's files
        return labels[:, 0]
    return labels - 1 if name == "emnist-letters" else labels  # letters are published as 1 to 26


def _read_sklearn(name: str) -> Raw:
    from sklearn import datasets  # half a second to import

    function, source = SKLEARN[name]
    table = getattr(datasets, function)()
    classes = tuple(map(str, table.target_names)) if "target_names" in table else ()
    return Raw((table.data, table.target), None, None, source, classes)
