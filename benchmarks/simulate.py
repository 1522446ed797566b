"""A sweep in virtual time: our search and our rungs on measured learning curves, hundreds of sweeps a minute.

    python benchmarks/simulate.py --eta 3 2 4 --startup 10 5         # five settings: a baseline, and one change each
    python benchmarks/simulate.py --eta 3 2 --workers 2 8 --combine  # four: every combination
    python benchmarks/simulate.py --aa 200 --pairs 40                # sweeps of two identical arms: who errs?
    python benchmarks/scaling.py                                     # 1 to 500 workers against the ideal line

What is real: the study (`engine.search.arm_study.ArmStudy`: Optuna's sampler, seeded as in a sweep), the rungs
(`engine.schedulers.per_arm.Rungs`: Ray's ASHA), and how many trials are in flight and staged (`ConcurrencyPolicy`).
What is not: a trial is a curve drawn from `curves/surrogate.py`, a worker is a number, and the driver is a server that
handles one thing at a time, at `--trial-seconds` a trial and `--report-seconds` a report.

Times are seconds of the machine that measured the curves, from the first suggestion on; Ray's start and the
confirmation are not in them. "Time to X" is when the first report reached X. "found" is the accuracy, on average
over seeds, of the configuration it ends with (its best among those trained longest).
"""

from __future__ import annotations

import heapq
import itertools
import math
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from curves.measure import SWEEP
from curves.surrogate import Curve, Measured, Surrogate
from ray.tune.schedulers import TrialScheduler

from rungwise.engine.execution.concurrency import MIN_TRIALS_PER_SLOT, ConcurrencyPolicy
from rungwise.engine.experiment.experiment import resolve
from rungwise.engine.experiment.flags import default_options
from rungwise.engine.experiment.sweep import Sweep
from rungwise.engine.schedulers.base import RungSchedule
from rungwise.engine.schedulers.per_arm import Rungs
from rungwise.engine.search.arm_study import ArmStudy, initial_sampler, sampler_factory
from rungwise.engine.search.samplers import STARTUP_TRIALS
from rungwise.engine.search.seeds import derived_seed
from rungwise.results.record.types import Decision, State
from rungwise.trainable import granted_resources as granted
from rungwise.trainable.messages import StudyKey, TrialEnd, TrialResult

STUDY = StudyKey("all")
FINEST = SWEEP.reports_per_epoch  # reports an epoch that were measured


