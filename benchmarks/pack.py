"""Trial-epochs a second of packs of B trials against the loop by autograd, with a process on every core.

    python benchmarks/pack.py [--sizes 1 2 4 8 16] [--repeats 5] [--batch-size 128] [--precision fp32 bf16]

784-128-64-10 with BatchNorm and dropout 0.2 on MNIST, an epoch's validation included; the optimisers sgd, adam, adamw
and rmsprop take turns. All processes train at once, each on one thread, and are timed between two barriers. The rows
take turns, `--repeats` times: median, range, and the ratio to autograd in float32 of the same round. `MKL` has the
products that torch takes by itself (`trainable/packing/matmul.py`). A pack of 1 is a trial of the plain mode.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from multiprocessing.synchronize import Barrier
from typing import Any, NamedTuple

from rungwise.trainable import granted_resources as granted

OPTIMISERS = ("adamw", "sgd", "rmsprop", "adam")


class Row(NamedTuple):
    """What is timed: packs of `size` trials, 0 = one trial after the other by autograd."""

    size: int
    precision: str
    mkl: bool = False

    def __str__(self) -> str:
        return f"{f'pack of {self.size}' if self.size else 'autograd'}, {self.precision}{', MKL' if self.mkl else ''}"

    @property
    def trials(self) -> int:
        """Of each process: every optimiser at least once."""
        return max(self.size, len(OPTIMISERS))


def work(barrier: Barrier, rows: list[Row], turns: int, batch_size: int, device: str) -> None:
    """One process: every row in turn, each between two barriers."""
    import torch

    from rungwise.trainable import train
    from rungwise.trainable.config import Config
    from rungwise.trainable.data.dataset import load
    from rungwise.trainable.data.tensors import Tensors
    from rungwise.trainable.packing import pack
    from rungwise.trainable.training.state import State

    train.prepare_process(1, device)
    data = Tensors.of(load("mnist").without_test(), device)
    fast = torch.backends.mkldnn.matmul.fp32_precision

    def state(index: int, precision: str) -> State:
        config = Config(
            dropout=0.2,
            weight_decay=0.01,
            optimizer=OPTIMISERS[index % len(OPTIMISERS)],
            batch_size=batch_size,
            precision=precision,
            epochs=1,
            seed=index,
        )
        return State.fresh(config, data)

    for row in [row for _ in range(turns) for row in rows]:
        torch.backends.mkldnn.matmul.fp32_precision = "none" if row.mkl else fast
        states = [state(index, row.precision) for index in range(row.trials)]
        barrier.wait()
        for first in range(0, len(states), row.size or 1):
            if row.size:
                pack.train_together(states[first : first + row.size], data)
            else:
                train.train_alone(states[first], data)
        barrier.wait()


def rates(
    rows: list[Row], *, processes: int, repeats: int, batch_size: int = 128, device: str = "cpu"
) -> dict[Row, list[float]]:
    """Trial-epochs a second of all processes together, of each turn but the first, which warms up."""
    context: Any = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes + 1)
    asked = (barrier, rows, repeats + 1, batch_size, device)
    workers = [context.Process(target=work, args=asked) for _ in range(processes)]
    for worker in workers:
        worker.start()
    found: dict[Row, list[float]] = {row: [] for row in rows}
    for turn in range(repeats + 1):
        for row in rows:
            barrier.wait()
            began = time.perf_counter()
            barrier.wait()
            if turn:
                found[row].append(row.trials * processes / (time.perf_counter() - began))
    for worker in workers:
        worker.join()
    return found


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):7.2f} ({min(values):5.2f} to {max(values):5.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--processes", type=int, default=int(granted.cpus()))
    asked = parser.parse_args()
    rows = [Row(0, "fp32", mkl=True), *(Row(0, precision) for precision in asked.precision)]
    rows += [Row(size, precision) for precision in asked.precision for size in asked.sizes]
    found = rates(rows, processes=asked.processes, repeats=asked.repeats, batch_size=asked.batch_size)
    print(f"{asked.processes} processes, batch {asked.batch_size}, n = {asked.repeats}")
    print(f"{'':20s} {'trial-epochs/s':>24s} {'against autograd, fp32':>26s}")
    for row, seen in found.items():
        ratios = [rate / one for rate, one in zip(seen, found[rows[1]], strict=True)]
        print(f"{row!s:20s} {spread(seen):>24s} {spread(ratios):>26s}")


if __name__ == "__main__":
    main()
