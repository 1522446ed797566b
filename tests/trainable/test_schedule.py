"""Learning rates against torch's schedulers and against numbers one can count by hand."""

from __future__ import annotations

import pytest
import torch

from rungwise.trainable.config import Config
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.train import train
from rungwise.trainable.training.optimizers import learning_rate


def rates(schedule: str, steps: int) -> list[float]:
    config = Config(schedule=schedule, lr=0.5)
    return [learning_rate(config, step, steps) for step in range(steps)]


def of_torch(steps: int, make: object) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = make(optimizer)  # type: ignore[operator]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_a_constant_rate_stays() -> None:
    assert rates("constant", 5) == [0.5] * 5


def test_cosine_is_torchs_cosine_annealing() -> None:
    expected = of_torch(50, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=50))
    assert rates("cosine", 50) == pytest.approx(expected, rel=1e-9)


def test_one_cycle_warms_up_like_torchs_linear_and_falls_like_its_cosine() -> None:
    scheduler = torch.optim.lr_scheduler
    found = rates("one-cycle", 100)
    warm_up = of_torch(30, lambda o: scheduler.LinearLR(o, start_factor=1 / 25, total_iters=30))
    fall = of_torch(70, lambda o: scheduler.CosineAnnealingLR(o, T_max=70))
    assert found == pytest.approx(warm_up + fall, rel=1e-9)


def test_one_cycle_at_the_steps_one_can_count() -> None:
    found = rates("one-cycle", 100)
    assert found[0] == pytest.approx(0.02)  # 0.5 / 25
    assert found[15] == pytest.approx((0.02 + 0.5) / 2)
    assert found[30] == 0.5
    assert found[65] == pytest.approx(0.25)
    assert 0 < found[99] < 0.001


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
def test_the_shortest_trials_have_a_positive_rate_at_every_step(schedule: str, steps: int) -> None:
    assert all(0 < rate <= 0.5 for rate in rates(schedule, steps))


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
def test_a_report_tells_the_last_rate_used(tensors: Tensors, schedule: str) -> None:
    config = Config(hidden=(8,), batch_size=500, epochs=3, reports_per_epoch=2, schedule=schedule, optimizer="sgd")
    found = [report.lr for report in train(config, tensors)]  # 4 steps an epoch, 12 in all
    assert found == [learning_rate(config, step, 12) for step in (1, 3, 5, 7, 9, 11)]
