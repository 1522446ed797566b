"""One driver's work on a run: search, train the best again, score them once on the test split."""

from __future__ import annotations

import gc
import logging
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from rungwise.engine.cluster.attach import Unusable
from rungwise.engine.cluster.local_ray import Ray, local_resources
from rungwise.engine.experiment import own_models as models
from rungwise.engine.experiment.environment import session_info
from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.flags import Options
from rungwise.engine.search.samplers import SamplerError
from rungwise.errors import RungwiseError
from rungwise.results.io.text import say
from rungwise.results.record.record import Reader, Record, RecordError, State, SweepState, Trial
from rungwise.trainable.storage import Folder, absolute, below
from rungwise.trainable.worker.checkpoints import FOLDER, Checkpoints, owner

if TYPE_CHECKING:
    from rungwise.engine.cluster.nodes import Machines
    from rungwise.engine.execution.recorder import Recorder
    from rungwise.engine.execution.stopping import Stop
    from rungwise.engine.schedulers.base import RungSchedule
    from rungwise.engine.schedulers.per_arm import Rungs
    from rungwise.engine.search.dispatcher import Search
    from rungwise.engine.search.reruns import Repeat
    from rungwise.engine.terminal.progress import View
    from rungwise.trainable.data.dataset import Dataset

LANE_RETRIES = 10  # a lane outlives its trials, so it may die oftener than one of them
SHARE = 4  # of the trials, one in that many may be in flight
EXPORT_SECONDS = 60.0  # for the last pass of the exporters
EXPORT_SECONDS_INTERRUPTED = 5.0  # the same, when a user waits for the prompt; `results export` completes it


