"""The loop: repeatable to the bit, improving, stopping at the first number that is none, and touching nothing else."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rungwise.trainable.config import Config
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.model import Dropout
from rungwise.trainable.train import Report, evaluate, pick_device, steps_per_epoch, train
from rungwise.trainable.training.state import State

SMALL = {"hidden": (32, 16), "batch_size": 64, "epochs": 2, "dropout": 0.2}


def trained(config: Config, data: Tensors) -> tuple[list[dict[str, float]], torch.Tensor]:
    """Reports without their times, and the weights."""
    state = State.fresh(config, data)
    reports = [report.asdict() | {"seconds": 0} for report in train(config, data, state=state)]
    return reports, nn.utils.parameters_to_vector(state.model.parameters())


def test_the_same_config_gives_the_same_bits(tensors: Tensors) -> None:
    torch.manual_seed(1)
    reports, weights = trained(Config(**SMALL), tensors)
    torch.manual_seed(2)
    again, same = trained(Config(**SMALL), tensors)
    assert again == reports
    assert torch.equal(weights, same)


def test_another_seed_gives_another_trial(tensors: Tensors) -> None:
    reports, weights = trained(Config(**SMALL), tensors)
    others, different = trained(Config(**SMALL, seed=1), tensors)
    assert [row["val_loss"] for row in reports] != [row["val_loss"] for row in others]
    assert not torch.equal(weights, different)


def test_training_leaves_torchs_global_random_state_alone(tensors: Tensors) -> None:
    before = torch.get_rng_state()
    list(train(Config(**SMALL), tensors))
    assert torch.equal(torch.get_rng_state(), before)


def test_training_only_reads_the_data(tensors: Tensors) -> None:
    before = tensors.x_train.clone(), tensors.y_train.clone(), tensors.x_validation.clone()
    list(train(Config(**SMALL), tensors))
    after = tensors.x_train, tensors.y_train, tensors.x_validation
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_the_loss_falls_and_digits_are_told_apart(tensors: Tensors, optimizer: str) -> None:
    lr = 0.1 if optimizer == "sgd" else 3e-3
    config = Config(hidden=(64,), batch_size=64, epochs=4, optimizer=optimizer, lr=lr, momentum=0.5)
    reports = list(train(config, tensors))
    assert reports[-1].train_loss < reports[0].train_loss / 3
    assert reports[-1].val_accuracy > 0.85


def test_bf16_learns_nearly_the_same(tensors: Tensors) -> None:
    exact = list(train(Config(**SMALL), tensors))[-1]
    rounded = list(train(Config(**SMALL, precision="bf16"), tensors))[-1]
    assert rounded.val_loss != exact.val_loss
    assert rounded.val_loss == pytest.approx(exact.val_loss, rel=0.1)


def test_reports_say_where_they_are(tensors: Tensors) -> None:
    reports = list(train(Config(**SMALL, reports_per_epoch=3), tensors))
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    assert [report.epoch for report in reports] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])
    assert all(report.seconds > 0 and report.finite for report in reports)


@pytest.mark.parametrize("reports", [2, 3, 7, 31])
def test_finer_reports_do_not_change_what_is_learnt(tensors: Tensors, reports: int) -> None:
    """31 steps an epoch are cut into uneven intervals, and every step is taken once. No noise: it follows intervals."""
    settings = SMALL | {"dropout": 0.0, "schedule": "one-cycle"}
    _, weights = trained(Config(**settings), tensors)
    _, same = trained(Config(**settings, reports_per_epoch=reports), tensors)
    assert torch.equal(weights, same)


def test_more_reports_than_steps_are_refused_with_the_numbers(tensors: Tensors) -> None:
    config = Config(**SMALL, reports_per_epoch=32)
    with pytest.raises(ValueError, match=r"got 31 steps \(2,000 samples, batch_size=64\) and reports_per_epoch=32"):
        next(train(config, tensors))


def test_a_batch_is_whole_and_no_larger_than_the_data() -> None:
    assert steps_per_epoch(Config(batch_size=128), 50_000) == 390
    assert steps_per_epoch(Config(batch_size=128), 128) == 1
    assert steps_per_epoch(Config(batch_size=128), 100) == 1


def test_every_epoch_takes_every_sample_once_in_a_new_order(tensors: Tensors) -> None:
    """With a step too small to move a weight, a whole-batch epoch's loss is the loss over all samples in any order."""
    settings = {"hidden": (8,), "batch_norm": False, "optimizer": "sgd", "lr": 1e-12, "batch_size": 50, "epochs": 2}
    config = Config(**settings, label_smoothing=0.1)
    state = State.fresh(config, tensors)
    x = (tensors.x_train.float() - tensors.mean) / tensors.std
    expected = F.cross_entropy(state.model(x), tensors.y_train, label_smoothing=0.1).item()
    first, second = (report.train_loss for report in train(config, tensors, state=state))
    assert first == pytest.approx(expected, rel=1e-6)
    assert second == pytest.approx(expected, rel=1e-6)
    one_batch = Config(**settings | {"epochs": 2, "batch_size": 1100})  # one step of 1,100 of the 2,000
    first, second = (report.train_loss for report in train(one_batch, tensors))
    assert first != pytest.approx(second, rel=1e-6)


