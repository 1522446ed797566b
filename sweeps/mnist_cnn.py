"""How much better than a tuned MLP is a small convolutional network on MNIST?

Both arms have the same number of trials and epochs; an epoch of the CNN takes about ten times as long. The MLP searches
its widths, the CNN its channels and the augmentation.
"""

from rungwise import CategoricalDistribution, FloatDistribution, Sweep, main

SWEEP = Sweep(
    name="mnist_cnn",
    question=__doc__,
    space={"lr": FloatDistribution(1e-3, 3e-2, log=True), "dropout": FloatDistribution(0.0, 0.5)},
    arms={
        "MLP": {"model": "mlp", "hidden": CategoricalDistribution(["128-64", "256-128", "512-256"])},
        "CNN": {
            "model": "cnn",
            "hidden": (64,),
            "channels": CategoricalDistribution(["8-16", "16-32"]),
            "channel_dropout": FloatDistribution(0.0, 0.2),
            "shift": FloatDistribution(0.0, 2.0),
        },
    },
    fixed={"optimizer": "adam", "schedule": "one-cycle", "batch_size": 128},
    trials=10,
    epochs=4,
)

if __name__ == "__main__":
    main(SWEEP)