class CannotRun(RungwiseError, RuntimeError):
    """The sweep cannot start or go on; the message is for the user. `code` is the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class Flight:
    """How many trials are in flight: as many as fit, few enough for the sampler to learn, and some more staged.

    TPE that sees too few results is random search: at most a quarter of the trials run at once (constant liar; about
    an eighth without). A staged trial lets Tune keep the process of one that ends instead of starting another
    (ray 2.60, tune_controller.py, `_maybe_cache_trial_actor`). Tune gives a freed process to the newest trial, so the
    one that is staged first waits until the end, and all others are suggested when they are needed. One trial at a
    time needs none staged (Tune keeps one process in any case), so that trials end in the order of their numbers.
    """

    def __init__(self, fit: int, trials: int, concurrency: int = 0, *, packed: bool = False) -> None:
        """`fit`: how many there is room for; `concurrency`: how many the user asks for, 0 if it is ours to say.

        `packed`: of lanes that hold several trials each, as many as may be in flight, and none staged.
        """
        self._bound, self._packed = concurrency or max(2, trials // SHARE), packed
        self._fit: Callable[[], int] = lambda: fit
        self.running = min(fit, self._bound)

    @classmethod
    def of(cls, experiment: Experiment, options: Options) -> Flight:
        fit = options.resources.fits(local_resources())
        fit = 10**6 if options.address else fit
        return cls(fit, experiment.trials, options.concurrency, packed=options.pack != "off")

    def follow(self, slots: Callable[[], int]) -> None:
        """A cluster grows and shrinks: `slots` says how many trials fit, or will when machines have come for them."""
        self._fit = slots

    def limit(self) -> int:
        """Trials dealt and not ended."""
        if self._packed:
            return self._bound
        running = self.lanes
        return running + ceil(running / 4) if running > 1 else 1

    @property
    def lanes(self) -> int:
        """Processes that train."""
        return min(max(1, self._fit()), self._bound)

    @property
    def share(self) -> int:
        """Trials that a lane may hold."""
        return max(1, self._bound // self.lanes)


class _Asked(NamedTuple):
    """What Tune is asked for, as its own arguments."""

    trainable: type
    search: dict[str, Any]  # of TuneConfig
    space: dict[str, Any] | None
    stop: Any
    callback: Any
    failures: int


class Session:
    """What a driver does between opening the record and closing it."""

    def __init__(self, experiment: Experiment, options: Options, record: Record, stop: Stop, flight: Flight) -> None:
        self.experiment, self.options, self.record = experiment, options, record
        self.stop, self.flight = stop, flight
        self.folder = record.path.parent
        self.checkpoints = checkpoints(options)
        self._machines: Machines | None = None  # of the cluster at --address
        self._ended = False
        self.number = record.start_session(session_info())

    def search(self, ray: Future[Ray], data: Dataset) -> None:
        """Deal, train, judge and record until all trials ended or the sweep is told to stop. Raises CannotRun."""
        from rungwise.engine.execution.recorder import Recorder
        from rungwise.engine.schedulers.per_arm import Rungs
        from rungwise.engine.search.dispatcher import Search
        from rungwise.engine.terminal.progress import Board, view

        asked, options = self.experiment, self.options
        rungs = Rungs(asked.arms, ladder(asked), asked.mode)
        board = Board(
            asked.trials,
            list(asked.arms),
            rungs.schedule.epochs(),
            asked.sign,
            asked.metric,
            repeats=asked.confirmations,
        )
        with Reader(self.folder) as reader, view(board, quiet=options.quiet) as shown:
            trials, curves = _with_own_models(reader.trials(), asked), reader.curves()
            recorder = Recorder(
                self.record, rungs, shown, self.stop.ended, self.checkpoints, gpus=options.resources.gpus > 0
            )
            recorder.ending = lambda: self.stop.interrupted
            search = Search(asked, self.record, self._limit, self._repeats, recorder.refused)
            from rungwise.results.exporters.optuna_study import studies

            search.replay(trials, studies(reader), curves, reader.checkpoints(), reader.meta("enqueued") or {})
            if trials:
                board.replay(_current(reader), curves)
                self.stop.replay(trials)
                recorder.replay(curves)
                rungs.replay(trials, reader.reports(), asked.metric)
            started = _started(ray)
            if options.address is not None:
                self._meet(shown)
            self.stop.signals.renew()
            self.stop.notice = None if options.quiet else shown.note
            self._tune(started, data, search, rungs, recorder)
        if failure := self.stop.failure or (None if self.stop.interrupted else self._all_failed()):
            raise CannotRun(failure)

    def _meet(self, view: View) -> None:
        """See what the cluster at --address is. Raises CannotRun when it cannot serve this sweep."""
        from rungwise.engine.cluster.nodes import Machines

        self._view = view
        try:
            self._machines = Machines(self.options.resources)
            self._machines.require_room()
            self._machines.require_storage(self.checkpoints, self._mark)
        except Unusable as problem:
            raise CannotRun(str(problem), code=2) from None
        self.flight.follow(self._machines.slots)
        self._say(self._machines.words())

    def _say(self, words: str) -> None:
        self.record.event("machines", words=words)
        self._view.note(f"cluster: {words}")

    def _limit(self) -> int:
        if self._machines and (words := self._machines.changed()):
            self._say(words)
        return self.flight.limit()

    @property
    def _mark(self) -> str:
        """A file that says whose checkpoints these are."""
        with Reader(self.folder) as reader:
            return f"of-{quote(str(reader.meta('id')), safe='')}"

    def _all_failed(self) -> str | None:
        """The commonest reason, when no trial of the search could be trained."""
        self.record.commit()
        with Reader(self.folder) as reader:
            trials = reader.trials("search")
        if any(trial.state not in (State.FAILED, State.LOST) for trial in trials):
            return None
        common, times = Counter(trial.reason for trial in trials).most_common(1)[0]
        return f"all {len(trials)} trials FAILED or were LOST, {times} of them with: {common}"

    def confirm(self, data: Dataset) -> None:
        """Score what is confirmed on the test split and keep the best model, unless we are told to stop.

        Raises CannotRun when it cannot be scored; what is made of the model may fail, with a line each.
        """
        from rungwise.engine.execution.test_scoring import Confirmation, Unmade

        if not self.experiment.confirmations or self.stop.stop_all():
            return
        with Reader(self.folder) as reader:
            own = models.names(self.experiment, reader.trials())
        confirmation = Confirmation(self.record, data, self.options, self.stop, self.checkpoints, own)
        try:
            confirmation.score()
        except Unmade as problem:
            raise CannotRun(f"the confirmed models could not be scored: {problem}") from problem
        for line in confirmation.keep():
            say(f"note: {line}", sys.stderr)

    def _repeats(self) -> list[Repeat]:
        """What is trained again, now that the search has ended."""
        self.record.commit()
        with Reader(self.folder) as reader:
            return missing(reader, self.experiment, self.checkpoints)

    def _tune(self, ray: Ray, data: Dataset, search: Search, rungs: Rungs, recorder: Recorder) -> None:
        from ray import tune
        from ray.exceptions import RayError
        from ray.tune.error import TuneError

        options = self.options
        asked = (self._trials if options.pack == "off" else self._lanes)(search, rungs, recorder)
        trainable = tune.with_parameters(
            asked.trainable,
            data=data.without_test(),
            objectives=tuple(self.experiment.objectives),
            max_parameters=self.experiment.max_parameters,
            resources=options.resources,
            checkpoints=self.checkpoints,
            checkpoint_seconds=options.checkpoint_seconds,
            mark=self._mark if options.address is not None else "",
        )
        tuner = tune.Tuner(
            tune.with_resources(trainable, options.resources.for_tune()),
            param_space=asked.space,
            tune_config=tune.TuneConfig(**asked.search),
            run_config=tune.RunConfig(
                name=options.name,
                storage_path=ray.storage,
                verbose=0,
                progress_reporter=tune.CLIReporter(),  # silent; Tune's own for notebooks clears the cell's output
                stop=asked.stop,
                callbacks=[asked.callback],
                failure_config=tune.FailureConfig(max_failures=asked.failures),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        gc.freeze()  # what was imported, with the collector off
        gc.enable()
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial's traceback is in the record
        try:
            with ray.lighten_tune():
                tuner.fit()
        except (TuneError, SamplerError, RayError, RecordError, sqlite3.Error, OSError) as error:
            raise CannotRun(_cause(error)) from error

    def _trials(self, search: Search, rungs: Rungs, recorder: Recorder) -> _Asked:
        """Tune's trials are ours."""
        from rungwise.trainable.worker.worker import Trial

        how: dict[str, Any] = {
            "metric": "objective",
            "mode": self.experiment.mode,
            "search_alg": search,
            "scheduler": rungs,
            "num_samples": -1,  # the search says when it is finished
            "reuse_actors": True,
        }
        return _Asked(Trial, how, None, self.stop, recorder, self.options.retries)

    def _lanes(self, search: Search, rungs: Rungs, recorder: Recorder) -> _Asked:
        """Tune's trials are lanes, which hold ours; the referee is between them and the search."""
        from rungwise.engine.execution.coordinator import Referee
        from rungwise.trainable.messages import PackSettings
        from rungwise.trainable.worker.pack_worker import Lane

        share, retries = self.flight.share, self.options.retries
        referee = Referee(search, rungs, recorder, self.stop, share=share, retries=retries)
        space = PackSettings(min(self.options.together, share), share).to_tune()
        return _Asked(Lane, {"num_samples": self.flight.lanes}, space, referee, referee, LANE_RETRIES * (retries + 1))

    def end(self, state: SweepState) -> None:
        """Enter how it ended, and the checkpoints that processes took when they were told to stop."""
        self.record.commit()
        with Reader(self.folder) as reader:
            trials, run = reader.trials(), str(reader.meta("id") or "")
        kept = set(Folder(self.checkpoints).folders())  # one listing: most trials that have ended left nothing there
        for trial in [trial for trial in trials if str(trial.trial) in kept]:
            store = Checkpoints(self.checkpoints, trial.trial, owner=owner(run, trial.config))
            if trial.state is State.RUNNING:
                for saved in store.saved():
                    self.record.add_checkpoint(trial.trial, saved.step, saved.sha256)
            elif trial.phase != "confirm" or trial.state is not State.COMPLETED:  # it will not go on
                store.remove()
        self.record.end_session(self.number, state)
        self._ended = True

    def abandon(self, failure: str | None) -> None:
        """Enter how it ended, from another thread: this one's hangs in Ray. `failure`: why, if nobody asked for it."""
        if not self._ended:
            self.record.abandon(self.number, SweepState.FAILED if failure else SweepState.INTERRUPTED)

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


