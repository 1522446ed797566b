"""Checkpoints of a function: kept whole or not at all, restored after its process died, what `test` is given."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.confirming import Bench
from support.own import Trials, losses

from rungwise import FloatDistribution, Sweep
from rungwise.results.cli import doctor
from rungwise.results.exporters.mirror import Mirror
from rungwise.results.model.model_folder import described
from rungwise.trainable.messages import StudyKey, TrialEnd
from rungwise.trainable.own import archive
from rungwise.trainable.own.function import FunctionTraining
from rungwise.trainable.own.objective import ObjectiveTraining
from rungwise.trainable.own.trial import TestProcess, Trial
from rungwise.trainable.own.worker_data import OwnData
from rungwise.trainable.resources import ONE_CORE
from rungwise.trainable.storage import install

STUDIES = {1: StudyKey("all")}

FOUR = {"seed": 7, "epochs": 4, "reports_per_epoch": 1}


def saves(config, trial):
    """Counts; the number is its state."""
    number = json.loads((trial.checkpoint / "deep/state.json").read_text()) if trial.checkpoint else 0
    assert number == trial.reported
    for epoch in range(number, trial.epochs):
        yield {"loss": float(epoch + 1)}
        if trial.save_due:
            with trial.save() as folder:
                (folder / "deep").mkdir()
                (folder / "deep/state.json").write_text(json.dumps(epoch + 1))


def saves_by_calls(config, trial):
    for report in saves(config, trial):
        trial.report(report)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "1").glob("*.tar"))


@pytest.fixture(params=[saves, saves_by_calls])
def killed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder of checkpoints of a trial whose process died after its second report's checkpoint was kept."""
    trials = Trials(request.param, tmp_path)
    trials.begin(FOUR)
    results = trials.results()
    first, second, third = (next(results) for _ in range(3))
    assert first.checkpoint is None  # it is taken after the report was judged
    assert [each.checkpoint.step for each in (second, third) if each.checkpoint] == [1, 2]
    return tmp_path


def test_a_trial_continues_from_its_newest_checkpoint_and_sends_again_what_the_record_lacks(killed: Path) -> None:
    trials = Trials(saves, killed)
    trials.begin(FOUR, attempt=2, reported=2)
    results = trials.results()
    third = next(results)
    assert (third.step, third.objective, third.remembered, third.restored) == (3, 3.0, False, 2)
    results = Trials(saves, killed).run(FOUR, attempt=3, reported=0)
    assert losses(results) == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    assert [result.remembered for result in results] == [True, True, False, False]
    assert results[0].restored == 2
    assert results[-1].state is TrialEnd.COMPLETED


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes().replace(b"deep", b"keep")),
        lambda file: file.unlink(),
        lambda file: file.with_suffix(".sha256").write_text("0" * 64),
    ],
    ids=["cut", "empty", "altered", "gone", "digest"],
)
def test_a_damaged_checkpoint_is_refused_with_its_reason_and_the_one_before_is_used(damage: Any, killed: Path) -> None:
    damage(files(killed)[-1])
    results = Trials(saves, killed).run(FOUR, attempt=2)
    assert losses(results) == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    assert results[0].restored == 1
    for reason in results[0].refused:
        assert reason.startswith(("checkpoint ", "a checkpoint must be readable"))


def test_a_trial_without_an_intact_checkpoint_starts_again(killed: Path) -> None:
    for file in files(killed):
        file.write_bytes(b"torn")
    results = Trials(saves, killed).run(FOUR, attempt=2)
    assert losses(results) == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    assert results[0].restored is None
    assert len(results[0].refused) == 2


def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "file.tar", "w") as forged:
        link = tarfile.TarInfo("files/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        forged.addfile(link)
    digest = hashlib.sha256((tmp_path / "file.tar").read_bytes()).hexdigest()
    with pytest.raises(archive.CheckpointError, match="must be whole"):
        archive.unpack(str(tmp_path / "file.tar"), digest, tmp_path / "out")


def test_links_in_a_saved_folder_lead_to_the_same_content_after_it_was_restored(tmp_path: Path) -> None:
    inside, elsewhere = tmp_path / "inside", tmp_path / "elsewhere"
    (inside / "deep").mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "vocabulary").write_text("words")
    (inside / "deep/epoch-1").write_text("weights")
    (inside / "relative").symlink_to("deep/epoch-1")
    (inside / "deep/absolute").symlink_to(inside / "deep/epoch-1")  # as `ln -s "$PWD/epoch-1" last` makes it
    (inside / "deep/outside").symlink_to(elsewhere / "vocabulary")
    (inside / "folder").symlink_to(elsewhere)
    (inside / "nowhere").symlink_to(tmp_path / "nowhere")
    (inside / "loop").symlink_to(inside / "loop")
    archive.pack(archive.Snapshot(1, [], inside), tmp_path / "file.tar")
    shutil.rmtree(inside)
    shutil.rmtree(elsewhere)
    digest = hashlib.sha256((tmp_path / "file.tar").read_bytes()).hexdigest()
    restored = archive.unpack(str(tmp_path / "file.tar"), digest, tmp_path / "out").folder
    assert restored is not None
    found = {path.relative_to(restored).as_posix(): path.read_text() for path in restored.rglob("*") if path.is_file()}
    weights = dict.fromkeys(["deep/epoch-1", "deep/absolute", "relative"], "weights")
    assert found == {**weights, "deep/outside": "words", "folder/vocabulary": "words"}
    assert (restored / "relative").is_symlink()


