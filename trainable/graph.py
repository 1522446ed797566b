"""The steps of an interval on a GPU as a launch each: a CUDA graph. (Dropout adds two small ones for each generator.)

A step of a pack is a hundred or more small kernels, and launching one takes the CPU longer than running it takes the
GPU. Recorded once, they are launched together. Written against torch's documentation of CUDA graphs, and never run yet.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import Any

import torch
from torch import Tensor

WARM = 3  # steps before one is recorded: libraries choose and load their kernels at first, which cannot be recorded


def repeat(step: Callable[[Tensor], None], rows: Tensor, draws: Iterable[torch.Generator]) -> None:
    """Call `step` with each row in turn, on the device of `rows`; on a GPU most of the calls are replays of one.

    `step` must do the same to the same memory each time: what else changes from step to step, it reads from the device.
    `draws`: the generators that it draws from, which go on in a replay as they would have gone on.

    A graph lives for one interval. So it always has the size of its pack, and no slot of it is ever empty. What cannot
    be recorded is called step by step. Raises what `step` raises.
    """
    device = rows.device
    if device.type != "cuda" or len(rows) <= WARM:
        for row in rows:
            step(row)
        return
    at = torch.zeros(1, dtype=torch.int64, device=device)  # the next row: a replay, too, has to find it

    def take() -> None:
        step(rows.index_select(0, at).squeeze(0))
        at.add_(1)

    stream = _beside(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    try:
        with torch.cuda.stream(stream):
            for _ in range(WARM):
                take()
            graph = _recorded(take, device, draws)
            for _ in range(len(rows) - WARM):
                if graph is None:
                    take()
                else:
                    graph.replay()
    finally:
        stream.synchronize()  # nothing that the steps use may be freed before, whatever happened


@cache
def _beside(device: torch.device) -> torch.cuda.Stream:
    """Where a process records: never on the default stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


_LAST: dict[torch.device, torch.cuda.CUDAGraph] = {}
"""The last graph of each device. Its memory is the next one's: without a graph that holds it, it would be lost."""


def _recorded(step: Callable[[], None], device: torch.device, draws: Iterable[torch.Generator]) -> Any:
    """The step as a graph; None when it cannot be recorded. On the current stream, which may not be the default one."""
    graph = torch.cuda.CUDAGraph()
    pool = _LAST[device].pool() if device in _LAST else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from torch 2.14 on a graph finds its generators by itself, and says so
        for generator in draws:
            graph.register_generator_state(generator)
    # Not `torch.cuda.graph`: that gives all cached memory back to the driver, at every interval.
    graph.capture_begin(pool=pool, capture_error_mode="thread_local")
    try:
        step()
    except BaseException as error:
        with suppress(RuntimeError):
            graph.capture_end()
        if isinstance(error, torch.OutOfMemoryError) or not isinstance(error, RuntimeError):
            raise
        logging.getLogger(__name__).warning("a step could not be recorded as a CUDA graph: %s", error)
        return None
    graph.capture_end()
    _LAST[device] = graph
    return graph
