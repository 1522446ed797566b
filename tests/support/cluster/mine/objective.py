"""An Optuna objective, unchanged, that imports a module beside it."""

import line
import numpy as np

from rungwise import Sweep, main


def objective(trial):
    samples, weights = line.load(), np.zeros(8)
    lr = trial.suggest_float("lr", 0.01, 0.2, log=True)
    for epoch in range(3):
        weights = line.step(weights, samples["train"], lr)
        trial.report(line.loss(weights, samples["val"]), epoch)
    return line.loss(weights, samples["val"])


SWEEP = Sweep(
    name="objective", objective=objective, mode="min", trials=6, epochs=3, scheduler="none",
    confirm_configs=1, confirm_seeds=1,
)  # fmt: skip

if __name__ == "__main__":
    main(SWEEP)
