"""(a) The usual tutorial: Ray Tune with a function, torchvision's dataset behind a DataLoader, OptunaSearch, ASHA and
Ray's own MLflow callback."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import optuna
import torch
import work
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms


def train(config: dict[str, Any], task: work.Task) -> None:
    scale = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    digits = datasets.MNIST(str(task.data), train=True, download=False, transform=scale)
    training = DataLoader(Subset(digits, range(50_000)), config["batch_size"], shuffle=True, drop_last=True)
    validation = DataLoader(Subset(digits, range(50_000, 60_000)), 1000)
    model = work.network(config["dropout"])
    optimizer = work.optimizer_of(model, config["optimizer"], config["lr"], config["weight_decay"], fast=False)
    for epoch in range(1, task.epochs + 1):
        model.train()
        for x, y in training:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        model.eval()
        right = 0
        with torch.no_grad():
            for x, y in validation:
                right += (model(x).argmax(1) == y).sum().item()
        work.say(task.out, tune.get_context().get_trial_id(), epoch, right / 10_000)
        tune.report({"val_accuracy": right / 10_000})


def space(trial: optuna.Trial) -> None:
    trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    trial.suggest_float("weight_decay", 1e-6, 1e-1, log=True)
    trial.suggest_float("dropout", 0.0, 0.5)
    trial.suggest_categorical("batch_size", work.BATCH_SIZES)
    trial.suggest_categorical("optimizer", work.OPTIMIZERS)


def main() -> None:
    task = work.Task.parse()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.path.dirname(__file__), os.environ.get("PYTHONPATH")]))
    import ray

    ray.init(num_cpus=task.workers, include_dashboard=False)
    tuner = tune.Tuner(
        tune.with_resources(partial(train, task=task), {"cpu": 1}),
        tune_config=tune.TuneConfig(
            metric="val_accuracy",
            mode="max",
            search_alg=OptunaSearch(space, metric="val_accuracy", mode="max", seed=task.seed),
            scheduler=ASHAScheduler(max_t=task.epochs, grace_period=work.GRACE, reduction_factor=work.ETA),
            num_samples=task.trials,
        ),
        run_config=tune.RunConfig(
            storage_path=str(task.out / "ray"),
            verbose=0,
            callbacks=[MLflowLoggerCallback(f"sqlite:///{task.out / 'mlflow.db'}", experiment_name="tutorial")],
        ),
    )
    tuner.fit()


if __name__ == "__main__":
    main()
