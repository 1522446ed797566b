"""A trial in a pack is the trial that the plain loop trains."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from dataclasses import replace
from typing import Any

import pytest
import torch

from rungwise.trainable.config import Config
from rungwise.trainable.data.dataset import Dataset, Split
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.model import Dropout
from rungwise.trainable.packing import pack
from rungwise.trainable.packing.batched_mlp import BatchedMLP, Noise
from rungwise.trainable.report import Report
from rungwise.trainable.train import train, train_alone
from rungwise.trainable.training.state import State, generator

# Sums are taken in another order. Where a gradient is 0 but for rounding, adam makes of it what it likes: so tests of
# several steps have inputs that are never constant.
CLOSE = {"rtol": 2e-3, "atol": 2e-4}

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.05, "dropout": 0.3},
    "adam": {"optimizer": "adam", "weight_decay": 0.01, "momentum": 0.8},
    "sgd": {"optimizer": "sgd", "lr": 0.05, "weight_decay": 0.01, "dropout": 0.1},
    "sgd without momentum": {"optimizer": "sgd", "lr": 0.05, "momentum": 0.0},
    "rmsprop": {"optimizer": "rmsprop", "lr": 3e-4, "weight_decay": 0.01},
    "l1 and l2": {"l1": 1e-4, "l2": 1e-3, "optimizer": "sgd"},
    "smoothing": {"label_smoothing": 0.2},
    "clipping": {"clip_norm": 0.3, "optimizer": "sgd", "lr": 0.1},
    "input dropout": {"input_dropout": 0.2, "dropout": 0.5},
    "cosine": {"schedule": "cosine"},
    "one-cycle": {"schedule": "one-cycle", "lr": 0.01},
}
SHAPES: dict[str, dict[str, Any]] = {
    "default": {"hidden": (32, 16)},
    "without batch norm": {"hidden": (32, 16), "batch_norm": False},
    "linear": {"hidden": ()},
    "deep": {"hidden": (16, 24, 8)},
    **{name: {"hidden": (16,), "activation": name} for name in ("leaky_relu", "gelu", "silu", "elu", "tanh")},
}


@pytest.fixture(scope="module")
def numbers() -> Tensors:
    """Three classes of 20 numbers each, none of them constant."""
    draw = torch.Generator().manual_seed(0)
    y = torch.randint(3, (1000,), generator=draw)
    x = torch.randn((1000, 20), generator=draw) + 0.5 * y[:, None]
    mean, std = x[:800].mean(0), x[:800].std(0)
    return Tensors(x[:800], y[:800], x[800:], y[800:], mean, std, 3)


def configs(**common: Any) -> list[Config]:
    base = {"epochs": 2, "batch_size": 40, "hidden": (32, 16), **common}
    return [Config(**{**base, **variant, "seed": seed}) for seed, variant in enumerate(VARIANTS.values(), 1)]


def together(states: list[State], data: Tensors, reports: int) -> list[list[Report]]:
    """[trial][report]"""
    return list(map(list, zip(*(pack.train_together(states, data) for _ in range(reports)), strict=True)))


def alone(state: State, data: Tensors, reports: int) -> list[Report]:
    """By autograd."""
    return [train_alone(state, data) for _ in range(reports)]


def give_noise(state: State) -> None:
    noise = generator("cpu", state.config.seed, "noise", 0)
    for module in state.model.modules():
        if isinstance(module, Dropout):
            module.generator = noise


def numbers_of(report: Report) -> dict[str, float]:
    return {name: value for name, value in report.asdict().items() if name != "seconds"}


def assert_same_state(a: State, b: State, **tolerance: float) -> None:
    ours, theirs = a._tensors(), b._tensors()
    # torch.optim makes a state when it first steps, so both have all or none.
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], **tolerance, msg=lambda text, name=name: f"{name}: {text}")


@pytest.fixture(params=["one by one", "stacked"])
def steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How optimisers step: a trial after the other, as on a CPU, or on rows, as on a GPU."""
    real = pack._together
    one_by_one = request.param == "one by one"
    monkeypatch.setattr(pack, "_together", lambda states, data, **_: real(states, data, one_by_one=one_by_one))


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize("shape", SHAPES)
def test_a_pack_trains_each_trial_as_the_plain_loop_does(numbers: Tensors, shape: str) -> None:
    trials = configs(**SHAPES[shape])
    states, others = ([State.fresh(config, numbers) for config in trials] for _ in range(2))
    packed = together(states, numbers, 2)
    for name, state, own, reports in zip(VARIANTS, states, others, packed, strict=True):
        plain = alone(own, numbers, 2)
        for ours, theirs in zip(reports, plain, strict=True):
            assert numbers_of(ours) == pytest.approx(numbers_of(theirs), rel=2e-4, abs=2e-5), name
        assert_same_state(state, own, **CLOSE)
        assert [row["step"] for row in state.history] == [1, 2]


