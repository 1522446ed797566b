"""A sweep from its command line to its summary, in this order: check, start, search, confirm, report."""

from __future__ import annotations

import gc
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rungwise.engine.cluster.local_ray import Ray
from rungwise.engine.define_run import define_run
from rungwise.engine.errors import CannotRun, refuse
from rungwise.engine.execution.concurrency import ConcurrencyPolicy
from rungwise.engine.execution.process_state import undisturbed
from rungwise.engine.execution.session import Session
from rungwise.engine.execution.signals import Interrupted, Signals
from rungwise.engine.experiment.command_line import parse
from rungwise.engine.experiment.experiment import Experiment, resolve
from rungwise.engine.experiment.flags import Options, named_options
from rungwise.engine.experiment.sweep import Sweep
from rungwise.engine.one_trial import load_data, train_one
from rungwise.engine.validation import fields
from rungwise.engine.worth import add_search, with_added_searches
from rungwise.results.io.command_line import CommandLineError
from rungwise.results.io.paths import run_name_problem, working_folder_problems
from rungwise.results.io.redaction import redacted_uri, remember
from rungwise.results.io.text import drop_unread_output, print_anything, say, say_prose
from rungwise.results.record.reader import Reader
from rungwise.results.record.stop_requests import StopRequests
from rungwise.results.record.types import RecordError, SweepState
from rungwise.results.record.writer import Record
from rungwise.trainable.import_path import ModelError
from rungwise.trainable.protocol import SweepData, Training

if TYPE_CHECKING:
    from rungwise.engine.execution.ray_watch import Watch
    from rungwise.engine.execution.stopping import Stop
    from rungwise.results.exporters.live import Follower
    from rungwise.results.run import Run


def main(sweep: Sweep, arguments: list[str] | None = None) -> None:
    """Run `sweep` with the flags of the command line, and exit.

    At a Python prompt and in a notebook no flags are read, and a sweep that succeeded returns.

    Args:
        sweep: The question.
        arguments: Flags in place of those of the command line.

    Raises:
        SystemExit: The exit code. 0: done. 1: the sweep could not finish. 2: bad input, before Ray starts. 130: Ctrl-C.
            143: SIGTERM. 129: its terminal was closed. 131: SIGQUIT.
    """
    print_anything()
    prompt = hasattr(sys, "ps1") and not hasattr(sys.modules["__main__"], "__file__")
    with Signals() as signals, undisturbed():
        try:
            code = _run(sweep, [] if prompt and arguments is None else arguments, signals)
        except Interrupted:
            code = 128 + (signals.caught or 0)
    sys.stdout.flush()
    if code or not prompt:
        sys.exit(code)


def run(sweep: Sweep, **options: Any) -> Run:
    """Run `sweep` from Python, and return the opened run.

        run(SWEEP, trials=8, out="runs").answer

    Args:
        sweep: The question.
        **options: Flags by name, with underscores: `trials=8`, `confirm=False`, `gpus_per_trial=1`. What is left out
            is what an empty command line means.

    Raises:
        RungwiseError: The sweep cannot start (`code` is 2, and nothing was begun) or could not finish (`code` is 1).
        KeyboardInterrupt: Ctrl-C. The record is complete, and the same call resumes.
        SystemExit: SIGTERM, SIGQUIT, or its terminal was closed.
    """
    from rungwise.results.run import open as open_run

    print_anything()
    with Signals() as signals, undisturbed():
        try:
            refuse([*working_folder_problems(), *fields.problems(sweep)])
            given = named_options(sweep, options)
            remember(given.tracking_uri, given.mirror)
            ended = _sweep(sweep, given, signals)
        except Interrupted:
            ended = None
    if signals.caught == signal.SIGINT:
        raise KeyboardInterrupt
    if signals.caught is not None or ended is None:
        raise SystemExit(128 + (signals.caught or 0))
    if ended.code:
        raise CannotRun("the sweep could not finish; its record says why, and the same call resumes", ended.code)
    return open_run(ended.folder)


class _Ended(NamedTuple):
    """How a driver's work ended."""

    code: int  # exit code
    folder: Path  # of the run


