"""(b) An expert's Optuna: a process a core, each with one thread; TPE, successive halving and one SQLite storage.

Torch and the data are loaded once, before the processes fork; a trial starts in no time. Optuna's defaults are
those of a good search already (multivariate TPE with a constant liar).
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.sharedctypes import Synchronized
from typing import Any

import loop
import optuna
import torch
import work

STUDY = "expert"


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    return {
        "lr": trial.suggest_float("lr", 1e-4, 1e-1, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-1, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "batch_size": trial.suggest_categorical("batch_size", work.BATCH_SIZES),
        "optimizer": trial.suggest_categorical("optimizer", work.OPTIMIZERS),
    }


def worker(task: work.Task, rank: int, data: Any, taken: Synchronized[int]) -> None:
    study = optuna.load_study(
        study_name=STUDY,
        storage=f"sqlite:///{task.out / 'study.db'}",
        sampler=optuna.samplers.TPESampler(seed=1000 * task.seed + rank),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=work.GRACE, reduction_factor=work.ETA),
    )

    def objective(trial: optuna.Trial) -> float:
        torch.manual_seed(1000 * task.seed + trial.number)
        accuracy = 0.0
        for epoch, accuracy in enumerate(loop.epochs(suggest(trial), data, task.epochs), 1):
            work.say(task.out, trial.number, epoch, accuracy)
            trial.report(accuracy, epoch)
            if epoch < task.epochs and trial.should_prune():
                raise optuna.TrialPruned
        return accuracy

    while True:
        with taken.get_lock():
            if taken.value >= task.trials:
                return
            taken.value += 1
        study.optimize(objective, n_trials=1)


def main() -> None:
    task = work.Task.parse()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    data = loop.arrays(task.data)
    optuna.create_study(study_name=STUDY, storage=f"sqlite:///{task.out / 'study.db'}", direction="maximize")
    fork = multiprocessing.get_context("fork")
    taken = fork.Value("i", 0)
    workers = [fork.Process(target=worker, args=(task, rank, data, taken)) for rank in range(task.workers)]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
    if any(process.exitcode for process in workers):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
