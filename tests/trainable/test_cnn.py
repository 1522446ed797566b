"""Convolutional networks, models of the user's own, and augmentation: shapes, refusals, and the same bits again."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from rungwise.trainable.config import Config, described, parse_config, problems
from rungwise.trainable.data.augment import GROUP, augmentation
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.import_path import ModelError, import_path_of
from rungwise.trainable.model import ChannelDropout, build, weights
from rungwise.trainable.train import train
from rungwise.trainable.training.state import State

OWN = """
from torch import nn
from rungwise.trainable.config import Config, hyperparameter


class Wide(Config):
    factor: int = hyperparameter(2, "", "how many times 8 units", ge=1)


def wide(config: Wide) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 8 * config.factor), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8 * config.factor, 10)
    )


def any_shape(config: Config, shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))


def wrong(config: Config) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 7))


def nothing(config: Config):
    return None
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "own.py"
    path.write_text(textwrap.dedent(OWN))
    return str(path)


def made(config: Config, shape: tuple[int, ...] = (1, 28, 28)) -> nn.Module:
    return build(config, shape, 10, torch.Generator().manual_seed(1))


def test_a_block_is_conv_norm_activation_channel_dropout_pool() -> None:
    config = Config(model="cnn", channels="4-8", hidden=(16,), channel_dropout=0.1, dropout=0.2, convolutions=2)
    model = made(config)
    block = ["conv1_1", "norm1_1", "activation1_1", "conv1_2", "norm1_2", "activation1_2", "channel_dropout1", "pool1"]
    names = list(dict(model.named_children()))
    assert names[:8] == block
    assert names[16:] == ["flatten", "linear1", "norm1", "activation1", "dropout1", "logits"]
    assert [tuple(w.shape) for w in weights(model)] == [
        (4, 1, 3, 3), (4, 4, 3, 3), (8, 4, 3, 3), (8, 8, 3, 3), (16, 8 * 7 * 7), (10, 16)
    ]  # fmt: skip
    assert model(torch.randn(5, 1, 28, 28)).shape == (5, 10)


@pytest.mark.parametrize(("kernel", "shape"), [(1, (3, 32, 32)), (5, (1, 8, 8)), (3, (2, 9, 5))])
def test_any_image_and_odd_kernel_fit(kernel: int, shape: tuple[int, ...]) -> None:
    assert made(Config(model="cnn", channels=(3, 5), hidden=(), kernel=kernel), shape)(
        torch.randn(4, *shape)
    ).shape == (4, 10)


def test_a_cnn_that_does_not_fit_is_refused_with_its_numbers() -> None:
    with pytest.raises(ValueError, match="model='cnn' needs images, but a sample is 13 numbers"):
        made(Config(model="cnn"), (13,))
    with pytest.raises(ValueError, match="halves an image, but 28x28 cannot be halved 5 times"):
        made(Config(model="cnn", channels=(2, 2, 2, 2, 2)))
    assert problems({"model": "cnn", "kernel": 4}) == ["kernel must be odd with model='cnn', but got kernel=4"]
    assert problems({"model": "mlp", "kernel": 4}) == []


def test_channel_dropout_drops_whole_channels_at_its_rate_and_keeps_the_mean() -> None:
    layer = ChannelDropout(0.25)
    layer.generator = torch.Generator().manual_seed(3)
    y = layer(torch.ones(200, 50, 3, 3))
    assert torch.equal(y, y[:, :, :1, :1].expand_as(y))
    assert (y == 0).float().mean().item() == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / 10_000) ** 0.5)
    assert y.max().item() == pytest.approx(1 / 0.75)
    assert torch.equal(layer.eval()(y), y)


AUGMENTED = {"shift": 2, "rotation": 10, "flip": 0.5, "erasing": 0.5}
SMALL = {"model": "cnn", "channels": (2, 3), "hidden": (8,), "batch_size": 250, "epochs": 2, "reports_per_epoch": 2}


