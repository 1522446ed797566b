"""Time of an optimiser step by kind of work: torch.profiler over the training loop of a trial.

    python benchmarks/step.py [--optimizer adamw] [--batch-size 128] [--repeats 9]

784-128-64-10 with BatchNorm and dropout 0.2, one thread, in three ways: by autograd with torch's own matrix products
(MKL), by autograd with those of `trainable/packing/matmul.py`, and as a trial runs on the CPU, with gradients written
out by hand (`trainable/packing/batched_mlp.py`). First the CPU time of a step without the profiler: the three take
turns, median and range over repeats of a quarter epoch. The table is each kind's own time under the profiler, which
slows every operation, so read its shares and not its sum.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable

import torch

from rungwise.trainable import train
from rungwise.trainable.config import Config
from rungwise.trainable.data.dataset import load
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.packing import pack
from rungwise.trainable.packing.batched_mlp import BatchedMLP
from rungwise.trainable.packing.matmul import fast_products
from rungwise.trainable.training.batches import interval, steps_per_epoch
from rungwise.trainable.training.optimizers import SequentialOptimizer
from rungwise.trainable.training.state import State

PARTS = 4  # of an epoch
KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm"),
    "optimiser": ("Optimizer.", "aten::_fused", "aten::_foreach"),
    "dropout noise": ("aten::random_", "aten::ge", "aten::bernoulli_"),
    "batch norm": ("aten::native_batch_norm", "aten::_batch_norm", "aten::batch_norm"),
    "rows": ("aten::index", "aten::sub_", "aten::div_"),
    "activation": ("aten::relu", "aten::clamp_min", "aten::threshold_backward"),
    "loss": ("aten::_log_softmax", "aten::log_softmax", "aten::nll", "aten::cross_entropy", "aten::_nll"),
    "autograd": ("autograd::", "torch::autograd", "detach", "aten::detach"),
}


def kind(name: str) -> str:
    """Which kind of work an operation is; allocation, copies, multiplications and views are the rest."""
    return next((kind for kind, starts in KINDS.items() if name.startswith(starts)), "the rest")


def by_hand(state: State, data: Tensors) -> None:
    """What `trainable.packing.pack` does between two reports, without the validation."""
    batches, first = interval(state, data)
    batched = BatchedMLP([state.model], [state.config], batches.shape[1])
    budget = state.config.epochs * steps_per_epoch(state.config, len(data.y_train))
    pack._interval(batches.unsqueeze(1), batched, [SequentialOptimizer([state], [first], [budget])], data)
    batched.release(len(batches))


def with_products(fast: bool, loop: Callable[[State, Tensors], object]) -> Callable[[State, Tensors], None]:
    def run(state: State, data: Tensors) -> None:
        torch.backends.mkldnn.matmul.fp32_precision = "ieee"  # torch's own choice: MKL
        if fast:
            fast_products()
        loop(state, data)

    return run


WAYS = {
    "autograd, MKL": with_products(False, train._interval),
    "autograd": with_products(True, train._interval),
    "by hand": with_products(True, by_hand),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=9)
    asked = parser.parse_args()
    train.prepare_process(1)
    data = Tensors.of(load("mnist").without_test(), "cpu")
    config = Config(
        dropout=0.2, weight_decay=0.01, optimizer=asked.optimizer, batch_size=asked.batch_size, reports_per_epoch=PARTS
    )
    steps = steps_per_epoch(config, len(data.y_train)) // PARTS
    states = {name: State.fresh(config, data) for name in WAYS}
    took: dict[str, list[float]] = {name: [] for name in WAYS}
    for turn in range(asked.repeats + 1):
        for name, run in WAYS.items():
            began = time.process_time()
            run(states[name], data)
            if turn:  # the first one warms up
                took[name].append(1e6 * (time.process_time() - began) / steps)
    print(f"{asked.optimizer}, batch {asked.batch_size}, us of CPU time a step, n={asked.repeats}")
    for name, times in took.items():
        print(f"  {name:16s} {statistics.median(times):6.0f} ({min(times):.0f} to {max(times):.0f})")
    columns = {}
    for name, run in WAYS.items():
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            run(states[name], data)
        found: Counter[str] = Counter()
        for event in profile.key_averages():
            found[kind(event.key)] += event.self_cpu_time_total / steps
        columns[name] = found
    print(f"{'under the profiler, us':24s}" + "".join(f"{name:>16s}" for name in columns))
    for name, _ in columns["autograd"].most_common():
        print(f"{name:24s}" + "".join(f"{found[name]:16.0f}" for found in columns.values()))


if __name__ == "__main__":
    main()
