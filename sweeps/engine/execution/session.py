"""One driver session: search, confirm the best configurations, and score them once on the test split."""

from __future__ import annotations

import gc
import logging
import sqlite3
import sys
from collections import Counter
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from rungwise.engine.cluster import dead_actors, starting_actors
from rungwise.engine.cluster.attach import Unusable
from rungwise.engine.cluster.local_ray import Ray
from rungwise.engine.cluster.scoring_process import ScoringProcess
from rungwise.engine.errors import CannotRun
from rungwise.engine.execution.concurrency import ConcurrencyPolicy
from rungwise.engine.execution.remaining_work import checkpoint_root, current_trials, missing_repeats, studies_in
from rungwise.engine.experiment import own_models as models
from rungwise.engine.experiment.environment import session_info
from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.flags import Options
from rungwise.engine.forecast import closing_seconds
from rungwise.engine.search.samplers import SamplerError
from rungwise.engine.validation.hints import print_wait
from rungwise.engine.worth import add_search, fix_worth, record_look
from rungwise.results.io.text import say
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import TIME_BUDGET, RecordError, State, SweepState, Trial
from rungwise.results.record.writer import Record
from rungwise.storage import Folder
from rungwise.trainable.messages import SCORED_PHASES
from rungwise.trainable.worker.checkpoints import Checkpoints, owner

if TYPE_CHECKING:
    from rungwise.engine.cluster.nodes import Machines
    from rungwise.engine.execution.recorder import Recorder
    from rungwise.engine.execution.stopping import Stop
    from rungwise.engine.execution.test_scoring import Confirmation
    from rungwise.engine.schedulers.per_arm import Rungs
    from rungwise.engine.search.dispatcher import Search
    from rungwise.engine.search.reruns import Repeat
    from rungwise.results.progress.board import Board
    from rungwise.results.progress.live_view import View
    from rungwise.trainable.protocol import SweepData

PACK_RETRIES = 10  # times those of a trial: a process that trains packs outlives its trials
EXPORT_SECONDS = 60.0  # for the last pass of the exporters
EXPORT_SECONDS_INTERRUPTED = 5.0  # the same, when a user waits for the prompt; `results export` completes it


class _TunerArguments(NamedTuple):
    """The arguments of Tune that differ between single trials and packs."""

    trainable: type
    search: dict[str, Any]  # of TuneConfig
    space: dict[str, Any] | None
    stop: Any
    callback: Any
    failures: int


