"""Callbacks of other libraries: each reports what was measured, stops where it must, and continues from its save."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.own import Trials

from rungwise.trainable.messages import TrialEnd, TrialResult

FIVE = {"seed": 7, "epochs": 5, "reports_per_epoch": 1}
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 4)).astype("float32")
Y = (X[:, 0] + 0.5 * RANDOM.normal(size=60) > 0).astype("float32")


def xgboost(config, trial):
    import xgboost

    from rungwise.integrations.xgboost import ReportCallback

    data, validation = xgboost.DMatrix(X[:40], Y[:40]), xgboost.DMatrix(X[40:], Y[40:])
    xgboost.train(
        {"objective": "binary:logistic", "nthread": 1}, data, trial.epochs - trial.reported, verbose_eval=False,
        evals=[(validation, "val")], callbacks=[ReportCallback(trial)], xgb_model=ReportCallback.checkpoint(trial),
    )  # fmt: skip


def lightgbm(config, trial):
    import lightgbm

    from rungwise.integrations.lightgbm import ReportCallback

    data = lightgbm.Dataset(X[:40], Y[:40], free_raw_data=False)
    lightgbm.train(
        {"objective": "binary", "num_threads": 1, "verbose": -1, "min_data_in_leaf": 2}, data,
        trial.epochs - trial.reported, valid_sets=[data.create_valid(X[40:], Y[40:])], valid_names=["val"],
        callbacks=[ReportCallback(trial)], init_model=ReportCallback.checkpoint(trial),
    )  # fmt: skip


def keras(config, trial):
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    from rungwise.integrations.keras import ReportCallback

    path = ReportCallback.checkpoint(trial)
    model = (
        keras.saving.load_model(path) if path else keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    )
    if not path:
        model.compile(optimizer="adam", loss="mse")
    model.fit(
        X[:40], Y[:40], validation_data=(X[40:], Y[40:]), initial_epoch=trial.reported, epochs=trial.epochs, verbose=0,
        shuffle=False, callbacks=[ReportCallback(trial)],
    )  # fmt: skip


def lightning(config, trial):
    import torch
    from lightning import LightningModule, Trainer
    from torch.utils.data import DataLoader, TensorDataset

    from rungwise.integrations.lightning import ReportCallback

    class Linear(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch, index):
            return torch.nn.functional.mse_loss(self.layer(batch[0])[:, 0], batch[1])

        def validation_step(self, batch, index):
            self.log("val_loss", self.training_step(batch, index))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.01)

    parts = [
        DataLoader(TensorDataset(torch.tensor(X[part]), torch.tensor(Y[part])), 20)
        for part in (slice(40), slice(40, 60))
    ]
    Trainer(
        max_epochs=trial.epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[ReportCallback(trial)],
    ).fit(Linear(), *parts, ckpt_path=ReportCallback.checkpoint(trial))  # fmt: skip


def transformers(config, trial):
    import tempfile

    import torch
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    from rungwise.integrations.transformers import ReportCallback

    rows = [{"input_ids": torch.tensor([number % 8, 1]), "labels": number % 2} for number in range(32)]
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=trial.epochs, seed=trial.seed, eval_strategy="epoch", save_strategy="no",
            report_to=[], disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        model = BertForSequenceClassification(BertConfig(vocab_size=8, **small))
        splits = {"train_dataset": rows, "eval_dataset": rows[:8]}
        trainer = Trainer(model, arguments, **splits, callbacks=[ReportCallback(trial)])
        trainer.train(resume_from_checkpoint=ReportCallback.checkpoint(trial))


OBJECTIVES = {
    xgboost: "val_logloss",
    lightgbm: "val_binary_logloss",
    keras: "val_loss",
    lightning: "val_loss",
    transformers: "eval_loss",
}


@pytest.fixture(params=OBJECTIVES, ids=lambda train: train.__name__)
def train(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of their imports
        pytest.importorskip(request.param.__name__, reason="the extra own is not installed")
    return request.param


def values(results: list[TrialResult]) -> list[float | None]:
    return [result.objective for result in results]


@pytest.mark.filterwarnings("ignore")  # theirs
def test_a_callback_reports_stops_saves_and_goes_on(train: Callable[..., Any], tmp_path: Path) -> None:
    objective = OBJECTIVES[train]
    whole = Trials(train, tmp_path / "whole", objectives=(objective,)).run(FIVE, phase="confirm")
    assert [result.step for result in whole] == [1, 2, 3, 4, 5]
    assert [result.failure for result in whole] == [None] * 5
    assert whole[-1].state is TrialEnd.COMPLETED
    assert whole[-1].checkpoint is not None
    assert whole[-1].checkpoint.step == 5  # the model as it is after the last report
    assert len(set(values(whole))) == 5  # it learns
    assert not [name for name in whole[0].metrics if name.endswith(("_runtime", "_per_second"))]
    killed = Trials(train, tmp_path / "killed", objectives=(objective,))
    killed.begin(FIVE)
    results = killed.results()
    taken = [next(results) for _ in range(3)]
    assert [result.checkpoint.step for result in taken if result.checkpoint] == [1, 2]
    killed.end()  # a rung stops it: `TrialStopped` passes through the library
    again = Trials(train, tmp_path / "killed", objectives=(objective,)).run(FIVE, attempt=2, reported=2)
    assert [result.step for result in again] == [3, 4, 5]
    assert again[0].restored == 2
    assert again[-1].state is TrialEnd.COMPLETED
    assert values(again) == pytest.approx(values(whole)[2:], rel=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("train", [xgboost, lightgbm], ids=lambda train: train.__name__)
def test_the_reports_of_boosting_need_not_be_rounds(train: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip(train.__name__, reason="the extra own is not installed")
    report = import_module(f"rungwise.integrations.{train.__name__}").ReportCallback
    objective = OBJECTIVES[train]

    class EverySecond(report):  # type: ignore[misc, valid-type]
        def __init__(self, trial: Any) -> None:
            super().__init__(trial, every=2)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(f"rungwise.integrations.{train.__name__}.ReportCallback", EverySecond)
        results = Trials(train, tmp_path, objectives=(objective,)).run(FIVE)
    assert [result.step for result in results] == [1, 2, 2]


@pytest.mark.parametrize("name", ["lightning", "transformers", "xgboost", "keras"])
def test_without_the_library_the_import_says_what_to_install(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("raise ImportError('not here')")
    done = subprocess.run(
        [sys.executable, "-c", f"import rungwise.integrations.{name}"], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: rungwise.integrations.{name} needs {name}, but ")
    assert last.endswith(f"pip install {name}, or 'rungwise[own]'")


def test_rungwise_imports_none_of_these_libraries() -> None:
    code = "import sys, rungwise.engine, rungwise.trainable.own.function as f; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {train.__name__ for train in OBJECTIVES} & set(done.stdout.split())
