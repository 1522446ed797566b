"""Regularisers against their formulas, autograd, and a plain torch loop that knows nothing of this project."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rungwise.trainable.config import Config
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.model import add_penalty_gradient, build, penalty, weights
from rungwise.trainable.train import train
from rungwise.trainable.training.state import State, generator

SMALL = {"hidden": (16, 8), "batch_size": 100, "epochs": 1}


def after(config: Config, data: Tensors) -> tuple[State, list[float]]:
    """The state after the whole budget, and the training losses."""
    state = State.fresh(config, data)
    losses = [report.train_loss for report in train(config, data, state=state)]
    return state, losses


def first_batches(config: Config, data: Tensors) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch 0's batches, normalised by the formula."""
    order = torch.randperm(len(data.y_train), generator=generator("cpu", config.seed, "order", 0))
    for start in range(0, len(order) - config.batch_size + 1, config.batch_size):
        index = order[start : start + config.batch_size]
        yield (data.x_train[index].double() - data.mean.double()).div(data.std.double()).float(), data.y_train[index]


def by_hand(config: Config, data: Tensors, optimizer: torch.optim.Optimizer, model: nn.Module) -> list[float]:
    """One epoch as a tutorial would write it: the penalty stands in the loss, and autograd does the rest."""
    losses = []
    model.train()
    for x, y in first_batches(config, data):
        loss = F.cross_entropy(model(x), y, label_smoothing=config.label_smoothing)
        losses.append(loss.item())
        cost = loss
        for name, w in model.named_parameters():
            if name.endswith("weight") and not name.startswith("norm"):
                cost = cost + config.l1 * w.abs().sum() + config.l2 * w.pow(2).sum()
        optimizer.zero_grad()
        cost.backward()
        if config.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
    return losses


def same_model(config: Config, data: Tensors) -> nn.Module:
    return build(config, data.shape, data.classes, generator("cpu", config.seed, "weights"))


def test_the_penalty_is_the_formula_counted_by_hand() -> None:
    w = [torch.tensor([[1.0, -2.0], [0.0, 3.0]]), torch.tensor([[-4.0]])]
    assert penalty(w, Config(l1=0.5)).item() == 0.5 * 10
    assert penalty(w, Config(l2=0.25)).item() == 0.25 * 30
    assert penalty(w, Config(l1=0.5, l2=0.25)).item() == 5 + 7.5
    assert penalty(w, Config()).item() == 0


@pytest.mark.parametrize(("l1", "l2"), [(0.3, 0.0), (0.0, 0.2), (0.3, 0.2)])
def test_the_gradient_added_in_place_is_autograds(l1: float, l2: float) -> None:
    config = Config(l1=l1, l2=l2)
    g = torch.Generator().manual_seed(1)
    ours = [nn.Parameter(torch.randn(4, 3, generator=g)), nn.Parameter(torch.randn(2, 4, generator=g))]
    with torch.no_grad():
        ours[0][0] = 0.0  # the kink of |w|
    theirs = [nn.Parameter(w.detach().clone()) for w in ours]
    for w, v in zip(ours, theirs, strict=True):
        w.grad = torch.randn(w.shape, generator=g)
        v.grad = w.grad.clone()
    add_penalty_gradient(ours, config)
    penalty(theirs, config).backward()
    for w, v in zip(ours, theirs, strict=True):
        torch.testing.assert_close(w.grad, v.grad, rtol=1e-6, atol=1e-7)


def test_only_weights_of_linear_layers_are_regularised(tensors: Tensors) -> None:
    model = same_model(Config(), tensors)
    found = {id(w) for w in weights(model)}
    assert [name for name, p in model.named_parameters() if id(p) in found] == [
        "linear1.weight",
        "linear2.weight",
        "logits.weight",
    ]


