"""The exported model: the same answers in a fresh process that knows torch and nothing of this project."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rungwise.trainable.config import Config, parse_config
from rungwise.trainable.data.dataset import Dataset, load
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.export.saved_model import (
    CONFIG,
    EXAMPLES,
    PROGRAM,
    WEIGHTS,
    classifier,
    export,
    saved_weights,
    unexportable,
)
from rungwise.trainable.export.test_evaluation import File, score
from rungwise.trainable.storage import CheckpointError
from rungwise.trainable.train import train
from rungwise.trainable.training.state import State

FILES = (CONFIG, WEIGHTS, PROGRAM, EXAMPLES)
SETTINGS: dict[str, Any] = {"hidden": (16,), "dropout": 0.2, "input_dropout": 0.1, "lr": 0.01, "epochs": 3}
# Run in a folder of its own: no module of this project is on its path.
USER = """
import sys
import numpy, torch
program = torch.export.load(sys.argv[1]).module()
images = numpy.load(sys.argv[2])
numpy.save(sys.argv[3], program(torch.from_numpy(images)).detach().numpy())
assert not {"trainable", "results", "sweeps"} & sys.modules.keys()
"""


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def trained(data: Dataset, path: Path, **changed: Any) -> tuple[dict[str, Any], File]:
    config = Config.model_validate(SETTINGS | changed)
    tensors = Tensors.of(data.without_test(), "cpu")
    state = State.fresh(config, tensors)
    for _ in train(config, tensors, state=state):
        pass
    return config.model_dump(mode="json"), (path, state.save(path))


@pytest.fixture(scope="module")
def made(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], File, Path]:
    """(config, final state, the exported folder)"""
    run = tmp_path_factory.mktemp("run")
    config, file = trained(digits, run / "41.safetensors")
    export(file, config, digits.without_test(), run / "model", {"trial": 41, "validation": 0.5})
    return config, file, run / "model"


def test_a_fresh_process_gives_the_same_probabilities_and_the_same_test_accuracy(
    digits: Dataset, made: tuple[dict[str, Any], File, Path], tmp_path: Path
) -> None:
    config, file, folder = made
    assert digits.test is not None
    np.save(tmp_path / "images.npy", digits.test.x)
    torchs_own = "ignore:The given buffer is not writable:UserWarning"  # torch 2.12 says it of every program
    command = [
        sys.executable,
        "-W",
        "error",
        "-W",
        torchs_own,
        "-c",
        USER,
        folder / PROGRAM,
        "images.npy",
        "probabilities.npy",
    ]
    subprocess.run([str(part) for part in command], cwd=tmp_path, check=True, timeout=600)
    probabilities = np.load(tmp_path / "probabilities.npy")
    with torch.no_grad():
        wanted = classifier(file, Config.model_validate(config), digits)(torch.tensor(digits.test.x)).numpy()
    assert np.abs(probabilities - wanted).max() < 1e-6
    assert np.abs(probabilities.sum(1) - 1).max() < 1e-6
    accuracy = np.mean(probabilities.argmax(1) == digits.test.y)
    assert accuracy == score({41: file}, {41: config}, digits, "cpu")[41]["accuracy"]
    assert accuracy > 0.5


def test_the_program_takes_any_number_of_images_and_is_the_same_each_time(
    digits: Dataset, made: tuple[dict[str, Any], File, Path]
) -> None:
    program = torch.export.load(made[2] / PROGRAM).module()
    images = torch.tensor(digits.validation.x)
    whole = program(images)
    assert torch.equal(whole, program(images))  # no dropout
    for count in (0, 1, 2, 63, 65):
        part = program(images[:count])
        assert part.shape == (count, 10)
        assert torch.allclose(part, whole[:count], atol=1e-6)


def test_config_json_says_what_the_files_are(digits: Dataset, made: tuple[dict[str, Any], File, Path]) -> None:
    config, _, folder = made
    whole = json.loads((folder / CONFIG).read_text())
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert whole["sha256"] == {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES[1:]}
    assert Config.model_validate(whole["config"]) == Config.model_validate(config)
    assert (whole["shape"], whole["dtype"], whole["highest"]) == ([1, 8, 8], "uint8", 16.0)
    assert whole["classes"] == [str(digit) for digit in range(10)]
    assert (whole["mean"], whole["std"]) == (list(digits.mean), list(digits.std))
    assert whole["data"] == {"name": "digits", "digest": digits.without_test().digest}
    assert whole["about"] == {"trial": 41, "validation": 0.5}


def test_the_weights_are_the_models_and_no_optimiser(made: tuple[dict[str, Any], File, Path]) -> None:
    _, (path, _), folder = made
    weights, state = load_file(folder / WEIGHTS), load_file(path)
    assert {f"model.{name}" for name in weights} == {name for name in state if name.startswith("model.")}
    assert all(torch.equal(value, state[f"model.{name}"]) for name, value in weights.items())


def test_the_examples_hold_what_the_program_must_say(digits: Dataset, made: tuple[dict[str, Any], File, Path]) -> None:
    kept = load_file(made[2] / EXAMPLES)
    assert torch.equal(kept["samples"], torch.tensor(digits.validation.x[:4]))
    program = torch.export.load(made[2] / PROGRAM).module()
    assert torch.allclose(kept["probabilities"], program(kept["samples"]), atol=1e-6)


def test_an_export_over_an_older_one_replaces_it(
    digits: Dataset, made: tuple[dict[str, Any], File, Path], tmp_path: Path
) -> None:
    config, file, _ = made
    for left in (".model.tmp", ".model.old"):  # by a driver that was killed
        (tmp_path / left).mkdir()
        (tmp_path / left / "torn").touch()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "older").touch()
    export(file, config, digits, tmp_path / "model")
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(["model", *FILES])


def test_a_damaged_state_leaves_the_older_model_and_nothing_else(
    digits: Dataset, made: tuple[dict[str, Any], File, Path], tmp_path: Path
) -> None:
    config, (path, _), _ = made
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "older").touch()
    with pytest.raises(CheckpointError, match="must have SHA-256"):
        export((path, "0" * 64), config, digits, tmp_path / "model")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["model", "older"]


@pytest.mark.parametrize(
    "changed", [{"precision": "bf16"}, {"hidden": (), "batch_norm": False}, {"activation": "gelu"}]
)
def test_every_kind_of_network_can_be_exported(digits: Dataset, tmp_path: Path, changed: dict[str, Any]) -> None:
    config, file = trained(digits, tmp_path / "1.safetensors", epochs=1, **changed)
    export(file, config, digits, tmp_path / "model")  # compares the program with the model
    assert torch.export.load(tmp_path / "model" / PROGRAM).module()(torch.tensor(digits.train.x[:3])).shape == (3, 10)


def test_columns_of_numbers_can_be_exported(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(400, 6))
    np.savez(tmp_path / "table.npz", x=x, y=(x[:, 0] > 0).astype(int))
    data = load(str(tmp_path / "table.npz"))
    config, file = trained(data, tmp_path / "1.safetensors")
    assert export(file, config, data, tmp_path / "model")["dtype"] == "float32"
    program = torch.export.load(tmp_path / "model" / PROGRAM).module()
    assert program(torch.tensor(data.validation.x)).shape == (len(data.validation), 2)


def test_nothing_in_the_folder_names_a_path_of_this_machine(digits: Dataset, tmp_path: Path) -> None:
    """Whoever gets the model need not know who made it, and where. torch notes each node's place in the source."""
    (tmp_path / "net.py").write_text(
        "from torch import nn\nfrom rungwise.trainable.config import Config\n\n\nclass Net(nn.Sequential):\n"
        "    def forward(self, x):\n        return super().forward(x)\n\n\n"
        "def net(config: Config) -> nn.Module:\n    return Net(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    np.savez(tmp_path / "own.npz", x=digits.train.x, y=digits.train.y)
    data = load(str(tmp_path / "own.npz"))
    for name, changed in {"built-in": {}, "own": {"model": f"{tmp_path / 'net.py'}:net"}}.items():
        config, file = trained(data, tmp_path / f"{name}.safetensors", epochs=1, **changed)
        export(file, config, data, tmp_path / name)
        places = [str(path).encode() for path in (tmp_path, Path.cwd(), Path(torch.__file__).parents[2], Path.home())]
        for path in (tmp_path / name).iterdir():
            assert [place for place in places if place in _unpacked(path)] == []


def _unpacked(path: Path) -> bytes:
    if path.suffix != ".pt2":
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return b"".join(name.encode() + archive.read(name) for name in archive.namelist())


def test_a_model_with_tied_weights_has_each_in_its_file(tmp_path: Path) -> None:
    first, second = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
    second.weight = first.weight
    weights = saved_weights(torch.nn.Sequential(first, second))
    (tmp_path / "w").write_bytes(weights)
    found = load_file(tmp_path / "w")
    assert torch.equal(found["0.weight"], found["1.weight"])
    assert torch.equal(found["0.weight"], first.weight)


def test_one_validation_sample_makes_a_program_for_any_number(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(30, 3)), np.arange(30) % 2
    parts = {"x": x, "y": y, "x_validation": x[:1], "y_validation": y[:1], "x_test": x, "y_test": y}
    np.savez(tmp_path / "own.npz", **parts)
    data = load(str(tmp_path / "own.npz"))
    config, file = trained(data, tmp_path / "1.safetensors", epochs=1, batch_size=8)
    export(file, config, data, tmp_path / "model")
    program = torch.export.load(tmp_path / "model" / PROGRAM).module()
    assert [len(program(torch.tensor(data.test.x[:count]))) for count in (1, 2, 30)] == [1, 2, 30]


def test_a_network_of_ours_can_be_exported_before_it_is_trained(digits: Dataset) -> None:
    assert unexportable(Config(hidden=(4,)), digits.without_test()) is None


LOUD = """
import logging, sys, warnings
import torch
from torch import nn

class Loud(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.lstm, self.last = nn.LSTM(shape[2], 4, batch_first=True), nn.Linear(4, classes)
    def forward(self, x):
        print("printed")
        warnings.warn("warned")
        logging.getLogger("torch.fx").error("logged")
        out = self.lstm(x[:, 0])[0][:, -1]
        return self.last(out / out.abs().max() if out.abs().max() > 0.9 else out)

def net(config, shape, classes):
    return Loud(shape, classes)

if __name__ == "__main__":
    from rungwise.trainable.config import parse_config
    from rungwise.trainable.data.dataset import load
    from rungwise.trainable.export.saved_model import unexportable
    problem = unexportable(parse_config({"model": f"{sys.argv[0]}:net"}), load("digits").without_test())
    print(problem.split(":")[0])
"""


def test_nothing_is_heard_of_torch_export_but_why_it_refuses_a_model(
    tmp_path: Path, digits: Dataset, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    problem = unexportable(parse_config({"model": f"{tmp_path}/loud.py:net"}), digits.without_test())
    assert problem is not None
    assert problem.startswith("GuardOnDataDependentSymNode:")
    assert capfd.readouterr() == ("", "")


@pytest.mark.long  # imports torch.export anew
def test_nothing_is_heard_of_torch_export_in_a_process_that_first_imports_it(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    command = [sys.executable, str(tmp_path / "loud.py")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert (done.stdout, done.stderr) == ("GuardOnDataDependentSymNode\n", "")
