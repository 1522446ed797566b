"""Does Bayesian search (TPE) find better hyperparameters of an MLP on MNIST than random search or a grid?

Each arm has the same number of trials and epochs, and the same ASHA. The grid has three values per hyperparameter,
spread over the range that the other two search.
"""

from rungwise import CategoricalDistribution, FloatDistribution, Sweep, main

SWEEP = Sweep(
    name="search_methods",
    question=__doc__,
    space={
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
        "dropout": FloatDistribution(0.0, 0.5),
        "weight_decay": FloatDistribution(1e-5, 1e-1, log=True),
    },
    arms={
        "grid": {
            "lr": CategoricalDistribution([1e-4, 3e-3, 1e-1]),
            "dropout": CategoricalDistribution([0.0, 0.25, 0.5]),
            "weight_decay": CategoricalDistribution([1e-5, 1e-3, 1e-1]),
        },
        "random": {},
        "TPE": {},
    },
    sampler={"grid": "grid", "random": "random", "TPE": "tpe"},
    fixed={"hidden": (128, 64), "optimizer": "adamw", "schedule": "one-cycle", "batch_size": 128},
    trials=27,
    epochs=4,
)

if __name__ == "__main__":
    main(SWEEP)
