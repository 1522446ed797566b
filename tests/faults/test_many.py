"""Thousands of trials that train next to nothing: memory, open files and the run's folder stay bounded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.sweeping import Run, assert_nothing_lost, write_data

from results.mlflow import export
from results.record import FILE


def seen(pid: int) -> tuple[float, int]:
    """(resident memory in MB, open files) of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(list(Path(f"/proc/{pid}/fd").iterdir()))


def ended(run: Run) -> int:
    rows = run.query("SELECT count(*) FROM trials WHERE state != 'RUNNING'")
    return int(rows[0][0]) if rows else 0


def watch(run: Run, trials: int) -> None:
    write_data(run.home / "data.npz", samples=30)
    flags = ("--trials", str(trials), "--epochs", "1", "--scheduler", "none", "--sampler", "random", "--quiet")
    run.allow(3 * trials // 10)
    driver = run.start(*flags)
    observed = []
    for more in (6 * trials // 10, None):  # looked at when 30 % have ended, and when 90 % have
        assert run.await_pause(driver, 3600), run.said
        observed.append((ended(run), *seen(driver.pid), len(run.processes())))
        run.allow(more)
    assert driver.wait(3600) == 0, run.said
    (some, memory, files, processes), (more, memory_later, files_later, processes_later) = observed
    per_trial = (memory_later - memory) / (more - some)
    size = sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file())
    print(f"{trials} trials: {1000 * per_trial:.0f} kB of memory and {size / trials / 1000:.1f} kB of disk a trial, "
          f"{memory_later:.0f} MB and {files_later} open files near the end")  # fmt: skip
    assert per_trial < 0.15
    assert files_later <= files + 8
    assert processes_later <= processes + 3
    assert size < 3_000_000 + 6_000 * trials  # the report alone has 2 MB
    assert (run.folder / FILE).stat().st_size < 200_000 + 3_000 * trials
    export(run.folder)  # MLflow takes longer than the sweep's last pass, which waits a minute at most
    assert_nothing_lost(run.folder, trials, 1)


def test_100_trials_that_train_nothing_leave_memory_files_and_folder_bounded(run: Run) -> None:
    watch(run, 100)


@pytest.mark.long
@pytest.mark.parametrize("trials", [2000, 5000])
def test_thousands_of_trials_that_train_nothing_leave_memory_files_and_folder_bounded(run: Run, trials: int) -> None:
    watch(run, trials)
