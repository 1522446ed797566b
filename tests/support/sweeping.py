"""A small real sweep in processes of its own, and what must be true of a run whatever happened to it.

A report takes a few hundredths of a second; a session of eight trials about ten seconds, most of them Ray's start.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np

from rungwise.results.record.reader import Reader
from rungwise.results.record.types import FILE, State
from rungwise.results.tables import parquet
from rungwise.results.tables.tables import tables

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = '''"""Does it survive?"""
from rungwise import FloatDistribution, Sweep, main

SWEEP = Sweep(
    name="tiny",
    question=__doc__,
    space={"lr": FloatDistribution(1e-3, 1e-1, log=True), "dropout": FloatDistribution(0.0, 0.5)},
    arms={"plain": {"l2": 0.0}, "L2": {"l2": 1e-4}},
    fixed={"hidden": (8,), "batch_size": 8, "optimizer": "adamw"},
    data=%(data)r,
    trials=4,
    searches=1,
    epochs=9,
)
if __name__ == "__main__":
    main(SWEEP)
'''
SESSION_SECONDS = 600.0  # nothing takes so long, even on a busy machine


def write_data(path: Path, samples: int = 1800) -> Path:
    """Three clouds of points in eight dimensions that overlap."""
    random = np.random.default_rng(0)
    y = np.arange(samples) % 3
    x = random.normal(size=(samples, 8)).astype(np.float32)
    x[:, 0] += y
    np.savez(path, x=x, y=y)
    return path


class Run:
    """One run's folder, and the commands that a user gives it."""

    def __init__(self, home: Path, *, script: str = SCRIPT, out: Path | None = None, logged: bool = True) -> None:
        """`logged`: to MLflow, whose import takes an exporter 2.5 s of CPU."""
        self.home = home
        self._loggers = () if logged else ("--loggers",)
        self.out = out or home / "runs"
        self.folder = self.out / "tiny"
        self.script = home / "tiny.py"
        self.drivers: list[subprocess.Popen[str]] = []
        self.temporary = Path(tempfile.mkdtemp(prefix="rwt-", dir="/tmp"))  # Ray's: its sockets want short names
        self._pace = home / "pace"
        self._pace.mkdir()
        paths = [str(Path(__file__).with_name("paced")), str(ROOT), os.environ.get("PYTHONPATH")]
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PACE": str(self._pace),
            "TMPDIR": str(self.temporary),
        }
        data = home / "data.npz"
        if not data.exists():
            write_data(data)
        self.script.write_text(script % {"data": str(data)} if "%(data)r" in script else script)

    def start(self, *flags: str, wrap: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """The user's command, as on a terminal: a process group of its own, which Ctrl-C reaches as a whole."""
        confirm = () if "--confirm-seeds" in flags else ("--no-confirm",)
        with (self.home / "stdout").open("a") as stdout, (self.home / "stderr").open("a") as stderr:
            driver = subprocess.Popen(
                [*wrap, sys.executable, str(self.script), "--out", str(self.out), *confirm, *flags, *self._loggers],
                env=self.environment,
                cwd=self.home,
                stdout=stdout,
                stderr=stderr,
                text=True,
                process_group=0,
            )
        self.drivers.append(driver)
        return driver

    def finish(self, *flags: str, wrap: tuple[str, ...] = ()) -> int:
        """The same command to its end; returns the exit code."""
        return self.start(*flags, wrap=wrap).wait(SESSION_SECONDS)

    @property
    def said(self) -> str:
        """All that the commands printed so far."""
        return "".join((self.home / name).read_text() for name in ("stdout", "stderr") if (self.home / name).exists())

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """What is committed in the record now; [] while there is none."""
        path = self.folder / FILE
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=20)) as db:
            return db.execute(sql).fetchall()

    def reports(self) -> int:
        """Reports that are committed."""
        rows = self.query("SELECT coalesce(max(seq), 0) FROM reports")
        return int(rows[0][0]) if rows else 0

    def workers(self) -> list[tuple[int, int]]:
        """(trial, process) of the trials in flight that have two checkpoints. The record may still name a process of an
        earlier driver, which has ended: it is left out."""
        rows = self.query(
            "SELECT trial, node FROM trials WHERE state = 'RUNNING' AND node IS NOT NULL AND "
            "(SELECT count(*) FROM checkpoints c WHERE c.trial = trials.trial) > 1"
        )
        placed = [(int(trial), int(node.rpartition(":")[2])) for trial, node in rows]
        return [(trial, pid) for trial, pid in placed if Path(f"/proc/{pid}").exists()]

    def await_reports(self, driver: subprocess.Popen[str], number: int) -> bool:
        """Wait until so many are committed; False when the driver ended before."""
        return wait_until(lambda: driver.poll() is not None or self.reports() >= number) and driver.poll() is None

    def allow(self, reports: int | None, pause: float = math.inf) -> None:
        """From now on trials send so many reports, in all, and each one more after a pause (s); None: as they like."""
        limit, draft = self._pace / "limit", self._pace / "draft"
        if reports is None:
            limit.unlink(missing_ok=True)
            return
        draft.write_text(f"{self.tickets + reports} {pause}")
        draft.replace(limit)

    def await_pause(self, driver: subprocess.Popen[str], seconds: float = SESSION_SECONDS) -> bool:
        """Wait until a trial has come to the end of what is allowed; False when the driver ended before."""
        limit = int((self._pace / "limit").read_text().split()[0])
        return wait_until(lambda: driver.poll() is not None or self.tickets > limit, seconds) and driver.poll() is None

    @property
    def tickets(self) -> int:
        """Reports that have been sent or wait to be."""
        return sum(path.name.isdigit() for path in self._pace.iterdir())

    def await_silence(self, seconds: float = SESSION_SECONDS, *, except_for: str = "\0") -> None:
        """No process of ours is left: neither Ray's, nor a trial's, nor an exporter's."""

        def left() -> list[str]:
            return [line for line in self.processes().values() if not line.startswith(except_for)]

        assert wait_until(lambda: not left(), seconds), f"still there: {left()}"

    def processes(self) -> dict[int, str]:
        """{pid: command line} of what was started by our commands, found by its environment."""
        mine = f"TMPDIR={self.temporary}".encode()
        return {pid: line for pid, line, environment in every_process() if mine in environment.split(b"\0")}


