"""Which regulariser helps an MLP (784-128-64-10) on MNIST: none, L1, L2, dropout, batch norm, or all of them together?

Every arm searches the learning rate, and the strengths of its own regularisers only. Equal budgets.
"""

from rungwise import FloatDistribution, Sweep, main

NONE = {"l1": 0.0, "l2": 0.0, "dropout": 0.0, "batch_norm": False}


def only(*names: str) -> dict[str, float | bool]:
    """All regularisers off but these, whose strength is searched; batch norm is on or off."""
    return {name: value for name, value in NONE.items() if name not in names} | (
        {"batch_norm": True} if "batch_norm" in names else {}
    )


SWEEP = Sweep(
    name="mnist_regularisers",
    question=__doc__,
    space={
        "lr": FloatDistribution(3e-4, 3e-2, log=True),
        "l1": FloatDistribution(1e-7, 1e-3, log=True),
        "l2": FloatDistribution(1e-7, 1e-2, log=True),
        "dropout": FloatDistribution(0.05, 0.5),
    },
    arms={
        "none": only(),
        "L1": only("l1"),
        "L2": only("l2"),
        "dropout": only("dropout"),
        "batch norm": only("batch_norm"),
        "all": only("l1", "l2", "dropout", "batch_norm"),
    },
    fixed={"hidden": (128, 64), "optimizer": "adam", "schedule": "one-cycle", "batch_size": 128},
    trials=12,
    epochs=6,
)

if __name__ == "__main__":
    main(SWEEP)
