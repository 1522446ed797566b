"""Weights & Biases: a group a sweep, a run a trial, in the folder RUN/wandb.

The mode, the account and the host are those of `wandb`'s own settings and variables (WANDB_MODE=offline keeps all in
that folder for `wandb sync`). A trial's run has an id of its own, made of the run's identity and the trial's number.
RUN/wandb/trials.json says of which trials the run is finished. One that is not, because its exporter was killed, is
begun again: offline its folder is written anew, online it is resumed at the step that the server has.

A step that several attempts reported has the value that was logged first, as W&B takes no step twice.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rungwise.files import replacing
from rungwise.results.exporters.loggers.logger import Logged, LoggerError, RecordView, hyperparameters
from rungwise.results.exporters.loggers.settings import LogSettings
from rungwise.results.io.redaction import redacted
from rungwise.results.record.types import NEVER_BEST, ReportRow, SweepState, Trial

if TYPE_CHECKING:
    import wandb

FOLDER = "wandb"
_FINISHED = "trials.json"
_TAG, _NAME = 64, 128  # characters that W&B takes of a tag, and of a project or id
_KILLED = 255  # exit code that W&B shows as killed


@dataclass(slots=True)
class _Run:
    """A W&B run that is open."""

    run: wandb.Run
    step: int  # the last one that it has
    best: float | None = None


class WandbLogger:
    """Logs to W&B."""

    def __init__(self, run: Path, settings: LogSettings) -> None:
        self._folder = run / FOLDER
        self._settings = settings
        self._open: dict[int, _Run] = {}
        self._finished: dict[str, str] = {}  # trial -> how it was when its run was finished
        with suppress(FileNotFoundError, ValueError):
            self._finished = {str(k): str(v) for k, v in json.loads((self._folder / _FINISHED).read_text()).items()}

    def log(self, view: RecordView) -> Logged:
        """Bring W&B up to `view`. Raises LoggerError."""
        import wandb

        try:
            self._folder.mkdir(exist_ok=True)
            count = sum(self._log_trial(view, trial) for trial in view.trials if trial.started is not None)
            if view.state is not SweepState.RUNNING:
                self._finish_all()
        except (wandb.Error, OSError) as error:
            line = (redacted(str(error)).strip().splitlines() or [type(error).__name__])[0]
            raise LoggerError(f"W&B must take the runs, but {line}") from error
        there = sum(trial.started is not None for trial in view.trials)
        return Logged(str(self._folder), there, count, tuple(self._notes(view)))

    def close(self) -> None:
        """Finish the runs that are open; another logger begins them again."""
        import wandb

        with suppress(Exception):
            self._finish_all()
        wandb.teardown()

    def _notes(self, view: RecordView) -> list[str]:
        """What W&B could not take as it is."""
        project, tags = self._project(view), [*self._tags(), *(arm for arm in view.definition.arms)]
        notes = [f"the project {project!r} is stored as {_legal(project)!r}"] if project != _legal(project) else []
        return notes + [f"the tag {tag!r} is stored as {tag[:_TAG]!r}" for tag in tags if len(tag) > _TAG]

    def _project(self, view: RecordView) -> str:
        return self._settings.project or view.definition.sweep or view.definition.name

    def _tags(self) -> list[str]:
        return [f"{key}={value}" if value else key for key, value in self._settings.tags.items()]

    def _log_trial(self, view: RecordView, trial: Trial) -> int:
        """Bring a trial's run up to date; returns how many numbers were new."""
        scores = view.scores.get(trial.trial, {})
        state = f"{trial.state} {trial.attempts} {len(scores)}"
        if self._finished.get(str(trial.trial)) == state:
            return 0
        rows: Sequence[ReportRow] = view.rows.get(trial.trial, ())
        there = self._open.get(trial.trial)
        if there is None:
            if not trial.state.ended and view.state is not SweepState.RUNNING and not rows:
                return 0  # a trial in flight of a sweep that does not run, and all that it reported is there
            there = self._open[trial.trial] = self._begin(view, trial)
            every = (row for row in view.reader.reports(trial=trial.trial) if row.seq <= view.seq)
            rows = list({row.step: row for row in every}.values())
        count = _log_rows(view, there, rows)
        waits_for_scores = trial.is_on_fresh_seed and not scores and view.state is SweepState.RUNNING
        if trial.state.ended and not waits_for_scores:
            self._finish(view, trial, there, scores)
            self._note_finished(trial, state)
        return count

    def _begin(self, view: RecordView, trial: Trial) -> _Run:
        import wandb

        identity = _legal(f"{view.identity}-{trial.trial}")
        self._note_finished(trial, None)
        is_offline = wandb.setup().settings.mode in ("offline", "dryrun")
        if is_offline:
            for left in self._folder.glob(f"offline-run-*-{identity}"):
                shutil.rmtree(left)  # of an exporter that was killed: written anew below
        tags = [trial.arm, *self._tags()]
        run = wandb.init(
            project=_legal(self._project(view)),
            group=view.definition.name[:_NAME],
            job_type=trial.phase,
            id=identity,
            name=f"trial {trial.trial} ({trial.study.name(view.definition.searches)})"[:_NAME],
            notes=view.definition.question,
            tags=list(dict.fromkeys(tag[:_TAG] for tag in tags if tag)),
            config=trial.config | hyperparameters(view, trial) | {"trial": trial.trial},
            dir=str(self._folder.parent),
            resume=None if is_offline else "allow",
            reinit="create_new",
            settings=wandb.Settings(
                console="off", silent=True, init_timeout=20, disable_git=True, disable_code=True,
                disable_job_creation=True,
                x_save_requirements=False, x_disable_stats=True, x_disable_meta=True, x_disable_machine_info=True,
            ),
        )  # fmt: skip
        return _Run(run, 0 if is_offline else max(run.step - 1, 0))

    def _finish(self, view: RecordView, trial: Trial, there: _Run, scores: Mapping[str, float]) -> None:
        best = {} if there.best is None else {f"best_{view.definition.metric}": there.best}
        summary: dict[str, Any] = {"state": str(trial.state), "reason": trial.reason or "", **best}
        there.run.config.update(hyperparameters(view, trial), allow_val_change=True)  # type: ignore[no-untyped-call]
        there.run.summary.update(summary | {f"test_{name}": value for name, value in scores.items()})
        there.run.finish(exit_code=1 if trial.state in NEVER_BEST else 0)
        del self._open[trial.trial]

    def _finish_all(self) -> None:
        """Of trials in flight, which go on in another session."""
        for number in list(self._open):
            self._open.pop(number).run.finish(exit_code=_KILLED)

    def _note_finished(self, trial: Trial, state: str | None) -> None:
        """Keep that a trial's run is finished; None: that it is not, any more."""
        number = str(trial.trial)
        if self._finished.get(number) == state:
            return
        if state is None:
            del self._finished[number]
        else:
            self._finished[number] = state
        with replacing(self._folder / _FINISHED) as file:
            file.write(json.dumps(self._finished).encode())


def _log_rows(view: RecordView, there: _Run, rows: Sequence[ReportRow]) -> int:
    metric, sign = view.definition.metric, view.definition.sign
    count = 0
    for row in rows:
        value = row.metrics.get(metric, math.nan)
        if math.isfinite(value) and (there.best is None or sign * (value - there.best) > 0):
            there.best = value
        if row.step > there.step:
            there.run.log(dict(row.metrics), step=row.step)
            there.step = row.step
            count += len(row.metrics)
    return count


def _legal(name: str) -> str:
    """A project's name or a run's id with _ for each character that W&B refuses."""
    return re.sub(r"[/\\#?%:\s]", "_", name)[:_NAME]
