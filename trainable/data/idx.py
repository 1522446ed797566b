"""The idx format of MNIST and the sets made in its likeness (http://yann.lecun.com/exdb/mnist)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read an idx file of unsigned bytes: magic 00 00 08 D, D big-endian sizes, then the bytes in C order."""
    content = path.read_bytes()
    if content[:3] != b"\x00\x00\x08":
        raise ValueError(f"an idx file of unsigned bytes starts with 00 00 08, but {path} with {content[:3].hex(' ')}")
    sizes = np.frombuffer(content, dtype=">u4", count=content[3], offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * content[3]).reshape(sizes)