def checkpoints(options: Options) -> str:
    """Path or URI below which the run's trials keep their checkpoints."""
    return absolute(below(options.mirror or options.out, options.name, FOLDER))


def ladder(experiment: Experiment) -> RungSchedule:
    """The sweep's rungs, in reports."""
    from rungwise.engine.schedulers.base import RungSchedule

    per_epoch, patience = experiment.reports_per_epoch, experiment.patience
    return RungSchedule(
        budget=experiment.epochs * per_epoch,
        grace=None if experiment.scheduler == "none" else max(1, round(experiment.grace * per_epoch)),
        eta=experiment.eta,
        reports_per_epoch=per_epoch,
        scheduler=experiment.scheduler,
        patience=None if patience is None else max(1, round(patience * per_epoch)),
    )


def todo(folder: Path, experiment: Experiment, checkpoints: str) -> bool:
    """Whether anything is left to do: not when the record in `folder` holds all that is asked for."""
    with Reader(folder) as reader:
        trials = reader.trials()
        searched = sum(trial.phase == "search" for trial in trials)
        unended = any(not trial.state.ended for trial in trials)
        if searched < experiment.trials or unended or missing(reader, experiment, checkpoints):
            return True
        from rungwise.engine.execution.test_scoring import due

        return bool(experiment.confirmations and due(reader, checkpoints))


