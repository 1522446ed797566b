"""The doctor: each kind of damage is said in one line, and fixed when the record allows it."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from support.confirmed import keep_model, two_arms
from support.demo import Rows

from rungwise.results.cli.main import main
from rungwise.results.exporters.mlflow import export
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import FILE
from rungwise.results.record.writer import Record
from rungwise.results.tables import parquet


@pytest.fixture
def well(run: Path) -> Path:
    """The demo run with all its views."""
    parquet.export(run)
    export(run)
    return run


def doctor(run: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, list[str]]:
    code = main(["doctor", str(run), *flags])
    return code, capsys.readouterr().out.splitlines()


def assert_fixed(run: Path, capsys: pytest.CaptureFixture[str], *says: str) -> None:
    """Said with exit code 1, fixed with exit code 0, and gone."""
    code, lines = doctor(run, capsys)
    assert code == 1
    for part in says:
        assert any(part in line and line.endswith("(to fix it: --fix)") for line in lines), lines
    assert len(lines) == len(says), lines
    code, lines = doctor(run, capsys, "--fix")
    assert code == 0, lines
    assert all(line.endswith("(fixed)") for line in lines[:-1])
    assert doctor(run, capsys) == (0, [f"{run}: no problems found"])


def test_a_healthy_run_is_said_to_be_and_left_alone(well: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in well.rglob("*.parquet")}
    assert doctor(well, capsys) == (0, [f"{well}: no problems found"])
    assert doctor(well, capsys, "--fix") == (0, [f"{well}: no problems found"])
    assert {path: path.read_bytes() for path in well.rglob("*.parquet")} == before


def test_a_flipped_bit_in_a_table_is_noticed_and_the_table_made_again(
    well: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = well / parquet.REPORTS
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 3] ^= 4
    path.write_bytes(damaged)
    assert_fixed(well, capsys, f"{path} is not what the record says")
    assert path.read_bytes() == whole


def test_a_missing_table_is_made_again(well: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (well / parquet.TRIALS).unlink()
    assert_fixed(well, capsys, f"{well / parquet.TRIALS} is missing")


def test_a_table_that_lags_behind_the_record_is_brought_up_to_it(
    well: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Record(well) as record:
        record.place(1, "elsewhere", "cuda")
    assert_fixed(well, capsys, f"{well / parquet.TRIALS} is not what the record says")


def test_what_mlflow_lost_is_exported_again_and_what_it_has_twice_is_removed(
    well: Path, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    before = rows("SELECT key, value, step FROM metrics ORDER BY 1, 3, 2")
    of = "(SELECT run_uuid FROM tags WHERE key = 'rungwise.trial' AND value = ?)"
    with closing(sqlite3.connect(well.parent / "mlflow.db")) as db:
        db.execute(f"DELETE FROM metrics WHERE step = 2 AND run_uuid = {of}", ("1",))
        db.execute(f"UPDATE runs SET status = 'RUNNING' WHERE run_uuid = {of}", ("2",))
        db.execute(f"UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = {of}", ("6",))
        db.commit()
    assert_fixed(
        well,
        capsys,
        "trial 1 lacks 1 of 4 reports in sqlite:///",
        "trial 2 is RUNNING and must be KILLED in sqlite:///",
        "of 8 trials 1 missing, the first is 6 in sqlite:///",
    )
    alive = "SELECT key, value, step FROM metrics JOIN runs USING (run_uuid) WHERE lifecycle_stage = 'active'"
    assert rows(f"{alive} ORDER BY 1, 3, 2") == before


def test_a_store_that_is_gone_is_made_again(
    well: Path, empty_store: Path, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    (well.parent / "mlflow.db").write_bytes(empty_store.read_bytes())
    assert_fixed(well, capsys, "the sweep's run is missing and so are its trials in sqlite:///")
    assert rows("SELECT count(*) FROM tags WHERE key = 'rungwise.trial'") == [(7,)]


def test_a_store_that_cannot_be_reached_is_said_and_remains(well: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags in ((), ("--fix",)):
        code, lines = doctor(well, capsys, *flags, "--tracking-uri", "http://ada:sesame@127.0.0.1:9")
        assert code == 1
        assert len(lines) == 1
        assert lines[0].startswith(
            "mlflow      MLflow at http://***@127.0.0.1:9 must accept the runs, but it cannot be"
        )


def test_bad_checkpoints_are_dropped_and_good_ones_kept(well: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def checkpoint(trial: int, step: int, content: bytes) -> Path:
        path = well / "checkpoints" / str(trial) / f"{step}-1.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.with_suffix(".sha256").write_text(hashlib.sha256(content).hexdigest())
        return path

    good, bad, left = checkpoint(7, 1, b"good"), checkpoint(7, 2, b"bad"), checkpoint(1, 4, b"of an ended trial")
    with Record(well) as record:
        record.add_checkpoint(7, 1, hashlib.sha256(b"good").hexdigest())
        record.add_checkpoint(7, 2, hashlib.sha256(b"bad").hexdigest())
    bad.write_bytes(b"Bad")
    assert_fixed(
        well, capsys, f"{bad} is damaged: its SHA-256 is not the record's", f"{left.parent} belongs to no trial"
    )
    assert good.read_bytes() == b"good"
    assert not bad.exists()
    assert not left.exists()


def test_a_damaged_record_cannot_be_fixed_and_nothing_is_made_from_it(
    well: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Record(well):
        pass  # all in one file
    with closing(sqlite3.connect(well / FILE)) as db:
        db.execute("UPDATE reports SET val_accuracy = 1.0 WHERE seq = 1")
        db.commit()
    before = (well / parquet.REPORTS).read_bytes()
    for flags in ((), ("--fix",)):
        code, lines = doctor(well, capsys, *flags)
        assert code == 1
        assert len(lines) == 1
        assert "1 row(s) of reports differ from what was written, the first is row 1" in lines[0]
    assert main(["export", str(well)]) == 2
    assert "differ from what was written" in capsys.readouterr().err
    assert (well / parquet.REPORTS).read_bytes() == before


def test_the_flags_old_name_fixes_and_says_the_new_one(well: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (well / parquet.TRIALS).unlink()
    assert main(["doctor", "--mend", str(well)]) == 0
    said = capsys.readouterr()
    assert said.err == "note: --mend is now --fix; the old name will be removed in version 0.3\n"
    assert said.out.endswith("is missing (fixed)\n" + f"{well}: no problems found\n")
    assert (well / parquet.TRIALS).is_file()


def test_a_run_at_work_is_not_fixed(well: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with Record(well) as record:
        record.start_session({"host": socket.gethostname(), "pid": os.getpid()})
        (well / parquet.TRIALS).unlink()
        code, lines = doctor(well, capsys, "--fix")
    assert code == 1
    assert len(lines) == 1
    assert "a driver is at work" in lines[0]
    assert not (well / parquet.TRIALS).exists()


def test_a_folder_without_a_record_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(tmp_path)]) == 2
    assert "has none" in capsys.readouterr().err


def test_what_is_confirmed_and_not_scored_or_not_kept_is_said_with_the_way_out(
    tmp_path: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = two_arms(tmp_path / "run")
    parquet.export(run)
    export(run)
    code, (line,) = doctor(run, capsys)
    assert code == 1
    assert line.endswith("contains no model, but the answer's is that of trial 16: give the sweep's command again")
    folder = keep_model(run, exported)
    parquet.export(run)
    export(run)
    assert doctor(run, capsys) == (0, [f"{run}: no problems found"])
    config = folder / "config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps(content | {"about": {"trial": 15}}))
    code, (line,) = doctor(run, capsys, "--fix")
    assert code == 1
    assert (
        "contains the model of trial 15, but the answer's is that of trial 16: give the sweep's command again" in line
    )
    config.write_text(json.dumps(content))
    (folder / "weights.safetensors").write_bytes(b"torn")
    code, (line,) = doctor(run, capsys)
    assert "weights.safetensors must have SHA-256" in line
    assert line.endswith("(to fix it: --fix)")
    config.write_text(json.dumps(content | {"config": content["config"] | {"lr": 0.9}}))
    code, lines = doctor(run, capsys)
    assert "contains the model of another trial 16, with another lr" in lines[1]
    with closing(sqlite3.connect(run / FILE)) as db:
        db.execute("DELETE FROM scores WHERE trial = (SELECT max(trial) FROM scores)")
        db.commit()
    parquet.export(run)
    _, lines = doctor(run, capsys)
    assert any("is not scored on the test split: give the sweep's command again" in line for line in lines)
    with Reader(run) as reader, Record(run) as record:
        own = replace(reader.definition(), training={"kind": "objective", "name": "objective", "test": False})
        record.set_meta("definition", own.to_json())
    _, lines = doctor(run, capsys)
    assert not any("is not scored on the test split" in line for line in lines), "it has no function test"


def test_the_doctor_removes_no_confirmed_model_whose_row_is_absent(
    tmp_path: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = two_arms(tmp_path / "run")
    keep_model(run, exported)
    parquet.export(run)
    export(run)
    for trial in (1, 16):  # of the search; confirmed
        (run / "checkpoints" / str(trial)).mkdir(parents=True)
    code, lines = doctor(run, capsys, "--fix")
    assert (code, len(lines)) == (0, 2), lines
    assert "checkpoints/1 belongs to no trial in flight" in lines[0]
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["16"]