@pytest.mark.usefixtures("steps")
def test_a_pack_of_one_is_the_plain_loop_step_by_step(numbers: Tensors) -> None:
    steps = 20
    for config in configs(reports_per_epoch=steps, epochs=1):
        state, own = State.fresh(config, numbers), State.fresh(config, numbers)
        for _ in range(steps):
            (ours,), theirs = pack.train_together([state], numbers), train_alone(own, numbers)
            assert numbers_of(ours) == pytest.approx(numbers_of(theirs), rel=2e-4, abs=2e-5)
            assert_same_state(state, own, **CLOSE)


def test_gradients_are_those_of_autograd(numbers: Tensors) -> None:
    for shape in SHAPES.values():
        trials = configs(**shape)
        states = [State.fresh(config, numbers) for config in trials]
        for state in states:
            give_noise(state)
        batched = BatchedMLP([state.model for state in states], trials, batch=40)
        draw = torch.Generator().manual_seed(1)
        x = torch.randn((len(states), 40, 20), generator=draw)
        y = torch.randint(3, (len(states), 40), generator=draw)
        batched.prepare(0)
        losses = batched.gradients(x, y)
        for index, (config, state) in enumerate(zip(trials, states, strict=True)):
            own = State.fresh(config, numbers)
            give_noise(own)
            loss = torch.nn.functional.cross_entropy(
                own.model(x[index]), y[index], label_smoothing=config.label_smoothing
            )
            loss.backward()
            torch.testing.assert_close(losses[index], loss.detach())
            for (name, ours), theirs in zip(state.model.named_parameters(), own.model.parameters(), strict=True):
                torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6, msg=lambda t, n=name: n + t)


def test_noise_drawn_for_many_steps_is_each_networks_own_stream_step_by_step() -> None:
    """As on a GPU, three steps at a time: the bits of every step follow from the network's generator alone."""
    batch, features, steps = 5, 6, 3
    layers = [Dropout(0.5), None, Dropout(0.25)]
    noise = Noise(layers, batch, features, torch.device("cpu"), steps)
    streams = {}
    for index, layer in enumerate(layers):
        if layer is not None:
            layer.generator, streams[index] = generator("cpu", index, "noise", 0), generator("cpu", index, "noise", 0)
    masks = []
    for step in range(8):
        noise.prepare(step)
        if step % steps == 0:
            drawn = {i: torch.empty((steps, 8), dtype=torch.int64).random_(-(2**63), None, generator=g)
                     for i, g in streams.items()}  # fmt: skip
        mask = noise.mask(torch.tensor([step])).clone()
        for index, rows in drawn.items():
            p = layers[index].p  # type: ignore[union-attr]
            bits = rows[step % steps].view(torch.int16)[: batch * features].view(batch, features)
            wanted = (bits >= round(p * 65536) - 32768) / (1 - p)
            assert torch.equal(mask[:, index], wanted.float())
        assert bool((mask[:, 1] == 1).all())  # this one has no dropout
        masks.append(mask)
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(masks, 2))


def test_neighbours_and_their_order_do_not_matter(numbers: Tensors) -> None:
    trials = configs()
    reference = {config.seed: State.fresh(config, numbers) for config in trials}
    curves = dict(zip(reference, together(list(reference.values()), numbers, 2), strict=True))
    for some in (trials[::-1], trials[2:5], [trials[7], trials[1]]):
        states = [State.fresh(config, numbers) for config in some]
        for state, reports in zip(states, together(states, numbers, 2), strict=True):
            assert_same_state(state, reference[state.config.seed], rtol=1e-4, atol=1e-5)
            for ours, theirs in zip(reports, curves[state.config.seed], strict=True):
                assert numbers_of(ours) == pytest.approx(numbers_of(theirs), rel=1e-5, abs=1e-6)


