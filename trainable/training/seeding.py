"""The seeds of the global random generators that a user's functions draw from."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

DATA_SEED = 0  # of `data`: every driver and every process that trains is to see the same split


def seed_everything(seed: int) -> None:
    """Seed `random`, `numpy.random` and torch."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def seeded_data() -> Iterator[None]:
    """Seed what `data` draws from, and give the generators their states back.

    torch is seeded where it has been imported: a driver need not import it, and a fresh torch has a fixed seed.
    """
    import numpy as np

    torch = sys.modules.get("torch")
    python, numpy = random.getstate(), np.random.get_state()
    pytorch = None if torch is None else torch.get_rng_state()
    random.seed(DATA_SEED)
    np.random.seed(DATA_SEED)
    if torch is not None:
        torch.manual_seed(DATA_SEED)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        if torch is not None:
            torch.set_rng_state(pytorch)
