"""On a GPU: a pack trains what the CPU trains, and a recorded step is the step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rungwise.trainable.config import Config
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.packing import batched_mlp as batched
from rungwise.trainable.packing import cuda_graph as graph
from rungwise.trainable.packing import pack
from rungwise.trainable.packing.pack import fastest, train_together
from rungwise.trainable.report import Report
from rungwise.trainable.train import prepare_process, train
from rungwise.trainable.training.state import State

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")

VARIANTS: list[dict[str, Any]] = [
    {"optimizer": "adamw", "weight_decay": 0.05},
    {"optimizer": "adam", "schedule": "cosine"},
    {"optimizer": "sgd", "lr": 0.05, "l1": 1e-4, "l2": 1e-3, "label_smoothing": 0.1},
    {"optimizer": "rmsprop", "lr": 3e-4, "clip_norm": 0.3, "schedule": "one-cycle"},
]


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Noise for a few steps only, so that it is drawn anew within an interval; what a test sets is undone."""
    monkeypatch.setattr(batched, "DRAWN", 5 * 40 * 32)
    precision = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(precision)


def numbers(device: str) -> Tensors:
    draw = torch.Generator().manual_seed(0)
    y = torch.randint(3, (1000,), generator=draw)
    x = torch.randn((1000, 20), generator=draw) + 0.5 * y[:, None]
    mean, std = x[:800].mean(0), x[:800].std(0)
    return Tensors(*(part.to(device) for part in (x[:800], y[:800], x[800:], y[800:], mean, std)), 3)


def configs(**common: Any) -> list[Config]:
    base = {"epochs": 2, "batch_size": 40, "hidden": (32, 16), **common}
    return [Config(**{**base, **variant, "seed": seed}) for seed, variant in enumerate(VARIANTS, 1)]


def packed(trials: list[Config], data: Tensors) -> tuple[list[State], list[list[Report]]]:
    states = [State.fresh(config, data) for config in trials]
    return states, [train_together(states, data) for _ in range(2)]


def test_a_pack_on_the_gpu_learns_what_the_cpu_learns() -> None:
    trials = configs()  # no dropout: its noise is another stream there
    _, reports = packed(trials, numbers("cuda"))
    for index, config in enumerate(trials):
        for ours, theirs in zip((some[index] for some in reports), train(config, numbers("cpu")), strict=True):
            assert ours.train_loss == pytest.approx(theirs.train_loss, rel=2e-2), config.optimizer
            assert ours.val_loss == pytest.approx(theirs.val_loss, rel=2e-2), config.optimizer
            assert ours.lr == pytest.approx(theirs.lr)


def test_replays_of_a_step_are_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    trials, data = configs(dropout=0.3, input_dropout=0.1), numbers("cuda")
    replays, replay = [0], torch.cuda.CUDAGraph.replay

    def counted(one: torch.cuda.CUDAGraph) -> None:
        replays[0] += 1
        replay(one)

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counted)
    recorded, _ = packed(trials, data)
    assert replays == [2 * (20 - graph.WARM)]
    monkeypatch.setattr(graph, "WARM", 10**9)
    taken, _ = packed(trials, data)
    for one, other in zip(recorded, taken, strict=True):
        ours, theirs = one._tensors(), other._tensors()
        for name, value in ours.items():
            torch.testing.assert_close(value, theirs[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_neighbours_and_their_order_do_not_matter() -> None:
    """Masks above all: a trial's are drawn for many steps at once, and must not depend on who else is there."""
    trials, data = configs(dropout=0.3, input_dropout=0.1), numbers("cuda")
    whole, _ = packed(trials, data)
    for some in (trials[::-1], trials[1:3], trials[3:]):
        states, _ = packed(some, data)
        for state in states:
            ours, theirs = state._tensors(), whole[trials.index(state.config)]._tensors()
            for name, value in ours.items():
                torch.testing.assert_close(value, theirs[name], rtol=1e-2, atol=1e-3, msg=lambda m, n=name: f"{n}: {m}")


def test_a_trial_repeats_to_the_bit_alone_and_in_a_pack() -> None:
    trials, data = configs(dropout=0.3), numbers("cuda")
    (first, _), (again, _) = packed(trials, data), packed(trials, data)
    for one, other in zip(first, again, strict=True):
        ours, theirs = one._tensors(), other._tensors()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items()), one.config.optimizer
    curves = [[report.val_loss for report in train(trials[0], data)] for _ in range(2)]
    assert curves[0] == curves[1]


def test_a_trial_goes_on_from_a_checkpoint_to_the_bit(tmp_path: Path) -> None:
    for config in configs(dropout=0.3):
        data = numbers("cuda")
        state = State.fresh(config, data)
        train_together([state], data)
        digest = state.save(tmp_path / "state")
        restored = State.load(tmp_path / "state", config, data, digest)
        (went_on,), (goes_on,) = train_together([state], data), train_together([restored], data)
        assert went_on.val_loss == goes_on.val_loss, config.optimizer
        ours, theirs = state._tensors(), restored._tensors()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items()), config.optimizer


def test_bf16_learns_as_float32_does() -> None:
    data = numbers("cuda")
    _, low = packed(configs(precision="bf16"), data)
    _, full = packed(configs(), data)
    for ours, theirs in zip(low[-1], full[-1], strict=True):
        assert ours.val_loss == pytest.approx(theirs.val_loss, rel=0.1)
        assert ours.val_loss != theirs.val_loss


def test_a_gpu_that_was_not_asked_for_is_left_alone() -> None:
    assert [prepare_process(1, spec).type for spec in ("cpu", "auto")] == ["cpu", "cuda"]


def test_what_cannot_be_recorded_raises_and_does_no_harm() -> None:
    data = numbers("cuda")
    with pytest.raises(RuntimeError):
        graph.repeat(lambda row, _: float(row.sum().item()), torch.ones((20, 4), device="cuda"), lambda _: None)
    _, reports = packed(configs(), data)
    assert all(report.finite for some in reports for report in some)


def test_the_fastest_size_is_found_within_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    data, cost = numbers("cuda"), pack._cost

    def of_little_memory(states: list[State], data: Tensors, size: int) -> float:
        if len(states) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return cost(states, data, size)

    assert 2 < fastest(data, limit=8, config=configs()[0]) <= 8  # each trial more costs next to nothing
    monkeypatch.setattr(pack, "_cost", of_little_memory)
    assert 1 <= fastest(data, limit=8, config=configs()[0]) <= 2
