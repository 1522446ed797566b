"""The network: its shape, its first weights, and what differs between training and evaluation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from rungwise.trainable.config import Config
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.model import ACTIVATIONS, Dropout, build
from rungwise.trainable.train import evaluate


def made(config: Config, shape: tuple[int, ...] = (1, 28, 28), seed: int = 1) -> nn.Sequential:
    return build(config, shape, 10, torch.Generator().manual_seed(seed))


def test_the_default_network_is_784_128_64_10() -> None:
    shapes = [tuple(p.shape) for p in made(Config()).parameters()]
    assert shapes == [(128, 784), (128,), (128,), (128,), (64, 128), (64,), (64,), (64,), (10, 64), (10,)]


def test_each_hidden_layer_is_linear_norm_activation_dropout() -> None:
    names = list(dict(made(Config(dropout=0.1, input_dropout=0.1, hidden=(4,))).named_children()))
    assert names == ["flatten", "input_dropout", "linear1", "norm1", "activation1", "dropout1", "logits"]
    assert list(dict(made(Config(batch_norm=False, hidden=())).named_children())) == ["flatten", "logits"]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 8), (13,)])
def test_any_shape_of_sample_gives_logits(shape: tuple[int, ...]) -> None:
    assert made(Config(hidden=(5,)), shape)(torch.randn(7, *shape)).shape == (7, 10)


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_every_activation_is_the_functional_of_its_name(activation: str) -> None:
    model = made(Config(activation=activation, hidden=(6,), batch_norm=False))
    x = torch.randn(5, 784)
    expected = model.logits(getattr(torch.nn.functional, activation)(model.linear1(x)))
    assert torch.equal(model(x), expected)


def test_first_weights_come_from_the_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a = nn.utils.parameters_to_vector(made(Config(), seed=1).parameters())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(a, nn.utils.parameters_to_vector(made(Config(), seed=1).parameters()))
    assert not torch.equal(a, nn.utils.parameters_to_vector(made(Config(), seed=2).parameters()))


def test_first_weights_are_spread_as_torchs_own() -> None:
    """Uniform in +-1/sqrt(fan_in): the bound holds, and mean and deviation are within 5 standard errors."""
    ours = made(Config(hidden=(256,))).linear1
    theirs = nn.Linear(784, 256)
    bound = 1 / math.sqrt(784)
    for values in (ours.weight, ours.bias, theirs.weight, theirs.bias):
        n = values.numel()
        assert values.abs().max().item() <= bound
        assert abs(values.mean().item()) < 5 * bound / math.sqrt(3 * n)
        assert values.std().item() == pytest.approx(bound / math.sqrt(3), rel=5 / math.sqrt(2 * n))


def test_batch_norm_trains_on_batch_statistics_and_evaluates_on_running_ones() -> None:
    model = made(Config(hidden=(32,)))
    norm = model.norm1
    x = torch.randn(64, 784) * 3 + 1
    z = model.linear1(x)
    y = norm(z)
    torch.testing.assert_close(y.mean(0), torch.zeros(32), rtol=0, atol=1e-5)
    torch.testing.assert_close(y.var(0, correction=0), torch.ones(32), rtol=1e-3, atol=0)
    torch.testing.assert_close(norm.running_mean, 0.1 * z.mean(0))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * z.var(0))
    model.eval()
    alone = torch.cat([model(row[None]) for row in x])
    torch.testing.assert_close(model(x), alone, rtol=1e-4, atol=1e-5)


def test_evaluation_has_no_noise_and_leaves_the_model_as_it_was(tensors: Tensors) -> None:
    model = made(Config(dropout=0.5, input_dropout=0.5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, y = tensors.x_validation, tensors.y_validation
    first = evaluate(model, x, y, tensors.mean, tensors.std)
    assert first == evaluate(model, x, y, tensors.mean, tensors.std)
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_evaluation_in_batches_is_the_formula_over_everything(tensors: Tensors) -> None:
    """2,000 samples go in two uneven batches; the answer is that of one product in double precision."""
    model = made(Config()).eval()
    x, y = tensors.x_train[:2500].repeat(2, 1, 1, 1)[:2500], tensors.y_train.repeat(2)[:2500]
    loss, accuracy = evaluate(model, x, y, tensors.mean, tensors.std)
    logits = made(Config()).double().eval()((x.double() - tensors.mean) / tensors.std)
    right = logits.log_softmax(1)[torch.arange(2500), y]
    assert loss == pytest.approx(-right.mean().item(), rel=1e-5)
    assert accuracy == (logits.argmax(1) == y).sum().item() / 2500


P = 0.3
N = 400_000


def mask(p: float, n: int = N, seed: int = 3) -> torch.Tensor:
    dropout = Dropout(p)
    dropout.generator = torch.Generator().manual_seed(seed)
    return dropout(torch.ones(1, n))[0]


@pytest.mark.parametrize("p", [0.001, 0.3, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_expectation(p: float) -> None:
    found = mask(p)
    error = math.sqrt(p * (1 - p) / N)  # standard error of a share
    assert (found == 0).double().mean().item() == pytest.approx(p, abs=5 * error)
    assert found.double().mean().item() == pytest.approx(1, abs=5 * error / (1 - p))
    kept = found[found > 0].unique()
    assert len(kept) == 1
    assert kept.item() == pytest.approx(1 / (1 - p), abs=1e-3 / (1 - p))


def test_each_of_the_four_elements_that_share_a_draw_drops_its_share() -> None:
    lanes = (mask(P) == 0).double().view(-1, 4)
    error = math.sqrt(P * (1 - P) / len(lanes))
    assert lanes.mean(0).tolist() == pytest.approx([P] * 4, abs=5 * error)
    correlation = torch.corrcoef(lanes.T) - torch.eye(4, dtype=torch.float64)
    assert correlation.abs().max().item() < 5 / math.sqrt(len(lanes))


def test_dropout_is_the_identity_in_evaluation_and_without_a_share() -> None:
    x = torch.randn(4, 5)
    assert Dropout(P).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_dropout_repeats_with_its_seed_and_differs_with_another() -> None:
    assert torch.equal(mask(P, 1001, seed=1), mask(P, 1001, seed=1))
    assert not torch.equal(mask(P, 1001, seed=1), mask(P, 1001, seed=2))


def test_gradient_flows_through_what_dropout_kept() -> None:
    dropout = Dropout(P)
    dropout.generator = torch.Generator().manual_seed(1)
    x = torch.ones(10, 10, requires_grad=True)
    y = dropout(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_dropout_next_to_one_still_keeps_something() -> None:
    found = mask(0.9999999)
    assert torch.isfinite(found).all()
    assert set(found.unique().tolist()) <= {0.0, 65536.0}


def test_the_network_exports_as_one_program_for_any_batch() -> None:
    model = made(Config(dropout=0.2, input_dropout=0.1)).eval()
    x = torch.randn(4, 1, 28, 28)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(program.module()(x[:3]), model(x[:3]))
