"""CUDA graphs: each step of an interval as one launch.

A step of a pack is a hundred or more small kernels, and launching one takes the CPU longer than running it takes the
GPU. Recorded once, they are launched together.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache

import torch
from torch import Tensor

WARM = 3  # steps before one is recorded: libraries choose and load their kernels at first, which cannot be recorded


def repeat(step: Callable[[Tensor, Tensor], None], rows: Tensor, prepare: Callable[[int], None]) -> None:
    """Call `step` with each row in turn, on the GPU of `rows`; most of the calls are replays of one.

    `step` is given a row and its number from 0, int64 (1,) on the GPU. It must do the same to the same memory each
    time: what else changes from step to step, it reads from the device, where `prepare`, which is called with the
    number before each step and is never recorded, may have put it.

    A graph lives for one interval. So it always has the size of its pack, and no slot of it is ever empty. Raises what
    `step` raises.
    """
    device = rows.device
    at = torch.zeros(1, dtype=torch.int64, device=device)  # the step's number, where a replay reads it

    def take() -> None:
        step(rows.index_select(0, at).squeeze(0), at)
        at.add_(1)

    stream = _beside(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    take_next = take
    try:
        with torch.cuda.stream(stream):
            for number in range(len(rows)):
                if number == WARM and len(rows) > 2 * WARM and (graph := _recorded(take, device)):
                    take_next = graph.replay
                prepare(number)
                take_next()
    finally:
        stream.synchronize()  # memory of the steps must not be freed before they end, also after an error


@cache
def _beside(device: torch.device) -> torch.cuda.Stream:
    """The stream on which a process records, which must not be the default one."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


_LAST: dict[torch.device, torch.cuda.CUDAGraph] = {}
"""The last graph of each device. Its memory is the next one's: without a graph that holds it, it would be lost."""


def forget() -> None:
    """Free the memory of recorded steps, before other steps that may need it."""
    _LAST.clear()
    torch.cuda.empty_cache()


def _recorded(step: Callable[[], None], device: torch.device) -> torch.cuda.CUDAGraph | None:
    """The step as a graph, of which nothing has been executed. On the current stream, which may not be the default one.

    None where there is not the memory: what the steps before have used is kept for steps that are not recorded.
    """
    for _ in range(2):
        try:
            return _capture(step, device)
        except torch.OutOfMemoryError:
            torch.cuda.current_stream(device).synchronize()
            forget()
    return None


def _capture(step: Callable[[], None], device: torch.device) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    pool = _LAST[device].pool() if device in _LAST else None
    # Not `torch.cuda.graph`: that gives all cached memory back to the driver, at every interval.
    graph.capture_begin(pool=pool, capture_error_mode="thread_local")
    try:
        step()
    except BaseException:
        with suppress(RuntimeError):  # the first error is the one to report
            graph.capture_end()
        _LAST.pop(device, None)  # whose memory torch may take for one that is still recorded to (2.11)
        raise
    graph.capture_end()
    _LAST[device] = graph
    return graph
