"""Probes: an epoch's time of a configuration, alone or as its share of a pack, and the size of its state."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from rungwise.trainable.data.dataset import load
from rungwise.trainable.faults import Fault
from rungwise.trainable.resources import ONE_CORE
from rungwise.trainable.worker.timing import probe

SMALL: dict[str, Any] = {"hidden": (8,), "batch_size": 32}


@pytest.mark.parametrize(("together", "limit"), [(1, 1), (3, 3), (0, 2)])
def test_every_configuration_gets_a_time_and_a_size_packed_or_not(together: int, limit: int) -> None:
    convolution = {"model": "cnn", "channels": (4,), "hidden": (8,)}  # is trained alone, whatever is asked
    given = [SMALL | {"optimizer": "adamw"}, convolution]
    seconds, kept = probe(given, load("digits").without_test(), ONE_CORE, together=together, limit=limit)
    assert len(seconds) == len(kept) == 2
    weights = 4 * (64 * 8 + 8 * 10)  # bytes; Adam keeps two numbers beside each
    assert 3 * weights < kept[0] < 3 * weights + 8_000
    assert all(0 < second < math.inf for second in seconds)


@pytest.mark.parametrize("raised", ["SystemExit", "KeyboardInterrupt"])
def test_a_model_that_exits_is_an_error_of_the_probe_whose_last_line_says_it(tmp_path: Path, raised: str) -> None:
    (tmp_path / "nets.py").write_text(f"def net(config):\n    raise {raised}\n")
    with pytest.raises(Fault, match=rf"^{raised} \(nets.py:2\)$"):
        probe([{"model": f"{tmp_path / 'nets.py'}:net"}], load("digits").without_test(), ONE_CORE)
