"""Full disks: one clear line, exit code 1, and the same command goes on when there is room."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.sweeping import SESSION_SECONDS, Run, assert_nothing_lost

from rungwise.results.record.reader import Reader
from rungwise.results.record.types import RecordError
from rungwise.results.record.writer import Record

FLAGS = ("--checkpoint-seconds", "0", "--trials", "3", "--epochs", "27", "--concurrency", "1")


@pytest.fixture
def disk() -> Iterator[Callable[[Path, str], None]]:
    """disk(folder, size): a file system of its own there."""
    mounted: list[Path] = []

    def mount(folder: Path, size: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)], check=False
        )
        if done.returncode:
            pytest.skip("a small disk can be mounted by root only")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, leave: int = 0) -> Path:
    """Take all room in the file system of `folder` but `leave` bytes."""
    ballast = folder / ".ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(ballast, max(0, ballast.stat().st_size - leave))
    return ballast


def test_what_a_full_disk_took_back_is_not_missed_later(tmp_path: Path, disk: Callable[[Path, str], None]) -> None:
    folder = tmp_path / "small"
    disk(folder, "500k")
    ballast = folder / ".ballast"
    ballast.write_bytes(bytes(100_000))
    with Record(folder) as record:
        record.add_trial(1, arm="all", phase="search", config={}, params={}, distributions={})
        steps = 0
        with pytest.raises(RecordError, match="full"):  # noqa: PT012
            for steps in range(1, 10_000):
                record.add_report(1, 1, steps, {"val_accuracy": 0.5})
                if steps % 7 == 0:
                    record.commit()
        ballast.unlink()
        record.event("there is room again")
    with Reader(folder) as reader:  # refuses a record of which something is missing
        assert steps - 7 <= len(list(reader.reports())) < steps


def test_a_full_disk_and_then_a_full_temporary_folder_are_one_line_and_the_sweep_goes_on_when_there_is_room(
    run: Run, disk: Callable[[Path, str], None]
) -> None:
    """The disk under the run, then that of Ray's temporary folder."""
    disk(run.out, "6m")
    disk(run.temporary, "40m")
    store = run.home / "mlflow.db"
    flags = (*FLAGS, "--tracking-uri", f"sqlite:///{store}")
    assert fill_half_way(run, flags, run.out, leave=100_000) == 1, run.said
    (error,) = [line for line in run.said.splitlines() if line.startswith("error: ")]
    assert str(run.folder / "sweep.sqlite") in error
    assert "disk is full" in error or "No space left" in error

    code = fill_half_way(run, flags, run.temporary)
    errors = [line for line in run.said.splitlines() if line.startswith("error: ")][1:]
    assert (code, len(errors)) in ((1, 1), (0, 0)), run.said  # it may need no more room there
    assert all("No space left" in error for error in errors), run.said

    assert run.finish(*flags) == 0, run.said
    assert_nothing_lost(run.folder, 6, 27, store=store)


def fill_half_way(run: Run, flags: tuple[str, ...], folder: Path, leave: int = 0) -> int:
    """Start the sweep, fill the disk of `folder` when some reports are there, empty it at the end; the exit code."""
    run.allow(6)
    driver = run.start(*flags)
    assert run.await_pause(driver), run.said
    ballast = fill(folder, leave)
    run.allow(None)
    code = driver.wait(SESSION_SECONDS)
    assert "Traceback" not in run.said
    run.await_silence()
    ballast.unlink(missing_ok=True)
    return code


def test_a_write_that_finds_no_room_names_its_file(tmp_path: Path, disk: Callable[[Path, str], None]) -> None:
    from rungwise.storage import Folder
    from rungwise.trainable.storage import install

    small = tmp_path / "small"
    disk(small, "64k")
    checkpoint = small / "checkpoints" / "1" / "2-1-abc.safetensors"
    with pytest.raises(OSError, match="No space left") as caught:
        Folder(checkpoint.parent).write(checkpoint.name, bytes(100_000))
    assert caught.value.filename == str(checkpoint)
    with pytest.raises(OSError, match="No space left") as caught:
        install({"model.pt2": bytes(100_000)}, small / "model")
    assert caught.value.filename == str(small / "model" / "model.pt2")
    assert [path.name for path in small.rglob("*") if path.is_file()] == []
