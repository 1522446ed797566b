"""Does a momentum help a line?"""

import line
import numpy as np

from rungwise import FloatDistribution, Sweep, main


def train(config, trial):
    weights, speed = np.random.normal(size=8), np.zeros(8)
    if trial.checkpoint:
        weights, speed = np.load(trial.checkpoint / "state.npy")
    for _ in range(trial.reported, trial.epochs):
        moved = line.step(weights, trial.data["train"], config.lr) - weights
        speed = config.momentum * speed + moved
        weights = weights + speed
        yield {"val_loss": line.loss(weights, trial.data["val"])}
        if trial.save_due:
            with trial.save() as folder:
                np.save(folder / "state.npy", [weights, speed])


def test(config, trial):  # noqa: ARG001
    weights, _ = np.load(trial.checkpoint / "state.npy")
    with trial.save() as folder:
        np.save(folder / "weights.npy", weights)
    return {"loss": line.loss(weights, trial.data["test"])}


SWEEP = Sweep(
    name="function",
    question=__doc__,
    train=train,
    test=test,
    data=line.load,
    metric="val_loss",
    mode="min",
    space={"lr": FloatDistribution(0.01, 0.2, log=True)},
    arms={"plain": {"momentum": 0.0}, "momentum": {"momentum": 0.5}},
    trials=3,
    searches=1,
    epochs=6,
    scheduler="none",
    confirm_configs=1,
    confirm_seeds=1,
)

if __name__ == "__main__":
    main(SWEEP)
