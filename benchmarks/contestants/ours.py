"""(d) Rungwise, everything on: the record, Parquet, MLflow, the report. The question is the search at equal budget, so
the harness asks for --no-confirm."""

import json
import os

from rungwise import CategoricalDistribution, FloatDistribution, Sweep, main

SWEEP = Sweep(
    name="ours",
    question=__doc__,
    space={
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
        "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
        "dropout": FloatDistribution(0.0, 0.5),
        "batch_size": CategoricalDistribution(json.loads(os.environ.get("PEERS_BATCH_SIZES", "[64, 128, 256]"))),
        "optimizer": CategoricalDistribution(["sgd", "adam", "adamw", "rmsprop"]),
    },
    trials=64,
    epochs=6,
)

if __name__ == "__main__":
    main(SWEEP)