def _run(sweep: Sweep, arguments: list[str] | None, signals: Signals) -> int:
    try:
        refuse([*working_folder_problems(), *fields.problems(sweep)])
        options = parse(sweep, arguments)
        remember(options.tracking_uri, options.mirror)
        if options.one is not None:
            return train_one(resolve(sweep, options), options)
        return _sweep(sweep, options, signals).code
    except (CannotRun, CommandLineError, ModelError, RecordError) as problem:
        say_prose(f"error: {problem}")
        return problem.code
    except OSError as problem:  # a full disk: the message names the file
        if isinstance(problem, BrokenPipeError) and drop_unread_output():
            return 0
        say_prose(f"error: {problem}")
        return 1 if signals.caught is None else 128 + signals.caught  # a summary for a terminal that is gone


def _sweep(sweep: Sweep, options: Options, signals: Signals) -> _Ended:
    from rungwise.engine.execution.run_lock import Locked, locked
    from rungwise.engine.validation import check, hints

    started = time.monotonic()
    gc.disable()  # until trials run: imports leave no garbage, and looking for it takes a fifth of their time
    given = options
    if options.fresh and not run_name_problem(options.name):
        options = replace(options, name=_free_name(options))
    experiment = resolve(sweep, options)
    hints.print_wait(options, "checking the sweep and loading its data")
    refuse(check.problems(experiment, options))
    try:
        with locked(options.folder):
            hints.print_notes(options, hints.idle_flags(sweep, options))
            code = _plan(experiment, options) if options.plan else _locked_sweep(experiment, options, signals, started)
            return _Ended(code, options.folder)
    except Locked as problem:
        if options.fresh:  # another driver took that name in the same instant
            return _sweep(sweep, given, signals)
        raise CannotRun(str(problem), code=2) from None


def _plan(experiment: Experiment, options: Options) -> int:
    """Forecast; the record keeps it, so that the report can compare it with what the same command then costs."""
    from rungwise.engine.forecast import forecast
    from rungwise.engine.validation import hints
    from rungwise.engine.validation.data import unsuited
    from rungwise.results.analysis.epochs import trials_text

    data = load_data(experiment)
    refuse(unsuited(experiment, data))
    with Record(options.folder) as record:
        define_run(record, experiment.with_data(data), options, data)  # tries the user's own models
        hints.print_notes(options, [*hints.gpu_notes(experiment, options, data), *_export_notes(experiment, data)])
        expected = forecast(experiment, options, _cluster_slots(options))
        record.set_meta("forecast", expected.asdict())
    say(f"trials  {trials_text(experiment)}\n{expected.lines()}")
    return 0


def _cluster_slots(options: Options) -> int | None:
    """Trials for which the cluster at --address has room; None without one. Raises CannotRun without an answer."""
    if options.address is None:
        return None
    from rungwise.engine.cluster.attach import Unusable
    from rungwise.engine.cluster.nodes import Machines

    ray = Ray(options.address)
    try:
        ray.start(0, 0)
        return Machines(options.resources).slots()
    except Unusable as problem:
        raise CannotRun(str(problem), code=2) from None
    finally:
        ray.stop()


def _export_notes(experiment: Experiment, data: SweepData) -> list[str]:
    return experiment.trained_by.export_notes([experiment.given(arm) for arm in experiment.arms], data)


def _free_name(options: Options) -> str:
    names = (f"{options.name}-{number}" for number in count(2))
    taken = options.folder.exists()
    return next(name for name in names if not (options.out / name).exists()) if taken else options.name


def _locked_sweep(experiment: Experiment, options: Options, signals: Signals, started: float) -> int:
    from rungwise.engine.search import samplers
    from rungwise.engine.validation import hints
    from rungwise.engine.validation.data import unsuited

    folder = options.folder
    concurrency = ConcurrencyPolicy.of(experiment, options)
    with ExitStack() as stack:
        if options.mirror:
            _fetch(options.mirror, folder)
        record = stack.enter_context(Record(folder))  # a damaged one is refused before Ray starts
        data = load_data(experiment)
        refuse(unsuited(experiment, data))
        asked = with_added_searches(record, experiment.with_data(data))
        work = define_run(record, asked, options, data)
        if not work and (more := add_search(record, asked)):
            asked, work = more, True
        notes = [*data.notes, *hints.gpu_notes(asked, options, data), *hints.order_notes(asked, options)]
        notes += [*hints.untuned_notes(asked), *hints.failed_notes(folder)] if work else []
        notes += _export_notes(asked, data) if work and not options.quiet else []
        notes += [line for arm in asked.arms for line in samplers.notes(asked.sampler_of(arm), asked.space_of(arm))]
        hints.print_notes(options, notes)
        signals.defer()
        exported: dict[str, Any] = {}
        if not work and _finished(folder):
            return _renew_views(options)
        started_ray = _ray(options, concurrency, data, asked.trained_by, signals)
        with started_ray if work else nullcontext((None, None)) as (ray, watch):
            session = Session(asked, options, record, _stop(options, signals, started), concurrency)
            follower = _follow(options)
            stack.callback(lambda: exported.update(follower.finish(allowed=session.export_seconds)))
            summary = partial(_print_summary, options, exported, idle=not work)
            state = SweepState.FAILED
            try:
                if ray and watch:
                    watch.last = partial(_abandon, session, follower, exported, summary)
                    session.search(ray, data)
                    while session.score(data) and session.add_search():
                        session.search(ray, data)
                    session.keep(data)
                state = session.state()
            except CannotRun:
                if signals.caught is None:
                    raise
                state = SweepState.INTERRUPTED  # a signal to all processes of a job ends Ray's, too
            finally:
                session.end(state)
                hints.print_wait(options, "writing tables, MLflow runs and report")
                follower.ask(session.export_seconds())  # its last pass, while Ray stops
    summary()
    return session.exit_code()