def test_subfolders_and_a_config_json_that_the_function_saves_are_in_the_model(tmp_path: Path) -> None:
    (tmp_path / "saved/deep").mkdir(parents=True)
    (tmp_path / "saved/config.json").write_text("theirs")  # as `save_pretrained` of transformers names it
    (tmp_path / "saved/deep/weights").write_text("weights")
    archive.pack(archive.Snapshot(1, [], tmp_path / "saved"), tmp_path / "file.tar")
    file = (str(tmp_path / "file.tar"), hashlib.sha256((tmp_path / "file.tar").read_bytes()).hexdigest())
    saved = FunctionTraining(OwnData(), "loss", None, saves).export(file, FOUR, {"trial": 1}, None, ONE_CORE)
    install(saved.files, tmp_path / "model")
    assert described(tmp_path / "model")["sha256"].keys() == {"files/config.json", "files/deep/weights"}
    assert (tmp_path / "model/files/config.json").read_text() == "theirs"
    assert (tmp_path / "model/files/deep/weights").read_text() == "weights"


def test_a_save_that_raises_keeps_the_checkpoint_before_and_fails_the_trial(tmp_path: Path) -> None:
    def train(config, trial):
        yield {"loss": 1.0}
        with trial.save() as folder:
            (folder / "whole").touch()
        yield {"loss": 1.0}
        with trial.save() as folder:
            (folder / "half").touch()
            raise ValueError("cannot be dumped")

    *_, last = Trials(train, tmp_path).run()
    assert last.state is TrialEnd.FAILED
    assert last.failure is not None
    assert "cannot be dumped" in last.failure.message
    assert [file.name.partition("-")[0] for file in files(tmp_path)] == ["1"]


@pytest.mark.parametrize("phase", ["search", "confirm"])
def test_save_is_due_by_time_and_after_the_last_report_of_a_confirmed_trial(phase: str, tmp_path: Path) -> None:
    due = []

    def train(config, trial):
        for _ in range(trial.epochs):
            yield {"loss": 1.0}
            due.append(trial.save_due)

    *_, last = Trials(train, tmp_path / "late", checkpoint_seconds=1e9).run(phase=phase)
    assert due == [False, False, phase == "confirm"]
    assert (last.checkpoint is not None) == (phase == "confirm")  # what `test` is given, without files here
    due.clear()
    Trials(train, tmp_path / "often", checkpoint_seconds=0.0).run(phase=phase)
    assert due == [True, True, True]


@pytest.mark.parametrize("train", [saves, saves_by_calls])
def test_what_a_confirmed_trial_saves_after_its_last_report_is_what_test_is_given(train: Any, tmp_path: Path) -> None:
    given = []

    def test(config, trial):
        state = json.loads((trial.checkpoint / "deep/state.json").read_text())
        given.append((state, trial.phase, trial.arm, config["lr"]))
        return {"loss": 0.5}

    *_, last = Trials(train, tmp_path, checkpoint_seconds=1e9).run({**FOUR, "lr": 0.1}, phase="confirm")
    assert last.checkpoint is not None
    (file,) = files(tmp_path)
    training = FunctionTraining(OwnData(), "loss", test, train)
    kept, config = (str(file), last.checkpoint.sha256), {**FOUR, "lr": 0.1}
    found = training.score({1: kept}, {1: config}, STUDIES, None, ONE_CORE)
    assert found.scores == {1: {"loss": 0.5}}
    assert given == [(4, "test", "all", 0.1)]
    saved = training.export(kept, config, {"trial": 1}, None, ONE_CORE)
    assert saved.files["deep/state.json"] == b"4"


@pytest.mark.parametrize("reports", [1, 4])
def test_a_confirmed_trial_that_returned_early_and_saved_nothing_is_named_as_the_reason(
    reports: int, tmp_path: Path
) -> None:
    def train(config, trial):
        for _ in range(reports):
            yield {"loss": 1.0}

    def test(config, trial):
        return {"loss": len((trial.checkpoint / "model").read_bytes())}

    *_, last = Trials(train, tmp_path).run(FOUR, phase="confirm")
    assert last.checkpoint is not None
    (file,) = files(tmp_path)
    training = FunctionTraining(OwnData(), "loss", test, train)
    given = {1: (str(file), last.checkpoint.sha256)}, {1: FOUR}, STUDIES, None, ONE_CORE
    if reports == FOUR["epochs"]:  # that it saves nothing is a fault of the script at any length
        with pytest.raises(TypeError):
            training.score(*given)
        return
    assert training.score(*given).unfit[1].startswith("test raised TypeError: unsupported operand")
    assert "save whenever you return early" in training.unfit_model(1)


