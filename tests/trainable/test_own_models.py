"""Models of a user's own whose weights are not plain: tied, computed from others, expanded; and what they must make."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm

from rungwise.trainable.config import Config
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.import_path import import_path_of
from rungwise.trainable.model import OutputError, decaying, derived, penalty, weights
from rungwise.trainable.storage import CheckpointError
from rungwise.trainable.train import train
from rungwise.trainable.training.state import State

SETTINGS = {"batch_size": 100, "epochs": 2, "lr": 0.01, "l2": 1e-3, "l1": 1e-4, "weight_decay": 1e-3}


def two_layers(first: nn.Linear, second: nn.Linear) -> nn.Module:
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second)


class Tied(nn.Module):
    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(inputs, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.third.weight = self.second.weight
        self.last = nn.Linear(16, classes)
        self.register_buffer("scale", torch.full((1,), 0.5).expand(16))
        self.register_buffer("part", self.first.bias.detach()[:8])  # a part of another tensor's memory

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1)).relu() * self.get_buffer("scale").clone()
        if self.training:
            self.get_buffer("scale")[:1].mul_(0.9)
        return self.last(self.third(self.second(x).relu()).relu())


def tied(_config: Config, shape: tuple[int, ...], classes: int) -> nn.Module:
    return Tied(shape[0] * shape[1] * shape[2], classes)


def weight_normed(_config: Config, shape: tuple[int, ...], classes: int) -> nn.Module:
    inputs = shape[0] * shape[1] * shape[2]
    return two_layers(parametrizations.weight_norm(nn.Linear(inputs, 16)), nn.Linear(16, classes))


def spectral_normed(_config: Config, shape: tuple[int, ...], classes: int) -> nn.Module:
    inputs = shape[0] * shape[1] * shape[2]
    return two_layers(parametrizations.spectral_norm(nn.Linear(inputs, 16)), nn.Linear(16, classes))


def spectral_normed_of_old(_config: Config, shape: tuple[int, ...], classes: int) -> nn.Module:
    return two_layers(spectral_norm(nn.Linear(shape[0] * shape[1] * shape[2], 16)), nn.Linear(16, classes))


def pruned(_config: Config, shape: tuple[int, ...], classes: int) -> nn.Module:
    layer = nn.Linear(shape[0] * shape[1] * shape[2], 16)
    prune.l1_unstructured(layer, "weight", amount=0.5)
    return two_layers(layer, nn.Linear(16, classes))


OWN = [tied, weight_normed, spectral_normed, spectral_normed_of_old, pruned]


@pytest.mark.parametrize("model", OWN)
def test_a_model_whose_weights_are_not_plain_trains_and_goes_on_from_every_checkpoint_bit_for_bit(
    tensors: Tensors, tmp_path: Path, model: Callable[..., nn.Module]
) -> None:
    config = Config(**SETTINGS, model=import_path_of(model))
    state = State.fresh(config, tensors)
    digests, reports = [state.save(tmp_path / "0")], []
    for report in train(config, tensors, state=state):
        reports.append(replace(report, seconds=0))
        digests.append(state.save(tmp_path / str(report.step)))
    assert reports[-1].train_loss < reports[0].train_loss
    for step, digest in enumerate(digests):
        again = State.load(tmp_path / str(step), config, tensors, digest)
        assert [replace(report, seconds=0) for report in train(config, tensors, state=again)] == reports[step:]
        for name, value in state.model.state_dict().items():
            assert torch.equal(again.model.state_dict()[name], value), name


def test_a_restored_model_is_tied_again_and_its_shared_weight_counts_once(tensors: Tensors, tmp_path: Path) -> None:
    config = Config(**SETTINGS, model=import_path_of(tied))
    state = State.fresh(config, tensors)
    next(train(config, tensors, state=state))
    state.save(tmp_path / "saved")
    model: Any = State.load(tmp_path / "saved", config, tensors).model
    assert model.third.weight is model.second.weight
    assert model.get_buffer("scale").stride() == (0,)
    layers = (model.first, model.second, model.last)
    assert [id(weight) for weight in weights(model)] == [id(layer.weight) for layer in layers]
    by_hand = sum(1e-4 * layer.weight.abs().sum() + 1e-3 * layer.weight.square().sum() for layer in layers)
    assert state.history[-1]["penalty"] == pytest.approx(by_hand.item(), rel=1e-6)


@pytest.mark.parametrize("model", [weight_normed, spectral_normed, spectral_normed_of_old, pruned])
def test_a_penalty_acts_on_the_weight_that_the_network_uses_and_decay_on_what_it_comes_from(
    tensors: Tensors, model: Callable[..., nn.Module]
) -> None:
    config = Config(**SETTINGS | {"optimizer": "sgd", "momentum": 0.0}, model=import_path_of(model))
    state = State.fresh(config, tensors)
    next(train(config, tensors, state=state))
    net: Any = state.model.eval()
    used, plain = net[1].weight.detach(), net[3].weight.detach()
    by_hand = penalty([plain, used], config).item()
    assert state.history[-1]["penalty"] == pytest.approx(by_hand, rel=1e-6)
    assert [id(weight) for weight in weights(net)] == [id(net[3].weight)]
    assert len(derived(net)) == 1
    leaves = {name for name, p in net.named_parameters() if any(p is one for one in decaying(net))}
    assert leaves == {name for name, _ in net.named_parameters() if "bias" not in name}


def test_the_penalty_of_a_weight_normed_layer_is_the_square_of_its_magnitudes(tensors: Tensors) -> None:
    """||g v / ||v|| ||^2 is the sum of g^2: direction free, magnitude shrunk. By hand, in plain torch."""
    one_step = {"optimizer": "sgd", "momentum": 0.0, "lr": 0.01, "epochs": 1, "batch_size": len(tensors.y_train)}
    magnitudes = []
    for l2, epochs in ((0.3, 0), (0.3, 1), (0.0, 1)):
        config = Config(**one_step, l2=l2, model=import_path_of(weight_normed))
        state = State.fresh(config, tensors)
        if epochs:
            list(train(config, tensors, state=state))
        magnitudes.append(dict(state.model.named_parameters())["1.parametrizations.weight.original0"])
    before, penalised, free = magnitudes
    torch.testing.assert_close(penalised, free - 0.01 * 2 * 0.3 * before)


class Stateful(nn.Linear):
    def get_extra_state(self) -> Any:
        return object()


def stateful(_config: Config, shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), Stateful(shape[0] * shape[1] * shape[2], classes))


def test_a_state_that_is_no_tensors_is_said_in_a_line(tensors: Tensors) -> None:
    state = State.fresh(Config(model=import_path_of(stateful)), tensors)
    with pytest.raises(CheckpointError, match=r"^a model's state must be tensors, but cannot be kept: AttributeError"):
        state.content()


class Makes(nn.Module):
    def __init__(self, layer: nn.Module, make: Callable[[Tensor, bool], Any]) -> None:
        super().__init__()
        self.layer, self.make = layer, make

    def forward(self, x: Tensor) -> Any:
        return self.make(self.layer(x.flatten(1)), self.training)


def _making(make: Callable[[Tensor, bool], Any], shape: tuple[int, ...], classes: int) -> nn.Module:
    return Makes(nn.Linear(shape[0] * shape[1] * shape[2], classes), make)


def pair(_config: Config, shape: tuple[int, ...], classes: int) -> nn.Module:
    return _making(lambda made, _: (made, made), shape, classes)


def pair_in_training(_config: Config, shape: tuple[int, ...], classes: int) -> nn.Module:
    return _making(lambda made, training: (made, made) if training else made, shape, classes)


def mapping(_config: Config, shape: tuple[int, ...], classes: int) -> nn.Module:
    return _making(lambda made, _: {"logits": made}, shape, classes)


def nothing(_config: Config, shape: tuple[int, ...], classes: int) -> nn.Module:
    return _making(lambda _, __: None, shape, classes)


def one_number(_config: Config, shape: tuple[int, ...], classes: int) -> nn.Module:
    return _making(lambda made, _: made[:, 0], shape, classes)


def a_class(_config: Config, _shape: tuple[int, ...], _classes: int) -> Any:
    return nn.Linear


WRONG: list[tuple[Callable[..., Any], str]] = [
    (pair, r"returns a tuple of \(2, 10\), \(2, 10\) for B = 2$"),
    (pair_in_training, r"returns a tuple of \(100, 10\), \(100, 10\) for B = 100$"),
    (mapping, r"returns a dict of 'logits' for B = 2$"),
    (nothing, r"returns None for B = 2$"),
    (one_number, r"returns \(2,\) for B = 2$"),
    (a_class, r"returned the class Linear, not an instance of it$"),
]


@pytest.mark.parametrize(("model", "says"), WRONG)
def test_a_model_that_makes_no_logits_says_what_it_makes(
    tensors: Tensors, model: Callable[..., Any], says: str
) -> None:
    config = Config(model=import_path_of(model), batch_size=100)
    with pytest.raises(OutputError, match=f"^a model.*{says}"):
        next(train(config, tensors))


def test_a_state_goes_on_after_the_file_of_its_model_was_moved(tensors: Tensors, tmp_path: Path) -> None:
    config = Config(model=import_path_of(tied), batch_size=100)
    state = State.fresh(config, tensors)
    next(train(config, tensors, state=state))
    digest = state.save(tmp_path / "saved")
    moved = tmp_path / "moved.py"
    moved.write_text(Path(__file__).read_text())
    again = State.load(tmp_path / "saved", config.model_copy(update={"model": f"{moved}:tied"}), tensors, digest)
    assert again.step == 1
    with pytest.raises(CheckpointError, match="must have this trial's config, but model is"):
        State.load(tmp_path / "saved", config.model_copy(update={"model": f"{moved}:pruned"}), tensors, digest)


LOADED = nn.Linear(784, 784)  # as a file that reads pretrained weights once has it


def loaded(_config: Config, _shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), LOADED, nn.ReLU(), nn.Linear(784, classes))


def test_weights_of_an_earlier_trial_are_refused_unless_they_are_frozen(tensors: Tensors) -> None:
    config = Config(model=import_path_of(loaded), batch_size=100)
    kept = State.fresh(config, tensors).model
    with pytest.raises(OutputError, match=r"must make new weights at each call, but '1.weight' of "):
        State.fresh(config, tensors)
    for weight in LOADED.parameters():
        weight.requires_grad_(False)
    assert kept.get_parameter("1.weight") is LOADED.weight
    first, second = State.fresh(config, tensors), State.fresh(config, tensors)
    assert first.model.get_parameter("1.weight") is second.model.get_parameter("1.weight")


def test_a_model_of_a_script_that_python_m_runs_is_found_by_other_processes(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets/__init__.py").touch()
    (tmp_path / "nets/sweep.py").write_text(
        "from rungwise.trainable.import_path import import_path_of\n"
        "from . import __name__ as package  # a relative import: no other way to run this file\n"
        "def net(config): ...\n"
        "if __name__ == '__main__':\n    print(import_path_of(net))\n"
    )

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    path = run("-m", "nets.sweep")
    assert path == "nets.sweep:net"
    code = f"from rungwise.trainable.import_path import import_function; print(import_function({path!r}).__name__)"
    assert run("-c", code) == "net"
