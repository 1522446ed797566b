"""Where an optimiser step's time goes: torch.profiler over the loop of a trial, by kind of work.

    python benchmarks/step.py [--optimizer adamw] [--batch-size 128] [--repeats 9]

784-128-64-10 with BatchNorm and dropout 0.2, one thread. The first line is the CPU time of a step with no profiler
looking (median and range over repeats of a quarter epoch); the table is each kind's own time under the profiler, which
makes every operation dearer, so read its shares and not its sum.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter

import torch

from trainable import train
from trainable.config import Config
from trainable.data import Tensors, load
from trainable.state import State

KINDS = {
    "matrix products": ("aten::mm", "aten::addmm"),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=9)
    asked = parser.parse_args()
    train.set_threads(1)
    data = Tensors.of(load("mnist").without_test(), "cpu")
    parts = 4  # of an epoch
    config = Config(
        dropout=0.2, weight_decay=0.01, optimizer=asked.optimizer, batch_size=asked.batch_size, reports_per_epoch=parts
    )
    steps = train.steps_per_epoch(config, len(data.y_train)) // parts
    state = State.fresh(config, data)
    train._interval(state, data)
    took = []
    for _ in range(asked.repeats):
        began = time.process_time()
        train._interval(state, data)
        took.append(1e6 * (time.process_time() - began) / steps)
    print(f"{asked.optimizer}, batch {asked.batch_size}: {statistics.median(took):.0f} us a step "
          f"({min(took):.0f} to {max(took):.0f}, n={len(took)})")  # fmt: skip
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        train._interval(state, data)
    found: Counter[str] = Counter()
    for event in profile.key_averages():
        found[kind(event.key)] += event.self_cpu_time_total / steps
    for name, value in found.most_common():
        print(f"  {name:16s} {value:6.0f} us  {value / found.total():5.0%}")


if __name__ == "__main__":
    main()