class Session:
    """What a driver does between opening the record and closing it."""

    def __init__(
        self, experiment: Experiment, options: Options, record: Record, stop: Stop, concurrency: ConcurrencyPolicy
    ) -> None:
        self.experiment, self.options, self.record = experiment, options, record
        self.stop, self.concurrency = stop, concurrency
        self.folder = record.path.parent
        self.checkpoints = checkpoint_root(options)
        self._machines: Machines | None = None  # of the cluster at --address
        self._scoring = ScoringProcess(options.resources, stop.stop_all)
        self._ended = False
        self.number = record.start_session(session_info())

    def search(self, ray: Future[Ray], data: SweepData) -> None:
        """Train until all trials have ended or the sweep is stopped. Raises CannotRun."""
        from rungwise.engine.execution.recorder import Recorder
        from rungwise.engine.execution.stopping import requested_before
        from rungwise.engine.schedulers.per_arm import Rungs, rung_schedule
        from rungwise.engine.search.dispatcher import Search
        from rungwise.results.progress.live_view import view
        from rungwise.results.progress.recorded import META, Expected, board_of

        experiment, options = self.experiment, self.options
        rungs = Rungs(
            studies_in(self.folder, experiment),
            rung_schedule(experiment),
            experiment.mode,
            oldest_first=experiment.order == "fixed",
        )
        expected = Expected(rungs.schedule.epochs(), experiment.repeats, closing_seconds(experiment.repeats))
        self.record.set_meta(META, expected._asdict())
        board = board_of(experiment, expected, deadline=self.stop.deadline)
        with Reader(self.folder) as reader, view(board, quiet=options.quiet) as shown:
            trials, curves = _with_own_models(reader.trials(), experiment), reader.curves()
            recorder = Recorder(
                self.record, rungs, shown, self.stop.ended, self.checkpoints, gpus=options.resources.gpus > 0
            )
            recorder.metric, recorder.breach = experiment.metric, experiment.breach
            recorder.ending, recorder.saved = (lambda: self.stop.interrupted), self.stop.gets_further
            search = Search(experiment, self.record, self._limit, self._repeats, recorder.refused)
            from rungwise.results.exporters.optuna_study import studies

            search.replay(trials, studies(reader), curves, reader.checkpoints(), reader.meta("enqueued") or {})
            self.stop.trials |= requested_before(reader)
            self.stop.on_request = self._keep_request
            rungs.budget, rungs.unwanted = search.budget, self.stop.trials
            self.stop.seconds_after_search = partial(self._seconds_after_search, search, board)
            self.stop.on_search_over = partial(self._end_search, search, shown)
            if trials:
                board.replay(current_trials(reader), curves, experiment)
                self.stop.replay(trials)
                recorder.replay(curves)
                rungs.replay(trials, reader.reports(), experiment.metric)
            started = _started(ray)
            if options.address is not None:
                self._attach_cluster(shown)
            self.stop.signals.renew()
            self.stop.notice = None if options.quiet else shown.note
            self.stop.is_searching = True
            self._tune(started, data, search, rungs, recorder)
            self.stop.is_searching = False
        if failure := self.stop.failure or (None if self.stop.interrupted else self._all_failed()):
            raise CannotRun(failure)

    def _keep_request(self, trial: int) -> None:
        from rungwise.engine.execution.stopping import STOP_REQUESTED

        self.record.event(STOP_REQUESTED, trial)
        self.record.commit()

    def _seconds_after_search(self, search: Search, board: Board) -> float | None:
        """What follows the search takes, about; None while it is not known, or a search has no winner yet."""
        return board.seconds_after_search if search.budget.all_have_reported else None

    def _end_search(self, search: Search, view: View) -> None:
        search.budget.is_over = view.board.is_confirming = True
        self.record.event(TIME_BUDGET, after="search")
        view.note("the time budget ends the search; what it found is confirmed now. The same command searches on.")

    def _attach_cluster(self, view: View) -> None:
        """Inspect the cluster at --address. Raises CannotRun when it cannot serve this sweep."""
        from rungwise.engine.cluster.nodes import Machines

        self._view = view
        try:
            self._machines = Machines(self.options.resources)
            self._machines.require_room()
            self._machines.require_storage(self.checkpoints, self._storage_marker)
        except Unusable as problem:
            raise CannotRun(str(problem), code=2) from None
        self.concurrency.follow(self._machines.slots)
        self._note_machines(self._machines.words())

    def _note_machines(self, words: str) -> None:
        self.record.event("machines", words=words)
        self._view.note(f"cluster: {words}")

    def _limit(self) -> int:
        if self._machines and (words := self._machines.changed()):
            self._note_machines(words)
        return self.concurrency.limit()

    @property
    def _storage_marker(self) -> str:
        """Name of the file that marks the storage as this run's."""
        with Reader(self.folder) as reader:
            return f"of-{quote(str(reader.meta('id')), safe='')}"

    def _all_failed(self) -> str | None:
        """The most frequent reason, if no trial of the search could be trained."""
        self.record.commit()
        with Reader(self.folder) as reader:
            trials = reader.trials("search")
        if any(trial.state not in (State.FAILED, State.LOST) for trial in trials):
            return None
        common, times = Counter(trial.reason for trial in trials).most_common(1)[0]
        if len(trials) == 1:
            return f"the only trial {trials[0].state} with: {common}"
        states = " or ".join(sorted({trial.state for trial in trials}))
        return f"all {len(trials)} trials {states}{'' if times == len(trials) else f', {times} of them'} with: {common}"

    def score(self, data: SweepData) -> bool:
        """Score the confirmed models on the test split; returns whether that was done, and the sweep is not stopped.

        Raises CannotRun when they cannot be scored.
        """
        from rungwise.engine.execution.test_scoring import Unmade

        if not self.experiment.confirmations or self.stop.stop_all():
            return False
        fix_worth(self.record, self.experiment)
        print_wait(self.options, "scoring the confirmed models")
        try:
            self._confirmation(data).score()
        except Unmade as problem:
            raise CannotRun(f"the confirmed models could not be scored: {problem}") from problem
        record_look(self.record, self.experiment.searches)
        return not self.stop.stop_all()

    def add_search(self) -> bool:
        """Ask for another search of each arm when the answer is open (--until-sure); returns whether there is one."""
        if self.stop.interrupted:
            return False
        more = add_search(self.record, self.experiment)
        if more is None:
            return False
        self.experiment = more
        if self.stop.times_out():
            return False
        self._scoring.end()  # trials need its resources
        return True

    def keep(self, data: SweepData) -> None:
        """Keep the best confirmed model, unless the sweep is stopped. A failure is one line on standard error."""
        if not self.experiment.confirmations or self.stop.stop_all():
            return
        for line in self._confirmation(data).keep():
            say(f"note: {line}", sys.stderr)

    def _confirmation(self, data: SweepData) -> Confirmation:
        from rungwise.engine.execution.test_scoring import Confirmation

        return Confirmation(self.record, self.experiment, data, self._scoring, self.checkpoints)

    def _repeats(self) -> list[Repeat]:
        """The reruns of the searches that have ended."""
        self.record.commit()
        with Reader(self.folder) as reader:
            return missing_repeats(reader, self.experiment, self.checkpoints, is_over=self.stop.search_over)

    def _tune(self, ray: Ray, data: SweepData, search: Search, rungs: Rungs, recorder: Recorder) -> None:
        from ray import tune
        from ray.exceptions import RayError
        from ray.tune.error import TuneError

        options = self.options
        arguments = (self._single_trial_arguments if options.pack == "off" else self._pack_arguments)(
            search, rungs, recorder
        )
        trainable = tune.with_parameters(
            arguments.trainable,
            data=data.search,
            training=self.experiment.trained_by,
            objectives=tuple(self.experiment.objectives),
            max_parameters=self.experiment.max_parameters,
            resources=options.resources,
            checkpoints=self.checkpoints,
            checkpoint_seconds=options.checkpoint_seconds,
            report_seconds=None if options.trial_timeout is None else 60 * options.trial_timeout,
            mark=self._storage_marker if options.address is not None else "",
        )
        tuner = tune.Tuner(
            tune.with_resources(trainable, options.resources.for_tune()),
            param_space=arguments.space,
            tune_config=tune.TuneConfig(**arguments.search),
            run_config=tune.RunConfig(
                name=f"{options.name}-{self.experiment.searches}",  # a sweep that adds searches comes here again
                storage_path=ray.storage,
                verbose=0,
                progress_reporter=tune.CLIReporter(),  # silent; Tune's own for notebooks clears the cell's output
                stop=arguments.stop,
                callbacks=[arguments.callback],
                failure_config=tune.FailureConfig(max_failures=arguments.failures),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        gc.freeze()  # what was imported, with the collector off
        gc.enable()
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial's traceback is in the record
        try:
            with ray.lighten_tune(), dead_actors.counted_once(), starting_actors.kept():
                tuner.fit()
        except (TuneError, SamplerError, RayError, RecordError, sqlite3.Error, OSError) as error:
            raise CannotRun(_cause(error)) from error

    def _single_trial_arguments(self, search: Search, rungs: Rungs, recorder: Recorder) -> _TunerArguments:
        """One Tune trial a trial."""
        from rungwise.trainable.worker.worker import TrialWorker

        tune_config: dict[str, Any] = {
            "metric": "objective",
            "mode": self.experiment.mode,
            "search_alg": search,
            "scheduler": rungs,
            "num_samples": -1,  # the search says when it is finished
            "reuse_actors": True,
        }
        return _TunerArguments(TrialWorker, tune_config, None, self.stop, recorder, self.options.retries)

    def _pack_arguments(self, search: Search, rungs: Rungs, recorder: Recorder) -> _TunerArguments:
        """One Tune trial a process that trains packs; a `PackCoordinator` mediates between these and the search."""
        from rungwise.engine.execution.coordinator import PackCoordinator
        from rungwise.trainable.messages import PackSettings
        from rungwise.trainable.worker.pack_worker import PackWorker

        most, retries = self.concurrency.trials_per_worker, self.options.retries
        coordinator = PackCoordinator(search, rungs, recorder, self.stop, trials_per_worker=most, retries=retries)
        space = PackSettings(min(self.options.together, most), most).to_tune()
        return _TunerArguments(
            PackWorker,
            {"num_samples": self.concurrency.processes},
            space,
            coordinator,
            coordinator,
            PACK_RETRIES * (retries + 1),
        )

    def end(self, state: SweepState) -> None:
        """Record how the session ended, and the checkpoints that processes saved when they were stopped."""
        self.record.commit()
        with Reader(self.folder) as reader:
            trials, run = reader.trials(), str(reader.meta("id") or "")
        kept = set(Folder(self.checkpoints).folders())  # one listing: most trials that have ended left nothing there
        for trial in [trial for trial in trials if str(trial.trial) in kept]:
            store = Checkpoints(self.checkpoints, trial.trial, owner=owner(run, trial.config))
            if trial.state is State.RUNNING:
                for saved in store.saved():
                    self.record.add_checkpoint(trial.trial, saved.step, saved.sha256)
            elif trial.phase not in SCORED_PHASES or trial.state is not State.COMPLETED:  # it will not resume
                store.remove()
        self.record.end_session(self.number, state)
        self._ended = True

    def abandon(self, failure: str | None) -> None:
        """Enter how the session ended, from another thread: this one's hangs in Ray. `failure`: why, unless a signal
        ended it."""
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


def _with_own_models(trials: list[Trial], experiment: Experiment) -> list[Trial]:
    """The trials; those that continue have the models that this script names. Raises ModelError."""
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
    """The innermost cause of an exception that Tune wraps, in one line."""
    while inner := error.__cause__ or error.__context__:
        if isinstance(error, RecordError | SamplerError):
            return str(error)
        error = inner
    return str(error) if isinstance(error, Unusable) else f"{type(error).__name__}: {error}"
