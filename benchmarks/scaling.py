"""1 to 500 workers against the ideal line, in virtual time (`simulate.py`): where it bends, and why.

    python benchmarks/scaling.py [--seeds 40] [--figure docs/scaling.svg]

Each column takes one brake away, so that the step between two columns is what that brake costs:

    as it is    TPE, the concurrency rule, and the driver's work at what it was measured to cost
    no driver   the same, and the driver costs nothing
    random      no driver, and random suggestions: nothing to learn, so nothing to be late for

These are the median seconds until a report reached the accuracy that one in a hundred random configurations reaches,
in a sweep long enough (2,000 trials) for 500 to be in flight. Beside them: trial-epochs a second of 500 random trials
run to the end, all workers busy from the start, against so many times those of one worker. There, what bends is the
driver and the last trials, for which all others wait.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import tyro
from simulate import TARGETS, Setting, Simulation, median, surrogate

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 500)
LONG, SHORT = 2_000, 500  # trials: of a sweep that ends at the target, and of one that is run to its end
AS_IT_IS = Setting(trials=LONG)
BRAKES = {
    "as it is": AS_IT_IS,
    "no driver": replace(AS_IT_IS, trial_seconds=0.0, report_seconds=0.0),
    "random": replace(AS_IT_IS, trial_seconds=0.0, report_seconds=0.0, sampler="random"),
}


@dataclass(frozen=True)
class Options:
    seeds: int = 40
    """Simulated sweeps for every number of workers and column; throughput takes a quarter of them."""
    processes: int = os.cpu_count() or 1
    figure: Path | None = None
    """SVG file to draw."""


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
    whole = replace(AS_IT_IS, trials=SHORT, share=1, sampler="random")
    with ProcessPoolExecutor(options.processes) as pool:
        times = {
            (name, workers): [
                pool.submit(to_target, replace(setting, workers=workers), seed) for seed in range(options.seeds)
            ]
            for workers in WORKERS
            for name, setting in BRAKES.items()
        }
        rates = {
            workers: [
                pool.submit(throughput, replace(whole, workers=workers), seed) for seed in range(options.seeds // 4)
            ]
            for workers in WORKERS
        }
        print(f"| workers | {' | '.join(BRAKES)} | times faster, as it is | trial-epochs/s | of ideal |")
        print("|---|" + "---|" * (len(BRAKES) + 3))
        medians: dict[str, list[float]] = {name: [] for name in BRAKES}
        speeds: list[float] = []
        for workers in WORKERS:
            cells = []
            for name in BRAKES:
                found = [job.result() for job in times[name, workers]]
                medians[name].append(median(found))
                cells.append(f"{median(found):.1f} ({median(found, 0.1):.1f}-{median(found, 0.9):.1f})")
            speeds.append(median([job.result() for job in rates[workers]]))
            faster = medians["as it is"][0] / medians["as it is"][-1]
            cells += [f"{faster:.1f}", f"{speeds[-1]:.1f}", f"{speeds[-1] / (workers * speeds[0]):.0%}"]
            print(f"| {workers} | " + " | ".join(cells) + " |", flush=True)
    if options.figure:
        draw(options.figure, medians, speeds)


def draw(path: Path, medians: dict[str, list[float]], speeds: list[float]) -> None:
    """Both panels: how many times faster than one worker, against the number of workers; the ideal is dashed."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "rungwise", "font.size": 9}
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3.4), sharex=True, sharey=True)
    for name, values in medians.items():
        left.plot(WORKERS, [values[0] / value for value in values], marker="o", markersize=3, label=name)
    left.set_title("to the best 1 %")
    right.plot(WORKERS, [speed / speeds[0] for speed in speeds], marker="o", markersize=3, label="as it is")
    right.set_title("trial-epochs a second")
    for panel in (left, right):
        panel.plot(WORKERS, WORKERS, "--", color="grey", label="ideal")
        panel.set(xscale="log", yscale="log", xlabel="workers")
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    left.set_ylabel("times one worker")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": "benchmarks/scaling.py"})


if __name__ == "__main__":
    main()