def test_every_interval_has_noise_of_its_own(tensors: Tensors) -> None:
    state = State.fresh(Config(**SMALL, reports_per_epoch=2), tensors)
    layers = [module for module in state.model.modules() if isinstance(module, Dropout)]
    seeds = []
    for _ in train(state.config, tensors, state=state):
        assert len({layer.generator for layer in layers}) == 1  # one stream, so no two layers share a mask
        seeds.append(layers[0].generator.initial_seed())
    assert len(set(seeds)) == 4


def test_validation_knows_neither_smoothing_nor_noise(tensors: Tensors) -> None:
    config = Config(**SMALL | {"epochs": 1}, label_smoothing=0.3, input_dropout=0.3)
    state = State.fresh(config, tensors)
    (report,) = train(config, tensors, state=state)
    state.model.eval()
    x = (tensors.x_validation.float() - tensors.mean) / tensors.std
    logits = state.model(x)
    assert report.val_loss == pytest.approx(F.cross_entropy(logits, tensors.y_validation).item(), rel=1e-5)
    assert report.val_accuracy == (logits.argmax(1) == tensors.y_validation).sum().item() / 500


def test_an_absurd_rate_ends_the_stream_at_its_first_bad_report(tensors: Tensors) -> None:
    config = Config(hidden=(16,), batch_norm=False, optimizer="sgd", lr=1e9, epochs=20)
    reports = list(train(config, tensors))
    assert len(reports) < 20
    assert [report.finite for report in reports] == [True] * (len(reports) - 1) + [False]
    assert not math.isfinite(reports[-1].val_loss)


def test_a_nan_among_the_weights_is_reported_as_it_is(tensors: Tensors) -> None:
    config = Config(**SMALL, reports_per_epoch=2)
    state = State.fresh(config, tensors)
    reports = train(config, tensors, state=state)
    assert next(reports).finite
    with torch.no_grad():
        state.model.get_parameter("logits.bias")[3] = math.nan
    bad = next(reports)
    assert not bad.finite
    assert math.isnan(bad.train_loss)
    assert math.isnan(bad.val_loss)
    assert list(reports) == []


def test_an_infinite_penalty_alone_is_a_divergence() -> None:
    assert not Report(1, 1.0, 0.1, math.inf, 0.1, 0.9, 0.1, 1.0).finite
    assert Report(1, 1.0, 0.1, 0.0, 0.1, 0.9, 0.1, 1.0).finite


def test_the_state_moves_with_the_reports(tensors: Tensors) -> None:
    state = State.fresh(Config(**SMALL), tensors)
    for report in train(state.config, tensors, state=state):
        assert state.step == report.step
        assert state.history[-1] == report.asdict()
        x, y = tensors.x_validation, tensors.y_validation
        scored = evaluate(state.model, x, y, tensors.mean, tensors.std)
        assert scored == pytest.approx((report.val_loss, report.val_accuracy), rel=1e-5)
    assert list(train(state.config, tensors, state=state)) == []


def test_data_on_another_device_is_refused(tensors: Tensors) -> None:
    with pytest.raises(ValueError, match="data must be on the training device, but is on cpu, not cuda"):
        next(train(Config(), tensors, "cuda"))


def test_a_device_is_named_or_picked() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
