"""Images in folders and in tables, regression, and data too large for the machine."""

from __future__ import annotations

import ctypes.util
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from rungwise.trainable.config import Config
from rungwise.trainable.data import memory
from rungwise.trainable.data.data_source import DataSource
from rungwise.trainable.data.dataset import DataError, load, notes, problems
from rungwise.trainable.data.published import channels_first, labels_from_0
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.export.saved_model import classifier, export
from rungwise.trainable.export.test_evaluation import diagnose, score
from rungwise.trainable.train import scores, train
from rungwise.trainable.training.state import State

RNG = np.random.default_rng(3)
GREY = RNG.integers(0, 256, (24, 6, 5), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """24 grey images in three classes."""
    for index, pixels in enumerate(GREY):
        place = tmp_path / "pets" / ("bird", "cat", "dog")[index % 3]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{index:02}.png").write_bytes(png(pixels))
    return tmp_path / "pets"


def test_a_folder_has_a_folder_of_images_for_each_class(folder: Path) -> None:
    data = load(str(folder))
    assert data.classes == ("bird", "cat", "dog")
    assert data.shape == (1, 6, 5)
    parts = [data.train, data.validation, data.test]
    found = {x.tobytes(): int(y) for part in parts for x, y in zip(part.x, part.y, strict=True)}
    assert found == {pixels.tobytes(): index % 3 for index, pixels in enumerate(GREY)}


def test_a_folder_may_be_split(folder: Path) -> None:
    for part in ("train", "validation", "test"):
        place = folder.parent / "split" / part
        place.mkdir(parents=True)
        for name in ("bird", "cat", "dog"):
            (place / name).symlink_to(folder / name)
    data = load(str(folder.parent / "split"))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [24, 24, 24]
    (folder.parent / "split" / "test").rename(folder.parent / "split" / "later")
    with pytest.raises(DataError, match=r"a split folder must contain .* has no test"):
        load(str(folder.parent / "split"))


def test_a_folder_that_cannot_be_used_says_which_image(folder: Path) -> None:
    (folder / "cat" / "zz.png").write_bytes(png(GREY[0][:4]))
    with pytest.raises(DataError, match=r"images must have one size, but .*zz\.png has 5x4 and .*bird/00\.png 5x6"):
        load(str(folder))
    (folder / "cat" / "zz.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"an image must be a readable picture, but .*zz\.png is not"):
        load(str(folder))
    (folder / "empty").mkdir()
    assert "must contain one folder of images per class, but" in problems(DataSource(str(folder)))[0]
    assert "empty: 0" in problems(DataSource(str(folder)))[0]


@pytest.mark.parametrize("kind", ["binary", "struct"])
def test_a_table_may_hold_image_files(tmp_path: Path, kind: str) -> None:
    files = [png(pixels) for pixels in GREY]
    column = pa.array(files) if kind == "binary" else pa.array([{"bytes": one, "path": "x.png"} for one in files])
    path = tmp_path / "own.parquet"
    pq.write_table(pa.table({"image": column, "label": [("a", "b")[i % 2] for i in range(24)]}), path)
    data = load(str(path))
    assert (data.shape, data.classes) == ((1, 6, 5), ("a", "b"))
    assert {x.tobytes() for part in (data.train, data.validation, data.test) for x in part.x} == {
        pixels.tobytes() for pixels in GREY
    }
    pq.write_table(pa.table({"image": [b"?", *files[1:]], "label": np.arange(24) % 2}), path)
    with pytest.raises(DataError, match=r"an image must be a readable picture, but row 0 of .*own\.parquet is not"):
        load(str(path))


def test_coloured_and_grey_images_become_coloured(tmp_path: Path) -> None:
    for index in range(8):
        place = tmp_path / "mixed" / str(index % 2)
        place.mkdir(parents=True, exist_ok=True)
        pixels = GREY[index] if index % 2 else np.stack([GREY[index]] * 3, -1)
        (place / f"{index}.png").write_bytes(png(pixels))
    assert load(str(tmp_path / "mixed")).shape == (3, 6, 5)


def test_data_that_does_not_fit_into_memory_is_refused_before_it_is_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "own.npz", x=np.zeros((1000, 100)), y=np.arange(1000) % 2)
    pq.write_table(pa.table({"a": RNG.normal(size=5000), "label": np.arange(5000) % 2}), tmp_path / "own.parquet")
    places = [str(folder), str(tmp_path / "own.npz"), str(tmp_path / "own.parquet"), "emnist-byclass", "cifar10"]
    assert [problems(DataSource(place)) for place in places] == [[]] * 5
    monkeypatch.setattr(memory, "free", lambda: 3000)
    for place in places:
        (problem,) = problems(DataSource(place))
        assert "a dataset must fit into half of the free memory" in problem
        assert place in problem
    free = memory.free()
    assert free is None or free > 0


def test_a_process_that_trains_keeps_the_memory_it_frees() -> None:
    """Eight times 40 MB, after a few that make room: without it each is mapped anew, page by page."""
    if ctypes.util.find_library("c") is None or not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("this C library has no mallopt, and is left as it is")
    code = """
import resource, torch
from rungwise.trainable.data import memory

def faults():
    for index in range(24):
        if index == 16:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.empty(10_000_000).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
memory.keep()
print(faults())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    given_back, kept = map(int, done.stdout.split())
    assert 4 * kept < given_back


def test_uneven_classes_and_the_range_of_targets_are_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", x=RNG.normal(size=(1000, 2)), y=(np.arange(1000) % 10 == 0).astype(int))
    (note,) = notes(load(str(tmp_path / "own.npz")))
    assert "of 700 training samples are '0', " in note
    assert "Always predicting '0' would be" in note
    assert notes(load("digits")) == []
    assert notes(load("diabetes"))[0].startswith("targets from 25 to 346, mean")


@pytest.mark.parametrize(
    ("name", "shape", "classes"), [("iris", (4,), 3), ("wine", (13,), 3), ("breast-cancer", (30,), 2)]
)
def test_scikit_learns_tables_are_there(name: str, shape: tuple[int, ...], classes: int) -> None:
    data = load(name)
    assert (data.shape, len(data.classes)) == (shape, classes)


def test_every_torchvision_set_has_its_channels_first_and_labels_from_0() -> None:
    x = np.zeros((2, 4, 5, 3), np.uint8)
    assert channels_first("cifar100", x).shape == (2, 3, 4, 5)
    assert channels_first("svhn", x.transpose(0, 3, 1, 2)).shape == (2, 3, 4, 5)
    assert channels_first("emnist-letters", np.zeros((2, 4, 5), np.uint8)).shape == (2, 1, 5, 4)
    assert labels_from_0("emnist-letters", [1, 26]).tolist() == [0, 25]
    assert labels_from_0("qmnist", np.array([[7, 1, 2], [3, 1, 2]])).tolist() == [7, 3]


# -- regression --------------------------------------------------------------------------------------------------


@pytest.fixture
def line(tmp_path: Path) -> str:
    """y = 30 + 20 x1 - 10 x2 + noise of sd 1, in a table."""
    x = RNG.normal(size=(600, 2))
    columns = {"a": x[:, 0], "b": x[:, 1], "label": 30 + 20 * x[:, 0] - 10 * x[:, 1] + RNG.normal(size=600)}
    pq.write_table(pa.table(columns), tmp_path / "line.parquet")
    return str(tmp_path / "line.parquet")


def test_a_regression_learns_and_is_measured_in_its_own_unit(line: str, tmp_path: Path) -> None:
    data = load(line)
    assert data.classes == ()
    assert data.target == pytest.approx((data.train.y.mean(), data.train.y.std()), rel=1e-5)
    tensors = Tensors.of(data, "cpu")
    config = Config(hidden=(), lr=0.05, epochs=10, batch_size=20)
    state = State.fresh(config, tensors)
    reports = list(train(config, tensors, state=state))
    last = reports[-1].asdict()
    assert "val_accuracy" not in last
    assert last["val_r2"] > 0.99
    # By hand: the model's output in standard deviations, the errors in the target's unit.
    x = (torch.tensor(data.validation.x) - tensors.mean) / tensors.std
    error = state.model.eval()(x)[:, 0].detach() * data.target[1] + data.target[0] - torch.tensor(data.validation.y)
    assert last["val_mse"] == pytest.approx(error.square().mean().item(), rel=1e-4)
    assert last["val_mae"] == pytest.approx(error.abs().mean().item(), rel=1e-4)
    assert last["val_loss"] == last["val_mse"]
    assert last["val_r2"] == pytest.approx(1 - last["val_mse"] / data.validation.y.var(), rel=1e-4)
    assert reports[0].train_loss > reports[-1].train_loss

    path = tmp_path / "state.safetensors"
    digest = state.save(path)
    restored = State.load(path, config, tensors, digest)
    assert scores(restored.model, tensors) == scores(state.model, tensors)
    values = config.model_dump(mode="json")
    assert score({1: (path, digest)}, {1: values}, data, "cpu")[1]["r2"] > 0.99
    found = diagnose((path, digest), values, data, "cpu")
    assert (found["classes"], found["samples"]) == ([], len(data.test))
    assert found["true"] == pytest.approx(data.test.y.tolist())
    predictions = classifier((path, digest), config, data)(torch.tensor(data.test.x))
    assert found["predicted"] == pytest.approx(predictions.flatten().tolist(), rel=1e-4, abs=1e-4)
    export((path, digest), values, data, tmp_path / "model")
    predicted = classifier((path, digest), config, data)(torch.tensor(data.test.x))
    program = torch.export.load(tmp_path / "model" / "model.pt2").module()
    torch.testing.assert_close(program(torch.tensor(data.test.x)), predicted)
    assert (predicted[:, 0].detach().numpy() - data.test.y).std() < 3


def test_targets_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    y = np.linspace(0, 1, 200)
    y[7] = np.inf
    np.savez(tmp_path / "own.npz", x=RNG.normal(size=(200, 2)), y=y)
    with pytest.raises(DataError, match=r"targets must be finite, but .* 1 values"):
        load(str(tmp_path / "own.npz"))
