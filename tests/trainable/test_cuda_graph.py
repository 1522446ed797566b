"""A recording that finds no memory. What needs a GPU is in test_cuda.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rungwise.trainable.packing import cuda_graph as graph


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_recording_that_finds_no_memory_is_tried_once_more_and_then_done_without(
    monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    tries: list[object] = []
    made, last = object(), {torch.device("cuda", 0): object()}

    def capture(*_: Any) -> object:
        tries.append(dict(last))
        if len(tries) <= failures:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return made

    monkeypatch.setattr(graph, "_capture", capture)
    monkeypatch.setattr(graph, "_LAST", last)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: SimpleNamespace(synchronize=lambda: None))
    found = graph._recorded(lambda: None, torch.device("cuda", 0))
    assert found is (None if failures == 2 else made)
    assert len(tries) == min(failures + 1, 2)
    assert [bool(one) for one in tries] == [True, False][: len(tries)]  # the last graph's memory is given back between
