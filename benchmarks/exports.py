"""Time of the exports: a million reports to Parquet, a hundred thousand metrics to MLflow's SQLite store; and reports a
second of each logger.

    python benchmarks/exports.py [--reports 1000000] [--metrics 100000] [--repeats 5]
    python benchmarks/exports.py --loggers [--reports 2000]

The records are written by the driver's own class first, which is timed too. MLflow gets its metrics twice: in few long
trials (1,000 reports each) and in many short ones (6 reports each, as a default sweep has), where making a run and
logging its hyperparameters is most of the work. Every export goes to a new store. Median and range of n.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rungwise.results.exporters import mlflow
from rungwise.results.exporters.loggers.registry import LOGGERS, feed_of
from rungwise.results.exporters.loggers.settings import LogSettings
from rungwise.results.record.types import State, SweepState
from rungwise.results.record.writer import Record
from rungwise.results.tables import parquet
from rungwise.trainable.config import Config, described

METRICS = 6  # that a report has in MLflow: `epoch` is its step


def write(folder: Path, reports: int, each: int) -> int:
    """A finished sweep of `reports` reports, `each` a trial; returns the number of trials."""
    folder.mkdir(parents=True)
    config = Config(epochs=each).model_dump(mode="json")
    draw = random.Random(0).random
    trials = math.ceil(reports / each)
    with Record(folder) as record:
        session = record.start_session({})
        record.set_meta("definition", {"name": folder.name, "metric": "val_accuracy", "mode": "max"})
        record.set_meta("hyperparameters", described())
        for trial in range(1, trials + 1):
            record.add_trial(trial, arm="all", phase="search", config=config, params={"lr": 0.1}, distributions={})
            record.start_attempt(trial)
            for step in range(1, each + 1):
                row = {name: draw() for name in ("train_loss", "val_loss", "val_accuracy", "seconds")}
                record.add_report(trial, 1, step, {"epoch": float(step), "penalty": 0.0, "lr": 0.1, **row})
            record.end_trial(trial, State.COMPLETED)
        record.end_session(session, SweepState.FINISHED)
    return trials


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def told(what: str, values: list[float], unit: str) -> None:
    middle, low, high = statistics.median(values), min(values), max(values)
    print(f"{what:58} {middle:10,.2f} {unit:12} {low:,.2f} to {high:,.2f}, n={len(values)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=int, default=1_000_000, help="to Parquet")
    parser.add_argument("--metrics", type=int, default=100_000, help="to MLflow")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--loggers", action="store_true", help="each logger instead, in trials of 10 reports")
    asked = parser.parse_args()
    if asked.loggers:
        compare_loggers(asked.reports, asked.repeats)
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        seconds = timed(lambda: write(root / "large", asked.reports, 1000))
        told(f"{asked.reports:,} reports into the record", [asked.reports / seconds], "reports/s")
        times = [timed(lambda: parquet.export(root / "large")) for _ in range(asked.repeats)]
        told(f"{asked.reports:,} reports to Parquet", times, "s")
        shutil.rmtree(root / "large")
        reports = math.ceil(asked.metrics / METRICS)
        write(root / "one", 1, 1)
        for each in (1000, 6):
            trials = write(root / str(each), reports, each)
            logged = METRICS * trials * each
            times = [timed(_mlflow(root, str(each), turn)) for turn in range(asked.repeats)]
            told(f"{logged:,} metrics of {trials:,} trials to MLflow", [logged / t for t in times], "metrics/s")


def compare_loggers(reports: int, repeats: int) -> None:
    """The whole run in one pass, each time into a place that is empty but for MLflow's tables."""
    os.environ["WANDB_MODE"] = "offline"
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        (root / "mine.py").write_text("def log(batch):\n    pass\n")
        trials = write(root / "run", reports, 10)
        write(root / "one", 1, 1)
        os.environ["RUNGWISE_TRACKING_URI"] = f"sqlite:///{root / 'mlflow.db'}"
        mlflow.export(root / "one")
        for name in (*LOGGERS, f"{root / 'mine.py'}:log"):
            times = []
            for turn in range(repeats + 1):
                run = root / f"{turn}"
                shutil.copytree(root / "run", run)
                with Record(run) as record:  # another run, to MLflow
                    record.set_meta("id", f"{name}-{turn}")
                feed = feed_of(name, run, LogSettings())
                times.append(timed(feed.sync))
                feed.close()
                shutil.rmtree(run)
            label = f"{reports:,} reports of {trials:,} trials to {name.rpartition(':')[2]}"
            told(label, [reports / seconds for seconds in times[1:]], "reports/s")  # the first one imports the package


def _mlflow(root: Path, run: str, turn: int) -> Callable[[], object]:
    """The export of `run` into a store of its own, whose tables another run has made already."""
    uri = f"sqlite:///{root / f'{run}-{turn}.db'}"
    mlflow.export(root / "one", uri)
    return lambda: mlflow.export(root / run, uri)


if __name__ == "__main__":
    main()
