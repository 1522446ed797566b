"""Probes: an epoch's time of a configuration, alone or as its share of a pack."""

from __future__ import annotations

import math
from typing import Any

import pytest

from trainable.probe import probe

SMALL: dict[str, Any] = {"hidden": (8,), "batch_size": 32}


@pytest.mark.parametrize(("together", "limit"), [(1, 1), (3, 3), (0, 2)])
def test_every_configuration_gets_a_time_packed_or_not(together: int, limit: int) -> None:
    convolution = {"model": "cnn", "channels": (4,), "hidden": (8,)}  # is trained alone, whatever is asked
    seconds = probe([SMALL, convolution], ("digits", None), (1, "cpu"), together=together, limit=limit)
    assert len(seconds) == 2
    assert all(0 < second < math.inf for second in seconds)
