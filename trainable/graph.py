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

WARM = 3  # steps before one is recorded: libraries choose and load their kernels at first, which cannot be recorded


def repeat(step: Callable[[], None], times: int, device: torch.device, draws: Iterable[torch.Generator] = ()) -> None:
    """Call `step` so many times; on a GPU most of the calls are replays of one.

    `step` must do the same to the same memory each time: what changes from step to step, it reads from the device.
    `draws`: the generators that it draws from, which go on in a replay as they would have gone on.

    A graph lives for one interval. So it always has the size of its pack, and no slot of it is ever empty. What cannot
    be recorded is called step by step. Raises what `step` raises.
    """
    if device.type != "cuda" or times <= WARM:
        for _ in range(times):
            step()
        return
    stream, _ = _beside(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    try:
        with torch.cuda.stream(stream):
            for _ in range(WARM):
                step()
            graph = _recorded(step, device, draws)
            for _ in range(times - WARM):
                if graph is None:
                    step()
                else:
                    graph.replay()
    finally:
        stream.synchronize()  # nothing that the steps use may be freed before, whatever happened


@cache
def _beside(device: torch.device) -> tuple[torch.cuda.Stream, Any]:
    """The stream and the memory of all graphs of this process: a graph's own memory would be lost with each of them."""
    return torch.cuda.Stream(device), torch.cuda.MemPool()  # type: ignore[no-untyped-call]


def _recorded(step: Callable[[], None], device: torch.device, draws: Iterable[torch.Generator]) -> Any:
    """The step as a graph; None when it cannot be recorded. On the current stream, which may not be the default one."""
    _, pool = _beside(device)
    graph = torch.cuda.CUDAGraph()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from torch 2.14 on a graph finds its generators by itself, and says so
        for generator in draws:
            graph.register_generator_state(generator)
    # Not `torch.cuda.graph`: that gives all cached memory back to the driver, at every interval.
    graph.capture_begin(pool=pool.id, capture_error_mode="thread_local")
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
    return graph
