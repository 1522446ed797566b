"""A demo run: a record with a trial in every state, and the pieces to build others."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from rungwise.results.record.types import FILE, Decision, State
from rungwise.results.record.writer import Record
from rungwise.trainable.messages import Failure, FailureKind

Rows = Callable[..., list[tuple[Any, ...]]]  # of a query to the MLflow store
NAN, INF = float("nan"), float("inf")
DISTRIBUTIONS = {
    "lr": '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.1, "log": true}}',
    "hidden": '{"name": "CategoricalDistribution", "attributes": {"choices": ["128-64", "256-128"]}}',
}
MORE_DISTRIBUTIONS = DISTRIBUTIONS | {
    "l2": '{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-07, "high": 0.01, "log": true}}',
    "dropout": '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.5, "log": false}}',
    "layers": '{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 3}}',
    "width": '{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 32, "high": 512}}',
}
DEFINITION: dict[str, Any] = {
    "name": "demo",
    "sweep": "mnist_l2",
    "question": "Does L2 help?",
    "metric": "val_accuracy",
    "mode": "max",
    "trials": 8,
    "epochs": 4,
    "reports_per_epoch": 1,
    "grace": 1,
    "eta": 3,
    "scheduler": "asha",
    "sampler": "tpe",
    "seed": 0,
    "arms": {"no L2": {"l2": 0.0}, "L2": {}},
    "fixed": {"batch_norm": True},
    "space": DISTRIBUTIONS,
    "data": {"name": "mnist", "digest": "ab" * 32, "source": "trainable/mnist.parquet", "train": 50000, "test": 10000},
}
HYPERPARAMETERS = {
    "lr": {"type": "float", "unit": "step size", "help": "peak learning rate"},
    "hidden": {"type": "str", "unit": "units", "help": "widths of the hidden layers"},
}


def config(trial: int, **changed: Any) -> dict[str, Any]:
    """What the engine records as the whole Config: validated, tuples as lists."""
    return {
        "hidden": [128, 64],
        "lr": 0.01,
        "l2": 0.0,
        "batch_norm": True,
        "optimizer": "adam",
        "seed": trial,
    } | changed


def metrics(epoch: float, accuracy: float, **changed: float) -> dict[str, float]:
    """One report's metrics."""
    told = {"epoch": epoch, "train_loss": 1.0 / epoch, "penalty": 0.25, "val_loss": 1.5 / epoch}
    return told | {"val_accuracy": accuracy, "lr": 0.01, "seconds": 2.0} | changed


def add(record: Record, trial: int, *, arm: str = "L2", phase: str = "search", **changed: Any) -> None:
    """Deal a trial."""
    params = {"lr": 0.01, "hidden": "128-64"}
    record.add_trial(
        trial, arm=arm, phase=phase, config=config(trial, **changed), params=params, distributions=DISTRIBUTIONS
    )


def attempt(record: Record, trial: int, *accuracies: float, first: int = 1) -> int:
    """Start the trial (again) and send one report an epoch from step `first`."""
    number = record.start_attempt(trial)
    for step, accuracy in enumerate(accuracies, first):
        record.add_report(trial, number, step, metrics(float(step), accuracy))
    record.place(trial, "node-a", "cpu")
    record.commit()
    return number


def begin(folder: Path, **changed: Any) -> tuple[Record, int]:
    """A new run and its first driver session: this very process."""
    folder.mkdir(parents=True, exist_ok=True)
    record = Record(folder)
    record.set_meta("definition", DEFINITION | {"name": folder.name} | changed)
    record.set_meta("hyperparameters", HYPERPARAMETERS)
    record.set_meta("id", f"id-of-{folder.name}")
    return record, record.start_session({"host": socket.gethostname(), "pid": os.getpid(), "commit": "c0ffee"})


def fill(record: Record) -> None:
    """A trial in every state; the numbers are chosen to be counted by hand."""
    add(record, 1, arm="no L2")  # COMPLETED; best at step 3, not at the end
    attempt(record, 1, 0.5, 0.7, 0.9, 0.8)
    record.end_trial(1, State.COMPLETED, reason="reached 4 epochs")
    add(record, 2)  # STOPPED at its first rung
    number = record.start_attempt(2)
    record.add_report(2, number, 1, metrics(1.0, 0.4), Decision(1.0, 0.5, True))
    record.end_trial(2, State.STOPPED, reason="0.4 against a cutoff of 0.5", decision=Decision(1.0, 0.5, True))
    add(record, 3)  # DIVERGED, after the best value of all
    number = attempt(record, 3, 0.99)
    record.add_report(3, number, 2, metrics(2.0, NAN, train_loss=INF, val_loss=NAN, penalty=-INF))
    record.end_trial(3, State.DIVERGED, failure=Failure(FailureKind.DIVERGED, "train_loss is inf at epoch 2"))
    add(record, 4, arm="no L2")  # FAILED before its first report
    attempt(record, 4)
    record.end_trial(
        4,
        State.FAILED,
        failure=Failure(FailureKind.EXCEPTION, "ZeroDivisionError", error="Traceback\nZeroDivisionError: 1 / 0"),
    )
    add(record, 5)  # LOST in its second attempt
    attempt(record, 5, 0.6, 0.95)
    attempt(record, 5, 0.61)
    record.end_trial(5, State.LOST, failure=Failure(FailureKind.LOST, "its process died 2 times"))
    add(record, 6, optimizer="sgd")  # COMPLETED by a second attempt that repeats step 2 and goes on
    attempt(record, 6, 0.3, 0.97)
    attempt(record, 6, 0.65, 0.75, 0.85, first=2)
    record.end_trial(6, State.COMPLETED, reason="reached 4 epochs")
    add(record, 7)  # in flight, with a metric of its own and without the objective
    number = record.start_attempt(7)
    record.add_report(7, number, 1, {"epoch": 1.0, "train_loss": 0.5, "seconds": 2.0, "val_f1": 0.5})
    add(record, 8)  # dealt, not started
    record.commit()


def damage(run: Path) -> None:
    """Overwrite all but the first page of the record."""
    with closing(sqlite3.connect(run / FILE)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damaged = bytearray((run / FILE).read_bytes())
    damaged[4096:] = bytes(len(damaged) - 4096)
    (run / FILE).write_bytes(damaged)
