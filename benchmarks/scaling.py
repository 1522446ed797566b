"""Speed-up of 1 to 500 workers against the ideal, in virtual time (`simulate.py`), and what limits it.

    python benchmarks/scaling.py [--seeds 40] [--workers 1 8 64]

Each column removes one limit, so that the difference between two columns is the cost of that limit:

    as it is    TPE, the concurrency rule, and what the driver's work costs
    random      random suggestions, which do not depend on results in flight
    no driver   random suggestions and a driver of no cost: only the time of a trial is left

These are the median seconds until a report reached the accuracy that one in a hundred random configurations reaches,
in a sweep long enough (2,000 trials) for 500 to be in flight. Beside them: trial-epochs a second of 500 random trials
run to the end, all workers busy from the start, against so many times those of one worker. There, what bends is the
driver and the last trials, for which all others wait.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import tyro
from simulate import TARGETS, Setting, Simulation, median, surrogate

from rungwise.trainable import granted_resources as granted

LONG, SHORT = 2_000, 500  # trials: of a sweep that ends at the target, and of one that is run to its end
AS_IT_IS = Setting(trials=LONG)
RANDOM = replace(AS_IT_IS, sampler="random")
BRAKES = {
    "as it is": AS_IT_IS,
    "random": RANDOM,
    "no driver": replace(RANDOM, trial_seconds=0.0, report_seconds=0.0),
}


@dataclass(frozen=True)
class Options:
    seeds: int = 40
    """Simulated sweeps for every number of workers and column; throughput takes a quarter of them."""
    workers: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 125, 250, 500)
    """The first one is what the others are compared with."""
    processes: int = int(granted.cpus())


def to_target(setting: Setting, seed: int) -> float:
    """Seconds until the first report at the 99th percentile of random configurations."""
    target = TARGETS["p99"]()
    return Simulation(setting, seed, surrogate()).run(target).seconds_to(target)


def throughput(setting: Setting, seed: int) -> float:
    """Trial-epochs a second from the first deal to the last end."""
    run = Simulation(setting, seed, surrogate()).run()
    return sum(trial.step for trial in run.trials) / setting.reports / run.seconds


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    print(f"| workers | {' | '.join(BRAKES)} | times faster, as it is | trial-epochs/s | of ideal |")
    print("|---|" + "---|" * (len(BRAKES) + 3))
    medians: dict[str, list[float]] = {name: [] for name in BRAKES}
    speeds: list[float] = []
    with ProcessPoolExecutor(options.processes) as pool:
        for workers in options.workers:
            times = {
                name: [pool.submit(to_target, replace(setting, workers=workers), seed) for seed in range(options.seeds)]
                for name, setting in BRAKES.items()
            }
            whole = replace(RANDOM, trials=SHORT, share=1, workers=workers)
            rates = [pool.submit(throughput, whole, seed) for seed in range(max(1, options.seeds // 4))]
            cells = []
            for name, jobs in times.items():
                found = [job.result() for job in jobs]
                medians[name].append(median(found))
                cells.append(f"{median(found):.1f} ({median(found, 0.1):.1f}-{median(found, 0.9):.1f})")
            speeds.append(median([job.result() for job in rates]))
            faster = medians["as it is"][0] / medians["as it is"][-1]
            cells += [
                f"{faster:.1f}",
                f"{speeds[-1]:.1f}",
                f"{speeds[-1] * options.workers[0] / (workers * speeds[0]):.0%}",
            ]
            print(f"| {workers} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
