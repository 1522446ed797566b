"""Seeds derived from their purpose, independent of how many numbers were drawn before."""

from __future__ import annotations

import hashlib


def derived_seed(*parts: object) -> int:
    """A 31-bit seed from `parts`: equal parts, equal seed, on every machine and after every restart."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
