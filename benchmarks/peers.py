"""The same search by four contestants, in turn, on the same machine: time, memory and best accuracy of each.

    python benchmarks/peers.py [--trials 64] [--repeats 5] [--only ours expert] [--out peers.parquet]

tutorial  Ray Tune as most examples use it: function trainable, DataLoader, OptunaSearch, ASHA, Ray's MLflow callback
expert    Optuna with a process a core, tensors in memory, fused optimisers, successive halving, one SQLite storage
syne      Syne Tune's local backend with ASHA and the expert's loop (pip install -e '.[bench]'; else it is skipped)
ours      Rungwise with the record, Parquet, MLflow and the report; no confirmation, as no other contestant has one
and when --only names them, ours with flags: bf16 (--precision bf16), lanes (--pack 1), packed (--pack auto),
packed_bf16 (--pack auto --precision bf16)

All get the same space, split, network, epochs, rungs and cores (benchmarks/contestants/work.py). Each runs as a
process of its own, timed from its start to its exit; a report is timed when it was written down. Memory is the sum of
the proportional set sizes (PSS) of its whole process tree, read every two seconds. A round runs every contestant
once, and ratios are taken within a round, so that a busy minute affects all contestants. With --out, rounds are
added to those that the file holds, and the tables are of all of them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from rungwise.results.record.reader import Reader
from rungwise.trainable.data.dataset import load

HERE = Path(__file__).resolve().parent / "contestants"
OURS = {
    "ours": [],
    "bf16": ["--precision", "bf16"],
    "lanes": ["--pack", "1"],
    "packed": ["--pack", "auto"],
    "packed_bf16": ["--pack", "auto", "--precision", "bf16"],
}
CONTESTANTS = ("tutorial", "syne", "expert", *OURS)
TARGET = 0.975  # validation accuracy
SAMPLE_SECONDS = 2.0  # between two looks at the memory
COLUMNS: dict[str, tuple[str, str]] = {
    "wall": ("s", "from the command to its exit"),
    "rate": ("1/s", "trial-epochs a second of it"),
    "first": ("s", "from the command to the first report"),
    "target": ("s", f"from the command to the first validation accuracy of {TARGET:.1%}"),
    "best": ("", "best validation accuracy"),
    "memory": ("MB", "peak of the process tree's PSS"),
    "trials": ("", "trials that reported"),
    "epochs": ("", "epochs trained in all"),
    "members": ("", "trials trained together, on average over the intervals trained"),
}
Row = dict[str, Any]


def prepare(folder: Path) -> None:
    """Our split for all: as arrays, and as idx files in torchvision's layout, validation last."""
    data = load("mnist")
    assert data.test is not None
    named = {"x": data.train.x, "y": data.train.y, "xv": data.validation.x, "yv": data.validation.y}
    np.savez(folder / "mnist.npz", **named)
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    both = [(data.train, data.validation), (data.test,)]
    for prefix, parts in zip(("train", "t10k"), both, strict=True):
        x = np.concatenate([part.x for part in parts])[:, 0]
        y = np.concatenate([part.y for part in parts]).astype(np.uint8)
        for name, array in (("images-idx3", x), ("labels-idx1", y)):
            header = np.array([0x800 + array.ndim, *array.shape], dtype=">i4").tobytes()
            (raw / f"{prefix}-{name}-ubyte").write_bytes(header + array.tobytes())


def command(name: str, asked: argparse.Namespace, seed: int, data: Path, out: Path) -> list[str]:
    script = "ours" if name in OURS else name
    start = [sys.executable, str(HERE / f"{script}.py"), "--trials", str(asked.trials), "--epochs", str(asked.epochs)]
    if name in OURS:
        return [*start, "--seed", str(seed), "--out", str(out), "--no-confirm", "--quiet", *OURS[name]]
    return [*start, "--workers", str(asked.workers), "--seed", str(seed), "--data", str(data), "--out", str(out)]


def reports(name: str, out: Path) -> list[Row]:
    """What it said while it ran: trial, epoch, val_accuracy and time of each report."""
    if name not in OURS:
        file = out / "reports.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    with Reader(out / "ours") as reader:
        nodes = {trial.trial: trial.node for trial in reader.trials()}
        # What is trained together shares its time, so that this number is the same to the bit.
        return [
            {
                "trial": row.trial,
                "val_accuracy": row.metrics["val_accuracy"],
                "at": row.at,
                "interval": (nodes[row.trial], row.metrics["seconds"]),
            }
            for row in reader.reports()
        ]


