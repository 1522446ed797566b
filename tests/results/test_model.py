"""The confirmed model, used: by Python, by `python -m results predict`, and refused when it cannot be trusted."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from results.images import ImageError, read
from results.model import ModelError, load
from trainable.data import Dataset
from trainable.data import load as load_data

MNIST = {"shape": [1, 28, 28], "dtype": "uint8", "mean": [33.3], "highest": 255.0}
COLOUR = {"shape": [3, 32, 32], "dtype": "uint8", "mean": [125.0, 123.0, 114.0], "highest": 255.0}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits")


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy of the model, to be damaged."""
    return Path(shutil.copytree(exported, tmp_path / "run" / "model"))


def test_the_model_scores_on_the_test_split_what_was_recorded(exported: Path, digits: Dataset) -> None:
    model = load(exported.parent)  # the run's folder
    assert digits.test is not None
    probabilities = model.predict(digits.test.x)
    assert probabilities.shape == (len(digits.test), 10)
    assert np.mean(probabilities.argmax(1) == digits.test.y) == model.about["test"]["accuracy"] > 0.9
    assert model.classify(digits.test.x[:20]) == [model.classes[row.argmax()] for row in probabilities[:20]]
    assert (model.shape, model.dtype, model.config["hidden"]) == ((1, 8, 8), "uint8", [32])


def test_one_sample_grey_images_and_no_samples_are_understood(exported: Path, digits: Dataset) -> None:
    model = load(exported)  # the model's own folder
    x = digits.validation.x
    whole = model.predict(x[:3])
    assert np.allclose(model.predict(x[0]), whole[:1], atol=1e-6)  # (1, 8, 8)
    assert np.allclose(model.predict(x[0, 0]), whole[:1], atol=1e-6)  # (8, 8)
    assert np.allclose(model.predict(x[:3, 0]), whole, atol=1e-6)  # (3, 8, 8)
    assert model.predict(x[:0]).shape == (0, 10)


def test_samples_of_another_kind_are_refused(exported: Path) -> None:
    model = load(exported)
    with pytest.raises(ModelError, match=r"samples must be uint8 \(N, 1, 8, 8\), but are \(2, 1, 28, 28\)"):
        model.predict(np.zeros((2, 1, 28, 28), np.uint8))
    with pytest.raises(ModelError, match="samples must be uint8, but are float64: give them raw, not normalised"):
        model.predict(np.zeros((2, 1, 8, 8)))


def test_a_run_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"once it is confirmed, but there is no .*model/config\.json"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["model.pt2", "weights.safetensors", "examples.safetensors"])
def test_a_flipped_bit_is_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name} must have SHA-256"):
        load(folder)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 2}', '{"format": 1, "sha256": {}}', '{"format": 1, "sh'])
def test_a_config_that_is_not_one_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"must|config\.json"):
        load(folder)


class Malice:
    """What an attacker would put into a pickle."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (Path.touch, (Path("owned"),))  # type: ignore[return-value]


def tampered(folder: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Rewrite the archive, with digests that fit: whoever can write a model can write its config.json."""
    path = folder / "model.pt2"
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    change(records)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    config = json.loads((folder / "config.json").read_text())
    config["sha256"]["model.pt2"] = sha256(path.read_bytes()).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def in_samples(records: dict[str, bytes]) -> None:
    (name,) = [name for name in records if "sample_inputs" in name]
    records[name] = saved(((Malice(),), {}))


def in_weights(records: dict[str, bytes]) -> None:
    (name,) = [name for name in records if name.endswith("weights_config.json")]
    config = json.loads(records[name])
    entry = next(iter(config["config"].values()))
    entry["use_pickle"] = True
    records[name] = json.dumps(config).encode()
    records[name.rpartition("/")[0] + "/" + entry["path_name"]] = saved(Malice())


def in_constants(records: dict[str, bytes]) -> None:
    (name,) = [name for name in records if name.endswith("constants_config.json")]
    records[name.rpartition("/")[0] + "/opaque_obj_0"] = pickle.dumps(Malice())


