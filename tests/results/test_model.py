"""The confirmed model, used: by Python, by `rungwise predict`, and refused when it cannot be trusted."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.tampering import in_expressions, tampered

from rungwise import Columns
from rungwise.results.model.images import ImageError, read
from rungwise.results.model.model import ModelError, load
from rungwise.trainable.data.data_source import DataSource
from rungwise.trainable.data.dataset import Dataset
from rungwise.trainable.data.dataset import load as load_data

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


CHANGES = [in_samples, in_weights, in_constants, in_expressions]


@pytest.mark.parametrize("change", CHANGES)
def test_a_built_in_model_is_used_and_no_code_of_its_folder_runs(
    folder: Path,
    change: Callable[[dict[str, bytes]], None],
    digits: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = load(folder).predict(digits.validation.x[:5])
    tampered(folder, change)
    for trust in (False, True):
        assert np.array_equal(load(folder, trust).predict(digits.validation.x[:5]), wanted)
        assert not Path("owned").exists()


def test_an_expression_in_a_program_is_code(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should this fail, torch has learnt better, and the test above proves less."""
    monkeypatch.chdir(tmp_path)
    tampered(folder, in_expressions)
    with contextlib.suppress(Exception):
        torch.export.load(folder / "model.pt2")
    assert Path("owned").exists()


def test_the_network_made_again_is_the_exported_program(folder: Path, digits: Dataset) -> None:
    program = torch.export.load(folder / "model.pt2").module()
    with torch.no_grad():
        wanted = program(torch.tensor(digits.validation.x)).numpy()
    assert np.abs(load(folder).predict(digits.validation.x) - wanted).max() < 1e-6


OWN_MODEL = """
import math
from torch import nn
from rungwise.trainable.config import Config, hyperparameter

class Wide(Config):
    width: int = hyperparameter(8, "units", "width", ge=1)

def net(config: Wide, shape, classes) -> nn.Module:
    first = nn.Linear(math.prod(shape), config.width)
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Linear(config.width, classes))
"""


@pytest.fixture
def own(tmp_path: Path, digits: Dataset) -> Path:
    """The folder of a model that a function in a file makes."""
    from rungwise.trainable.config import parse_config
    from rungwise.trainable.data.tensors import Tensors
    from rungwise.trainable.export.saved_model import export
    from rungwise.trainable.training.state import State

    (tmp_path / "net.py").write_text(OWN_MODEL)
    config = parse_config({"model": f"{tmp_path / 'net.py'}:net", "width": 6})
    state = State.fresh(config, Tensors.of(digits.without_test(), "cpu"))
    file = (tmp_path / "1.safetensors", state.save(tmp_path / "1.safetensors"))
    export(file, config.model_dump(mode="json"), digits, tmp_path / "own" / "model")
    return tmp_path / "own" / "model"


def test_a_model_of_the_users_own_is_loaded_only_by_who_trusts_its_maker(own: Path, digits: Dataset) -> None:
    (own.parents[1] / "net.py").write_text("raise SystemExit('the code of a run was run')")
    with pytest.raises(ModelError, match=r"may run any code of whoever made it; if you trust them, say so: --trust, "):
        load(own)
    assert load(own, trust=True).predict(digits.validation.x[:3]).shape == (3, 10)
    picture = drawn(own.parent / "a.png", digits.validation.x[0, 0])
    done = predict(own, picture)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "--trust" in done.stderr
    assert predict("--trust", own, picture).stdout.startswith(f"image\tclass\tprobability\n{picture}\t")


def rewritten(folder: Path, **changed: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changed))


def test_models_of_earlier_versions_are_used(folder: Path, digits: Dataset) -> None:
    """They say nothing of a target's scale: of classes that is all there is to know, of a regression it is missing."""
    wanted = load(folder).predict(digits.validation.x[:3])
    config = json.loads((folder / "config.json").read_text())
    older = {key: value for key, value in config.items() if key not in ("target", "offset")}
    (folder / "config.json").write_text(json.dumps(older))
    assert np.array_equal(load(folder).predict(digits.validation.x[:3]), wanted)
    rewritten(folder, classes=[])
    with pytest.raises(ModelError, match="--trust"):
        load(folder)
    rewritten(folder, classes=older["classes"], sha256={k: v for k, v in older["sha256"].items() if "weights" not in k})
    with pytest.raises(ModelError, match="--trust"):
        load(folder)
    assert np.allclose(load(folder, trust=True).predict(digits.validation.x[:3]), wanted, atol=1e-6)