@contextlib.contextmanager
def stopping(run: Run) -> Iterator[Run]:
    """What a failed test leaves running is killed at the end of the block."""
    try:
        yield run
    finally:
        for pid in run.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for driver in run.drivers:
            driver.wait()
        shutil.rmtree(run.temporary, ignore_errors=True)


def every_process() -> Iterator[tuple[int, str, bytes]]:
    """(pid, command line, environment) of every living process that we may look into."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if (entry / "stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                continue
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            yield int(entry.name), line, (entry / "environ").read_bytes()


def wait_until(condition: Callable[[], object], seconds: float = SESSION_SECONDS, pause: float = 0.05) -> bool:
    """Whether `condition`, looked at every `pause` seconds, came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def interrupt(driver: subprocess.Popen[str], number: int = signal.SIGINT) -> int:
    """Ctrl-C on a terminal reaches the whole group, `kill` the driver alone; returns the exit code."""
    if number == signal.SIGINT:
        os.killpg(driver.pid, number)
    else:
        driver.send_signal(number)
    return driver.wait(SESSION_SECONDS)


# -- what must be true ------------------------------------------------------------------------------------------


def assert_nothing_lost(
    folder: Path, trials: int, epochs: int, *, store: Path | None = None, metric: str = "val_loss", exact: bool = True
) -> None:
    """Trials are 1..N and ended, curves have no gap, attempts agree to the bit, and the tables are the record.

    Args:
        metric: one that every report has.
        exact: False: what a user's own code says again may differ.
    """
    with Reader(folder) as reader:
        reader.verify()
        rows = reader.trials()
        reports = list(reader.reports())
        curves = reader.curves()
    assert [row.trial for row in rows] == list(range(1, trials + 1))
    assert all(row.state in (State.COMPLETED, State.STOPPED) for row in rows), [row.state for row in rows]
    for row in rows:
        curve = curves[row.trial]
        last = epochs if row.state is State.COMPLETED else round(row.stop_rung or -1)
        assert sorted(curve) == list(range(1, last + 1)), f"trial {row.trial} ({row.state}) reported {sorted(curve)}"
    for number in {(report.trial, report.attempt) for report in reports}:
        steps = [report.step for report in reports if (report.trial, report.attempt) == number]
        assert steps == list(range(steps[0], steps[0] + len(steps))), f"trial, attempt {number} reported {steps}"
        assert number[1] <= rows[number[0] - 1].attempts
    said: dict[tuple[int, int], Mapping[str, float]] = {}
    for report in reports:  # whoever says a step again says the same: checkpoints restore to the bit
        metrics = {name: value for name, value in report.metrics.items() if name != "seconds"}
        assert said.setdefault((report.trial, report.step), metrics) == metrics or not exact
    assert_tables(folder)
    assert_mlflow(folder, store, metric)


