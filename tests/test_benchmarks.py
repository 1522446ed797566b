"""The benchmarks run, and count what was trained: a figure in docs/internals/performance.md is only as good as that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.long  # 20 to 40 s
def test_ours_and_the_experts_search_are_counted_alike(tmp_path: Path) -> None:
    out = tmp_path / "peers.parquet"
    asked = ["--trials", "2", "--epochs", "1", "--repeats", "1", "--only", "expert", "ours", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "benchmarks" / "peers.py"), *asked],
        capture_output=True, text=True, timeout=3600, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {row["contestant"]: row for row in pq.read_table(out).to_pylist()}
    assert set(rows) == {"expert", "ours"}
    for row in rows.values():
        assert (row["trials"], row["epochs"]) == (2, 2)
        assert 0 < row["first"] < row["wall"]
        assert 0.1 < row["best"] <= 1
        assert row["memory"] > 100
    assert "ours / theirs" in done.stdout


def lines_of(*command: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", *command], capture_output=True, text=True, timeout=3600, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.long  # 20 to 60 s
def test_packs_are_timed_against_the_loop_by_autograd() -> None:
    asked = ["--sizes", "1", "4", "--repeats", "1", "--precision", "fp32", "--processes", "1"]
    lines = lines_of(str(ROOT / "benchmarks" / "pack.py"), *asked)
    assert [line.split(",")[0] for line in lines[2:]] == ["autograd", "autograd", "pack of 1", "pack of 4"]


@pytest.mark.long  # 30 to 90 s
def test_the_table_of_a_gpu_is_printed_wherever_it_is() -> None:
    asked = ["--sizes", "2", "--repeats", "1", "--precision", "fp32", "--processes", "2"]
    lines = lines_of(str(ROOT / "benchmarks" / "gpu.py"), *asked)
    assert [line.split("  ")[0] for line in lines[2:]] == [
        "autograd, fp32, 1 process(es)", "pack of 2, fp32, 1 process(es)", "autograd, fp32, 2 process(es)",
        "pack of 1, fp32, 2 process(es)",
    ]  # fmt: skip


@pytest.mark.long  # 15 to 40 s
def test_a_start_is_timed_with_and_without_what_it_leaves_out() -> None:
    rows = ["as it is", "collecting garbage"]
    lines = lines_of(str(ROOT / "benchmarks" / "start.py"), "--repeats", "1", "--only", *rows)
    assert [line[:28].strip() for line in lines[1:]] == rows
