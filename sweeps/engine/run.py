"""A sweep from its command line to its summary. Read top to bottom: check, start, search, say what came out."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import count
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from results.record import FILE, Reader, Record, ReportRow, SweepState
from sweeps.engine.cluster import Ray, Resources, local_resources
from sweeps.engine.options import Options, parse
from sweeps.engine.signals import Signals
from sweeps.engine.sweep import Sweep
from trainable.checkpoints import FOLDER, Checkpoints

if TYPE_CHECKING:
    from sweeps.engine.stop import Stop
    from trainable.data import Dataset


EXPORT_SECONDS = 60.0  # for the last pass of the exporters
EXPORT_SECONDS_INTERRUPTED = 5.0  # the same, when a user waits for the prompt; `results export` completes it


class CannotRun(RuntimeError):
    """The sweep cannot start or go on; the message is for the user. `code` is the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def main(sweep: Sweep, arguments: list[str] | None = None) -> NoReturn:
    """Run `sweep` as the command line (or `arguments`) asks, and exit.

    0: done. 1: the sweep could not finish. 2: bad input, before Ray starts. 130: Ctrl-C. 143: SIGTERM.
    """
    options = parse(sweep, arguments)
    try:
        code = _one(sweep, options) if options.one is not None else _sweep(sweep, options)
    except CannotRun as problem:
        print(f"error: {problem}", file=sys.stderr)
        code = problem.code
    sys.stdout.flush()
    sys.exit(code)


def _refuse(problems: list[str]) -> None:
    if problems:
        raise CannotRun("\nerror: ".join(problems), code=2)


def _one(sweep: Sweep, options: Options) -> int:
    """One trial in this process, without Ray: what a debugger session steps through."""
    from sweeps.engine import check
    from trainable.config import Config
    from trainable.data import Tensors, load
    from trainable.train import pick_device, set_threads, train

    _refuse(check.one_problems(sweep, options))
    values = {"seed": options.seed, **sweep.fixed, **json.loads(options.one or "{}")}
    values |= {"epochs": options.epochs, "reports_per_epoch": sweep.reports_per_epoch}
    set_threads(max(1, int(options.cpus_per_trial)))
    device = pick_device()
    data = Tensors.of(load(options.data, options.data_root).without_test(), device)
    for report in train(Config.model_validate(values), data, device):
        print("  ".join(f"{name} {value:.6g}" for name, value in report.asdict().items()))
    return 0


def _sweep(sweep: Sweep, options: Options) -> int:
    from sweeps.engine import check
    from sweeps.engine.lock import Locked, locked

    started = time.monotonic()
    if options.fresh:
        options = replace(options, name=_free_name(options))
    _refuse(check.problems(sweep, options))
    try:
        with locked(options.out / options.name):
            return _locked_sweep(sweep, options, started)
    except Locked as problem:
        raise CannotRun(str(problem), code=2) from None


def _free_name(options: Options) -> str:
    names = (f"{options.name}-{number}" for number in count(2))
    taken = (options.out / options.name).exists()
    return next(name for name in names if not (options.out / name).exists()) if taken else options.name


def _locked_sweep(sweep: Sweep, options: Options, started: float) -> int:
    folder = options.out / options.name
    flight = Flight(options)
    with ExitStack() as stack:
        signals = stack.enter_context(Signals())
        todo = _todo(folder, options)
        ray = stack.enter_context(_ray(options, flight)) if todo else None
        from results.follow import Follower  # while Ray's processes start
        from sweeps.engine.stop import Stop
        from trainable.data import load

        data = load(options.data, options.data_root)
        record = stack.enter_context(_open(folder, sweep, options, data))
        session = Session(sweep, options, record, Stop(signals, options.time_budget), flight)
        follower = Follower.start(folder, options.tracking_uri)
        exported: dict[str, Any] = {}
        stack.callback(lambda: exported.update(follower.finish(session.export_seconds())))
        state = SweepState.FAILED
        try:
            if ray:
                session.search(ray, data)
            state = session.state()
        finally:
            session.end(state)
    from sweeps.engine.summary import summarise

    with Reader(folder) as reader:
        print(summarise(reader, folder, exported, time.monotonic() - started, options.tracking_uri))
    return session.exit_code()


def _todo(folder: Path, options: Options) -> bool:
    """Whether any trial is to be trained: not when the record holds all that were asked for."""
    if not (folder / FILE).exists():
        return True
    with Reader(folder) as reader:
        trials = reader.trials("search")
    return len(trials) < options.trials or not all(trial.state.ended for trial in trials)


@contextmanager
def _ray(options: Options, flight: Flight) -> Iterator[Future[Ray]]:
    """Ray, starting in the background; ended at the end, whatever happens."""
    ray = Ray(options.address)

    def start() -> Ray:
        ray.start(flight.running * options.cpus_per_trial, flight.running * options.gpus_per_trial)
        return ray

    with ThreadPoolExecutor(1, "ray-start") as pool:
        future = pool.submit(start)
        try:
            yield future
        finally:
            future.exception()  # wait: a Ray half started cannot be stopped
            ray.stop()


def _open(folder: Path, sweep: Sweep, options: Options, data: Dataset) -> Record:
    """The run's record: new, or the one that this sweep left there."""
    from sweeps.engine.definition import definition, differences, widening_problems

    now = definition(sweep, options, data)
    record = Record(folder)
    with Reader(folder) as reader:
        before, trials = reader.meta("definition"), reader.trials("search")
    if before is None:
        record.set_meta("id", uuid.uuid4().hex)
    elif changed := differences(before, now):
        problems = widening_problems(sweep, before, trials) if options.widen else []
        if problems or not (options.widen and all(line.startswith("space") for line in changed)):
            record.close()
            raise CannotRun("\n  ".join([REFUSAL.format(name=options.name), *changed, *problems]), code=2)
        record.event("widened", changed=changed)
    if before is not None:
        now["trials"] = max(now["trials"], before["trials"])
    record.set_meta("definition", now)
    record.commit()
    return record


