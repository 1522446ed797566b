"""Arrays that go to a model of the user's own as they are: token ids, spectrograms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rungwise.results.model.model import load as load_model
from rungwise.trainable.config import Config
from rungwise.trainable.data.data_source import DataSource
from rungwise.trainable.data.dataset import DataError, load, notes
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.export.saved_model import export
from rungwise.trainable.train import train
from rungwise.trainable.training.builtin import BuiltInTraining, describe_data
from rungwise.trainable.training.state import State

WORDS, LENGTH = 40, 6


class Bag(nn.Module):
    """Logits of the words in a text."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.dtype == torch.int64
        return self.words(x).sum(1)


def bag(_config: Config) -> nn.Module:
    return Bag()


def pitch(_config: Config) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 5, 2))


@pytest.fixture
def texts(tmp_path: Path) -> str:
    """Of class 1, those with a word above the 30th."""
    x = np.random.default_rng(0).integers(0, WORDS, (600, LENGTH))
    np.savez(tmp_path / "texts.npz", x=x, y=(x > 30).any(1).astype(int))
    return str(tmp_path / "texts.npz")


def test_token_ids_reach_an_embedding_as_they_are_in_training_and_in_use(texts: str, tmp_path: Path) -> None:
    data = load(DataSource(texts, preprocess="none"))
    assert (data.train.x.dtype, data.mean, data.std) == (np.int64, (), ())
    assert "samples are int64 (6,) and go to the model as they are" in notes(data)
    config = Config(model=f"{__file__}:bag", lr=0.05, epochs=5, batch_size=20)
    tensors = Tensors.of(data.without_test(), "cpu")
    state = State.fresh(config, tensors)
    reports = list(train(config, tensors, state=state))
    assert reports[-1].val_accuracy > 0.95
    file = (tmp_path / "1.safetensors", state.save(tmp_path / "1.safetensors"))
    export(file, config.model_dump(mode="json"), data, tmp_path / "model")
    model = load_model(tmp_path / "model", trust=True)
    x = np.load(texts)["x"]
    assert model.dtype == "int64"
    assert (model.predict(x).argmax(1) == np.load(texts)["y"]).mean() > 0.95


def test_real_numbers_of_any_shape_stay_on_their_scale(tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(5.0, 2.0, (100, 1, 3, 5))
    np.savez(tmp_path / "spectra.npz", x=x, y=np.arange(100) % 2)
    with pytest.raises(DataError, match="a model of your own takes them as they are with --preprocess none"):
        load(str(tmp_path / "spectra.npz"))
    data = load(DataSource(str(tmp_path / "spectra.npz"), preprocess="none"))
    kept = np.concatenate([data.train.x, data.validation.x, data.test.x if data.test else []])
    assert np.array_equal(np.sort(kept.ravel()), np.sort(x.astype(np.float32).ravel()))
    config = Config(model=f"{__file__}:pitch", epochs=1, batch_size=10)
    tensors = Tensors.of(data.without_test(), "cpu")
    assert len(list(train(config, tensors, state=State.fresh(config, tensors)))) == 1


@pytest.mark.parametrize("value", [np.nan, 1e300])
def test_numbers_that_are_none_are_refused(tmp_path: Path, value: float) -> None:
    np.savez(tmp_path / "a.npz", x=np.full((20, 2, 2), value), y=np.arange(20) % 2)
    with pytest.raises(DataError, match="80 values that are not"):
        load(DataSource(str(tmp_path / "a.npz"), preprocess="none"))


def test_our_own_networks_standardise(texts: str) -> None:
    training = BuiltInTraining(DataSource(texts, preprocess="none"))
    data = describe_data(load(DataSource(texts, preprocess="none")))
    values: dict[str, Any] = {"seed": 0, "epochs": 1, "reports_per_epoch": 1}
    assert training.unfit({**values, "model": f"{__file__}:bag"}, data) == []
    assert "is for a model of your own, but the model is mlp" in training.unfit(values, data)[0]


def test_a_table_is_encoded_and_not_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,label\n1,x\n")
    with pytest.raises(DataError, match="--preprocess none is for arrays"):
        load(DataSource(str(tmp_path / "t.csv"), preprocess="none"))


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(DataError, match="unknown preprocessing 'nope'"):
        load(DataSource("digits", preprocess="nope"))