def missing(reader: Reader, experiment: Experiment, checkpoints: str) -> list[Repeat]:
    """The repeats that the record does not hold yet, and those whose models are needed and gone."""
    from rungwise.engine.execution.test_scoring import due
    from rungwise.engine.search.reruns import Repeat, repeats

    trials = {trial.trial: trial for trial in _current(reader)}
    known = models.names(experiment, trials.values())
    gone = [trials[number] for number in (due(reader, checkpoints).gone if experiment.confirmations else ())]
    wanted = [
        *repeats(experiment, trials.values(), reader.curves()),
        *(Repeat("confirm", trials[t.source or 0], t.config, t, "its model is gone") for t in gone),
    ]
    return [replace(repeat, config=models.trusted(repeat.config, known)) for repeat in wanted]


def _current(reader: Reader) -> list[Trial]:
    """All trials but confirmations of a network in whose place another one was accepted."""
    superseded = reader.superseded()
    return [trial for trial in reader.trials() if trial.phase != "confirm" or trial.trial not in superseded]


def _with_own_models(trials: list[Trial], experiment: Experiment) -> list[Trial]:
    """Those that go on, with the models that this script names. Raises ModelError."""
    known = models.names(experiment, trials)
    return [
        trial if trial.state.ended else replace(trial, config=models.trusted(trial.config, known)) for trial in trials
    ]


def _started(ray: Future[Ray]) -> Ray:
    try:
        return ray.result()
    except Unusable as problem:
        raise CannotRun(str(problem), code=2) from None
    except Exception as error:
        raise CannotRun(f"Ray could not start: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    """The innermost cause of what Tune wraps: the line that helps."""
    while inner := error.__cause__ or error.__context__:
        if isinstance(error, RecordError | SamplerError):
            return str(error)
        error = inner
    return str(error) if isinstance(error, Unusable) else f"{type(error).__name__}: {error}"