def _stop(options: Options, signals: Signals, started: float) -> Stop:
    """What may end the sweep early. `started`: when the command was, in seconds of `time.monotonic`."""
    from rungwise.engine.execution.stopping import Stop

    requests = StopRequests(options.folder)
    requests.clear()  # those to a driver that is gone
    return Stop(signals, None if options.time_budget is None else started + 60 * options.time_budget, requests)


def _follow(options: Options) -> Follower:
    """Start the process that brings the tables and the loggers up to the record."""
    from rungwise.results.exporters.live import Follower
    from rungwise.results.exporters.loggers.settings import LogSettings

    folder = options.folder
    with Reader(folder) as reader:
        logging = LogSettings.of(reader)
    return Follower.start(folder, options.tracking_uri, options.mirror, logging)


def _finished(folder: Path) -> bool:
    with Reader(folder) as reader:
        return reader.state() is SweepState.FINISHED


def _renew_views(options: Options) -> int:
    """All that the command of a finished sweep does; it is no session, since nothing is trained."""
    from rungwise.engine.execution.session import EXPORT_SECONDS
    from rungwise.engine.validation import hints

    hints.print_wait(options, "writing tables, MLflow runs and report")
    exported = _follow(options).finish(EXPORT_SECONDS)
    _print_summary(options, exported, idle=True)
    return 0


def _print_summary(options: Options, exported: Mapping[str, Any], *, idle: bool) -> None:
    """`idle`: this command found nothing to do."""
    from rungwise.results.progress.summary import summarise

    folder = options.folder
    with Reader(folder) as reader:
        say(summarise(reader, folder, exported, idle=idle, uri=options.tracking_uri))


def _abandon(
    session: Session, follower: Follower, exported: dict[str, Any], summary: Callable[[], None], failure: str | None
) -> None:
    """What a driver does whose own thread hangs in a Ray that is dead."""
    session.abandon(failure)
    follower.ask(session.export_seconds())
    exported.update(follower.finish())
    summary()


def _fetch(mirror: str, folder: Path) -> None:
    """Begin with the run's copy when the folder holds none: the head that had it is gone."""
    from rungwise.results.exporters.mirror import MirrorError, fetch_if_absent

    try:
        if fetch_if_absent(mirror, folder):
            say(f"{folder} was not here: going on from its copy in {redacted_uri(mirror)}", sys.stderr)
    except MirrorError as problem:
        raise CannotRun(str(problem), code=2) from None


@contextmanager
def _ray(
    options: Options, concurrency: ConcurrencyPolicy, data: SweepData, training: Training, signals: Signals
) -> Iterator[tuple[Future[Ray], Watch]]:
    """Ray, starting in the background, and who watches it; ended at the end, whatever happens."""
    from rungwise.engine.execution.ray_watch import Watch

    ray = Ray(options.address)

    def start() -> Ray:
        each = options.resources
        ray.start(concurrency.running * each.cpus, concurrency.running * each.gpus, data.nbytes, training)
        return ray

    with Watch(ray, signals) as watch, ThreadPoolExecutor(1, "ray-start") as pool:
        future = pool.submit(start)
        try:
            if options.address is None:
                ray.launched.wait()  # what this process imports next would only keep Ray from starting its own
            yield future, watch
        finally:
            future.exception()  # wait: a Ray half started cannot be stopped
            ray.stop()
