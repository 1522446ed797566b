"""Learning curves of random configurations, each trained to the end: what `benchmarks/simulate.py` replays.

    python benchmarks/curves/measure.py [--minutes 5]

trains 784-128-64-10 with BatchNorm on MNIST (50,000 samples; validated on 10,000) for 6 epochs, with six reports an
epoch: 240 random configurations of the space below, and the first 15 of them on two more seeds, which show how much of
a score is luck. It is the project's own loop, without Ray, on one thread: run the command once a core. Every process
takes the next trial that no process has begun, and stops after `--minutes`; the same command again goes on. When
nothing is left, it writes `mnist_mlp.parquet` beside this file. About 10 s of one core a trial.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from rungwise import CategoricalDistribution, FloatDistribution, Sweep

SWEEP = Sweep(
    name="curves",
    space={
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
        "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
        "dropout": FloatDistribution(0.0, 0.5),
        "batch_size": CategoricalDistribution([64, 128, 256]),
        "optimizer": CategoricalDistribution(["sgd", "adam", "adamw", "rmsprop"]),
    },
    epochs=6,
    reports_per_epoch=6,
)
CONFIGS = 240
REPEATED, AGAIN = 15, 2  # the first configurations, trained again on that many fresh seeds
TRIALS = CONFIGS + REPEATED * AGAIN

FILE = Path(__file__).with_name("mnist_mlp.parquet")
PARTS = Path("runs/curves")  # a file a trial, until all are there


def column(name: str, kind: pa.DataType, unit: str, description: str) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"unit": unit, "description": description})


SCHEMA = pa.schema(
    [
        column("trial", pa.int32(), "", "0..239: a configuration each; 240..269: repeats of 0..14"),
        column("config", pa.int32(), "", "trial that has the same configuration, itself if it is no repeat"),
        column("seed", pa.int64(), "", "initial weights, order of samples, dropout noise"),
        column("lr", pa.float64(), "step size", "learning rate, constant"),
        column("weight_decay", pa.float64(), "1/step", "coupled for sgd, adam, rmsprop; decoupled for adamw"),
        column("dropout", pa.float64(), "probability", "share of hidden activations dropped"),
        column("batch_size", pa.int32(), "samples", "samples a step"),
        column("optimizer", pa.string(), "", "sgd, adam, adamw or rmsprop"),
        column("step", pa.int32(), "reports", "1..36"),
        column("epoch", pa.float64(), "epochs", "step / 6"),
        column("val_accuracy", pa.float64(), "share", "of 10,000 validation samples"),
        column("val_loss", pa.float64(), "nats", "mean cross-entropy of the validation samples; nan: diverged"),
        column("seconds", pa.float64(), "s", "CPU time of this report on one core, validation included"),
        column("validation_seconds", pa.float64(), "s", "CPU time of one validation, the trial's median of three"),
    ]
)


def configuration(trial: int) -> tuple[int, dict[str, Any]]:
    """(the trial that has the same hyperparameters, what the trial is trained with). 0 <= trial < TRIALS."""
    import optuna

    from rungwise.engine.experiment.space import distributions
    from rungwise.engine.search.seeds import derived_seed

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # not a line a study
    assert not callable(SWEEP.space)
    config = trial if trial < CONFIGS else (trial - CONFIGS) % REPEATED
    sampler = optuna.samplers.RandomSampler(seed=derived_seed(0, "configuration", config))
    params = optuna.create_study(sampler=sampler).ask(distributions(SWEEP.space)).params
    seed = derived_seed(0, "trial", trial)
    return config, {**params, "seed": seed, "epochs": SWEEP.epochs, "reports_per_epoch": SWEEP.reports_per_epoch}


def curve(trial: int, data: Any) -> list[dict[str, Any]]:
    """Train `trial` to the end on `data` (`trainable.data.dataset.Tensors`): its rows, in order."""
    from rungwise.trainable.config import Config
    from rungwise.trainable.train import evaluate, train
    from rungwise.trainable.training.state import State

    config, values = configuration(trial)
    state = State.fresh(Config.model_validate(values), data)
    rows: list[dict[str, Any]] = []
    started = time.process_time()
    for report in train(state.config, data, state=state):
        now = time.process_time()
        told = {name: getattr(report, name) for name in ("step", "epoch", "val_accuracy", "val_loss")}
        rows.append(told | {"seconds": now - started})
        started = now
    validations = []
    for _ in range(3):
        started = time.process_time()
        evaluate(state.model, data.x_validation, data.y_validation, data.mean, data.std)
        validations.append(time.process_time() - started)
    hyper = {name: values[name] for name in ("seed", "lr", "weight_decay", "dropout", "batch_size", "optimizer")}
    common = {"trial": trial, "config": config, **hyper, "validation_seconds": sorted(validations)[1]}
    return [common | row for row in rows]


def measure(minutes: float) -> None:
    """Train what nobody has trained or is training, until none is left or the time is up."""
    from rungwise.files import replacing
    from rungwise.trainable.data.dataset import load
    from rungwise.trainable.data.tensors import Tensors
    from rungwise.trainable.train import prepare_process

    prepare_process(1)
    data = Tensors.of(load("mnist").without_test(), "cpu")
    ends = time.monotonic() + 60 * minutes
    for trial in range(TRIALS):
        if time.monotonic() > ends:
            return
        with claimed(PARTS, trial) as path:
            if path is not None:
                rows = curve(trial, data)
                with replacing(path) as file:
                    file.write(json.dumps(rows).encode())


@contextmanager
def claimed(parts: Path, index: int) -> Iterator[Path | None]:
    """Where the rows of this part go; None when they are there, or another process trains it. Ends with the process."""
    parts.mkdir(parents=True, exist_ok=True)
    path = parts / f"{index:03}.json"
    if path.exists():
        yield None
        return
    with open(path.with_suffix(".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield None if path.exists() else path


def gather(folder: Path, count: int, file: Path, schema: pa.Schema) -> bool:
    """Write the table when every one of `count` parts is there."""
    from rungwise.files import replacing
    from rungwise.results.tables.parquet import content

    parts = [folder / f"{index:03}.json" for index in range(count)]
    if not all(part.exists() for part in parts):
        return False
    rows = [row for part in parts for row in json.loads(part.read_text())]
    with replacing(file) as opened:
        opened.write(content(pa.Table.from_pylist(rows, schema=schema)))
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no trial after that many")
    measure(parser.parse_args().minutes)
    done = sum(1 for _ in PARTS.glob("*.json"))
    print(
        f"wrote {FILE}"
        if gather(PARTS, TRIALS, FILE, SCHEMA)
        else f"{done} of {TRIALS} trials are there; the same command goes on"
    )


if __name__ == "__main__":
    main()
