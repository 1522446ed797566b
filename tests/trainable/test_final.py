"""The final step: scores and diagnoses on the test split against sums done by hand."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rungwise.trainable.config import Config
from rungwise.trainable.data.dataset import Dataset, Split, load
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.export.test_evaluation import File, diagnose, score, score_samples
from rungwise.trainable.storage import CheckpointError
from rungwise.trainable.train import train
from rungwise.trainable.training.state import State

SETTINGS: dict[str, Any] = {"hidden": (16,), "dropout": 0.2, "input_dropout": 0.1, "lr": 0.01, "epochs": 3}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def trained(data: Dataset, path: Path, **changed: Any) -> tuple[State, File]:
    config = Config.model_validate(SETTINGS | changed)
    tensors = Tensors.of(data.without_test(), "cpu")
    state = State.fresh(config, tensors)
    for _ in train(config, tensors, state=state):
        pass
    return state, (path, state.save(path))


@pytest.fixture(scope="module")
def saved(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[State, File]:
    return trained(digits, tmp_path_factory.mktemp("confirm") / "41.safetensors")


def in_memory(state: State, data: Dataset) -> torch.Tensor:
    """Probabilities (N, K) on the test split, without any code of rungwise.trainable.export.test_evaluation."""
    assert data.test is not None
    x = (torch.tensor(data.test.x, dtype=torch.float32) - data.mean[0]) / data.std[0]
    state.model.eval()
    with torch.no_grad():
        return state.model(x).softmax(1)


def test_score_is_the_accuracy_and_the_loss_on_the_test_split(digits: Dataset, saved: tuple[State, File]) -> None:
    state, file = saved
    assert digits.test is not None
    y = torch.tensor(digits.test.y)
    probabilities = in_memory(state, digits)
    scores = score({41: file}, {41: state.config.model_dump(mode="json")}, digits, "cpu")
    assert scores.keys() == {41}
    assert scores[41]["accuracy"] == (probabilities.argmax(1) == y).double().mean().item()
    assert scores[41]["accuracy"] > 0.5  # it has learned: chance is 0.1
    assert scores[41]["loss"] == pytest.approx(-probabilities[torch.arange(len(y)), y].log().mean().item(), rel=1e-5)


def unpacked(metric: str, samples: int, data: bytes) -> np.ndarray:
    if metric == "accuracy":
        return np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=samples).astype(float)
    return np.frombuffer(data, dtype="<f4").astype(float)


def test_the_mean_over_samples_is_the_score(digits: Dataset, saved: tuple[State, File]) -> None:
    state, file = saved
    assert digits.test is not None
    config = state.config.model_dump(mode="json")
    packed, scores = score_samples(file, config, digits, "cpu"), score({41: file}, {41: config}, digits, "cpu")[41]
    assert packed.keys() == scores.keys()
    for metric, (samples, data) in packed.items():
        values = unpacked(metric, samples, data)
        assert values.shape == (len(digits.test.y),)
        assert values.mean() == pytest.approx(scores[metric], rel=1e-6)
    right = in_memory(state, digits).argmax(1).numpy() == digits.test.y
    assert (unpacked("accuracy", *packed["accuracy"]) == right).all()


@pytest.mark.parametrize("metric", ["loss", "mse", "mae", "r2"])
def test_the_mean_over_samples_is_the_score_of_a_regression_too(tmp_path: Path, metric: str) -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(300, 3)).astype(np.float32)
    np.savez(tmp_path / "line.npz", x=x, y=(x @ np.array([1.0, 2.0, -1.0]) + 5).astype(np.float32))
    data = load(str(tmp_path / "line.npz"))
    state, file = trained(data, tmp_path / "1.safetensors", batch_size=16)
    config = state.config.model_dump(mode="json")
    values = unpacked(metric, *score_samples(file, config, data, "cpu")[metric])
    assert values.mean() == pytest.approx(score({1: file}, {1: config}, data, "cpu")[1][metric], rel=1e-5)


def test_each_trial_is_scored_with_its_own_config(digits: Dataset, saved: tuple[State, File], tmp_path: Path) -> None:
    state, file = saved
    other, other_file = trained(digits, tmp_path / "42.safetensors", hidden=(8, 8), precision="bf16")
    configs = {trial: one.config.model_dump(mode="json") for trial, one in ((41, state), (42, other))}
    scores = score({41: file, 42: other_file}, configs, digits, "cpu")
    assert scores[41] == score({41: file}, configs, digits, "cpu")[41]
    assert scores[41] != scores[42]
    with pytest.raises(CheckpointError, match="must have this trial's config"):
        score({41: other_file}, configs, digits, "cpu")


def test_a_dataset_without_test_split_is_refused(digits: Dataset, saved: tuple[State, File]) -> None:
    state, file = saved
    config = state.config.model_dump(mode="json")
    for call in (lambda d: score({41: file}, {41: config}, d, "cpu"), lambda d: diagnose(file, config, d, "cpu")):
        with pytest.raises(ValueError, match="must be given the test split, but the dataset 'digits' has none"):
            call(digits.without_test())


def test_a_flipped_bit_is_refused(digits: Dataset, saved: tuple[State, File], tmp_path: Path) -> None:
    state, (path, digest) = saved
    content = bytearray(Path(path).read_bytes())
    content[-1] ^= 1
    (tmp_path / "41.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="must have SHA-256"):
        score({41: (tmp_path / "41.safetensors", digest)}, {41: state.config.model_dump()}, digits, "cpu")


def test_the_diagnosis_counts_every_test_sample_once(digits: Dataset, saved: tuple[State, File]) -> None:
    state, file = saved
    assert digits.test is not None
    found = diagnose(file, state.config.model_dump(mode="json"), digits, "cpu", worst=5)
    assert json.loads(json.dumps(found)) == found
    confusion = np.zeros((10, 10), int)
    probabilities = in_memory(state, digits).numpy()
    for true, row in zip(digits.test.y, probabilities, strict=True):
        confusion[true, row.argmax()] += 1
    assert found["confusion"] == confusion.tolist()
    assert found["class_accuracy"] == [confusion[i, i] / confusion[i].sum() for i in range(10)]
    assert found["samples"] == len(digits.test)
    assert found["classes"] == list(digits.classes)


def test_mistakes_are_wrong_and_the_most_confident_come_first(digits: Dataset, saved: tuple[State, File]) -> None:
    state, file = saved
    assert digits.test is not None
    config = state.config.model_dump(mode="json")
    mistakes = diagnose(file, config, digits, "cpu", worst=1000)["mistakes"]
    probabilities = in_memory(state, digits).numpy()
    wrong = np.flatnonzero(probabilities.argmax(1) != digits.test.y)
    assert len(wrong) > 5
    assert sorted(mistake["index"] for mistake in mistakes) == wrong.tolist()
    told = [mistake["probability"] for mistake in mistakes]
    assert told == sorted(told, reverse=True)
    assert told == pytest.approx([probabilities[mistake["index"]].max() for mistake in mistakes], abs=1e-6)
    for mistake in mistakes:
        image = np.frombuffer(base64.b64decode(mistake["image"]), np.uint8).reshape(mistake["shape"])
        assert np.array_equal(image, digits.test.x[mistake["index"]])
        assert mistake["true"] == digits.test.y[mistake["index"]] != mistake["predicted"]
    assert diagnose(file, config, digits, "cpu", worst=3)["mistakes"] == mistakes[:3]
    assert diagnose(file, config, digits, "cpu", worst=0)["mistakes"] == []


def test_a_class_without_test_samples_has_no_accuracy(digits: Dataset, saved: tuple[State, File]) -> None:
    state, file = saved
    assert digits.test is not None
    kept = digits.test.y != 3
    data = replace(digits, test=Split(digits.test.x[kept], digits.test.y[kept]))
    found = diagnose(file, state.config.model_dump(mode="json"), data, "cpu")
    assert found["class_accuracy"][3] is None
    assert None not in found["class_accuracy"][:3] + found["class_accuracy"][4:]


def test_columns_of_numbers_are_scored_and_have_no_image(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 6))
    np.savez(tmp_path / "table.npz", x=x, y=(x[:, 0] > 0).astype(int))
    data = load(str(tmp_path / "table.npz"))
    state, file = trained(data, tmp_path / "1.safetensors")
    config = state.config.model_dump(mode="json")
    assert score({1: file}, {1: config}, data, "cpu")[1]["accuracy"] > 0.6
    mistakes = diagnose(file, config, data, "cpu")["mistakes"]
    assert mistakes
    assert {(mistake["image"], tuple(mistake["shape"])) for mistake in mistakes} == {(None, (6,))}
