"""The same name again: after Ctrl-C and SIGTERM, with more trials, in a wider space, and a fresh start."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.sweeping import SCRIPT, Run, assert_nothing_lost, identity, interrupt

from rungwise import Sweep, main
from rungwise.engine.execution.remaining_work import checkpoint_root, has_work
from rungwise.engine.experiment.command_line import parse
from rungwise.engine.experiment.experiment import resolve
from rungwise.results.analysis.answer import answer
from rungwise.results.exporters.optuna_study import studies
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import FILE, State, SweepState
from rungwise.trainable.worker.checkpoints import FOLDER

SEQUENTIAL = ("--concurrency", "1", "--trials", "3", "--epochs", "18", "--checkpoint-seconds", "0.2")
LR = "FloatDistribution(1e-3, 1e-1, log=True)"


def ends(folder: Path) -> list[Any]:
    """What is recorded of the trials that ended, with all their reports."""
    with Reader(folder) as reader:
        return [(row, reader.curves().get(row.trial)) for row in reader.trials() if row.state.ended]


def respaced(run: Run, lr: str) -> Sweep:
    """Rewrite the script with another distribution of lr; its SWEEP."""
    assert LR in SCRIPT
    text = SCRIPT.replace(LR, lr) % {"data": str(run.home / "data.npz")}
    run.script.write_text(text)
    names: dict[str, Any] = {"__name__": "tiny", "__doc__": "Does it survive?"}
    exec(compile(text, run.script, "exec"), names)
    found = names["SWEEP"]
    assert isinstance(found, Sweep)
    return found


def refused(sweep: Sweep, command: list[str]) -> int:
    """The exit code of a command that is refused before Ray starts."""
    with pytest.raises(SystemExit) as end:
        main(sweep, command)
    return int(str(end.value.code))


def test_the_same_command_goes_on_as_if_uninterrupted_and_more_trials_in_a_wider_space_extend_the_run(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run.allow(8, pause=1.0)
    driver = run.start(*SEQUENTIAL)
    assert run.await_pause(driver), run.said
    assert interrupt(driver) == 130, run.said
    run.await_silence()
    assert list(run.temporary.glob("rw-*")) == []
    assert "Traceback" not in run.said
    assert "*** SIG" not in run.said  # Ray's core prints a stack
    with Reader(run.folder) as reader:
        assert reader.state() is SweepState.INTERRUPTED
        assert State.RUNNING in {row.state for row in reader.trials()}  # to be continued by the same command
    assert run.said.count("stopping; Ctrl-C once more") == 1
    assert run.said.count("tiny: interrupted after") == 1
    assert len(re.findall(rf"resume  \S*python {run.script} --out {run.out}", run.said)) == 1
    run.allow(None)
    assert run.finish(*SEQUENTIAL) == 0, run.said
    assert_nothing_lost(run.folder, 6, 18)

    before = (run.folder / FILE).read_bytes()
    assert run.finish(*SEQUENTIAL, "--fresh") == 0, run.said
    assert (run.folder / FILE).read_bytes() == before
    assert_nothing_lost(run.out / "tiny-2", 6, 18)
    assert identity(run.folder) == identity(run.out / "tiny-2")

    first = ends(run.folder)
    more = (*SEQUENTIAL, "--trials", "4")
    command = ["--out", str(run.out), "--no-confirm", *more]
    assert refused(respaced(run, "FloatDistribution(1e-4, 1.0, log=True)"), command) == 2
    told = capsys.readouterr().err
    assert "contains a run of another definition" in told
    assert '"high": 0.1' in told.replace("\\", "")  # the difference
    assert refused(respaced(run, "FloatDistribution(1e-2, 1.0, log=True)"), [*command, "--widen"]) == 2
    must = "lr: FloatDistribution(high=1.0, log=True, low=0.01, step=None) must contain"
    assert must in capsys.readouterr().err
    wider = respaced(run, "FloatDistribution(1e-4, 1.0, log=True)")
    assert run.finish(*more, "--widen") == 0, run.said
    assert ends(run.folder)[:6] == first  # not one of them again
    assert_nothing_lost(run.folder, 8, 18)
    with Reader(run.folder) as reader:
        assert [kind for _, kind, *_ in reader.events() if kind == "widened"] == ["widened"]
        known = studies(reader)
    assert sum(len(study.trials) for study in known.values()) == 8
    assert {study.trials[-1].distributions["lr"].high for study in known.values()} == {1.0}
    fewer = ["--out", str(run.out), "--no-confirm", *SEQUENTIAL, "--trials", "1"]
    options = parse(wider, fewer)
    # Nothing is trained, and nothing is taken away.
    assert not has_work(run.folder, resolve(wider, options), checkpoint_root(options))


@pytest.mark.long
def test_a_confirmed_model_that_is_damaged_before_it_is_scored_is_one_line_that_helps(run: Run) -> None:
    flags = ("--trials", "1", "--epochs", "2", "--confirm-configs", "1", "--confirm-seeds", "2")
    assert run.finish(*flags) == 0, run.said
    with Reader(run.folder) as reader:
        chosen = reader.meta("test")["trial"]
        known = reader.checkpoints()[chosen]
    shutil.rmtree(run.folder / "model")  # so that there is something left to do
    with closing(sqlite3.connect(run.folder / FILE)) as db:
        db.execute("DELETE FROM scores")
        db.commit()
    (file,) = (run.folder / FOLDER / str(chosen)).glob(f"{max(known)}-*.safetensors")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert run.finish(*flags) == 1
    (error,) = [line for line in run.said.splitlines() if line.startswith("error: ")]
    assert "could not be scored" in error
    assert str(file) in error
    assert f"rungwise doctor --mend {run.folder}" in error
    assert "Traceback" not in run.said
    doctor = [sys.executable, "-P", "-m", "rungwise", "doctor", "--fix", str(run.folder)]
    subprocess.run(doctor, env=run.environment, check=False, capture_output=True)
    assert run.finish(*flags) == 0, run.said  # it is trained again
    with Reader(run.folder) as reader:
        assert answer(reader).split == "test"
