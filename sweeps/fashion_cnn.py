"""How good is a convolutional network of at most 100,000 parameters on Fashion-MNIST?

The limit is that of a row in the table of Fashion-MNIST's own README. A larger network is refused before it trains.
"""

from rungwise import CategoricalDistribution, FloatDistribution, Sweep, main

SWEEP = Sweep(
    name="fashion_cnn",
    question=__doc__,
    data="fashion-mnist",
    space={
        "lr": FloatDistribution(3e-3, 1.5e-2, log=True),
        "hidden": CategoricalDistribution(["16", "32"]),
        "dropout": FloatDistribution(0.0, 0.3),
        "weight_decay": FloatDistribution(1e-3, 1e-1, log=True),
    },
    fixed={
        "model": "cnn",
        "channels": (24, 48),
        "optimizer": "adamw",
        "schedule": "one-cycle",
        "batch_size": 128,
        "flip": 0.5,
    },
    max_parameters=100_000,
    trials=10,
    epochs=10,
    confirm_configs=1,
)

if __name__ == "__main__":
    main(SWEEP)
