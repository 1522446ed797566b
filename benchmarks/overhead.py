"""Overhead of the driver: sweeps of trials that train almost nothing (24 samples, one epoch).

    python benchmarks/overhead.py [--trials 100 1000 2000] [--repeats 3] [--sampler tpe]

Prints, for every number of trials: seconds a trial (from the first trial's start to the last one's end), the driver's
resident memory at its highest, and a worker's. n repeats each, median and range.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from rungwise.results.record.reader import Reader

SCRIPT = """
from rungwise import FloatDistribution, Sweep, main

main(Sweep(name="nothing", space={"lr": FloatDistribution(1e-4, 1e-1, log=True), "dropout": FloatDistribution(0, 0.5)},
           fixed={"hidden": (2,), "batch_size": 8}, epochs=1))
"""


def run(trials: int, sampler: str, folder: Path) -> tuple[float, float, float]:
    """(seconds a trial, driver MB, largest worker MB) of one sweep."""
    script, data = folder / "nothing.py", folder / "nothing.npz"
    script.write_text(SCRIPT)
    rng = np.random.default_rng(0)
    np.savez(data, x=rng.random((40, 4), dtype=np.float32), y=np.arange(40) % 2)
    command = [sys.executable, str(script), "--data", str(data), "--out", str(folder / "runs"), "--no-confirm"]
    command += ["--sampler", sampler]
    driver = psutil.Popen([*command, "--trials", str(trials), "--quiet"], stdout=subprocess.DEVNULL)
    most, worker = 0, 0
    while driver.poll() is None:
        try:
            most = max(most, driver.memory_info().rss)
            for child in driver.children(recursive=True):
                if child.name().startswith("ray::"):
                    worker = max(worker, child.memory_info().rss)
        except psutil.Error:
            pass
        time.sleep(0.3)
    if driver.returncode:
        raise RuntimeError(f"the sweep ended with {driver.returncode}")
    with Reader(folder / "runs" / "nothing") as reader:
        done = reader.trials()
    seconds = max(t.ended for t in done if t.ended) - min(t.started for t in done if t.started)
    return seconds / trials, most / 1e6, worker / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 2000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sampler", default="tpe", help="random shows what of the growth is not TPE's")
    arguments = parser.parse_args()
    found: dict[int, list[tuple[float, float, float]]] = {trials: [] for trials in arguments.trials}
    for _ in range(arguments.repeats):  # in turn: a noisy minute hits all alike
        for trials in arguments.trials:
            with tempfile.TemporaryDirectory() as folder:
                found[trials].append(run(trials, arguments.sampler, Path(folder)))
    print(f"{'trials':>6} {'s/trial':>8} {'range':>15} {'driver MB':>10} {'worker MB':>10}   n={arguments.repeats}")
    for trials, rows in found.items():
        seconds, driver, worker = zip(*rows, strict=True)
        spread = f"{min(seconds):.3f}-{max(seconds):.3f}"
        middle = statistics.median(seconds)
        print(f"{trials:>6} {middle:>8.3f} {spread:>15} {max(driver):>10.0f} {max(worker):>10.0f}")


if __name__ == "__main__":
    main()
