"""Does dropout help an MLP on a small table, the Wisconsin breast cancer data (398 training samples, 30 columns)?"""

from rungwise import CategoricalDistribution, FloatDistribution, Sweep, main

SWEEP = Sweep(
    name="tabular",
    question=__doc__,
    data="breast-cancer",
    space={
        "lr": FloatDistribution(1e-3, 1e-1, log=True),
        "hidden": CategoricalDistribution(["16", "32", "32-16"]),
        "dropout": FloatDistribution(0.05, 0.6),
    },
    arms={"no dropout": {"dropout": 0.0}, "dropout": {}},
    fixed={"optimizer": "adamw", "weight_decay": 1e-3, "schedule": "one-cycle", "batch_size": 32},
    metric="val_loss",  # 85 validation samples: accuracy is too coarse to choose by
    mode="min",
    trials=20,
    epochs=9,
)

if __name__ == "__main__":
    main(SWEEP)
