"""(c) Syne Tune's local backend with its ASHA and the expert's loop. A trial is a process of its own there."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path


def trial() -> None:
    """What the backend starts for each trial: this file again, with the hyperparameters as arguments."""
    import loop
    import torch
    import work
    from syne_tune import Reporter

    parser = argparse.ArgumentParser()
    for name, kind in (("lr", float), ("weight_decay", float), ("dropout", float), ("batch_size", int)):
        parser.add_argument(f"--{name}", type=kind)
    for name in ("optimizer", "data", "out"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--epochs", type=int)
    params, _ = parser.parse_known_args()
    torch.set_num_threads(1)
    report = Reporter()
    number = os.getpid()
    for epoch, accuracy in enumerate(loop.epochs(vars(params), loop.arrays(Path(params.data)), params.epochs), 1):
        work.say(Path(params.out), number, epoch, accuracy)
        report(epoch=epoch, val_accuracy=accuracy)


def main() -> None:
    import work

    task = work.Task.parse()
    os.environ["SYNETUNE_FOLDER"] = str(task.out)  # else it writes into the home folder
    from syne_tune import StoppingCriterion, Tuner
    from syne_tune.backend import LocalBackend
    from syne_tune.config_space import choice, loguniform, uniform
    from syne_tune.optimizer.baselines import ASHA

    logging.getLogger().setLevel(logging.ERROR)
    space = {
        "lr": loguniform(1e-4, 1e-1),
        "weight_decay": loguniform(1e-6, 1e-1),
        "dropout": uniform(0.0, 0.5),
        "batch_size": choice(work.BATCH_SIZES),
        "optimizer": choice(work.OPTIMIZERS),
        "epochs": task.epochs,
        "data": str(task.data),
        "out": str(task.out),
    }
    asha = ASHA(
        space,
        metric="val_accuracy",
        do_minimize=False,
        time_attr="epoch",
        max_t=task.epochs,
        grace_period=work.GRACE,
        reduction_factor=work.ETA,
        random_seed=task.seed,
    )
    Tuner(
        trial_backend=LocalBackend(entry_point=__file__),
        scheduler=asha,
        stop_criterion=StoppingCriterion(max_num_trials_started=task.trials - 1),  # it stops above that number
        n_workers=task.workers,
        sleep_time=0.1,  # its default is to look every 5 s
        wait_trial_completion_when_stopping=True,
        save_tuner=False,
    ).run()


if __name__ == "__main__":
    main() if "--trials" in sys.argv else trial()