@pytest.mark.parametrize("name", ["/dev/zero", "../../secret", "other.bin"])
def test_a_description_that_names_files_of_other_folders_is_refused(folder: Path, name: str) -> None:
    """/dev/zero has no end, and took all memory."""
    digests = json.loads((folder / "config.json").read_text())["sha256"]
    rewritten(folder, sha256=digests | {name: "0" * 64})
    with pytest.raises(ModelError, match=r"config\.json must know .* but says "):
        load(folder)


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "model.pt2"])
@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_what_has_no_end_is_not_read(folder: Path, name: str, kind: str) -> None:
    (folder / name).unlink()
    if kind == "device":
        (folder / name).symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).mkdir()
    with pytest.raises(ModelError, match=f"{name} must be a file, but is none"):
        load(folder)


HOSTILE: dict[str, dict[str, Any]] = {
    "wide": {"config": {"hidden": [10**12]}},
    "wider than a number": {"config": {"hidden": [10**30]}},
    "deep": {"config": {"hidden": [32] * 5000}},
    "endless blocks": {"config": {"model": "cnn", "convolutions": 10**12}},
    "no config": {"config": []},
    "code": {"config": {"hidden": [32], "model": ["os:system"]}},
    "unknown hyperparameter": {"config": {"hidden": [32], "widths": 3}},
    "other weights": {"config": {"hidden": [33]}},
    "shape of text": {"shape": "188"},
    "large shape": {"shape": [10**9, 10**9, 10**9]},
    "negative shape": {"shape": [1, -8, -8]},
    "no classes": {"classes": None},
    "many classes": {"classes": ["a"] * 100_000},
    "mean of text": {"mean": ["x"]},
    "mean too long": {"mean": [1.0] * 9},
    "no number": {"std": [float("nan")]},
    "target": {"target": [1.0]},
    "offset": {"offset": {"a": 1}},
    "highest": {"highest": "white"},
    "about": {"sha256": ["model.pt2"]},
}


@pytest.mark.parametrize("case", list(HOSTILE))
def test_a_hostile_description_is_one_line(folder: Path, case: str) -> None:
    rewritten(folder, **HOSTILE[case])
    with pytest.raises(ModelError) as raised:
        load(folder)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1000 + len(str(folder)) + 100


def test_samples_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    """Training refuses them; the most probable class of NaN would be the first."""
    folder = table_model(tmp_path, np.random.default_rng(0).normal(size=(60, 3)))
    model = load(folder)
    assert model.predict(np.zeros((1, 3))).shape == (1, 2)
    for value in (np.nan, np.inf, 1e300):
        with pytest.raises(ModelError, match="samples must be finite in float32"):
            model.predict(np.full((1, 3), value))


def test_large_numbers_keep_their_digits_in_training_and_in_use(tmp_path: Path) -> None:
    """Seconds since 1970, of which one day matters: float32 knows them to 128 s, and to 0.1 standard deviations."""
    random = np.random.default_rng(1)
    x = np.stack([1.7e9 + random.normal(0, 1.0, 400), random.normal(size=400)], 1)
    model = load(table_model(tmp_path, x, epochs=8))
    right = model.predict(x).argmax(1) == (x[:, 0] > np.median(x[:, 0]))
    assert right.mean() > 0.95
    assert model.dtype == "float64"
    program = torch.export.load(tmp_path / "model" / "model.pt2").module()
    assert np.abs(program(torch.tensor(x)).detach().numpy() - model.predict(x)).max() < 1e-6


def table_model(tmp_path: Path, x: Any, epochs: int = 1) -> Path:
    """A model of whether a row's first number is above the median."""
    np.savez(tmp_path / "table.npz", x=x, y=(x[:, 0] > np.median(x[:, 0])).astype(int))
    return trained(tmp_path, load_data(str(tmp_path / "table.npz")), epochs)