def test_an_error_of_test_on_an_objective_which_saves_nothing_is_its_own(tmp_path: Path) -> None:
    def test(config, trial):
        raise ValueError("of its own")

    archive.pack(archive.Snapshot(1), file := tmp_path / "file.tar")
    kept = str(file), hashlib.sha256(file.read_bytes()).hexdigest()
    training = ObjectiveTraining(OwnData(), "loss", test, lambda trial: 1.0)
    with pytest.raises(ValueError, match="of its own"):
        training.score({1: kept}, {1: FOUR}, STUDIES, None, ONE_CORE)


def test_what_test_saves_is_the_model_in_place_of_what_train_saved(tmp_path: Path) -> None:
    def test(config, trial):
        for part in ("a draft", "the model"):
            with trial.save() as folder:
                (folder / "deep").mkdir()
                (folder / "deep/.model.txt").write_text(
                    f"{part} of {(trial.checkpoint / 'deep/state.json').read_text()}"
                )
        with pytest.raises(RuntimeError, match="returns its scores"):
            trial.report(loss=1.0)
        return {"loss": config.lr}

    sweep = Sweep(
        name="own", train=saves, test=test, metric="loss", mode="min", scheduler="none", trials=1, epochs=4,
        space={"lr": FloatDistribution(0.1, 0.2)},
    )  # fmt: skip
    bench = Bench(tmp_path / "runs/own", None, "--searches", "1", sweep=sweep)
    assert bench.command() == []
    trial = bench.answer.model
    model = bench.folder / "model"
    assert described(model)["about"]["trial"] == trial
    assert (model / "deep/.model.txt").read_text() == "the model of 4"
    assert not (model / "deep/state.json").exists()
    assert bench.command() == []  # it is that of the answer: nothing is left to do
    assert not bench.todo()
    assert not [finding for finding in doctor.examine(bench.folder) if finding.area in ("checkpoints", "model")]
    (newest,) = (bench.folder / f"checkpoints/{trial}").glob("5-*.tar")
    newest.write_bytes(b"torn")
    assert "is damaged" in str([finding for finding in doctor.examine(bench.folder) if finding.area == "checkpoints"])
    mirror = Mirror(str(tmp_path / "mirror"), "own")
    mirror.push(bench.folder)
    assert (tmp_path / "mirror/own/model/deep/.model.txt").exists()


def test_a_test_that_saves_too_much_for_the_disk_still_scores(full: Path, tmp_path: Path) -> None:
    process = TestProcess(full)
    trial = Trial.of(FOUR, number=1, arm="", phase="test", attempt=1, device="cpu", process=process)
    with trial.save() as folder:
        (folder / "model.bin").write_bytes(bytes(2_000_000))
    assert process.saved is None
    assert not list(full.iterdir())


@pytest.mark.parametrize("keeps", [True, False])
def test_a_confirmed_trial_whose_process_died_after_its_last_report_is_not_trained_again(
    keeps: bool, tmp_path: Path
) -> None:
    begun = []

    def train(config, trial):
        begun.append(trial.attempt)
        for epoch in range(trial.reported, trial.epochs):
            yield {"loss": float(epoch)}
        if keeps and trial.save_due:
            with trial.save() as folder:
                (folder / "model").touch()

    first = Trials(train, tmp_path, checkpoint_seconds=1e9).run(phase="confirm")
    again = Trials(train, tmp_path, checkpoint_seconds=1e9).run(phase="confirm", attempt=2, reported=3)
    assert losses(again) == [(3, 2.0)]
    assert (again[-1].state, again[-1].remembered) == (TrialEnd.COMPLETED, True)
    assert again[-1].checkpoint is not None
    assert first[-1].checkpoint is not None
    assert begun == [1]


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB, as root; others see the same error from the function."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("where", ["checkpoints", "scratch"])
def test_a_full_disk_costs_the_checkpoint_and_not_the_trial(where: str, full: Path, tmp_path: Path) -> None:
    def train(config, trial):
        for epoch in range(trial.epochs):
            yield {"loss": 1.0}
            with trial.save() as folder:
                (folder / "model.bin").write_bytes(os.urandom(2_000_000 if epoch == 1 else 1000))

    other = tmp_path / "other"
    other.mkdir()
    checkpoints, scratch = (full, other) if where == "checkpoints" else (other, full)
    results = Trials(train, checkpoints, scratch=scratch).run(FOUR, phase="confirm")
    assert [result.state for result in results] == [None, None, None, TrialEnd.COMPLETED]
    assert [bool(result.unsaved) for result in results] == [False, False, True, False]
    assert os.strerror(errno.ENOSPC) in (results[2].unsaved or "")
    assert [result.checkpoint.step for result in results if result.checkpoint] == [1, 4]
