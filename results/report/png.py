"""Raw pixels as a PNG in a data URI, so that a page can show them without asking anybody for a file."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence


def data_uri(pixels: bytes, shape: Sequence[int]) -> str:
    """uint8 pixels of `shape` (C, H, W), C = 1 (grey) or 3 (RGB). Raises ValueError for anything else."""
    if len(shape) != 3 or shape[0] not in (1, 3) or min(shape) < 1 or len(pixels) != shape[0] * shape[1] * shape[2]:
        raise ValueError(f"an image must be (1 or 3, H, W) bytes, but got {len(pixels)} bytes for {tuple(shape)}")
    channels, height, width = shape
    plane = height * width
    samples = bytearray(len(pixels))
    for channel in range(channels):  # (C, H, W) -> (H, W, C)
        samples[channel::channels] = pixels[channel * plane : (channel + 1) * plane]
    stride = width * channels
    rows = b"".join(b"\0" + samples[y * stride : (y + 1) * stride] for y in range(height))  # 0: no filter
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
