"""Seconds from the command to the first report and to its end, with and without what a start leaves out.

    python benchmarks/start.py [--repeats 5] [--only "as it is" "with Ray's agents"]

Each row undoes one thing that `sweeps/engine/cluster/startup_patches.py`, `trainable/worker/preload.py` or
`sweeps/engine/driver.py` does. The sweep is benchmarks/contestants/ours.py with 4 trials of one epoch. The rows take
turns; the ratio is to the first of them in the same round.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pack import spread

from rungwise.engine.cluster import startup_patches as lean
from rungwise.results.exporters import live as follow
from rungwise.results.record.reader import Reader

HERE = Path(__file__).resolve().parent
FLAGS = ("--trials", "4", "--epochs", "1", "--no-confirm", "--quiet")


def _agents() -> None:
    lean._AGENTS = lean._PORTS = ()


def _collector() -> None:
    gc.disable = lambda: None
    lean.ENVIRONMENT["RAY_preload_python_modules"] = "torch,rungwise.trainable.worker.worker"


def _late() -> None:
    del lean.ENVIRONMENT["RAY_preload_python_modules"]


def _patient() -> None:
    for name in ("connect_timeout_milliseconds", "num_connect_attempts"):
        del lean.ENVIRONMENT[f"RAY_raylet_client_{name}"]


def _priority() -> None:
    lean.ENVIRONMENT["RAY_worker_niceness"] = "15"
    follow.NICENESS = 10


ROWS: dict[str, Callable[[], None]] = {
    "as it is": lambda: None,
    "with Ray's agents": _agents,
    "collecting garbage": _collector,
    "workers import when asked": _late,
    "a second between tries": _patient,
    "exporter before trials": _priority,
}


def run(row: str) -> tuple[float, float]:
    """Seconds to the first report, and to the end."""
    with tempfile.TemporaryDirectory() as folder:
        paths = os.pathsep.join([str(HERE.parent), str(HERE / "contestants")])
        began, clock = time.time(), time.perf_counter()
        command = [sys.executable, __file__, "--as", row, "--out", folder]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - clock
        with Reader(Path(folder) / "ours") as reader:
            return min(report.at for report in reader.reports()) - began, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument(
        "--as", dest="row", choices=ROWS, help="run the sweep once, as this row; for this script itself"
    )
    parser.add_argument("--out", help="with --as")
    asked = parser.parse_args()
    if asked.row:
        import ours

        from rungwise import main as sweep

        ROWS[asked.row]()
        sweep(ours.SWEEP, [*FLAGS, "--out", asked.out])
    found = [{row: run(row) for row in asked.only} for _ in range(asked.repeats)]
    print(f"{f'n = {asked.repeats}':28s}{'first report, s':>24s}{'end, s':>24s}{'first, ratio':>24s}")
    for row in asked.only:
        first, end = ([one[row][index] for one in found] for index in (0, 1))
        ratios = [one[row][0] / one[asked.only[0]][0] for one in found]
        print(f"{row:28s}{spread(first):>24s}{spread(end):>24s}{spread(ratios):>24s}")


if __name__ == "__main__":
    main()
