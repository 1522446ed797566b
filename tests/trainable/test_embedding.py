"""Categorical columns of which a vector for each category is learned: `--embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rungwise import Columns, Sweep, main
from rungwise.results.model.model import load as load_model
from rungwise.results.model.tables import read
from rungwise.trainable.config import Config, hyperparameter
from rungwise.trainable.data.data_source import DataSource
from rungwise.trainable.data.dataset import Dataset, load, notes
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.export.saved_model import export
from rungwise.trainable.train import train
from rungwise.trainable.training.builtin import BuiltInTraining
from rungwise.trainable.training.state import State

TOWNS = 120


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The town says whether a customer buys: 120 towns of 30 rows, one of 3, and 40 rows without a town."""
    random = np.random.default_rng(0)
    towns = [f"town {n}" for n in range(TOWNS) for _ in range(30)] + ["hamlet"] * 3 + [""] * 40
    buys = {town: random.random() < 0.5 for town in sorted(set(towns))}
    rows = [f"{town},{random.normal():.3f},{'yes' if buys[town] else 'no'}" for town in towns]
    random.shuffle(rows)
    path = tmp_path_factory.mktemp("table") / "customers.csv"
    path.write_text("\n".join(["town,age,label", *rows]))
    return str(path)


def trained(data: Dataset, **config: Any) -> tuple[State, float]:
    """The final state, and the accuracy on the validation split."""
    asked = Config(hidden=(16,), epochs=15, batch_size=32, lr=0.02, **config)
    tensors = Tensors.of(data.without_test(), "cpu")
    state = State.fresh(asked, tensors)
    accuracy = [report.val_accuracy for report in train(asked, tensors, state=state)][-1]
    assert accuracy is not None
    return state, accuracy


def test_a_category_becomes_its_number_and_what_has_none_is_0(table: str) -> None:
    data = load(DataSource(table, Columns(embed="town")))
    assert data.encoder is not None
    assert data.encoder.names == ["town: number of the category", "town: missing", "age"]
    assert data.encoder.embedded == ((0, TOWNS + 1),)
    assert dict(data.encoder.described())["town"] == (
        f"category, a vector for each of {TOWNS}, one for all rarer ones; missing values marked by a column"
    )
    assert (data.mean[0], data.std[0]) == (0.0, 1.0)
    new = {"town": np.array(["town 7", "elsewhere", None, "hamlet"], object), "age": np.zeros(4)}
    number = sorted(f"town {n}" for n in range(TOWNS)).index("town 7") + 1
    assert data.encoder.encode(new).tolist() == [[number, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert type(data.encoder).from_json(data.encoder.to_json()) == data.encoder


def test_vectors_know_more_towns_than_columns_do_and_stay_with_the_model(table: str, tmp_path: Path) -> None:
    data = load(DataSource(table, Columns(embed="town")))
    one_hot = load(table)
    assert any("rare categories share a column: 'town'; --embed" in note for note in notes(one_hot))
    assert "a vector is learned for each category: 'town'" in notes(data)
    assert "categories with fewer than 10 training rows share one vector: 'town'" in notes(data)
    state, accuracy = trained(data, embedding=4, input_dropout=0.01)
    assert accuracy > 0.9 > trained(one_hot)[1]
    file = (tmp_path / "1.safetensors", state.save(tmp_path / "1.safetensors"))
    described = export(file, state.config.model_dump(mode="json"), data, tmp_path / "model")
    assert described["unexported"] is None
    model = load_model(tmp_path / "model")
    (tmp_path / "new.csv").write_text("age,town\n0.5,town 7\n0.5,elsewhere\n0.5,\n")
    rows, said = read(tmp_path / "new.csv", model.description)
    assert said == []  # rarer towns have a vector, too
    program = load_model(tmp_path / "model")
    assert model.predict(rows).shape == (3, 2)
    assert np.array_equal(model.predict(rows), program.predict(rows))
    assert (model.predict(data.validation.x).argmax(1) == data.validation.y).mean() == pytest.approx(accuracy)


def test_a_state_that_is_read_back_continues_alike(table: str, tmp_path: Path) -> None:
    data = load(DataSource(table, Columns(embed="town"))).without_test()
    tensors, config = Tensors.of(data, "cpu"), Config(hidden=(8,), epochs=2, embedding=3)
    state = State.fresh(config, tensors)
    course = train(config, tensors, state=state)
    next(course)
    digest = state.save(tmp_path / "half.safetensors")
    again = State.load(tmp_path / "half.safetensors", config, tensors, digest)
    (last,) = course
    (other,) = train(config, tensors, state=again)
    assert last.val_loss == other.val_loss


class Words(Config):
    embedding: int = hyperparameter(32, "numbers", "size of a word's vector, of a model of one's own", ge=1)


def words(config: Words) -> torch.nn.Module:
    return torch.nn.Linear(config.embedding, 2)


def test_a_model_of_ones_own_may_have_a_hyperparameter_of_this_name(table: str) -> None:
    training = BuiltInTraining(DataSource(table))
    values = {"model": f"{__file__}:words", "embedding": 16}
    assert training.problems(values) == training.unfit(values, training.load()) == []


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--embed", "town", "--pack", "2"), "--pack trains without embedded columns, but --embed names some"),
        (("--embed", "city"), "--embed must name a column: unknown column 'city'"),
        (("--embed", "town", "--categorical", "town"), "'town' is named by --categorical and --embed"),
        (("--one", '{"embedding": 4}'), "embedding is the size of the vectors of columns that --embed names"),
    ],
)
def test_what_does_not_go_together_is_refused(
    table: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: tuple[str, ...], says: str
) -> None:
    sweep = Sweep(name="towns", question="Where?", data=table, space={}, fixed={"lr": 0.01})
    one = () if "--one" in flags or "--pack" in flags else ("--one", "{}")
    with pytest.raises(SystemExit) as ended:
        main(sweep, [*flags, *one, "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
