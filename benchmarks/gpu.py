"""Trial-epochs a second on one GPU: packs of B trials, against one trial a process and several processes sharing it.

    python benchmarks/gpu.py [--sizes 1 2 4 ... 512] [--processes 8] [--repeats 5] [--precision fp32 bf16]

The network and the optimisers are those of benchmarks/pack.py, and so are the columns: median (range) of n turns. A
pack of 1 is a trial of the plain mode. On a machine without CUDA it runs on the CPU, which only shows that the command
works. docs/internals/packed.md has the table of one GPU.
"""

from __future__ import annotations

import argparse

import torch
from pack import Row, rates, spread


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2**power for power in range(10)])
    parser.add_argument("--processes", type=int, default=8, help="that share the GPU, one trial each")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    asked = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(torch.cuda.get_device_name() if device == "cuda" else "no CUDA here: the CPU")
    print(f"{'trial-epochs a second':36s} {'n = ' + str(asked.repeats):>24s}")
    for precision in asked.precision:
        for processes, rows in (
            (1, [Row(0, precision), *(Row(size, precision) for size in asked.sizes)]),
            (asked.processes, [Row(0, precision), Row(1, precision)]),
        ):
            found = rates(rows, processes=processes, repeats=asked.repeats, device=device)
            for row, seen in found.items():
                print(f"{f'{row}, {processes} process(es)':36s} {spread(seen):>24s}", flush=True)


if __name__ == "__main__":
    main()