def assert_tables(folder: Path) -> None:
    """Both Parquet files hold what the record holds, row by row."""
    with Reader(folder) as reader:
        rows, reports = reader.trials(), list(reader.reports())
    table = parquet.read(folder / parquet.TRIALS).to_pylist()
    assert [(row["trial"], row["state"], row["attempts"]) for row in table] == [
        (row.trial, row.state, row.attempts) for row in rows
    ]
    table = parquet.read(folder / parquet.REPORTS).to_pylist()
    keys = [(row["trial"], row["attempt"], row["step"]) for row in table]
    assert len(keys) == len(set(keys))
    recorded = {(row.trial, row.attempt, row.step): row.metrics for row in reports}
    assert set(keys) == set(recorded)
    for key, row in zip(keys, table, strict=True):
        for name, value in recorded[key].items():
            assert row[name] == value or (math.isnan(row[name]) and math.isnan(value))


def assert_mlflow(folder: Path, store: Path | None = None, metric: str = "val_loss") -> None:
    """The store holds each trial's run once, with the last report of every step once, and the record's states."""
    words = {"COMPLETED": "FINISHED", "STOPPED": "KILLED", "RUNNING": "KILLED"}
    with Reader(folder) as reader:
        rows, curves, identity = reader.trials(), reader.curves(), reader.meta("id")
    ours = "FROM runs r JOIN tags i ON i.run_uuid = r.run_uuid AND i.key = 'rungwise.run' AND i.value = ?1"
    with closing(sqlite3.connect(store or folder.parent / "mlflow.db")) as db:
        found = db.execute(
            "SELECT CAST(t.value AS INTEGER), r.status, "
            "(SELECT count(*) FROM metrics m WHERE m.run_uuid = r.run_uuid AND m.key = ?2), "
            "(SELECT count(DISTINCT step) FROM metrics m WHERE m.run_uuid = r.run_uuid AND m.key = ?2) "
            f"{ours} JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'rungwise.trial' ORDER BY 1",
            (identity, metric),
        ).fetchall()
        parents = db.execute(
            f"SELECT count(*) {ours} WHERE NOT EXISTS "
            "(SELECT 1 FROM tags t WHERE t.run_uuid = r.run_uuid AND t.key = 'rungwise.trial')",
            (identity,),
        ).fetchone()
    assert parents == (1,)
    steps = {row.trial: len(curves.get(row.trial, {})) for row in rows}
    begun = [row for row in rows if row.attempts]
    assert found == [(row.trial, words.get(row.state, "FAILED"), steps[row.trial], steps[row.trial]) for row in begun]


TIMES = {"at", "seconds", "seq", "attempt", "attempts", "node", "started", "ended", "last_seconds"}


def identity(folder: Path) -> tuple[Any, ...]:
    """Both tables without times, attempts and node; of a report sent twice, one (they are the same to the bit)."""
    trials = [
        {name: value for name, value in row.items() if name not in TIMES}
        for row in parquet.read(folder / parquet.TRIALS).to_pylist()
    ]
    reports = {
        (row["trial"], row["step"]): {name: value for name, value in row.items() if name not in TIMES}
        for row in parquet.read(folder / parquet.REPORTS).to_pylist()
    }
    return trials, sorted(reports.items())


def export_for_ever(folder: Path, begun: Event) -> None:
    """What a process does that is to be killed in the middle of an export; `begun` is set just before the first."""
    with Reader(folder) as reader:
        parquet.content(tables(reader).reports)  # the first time takes half a second of imports
    begun.set()
    while True:
        parquet.export(folder)
