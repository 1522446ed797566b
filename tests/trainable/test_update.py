"""`update` against torch.optim itself."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from trainable.config import Config
from trainable.model import build
from trainable.state import generator, optimizer_of
from trainable.update import update


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_ten_steps_are_torch_optims_own_bit_for_bit(optimizer: str, momentum: float) -> None:
    config = Config(hidden=(16, 8), optimizer=optimizer, momentum=momentum, weight_decay=0.01)
    model = build(config, (20,), 4, generator("cpu", 0, "weights"))
    theirs = copy.deepcopy(model)
    ours_optimizer, their_optimizer = optimizer_of(model, config), optimizer_of(theirs, config)
    draw = generator("cpu", 0, "data")
    step = update(ours_optimizer)
    for number in range(10):
        if number == 6:  # a new interval
            step = update(ours_optimizer)
        x, y = torch.randn(32, 20, generator=draw), torch.randint(4, (32,), generator=draw)
        lr = 0.01 / (1 + number)
        for one in (model, theirs):
            for parameter in one.parameters():
                parameter.grad = None
            F.cross_entropy(one(x), y).backward()
        step(lr)
        for group in their_optimizer.param_groups:
            group["lr"] = lr
        their_optimizer.step()
        for ours, other in zip(model.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(ours, other)
    mine, their = ours_optimizer.state_dict()["state"], their_optimizer.state_dict()["state"]
    assert mine.keys() == their.keys()
    for index, values in their.items():
        for name, value in values.items():
            assert (mine[index][name] is None) if value is None else torch.equal(mine[index][name], value), name
