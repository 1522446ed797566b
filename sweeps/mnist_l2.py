"""Does L2 help a regularised MLP (784-128-64-10) on MNIST, and by how much?

Both arms search the learning rate and dropout; only one of them also searches an L2 penalty. Budgets are equal.
"""

from rungwise import FloatDistribution, Sweep, main

SWEEP = Sweep(
    name="mnist_l2",
    question=__doc__,
    space={
        "lr": FloatDistribution(3e-4, 3e-2, log=True),
        "dropout": FloatDistribution(0.0, 0.5),
        "l2": FloatDistribution(1e-7, 1e-2, log=True),
    },
    arms={"no L2": {"l2": 0.0}, "L2": {}},
    fixed={"hidden": (128, 64), "batch_norm": True, "optimizer": "adam", "schedule": "one-cycle", "batch_size": 128},
    trials=16,
    epochs=6,
)

if __name__ == "__main__":
    main(SWEEP)
