"""A simulation of Tune's controller without Ray: the same callbacks in the same order (ray 2.60, tune_controller.py).

The searcher, the scheduler, the recorder, the record and the studies are the real ones; only processes are missing.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from ray.tune.experiment import Trial
from ray.tune.utils import flatten_dict

from rungwise.engine.execution.recorder import Recorder
from rungwise.engine.experiment.experiment import resolve
from rungwise.engine.experiment.flags import default_options
from rungwise.engine.experiment.sweep import Sweep
from rungwise.engine.schedulers.base import RungSchedule
from rungwise.engine.schedulers.per_arm import Rungs
from rungwise.engine.search.dispatcher import Search
from rungwise.engine.search.reruns import Repeat
from rungwise.results.exporters.optuna_study import studies
from rungwise.results.progress.board import Board
from rungwise.results.progress.live_view import View
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.results.record.types import Trial as Row
from rungwise.results.record.writer import Record
from rungwise.trainable.messages import Failure, StudyKey, TrialEnd, TrialResult, WorkerAddress


class Loop:
    """Searches of so many `trials` each over the record in `folder`, continued when there is one. `deal`, `report` and
    `die` until FINISHED."""

    def __init__(
        self,
        folder: Path,
        sweep: Sweep,
        *,
        trials: int = 32,
        seed: int = 0,
        sampler: Any = "tpe",
        in_flight: int = 99,
        searches: int = 1,
        order: str = "arrival",
        confirm: tuple[int, int] = (1, 2),
        repeats: Callable[[], Iterable[Repeat]] = tuple,
        budget: str = "trials",
    ) -> None:
        """`confirm`: so many configurations and seeds are confirmed, if there are `repeats`."""
        self.sweep = sweep
        self.record = Record(folder)
        arms: dict[str, Any] = {arm: {} for arm in sweep.arms}
        definition = {"metric": sweep.metric, "mode": sweep.mode, "arms": arms, "objectives": sweep.all_objectives}
        definition |= {"searches": searches, "trials": trials, "training": resolve(sweep).training}
        self.record.set_meta("definition", definition)
        self.record.commit()
        per_epoch = sweep.reports_per_epoch
        ladder = RungSchedule(sweep.epochs * per_epoch, round(sweep.grace * per_epoch), sweep.eta, per_epoch,
                        sweep.scheduler)  # fmt: skip
        asked = replace(sweep, trials=trials, sampler=sampler, searches=searches)
        told: dict[str, Any] = {
            "seed": seed,
            "order": order,
            "confirm_configs": confirm[0],
            "confirm_seeds": confirm[1],
        }
        told["budget"] = budget
        experiment = resolve(asked, replace(default_options(asked), **told, confirm=repeats is not tuple))
        self.rungs = Rungs(experiment.studies, ladder, sweep.mode)
        self.search = Search(experiment, self.record, lambda: in_flight, repeats)
        sign = 1 if sweep.mode == "max" else -1
        self.board = Board(experiment.all_trials, list(sweep.arms), ladder.epochs(), sign, sweep.metric)
        self.ended: list[tuple[State, Failure | None]] = []
        self.notes = io.StringIO()
        view = View(self.board, self.notes)
        self.recorder = Recorder(
            self.record, self.rungs, view, lambda *end: self.ended.append(end), str(folder / "checkpoints")
        )
        self._dealt = 0
        with Reader(folder) as reader:
            before, curves = reader.trials(), reader.curves()
            self.search.replay(before, studies(reader), curves, reader.checkpoints())
            self.rungs.budget = self.search.budget
            if before:
                self.rungs.replay(before, reader.reports(), sweep.metric)
                self.recorder.replay(curves)
                self.board.replay(before, curves, experiment)

    def deal(self) -> Trial | str | None:
        """Tune asks for a trial and starts it; None or FINISHED when it gets none."""
        self._dealt += 1
        trial_id = f"{id(self):x}_{self._dealt}"
        message = self.search.suggest(trial_id)
        if message is None or isinstance(message, str):
            return message
        trial = Trial("rungwise", config=message, trial_id=trial_id, stub=True)
        self.recorder.on_trial_start(0, [], trial)
        return trial

    def report(self, trial: Trial, value: float, step: int, hostname: str = "here", **more: Any) -> bool:
        """A trial's process sends a result, with `more` of its fields; whether the trial is over."""
        values: dict[str, Any] = {
            "attempt": trial.config["attempt"],
            "objective": value,
            "metrics": {"epoch": step / self.sweep.reports_per_epoch, self.sweep.metric: value},
            "device": "cpu",
            **more,
        }
        return self.tell(trial, TrialResult(trial.config["trial"], step=step, **values), hostname)

    def fail(self, trial: Trial, failure: Failure) -> bool:
        """A trial's process says that it FAILED, and has no report."""
        return self.tell(trial, TrialResult(trial.config["trial"], state=TrialEnd.FAILED, failure=failure))

    def tell(self, trial: Trial, told: TrialResult, hostname: str = "here", actor: Any = None) -> bool:
        """What Tune makes of a result; whether the trial is over. `actor`: the handle that comes with it."""
        result = replace(told, worker=WorkerAddress(hostname, 1, "10.0.0.9")).to_tune(actor)
        stop = result["done"] or self.rungs.on_trial_result(None, trial, flatten_dict(result)) == "STOP"
        if stop:
            result["done"] = True
        else:
            self.search.on_trial_result(trial.trial_id, flatten_dict(result))
        self.recorder.on_trial_result(0, [], trial, result)
        if stop:
            self.search.on_trial_complete(trial.trial_id, flatten_dict(result))
        return bool(stop)

    def die(self, trial: Trial) -> None:
        """A trial's process died once more than the retries allow."""
        self.recorder.on_trial_error(0, [], trial)
        self.search.on_trial_complete(trial.trial_id, None, error=True)

    def train(self, trial: Trial, score: Callable[[dict[str, Any], int], float], first: int = 1) -> None:
        """Report `score(config, step)` from report `first` to the budget, or until ASHA stops the trial."""
        budget = self.sweep.epochs * self.sweep.reports_per_epoch
        for step in range(first, budget + 1):
            more = {"state": TrialEnd.COMPLETED} if step == budget else {}
            if self.report(trial, score(trial.config["config"], step), step, **more):
                return

    def crash(self) -> None:
        """The driver is killed: what it had not committed is lost."""
        self.record._db.close()

    # -- what came of it ---------------------------------------------------------------------------------------

    def rows(self) -> dict[int, Row]:
        """{trial: its row in the record}"""
        self.record.commit()
        with Reader(self.record.path.parent) as reader:
            return {row.trial: row for row in reader.trials()}

    def live(self, arm: str = "all") -> list[optuna.trial.FrozenTrial]:
        """The arm's Optuna trials as this driver's study has them."""
        return self.search._studies[StudyKey(arm)].study.trials

    def rebuilt(self, arm: str = "all") -> list[optuna.trial.FrozenTrial]:
        """The arm's Optuna trials as the record has them."""
        self.record.commit()
        with Reader(self.record.path.parent) as reader:
            return studies(reader)[StudyKey(arm)].trials
