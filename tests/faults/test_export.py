"""Exports that are killed, or whose n-th file operation fails: the old file or the new one, whole, never less."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.demo import add, attempt, begin, metrics
from support.sweeping import export_for_ever, wait_until

from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.results.record.writer import Record
from rungwise.results.tables import parquet
from rungwise.results.tables.tables import tables


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of 40 trials, exported."""
    record, _ = begin(tmp_path / "demo")
    with record:
        for trial in range(1, 41):
            grow(record, trial)
    parquet.export(tmp_path / "demo")
    return tmp_path / "demo"


def grow(record: Record, trial: int) -> None:
    add(record, trial)
    number = attempt(record, trial)
    for step in range(1, 101):
        record.add_report(trial, number, step, metrics(float(step), random.random()))
    record.end_trial(trial, State.COMPLETED, reason="reached 100 epochs")


def made(folder: Path) -> dict[str, bytes]:
    """What the files must hold now."""
    with Reader(folder) as reader:
        both = tables(reader)
    return {f"{name}.parquet": parquet.content(table) for name, table in both.by_name.items()}


def found(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in parquet.FILES}


@pytest.mark.parametrize(("kills", "inside"), [(6, 3), pytest.param(60, 5, marks=pytest.mark.long)])
def test_an_export_killed_in_the_middle_leaves_old_or_new_whole_files(folder: Path, kills: int, inside: int) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["rungwise.results.tables.parquet", "pandas", "pydantic"]
    )  # each process imports these
    draw = random.Random(0)
    before, struck = found(folder), 0
    for kill in range(90):  # at least so often, and until enough of them were in the middle of a file
        if kill >= kills and struck >= inside:
            break
        with Record(folder) as record:
            grow(record, 41 + kill)
        after = made(folder)
        begun = context.Event()
        process = context.Process(target=export_for_ever, args=(folder, begun))
        process.start()
        assert process.pid is not None
        assert begun.wait(600)  # a busy machine takes its time to start a process
        if kill % 2:
            time.sleep(draw.uniform(0.0, 0.2))
        else:
            wait_until(lambda: any(folder.glob(".*.tmp")), pause=0.0)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        struck += any((folder / f".{name}.tmp").exists() for name in parquet.FILES)
        now = found(folder)
        for name in now:
            assert now[name] in (before[name], after[name]), f"kill {kill}: {name} is neither old nor new"
        before = now
    assert struck >= inside  # so many were in the middle of a file
    parquet.export(folder)
    assert found(folder) == made(folder)
    assert [path.name for path in folder.iterdir() if path.name.endswith(".tmp")] == []


CALLS = ["open", "fsync", "replace", "close"]


@pytest.mark.parametrize("call", CALLS)
def test_whichever_file_operation_of_an_export_fails_the_files_are_old_or_new_and_it_says_which(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """For every n: the n-th call of os.open, os.fsync, os.replace and os.close fails as on a broken disk."""
    with Record(folder) as record:
        grow(record, 41)
    before, after = found(folder), made(folder)
    failures = 0
    for n in range(1, 20):
        for name, content in before.items():
            (folder / name).write_bytes(content)
        calls: list[int] = []
        with monkeypatch.context() as patched:
            patched.setattr(os, call, failing(getattr(os, call), n, calls))
            why = refusal(folder)
        now = found(folder)
        assert all(now[name] in (before[name], after[name]) for name in now)
        if len(calls) < n:
            assert why is None
            assert now == after
            break
        failures += why is not None
        parquet.export(folder)  # the disk is well again
        assert found(folder) == after
    else:
        pytest.fail(f"more than 19 calls of os.{call}")
    assert failures >= 2


def failing(real: Callable[..., Any], n: int, calls: list[int]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == n:
            if real is os.close:
                real(*arguments)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(*arguments, **named)

    return call


def refusal(folder: Path) -> str | None:
    try:
        parquet.export(folder)
    except parquet.ParquetError as error:
        return str(error)
    return None


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """small_files(bytes): no file of this process may grow beyond; the kernel then says EFBIG, as it says ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size if size else before[0], before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_wherever_the_disk_is_full_the_old_files_stay_and_the_message_names_the_one(
    folder: Path, small_files: Callable[[int], None]
) -> None:
    before = found(folder)
    with Record(folder) as record:
        grow(record, 41)
    after = made(folder)
    smallest = min(map(len, after.values()))
    sizes = [*range(512, smallest, smallest // 12), smallest - 1]
    with Reader(folder):  # SQLite's index of the log exists, and needs no room
        for size in sizes:
            small_files(size)
            why = refusal(folder)
            small_files(0)
            assert found(folder) == before
            assert why is not None
            assert any(str(folder / name) in why for name in parquet.FILES)
    parquet.export(folder)
    assert found(folder) == after
