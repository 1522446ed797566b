"""Whole sweeps of two arms with real trainings, whose truth is known: how often the answer errs.

    python benchmarks/real_arms.py digits --sweeps 60       # two identical arms: at most 7 of 60 may say otherwise
    python benchmarks/real_arms.py epochs --sweeps 20       # 2 epochs against 6: all 20 must say "hurts"
    python benchmarks/real_arms.py mnist_l2 --sweeps 102 --processes 3 --device cuda    # identical arms, on a GPU

Studies, rungs, the choice of winners and the answer are those of a sweep; the trainings are the project's own, in packs
(docs/internals/packed.md). Ray is not in it: each search has one trial in flight, and what is in flight in all sweeps
of a process trains together. digits and epochs: scikit-learn's digits, a network of 32 units, 4 searches. mnist_l2: the
main job's arm "L2" against itself, 5 searches; about 580 trial-epochs a sweep. It has not been run on a GPU: with the
300 trial-epochs a second of one H200 (docs/internals/packed.md) 102 sweeps would take 3 to 4 minutes. Two small
sweeps try the command on a CPU: `--sweeps 2 --processes 1 --trials 2 --epochs 1`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import Any, Literal

import numpy as np
import torch
import tyro
from calibrate import Search, SyntheticRecord
from curves.measure_l2 import main_job
from ray.tune.schedulers import TrialScheduler

from rungwise import Sweep
from rungwise.engine.experiment.experiment import Experiment, resolve
from rungwise.engine.experiment.flags import default_options
from rungwise.engine.schedulers.per_arm import Rungs, rung_schedule
from rungwise.engine.search.arm_study import ArmStudy, sampler_factory
from rungwise.engine.search.seeds import derived_seed
from rungwise.results.analysis.answer import answer
from rungwise.results.analysis.findings import Verdict
from rungwise.trainable import granted_resources as granted
from rungwise.trainable.config import Config
from rungwise.trainable.data.dataset import Dataset, load
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.messages import StudyKey, TrialEnd, TrialResult
from rungwise.trainable.packing.pack import groups, train_together
from rungwise.trainable.report import Report
from rungwise.trainable.train import outputs_of, prepare_process
from rungwise.trainable.training.state import State

Case = Literal["digits", "epochs", "mnist_l2"]
SEEDS = 2  # of each search's winner
WORTH = {"digits": 0.002, "epochs": 0.002, "mnist_l2": 0.0009}  # 5% of the control's error, to one digit
MOST_FALSE = 7 / 60  # of sweeps of identical arms: the upper limit of 5% that 60 sweeps allow


def sweep_of(case: Case, trials: int = 0, epochs: int = 0) -> Sweep:
    """The sweep; its arms are alike but for the epochs of the case `epochs`. 0: as many as the main job has."""
    sweep = main_job()
    sweep = replace(sweep, trials=trials or sweep.trials, epochs=epochs or sweep.epochs)
    if case == "mnist_l2":
        return replace(sweep, arms={"one": {}, "other": {}}, searches=5)
    arms: dict[str, Any] = {"6 epochs": {}, "2 epochs": {"epochs": 2}} if case == "epochs" else {"one": {}, "other": {}}
    return replace(sweep, data="digits", arms=arms, fixed={**sweep.fixed, "hidden": (32,)}, searches=4)


def run_search(
    experiment: Experiment, key: StudyKey, data: Tensors, test: tuple[torch.Tensor, torch.Tensor]
) -> Generator[State, Report, Search]:
    """One search: its trials one after the other, then its winner on fresh seeds. It yields what is to be trained to
    its next report, and takes that report."""
    study = ArmStudy(experiment, key, sampler_factory(experiment, key))
    rungs = Rungs([key], rung_schedule(experiment), "max")
    curves, configs = list[list[float]](), list[dict[str, Any]]()
    for place in range(1, experiment.trials + 1):
        name = str(place)
        configs.append({**study.ask(name, place).config, **experiment.arms[key.arm]})
        state = fresh(configs[-1], derived_seed(experiment.seed, "luck", *key, place), data)
        curve, going = list[float](), True
        while going:
            report = yield state
            curve.append(report.val_accuracy if report.finite and report.val_accuracy is not None else float("nan"))
            result = TrialResult(place, step=state.step, objective=curve[-1])
            if not report.finite:
                going, result = False, replace(result, state=TrialEnd.DIVERGED)
            elif state.step == state.config.reports:
                going, result = False, replace(result, state=TrialEnd.COMPLETED)
            else:
                going = rungs.judge(key, place, state.step, curve[-1]) != TrialScheduler.STOP
            if going:
                study.report(name, result)
            else:
                study.complete(name, result)
        curves.append(curve)
    winner = max(
        range(len(curves)), key=lambda index: (np.isfinite(curves[index][-1]), len(curves[index]), curves[index][-1])
    )
    models = []
    for each in range(SEEDS):
        state = fresh(configs[winner], derived_seed(experiment.seed, "confirm", *key, each), data)
        while state.step < state.config.reports:
            report = yield state
        models.append((report.val_accuracy or 0.0, right_of(state, data, *test)))
    return Search(models, curves, winner)


def fresh(config: dict[str, Any], seed: int, data: Tensors) -> State:
    return State.fresh(Config.model_validate({**config, "seed": seed}), data)


def right_of(state: State, data: Tensors, x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """Which test samples the model has right, (samples,)."""
    right: np.ndarray = (outputs_of(state.model, x, data.mean, data.std).argmax(1) == y).cpu().numpy()
    return right


@dataclass(frozen=True)
class Outcome:
    """What one sweep said, and the trial-epochs that it took."""

    verdict: Verdict
    difference: float
    half_width: float
    epochs: int


def run_sweeps(seeds: range, case: Case, sweep: Sweep, device: str = "cpu", pack: int = 8) -> list[Outcome]:
    """A sweep with each of these seeds, all at once, in this process."""
    torch_device = prepare_process(1, device)
    dataset: Dataset = load("mnist" if case == "mnist_l2" else "digits")
    data = Tensors.of(dataset, torch_device)
    test = (torch.from_numpy(dataset.test.x).to(torch_device), torch.from_numpy(dataset.test.y).to(torch_device))
    experiments = {seed: resolve(sweep, replace(default_options(sweep), seed=seed)) for seed in seeds}
    running = {
        (seed, key): run_search(experiment, key, data, test)
        for seed, experiment in experiments.items()
        for key in experiment.studies
    }
    states = {place: next(search) for place, search in running.items()}
    found: dict[tuple[int, StudyKey], Search] = {}
    while states:
        reports: dict[int, Report] = {}
        for group in groups(states.values(), data, pack):
            reports |= {id(state): report for state, report in zip(group, train_together(group, data), strict=True)}
        for place, state in list(states.items()):
            try:
                states[place] = running[place].send(reports[id(state)])
            except StopIteration as ended:
                found[place] = ended.value
                del states[place]
    return [
        _outcome(experiments[seed], {key: found[seed, key] for key in experiments[seed].studies}, case)
        for seed in seeds
    ]


def _outcome(experiment: Experiment, found: dict[StudyKey, Search], case: Case) -> Outcome:
    arms = {arm: [search for key, search in found.items() if key.arm == arm] for arm in experiment.arms}
    samples = len(next(iter(found.values())).models[0][1])
    record: Any = SyntheticRecord(samples, WORTH[case], arms)
    (comparison,) = answer(record).comparisons
    said = comparison.difference
    assert said is not None
    assert said.low is not None
    assert said.high is not None
    searched = sum(len(curve) for search in found.values() for curve in search.trials)
    confirmed = sum(SEEDS * max(map(len, search.trials)) for search in found.values())
    return Outcome(comparison.verdict, said.mean, (said.high - said.low) / 2, searched + confirmed)


@dataclass(frozen=True)
class Options:
    case: tyro.conf.Positional[Case]
    sweeps: int = 60
    first_seed: int = 0
    together: int = 0
    """Sweeps whose trials train together in a process; 0: all."""
    processes: int = int(granted.cpus())
    trials: int = 0
    """Of a search; 0: as many as the main job has. Fewer of them and of `epochs` try the command."""
    epochs: int = 0
    pack: int = 0
    """The most trials of a pack; 0: 512 on a GPU, 8 on a CPU."""
    device: str = "auto"


def measure(options: Options) -> int:
    """Run the sweeps and say how they ended; the exit code."""
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    pack = options.pack or (8 if device == "cpu" else 512)
    each = options.together or -(-options.sweeps // options.processes)
    last = options.first_seed + options.sweeps
    parts = [range(first, min(first + each, last)) for first in range(options.first_seed, last, each)]
    started = time.monotonic()
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        outcomes = []
        sweep = sweep_of(options.case, options.trials, options.epochs)
        for part in pool.map(partial(run_sweeps, case=options.case, sweep=sweep, device=device, pack=pack), parts):
            outcomes += part
            print(f"{len(outcomes)} of {options.sweeps} sweeps, {time.monotonic() - started:.0f} s", flush=True)
    verdicts = [one.verdict for one in outcomes]
    differences, widths = ([100 * value for value in some] for some in (
        [one.difference for one in outcomes], [one.half_width for one in outcomes]))  # fmt: skip
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in Verdict if verdict in verdicts)
    print(f"{options.case}: {len(outcomes)} sweeps with real trainings: {counts}")
    print(
        f"differences {np.mean(differences):+.3f} points on average "
        f"(standard deviation {np.std(differences, ddof=1):.3f}); "
        f"half widths of 95% intervals {np.median(widths):.3f} (median; {min(widths):.3f} to {max(widths):.3f})"
    )
    epochs, wall = sum(one.epochs for one in outcomes), time.monotonic() - started
    print(f"{epochs:,} trial-epochs in {wall:.0f} s on {device}, {options.processes} process(es)")
    if options.case == "epochs":
        return 0 if set(verdicts) == {Verdict.HURTS} else 1
    false = verdicts.count(Verdict.HELPS) + verdicts.count(Verdict.HURTS)
    print(f"in {len(outcomes)} sweeps of two identical arms the answer said otherwise {false} times")
    return 0 if false <= MOST_FALSE * len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(measure(tyro.cli(Options, description=__doc__)))