@pytest.mark.parametrize("regulariser", ["l1", "l2", "weight_decay"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_biases_and_batch_norm_are_never_regularised(tensors: Tensors, optimizer: str, regulariser: str) -> None:
    """The first step starts from the same weights and gradients, so all but the weights must move alike, to the bit."""
    settings = SMALL | {"optimizer": optimizer, "batch_size": len(tensors.y_train)}
    free, _ = after(Config(**settings), tensors)
    held, _ = after(Config(**settings, **{regulariser: 0.5}), tensors)
    regularised = {id(w) for w in weights(held.model)}
    pairs = list(zip(free.model.parameters(), held.model.parameters(), strict=True))
    assert len(pairs) == 10
    for a, b in pairs:
        assert torch.equal(a, b) != (id(b) in regularised)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_for_plain_sgd_l2_is_half_the_weight_decay(tensors: Tensors, momentum: float) -> None:
    settings = SMALL | {"optimizer": "sgd", "lr": 0.05, "momentum": momentum, "dropout": 0.2}
    l2, losses = after(Config(**settings, l2=0.01), tensors)
    decay, same_losses = after(Config(**settings, weight_decay=0.02), tensors)
    none, _ = after(Config(**settings), tensors)
    assert losses == pytest.approx(same_losses, rel=1e-6)
    for a, b in zip(l2.model.parameters(), decay.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(weights(l2.model)[0], weights(none.model)[0], rtol=1e-2)


def test_adamw_decays_beside_its_step_and_adam_inside_it(tensors: Tensors) -> None:
    """After one step of adamw, w with decay = w without decay - lr * decay * w0 (Loshchilov and Hutter 2019)."""
    lr, decay = 0.01, 0.5
    settings = SMALL | {"lr": lr, "batch_size": len(tensors.y_train)}
    for optimizer, decoupled in (("adamw", True), ("adam", False)):
        config = Config(**settings, optimizer=optimizer)
        start = weights(State.fresh(config, tensors).model)
        free, _ = after(config, tensors)
        held, _ = after(config.model_copy(update={"weight_decay": decay}), tensors)
        for w0, a, b in zip(start, weights(free.model), weights(held.model), strict=True):
            assert torch.allclose(b, a - lr * decay * w0, rtol=0, atol=1e-7) == decoupled


PLAIN = {
    "sgd": lambda groups, c: torch.optim.SGD(groups, c.lr, momentum=c.momentum),
    "adam": lambda groups, c: torch.optim.Adam(groups, c.lr, betas=(c.momentum, 0.999)),
    "adamw": lambda groups, c: torch.optim.AdamW(groups, c.lr, betas=(c.momentum, 0.999)),
    "rmsprop": lambda groups, c: torch.optim.RMSprop(groups, c.lr, momentum=c.momentum),
}


@pytest.mark.parametrize(
    "regularisers",
    [
        {"weight_decay": 0.05},
        {"l1": 1e-3, "l2": 1e-2},
        {"l1": 1e-3, "l2": 1e-2, "weight_decay": 0.05, "clip_norm": 0.5, "label_smoothing": 0.1},
    ],
    ids=["decay", "penalty", "everything"],
)
@pytest.mark.parametrize("optimizer", list(PLAIN))
def test_training_is_the_textbook_loop(tensors: Tensors, optimizer: str, regularisers: dict[str, float]) -> None:
    # Without BatchNorm: a bias in front of it has gradient 0 but for rounding, which adaptive steps blow up to lr.
    config = Config(**SMALL, optimizer=optimizer, lr=1e-3, momentum=0.8, batch_norm=False, **regularisers)
    model = same_model(config, tensors)
    decayed = [p for name, p in model.named_parameters() if name.endswith("weight") and not name.startswith("norm")]
    rest = [p for p in model.parameters() if all(p is not w for w in decayed)]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    expected = by_hand(config, tensors, PLAIN[optimizer](groups, config), model)

    state, losses = after(config, tensors)
    assert len(expected) == 20
    assert losses == [pytest.approx(sum(expected) / 20, rel=1e-5)]
    for (name, a), b in zip(state.model.state_dict().items(), model.state_dict().values(), strict=True):
        # Adaptive steps are near lr * sign(gradient): where a gradient is near 0, its rounding decides the step.
        close = torch.isclose(a, b, rtol=1e-3, atol=1e-4).float().mean().item()
        assert close > 0.999, name


def test_clipping_bounds_the_whole_gradient_with_its_penalty(tensors: Tensors) -> None:
    """One SGD step of a gradient clipped to c moves the parameters by exactly lr * c, whatever the penalty."""
    settings = SMALL | {"optimizer": "sgd", "momentum": 0.0, "lr": 0.5, "batch_size": len(tensors.y_train)}
    config = Config(**settings, l2=10.0, clip_norm=0.01)
    start = nn.utils.parameters_to_vector(State.fresh(config, tensors).model.parameters())
    state, _ = after(config, tensors)
    moved = nn.utils.parameters_to_vector(state.model.parameters()) - start
    assert moved.norm().item() == pytest.approx(0.5 * 0.01, rel=1e-3)


def test_the_penalty_is_reported_apart_from_every_loss(tensors: Tensors) -> None:
    """With a step too small to move a weight, the losses are those without a penalty."""
    settings = SMALL | {"optimizer": "sgd", "momentum": 0.0, "lr": 1e-12}
    (free,) = train(Config(**settings), tensors)
    config = Config(**settings, l1=0.1, l2=0.1)
    (held,) = train(config, tensors)
    assert (held.train_loss, held.val_loss) == (free.train_loss, free.val_loss)
    assert free.penalty == 0
    w = [w.detach().double() for w in weights(same_model(config, tensors))]
    assert held.penalty == pytest.approx(sum(0.1 * v.abs().sum().item() + 0.1 * (v * v).sum().item() for v in w))
