"""Checkpoints: a restored trial goes on bit for bit, and a damaged file is refused."""

from __future__ import annotations

import hashlib
import json
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rungwise.trainable.config import Config
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.storage import CheckpointError
from rungwise.trainable.train import train
from rungwise.trainable.training.state import State, generator

SETTINGS = {"hidden": (16, 8), "dropout": 0.3, "input_dropout": 0.1, "batch_size": 100, "epochs": 2, "l1": 1e-4}


@pytest.fixture
def saved(tensors: Tensors, tmp_path: Path) -> tuple[Path, Config, str]:
    config = Config(**SETTINGS)
    state = State.fresh(config, tensors)
    next(train(config, tensors, state=state))
    path = tmp_path / "checkpoint.safetensors"
    return path, config, state.save(path)


def content(state: State) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in state._tensors().items()}


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
@pytest.mark.parametrize(
    ("optimizer", "momentum"), [("sgd", 0.0), ("sgd", 0.9), ("adam", 0.9), ("adamw", 0.8), ("rmsprop", 0.9)]
)
def test_a_trial_restored_anywhere_goes_on_bit_for_bit(
    tensors: Tensors, tmp_path: Path, optimizer: str, momentum: float, schedule: str
) -> None:
    """Saved before the first report and after each of six, in mid-epoch too; gone on from each."""
    config = Config(**SETTINGS, optimizer=optimizer, momentum=momentum, schedule=schedule, lr=0.01, reports_per_epoch=3)
    state = State.fresh(config, tensors)
    digests = [state.save(tmp_path / "0")]
    reports = []
    for report in train(config, tensors, state=state):
        reports.append(report)
        digests.append(state.save(tmp_path / str(report.step)))
    end = content(state)
    assert len(digests) == 7
    assert len({tuple(value.shape) for name, value in end.items() if name.startswith("model.")}) > 1
    for step, digest in enumerate(digests):
        restored = State.load(tmp_path / str(step), config, tensors, digest)
        assert restored.step == step
        assert restored.history == [report.asdict() for report in reports[:step]]
        again = list(train(config, tensors, state=restored))
        assert [replace(r, seconds=0) for r in again] == [replace(r, seconds=0) for r in reports[step:]]
        found = content(restored)
        assert found.keys() == end.keys()
        assert all(torch.equal(found[name], end[name]) for name in end)


def test_saving_twice_writes_the_same_bytes_whose_digest_is_returned(
    saved: tuple[Path, Config, str], tensors: Tensors, tmp_path: Path
) -> None:
    path, config, digest = saved
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert State.load(path, config, tensors, digest).save(tmp_path / "again") == digest
    assert sorted(file.name for file in tmp_path.iterdir()) == ["again", "checkpoint.safetensors"]


def test_any_flipped_bit_is_refused(saved: tuple[Path, Config, str], tensors: Tensors) -> None:
    path, config, digest = saved
    whole = path.read_bytes()
    places = random.Random(0)
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[places.randrange(len(whole))] ^= 1 << places.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=f"must have SHA-256 {digest}, but has"):
            State.load(path, config, tensors, digest)


@pytest.mark.parametrize("known", [True, False])
def test_a_torn_file_is_refused_even_without_its_digest(
    saved: tuple[Path, Config, str], tensors: Tensors, known: bool
) -> None:
    path, config, digest = saved
    whole = path.read_bytes()
    for size in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            State.load(path, config, tensors, digest if known else None)


def test_a_missing_file_is_refused(tensors: Tensors, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="must be readable"):
        State.load(tmp_path / "none", Config(), tensors)


def test_another_trials_checkpoint_is_refused_with_the_difference(
    saved: tuple[Path, Config, str], tensors: Tensors
) -> None:
    path, config, digest = saved
    with pytest.raises(CheckpointError, match=r"l1 is 0\.0001 there, 0\.5 here; seed is 0 there, 7 here"):
        State.load(path, config.model_copy(update={"l1": 0.5, "seed": 7}), tensors, digest)


def test_a_checkpoint_from_before_a_hyperparameter_existed_has_its_default(
    tmp_path: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State.fresh(Config(seed=3), tensors)
    header = json.loads(state._header())
    del header["config"]["label_smoothing"]
    monkeypatch.setattr(State, "_header", lambda _: json.dumps(header))
    digest = state.save(tmp_path / "old")
    assert State.load(tmp_path / "old", Config(seed=3), tensors, digest).step == 0
    with pytest.raises(CheckpointError, match=r"label_smoothing is None there, 0\.1 here"):
        State.load(tmp_path / "old", Config(seed=3, label_smoothing=0.1), tensors, digest)


def test_a_checkpoint_of_other_data_is_refused(saved: tuple[Path, Config, str], tensors: Tensors) -> None:
    path, config, digest = saved
    smaller = replace(tensors, x_train=tensors.x_train[:, :, :20])
    with pytest.raises(CheckpointError, match="must fit the model"):
        State.load(path, config, smaller, digest)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow past 4 KiB: the write of a checkpoint fails in its middle."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_a_failed_write_leaves_the_last_checkpoint_and_nothing_else(
    saved: tuple[Path, Config, str], tensors: Tensors
) -> None:
    path, config, digest = saved
    state = State.load(path, config, tensors, digest)
    next(train(config, tensors, state=state))
    with full_disk(), pytest.raises(OSError, match="File too large"):
        state.save(path)
    assert State.load(path, config, tensors, digest).step == 1
    assert list(path.parent.iterdir()) == [path]


def test_a_checkpoint_is_replaced_as_a_whole(saved: tuple[Path, Config, str], tensors: Tensors) -> None:
    """Who has the old file open goes on reading the old one: no byte of it is written over."""
    path, config, digest = saved
    state = State.load(path, config, tensors, digest)
    next(train(config, tensors, state=state))
    with path.open("rb") as old:
        assert state.save(path) != digest
        assert hashlib.sha256(old.read()).hexdigest() == digest


def test_a_generators_stream_follows_from_seed_purpose_and_place() -> None:
    streams = {
        tuple(torch.rand(3, generator=generator("cpu", *key)).tolist())
        for key in [(0, "order", 0), (0, "order", 1), (0, "noise", 0), (1, "order", 0), (10, "order", 0)]
    }
    assert len(streams) == 5
    again = torch.rand(3, generator=generator("cpu", 0, "order", 0)).tolist()
    assert tuple(again) in streams
