"""Datasets by name: the embedded MNIST, digits and torchvision's, each with its fixed split."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from build_mnist import read_idx, table

from rungwise.trainable.data.data_source import DataSource
from rungwise.trainable.data.dataset import DATASETS, DataError, Dataset, Split, load, problems
from rungwise.trainable.data.parquet_file import read_table
from rungwise.trainable.data.published import MNIST, channels_first
from rungwise.trainable.data.sources import read
from rungwise.trainable.data.tensors import Tensors

# Fixed for ever: every number ever published with this split stands on it.
MNIST_DIGEST = "451bd8a9fbdcf126c7301938060926d9155275f51e3eec050468fdf6f31bbdf7"
DIGITS_DIGEST = "200a907ee55f037733a37f28b27833b7d78c4f48147d76088754b01ba232ab49"


def rows(split: Split) -> Counter[bytes]:
    """Every sample with its label, counted."""
    return Counter(x.tobytes() + bytes([y]) for x, y in zip(split.x, split.y, strict=True))


def test_the_embedded_mnist_is_the_original_byte_for_byte(originals: Path) -> None:
    raw = originals / "MNIST" / "raw"
    found = read(DataSource("mnist"), 0)
    assert found.test is not None
    for (x, y), part in ((found.train, "train"), (found.test, "t10k")):
        assert x.tobytes() == (raw / f"{part}-images-idx3-ubyte").read_bytes()[16:]
        assert y.astype(np.uint8).tobytes() == (raw / f"{part}-labels-idx1-ubyte").read_bytes()[8:]


def test_the_build_script_makes_the_table_that_ships(originals: Path) -> None:
    assert table(originals / "MNIST" / "raw").equals(read_table(MNIST), check_metadata=True)


def test_the_build_script_refuses_what_is_no_idx_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x1f\x8b\x08 a gzip")
    with pytest.raises(ValueError, match=r"starts with 00 00 08, but .* with 1f 8b 08"):
        read_idx(tmp_path / "x")


def test_mnist_states_its_source_and_licence(mnist: Dataset) -> None:
    assert "LeCun" in mnist.source
    assert "CC BY-SA 3.0" in mnist.source
    assert mnist.classes == tuple("0123456789")


def test_mnists_split_holds_every_original_row_once(mnist: Dataset) -> None:
    original = read(DataSource("mnist"), 0)
    assert mnist.test is not None
    assert original.test is not None
    assert (len(mnist.train), len(mnist.validation), len(mnist.test)) == (50_000, 10_000, 10_000)
    assert rows(mnist.train) + rows(mnist.validation) == rows(Split(*original.train))
    assert np.array_equal(mnist.test.x, original.test[0])
    assert np.array_equal(mnist.test.y, original.test[1])


def test_splits_are_fixed_for_ever(mnist: Dataset) -> None:
    assert mnist.digest == MNIST_DIGEST
    assert load("digits").digest == DIGITS_DIGEST


def test_validation_is_drawn_from_all_over_the_original(mnist: Dataset) -> None:
    """Every digit has its share of the 10,000, within 5 standard errors."""
    share = np.bincount(mnist.validation.y) / 10_000
    expected = np.bincount(np.concatenate([mnist.train.y, mnist.validation.y])) / 60_000
    assert np.abs(share - expected).max() < 5 * np.sqrt(0.1 * 0.9 / 10_000)


def test_statistics_are_the_training_splits_alone(mnist: Dataset) -> None:
    assert mnist.mean == (pytest.approx(mnist.train.x.mean(dtype=np.float64), rel=1e-12),)
    assert mnist.std == (pytest.approx(mnist.train.x.std(dtype=np.float64), rel=1e-9),)


def test_digests_depend_on_samples_labels_and_split(small: Dataset) -> None:
    x, y = small.train.x.copy(), small.train.y.copy()
    x[7, 0, 3, 3] ^= 1
    y[7] = (y[7] + 1) % 10
    changed = [
        Split(x, small.train.y),
        Split(small.train.x, y),
        Split(small.train.x[1:], small.train.y[1:]),
    ]
    digests = {Dataset("", part, small.validation, None, (), (), (), "").digest for part in [small.train, *changed]}
    digests.add(Dataset("", small.validation, small.train, None, (), (), (), "").digest)
    assert len(digests) == 5
    assert small.digest in digests


def test_arrays_are_read_only(mnist: Dataset) -> None:
    assert mnist.test is not None
    for split in (mnist.train, mnist.validation, mnist.test):
        with pytest.raises(ValueError, match="read-only"):
            split.x[0] = 0
        with pytest.raises(ValueError, match="read-only"):
            split.y[0] = 0


def test_without_test_there_is_no_test_data_to_be_read(mnist: Dataset) -> None:
    """Not in the object, and not in its bytes: this is what travels to the workers."""
    assert mnist.test is not None
    searched = mnist.without_test()
    assert searched.test is None
    assert searched.digest != mnist.digest
    image = mnist.test.x[0].tobytes()
    assert image in pickle.dumps(mnist)
    assert image not in pickle.dumps(searched)


def test_tensors_share_the_read_only_memory_without_a_warning(small: Dataset) -> None:
    tensors = Tensors.of(small, "cpu")
    assert tensors.x_train.data_ptr() == small.train.x.ctypes.data
    assert tensors.x_train.dtype == torch.uint8
    assert tensors.y_train.dtype == torch.int64
    assert (tensors.shape, tensors.classes) == ((1, 28, 28), 10)
    assert tensors.mean.shape == tensors.std.shape == (1, 1, 1)


def test_digits_are_all_there_in_three_parts() -> None:
    digits = load("digits")
    assert digits.test is not None
    assert (len(digits.train), len(digits.validation), len(digits.test)) == (1078, 360, 359)
    assert digits.shape == (1, 8, 8)
    assert digits.train.x.max() == 16
    from sklearn.datasets import load_digits

    original = load_digits()
    whole = Split(original.images.astype(np.uint8), original.target)
    assert rows(digits.train) + rows(digits.validation) + rows(digits.test) == rows(whole)


def test_fashion_mnist_comes_from_the_data_root(originals: Path) -> None:
    fashion = load(DataSource("fashion-mnist", root=originals))
    assert fashion.test is not None
    assert (len(fashion.train), len(fashion.validation), len(fashion.test)) == (50_000, 10_000, 10_000)
    assert fashion.classes[0] == "T-shirt/top"
    assert "MIT" in fashion.source
    assert fashion.test.x.tobytes() == (originals / "FashionMNIST/raw/t10k-images-idx3-ubyte").read_bytes()[16:]


def write_idx(path: Path, array: np.ndarray) -> None:
    sizes = np.array(array.shape, dtype=">u4").tobytes()
    path.write_bytes(b"\x00\x00\x08" + bytes([array.ndim]) + sizes + array.tobytes())


@pytest.mark.parametrize(
    ("name", "folder", "prefix", "classes"),
    [("kmnist", "KMNIST/raw", "{}-", 10), ("emnist", "EMNIST/raw", "emnist-balanced-{}-", 47)],
)
def test_torchvisions_layout_is_read_without_a_download(
    tmp_path: Path, name: str, folder: str, prefix: str, classes: int
) -> None:
    """120 made-up images in the published format; EMNIST's are published with rows and columns exchanged."""
    raw = tmp_path / folder
    raw.mkdir(parents=True)
    x = np.random.default_rng(1).integers(0, 256, (120, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k" if name == "kmnist" else "test"):
        write_idx(raw / (prefix.format(part) + "images-idx3-ubyte"), x)
        write_idx(raw / (prefix.format(part) + "labels-idx1-ubyte"), (np.arange(120) % classes).astype(np.uint8))
    found = load(DataSource(name, root=tmp_path))
    assert found.test is not None
    assert (len(found.train), len(found.validation), len(found.test)) == (100, 20, 120)
    assert len(found.classes) == classes
    upright = x.transpose(0, 2, 1) if name == "emnist" else x
    assert np.array_equal(found.test.x[:, 0], upright)


def test_cifars_channels_come_first() -> None:
    x = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    found = channels_first("cifar10", x)
    assert found.shape == (2, 3, 4, 5)
    assert found[1, 2, 3, 4] == x[1, 3, 4, 2]


def test_a_dataset_that_cannot_be_had_says_where_it_was_sought(tmp_path: Path) -> None:
    (tmp_path / "FashionMNIST").write_text("a file where a folder must be")
    with pytest.raises(DataError, match="fashion-mnist must be under the data root or downloadable") as raised:
        load(DataSource("fashion-mnist", root=tmp_path))
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_data_root_that_is_a_file_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    root = tmp_path / "file"
    root.touch()
    assert problems(DataSource("kmnist", root=root)) == [f"the data root must be a folder, but {str(root)!r} is a file"]
    assert problems(DataSource("mnist", root=root)) == []


def test_an_unknown_dataset_is_refused_with_the_nearest() -> None:
    (problem,) = problems(DataSource("mnits"))
    assert "unknown dataset 'mnits'; did you mean 'mnist'?" in problem
    assert all(name in problem for name in DATASETS)
    with pytest.raises(DataError, match="did you mean 'mnist'"):
        load("mnits")
