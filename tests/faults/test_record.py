"""A record that is cut, flipped, emptied or out of disk: refused by name or gone on with whole, never started over."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.sweeping import ROOT, Run

from rungwise.results.cli.main import main
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import FILE, RecordError
from rungwise.results.record.writer import MOST_METRICS, Record

WAL, MARK = f"{FILE}-wal", f"{FILE}-mark"
STEP = 512

# A driver that did one session well and was killed in its second: its log is not in the record's file yet.
KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from support.demo import add, attempt, begin
from rungwise.results.record.types import State, SweepState
folder = Path(sys.argv[1])
for trials in (range(1, 9), range(9, 17)):
    record, session = begin(folder)
    for trial in trials:
        add(record, trial)
        attempt(record, trial, 0.5, 0.6, 0.7)
        record.end_trial(trial, State.COMPLETED, reason="reached 3 epochs")
    if trials[0] == 1:
        record.end_session(session, SweepState.FINISHED)
        record.close()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a killed driver's run: 16 trials, 48 reports, half of them in the write-ahead log only."""
    folder = tmp_path_factory.mktemp("killed") / "demo"
    died = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(ROOT / "tests")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    assert (folder / WAL).stat().st_size > 20 * STEP
    return folder


@pytest.fixture(scope="module")
def truth(killed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    """What the killed driver had committed."""
    return held(copied(killed, tmp_path_factory.mktemp("truth")))


def copied(killed: Path, to: Path) -> Path:
    """A copy without the -shm file, as after a reboot."""
    shutil.rmtree(to / "demo", ignore_errors=True)
    return Path(shutil.copytree(killed, to / "demo", ignore=shutil.ignore_patterns("*-shm")))


def held(folder: Path, **how: bool) -> tuple[Any, ...]:
    with Reader(folder, **how) as reader:
        return reader.meta("id"), reader.trials(), list(reader.reports())


def refusal(folder: Path) -> str | None:
    """Why the record cannot be gone on with; None when it can."""
    try:
        with Record(folder):
            return None
    except RecordError as error:
        return str(error)


def test_a_killed_drivers_record_is_whole(truth: tuple[Any, ...]) -> None:
    assert (len(truth[1]), len(truth[2])) == (16, 48)


@pytest.mark.parametrize("name", [FILE, WAL])
def test_a_record_cut_at_every_512_bytes_is_refused_by_name_or_whole(
    killed: Path, truth: tuple[Any, ...], tmp_path: Path, name: str
) -> None:
    refused = 0
    for size in range(0, (killed / name).stat().st_size, STEP):
        folder = copied(killed, tmp_path)
        os.truncate(folder / name, size)
        before = (folder / FILE).read_bytes()
        if reason := refusal(folder):
            refused += 1
            assert str(folder / FILE) in reason
            assert (folder / FILE).read_bytes() == before  # the evidence is left alone
        else:
            now = held(folder)  # at most the last word of all is lost: that trial 16 has ended, so it goes on
            assert (now[0], now[1][:-1], now[2]) == (truth[0], truth[1][:-1], truth[2]), f"{name} cut at {size}"
    assert refused > 20


def test_a_record_without_its_log_is_refused_and_the_doctor_makes_the_rest_usable(
    killed: Path, truth: tuple[Any, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(killed, tmp_path)
    (folder / WAL).unlink()
    with pytest.raises(
        RecordError, match=r"must contain 16 trials and 48 reports, but contains 8 and 24: .*-wal was removed"
    ):
        Record(folder)
    assert main(["doctor", str(folder)]) == 1
    assert "but contains 8 and 24 (to fix it: --fix)" in capsys.readouterr().out
    assert main(["doctor", str(folder), "--fix"]) == 0
    assert "but contains 8 and 24 (fixed)" in capsys.readouterr().out
    identity, trials, reports = held(folder)
    assert (identity, trials, reports) == (truth[0], truth[1][:8], truth[2][:24])
    with Record(folder) as record, Reader(folder) as reader:
        assert [kind for _, kind, _, _ in reader.events()] == ["accepted a loss"]
        record.start_session({})


def test_what_is_left_of_a_log_cut_anywhere_is_a_prefix_of_what_was(
    killed: Path, truth: tuple[Any, ...], tmp_path: Path
) -> None:
    seen = set()
    for size in range(0, (killed / WAL).stat().st_size, 8 * STEP):
        folder = copied(killed, tmp_path)
        os.truncate(folder / WAL, size)
        _, trials, reports = held(folder, complete=False)
        assert reports == truth[2][: len(reports)]
        assert [trial.trial for trial in trials] == list(range(1, len(trials) + 1))
        seen.add(len(reports))
    assert min(seen) == 24
    assert len(seen) > 4


def test_a_record_emptied_keeps_its_log_and_is_no_new_run(killed: Path, tmp_path: Path) -> None:
    folder = copied(killed, tmp_path)
    log = (folder / WAL).read_bytes()
    os.truncate(folder / FILE, 0)
    for opened in (Record, Reader):
        with pytest.raises(RecordError, match=f"{FILE} cannot be read as a record .it is empty."):
            opened(folder)
    assert (folder / WAL).read_bytes() == log  # SQLite itself would have removed it


def test_a_flipped_bit_of_the_record_is_noticed_or_changes_nothing(killed: Path, tmp_path: Path) -> None:
    folder = copied(killed, tmp_path)
    with Record(folder):
        pass  # all in one file
    whole = (folder / FILE).read_bytes()
    truth = held(folder)
    draw = random.Random(0)
    noticed = 0
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        (folder / FILE).write_bytes(damaged)
        if reason := refusal(folder):
            noticed += 1
            assert str(folder / FILE) in reason
        else:
            assert held(folder) == truth  # the bit lay where nothing is kept
    assert noticed > 50  # most of a small record is pages that hold little


VALUES = [
    ("meta", "value", "'{}'"), ("sessions", "info", "'{}'"), ("trials", "config", "'{}'"),
    ("trials", "attempts", "2"), ("reports", "val_accuracy", "0.75"), ("reports", "seq", "seq + 100"),
    ("events", "data", "'{}'"), ("checkpoints", "sha256", "'cd'"), ("scores", "value", "0.75"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "column", "value"), VALUES)
def test_a_changed_value_is_noticed_in_every_table(
    killed: Path, tmp_path: Path, table: str, column: str, value: str
) -> None:
    folder = copied(killed, tmp_path)
    with Record(folder) as record:
        record.event("something", n=1)
        record.add_checkpoint(1, 2, "ab")
        record.add_score(1, "test", "accuracy", 0.5)
    with closing(sqlite3.connect(folder / FILE)) as db:
        last = db.execute(f"SELECT max(rowid) FROM {table}").fetchone()[0]
        db.execute(f"UPDATE {table} SET {column} = {value} WHERE rowid = ?", (last,))
        db.commit()
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]  # SQLite itself sees nothing
    assert f"1 row(s) of {table} differ from what was written" in str(refusal(folder))


def test_more_metrics_than_a_table_has_columns_are_left_out_and_what_is_kept_is_whole(tmp_path: Path) -> None:
    first = {f"m{number}": float(number) for number in range(90)}
    second = {f"M{number}": float(number) for number in range(1600)}
    with Record(tmp_path) as record:
        record.add_trial(1, arm="a", phase="search", config={}, params={}, distributions={})
        attempt = record.start_attempt(1)
        assert record.add_report(1, attempt, 1, first) == []
        assert record.add_report(1, attempt, 2, second) == list(second)[MOST_METRICS:]
        assert record.add_report(1, attempt, 3, {"m1": 0.5, "another": 1.0}) == ["another"]
    with Reader(tmp_path) as reader:
        reader.verify()
        one, two, three = (report.metrics for report in reader.reports())
    assert (one, three) == (first, {"m1": 0.5})
    assert {name.upper(): value for name, value in two.items()} == dict(list(second.items())[:MOST_METRICS])
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.execute('UPDATE reports SET "M1400" = 7.0 WHERE step = 2')
        db.commit()
    assert "1 row(s) of reports differ from what was written, the first is row 2" in str(refusal(tmp_path))


@pytest.fixture
def small_files() -> Iterator[Any]:
    """small_files(bytes): no file of this process may grow beyond; the kernel then says EFBIG, as it says ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def fill(folder: Path, committed: list[int]) -> str | None:
    """Forty trials, each committed; why it ended before, or None."""
    try:
        with Record(folder) as record:
            for trial in range(1, 41):
                record.add_trial(trial, arm="a", phase="search", config={}, params={}, distributions={})
                record.add_report(trial, record.start_attempt(trial), 1, {"epoch": 1.0, "val_accuracy": 0.5})
                record.commit()
                committed.append(trial)
    except (RecordError, OSError) as error:
        return str(error)
    return None


def test_a_write_that_fails_at_any_size_loses_nothing_committed_and_the_record_goes_on(
    tmp_path: Path, small_files: Any
) -> None:
    """For every n: the n-th page that the record wants to write finds no room."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    failures = 0
    for pages in range(1, 60):
        folder = tmp_path / str(pages)
        folder.mkdir()
        committed: list[int] = []
        small_files(2048 * pages)
        reason = fill(folder, committed)
        small_files(unlimited)
        failures += reason is not None
        assert str(folder) in (reason or str(folder))
        with Record(folder) as record:  # there is room again
            with Reader(folder) as reader:
                trials, reports = reader.trials(), list(reader.reports())
            assert len(trials) >= len(committed)
            assert [report.trial for report in reports] == [trial.trial for trial in trials]
            number = len(trials) + 1
            record.add_trial(number, arm="a", phase="search", config={}, params={}, distributions={})
    assert failures > 40


def test_a_driver_of_a_damaged_record_exits_1_and_names_it_before_ray_starts(run: Run, killed: Path) -> None:
    shutil.copytree(killed, run.folder)
    (run.folder / WAL).unlink()
    before = (run.folder / FILE).read_bytes()
    assert run.finish() == 1
    (line,) = run.said.splitlines()
    assert line.startswith(f"error: {run.folder / FILE} must contain 16 trials and 48 reports, but contains 8 and 24")
    assert list(run.temporary.iterdir()) == []
    assert (run.folder / FILE).read_bytes() == before
