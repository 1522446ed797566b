"""A sweep whose trials sleep: the complete driver, and no training. `scale.py` starts it.

    python benchmarks/sleeping.py --slots 64 --seconds 2 --minutes 0.5 --out FOLDER [--own]

What is real: the search (TPE), ASHA, the record, the recorder and the signals, Tune's controller and its actor manager,
and Ray's calls to actors and their answers. What is not: a slot does nothing for `--seconds`, then reports. Unless
`--own` is given, a slot is not a process of its own either, but one of hundreds in a `Host` (slots.py): an asyncio
actor that holds real Trainables, so that a cluster of 1,000 slots fits on one machine. The driver sees no difference:
it calls an actor's method and waits for the object. The exporter to MLflow and Parquet, a process of its own that
tails the record, is left out.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from rungwise import CategoricalDistribution, FloatDistribution, Sweep, main
from rungwise.engine.cluster import local_ray as cluster
from rungwise.engine.cluster import startup_patches as lean
from rungwise.trainable.resources import Resources

SWEEP = Sweep(
    name="sleeping",
    space={
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
        "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
        "dropout": FloatDistribution(0.0, 0.5),
        "batch_size": CategoricalDistribution([64, 128, 256]),
    },
    trials=100_000,  # more than are dealt: the time ends it
    epochs=9,
)
START = cluster.Ray.start


class Nobody:
    """Stands for the exporter."""

    def ask(self, timeout: float) -> None: ...

    def finish(self) -> dict[str, Any]:
        return {}


def sleep(slots: int, seconds: float, own: bool, arguments: list[str]) -> None:
    """Run the sweep, and exit."""
    with ExitStack() as stack:

        def start(ray: cluster.Ray, cpus: float, gpus: float, nbytes: int) -> None:
            from slots import Pool, Sleeper

            sleeper = type("Sleeper", (Sleeper,), {"seconds": seconds if own else 0.0})
            stack.enter_context(patch("rungwise.trainable.worker.worker.TrialWorker", sleeper))
            if not own:
                tuned = "ray.tune.execution.tune_controller.PlacementGroupResourceManager"
                stack.enter_context(patch(tuned, lambda: Pool(slots, seconds)))
                cpus = 1  # Ray keeps an idle process for each CPU; hosts take none
            START(ray, cpus, gpus, nbytes)

        there = Resources(slots, 0)
        for module in ("validation.check", "execution.session"):
            stack.enter_context(patch(f"rungwise.engine.{module}.local_resources", lambda: there))
        stack.enter_context(patch("rungwise.results.exporters.live.Follower.start", lambda *_: Nobody()))
        stack.enter_context(patch.dict(lean.ENVIRONMENT, RAY_preload_python_modules="ray.tune"))  # without torch
        stack.enter_context(patch.object(cluster.Ray, "start", start))
        main(SWEEP, arguments)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0, help="that a slot takes for a report")
    parser.add_argument("--minutes", type=float, default=0.5)
    parser.add_argument("--own", action="store_true", help="a process for each slot")
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    data = given.out / "nothing.npz"
    np.savez(data, x=np.zeros((40, 4), dtype=np.float32), y=np.arange(40) % 2)
    flags = f"--no-confirm --quiet --sampler {given.sampler} --concurrency {given.slots}"
    flags += f" --time-budget {given.minutes} --data {data} --out {given.out}"
    sleep(given.slots, given.seconds, given.own, flags.split())
