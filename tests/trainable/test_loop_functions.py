"""Functions of the user's in the built-in loop: metrics, loss, optimiser and schedule; and weights of classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor
from torch.nn import functional as F

from rungwise.trainable.config import Config
from rungwise.trainable.data.dataset import Dataset, load
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.export.test_evaluation import score
from rungwise.trainable.messages import TrialAssignment, TrialEnd, TrialResult
from rungwise.trainable.packing.pack import unpackable
from rungwise.trainable.report import Report
from rungwise.trainable.train import data_loss, train
from rungwise.trainable.training.loop_functions import LoopFunctionError, LoopFunctions
from rungwise.trainable.training.state import State
from rungwise.trainable.worker.worker import TrialWorker

CONFIG = Config(hidden=(8,), batch_size=64, epochs=2, lr=0.01)


def f1(outputs: Tensor, targets: Tensor) -> float:
    return float(f1_score(targets.numpy(), outputs.argmax(1).numpy(), average="macro"))


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.mse_loss(outputs.softmax(1), F.one_hot(targets, outputs.shape[1]).float())


def with_functions(**functions: Any) -> tuple[Dataset, Tensors]:
    data = replace(load("digits"), functions=LoopFunctions(**functions))
    return data, Tensors.of(data.without_test(), "cpu")


def test_a_metric_sees_the_whole_validation_split_and_the_test_split_at_the_end(tmp_path: Path) -> None:
    data, tensors = with_functions(metrics={"f1": f1})
    state = State.fresh(CONFIG, tensors)
    *_, last = train(CONFIG, tensors, state=state)
    model = state.model.eval()
    outputs = model((tensors.x_validation.float() - tensors.mean) / tensors.std)
    assert last.asdict()["val_f1"] == pytest.approx(f1(outputs, tensors.y_validation), abs=1e-6)
    assert last.val_accuracy is not None
    digest = state.save(tmp_path / "state")
    values = CONFIG.model_dump(mode="json")
    (scored,) = score({1: (tmp_path / "state", digest)}, {1: values}, data, "cpu").values()
    assert set(scored) == {"loss", "accuracy", "f1"}


def test_a_report_with_metrics_of_ones_own_survives_its_dictionary() -> None:
    _, tensors = with_functions(metrics={"f1": f1})
    (report,) = list(train(CONFIG.model_copy(update={"epochs": 1}), tensors))
    assert Report.from_dict(report.asdict()) == report


def test_a_loss_of_ones_own_is_what_training_minimises_and_what_is_reported() -> None:
    _, tensors = with_functions(loss=squared)
    first, last = list(train(CONFIG, tensors))
    assert last.val_loss < first.val_loss < 0.2  # a cross-entropy would begin above 1
    assert last.train_loss < 0.2


def test_an_optimizer_of_ones_own_is_stepped_with_the_schedules_rate() -> None:
    rates = []

    class Recording(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            rates.append(self.param_groups[0]["lr"])
            super().step(closure)

    _, tensors = with_functions(
        optimizer=lambda model, config: Recording(model.parameters(), config.lr), schedule=lambda share: 1 - share
    )
    (report, _) = list(train(CONFIG, tensors))
    steps = len(rates)
    assert rates == pytest.approx([0.01 * (1 - step / steps) for step in range(steps)])
    assert report.lr == pytest.approx(rates[steps // 2 - 1])


@pytest.mark.parametrize(
    ("functions", "says"),
    [
        ({"loss": lambda *both: both[0]}, r"a loss must return a tensor of one number, but returned one of"),
        ({"loss": lambda *_: 1.0}, r"a loss must return a tensor of one number, but returned a float"),
        (
            {"metrics": {"f1": lambda *_: None}},
            r"a metric must return a number, but f1 returned NoneType",
        ),
        (
            {"optimizer": lambda *_: "adam"},
            r"optimizer must return a torch.optim.Optimizer, but returned str",
        ),
    ],
)
def test_what_the_loop_cannot_use_is_said(functions: dict[str, Any], says: str) -> None:
    with pytest.raises(LoopFunctionError, match=says):
        list(train(CONFIG, with_functions(**functions)[1]))


def test_an_objective_of_ones_own_that_is_no_number_diverges() -> None:
    data, _ = with_functions(metrics={"f1": lambda *_: float("nan")})
    assignment = TrialAssignment(1, "all", "search", CONFIG.model_dump(mode="json")).to_tune()

    class Here(TrialWorker):
        def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
            super().setup(config, data=data.without_test(), objectives=("val_f1",))

    result = TrialResult.from_tune(Here(config=assignment).step())
    assert result.state is TrialEnd.DIVERGED
    assert result.failure is not None
    assert "val_f1 is nan" in result.failure.message


def test_balanced_weights_count_every_class_the_same() -> None:
    data = load("digits")
    kept = (data.train.y != 3) | (torch.arange(len(data.train.y)).numpy() % 10 == 0)
    uneven = replace(data, train=type(data.train)(data.train.x[kept], data.train.y[kept]))
    tensors = Tensors.of(uneven.without_test(), "cpu")
    config = CONFIG.model_copy(update={"class_weights": "balanced"})
    outputs, y = torch.randn(64, 10), tensors.y_train[:64]
    weights = torch.tensor([len(tensors.y_train) / (10 * (tensors.y_train == k).sum()) for k in range(10)])
    expected = (F.cross_entropy(outputs, y, reduction="none") * weights[y]).sum() / weights[y].sum()
    assert data_loss(outputs, y, tensors, config).item() == pytest.approx(expected.item(), rel=1e-5)
    assert unpackable(config, tensors) == "a trial with class weights cannot be packed"
    assert unpackable(CONFIG, replace(tensors, functions=LoopFunctions(loss=squared))) is not None