REFUSAL = (
    "--name {name!r} holds a run of another definition. Choose another --name, or --fresh; --widen goes on when the "
    "new space contains the old one. What changed:"
)


class Flight:
    """How many trials are in flight: as many as fit, few enough for the sampler to learn, and some more staged.

    TPE that sees too few results is random search: at most a quarter of the trials run at once (constant liar; about
    an eighth without). A staged trial lets Tune keep the process of one that ends instead of starting another
    (ray 2.60, tune_controller.py, `_maybe_cache_trial_actor`), and costs its suggestion one result of knowledge.
    """

    def __init__(self, options: Options) -> None:
        here = local_resources() if options.address is None else Resources(10**6, 10**6)
        fit = here.slots(options.cpus_per_trial, options.gpus_per_trial)
        self.running = min(fit, options.concurrency or max(2, options.trials // 4))

    def limit(self) -> int:
        """Trials dealt and not ended."""
        return self.running + ceil(self.running / 4)


class Session:
    """One driver's work on a run."""

    def __init__(self, sweep: Sweep, options: Options, record: Record, stop: Stop, flight: Flight) -> None:
        from sweeps.engine.definition import session_info

        self.sweep, self.options, self.record, self.stop, self.flight = sweep, options, record, stop, flight
        self.number = record.start_session(session_info())

    def end(self, state: SweepState) -> None:
        """Enter how it ended, and the checkpoints that processes took when they were told to stop."""
        with Reader(self.record.path.parent) as reader:
            trials = reader.trials()
        for trial in trials:
            store = Checkpoints(self.record.path.parent / FOLDER, trial.trial)
            if trial.state.ended:
                store.remove()
            else:
                for saved in store.saved():
                    self.record.add_checkpoint(trial.trial, saved.step, saved.sha256)
        self.record.end_session(self.number, state)

    def state(self) -> SweepState:
        if self.stop.failure:
            return SweepState.FAILED
        return SweepState.INTERRUPTED if self.stop.interrupted else SweepState.FINISHED

    def export_seconds(self) -> float:
        """How long the exporters' last pass may take."""
        return EXPORT_SECONDS if self.stop.signals.caught is None else EXPORT_SECONDS_INTERRUPTED

    def exit_code(self) -> int:
        if self.stop.signals.caught is not None:
            return 128 + self.stop.signals.caught
        return 1 if self.stop.failure else 0

    def search(self, ray: Future[Ray], data: Dataset) -> None:
        """Deal, train, judge and record until all trials ended or the sweep is told to stop."""

        from sweeps.engine.progress import Board, view
        from sweeps.engine.recorder import Recorder
        from sweeps.engine.rungs import Ladder, Rungs
        from sweeps.engine.search import Plan, Search

        sweep, options = self.sweep, self.options
        per_epoch = sweep.reports_per_epoch
        grace = max(1, round(options.grace * per_epoch)) if options.scheduler == "asha" else None
        rungs = Rungs(sweep.arms, Ladder(options.epochs * per_epoch, grace, options.eta, per_epoch), sweep.mode)
        plan = Plan(options.trials, options.epochs, options.seed, options.sampler)
        search = Search(sweep, plan, self.record, self.flight.limit)
        sign = 1 if sweep.mode == "max" else -1
        board = Board(options.trials, list(sweep.arms), rungs.ladder.rungs(), sign, sweep.metric)
        curves: dict[int, dict[int, ReportRow]] = {}
        with Reader(self.record.path.parent) as reader:
            if trials := reader.trials("search"):
                from results.study import studies

                curves = reader.curves()
                search.replay(trials, studies(reader), curves, reader.checkpoints())
                rungs.replay(trials, reader.reports(), sweep.metric)
                board.replay(trials, curves)
        with view(board, quiet=options.quiet) as shown:
            recorder = Recorder(self.record, rungs, shown, self.stop.ended)
            recorder.replay(curves)
            self._tune(ray.result(), data, search, rungs, recorder)
        if self.stop.failure:
            raise CannotRun(self.stop.failure)

    def _tune(self, ray: Ray, data: Dataset, search: Any, rungs: Any, recorder: Any) -> None:
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = "1000"  # the search bounds what is staged
        from ray import tune
        from ray.tune.error import TuneError

        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial's traceback is in the record

        from trainable.trial import Trial

        options = self.options
        resources = {"cpu": options.cpus_per_trial, "gpu": options.gpus_per_trial}
        trainable = tune.with_parameters(
            Trial,
            data=data.without_test(),
            objective=self.sweep.metric,
            threads=max(1, int(options.cpus_per_trial)),
            checkpoints=str((self.record.path.parent / FOLDER).absolute()),
            checkpoint_seconds=options.checkpoint_seconds,
        )
        tuner = tune.Tuner(
            tune.with_resources(trainable, resources),
            tune_config=tune.TuneConfig(
                metric="objective",
                mode=self.sweep.mode,
                search_alg=search,
                scheduler=rungs,
                num_samples=-1,  # the search says when it is finished
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=options.name,
                storage_path=ray.storage,
                verbose=0,
                stop=self.stop,
                callbacks=[recorder],
                failure_config=tune.FailureConfig(max_failures=options.retries),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        try:
            tuner.fit()
        except (TuneError, sqlite3.Error, OSError) as error:
            raise CannotRun(_cause(error)) from error


def _cause(error: BaseException) -> str:
    """The innermost cause of what Tune wraps: the line that helps."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return f"{type(error).__name__}: {error}"