def trained(tmp_path: Path, data: Dataset, epochs: int) -> Path:
    """A linear model of a table."""
    from rungwise.trainable.config import Config
    from rungwise.trainable.data.tensors import Tensors
    from rungwise.trainable.export.saved_model import export
    from rungwise.trainable.train import train
    from rungwise.trainable.training.state import State

    config, tensors = Config(hidden=(), lr=0.05, epochs=epochs, batch_size=8), Tensors.of(data.without_test(), "cpu")
    state = State.fresh(config, tensors)
    list(train(config, tensors, state=state))
    file = (tmp_path / "1.safetensors", state.save(tmp_path / "1.safetensors"))
    export(file, config.model_dump(mode="json"), data, tmp_path / "model")
    return tmp_path / "model"


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
        with pytest.raises(ImageError, match=r"must be a readable picture|must exist"):
            read(tmp_path / name, MNIST)
    with pytest.raises(ImageError, match="the model must know grey or colour images, but its samples are float32"):
        read(tmp_path / "whole.png", {"shape": [6], "dtype": "float32", "mean": [0.0] * 6})


# -- the command ---------------------------------------------------------------------------------------------------


def predict(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rungwise", "predict", *map(str, arguments)]
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
        "image\tclass\tprobability",
        *(f"{path}\t{row.argmax()}\t{row.max():.4f}" for path, row in zip(paths, probabilities, strict=True)),
    ]


def test_predict_takes_the_rows_of_a_table_as_they_are(tmp_path: Path) -> None:
    colours = ["red", "green", "blue"]
    lines = [f"{n},{colours[n % 3]},{'' if n % 7 == 0 else n * n},{('low', 'high')[n % 3 == 0]}" for n in range(300)]
    (tmp_path / "t.csv").write_text("\n".join(["id,colour,size,price", *lines]))
    trained(tmp_path, load_data(DataSource(str(tmp_path / "t.csv"), columns=Columns(target="price"))), epochs=8)
    (tmp_path / "new.csv").write_text("size;colour\n4;blue\n;red\n")
    done = predict(tmp_path, tmp_path / "new.csv")
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert rows[0] == ["row", "class", "probability"]
    assert [row[:2] for row in rows[1:]] == [
        [f"{tmp_path / 'new.csv'}:1", "low"],
        [f"{tmp_path / 'new.csv'}:2", "high"],
    ]
    (tmp_path / "new.csv").write_text("colour\nblue\n")
    done = predict(tmp_path, tmp_path / "new.csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert "lacks 'size'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_regression_predicts_its_target_in_its_unit(tmp_path: Path) -> None:
    """The target is the brightness of an image."""
    from rungwise.trainable.config import Config
    from rungwise.trainable.data.tensors import Tensors
    from rungwise.trainable.export.saved_model import export
    from rungwise.trainable.train import train
    from rungwise.trainable.training.state import State

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
    assert done.stdout == f"image\tprediction\n{tmp_path / 'a.png'}\t{predicted[0, 0]:.6g}\n"


def test_predict_names_every_file_that_is_no_picture(tmp_path: Path, exported: Path) -> None:
    done = predict(exported.parent, tmp_path / "a.png", tmp_path / "b.png")
    assert (done.returncode, done.stdout) == (2, "")
    assert ["a.png" in line or "b.png" in line for line in done.stderr.splitlines()] == [True, True]


def test_a_run_is_found_by_its_name_beside_a_folder_of_images_of_that_name(
    tmp_path: Path, exported: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("runs/shapes").symlink_to(exported.parent)
    Path("shapes").mkdir()
    Image.fromarray(digits.validation.x[0, 0]).save("shapes/a.png")
    done = predict("shapes", "shapes/a.png")
    assert done.returncode == 0, done.stderr
    assert "shapes/a.png\t" in done.stdout
    assert "a run's folder contains sweep.sqlite, but shape has none" in predict("shape", "shapes/a.png").stderr
    assert "an image must exist, but there is none at 'b.png'" in predict("shapes", "b.png").stderr
