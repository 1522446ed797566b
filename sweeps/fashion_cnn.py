"""How good is a convolutional network of at most 100,000 parameters on Fashion-MNIST?

The limit is that of a row in the table of Fashion-MNIST's own README. A larger network is refused before it trains.
"""

from sweeps.engine import CategoricalDistribution, FloatDistribution, Sweep, main

SWEEP = Sweep(
    name="fashion_cnn",
    question=__doc__,
    data="fashion-mnist",
    space={
        "lr": FloatDistribution(2e-3, 2e-2, log=True),
        "channels": CategoricalDistribution(["16-32", "24-48"]),
        "hidden": CategoricalDistribution(["", "16", "32"]),
        "dropout": FloatDistribution(0.0, 0.4),
        "channel_dropout": FloatDistribution(0.0, 0.2),
        "shift": FloatDistribution(0.0, 1.5),
    },
    fixed={"model": "cnn", "optimizer": "adamw", "schedule": "one-cycle", "batch_size": 128, "flip": 0.5},
    max_parameters=100_000,
    trials=12,
    epochs=8,
    confirm_configs=1,
)

if __name__ == "__main__":
    main(SWEEP)
