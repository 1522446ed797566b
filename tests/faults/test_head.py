"""The machine of the driver is gone, and its disk with it: the same command elsewhere goes on from the mirror."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.sweeping import Run, assert_nothing_lost, wait_until

from rungwise.results.record.reader import Reader
from rungwise.results.record.types import FILE

TRIALS, EPOCHS = 4, 81
FLAGS = ("--checkpoint-seconds", "0.5", "--trials", str(TRIALS // 2), "--epochs", str(EPOCHS), "--scheduler", "none")


def mirrored(copy: Path) -> int:
    """Reports in the copy."""
    with contextlib.suppress(sqlite3.Error), closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT count(*) FROM reports").fetchone()[0])
    return 0


@pytest.mark.long
def test_a_new_head_goes_on_from_the_mirror(run: Run, tmp_path: Path) -> None:
    where = tmp_path / "mirror"
    copy = where / run.folder.name / FILE
    run.allow(60)
    driver = run.start(*FLAGS, "--mirror", str(where))
    assert wait_until(lambda: driver.poll() is not None or mirrored(copy) > 0)
    assert driver.poll() is None, run.said
    driver.kill()
    for pid in run.processes():  # a power cut takes them all, the exporter before its last pass
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    driver.wait()
    before = mirrored(copy)
    shutil.rmtree(run.out)
    run.allow(None)
    assert run.finish(*FLAGS, "--mirror", str(where)) == 0, run.said
    assert "was not here: going on from its copy in" in run.said
    assert_nothing_lost(run.folder, TRIALS, EPOCHS)
    with Reader(run.folder) as reader:
        assert len(reader.sessions()) == 2
        assert any(kind == "restored" for _, kind, _, _ in reader.events())
        assert sum(report.attempt == 1 for report in reader.reports()) >= before
    assert mirrored(copy) == run.reports()
