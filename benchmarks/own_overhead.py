"""Overhead of a report of the user's own training against one of the built-in loop, for trainings that train nothing.

    python benchmarks/own_overhead.py [--reports 500] [--repeats 5]

One trial a sweep, no early stopping. Prints, for a generator, for calls of `trial.report` and for the built-in loop
(24 samples an epoch): milliseconds a report (between the first and the last, in the record), and seconds from the
command to the first report. n repeats each, in turn; median and range.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np

SCRIPT = """
from rungwise import FloatDistribution, Sweep, main

def yields(config, trial):
    for _ in range(trial.epochs):
        yield {"val_loss": config["lr"]}

def calls(config, trial):
    for _ in range(trial.epochs):
        trial.report(val_loss=config["lr"])

settings = SETTINGS
main(Sweep(name="nothing", space={"lr": FloatDistribution(1e-4, 1e-1, log=True)}, metric="val_loss", **settings))
"""
SETTINGS = {
    "yield": "dict(train=yields)",
    "trial.report": "dict(train=calls)",
    "built-in": 'dict(fixed={"hidden": (2,), "batch_size": 24}, data="nothing.npz")',
}


def run(settings: str, reports: int, folder: Path) -> tuple[float, float]:
    """(milliseconds a report, seconds to the first one) of one sweep."""
    (folder / "nothing.py").write_text(SCRIPT.replace("SETTINGS", settings))
    random = np.random.default_rng(0)
    np.savez(folder / "nothing.npz", x=random.random((40, 4), dtype=np.float32), y=np.arange(40) % 2)
    flags = ["--trials", "1", "--epochs", str(reports), "--scheduler", "none", "--no-confirm", "--quiet"]
    began = time.time()
    subprocess.run([sys.executable, "nothing.py", *flags], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    with closing(sqlite3.connect(folder / "runs/nothing/sweep.sqlite")) as record:
        first, last, number = record.execute("SELECT min(at), max(at), count(*) FROM reports").fetchone()
    assert number == reports
    return 1000 * (last - first) / (number - 1), first - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in SETTINGS}
    for _ in range(arguments.repeats):  # in turn: a noisy minute hits all alike
        for name, settings in SETTINGS.items():
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(run(settings, arguments.reports, Path(folder)))
    print(f"{'training':<14} {'ms/report':>9} {'range':>13} {'first (s)':>10} {'range':>11}   n={arguments.repeats}")
    for name, rows in found.items():
        each, first = zip(*rows, strict=True)
        spread, begun = f"{min(each):.2f}-{max(each):.2f}", f"{min(first):.1f}-{max(first):.1f}"
        print(f"{name:<14} {statistics.median(each):>9.2f} {spread:>13} {statistics.median(first):>10.1f} {begun:>11}")


if __name__ == "__main__":
    main()
