"""Attempt fencing: what a machine says or writes that was cut off and came back changes nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from support.loop import Loop

from rungwise import FloatDistribution, Sweep
from rungwise.results.record.reader import Reader
from rungwise.storage import Folder
from rungwise.trainable.messages import TrialResult
from rungwise.trainable.worker.checkpoints import Checkpoints, owner


def sweep() -> Sweep:
    return Sweep("fenced", {"lr": FloatDistribution(1e-3, 1e-1, log=True)}, fixed={"hidden": (4,)})


def names(root: Path) -> list[str]:
    return [name for name in Folder(root / "1").names() if name.endswith("safetensors")]


def test_an_attempt_deletes_its_own_files_and_those_it_will_not_go_back_to(tmp_path: Path) -> None:
    first, second = Checkpoints(tmp_path, 1, 1), Checkpoints(tmp_path, 1, 2)
    for step in (1, 2, 3):
        first.save(step, b"1")
    assert names(tmp_path) == ["2-1.safetensors", "3-1.safetensors"]
    second.save(4, b"2")
    assert names(tmp_path) == ["2-1.safetensors", "3-1.safetensors", "4-2.safetensors"]  # one is not enough
    second.save(5, b"2")
    assert names(tmp_path) == ["4-2.safetensors", "5-2.safetensors"]
    for step in (4, 5, 6, 7):  # the first one's machine is back, and goes on
        first.save(step, b"1")
    assert {"4-2.safetensors", "5-2.safetensors"} <= set(names(tmp_path))
    assert Folder(tmp_path / "1").read("5-2.safetensors") == b"2"
    assert str(second.file(5)).endswith("/5-2.safetensors")


@pytest.mark.parametrize("uri", [False, True])
def test_one_listing_says_which_trials_left_checkpoints(tmp_path: Path, uri: bool) -> None:
    root = tmp_path.as_uri() + "/checkpoints" if uri else str(tmp_path / "checkpoints")
    assert Folder(root).folders() == []
    for trial in (2, 10):
        Path(tmp_path, "checkpoints", str(trial)).mkdir(parents=True)
    (tmp_path / "checkpoints" / "of-run").touch()
    assert Folder(root).folders() == ["10", "2"]


def test_files_of_another_trial_of_the_same_number_hide_and_delete_none_of_ours(tmp_path: Path) -> None:
    """A head is lost and its mirror some seconds old: number 1 is dealt again, to other hyperparameters."""
    theirs = Checkpoints(tmp_path, 1, 1, owner("run", {"lr": 0.01}))
    ours = Checkpoints(tmp_path, 1, 1, owner("run", {"lr": 0.02}))
    for step in (5, 6):
        theirs.save(step, b"theirs")
    assert ours.saved() == []
    known = [ours.save(step, b"ours") for step in (2, 3, 4)]
    assert ours.saved() == known[-2:]
    assert len(theirs.saved()) == 2
    assert owner("run", {"lr": 0.02}) != owner("another run", {"lr": 0.02})


def test_files_that_an_earlier_version_wrote_count_while_the_record_knows_them(tmp_path: Path) -> None:
    Checkpoints(tmp_path, 1, 2).save(3, b"before")
    ours = Checkpoints(tmp_path, 1, 3, owner("run", {}))
    assert str(ours.file(3)).endswith("/3-2.safetensors")  # asked for by a step of the record
    assert ours.saved() == []
    assert [file.stem for file in ours._earlier({3: "its digest"})] == ["3-2"]
    assert ours._earlier({}) == []


def test_a_report_of_an_attempt_that_was_given_up_is_refused(tmp_path: Path) -> None:
    loop = Loop(tmp_path, sweep())
    trial = loop.deal()
    assert not isinstance(trial, str)
    assert trial is not None
    loop.report(trial, 0.5, 1, attempt=1)
    loop.recorder.on_trial_recover(0, [], trial)
    loop.recorder.on_trial_start(0, [], trial)
    assert trial.config["attempt"] == 2
    loop.report(trial, 0.9, 2, attempt=1)
    loop.report(trial, 0.6, 2, attempt=2)
    loop.record.commit()
    with Reader(tmp_path) as reader:
        told = [(row.attempt, row.step, row.metrics["val_accuracy"]) for row in reader.reports()]
        refused = [data for _, kind, _, data in reader.events() if kind == "report refused"]
    assert told == [(1, 1, 0.5), (2, 2, 0.6)]
    assert refused == [{"attempt": 1, "step": 2}]


def test_a_machine_that_does_not_reach_the_checkpoints_ends_the_sweep_and_not_the_trial(tmp_path: Path) -> None:
    from rungwise.engine.execution.recorder import Unreachable

    loop = Loop(tmp_path, sweep())
    trial = loop.deal()
    with pytest.raises(
        Unreachable, match=r"10\.0\.0\.9, where trial 1 was to run, does not: why; name a shared folder"
    ):
        loop.tell(trial, TrialResult(1, unreachable="why"))
    assert loop.rows()[1].state == "RUNNING"


@pytest.mark.parametrize(("wanted", "seen"), [("of-me", None), ("of-you", "not the driver's folder")])
def test_a_worker_looks_for_the_drivers_mark_before_its_first_trial(
    tmp_path: Path, wanted: str, seen: str | None
) -> None:
    from rungwise.trainable.worker.worker import TrialWorker

    Folder(tmp_path).write("of-me", b"")
    worker = SimpleNamespace(_mark=wanted, _root=str(tmp_path))
    found = TrialWorker._unreachable(worker)  # type: ignore[arg-type]
    assert found is None if seen is None else seen in str(found)


@pytest.mark.parametrize(("gpus", "device", "times"), [(True, "cpu", 1), (True, "cuda:0", 0), (False, "cpu", 0)])
def test_a_gpu_that_torch_does_not_see_is_told_once(tmp_path: Path, gpus: bool, device: str, times: int) -> None:
    loop = Loop(tmp_path, sweep(), trials=2)
    loop.recorder._gpus = gpus
    for trial in (loop.deal(), loop.deal()):
        loop.report(trial, 0.5, 1, device=device, hostname="far")
    assert loop.notes.getvalue().count("on far torch sees none: they train on the CPU") == times