@pytest.mark.parametrize("change", [in_samples, in_weights, in_constants])
def test_a_pickle_in_the_program_is_refused_and_never_run(
    folder: Path, change: Callable[[dict[str, bytes]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tampered(folder, change)
    with pytest.raises(ModelError, match="must hold no pickle, because pickles are code"):
        load(folder)
    assert not Path("owned").exists()


def test_an_archive_written_again_without_a_change_is_taken(folder: Path, digits: Dataset) -> None:
    wanted = load(folder).predict(digits.validation.x[:5])
    tampered(folder, lambda records: None)  # noqa: ARG005
    assert np.array_equal(load(folder).predict(digits.validation.x[:5]), wanted)


# -- images ------------------------------------------------------------------------------------------------------


def drawn(path: Path, pixels: Any, mode: str | None = None) -> Path:
    image = Image.fromarray(np.asarray(pixels))
    (image.convert(mode) if mode else image).save(path)
    return path


def test_a_picture_of_the_right_size_is_taken_as_it_is(tmp_path: Path) -> None:
    pixels = np.zeros((28, 28), np.uint8)
    pixels[5:20, 10:14] = 200
    found = read(drawn(tmp_path / "seven.png", pixels), MNIST)
    assert np.array_equal(found.pixels, pixels[None])
    assert found.notes == ()


def test_a_large_picture_keeps_its_proportions_and_says_that_it_was_resized(tmp_path: Path) -> None:
    pixels = np.full((112, 56), 20, np.uint8)
    pixels[:, 20:36] = 220
    found = read(drawn(tmp_path / "one.png", pixels), MNIST)
    assert found.notes == ("resized from 56x112 to 28x28",)
    assert found.pixels.shape == (1, 28, 28)
    # 56 of 112 wide becomes 14 of 28, in the middle; the rest is its border's colour
    assert (found.pixels[0, 14, [0, 5, 22, 27]] == 20).all()
    assert (found.pixels[0, 14, 13:15] > 200).all()


def test_colours_become_grey_and_grey_becomes_colours(tmp_path: Path) -> None:
    red = np.zeros((28, 28, 3), np.uint8)
    red[..., 0] = 100
    assert (read(drawn(tmp_path / "red.png", red), MNIST).pixels == 30).all()  # 0.299 of red (ITU-R 601)
    grey = np.full((32, 32), 70, np.uint8)
    assert (read(drawn(tmp_path / "grey.png", grey), COLOUR).pixels == 70).all()
    assert read(tmp_path / "grey.png", COLOUR).pixels.shape == (3, 32, 32)


def test_sixteen_bits_a_palette_and_transparency_are_understood(tmp_path: Path) -> None:
    deep = np.full((28, 28), 0x2000, np.uint16)
    assert (read(drawn(tmp_path / "deep.png", deep), MNIST).pixels == 32).all()
    plain = np.full((28, 28), 40, np.uint8)
    assert (read(drawn(tmp_path / "palette.gif", plain, "P"), MNIST).pixels == 40).all()
    clear = np.zeros((28, 28, 4), np.uint8)  # nothing drawn: white
    assert (read(drawn(tmp_path / "clear.png", clear), MNIST).pixels == 255).all()


def test_ink_on_paper_is_hinted_at_and_inverted_when_asked(tmp_path: Path) -> None:
    paper = np.full((28, 28), 250, np.uint8)
    paper[5:20, 10:14] = 10
    path = drawn(tmp_path / "paper.png", paper)
    assert read(path, MNIST).notes == ("its background is light, but the model knows dark ones: try --invert",)
    found = read(path, MNIST, invert=True)
    assert found.notes == ()
    assert np.array_equal(found.pixels[0], 255 - paper)


def test_the_range_is_the_models(tmp_path: Path, exported: Path, digits: Dataset) -> None:
    """scikit-learn's digits have 17 levels: a picture of one, with 255, is the digit again."""
    model = load(exported)
    one = digits.validation.x[7]
    path = drawn(tmp_path / "digit.png", (one[0].astype(float) * 255 / 16).round().astype(np.uint8))
    assert np.array_equal(read(path, model.description).pixels, one)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    whole = drawn(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 255, (99, 99), np.uint8)).read_bytes()
    (tmp_path / "torn.png").write_bytes(whole[: len(whole) // 2])
    for name in ("text.png", "torn.png", "absent.png", "."):
        with pytest.raises(ImageError, match="must be a readable picture"):
            read(tmp_path / name, MNIST)
    with pytest.raises(ImageError, match="the model must know grey or colour images, but its samples are float32"):
        read(tmp_path / "whole.png", {"shape": [6], "dtype": "float32", "mean": [0.0] * 6})


# -- the command ---------------------------------------------------------------------------------------------------


def predict(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "results", "predict", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def test_predict_prints_class_and_probability_a_line(tmp_path: Path, exported: Path, digits: Dataset) -> None:
    probabilities = load(exported).predict(digits.validation.x[:3])
    paths = [
        drawn(tmp_path / f"{i}.png", (digits.validation.x[i, 0] * 255.0 / 16).round().astype(np.uint8))
        for i in range(3)
    ]
    done = predict(exported.parent, *paths)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{path}\t{row.argmax()}\t{row.max():.4f}" for path, row in zip(paths, probabilities, strict=True)
    ]


def test_a_regression_predicts_its_target_in_its_unit(tmp_path: Path) -> None:
    """The target is the brightness of an image."""
    from trainable.config import Config
    from trainable.data import Tensors
    from trainable.export import export
    from trainable.state import State
    from trainable.train import train

    x = np.random.default_rng(2).integers(0, 256, (600, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "grey.npz", x=x, y=x.mean((1, 2)))
    data = load_data(str(tmp_path / "grey.npz"))
    config, tensors = Config(hidden=(), lr=0.05, epochs=8, batch_size=20), Tensors.of(data.without_test(), "cpu")
    state = State.fresh(config, tensors)
    list(train(config, tensors, state=state))
    file = (tmp_path / "1.safetensors", state.save(tmp_path / "1.safetensors"))
    export(file, config.model_dump(mode="json"), data, tmp_path / "model")
    model = load(tmp_path)
    predicted = model.predict(x[:5])
    assert predicted.shape == (5, 1)
    assert np.abs(predicted[:, 0] - x[:5].mean((1, 2))).max() < 2
    assert model.predict(x[:0]).shape == (0, 1)
    with pytest.raises(ModelError, match="a model must know classes to classify"):
        model.classify(x[:5])
    Image.fromarray(x[0]).save(tmp_path / "a.png")
    done = predict(tmp_path, tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'a.png'}\t{predicted[0, 0]:.6g}\n"


def test_predict_names_every_file_that_is_no_picture(tmp_path: Path, exported: Path) -> None:
    done = predict(exported.parent, tmp_path / "a.png", tmp_path / "b.png")
    assert (done.returncode, done.stdout) == (2, "")
    assert ["a.png" in line or "b.png" in line for line in done.stderr.splitlines()] == [True, True]
