"""How many slots one driver keeps busy: sweeps whose trials sleep, on up to 1,000 slots.   docs/internals/scale.md

    python benchmarks/scale.py [--points 64x1 1000x10] [--sampler random] [--own] [--out scale.parquet]

64x1 is 64 slots, each of which takes 1 s for a report. A point is one sweep (sleeping.py says what is real in it and
what is not). Printed, from when all slots have been given a trial to one report's time before the end:

    busy          share of the slots' time that was spent on reports; over time, in fifths
    reports/s     that the driver entered in the record; trials/s that it started
    loop          share of a core that the driver's main thread takes: at 1 it can do no more
    driver        cores that all its threads take; and its largest resident memory
    others        cores of Ray's processes and the slots' hosts
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import tyro

from rungwise.results.record.reader import Reader

HERE = Path(__file__).resolve().parent
FIFTHS = 5


@dataclass(frozen=True)
class Options:
    points: tuple[str, ...] = ("64x3", "64x1", "64x0.3", "256x10", "256x3", "1000x20", "1000x10")
    """Slots, and seconds that each takes for a report."""
    minutes: float | None = None
    """Of a sweep, with Ray's start and the filling of the slots; by default what the point needs."""
    repeats: int = 1
    own: bool = False
    """A process for each slot: about 100 MB each."""
    sampler: str = "tpe"
    out: Annotated[Path | None, tyro.conf.arg(metavar="PARQUET")] = None

    def length(self, slots: int, seconds: float) -> float:
        """Minutes of a sweep."""
        fill = slots * (1.5 if self.own else 0.025)
        return self.minutes or (12 + fill + seconds + max(15.0, 2 * seconds)) / 60


@dataclass(frozen=True)
class Sample:
    """The driver's resources at one moment."""

    at: float
    loop: float  # CPU seconds of the main thread
    driver: float  # CPU seconds of all threads
    others: float
    memory: float  # MB


@dataclass(frozen=True)
class Row:
    slots: int
    seconds: float
    own: bool
    sampler: str
    busy: float
    fifths: tuple[float, ...]
    reports: float  # a second
    trials: float  # a second
    loop: float
    driver: float
    others: float
    memory: float  # MB


def sample(driver: psutil.Process, known: dict[int, float]) -> Sample:
    """`known` keeps the CPU seconds of child processes that have ended meanwhile."""
    main = next(thread for thread in driver.threads() if thread.id == driver.pid)
    used, info = driver.cpu_times(), driver.memory_info()
    for child in driver.children(recursive=True):
        try:
            times = child.cpu_times()
            known[child.pid] = times.user + times.system
        except psutil.Error:
            continue
    return Sample(
        time.time(), main.user_time + main.system_time, used.user + used.system, sum(known.values()), info.rss / 1e6
    )


def sweep(slots: int, seconds: float, options: Options) -> Row:
    minutes = options.length(slots, seconds)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(HERE / "sleeping.py"), "--out", folder, "--sampler", options.sampler]
        command += ["--slots", str(slots), "--seconds", str(seconds), "--minutes", str(minutes)]
        command += ["--own"] * options.own
        samples: list[Sample] = []
        known: dict[int, float] = {}
        with open(Path(folder) / "said", "w+") as said:
            driver = psutil.Popen(command, stdout=said, stderr=said)
            while driver.poll() is None:
                try:
                    samples.append(sample(driver, known))
                except (psutil.Error, StopIteration):
                    break
                time.sleep(0.5)
            if driver.wait():
                said.seek(0)
                raise RuntimeError(f"the sweep ended with {driver.returncode}: {said.read()[-3000:]}")
        with Reader(Path(folder) / "sleeping") as reader:
            reports = sorted(report.at for report in reader.reports())
            starts = sorted(trial.started for trial in reader.trials() if trial.started)
            (session,) = reader.sessions()
    return measured(slots, seconds, options, reports, starts, session.started + 60 * minutes, samples)


def measured(
    slots: int, seconds: float, options: Options, reports: list[float], starts: list[float], end: float,
    samples: list[Sample],
) -> Row:  # fmt: skip
    """From when all slots have been given a trial to one report's time before the end: a slot that is busy then has
    its report in the record. A report that came at t kept its slot busy from t - `seconds` to t."""
    begin, end = (starts[slots - 1] if len(starts) >= slots else starts[-1]), end - seconds
    edges = [begin + (end - begin) * fifth / FIFTHS for fifth in range(FIFTHS + 1)]
    spent = [sum(max(0.0, min(at, b) - max(at - seconds, a)) for at in reports) for a, b in pairwise(edges)]
    span = end - begin
    first, *_, last = [one for one in samples if begin <= one.at <= end]
    lasted = last.at - first.at
    return Row(
        slots, seconds, options.own, options.sampler,
        busy=sum(spent) / (slots * span),
        fifths=tuple(one * FIFTHS / (slots * span) for one in spent),
        reports=sum(begin <= at < end for at in reports) / span,
        trials=sum(begin <= at < end for at in starts) / span,
        loop=(last.loop - first.loop) / lasted,
        driver=(last.driver - first.driver) / lasted,
        others=(last.others - first.others) / lasted,
        memory=max(one.memory for one in samples),
    )  # fmt: skip


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    print("| slots | s a report | busy | in fifths | reports/s | trials/s | loop | driver | others | MB |")
    print("|---|" + "---|" * 9)
    rows = []
    for _ in range(options.repeats):
        for point in options.points:
            slots, seconds = point.split("x")
            row = sweep(int(slots), float(seconds), options)
            rows.append(row)
            fifths = " ".join(f"{share:.0%}" for share in row.fifths)
            rates = f"{row.reports:.1f} | {row.trials:.1f} | {row.loop:.2f} | {row.driver:.2f} | {row.others:.2f}"
            print(f"| {slots} | {seconds} | {row.busy:.0%} | {fifths} | {rates} | {row.memory:.0f} |", flush=True)
    if options.out:
        pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows]), options.out)


if __name__ == "__main__":
    main()
