"""Learning curves of random configurations of mnist_l2's arm "L2": what `benchmarks/identical_arms.py` replays.

    PYTHONPATH=benchmarks python benchmarks/curves/measure_l2.py [--minutes 5]

trains 160 random configurations of the arm's own space as `sweeps/mnist_l2.py` trains them (one-cycle schedule, 6
epochs, a report each), and the first 32 of them on two more seeds, which show how much of a score is luck. Each model
is scored on the test split once. It is the project's own loop, without Ray, on one thread, four trials at a time: run
the command once a core. Every process takes the next four trials that no process has begun, and stops after
`--minutes`; the same command again goes on. When nothing is left, it writes `mnist_l2.parquet` beside this file. About
4 s of one core a trial.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
from curves.measure import claimed, column, gather

from rungwise import Sweep

CONFIGS = 160
REPEATED, AGAIN = 32, 2  # the first configurations, trained again on that many fresh seeds
TRIALS = CONFIGS + REPEATED * AGAIN
PACK = 4  # trials that a process trains together: the fastest on two cores (docs/internals/packed.md)
ARM = "L2"

FILE = Path(__file__).with_name("mnist_l2.parquet")
PARTS = Path("runs/curves-l2")  # a file a pack, until all are there

SCHEMA = pa.schema(
    [
        column("trial", pa.int32(), "", "0..159: a configuration each; 160..223: repeats of 0..31"),
        column("config", pa.int32(), "", "trial that has the same configuration, itself if it is no repeat"),
        column("seed", pa.int64(), "", "initial weights, order of samples, dropout noise"),
        column("lr", pa.float64(), "step size", "the highest learning rate of the one-cycle schedule"),
        column("dropout", pa.float64(), "probability", "share of hidden activations dropped"),
        column("l2", pa.float64(), "1", "weight of half the sum of squared weights in the loss"),
        column("step", pa.int32(), "reports", "1..6"),
        column("epoch", pa.float64(), "epochs", "as step"),
        column("val_accuracy", pa.float64(), "share", "of 10,000 validation samples"),
        column("test_accuracy", pa.float64(), "share", "of 10,000 test samples, at the end"),
    ]
)


def main_job() -> Sweep:
    """`sweeps/mnist_l2.py`'s sweep."""
    sys.path.append(str(Path(__file__).parents[2] / "sweeps"))
    try:
        from mnist_l2 import SWEEP
    finally:
        sys.path.pop()
    sweep: Sweep = SWEEP
    return sweep


def configuration(trial: int) -> tuple[int, dict[str, Any]]:
    """(the trial that has the same hyperparameters, what the trial is trained with). 0 <= trial < TRIALS."""
    import optuna

    from rungwise.engine.experiment.space import distributions
    from rungwise.engine.search.seeds import derived_seed

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # not a line a study
    sweep = main_job()
    assert not callable(sweep.space)
    config = trial if trial < CONFIGS else (trial - CONFIGS) % REPEATED
    sampler = optuna.samplers.RandomSampler(seed=derived_seed(0, "configuration", config))
    params = optuna.create_study(sampler=sampler).ask(distributions(sweep.space)).params
    return config, {**sweep.fixed, **params, "seed": derived_seed(0, "trial", trial), "epochs": sweep.epochs}


def train_pack(trials: range, data: Any, test: Any) -> list[dict[str, Any]]:
    """Train `trials` together to the end on `data` (`trainable.data.tensors.Tensors`): their rows, in order."""
    import torch

    from rungwise.trainable.config import Config
    from rungwise.trainable.packing.pack import train_together
    from rungwise.trainable.train import evaluate
    from rungwise.trainable.training.state import State

    states = [State.fresh(Config.model_validate(configuration(trial)[1]), data) for trial in trials]
    reports = [train_together(states, data) for _ in range(states[0].config.reports)]
    x, y = torch.from_numpy(test.x), torch.from_numpy(test.y)
    rows = []
    for trial, state, told in zip(trials, states, zip(*reports, strict=True), strict=True):
        config, values = configuration(trial)
        _, test_accuracy = evaluate(state.model, x, y, data.mean, data.std)
        common = {"trial": trial, "config": config, **{name: values[name] for name in ("seed", "lr", "dropout", "l2")}}
        rows += [
            {**common, "step": one.step, "epoch": one.epoch, "val_accuracy": one.val_accuracy}
            | {"test_accuracy": test_accuracy}
            for one in told
        ]
    return rows


def measure(minutes: float) -> None:
    """Train what nobody has trained or is training, until none is left or the time is up."""
    from rungwise.files import replacing
    from rungwise.trainable.data.dataset import load
    from rungwise.trainable.data.tensors import Tensors
    from rungwise.trainable.train import prepare_process

    prepare_process(1)
    dataset = load("mnist")
    data = Tensors.of(dataset, "cpu")
    ends = time.monotonic() + 60 * minutes
    for pack, first in enumerate(range(0, TRIALS, PACK)):
        if time.monotonic() > ends:
            return
        with claimed(PARTS, pack) as path:
            if path is not None:
                rows = train_pack(range(first, min(first + PACK, TRIALS)), data, dataset.test)
                with replacing(path) as file:
                    file.write(json.dumps(rows).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no trial after that many")
    measure(parser.parse_args().minutes)
    packs = -(-TRIALS // PACK)
    done = sum(1 for _ in PARTS.glob("*.json"))
    whole = gather(PARTS, packs, FILE, SCHEMA)
    print(f"wrote {FILE}" if whole else f"{done} of {packs} packs are there; the same command goes on")


if __name__ == "__main__":
    main()