@pytest.mark.usefixtures("steps")
def test_a_nan_stays_in_its_slot_and_leaves_the_others_bits_alone(numbers: Tensors) -> None:
    trials = configs()
    whole, broken = ([State.fresh(config, numbers) for config in trials] for _ in range(2))
    with torch.no_grad():
        broken[3].model.get_parameter("linear1.weight")[0, 0] = math.nan
    reports, told = together(whole, numbers, 1), together(broken, numbers, 1)
    for index, (a, b) in enumerate(zip(whole, broken, strict=True)):
        if index == 3:
            assert not told[index][0].finite
            continue
        assert numbers_of(told[index][0]) == numbers_of(reports[index][0])
        assert_same_state(a, b, rtol=0, atol=0)


def test_a_slot_that_is_refilled_starts_like_a_fresh_trial(numbers: Tensors) -> None:
    first, second, third = (State.fresh(config, numbers) for config in configs()[:3])
    pack.train_together([first, second], numbers)
    reports = pack.train_together([third, second], numbers)  # the third in the first one's place
    own = State.fresh(third.config, numbers)
    assert numbers_of(reports[0]) == pytest.approx(numbers_of(pack.train_together([own], numbers)[0]), rel=1e-5)
    assert_same_state(third, own, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("steps")
def test_a_trial_leaves_a_pack_by_a_checkpoint_and_goes_on_alone_or_in_another(numbers: Tensors, tmp_path: Any) -> None:
    trials = configs()
    states = [State.fresh(config, numbers) for config in trials]
    together(states, numbers, 1)
    digests = [state.save(tmp_path / f"{index}") for index, state in enumerate(states)]
    together(states, numbers, 1)
    again = [
        State.load(tmp_path / f"{index}", config, numbers, digest)
        for index, (config, digest) in enumerate(zip(trials, digests, strict=True))
    ]
    for state, went_on in zip(again[::2], states[::2], strict=True):
        alone(state, numbers, 1)
        assert_same_state(state, went_on, **CLOSE)
    together(again[1::2], numbers, 1)
    for state, went_on in zip(again[1::2], states[1::2], strict=True):
        assert_same_state(state, went_on, rtol=1e-4, atol=1e-5)


def test_trials_at_different_epochs_train_together(numbers: Tensors) -> None:
    early, late = (State.fresh(config, numbers) for config in configs()[1:3])
    pack.train_together([late], numbers)
    pack.train_together([early, late], numbers)
    assert (early.step, late.step) == (1, 2)
    for state in (early, late):
        own = State.fresh(state.config, numbers)
        together([own], numbers, state.step)
        assert_same_state(state, own, rtol=1e-4, atol=1e-5)


def test_images_and_bf16_learn_as_the_plain_loop_does(tensors: Tensors) -> None:
    trials = [Config(epochs=2, precision="bf16", dropout=0.2, seed=seed, lr=0.003) for seed in range(4)]
    packed = together([State.fresh(config, tensors) for config in trials], tensors, 2)
    for config, reports in zip(trials, packed, strict=True):
        *_, last = alone(State.fresh(config, tensors), tensors, 2)
        assert last.val_accuracy is not None
        assert reports[-1].val_accuracy == pytest.approx(last.val_accuracy, abs=0.04)
        assert reports[-1].val_loss == pytest.approx(last.val_loss, rel=0.15)


def test_bf16_inputs_are_the_same_bits_whether_kept_or_made_anew(
    tensors: Tensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reports() -> list[list[Report]]:
        return together(
            [State.fresh(Config(precision="bf16", dropout=0.2, seed=s), tensors) for s in (1, 2)], tensors, 1
        )

    def made_anew(*arguments: Any, **how: Any) -> BatchedMLP:
        batched = BatchedMLP(*arguments, **how)
        batched.takes_low = False
        return batched

    kept = reports()
    assert tensors.has_ready(torch.bfloat16)
    monkeypatch.setattr(pack, "BatchedMLP", made_anew)
    assert [[numbers_of(one) for one in some] for some in reports()] == [[numbers_of(one) for one in s] for s in kept]


def test_a_packs_scores_are_those_of_its_reports(numbers: Tensors) -> None:
    states = [State.fresh(config, numbers) for config in configs()]
    reports = pack.train_together(states, numbers)
    scored = pack.scored_together(states, numbers)
    assert scored == [(report.val_loss, report.val_accuracy) for report in reports]


def test_groups_have_one_shape_and_as_many_steps(numbers: Tensors) -> None:
    def state(**values: Any) -> State:
        return State.fresh(Config(**{"epochs": 2, "batch_size": 40, **values}), numbers)

    states = [state(), state(lr=0.1, dropout=0.5), state(hidden=(8,)), state(batch_size=80), state(activation="tanh")]
    assert [[states.index(one) for one in group] for group in pack.groups(states, numbers)] == [[0, 1], [2], [3], [4]]
    uneven = [state(reports_per_epoch=3) for _ in range(2)]  # 20 steps an epoch: 6, 7 and 7
    pack.train_together(uneven[:1], numbers)
    assert len(pack.groups(uneven, numbers)) == 2
    with pytest.raises(ValueError, match="one shape"):
        pack.train_together(states, numbers)


def test_what_cannot_be_packed_says_why(numbers: Tensors) -> None:
    assert pack.unpackable(Config(), numbers) is None
    assert "model='cnn'" in str(pack.unpackable(Config(model="cnn"), numbers))
    assert "augmentation" in str(pack.unpackable(Config(shift=2), numbers))
    assert "regression" in str(pack.unpackable(Config(), replace(numbers, target=(0.0, 1.0))))
    with pytest.raises(ValueError, match="augmentation"):
        pack.train_together([State.fresh(Config(hidden=(4,), batch_size=40, flip=0.5), numbers)], numbers)
    done = State.fresh(Config(hidden=(4,), batch_size=40, epochs=1), numbers)
    pack.train_together([done], numbers)
    with pytest.raises(ValueError, match="beyond"):
        pack.train_together([done], numbers)


def test_a_bias_before_batch_norm_stays_where_it_began(numbers: Tensors) -> None:
    config = configs()[1]
    fresh, state = State.fresh(config, numbers), State.fresh(config, numbers)
    alone(state, numbers, 2)
    for layer in ("linear1", "linear2"):
        assert torch.equal(state.model.get_parameter(f"{layer}.bias"), fresh.model.get_parameter(f"{layer}.bias"))
    assert not torch.equal(state.model.get_parameter("logits.bias"), fresh.model.get_parameter("logits.bias"))


def test_the_plain_loop_is_a_pack_of_one_where_it_can_be(numbers: Tensors) -> None:
    config = configs()[1]
    (packed,) = together([State.fresh(config, numbers)], numbers, 2)
    assert [numbers_of(report) for report in train(config, numbers)] == [numbers_of(report) for report in packed]
    other = Config(**{**config.model_dump(), "model": "cnn", "channels": (4,)})
    with pytest.raises(ValueError, match="needs images"):
        next(train(other, numbers))


@pytest.mark.long  # 64 trials twice, about a minute
def test_64_trials_end_alike_packed_and_alone(mnist: Dataset) -> None:
    """mnist_l2's space: the paired difference of the last validation accuracy is within its 95 % interval of 0."""
    part = replace(
        mnist,
        train=Split(mnist.train.x[:10_000], mnist.train.y[:10_000]),
        validation=Split(mnist.validation.x[:2000], mnist.validation.y[:2000]),
        test=None,
    )
    data, draw = Tensors.of(part, "cpu"), random.Random(1)
    trials = [
        Config(
            lr=10 ** draw.uniform(-3, -1.3),
            dropout=draw.uniform(0, 0.5),
            batch_size=draw.choice([64, 128, 256]),
            l2=10 ** draw.uniform(-7, -2) if index % 2 else 0.0,
            epochs=2,
            seed=index,
        )
        for index in range(64)
    ]
    states = [State.fresh(config, data) for config in trials]
    packed: dict[int, float] = {}
    for _ in range(2):
        for group in pack.groups(states, data, most=4):
            for state, report in zip(group, pack.train_together(group, data), strict=True):
                packed[state.config.seed] = report.val_accuracy or 0.0
    differences = [
        packed[config.seed] - (alone(State.fresh(config, data), data, 2)[-1].val_accuracy or 0.0) for config in trials
    ]
    mean, error = statistics.mean(differences), statistics.stdev(differences) / math.sqrt(64)
    assert abs(mean) <= 1.998 * error  # t, 63 degrees of freedom
    assert error < 0.002