@dataclass(frozen=True)
class Setting:
    """One way to search. The names are the command line's."""

    sampler: str = "tpe"
    scheduler: str = "asha"
    eta: float = Sweep.eta
    grace: float = Sweep.grace
    reports: int = Sweep.reports_per_epoch
    workers: int = 2
    trials: int = 64
    share: int = MIN_TRIALS_PER_SLOT
    stopped: Literal["pruned", "complete"] = "pruned"
    first: Literal["plain", "random"] = "plain"
    startup: int = STARTUP_TRIALS
    multivariate: bool = True
    group: bool = False
    liar: bool = True
    trial_seconds: float = 0.015
    report_seconds: float = 0.001

    def __post_init__(self) -> None:
        if FINEST % self.reports:
            raise ValueError(f"reports must divide {FINEST}, as often as was measured, but got {self.reports}")

    def sweep(self) -> Sweep:
        return replace(SWEEP, reports_per_epoch=self.reports, eta=self.eta, grace=self.grace, trials=self.trials)

    def ladder(self) -> RungSchedule:
        grace = None if self.scheduler == "none" else max(1, round(self.grace * self.reports))
        return RungSchedule(SWEEP.epochs * self.reports, grace, self.eta, self.reports, self.scheduler)

    def flight(self) -> ConcurrencyPolicy:
        concurrency = 0 if self.share == MIN_TRIALS_PER_SLOT else max(2, self.trials // self.share)
        return ConcurrencyPolicy(self.workers, self.trials, concurrency)

    def study(self, seed: int) -> ArmStudy:
        names = {
            "n_startup_trials": "startup",
            "multivariate": "multivariate",
            "group": "group",
            "constant_liar": "liar",
        }
        tpe = {name: getattr(self, ours) for name, ours in names.items()}
        sampler_options = tpe if self.sampler == "tpe" else {}
        sweep = replace(self.sweep(), sampler=self.sampler, sampler_options=sampler_options)
        experiment = resolve(sweep, replace(default_options(sweep), seed=seed))
        kind = ArmStudy if self.stopped == "pruned" else ToldComplete
        first = initial_sampler(experiment) if self.first == "plain" else None
        return kind(experiment, STUDY, sampler_factory(experiment, STUDY), first)


class ToldComplete(ArmStudy):
    """As Ray's own OptunaSearch: a trial that ASHA stopped is told COMPLETE with its last value."""

    def complete(self, trial_id: str, result: TrialResult | None) -> None:
        if result is not None and not result.ended:
            result = replace(result, state=TrialEnd.COMPLETED)
        super().complete(trial_id, result)


@dataclass
class Trial:
    """One trial of a simulated sweep, and what came of it."""

    number: int  # from 1
    params: dict[str, Any]
    curve: Curve
    step: int = 0  # reports sent
    values: list[float] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    state: State = State.RUNNING


@dataclass
class Run:
    """One simulated sweep."""

    trials: list[Trial]
    best: list[tuple[float, float]]  # (seconds, accuracy) whenever a report was the best so far
    seconds: float  # until the last trial ended

    def seconds_to(self, target: float) -> float:
        return next((seconds for seconds, accuracy in self.best if accuracy >= target), math.inf)

    def found(self) -> float:
        """Mean accuracy of the configuration that a sweep would present: best of those trained longest."""
        return max(self.trials, key=lambda trial: (trial.step, trial.values[-1])).curve.truth


class Simulation:
    """One sweep of `setting`. Trials draw their luck from the sweep's seed and their number: the same configuration
    in the same place of two settings has the same curve."""

    def __init__(self, setting: Setting, seed: int, surrogate: Surrogate) -> None:
        self._setting, self._seed, self._surrogate = setting, seed, surrogate
        self._study, self._rungs = setting.study(seed), Rungs([STUDY], setting.ladder(), "max")
        self._flight = setting.flight()
        self._stride = FINEST // setting.reports
        self._driver = 0.0  # busy until then
        self._arrivals: list[tuple[float, int, Trial]] = []  # reports on their way: (seconds, trial number, trial)

    def run(self, target: float = math.inf) -> Run:
        """Until all trials ended, or a report reached `target`."""
        run, staged = Run([], [], 0.0), list[Trial]()
        for _ in range(min(self._flight.limit(), self._setting.trials)):
            self._deal(run, staged)
        for _ in range(self._flight.running):
            self._start(staged, last=False)
        while self._arrivals:
            arrived, _, trial = heapq.heappop(self._arrivals)
            self._driver = max(self._driver, arrived) + self._setting.report_seconds
            value = self._report(trial)
            if not run.best or value > run.best[-1][1]:
                run.best.append((arrived, value))
            if value >= target:
                break
            if trial.state is State.RUNNING:
                self._send(trial, self._driver)
            else:
                if len(run.trials) < self._setting.trials:
                    self._deal(run, staged)
                self._start(staged, last=True)
        run.seconds = self._driver
        return run

    def _deal(self, run: Run, staged: list[Trial]) -> None:
        number = len(run.trials) + 1
        params = self._study.ask(str(number), number).params
        trial = Trial(number, params, self._surrogate.draw(params, derived_seed(self._seed, "luck", number)))
        run.trials.append(trial)
        staged.append(trial)

    def _start(self, staged: list[Trial], *, last: bool) -> None:
        """A free worker takes the first staged trial, or later, as Tune does (`ConcurrencyPolicy`), the last."""
        if staged:
            self._driver += self._setting.trial_seconds
            self._send(staged.pop(-1 if last else 0), self._driver)

    def _send(self, trial: Trial, now: float) -> None:
        seconds = self._stride * trial.curve.training_seconds + trial.curve.validation_seconds
        heapq.heappush(self._arrivals, (now + seconds, trial.number, trial))

    def _report(self, trial: Trial) -> float:
        """Rungs first, then the study, as Tune does."""
        trial.step += 1
        value = float(trial.curve.accuracy[trial.step * self._stride - 1])
        trial.values.append(value)
        result = TrialResult(trial.number, step=trial.step, objective=value)
        if trial.step == self._rungs.schedule.budget:
            trial.state = State.COMPLETED
            result = replace(result, state=TrialEnd.COMPLETED)
        elif self._rungs.judge(STUDY, trial.number, trial.step, value) == TrialScheduler.STOP:
            trial.state = State.STOPPED
        if decision := self._rungs.take_decision(trial.number):
            trial.decisions.append(decision)
        if trial.state is State.RUNNING:
            self._study.report(str(trial.number), result)
        else:
            self._study.complete(str(trial.number), result)
        return value


@cache
def surrogate() -> Surrogate:
    return Surrogate(measured())


@cache
def measured() -> Measured:
    return Measured.load()


@dataclass(frozen=True)
class Options:
    """What is compared. The first value of each makes the baseline; every other value is one change to it."""

    sampler: tuple[str, ...] = (Setting.sampler,)
    """tpe, random, or another one of `engine.search.samplers` that takes categories and stopped trials."""
    scheduler: tuple[str, ...] = (Setting.scheduler,)
    """asha, none, or another one of `engine.schedulers.registry`."""
    eta: tuple[float, ...] = (Setting.eta,)
    grace: tuple[float, ...] = (Setting.grace,)
    """Epochs before the first rung; 0.5 needs an even number of reports an epoch."""
    reports: tuple[int, ...] = (Setting.reports,)
    """Reports an epoch: 1, 2, 3 or 6."""
    workers: tuple[int, ...] = (Setting.workers,)
    trials: tuple[int, ...] = (Setting.trials,)
    share: tuple[int, ...] = (Setting.share,)
    """Concurrency rule: at most trials/share in flight; 1 = as many as there are workers."""
    stopped: tuple[Literal["pruned", "complete"], ...] = (Setting.stopped,)
    """What the study is told of a trial that ASHA stopped."""
    first: tuple[Literal["plain", "random"], ...] = (Setting.first,)
    """TPE: the first suggestion."""
    startup: tuple[int, ...] = (Setting.startup,)
    """TPE: random suggestions first."""
    multivariate: tuple[bool, ...] = (Setting.multivariate,)
    """TPE: one density over all hyperparameters, instead of one each."""
    group: tuple[bool, ...] = (Setting.group,)
    """TPE: densities of the groups of a conditional space."""
    liar: tuple[bool, ...] = (Setting.liar,)
    """TPE: count trials in flight as bad."""
    trial_seconds: tuple[float, ...] = (Setting.trial_seconds,)
    """The driver's work for a trial."""
    report_seconds: tuple[float, ...] = (Setting.report_seconds,)
    """The driver's work for a report."""
    combine: bool = False
    """Every combination of the values instead."""
    aa: int = 0
    """Instead: so many sweeps of two identical arms, and as many with a planted gain (`identical_arms.py`)."""
    pairs: int = 0
    """Instead: so many pairs of sweeps that differ by their seed, without a difference and with one."""
    searches: int = 5
    """Of each arm, with --aa and --pairs, whose `trials` are the main job's by default."""
    confirm_seeds: int = 2
    """Of each search's winner, with --aa and --pairs."""
    until_sure: int = 0
    """Add searches until the answer is sure, up to so many of each arm, with --aa and --pairs; 0: none."""
    worth: float = 0.09
    """Points that are worth having, with --aa and --pairs."""
    gain: float = 0.2
    """Points that are planted in one of the arms, with --aa and --pairs."""
    seeds: int = 200
    processes: int = int(granted.cpus())
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Parquet file with a row for every simulated sweep."""

    def settings(self) -> list[Setting]:
        values = {name: getattr(self, name) for name in Setting.__dataclass_fields__}
        if self.combine:
            every = itertools.product(*values.values())
            return [Setting(**dict(zip(values, some, strict=True))) for some in every]
        baseline = Setting(**{name: some[0] for name, some in values.items()})
        changes = [(name, value) for name, some in values.items() for value in some[1:]]
        return [baseline, *(replace(baseline, **{name: value}) for name, value in changes)]


TARGETS = {"97.5 %": lambda: 0.975, "p99": lambda: measured().percentile(0.99)}


def sweeps(setting: Setting, seeds: range) -> list[dict[str, Any]]:
    """A row for each seed: what came of the simulated sweep."""
    rows = []
    for seed in seeds:
        run = Simulation(setting, seed, surrogate()).run()
        reports = sum(trial.step for trial in run.trials)
        rows.append(
            {f"seconds to {name}": run.seconds_to(target()) for name, target in TARGETS.items()}
            | {"best": run.best[-1][1], "found": run.found()}
            | {"epochs": reports / setting.reports, "seconds": run.seconds, "seed": seed}
        )
    return rows


def simulate(settings: list[Setting], seeds: int, processes: int) -> Iterator[tuple[Setting, list[dict[str, Any]]]]:
    """Each setting's rows, as soon as they are there. Parts are small, so that all processes end together."""
    part = max(1, math.ceil(seeds / max(processes, 4)))
    with ProcessPoolExecutor(processes) as pool:
        jobs = [
            [pool.submit(sweeps, setting, range(first, min(first + part, seeds))) for first in range(0, seeds, part)]
            for setting in settings
        ]
        for setting, parts in zip(settings, jobs, strict=True):
            yield setting, [row for job in parts for row in job.result()]


def median(values: list[float], share: float = 0.5) -> float:
    """The value at `share`; some may be infinite."""
    return float(np.quantile(values, share, method="nearest"))


def ratio(rows: list[float], baseline: list[float], draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the ratio of medians, where both are finite: below 1 is faster than the baseline.

    Seeds are drawn in pairs, because the same seed begins with the same suggestions in both.
    """
    drawn = np.random.default_rng(0).integers(len(rows), size=(draws, len(rows)))
    above, below = (np.quantile(np.array(some)[drawn], 0.5, axis=1, method="nearest") for some in (rows, baseline))
    both = np.isfinite(above) & np.isfinite(below)  # a drawn half may never have reached the target
    low, high = np.quantile(above[both] / below[both], (0.025, 0.975), method="nearest")
    return float(low), float(high)


def gain(rows: list[float], baseline: list[float]) -> tuple[float, float]:
    """95 % interval of the mean difference, seed by seed."""
    difference = np.array(rows) - np.array(baseline)
    width = 1.96 * difference.std(ddof=1) / math.sqrt(len(difference))
    return float(difference.mean() - width), float(difference.mean() + width)


def seconds(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "never"


def line(rows: list[dict[str, Any]], baseline: list[dict[str, Any]]) -> str:
    """One setting's row of the table; against the baseline unless it is the baseline."""
    cells = []
    for name in TARGETS:
        times, before = ([row[f"seconds to {name}"] for row in some] for some in (rows, baseline))
        low, high = median(times, 0.1), median(times, 0.9)
        known = rows is not baseline and math.isfinite(median(times) + median(before))
        versus = " x{:.2f}-{:.2f}".format(*ratio(times, before)) if known else ""
        cells.append(f"{seconds(median(times))} ({seconds(low)}-{seconds(high)}){versus}")
    found, before = ([100 * row["found"] for row in some] for some in (rows, baseline))
    versus = "" if rows is baseline else " {:+.3f} to {:+.3f}".format(*gain(found, before))
    cells.append(f"{np.mean(found):.3f}{versus}")
    cells += [f"{median([row[name] for row in rows]):.{digits}f}" for name, digits in (("epochs", 0), ("seconds", 0))]
    return " | ".join(cells)


def main() -> None:
    options = tyro.cli(Options, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    if options.aa or options.pairs:
        import identical_arms

        trials = None if options.trials == (Setting.trials,) else options.trials[0]
        effort = identical_arms.Effort(
            options.searches, trials, options.confirm_seeds, options.until_sure, options.worth / 100
        )
        sys.exit(identical_arms.compare(options.aa, options.pairs, options.processes, effort, options.gain / 100))
    settings = options.settings()
    started = time.monotonic()
    titles = ["setting", *(f"s to {name}, median (10-90 %)" for name in TARGETS), "found, %", "epochs", "s in all"]
    print("| " + " | ".join(titles) + " |\n|" + "---|" * len(titles))
    table, baseline = [], None
    for setting, rows in simulate(settings, options.seeds, options.processes):
        baseline = baseline or rows
        differs = [
            f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in vars(setting).items()
            if value != getattr(settings[0], name)
        ]
        print(f"| {' '.join(differs) or 'baseline'} | {line(rows, baseline)} |", flush=True)
        table += [{name: getattr(setting, name) for name in Setting.__dataclass_fields__} | row for row in rows]
    rate = 60 * len(table) / (time.monotonic() - started)
    print(f"\nn={options.seeds} seeds each; {rate:.0f} sweeps a minute", file=sys.stderr)
    if options.out:
        import pyarrow as pa

        from rungwise.files import replacing
        from rungwise.results.tables.parquet import content

        with replacing(options.out) as file:
            file.write(content(pa.Table.from_pylist(table)))


if __name__ == "__main__":
    main()
