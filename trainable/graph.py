"""The steps of an interval on a GPU as one launch each: a CUDA graph.

A step of a pack is a hundred or more small kernels, and launching one takes the CPU longer than running it takes the
GPU. Recorded once, they are launched together. Written against torch's documentation of CUDA graphs, and never run yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

WARM = 3  # steps before one is recorded: libraries choose and load their kernels at first, which cannot be recorded


def repeat(step: Callable[[], None], times: int, device: torch.device, draws: Iterable[torch.Generator] = ()) -> None:
    """Call `step` so many times; on a GPU most of the calls are replays of one.

    `step` must do the same to the same memory each time: what changes from step to step, it reads from the device.
    `draws`: the generators that it draws from, which go on in a replay as they would have gone on.

    A graph lives for one interval. So it always has the size of its pack, and no slot of it is ever empty.
    """
    if device.type != "cuda" or times <= WARM:
        for _ in range(times):
            step()
        return
    recorded = torch.cuda.CUDAGraph()
    for generator in draws:
        recorded.register_generator_state(generator)
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM):
            step()
        # Not `torch.cuda.graph`: that gives all cached memory back to the driver, at every interval.
        recorded.capture_begin(capture_error_mode="thread_local")
        try:
            step()
        finally:
            recorded.capture_end()
        for _ in range(times - WARM):
            recorded.replay()
    stream.synchronize()  # the graph's memory is free for others when it goes
