"""How long an epoch of some configurations takes on this machine, from a few timed steps of each, and how large a
trial's state then is.

Run as a process of its own, one for each trial in flight, so that probes share the machine as trials will:

    python -m rungwise.trainable.worker.timing < '{"path": [...], "data": ["mnist", null], "resources": [1, 0],
    "configs": [{...}]}'

prints {"seconds": [...], "bytes": [...]}, one number a configuration: training on the whole split, validation included,
and what is kept of a trial. With `"together": N` (0: as many as train fastest, up to `"limit"`) the time is a trial's
share of so many trained as one.
`"path"` is where modules are looked for: a model lies in one beside the user's script, and imports others. What it
prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from typing import Any

from rungwise.trainable.faults import ordinary
from rungwise.trainable.resources import TrialResources

SHARE = 8  # a probe trains on one eighth of the training split


@ordinary()
def probe(
    configs: list[dict[str, Any]],
    data: tuple[str, str | None],
    resources: tuple[float, float],
    together: int = 1,
    limit: int = 1,
) -> tuple[list[float], list[int]]:
    """Seconds an epoch of each config, and bytes of its final state. `data`: name and root; `resources`: CPU cores and
    GPUs."""
    from rungwise.trainable.config import parse_config
    from rungwise.trainable.data.dataset import Split, load
    from rungwise.trainable.data.tensors import Tensors
    from rungwise.trainable.packing.pack import fastest, scored_together, train_together, unpackable
    from rungwise.trainable.train import prepare_process, scores, train
    from rungwise.trainable.training.state import State

    takes = TrialResources(*resources)
    device = prepare_process(takes.threads, takes.device)
    whole = load(*data).without_test()
    few = max(len(whole.train) // SHARE, 1)
    part = replace(whole, train=Split(whole.train.x[:few], whole.train.y[:few]))
    tensors = Tensors.of(part, device)
    together = together or fastest(tensors, limit)
    seconds, kept = [], []
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
        training = max(report.seconds - validation, 0.0) * len(whole.train) / few
        seconds.append(training + validation * int(values.get("reports_per_epoch", 1)))
        kept.append(len(states[0].content()))
    return seconds[1:], kept[1:]


def main() -> None:
    answer = os.dup(1)
    os.dup2(2, 1)
    job = json.load(sys.stdin)
    sys.path[:] = job.pop("path")
    with os.fdopen(answer, "w") as file:
        seconds, kept = probe(**job)
        json.dump({"seconds": seconds, "bytes": kept}, file)


if __name__ == "__main__":
    main()