@pytest.mark.parametrize("kind", ["cnn", "own"])
def test_a_restored_trial_goes_on_bit_for_bit(tensors: Tensors, tmp_path: Path, own: str, kind: str) -> None:
    """With channel dropout and augmentation, and with a model whose nn.Dropout draws from torch's own stream."""
    shared = {**SMALL, **AUGMENTED, "channel_dropout": 0.2}
    config = parse_config(shared | ({"model": f"{own}:wide"} if kind == "own" else {}))
    state = State.fresh(config, tensors)
    reports, digests = [], []
    for report in train(config, tensors, state=state):
        reports.append(replace(report, seconds=0))
        digests.append(state.save(tmp_path / str(report.step)))
        torch.manual_seed(report.step)  # whatever another does with the global stream
    assert len({r.train_loss for r in reports}) == 4
    for step in (1, 3):
        restored = State.load(tmp_path / str(step), config, tensors, digests[step - 1])
        again = [replace(r, seconds=0) for r in train(config, tensors, state=restored)]
        assert again == reports[step:]
        assert all(
            torch.equal(a, b) for a, b in zip(restored.model.parameters(), state.model.parameters(), strict=True)
        )


def test_a_cnn_learns_from_augmented_digits(tensors: Tensors) -> None:
    config = Config(model="cnn", channels=(8, 16), hidden=(32,), shift=1, epochs=3, lr=5e-3, batch_size=64)
    reports = list(train(config, tensors))
    assert reports[-1].val_accuracy > 0.9
    assert reports[-1].train_loss < reports[0].train_loss


def test_augmentation_moves_turns_and_erases_within_its_bounds_a_group_alike() -> None:
    images = torch.zeros(4 * GROUP, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 12:16, 12:16] = 255
    torch.manual_seed(0)
    shifted = augmentation(Config(shift=3), (1, 28, 28))(images)
    assert shifted.dtype == torch.uint8
    centres = []
    for group in shifted.split(GROUP):
        assert torch.equal(group, group[:1].expand_as(group))
        rows, columns = group[0, 0].nonzero().float().mean(0).tolist()
        centres.append((rows, columns))
        assert abs(rows - 13.5) <= 3.5
        assert abs(columns - 13.5) <= 3.5
    assert len(set(centres)) > 1
    full = torch.full((GROUP, 1, 28, 28), 200, dtype=torch.uint8)
    erased = augmentation(Config(erasing=1.0), (1, 28, 28))(full)
    assert 0.01 < (erased == 0).float().mean().item() < 0.3
    wide = torch.arange(28, dtype=torch.uint8).expand(1, 1, 28, 28).contiguous()
    assert torch.equal(augmentation(Config(flip=1.0), (1, 28, 28))(wide), wide.flip(3))
    assert augmentation(Config(), (1, 28, 28)) is None
    with pytest.raises(ValueError, match="augmentation needs images"):
        augmentation(Config(shift=1), (13,))


def test_a_model_of_ones_own_has_hyperparameters_of_its_own(own: str, tensors: Tensors) -> None:
    config = parse_config({"model": f"{own}:wide", "factor": 3})
    assert type(config).__name__ == "Wide"
    state = State.fresh(config, tensors)
    assert [tuple(w.shape) for w in weights(state.model)] == [(24, 784), (10, 24)]
    assert described(type(config))["factor"] == {"type": "int", "unit": "", "help": "how many times 8 units"}
    again = State.fresh(config, tensors).model
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), state.model.parameters(), strict=True))
    assert made(parse_config({"model": f"{own}:any_shape"}), (3, 5, 5))(torch.zeros(4, 3, 5, 5)).shape == (4, 10)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"model": "cn"}, "unknown model 'cn'; did you mean 'cnn'?"),
        ({"model": "nowhere.at.all:net"}, "'nowhere.at.all:net' could not be found: ModuleNotFoundError"),
        ({"model": "OWN:missing"}, "could not be found: AttributeError"),
        ({"model": "OWN:wide", "factr": 2}, "unknown hyperparameter 'factr'; did you mean 'factor'?"),
        ({"model": "OWN:wide", "factor": 0}, "factor: input should be greater than or equal to 1, but got 0"),
        ({"model": "mlp", "factor": 2}, "unknown hyperparameter 'factor'"),
    ],
)
def test_a_bad_model_is_refused(own: str, values: dict[str, object], says: str) -> None:
    found = problems(
        {name: str(value).replace("OWN", own) if name == "model" else value for name, value in values.items()}
    )
    assert len(found) == 1
    assert says in found[0]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("wrong", r"must return logits \(B, 10\) for a batch of samples, but .* returns \(2, 7\) for B = 2"),
        ("nothing", "must return a torch"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_it_trains(own: str, name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        made(Config(model=f"{own}:{name}"))


def test_only_a_function_that_other_processes_find_has_a_name() -> None:
    with pytest.raises(ModelError, match="at the top level of a file, but got"):
        import_path_of(lambda _: None)
    assert import_path_of(test_a_cnn_learns_from_augmented_digits).endswith(":test_a_cnn_learns_from_augmented_digits")
