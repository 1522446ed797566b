"""What goes wrong inside a trial: it says what, ends alone, and is never the best."""

from __future__ import annotations

import math
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState
from support.loop import Loop
from support.sweeping import write_data

from rungwise import CategoricalDistribution, FloatDistribution, Sweep
from rungwise.engine.execution.signals import Signals
from rungwise.engine.execution.stopping import ALL_FAILED, Stop
from rungwise.results.record.types import State
from rungwise.trainable.config import Config
from rungwise.trainable.data.dataset import Dataset, load
from rungwise.trainable.messages import Failure, FailureKind, TrialEnd, TrialResult
from rungwise.trainable.report import Report
from rungwise.trainable.worker.checkpoints import Checkpoints
from rungwise.trainable.worker.worker import TrialWorker

EPOCHS = 4
SWEEP = Sweep(name="tiny", space={"lr": FloatDistribution(1e-3, 1e-1, log=True)}, epochs=EPOCHS, grace=1.0, eta=2.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load(str(write_data(tmp_path_factory.mktemp("data") / "data.npz", samples=90))).without_test()


@pytest.fixture
def worker(data: Dataset, tmp_path: Path) -> Callable[..., TrialWorker]:
    """worker(config, ...) -> the trainable that a trial's process runs, in this process."""

    def start(
        config: dict[str, Any], *, reported: int = 0, known: dict[int, str] | None = None, **how: Any
    ) -> TrialWorker:
        class Here(TrialWorker):
            def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
                super().setup(config, data=data, **({"checkpoints": str(tmp_path), "checkpoint_seconds": 0.0} | how))

        values = {"hidden": [4], "batch_size": 16, "epochs": EPOCHS, "lr": 0.01, "seed": 1} | config
        message = {"trial": 1, "arm": "all", "phase": "search", "config": Config(**values).model_dump(mode="json")}
        return Here(config=message | {"reported": reported, "checkpoints": known or {}})

    return start


def run_out(trial: TrialWorker) -> list[TrialResult]:
    """All results to the last."""
    results = [said(trial)]
    while not results[-1].ended:
        results.append(said(trial))
    return results


def said(trial: TrialWorker) -> TrialResult:
    return TrialResult.from_tune(trial.step())


# -- numbers that are none ---------------------------------------------------------------------------------------


def report(step: int, **changed: float) -> Report:
    values = {"train_loss": 0.5, "penalty": 0.0, "val_loss": 0.5, "val_accuracy": 0.5, "lr": 0.01, "seconds": 0.1}
    return Report(step=step, epoch=float(step), **(values | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [1, 3])
def test_a_non_finite_objective_ends_its_trial_as_diverged_and_no_other(
    worker: Callable[..., TrialWorker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, bad: float, mode: Any
) -> None:
    """The value is put between training and everything that consumes its reports."""
    sick = [report(step, val_accuracy=bad if step == at else 0.5) for step in range(1, at + 1)]
    (tmp_path / "run").mkdir()
    loop = Loop(tmp_path / "run", Sweep(**{**vars(SWEEP), "mode": mode}), trials=4)
    first, *others = (loop.deal() for _ in range(4))
    with monkeypatch.context() as patched:
        patched.setattr("rungwise.trainable.train.train", lambda *_, **__: iter(sick))
        for result in run_out(worker({})):
            loop.tell(first, result)
    for other in others:
        loop.train(other, lambda _, __: 0.5)  # equal scores: ASHA stops nobody
    rows = loop.rows()
    assert [row.state for row in rows.values()] == [State.DIVERGED, *[State.COMPLETED] * 3]
    assert rows[1].reason == f"val_accuracy is {bad} at epoch {at}"
    assert [t.state for t in loop.live()] == [TrialState.FAIL, *[TrialState.COMPLETE] * 3]
    assert all(math.isfinite(v) for t in loop.live() for v in t.intermediate_values.values())
    assert [t.state for t in loop.rebuilt()] == [t.state for t in loop.live()]
    assert loop.board.best["all"][1] != 1


def test_a_learning_rate_of_a_thousand_million_diverges_and_says_so(worker: Callable[..., TrialWorker]) -> None:
    last = run_out(worker({"lr": 1e9, "optimizer": "sgd", "batch_norm": False, "momentum": 0.0}))[-1]
    assert (last.state, last.failure.kind) == (TrialEnd.DIVERGED, FailureKind.DIVERGED)
    assert "nan" in last.failure.message or "inf" in last.failure.message


def test_an_objective_that_is_not_reported_fails_the_trial_and_names_what_is(
    worker: Callable[..., TrialWorker],
) -> None:
    (result,) = run_out(worker({}, objectives=("val_f1",)))
    assert (result.state, result.failure.kind) == (TrialEnd.FAILED, FailureKind.EXCEPTION)
    assert "the objective 'val_f1' is not in the report, which contains epoch, train_loss" in result.failure.message
    assert "KeyError" in result.failure.error


# -- memory ------------------------------------------------------------------------------------------------------


def test_a_network_too_large_fails_with_out_of_memory_and_the_sampler_ranks_it_last(
    worker: Callable[..., TrialWorker], tmp_path: Path
) -> None:
    space = {"hidden": CategoricalDistribution(["4", "1000000-1000000"])}
    (tmp_path / "run").mkdir()
    loop = Loop(tmp_path / "run", Sweep(name="tiny", space=space, epochs=EPOCHS), trials=40, in_flight=1)
    sizes = []
    while not isinstance(trial := loop.deal(), str):
        sizes.append(tuple(trial.config["config"]["hidden"]))
        if sizes[-1] == (4,):
            loop.train(trial, lambda _, __: 0.5)
            continue
        (result,) = run_out(worker({"hidden": sizes[-1]}))  # torch is really asked for 4 TB
        assert (result.state, result.failure.kind) == (TrialEnd.FAILED, FailureKind.OUT_OF_MEMORY)
        assert result.failure.message.startswith("out of memory (RuntimeError: ")
        loop.tell(trial, result)
    states = {row.state for row in loop.rows().values()}
    assert states == {State.COMPLETED, State.FAILED}
    told = [t for t in loop.live() if t.params["hidden"] != "4"]
    assert {(t.state, t.value, len(t.intermediate_values)) for t in told} == {(TrialState.PRUNED, None, 0)}
    assert [t.state for t in loop.rebuilt()] == [t.state for t in loop.live()]
    assert sizes[20:].count((4,)) >= 16  # of 20; ten would be chance


def test_a_model_of_too_many_parameters_is_refused_before_it_trains(worker: Callable[..., TrialWorker]) -> None:
    (result,) = run_out(worker({"hidden": [50]}, max_parameters=100))
    assert (result.state, result.step, result.metrics) == (TrialEnd.FAILED, 0, {})
    constraint = result.failure.constraint
    assert result.failure.kind is FailureKind.INFEASIBLE
    assert (constraint.name, constraint.limit, constraint.value > 100) == ("parameters", 100, True)
    assert result.failure.message == f"infeasible: parameters must be at most 100, but got {constraint.value}"
    assert run_out(worker({}, max_parameters=10_000))[-1].state is TrialEnd.COMPLETED


# -- sweeps that cannot succeed ----------------------------------------------------------------------------------


def stop_after(*ends: tuple[State, str], notice: Callable[[str], None] | None = None) -> str | None:
    stop = Stop(Signals(), None)
    stop.notice = notice
    for state, message in ends:
        stop.ended(state, Failure(FailureKind.EXCEPTION, message) if state is State.FAILED else None)
    assert stop.stop_all() is (stop.failure is not None)
    return stop.failure


def test_ten_trials_that_all_failed_end_the_sweep_with_the_commonest_error() -> None:
    odd, common = (State.FAILED, "KeyError: 'x'"), (State.FAILED, "ValueError: no")
    assert ALL_FAILED == 10
    assert stop_after(*[common] * 9) is None
    assert stop_after(odd, *[common] * 8, odd) == (
        "the first 10 trials all FAILED, 8 of them with: ValueError: no; once that is mended, --fresh starts over"
    )


@pytest.mark.parametrize("state", [State.COMPLETED, State.STOPPED, State.DIVERGED, State.LOST])
def test_one_other_end_among_the_first_ten_lets_the_sweep_go_on(state: State) -> None:
    assert stop_after(*[(State.FAILED, "e")] * 9, (state, ""), *[(State.FAILED, "e")] * 30) is None


def test_the_first_trial_that_ends_is_told_at_once_when_it_failed() -> None:
    said: list[str] = []
    assert stop_after(*[(State.FAILED, "KeyError: 'x'")] * 3, notice=said.append) is None
    assert said == ["the first trial to end FAILED (the sweep ends if the first 10 all do): KeyError: 'x'"]
    assert stop_after((State.COMPLETED, ""), (State.FAILED, "KeyError: 'x'"), notice=said.append) is None
    assert len(said) == 1  # of a sweep in which some train, the table of trials tells


def test_tune_can_pickle_what_stops_it_while_signals_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)  # pytest has one of its own
    with Signals() as signals:
        signals.caught = signal.SIGINT
        assert pickle.loads(pickle.dumps(Stop(signals, None))).signals.caught == signal.SIGINT


def test_a_sweep_that_is_interrupted_says_once_that_it_ends() -> None:
    stop, said = Stop(Signals(), None), list[str]()
    stop.notice = said.append
    assert pickle.loads(pickle.dumps(stop)).notice is None  # Tune pickles it; a terminal cannot be pickled
    assert not stop.stop_all()
    assert said == []
    stop.signals.caught = signal.SIGINT
    assert stop.stop_all()
    assert stop.stop_all()
    assert said == ["stopping; Ctrl-C once more quits at once. The same command resumes."]


# -- checkpoints -------------------------------------------------------------------------------------------------


@pytest.fixture
def reference(worker: Callable[..., TrialWorker], tmp_path: Path) -> list[dict[str, Any]]:
    return [told(result) for result in run_out(worker({}, checkpoints=str(tmp_path / "elsewhere")))]


def told(result: TrialResult) -> dict[str, Any]:
    """What a report says, but for the time it took."""
    return {"step": result.step, **{key: value for key, value in result.metrics.items() if key != "seconds"}}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [flip, cut, empty, Path.unlink])
@pytest.mark.parametrize("damaged", [1, 2])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_or_the_start_and_no_bit_changes(
    worker: Callable[..., TrialWorker],
    tmp_path: Path,
    reference: list[dict[str, Any]],
    damage: Callable[[Path], None],
    damaged: int,
) -> None:
    first = worker({})
    saved = [said(first).checkpoint for _ in range(3)]  # of reports 2 and 3 they are still there
    known = {checkpoint.step: checkpoint.sha256 for checkpoint in saved if checkpoint}
    store = Checkpoints(tmp_path, 1)
    for step in (3, 2)[:damaged]:
        damage(Path(str(store.file(step))))
    again = run_out(worker({}, reported=0, known=known))
    assert [told(result) for result in again] == reference
    assert again[0].restored == (2 if damaged == 1 else None)
    whys = again[0].refused
    assert len(whys) == (0 if damage is Path.unlink else damaged)
    assert all("checkpoint" in why for why in whys)
    assert again[-1].state is TrialEnd.COMPLETED


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_trial(
    worker: Callable[..., TrialWorker], tmp_path: Path, reference: list[dict[str, Any]]
) -> None:
    (tmp_path / "1").write_text("in the way of the trial's folder")
    results = run_out(worker({}))
    assert [told(result) for result in results] == reference
    assert "File exists" in (results[0].unsaved or "")
    assert results[-1].state is TrialEnd.COMPLETED


# -- data --------------------------------------------------------------------------------------------------------


def shapes() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    x, y = np.zeros((30, 4), np.float32), np.arange(30) % 3
    yield "fewer labels than samples", {"x": x, "y": y[:29]}
    yield "no samples", {"x": x[:0], "y": y[:0]}
    yield "one class", {"x": x, "y": y * 0}
    yield "labels in a column", {"x": x, "y": y[:, None]}
    yield "a single number a sample too few dimensions", {"x": x[:, 0], "y": y}
    yield "not a number", {"x": x + np.nan, "y": y}


@pytest.mark.parametrize("arrays", [pytest.param(arrays, id=what) for what, arrays in shapes()])
def test_a_data_file_with_wrong_sizes_is_exit_code_2_before_ray(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arrays: dict[str, np.ndarray]
) -> None:
    from rungwise import main

    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(SystemExit) as end:
        main(SWEEP, ["--data", str(tmp_path / "data.npz"), "--out", str(tmp_path / "runs")])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert not (tmp_path / "runs").exists()
