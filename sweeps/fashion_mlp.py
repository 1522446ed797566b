"""How good can an MLP be on Fashion-MNIST when all of it is tuned: depth, widths, regularisers, optimiser?

The space is define-by-run: a network of three layers has three widths, one of one layer has one.
"""

from typing import Any

import optuna

from rungwise import Sweep, main


def network(trial: optuna.Trial) -> dict[str, Any]:
    """Depth first, then a width for each layer; AdamW, Adam and RMSprop want smaller steps than SGD."""
    depth = trial.suggest_int("depth", 1, 3)
    optimizer = trial.suggest_categorical("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
    lr = (1e-2, 0.5) if optimizer == "sgd" else (1e-4, 1e-2)
    return {
        "hidden": [trial.suggest_int(f"width_{layer}", 128, 512, log=True) for layer in range(1, depth + 1)],
        "optimizer": optimizer,
        "lr": trial.suggest_float("lr_sgd" if optimizer == "sgd" else "lr", *lr, log=True),
        "batch_size": trial.suggest_categorical("batch_size", [128, 256]),
        "batch_norm": trial.suggest_categorical("batch_norm", [True, False]),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True),
    }


SWEEP = Sweep(
    name="fashion_mlp",
    question=__doc__,
    space=network,
    fixed={"schedule": "one-cycle"},
    data="fashion-mnist",
    trials=48,
    epochs=20,
    confirm_configs=2,
)

if __name__ == "__main__":
    main(SWEEP)
