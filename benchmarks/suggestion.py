"""How long an objective waits for one suggestion: worker to driver, into the record, and back.

    python benchmarks/suggestion.py

Four trials of 100 suggestions, one after the other, by the random sampler. Prints the median and quantiles, in ms.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from rungwise import Sweep, run
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import ATTRIBUTES

SUGGESTIONS = 100  # of a trial


def objective(trial: Any) -> float:
    waited = []
    for index in range(SUGGESTIONS):
        began = time.perf_counter()
        trial.suggest_float(f"x{index}", 0.0, 1.0)
        waited.append((time.perf_counter() - began) * 1000)
    trial.set_user_attr("ms", waited)
    return sum(trial.params.values())


SWEEP = Sweep(
    name="suggestion",
    question="How long does a suggestion take?",
    objective=objective,
    mode="max",
    trials=4,
    sampler="random",
    scheduler="none",
)


def main() -> None:
    with tempfile.TemporaryDirectory() as out:
        run(SWEEP, out=Path(out), confirm=False, concurrency=1, quiet=True)
        with Reader(Path(out) / SWEEP.name) as reader:
            waited = [ms for _, kind, _, data in reader.events() if kind == ATTRIBUTES for ms in data["values"]["ms"]]
    quantiles = statistics.quantiles(waited, n=20)
    print(
        f"median {statistics.median(waited):.1f} ms a suggestion, 5% {quantiles[0]:.1f}, 95% {quantiles[-1]:.1f}, "
        f"n={len(waited)}"
    )


if __name__ == "__main__":
    main()
