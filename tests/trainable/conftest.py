"""Real data, small: two thousand MNIST digits, and the original files where this checkout has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rungwise.trainable.data.dataset import Dataset, Split, load
from rungwise.trainable.data.tensors import Tensors

# Torchvision's layout; a checkout without it skips what compares against the originals.
ORIGINALS = Path(os.environ.get("RUNGWISE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def originals() -> Path:
    if not (ORIGINALS / "MNIST" / "raw").is_dir() or not (ORIGINALS / "FashionMNIST" / "raw").is_dir():
        pytest.skip("needs the original MNIST and Fashion-MNIST files: set RUNGWISE_TEST_DATA to their folder")
    return ORIGINALS


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    return load("mnist")


@pytest.fixture(scope="session")
def small(mnist: Dataset) -> Dataset:
    """The first 2,000 training and 500 validation digits, no test split."""
    return replace(
        mnist,
        train=Split(mnist.train.x[:2000], mnist.train.y[:2000]),
        validation=Split(mnist.validation.x[:500], mnist.validation.y[:500]),
        test=None,
    )


@pytest.fixture(scope="session")
def tensors(small: Dataset) -> Tensors:
    return Tensors.of(small, "cpu")
