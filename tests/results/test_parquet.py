"""Parquet files are whole or absent, verified when read, and the same bytes for the same record."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.demo import add, attempt, begin

from rungwise.files import locked, replacing
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import RecordError, State
from rungwise.results.record.writer import Record
from rungwise.results.tables import parquet
from rungwise.results.tables.tables import tables


def bytes_of(run: Path) -> list[bytes]:
    return [(run / name).read_bytes() for name in parquet.FILES]


def test_the_files_hold_the_tables(run: Path) -> None:
    parquet.export(run)
    with Reader(run) as reader:
        both = tables(reader)
    for name, table in zip(parquet.FILES, both.by_name.values(), strict=True):
        read = parquet.read(run / name)
        assert read.schema.equals(table.schema, check_metadata=True)
        # pyarrow counts NaN != NaN, so compare what is written when it is read again
        assert str(read.to_pylist()) == str(table.to_pylist())


def test_the_files_are_zstd_with_units(run: Path) -> None:
    parquet.export(run)
    with pq.ParquetFile(run / parquet.REPORTS) as file:
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"
        assert file.schema_arrow.field("seconds").metadata[b"unit"] == b"s"


def test_exporting_twice_gives_the_same_bytes(run: Path) -> None:
    parquet.export(run)
    first = bytes_of(run)
    parquet.export(run)
    assert bytes_of(run) == first
    assert not list(run.glob(".*.tmp"))


def test_a_flipped_bit_is_refused_wherever_a_page_lies(run: Path) -> None:
    parquet.export(run)
    path = run / parquet.REPORTS
    good = path.read_bytes()
    with pq.ParquetFile(path) as file:
        columns = [file.metadata.row_group(0).column(i) for i in range(file.metadata.num_columns)]
    for column in columns:
        end = (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size
        broken = bytearray(good)
        broken[end - 1] ^= 1  # the last byte of the column's last page
        path.write_bytes(broken)
        with pytest.raises(parquet.ParquetError, match=r"reports\.parquet must be a whole .*export"):
            parquet.read(path)


@pytest.mark.parametrize("length", [0, 4, 1000])
def test_a_torn_file_is_refused(run: Path, length: int) -> None:
    parquet.export(run)
    os.truncate(run / parquet.TRIALS, length)
    with pytest.raises(parquet.ParquetError, match=r"trials\.parquet"):
        parquet.read(run / parquet.TRIALS)
    parquet.export(run)
    assert parquet.read(run / parquet.TRIALS).num_rows == 8


def test_what_a_killed_export_left_is_cleaned_by_the_next(run: Path) -> None:
    leftover = run / f".{parquet.TRIALS}.tmp"
    leftover.write_bytes(b"half a file" * 100_000)
    (run / ".notes.tmp").write_text("not ours")
    parquet.export(run)
    assert not leftover.exists()
    assert (run / ".notes.tmp").exists()
    assert parquet.read(run / parquet.TRIALS).num_rows == 8


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(TypeError, match="bytes-like"), replacing(path) as file:
        file.write("no bytes")  # type: ignore[arg-type]
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("a", b"old")]


def test_a_full_disk_is_one_clear_error(run: Path) -> None:
    program = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from rungwise.results.record.reader import Reader; from rungwise.results.tables import parquet\n"
        "run = Path(sys.argv[1]); reader = Reader(run); reader.trials()  # SQLite's own files are there\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: parquet.export(run)\n"
        "except parquet.ParquetError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(run)], capture_output=True, text=True, check=True)
    assert "trials.parquet must be writable, but" in done.stdout
    assert "export it again" in done.stdout
    assert not list(run.glob("*.parquet")) + list(run.glob(".*.tmp"))


def test_two_writers_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "a"

    def write(text: bytes) -> None:
        for _ in range(50):
            with replacing(path) as file:
                file.write(text)

    threads = [threading.Thread(target=write, args=(bytes([65 + i]) * 5000,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(path.read_bytes())) == 1
    assert len(path.read_bytes()) == 5000
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_lock_is_held_alone(tmp_path: Path) -> None:
    entered = threading.Event()

    def enter() -> None:
        with locked(tmp_path / "lock"):
            entered.set()

    with locked(tmp_path / "lock"):
        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.1)
    thread.join()
    assert entered.is_set()


def test_an_export_while_the_record_is_written_is_one_moment_of_it(out: Path) -> None:
    record, _ = begin(out / "demo")
    with record:
        for trial in range(1, 30):
            add(record, trial)
            attempt(record, trial, 0.5, 0.6)
            if trial % 10 == 0:
                parquet.export(out / "demo")
                assert parquet.read(out / "demo" / parquet.TRIALS).num_rows == trial
            record.end_trial(trial, State.COMPLETED)
    parquet.export(out / "demo")
    assert parquet.read(out / "demo" / parquet.REPORTS).num_rows == 58


def test_a_snapshot_does_not_move_while_the_driver_writes(out: Path) -> None:
    record, _ = begin(out / "demo")
    with record, Reader(out / "demo") as reader:
        add(record, 1)
        attempt(record, 1, 0.5)
        with reader.snapshot():
            assert len(list(reader.reports())) == 1
            attempt(record, 1, 0.5)
            assert len(list(reader.reports())) == 1
            assert reader.trials()[0].attempts == 1
        assert len(list(reader.reports())) == 2


def test_tables_of_several_runs_are_joined_and_a_column_of_a_later_run_is_kept(out: Path) -> None:
    for name, extra in (("a", {}), ("b", {"dropout": 0.5})):
        record, _ = begin(out / name)
        with record:
            add(record, 1, **extra)
            attempt(record, 1, 0.5)
        parquet.export(out / name)
    for order in (("a", "b"), ("b", "a")):
        tables = [parquet.read(out / name / parquet.TRIALS) for name in order]
        table = pa.concat_tables(tables, promote_options="default")
        found = dict(zip(order, table["params_dropout"].to_pylist(), strict=True))
        assert found == {"a": None, "b": 0.5}
        assert table.schema.field("params_lr").metadata[b"unit"] == b"step size"


def test_a_folder_without_a_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"contains sweep\.sqlite"):
        parquet.export(tmp_path)


def test_no_driver_is_needed_to_read(run: Path) -> None:
    with Record(run):  # a driver that continues the run
        parquet.export(run)
    assert parquet.read(run / parquet.TRIALS).num_rows == 8
