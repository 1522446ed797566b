"""What is confirmed: whatever happens, the same command reaches the same answer, and model/ is the answer's."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.confirming import SWEEP, Bench, Here, states_left_by_kills
from support.loop import Loop

from rungwise import Sweep, main
from rungwise.engine.define_run import define_run
from rungwise.engine.execution.concurrency import ConcurrencyPolicy
from rungwise.engine.execution.remaining_work import checkpoint_root, has_work
from rungwise.engine.execution.session import Session
from rungwise.engine.execution.signals import Signals
from rungwise.engine.execution.stopping import Stop
from rungwise.engine.execution.test_scoring import Unmade, due
from rungwise.engine.experiment.command_line import parse
from rungwise.engine.experiment.experiment import resolve
from rungwise.results.analysis.answer import CONSTANT_SCORES
from rungwise.results.analysis.compare import PRODUCTS
from rungwise.results.analysis.findings import SupersededSeeds
from rungwise.results.cli.doctor import examine
from rungwise.results.model.model import ModelError
from rungwise.results.model.model import load as load_model
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import FILE, State, SweepState
from rungwise.results.record.writer import Record
from rungwise.results.tables.tables import tables
from rungwise.storage import Folder
from rungwise.trainable.data.dataset import Dataset, load
from rungwise.trainable.export.constant_prediction import constant_scores
from rungwise.trainable.messages import Failure, FailureKind
from rungwise.trainable.packing.matmul import product_kernel
from rungwise.trainable.training.builtin import describe_data

NOWHERE = "sqlite:////no/such/folder/mlflow.db"  # no test here asks MLflow


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="module")
def finished(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    bench = Bench(tmp_path_factory.mktemp("finished") / "tiny", digits)
    assert bench.command() == []
    return bench.folder


@pytest.fixture
def bench(finished: Path, digits: Dataset, tmp_path: Path) -> Bench:
    """A copy of it."""
    shutil.copytree(finished, tmp_path / "tiny")
    return Bench(tmp_path / "tiny", digits)


def model_of(folder: Path) -> int:
    return int(json.loads((folder / "model" / "config.json").read_text())["about"]["trial"])


def change(folder: Path, *statements: str) -> None:
    """Behind the record's back, as an earlier version left it."""
    with closing(sqlite3.connect(folder / FILE)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


@pytest.mark.parametrize("refits", [0, 2])
def test_whatever_commit_a_kill_follows_the_same_command_reaches_the_same_answer_and_model(
    finished: Path, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refits: int
) -> None:
    flags = "--refit-seeds", str(refits)
    whole = Bench(tmp_path / "whole" / "tiny", digits, *flags)
    left = states_left_by_kills(monkeypatch, whole, tmp_path / "left")
    wanted = Bench(whole.folder if refits else finished, digits).answer
    confirmed = []
    for folder in left:
        with Reader(folder) as reader:
            models = reader.checkpoints()
            ended = [t.trial for t in reader.trials("confirm") if t.state is State.COMPLETED]
            assert set(ended) <= models.keys()  # one transaction: an end and its model
            confirmed.append(len(ended))
    assert set(confirmed) == {0, 1, 2}
    for folder in [folder for folder, count in zip(left, confirmed, strict=True) if count > min(refits, 1)]:
        again = Bench(folder, digits, *flags)
        assert again.command() == []
        assert again.answer == wanted
        assert (wanted.split, model_of(folder)) == ("test", wanted.model)
        assert not again.todo()


def test_refits_of_the_best_configuration_compete_for_the_model_and_change_no_estimate(
    bench: Bench, digits: Dataset
) -> None:
    before = bench.answer
    more = Bench(bench.folder, digits, "--refit-seeds", "3")
    assert more.todo()
    assert more.command() == []
    assert not more.todo()
    now = more.answer
    assert (now.arms, now.comparisons, now.headlines) == (before.arms, before.comparisons, before.headlines)
    with Reader(more.folder) as reader:
        refitted = [trial for trial in reader.trials() if trial.phase == "refit"]
        curves, scores = reader.curves(), reader.scores()
    (chosen,) = (arm.chosen for arm in now.arms)
    assert chosen is not None
    assert [(trial.source, trial.state) for trial in refitted] == [(chosen.source, State.COMPLETED)] * 3
    numbers = [*chosen.trials.values(), *(trial.trial for trial in refitted)]
    assert len({trial.config["seed"] for trial in refitted} | set(chosen.trials)) == 5
    accuracy = {number: curves[number][2].metrics["val_accuracy"] for number in numbers}
    assert now.model == max(numbers, key=lambda number: accuracy[number]) == model_of(more.folder)
    assert scores.keys() == {*chosen.trials.values(), now.model}  # the others do not touch the test split
    assert now.model_score == scores[now.model]["accuracy"]
    assert f"The model that is kept is that of trial {now.model}" in "\n".join(now.note_texts)


def test_scoring_notes_once_what_a_constant_prediction_scores(finished: Path, digits: Dataset) -> None:
    assert digits.test is not None
    with Reader(finished) as reader:
        kept = reader.meta(CONSTANT_SCORES)
        assert reader.meta(PRODUCTS) == product_kernel(torch.device("cpu"))
    assert kept == constant_scores(digits)
    assert kept["accuracy"] == pytest.approx(0.1, abs=0.03)  # ten classes, about even
    assert Bench(finished, digits).answer.constant_score == kept["accuracy"]


@pytest.mark.parametrize("scored", [True, False])
def test_a_confirmed_model_that_is_gone_is_trained_again_under_its_own_number(bench: Bench, scored: bool) -> None:
    """As a run looks whose driver an earlier version lost between a trial's end and its checkpoint."""
    wanted = bench.answer
    shutil.rmtree(bench.folder / "checkpoints")
    shutil.rmtree(bench.folder / "model")
    change(bench.folder, "DELETE FROM checkpoints", *([] if scored else ["DELETE FROM scores"]))
    assert bench.todo()
    assert bench.command() == []
    assert bench.answer == wanted
    assert model_of(bench.folder) == wanted.model
    again = [trial for (trial,) in bench.query("SELECT trial FROM events WHERE kind = 'trained again' ORDER BY trial")]
    assert again == ([wanted.model] if scored else [3, 4])  # what is needed only
    assert bench.query("SELECT count(*) FROM trials") == [(4,)]
    assert not bench.todo()


def test_a_final_state_whose_row_is_absent_is_used_as_it_is(bench: Bench) -> None:
    """The file is there, and so is its digest beside it: nothing is trained, and no report is doubled."""
    wanted = bench.answer
    change(bench.folder, "DELETE FROM checkpoints", "DELETE FROM scores")
    assert bench.command() == []
    assert bench.answer == wanted
    assert bench.query("SELECT count(*) FROM events WHERE kind = 'restored'") == [(2,)]


def test_a_session_that_ends_deletes_no_confirmed_model(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    change(bench.folder, "DELETE FROM checkpoints")
    files = sorted((bench.folder / "checkpoints").rglob("*.safetensors"))
    left = bench.folder / "checkpoints" / "1"  # of a search trial that ended: its driver was killed before it swept
    left.mkdir()
    assert files
    removed: list[str] = []
    monkeypatch.setattr(Folder, "remove", lambda folder: (removed.append(folder.where), shutil.rmtree(folder.where)))
    with Record(bench.folder) as record:
        session = Session(
            bench.experiment,
            bench.options,
            record,
            Stop(Signals(), None),
            ConcurrencyPolicy.of(bench.experiment, bench.options),
        )
        session.end(SweepState.FINISHED)
    assert sorted((bench.folder / "checkpoints").rglob("*.safetensors")) == files
    assert not left.exists()
    assert removed == [str(left)]  # the storage is not asked once for each trial that has ended


def test_a_lost_confirmation_is_trained_again_by_the_same_command(bench: Bench) -> None:
    wanted = bench.answer
    lost = 3 if wanted.model == 4 else 4
    with Record(bench.folder) as record:
        record.reopen_trial(lost, "for this test")
        record.end_trial(lost, State.LOST, failure=Failure(FailureKind.LOST, "its process died"))
    assert bench.answer.arm("all").score.n == 1  # type: ignore[union-attr]
    assert bench.todo()
    assert bench.command() == []
    assert bench.answer == wanted


def test_one_that_is_lost_again_ends_the_command_and_not_the_next_one(bench: Bench) -> None:
    with Record(bench.folder) as record:
        record.reopen_trial(4, "for this test")
        record.end_trial(4, State.LOST, failure=Failure(FailureKind.LOST, "its process died"))
    loop = Loop(bench.folder, SWEEP, trials=2, in_flight=1, repeats=bench._repeats)
    bench.record = loop.record
    trial = loop.deal()
    assert trial is not None
    assert not isinstance(trial, str)
    assert trial.config["trial"] == 4
    loop.die(trial)
    assert loop.deal() == "FINISHED"
    loop.record.close()
    assert bench.todo()


def test_more_seeds_are_all_scored_and_the_model_is_the_answers_each_time(bench: Bench, digits: Dataset) -> None:
    for seeds in (3, 4):
        more = Bench(bench.folder, digits, "--confirm-configs", "2", "--confirm-seeds", str(seeds))
        assert more.command() == []
        found = more.answer
        chosen = found.arm("all").chosen
        assert chosen is not None
        assert (found.split, chosen.test.keys()) == ("test", chosen.values.keys())
        assert len(chosen.values) == seeds
        assert model_of(bench.folder) == found.model
        with Reader(bench.folder) as reader:
            assert (reader.meta("test") or {})["trial"] == found.model
            kept = {t.trial for t in reader.trials("confirm") if t.state is State.COMPLETED}
            assert reader.checkpoints().keys() == kept  # whatever may be chosen later is there


def test_a_model_that_is_not_the_answers_is_refused_and_the_same_command_makes_the_right_one(bench: Bench) -> None:
    right = bench.answer.model
    wrong = 3 if right == 4 else 4
    config = bench.folder / "model" / "config.json"
    told = json.loads(config.read_text())
    told["about"]["trial"] = wrong
    config.write_text(json.dumps(told))
    with pytest.raises(ModelError, match=f"the model of trial {wrong}, but the answer's is that of trial {right}"):
        load_model(bench.folder)
    assert bench.todo()
    assert bench.command() == []
    assert load_model(bench.folder).about["trial"] == right


# -- the answer comes first --------------------------------------------------------------------------------------


class Failing(Here):
    """One of its workers dies, or says that the disk is full."""

    def __init__(self, name: str, cause: BaseException, *given: Any) -> None:
        super().__init__(*given)
        self._name, self._cause = name, cause

    def _on_worker(self, work: Callable[..., Any], *given: Any) -> Any:
        if work.__name__ == self._name:
            raise Unmade.of(self._cause, self._folder)
        return super()._on_worker(work, *given)


@pytest.mark.parametrize(("part", "says"), [("export", "could not be kept"), ("diagnose", "could not be said")])
def test_what_cannot_be_made_of_the_model_is_one_line_and_the_answer_stands(bench: Bench, part: str, says: str) -> None:
    wanted = bench.answer
    shutil.rmtree(bench.folder / "model")
    change(bench.folder, "DELETE FROM scores", "DELETE FROM meta WHERE key = 'test'")
    with Record(bench.folder) as record:
        given = (record, bench.experiment, bench.data, bench.process, bench.checkpoints)
        confirmation = Failing(part, MemoryError("no\nmore"), *given)
        confirmation.score()
        (line,) = confirmation.keep()
    assert says in line
    assert line.endswith("MemoryError: no")
    assert bench.answer == wanted
    assert bench.todo()  # the disk may have room the next time
    assert bench.command() == []
    assert not bench.todo()


def test_a_model_folder_that_cannot_be_written_is_one_line_that_names_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = bench.answer
    shutil.rmtree(bench.folder / "model")
    full = OSError(errno.ENOSPC, "No space left on device", str(bench.folder / ".model.tmp"))
    monkeypatch.setattr("rungwise.engine.execution.test_scoring.install", lambda *_: (_ for _ in ()).throw(full))
    (line,) = bench.command()
    assert "the answer is complete" in line
    assert ".model.tmp" in line
    assert bench.answer == wanted


NETS = """from torch import nn
def net(config, shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes, bias=%s))
"""


class Owned:
    """A run of a model of the user's own, whose file holds another network when it `changes`."""

    def __init__(self, folder: Path, data: Dataset) -> None:
        self.folder, self.data, self._bias = folder, data, True
        self.bench = Bench(folder / "runs" / "tiny", data, sweep=self._sweep("first"))
        self.defined = resolve(self.bench.sweep, self.bench.options).with_data(describe_data(data)).to_json()
        assert self.bench.command() == []
        self.define()

    def _sweep(self, where: str) -> Sweep:
        (self.folder / where).mkdir()  # an imported file is known for the life of a process
        (self.folder / where / "nets.py").write_text(NETS % self._bias)
        return replace(SWEEP, model=f"{self.folder / where / 'nets.py'}:net", fixed={"batch_size": 64})

    def changes(self) -> None:
        self._bias = not self._bias
        self.bench.sweep = self._sweep("second")
        self.bench.options = replace(self.bench.options, model=self.bench.sweep.model_name)

    def define(self, *more: str) -> bool:
        """What a driver does before it searches; returns whether there is work."""
        flags = ["--out", str(self.folder / "runs"), "--name", "tiny", "--confirm-configs", "1", *more]
        with Record(self.bench.folder) as record:
            record.set_meta("definition", self.defined)  # `Loop` keeps another one
            record.commit()
            options = parse(self.bench.sweep, flags)
            return define_run(
                record,
                resolve(self.bench.sweep, options).with_data(describe_data(self.data)),
                options,
                describe_data(self.data),
            )


@pytest.fixture
def owned(digits: Dataset, tmp_path: Path) -> Owned:
    return Owned(tmp_path, digits)


def test_what_another_network_left_unscored_is_trained_again_once_the_other_one_is_accepted(owned: Owned) -> None:
    bench = owned.bench
    change(bench.folder, "DELETE FROM scores", "DELETE FROM meta WHERE key = 'test'")  # killed before them
    owned.changes()
    assert owned.define("--accept-changed-model")
    assert bench.command() == []
    assert len(bench.query("SELECT * FROM scores WHERE metric = 'accuracy'")) == 2


def test_no_mean_mixes_seeds_of_two_networks(owned: Owned, capsys: pytest.CaptureFixture[str]) -> None:
    bench, flags = owned.bench, ["--accept-changed-model", "--confirm-seeds", "3"]
    owned.changes()
    assert owned.define(*flags)
    assert "builds the same network" not in capsys.readouterr().err
    bench.options = replace(bench.options, confirm_seeds=3)
    assert bench.command() == []
    (arm,) = bench.answer.arms
    assert arm.chosen is not None
    assert sorted(arm.chosen.trials.values()) == [5, 6, 7]  # 3 and 4 are of the network that was
    assert len(arm.chosen.test) == 3
    assert arm.optimism is None  # so is what the search saw
    assert arm.best_seen is None
    with Reader(bench.folder) as reader:
        ranks = {row["trial"]: row["rank"] for row in tables(reader).trials.to_pylist()}
    assert [trial for trial, rank in ranks.items() if rank] == [5, 6, 7]
    assert SupersededSeeds(arm.arm, arm.chosen.source, 2) in bench.answer.notes
    assert model_of(bench.folder) == bench.answer.model
    assert not owned.define(*flags)
    assert not has_work(bench.folder, resolve(bench.sweep, bench.options), checkpoint_root(bench.options))


def test_a_confirmation_of_another_network_ends_when_the_other_one_is_accepted(owned: Owned) -> None:
    with Record(owned.bench.folder) as record:
        record.reopen_trial(4, "its model is gone")
    owned.changes()
    owned.define("--accept-changed-model")
    ((state, reason),) = owned.bench.query("SELECT state, reason FROM trials WHERE trial = 4")
    assert state == "FAILED"
    assert "another network was accepted" in reason


def test_a_run_of_an_earlier_version_whose_models_file_changed_says_the_way_out(owned: Owned) -> None:
    bench = owned.bench
    owned.defined["model"] = {"function": "net", "source": "def net(): ..."}  # an earlier version knew its text alone
    with Record(bench.folder) as record:
        session = record.start_session({})
    change(bench.folder, "DELETE FROM scores", "DELETE FROM meta WHERE key IN ('test', 'models')")
    shutil.rmtree(bench.folder / "model")
    owned.changes()
    for _ in range(2):  # whatever was done with the run meanwhile
        owned.define()
        with pytest.raises(Unmade) as said:
            bench.command()
        assert "trial 3 has another network" in str(said.value)
        assert str(said.value).endswith("with --accept-changed-model the same command repeats the confirmation")
        assert "\n" not in str(said.value)
    with Record(bench.folder) as record:
        record.end_session(session, SweepState.FAILED)
    (finding,) = [one for one in examine(bench.folder, NOWHERE) if one.area == "model"]
    assert "another network than the one of trials 3, 4: give the sweep's command again with" in finding.message
    assert owned.define("--accept-changed-model")
    assert bench.command() == []
    assert bench.answer.split == "test"
    assert not [one for one in examine(bench.folder, NOWHERE) if one.area == "model"]


def test_a_model_of_ones_own_is_tried_only_when_there_is_work(
    owned: Owned, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[str] = []
    for name in (
        "rungwise.trainable.export.model_check.rehearse",
        "rungwise.trainable.export.saved_model.unexportable",
    ):
        monkeypatch.setattr(name, lambda *_, name=name: tried.append(name))
    flags = ["--out", str(owned.folder / "runs"), "--name", "tiny", "--confirm-configs", "1", "--confirm-seeds", "2"]
    with pytest.raises(SystemExit) as done:
        main(owned.bench.sweep, flags)
    assert (done.value.code, tried) == (0, [])
    assert "tiny: already finished, nothing to do" in capsys.readouterr().out
    with Reader(owned.folder / "runs" / "tiny") as reader:
        assert len(reader.sessions()) == 1  # nobody worked in a second one


def test_a_damaged_final_state_says_so_and_the_others_are_known(bench: Bench) -> None:
    change(bench.folder, "DELETE FROM scores")
    file = next((bench.folder / "checkpoints" / "3").glob("2-*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with Record(bench.folder) as record:
        given = (record, bench.experiment, bench.data, bench.process, bench.checkpoints)
        with pytest.raises(Exception, match="must have SHA-256") as caught:
            Here(*given).score()
    assert str(Unmade.of(caught.value, bench.folder)).endswith(f"doctor --fix {bench.folder}")
    assert str(Unmade.of(MemoryError("no more"), bench.folder)) == "MemoryError: no more"


def test_files_that_a_user_deleted_are_gone_and_not_done(bench: Bench) -> None:
    change(bench.folder, "DELETE FROM scores")
    os.remove(next((bench.folder / "checkpoints" / "4").glob("2-*.safetensors")))
    with Reader(bench.folder) as reader:
        left = due(reader, bench.checkpoints)
    assert (left.gone, list(left.scores)) == ((4,), [3])


def test_a_branch_on_data_is_scored_and_its_weights_are_kept(digits: Dataset, tmp_path: Path) -> None:
    (tmp_path / "branching.py").write_text(BRANCHING)
    sweep = replace(SWEEP, model=f"{tmp_path / 'branching.py'}:branching", trials=1)
    made = Bench(tmp_path / "runs" / "tiny", digits, sweep=sweep)
    (line,) = made.command()
    assert "the weights of trial" in line
    assert "torch.export rejects the model: GuardOnDataDependent" in line
    assert made.answer.split == "test"
    assert model_of(made.folder) == made.answer.model
    assert not made.todo()
    with pytest.raises(ModelError, match="no program, because torch"):
        load_model(made.folder)


BRANCHING = """
from torch import nn
from rungwise.trainable.config import Config


class Branching(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.layer = nn.Linear(shape[0] * shape[1] * shape[2], classes)

    def forward(self, x):
        x = self.layer(x.flatten(1))
        return x / x.abs().max() if x.abs().max() > 0.9 else x


def branching(config: Config, shape, classes):
    return Branching(shape, classes)
"""
