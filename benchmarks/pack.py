"""Trial-epochs a second of packs of B trials against the loop by autograd, with a process on every core.

    python benchmarks/pack.py [--sizes 1 2 4 8 16] [--repeats 5] [--batch-size 128] [--precision fp32 bf16]

784-128-64-10 with BatchNorm and dropout 0.2 on MNIST, an epoch's validation included; the optimisers sgd, adam, adamw
and rmsprop take turns. All processes train at once, each on one thread, and are timed between two barriers. The rows
take turns, `--repeats` times: median, range, and the ratio to autograd in float32 of the same round. `MKL` has the
products that torch takes by itself (`trainable/products.py`). A pack of 1 is what a trial of the plain mode runs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from multiprocessing.synchronize import Barrier
from typing import Any

OPTIMISERS = ("adamw", "sgd", "rmsprop", "adam")


def work(barrier: Barrier, sizes: list[int], arguments: argparse.Namespace) -> None:
    """One process: every row in turn, each timed part between two barriers."""
    import torch

    from trainable import pack, train
    from trainable.config import Config
    from trainable.data import Tensors, load
    from trainable.state import State

    train.set_threads(1)
    data = Tensors.of(load("mnist").without_test(), "cpu")

    def states(count: int, precision: str) -> list[State]:
        return [
            State.fresh(
                Config(
                    dropout=0.2,
                    weight_decay=0.01,
                    optimizer=OPTIMISERS[index % 4],
                    batch_size=arguments.batch_size,
                    precision=precision,
                    epochs=1,
                    seed=index,
                ),
                data,
            )
            for index in range(count)
        ]

    def timed(count: int, precision: str, products: str) -> None:
        torch.backends.mkldnn.matmul.fp32_precision = products
        some = states(max(count, len(OPTIMISERS)), precision)
        barrier.wait()
        for first in range(0, len(some), count or 1):
            if count:
                pack.train_together(some[first : first + count], data)
            else:
                train.train_alone(some[first], data)
        barrier.wait()

    fast = torch.backends.mkldnn.matmul.fp32_precision
    for _ in range(arguments.repeats + 1):
        for count, precision, slow in rows(sizes, arguments.precision):
            timed(count, precision, "none" if slow else fast)


def rows(sizes: list[int], precisions: list[str]) -> list[tuple[int, str, bool]]:
    """(trials in a pack, 0 = by autograd; precision; whether with MKL's products)"""
    plain = [(0, "fp32", True), *((0, precision, False) for precision in precisions)]
    return plain + [(size, precision, False) for precision in precisions for size in sizes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    context: Any = multiprocessing.get_context("spawn")
    barrier = context.Barrier(arguments.processes + 1)
    processes = [
        context.Process(target=work, args=(barrier, arguments.sizes, arguments)) for _ in range(arguments.processes)
    ]
    for process in processes:
        process.start()
    found: dict[tuple[int, str, bool], list[float]] = {}
    for repeat in range(arguments.repeats + 1):
        for row in rows(arguments.sizes, arguments.precision):
            barrier.wait()
            began = time.perf_counter()
            barrier.wait()
            if repeat:  # the first one warms up
                epochs = max(row[0], len(OPTIMISERS)) * arguments.processes
                found.setdefault(row, []).append(epochs / (time.perf_counter() - began))
    for process in processes:
        process.join()
    base = found[(0, "fp32", False)]
    print(f"{arguments.processes} processes, batch {arguments.batch_size}, n = {arguments.repeats}")
    print(f"{'':22s} {'trial-epochs/s':>24s}   against autograd, fp32")
    for (size, precision, slow), rates in found.items():
        name = f"{f'pack of {size}' if size else 'autograd'}, {precision}{', MKL' if slow else ''}"
        ratios = [rate / one for rate, one in zip(rates, base, strict=True)]
        print(f"{name:22s} {spread(rates, 6)}   {spread(ratios, 5)}", flush=True)


def spread(values: list[float], width: int) -> str:
    return f"{statistics.median(values):{width}.2f} ({min(values):5.2f} to {max(values):5.2f})"


if __name__ == "__main__":
    main()
