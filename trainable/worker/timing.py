"""Measure the time of an epoch of some configurations on this machine, from a few steps of each, and the size of a
trial's checkpoint.

Run as a process of its own, one for each trial in flight, so that probes share the machine as trials will:

    python -m rungwise.trainable.worker.timing < '{"path": [...], "training": "...", "resources": [1, 0],
    "configs": [{...}]}'

prints {"seconds": [...], "bytes": [...]}, one number a configuration: the time of an epoch on the full training split,
validation included, and the size of a checkpoint. With `"together": N` (0: as many as train fastest, up to `"limit"`)
the time is a trial's share in a pack of N. `"training"` is the training, pickled, in base64. `"path"` is the module
search path, since a model may lie beside the user's script and import other modules. Output of the user's code goes to
standard error.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rungwise.trainable.faults import ordinary, refusing_exit
from rungwise.trainable.resources import TrialResources

if TYPE_CHECKING:
    from rungwise.trainable.data.dataset import Dataset

SHARE = 8  # a probe trains on one eighth of the training split


@ordinary()
def probe(
    configs: list[dict[str, Any]],
    full: Dataset,
    resources: TrialResources,
    together: int = 1,
    limit: int = 1,
) -> tuple[list[float], list[int]]:
    """Seconds an epoch of each config, and bytes of its checkpoint.

    Args:
        configs: hyperparameters, as JSON.
        full: the data, without its test split.
        resources: of a trial.
        together: trials in a pack; 0 = as many as train fastest.
        limit: of those.
    """
    from rungwise.trainable.config import parse_config
    from rungwise.trainable.data.dataset import Split
    from rungwise.trainable.data.tensors import Tensors
    from rungwise.trainable.packing.pack import fastest, scored_together, train_together, unpackable
    from rungwise.trainable.train import prepare_process, scores, train
    from rungwise.trainable.training.state import State

    device = prepare_process(resources.threads, resources.device)
    count = max(len(full.train) // SHARE, 1)
    part = replace(full, train=Split(full.train.x[:count], full.train.y[:count]))
    tensors = Tensors.of(part, device)
    together = together or fastest(tensors, limit)
    seconds, sizes = [], []
    for values in [configs[0], *configs]:  # the first one again: it warms the caches
        config = parse_config({**values, "epochs": 1, "reports_per_epoch": 1})
        alone = unpackable(config, tensors) is not None
        states = [State.fresh(config, tensors) for _ in range(1 if alone else together)]
        report = next(train(config, tensors, state=states[0])) if alone else train_together(states, tensors)[0]
        started = time.perf_counter()
        if alone:
            scores(states[0].model, tensors, config.precision)
        else:
            scored_together(states, tensors)
        validation = (time.perf_counter() - started) / len(states)
        training = max(report.seconds - validation, 0.0) * len(full.train) / count
        seconds.append(training + validation * int(values.get("reports_per_epoch", 1)))
        sizes.append(len(states[0].content()))
    return seconds[1:], sizes[1:]


def main() -> None:
    answer = os.dup(1)
    os.dup2(2, 1)
    job = json.load(sys.stdin)
    sys.path[:] = job.pop("path")
    with os.fdopen(answer, "w") as file:
        training = pickle.loads(base64.b64decode(job.pop("training")))
        resources = TrialResources(*job.pop("resources"))
        with ordinary(), refusing_exit():
            seconds, sizes = training.time_epochs(**job, resources=resources)
        json.dump({"seconds": seconds, "bytes": sizes}, file)


if __name__ == "__main__":
    main()