def memory(process: psutil.Process) -> float:
    """MB of the process and all that it started; pages that several share are counted once (PSS)."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().pss
        except (psutil.Error, OSError):  # gone meanwhile
            continue
    return total / 1e6


def watch(pid: int, over: threading.Event, seen: list[float]) -> None:
    while not over.wait(SAMPLE_SECONDS):
        try:
            seen.append(memory(psutil.Process(pid)))
        except psutil.Error:
            return


def run(name: str, asked: argparse.Namespace, seed: int, data: Path) -> Row:
    """One contestant, once. Raises RuntimeError with its last words when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        with (out / "log").open("w") as log:
            began, clock = time.time(), time.perf_counter()
            process = subprocess.Popen(
                command(name, asked, seed, data, out),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=out,
                env=environment(asked),
            )
            over, seen = threading.Event(), [0.0]
            watcher = threading.Thread(target=watch, args=(process.pid, over, seen))
            watcher.start()
            code = process.wait()
            wall = time.perf_counter() - clock
            over.set()
            watcher.join()
        said = reports(name, out)
        if code or not said:
            words = (out / "log").read_text().strip().splitlines()[-15:]
            raise RuntimeError(f"{name} ended with {code} after {len(said)} reports:\n" + "\n".join(words))
    reached = [row["at"] - began for row in said if row["val_accuracy"] >= TARGET]
    return {
        "contestant": name,
        "asked_trials": asked.trials,
        "asked_epochs": asked.epochs,
        "workers": asked.workers,
        "wall": wall,
        "rate": len(said) / wall,
        "first": min(row["at"] for row in said) - began,
        "target": min(reached, default=math.inf),
        "best": max(row["val_accuracy"] for row in said),
        "memory": max(seen),
        "trials": len({row["trial"] for row in said}),
        "epochs": len(said),
        "members": len(said) / len({row.get("interval", index) for index, row in enumerate(said)}),
    }


def environment(asked: argparse.Namespace) -> dict[str, str]:
    root, sizes = str(HERE.parent.parent), {"PEERS_BATCH_SIZES": json.dumps(asked.batch_sizes)}
    return {**os.environ, **sizes, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


def table(cell: Callable[[str, str], list[float]], names: list[str], columns: list[str]) -> str:
    """A line a contestant: median and range."""
    head = f"{'':9}" + "".join(f"{column:>24}" for column in columns)
    lines = (f"{name:9}" + "".join(f"{spread(cell(name, column)):>24}" for column in columns) for name in names)
    return "\n".join([head, *lines])


def spread(values: list[float]) -> str:
    if not values:
        return "-"
    return f"{short(statistics.median(values))} ({short(min(values))}..{short(max(values))})"


def short(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.4f}" if value < 1 else f"{value:.4g}"


def show(rows: list[Row]) -> None:
    """Print the tables: of each contestant, and ours against the others."""
    names = [name for name in CONTESTANTS if any(row["contestant"] == name for row in rows)]
    runs = {name: {row["round"]: row for row in rows if row["contestant"] == name} for name in names}
    print(
        f"{rows[0]['asked_trials']} trials of at most {rows[0]['asked_epochs']} epochs, {rows[0]['workers']} cores; "
        f"median (from..to) of n = {', '.join(f'{len(runs[name])} {name}' for name in names)}"
    )
    for column, (unit, what) in COLUMNS.items():
        print(f"  {column:7} {what}{f', {unit}' if unit else ''}")

    def value(name: str, column: str) -> list[float]:
        return [row[column] for row in runs[name].values()]

    def ratio(mine: str, name: str, column: str) -> list[float]:
        both = [(runs[mine][number][column], runs[name][number][column]) for number in runs[mine].keys() & runs[name]]
        return [math.inf if math.isinf(ours) else ours / theirs for ours, theirs in both]

    print(table(value, names, list(COLUMNS)[:4]))
    print(table(value, names, list(COLUMNS)[4:]))
    for mine in [name for name in names if name in OURS]:
        others = [name for name in names if name != mine and (mine == "ours" or name == "ours" or name not in OURS)]
        if others:
            print(f"{mine} / theirs, within a round")
            print(table(partial(ratio, mine), others, ["wall", "first", "target", "memory"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes that train")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS[:4]))
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 128, 256], help="that the space holds")
    parser.add_argument("--out", type=Path, help="Parquet file that the rounds are added to")
    asked = parser.parse_args()
    rows: list[Row] = pq.read_table(asked.out).to_pylist() if asked.out and asked.out.exists() else []
    done = max((row["round"] for row in rows), default=0)
    names = [name for name in CONTESTANTS if name in asked.only]
    if "syne" in names and importlib.util.find_spec("syne_tune") is None:
        print("syne is skipped: pip install -e '.[bench]'", file=sys.stderr)
        names.remove("syne")
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for number in range(done + 1, done + 1 + asked.repeats):
            for name in names:
                row = {"round": number, **run(name, asked, number, Path(folder))}
                rows.append(row)
                told = "  ".join(f"{column} {short(row[column])}" for column in COLUMNS)
                print(f"round {number}  {name:9} {told}", file=sys.stderr, flush=True)
                if asked.out:
                    pq.write_table(pa.Table.from_pylist(rows), asked.out)
    show(rows)


if __name__ == "__main__":
    main()
