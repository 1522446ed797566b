"""The last step of a sweep: confirmed trials are scored on the test split, once, and the best model is kept.

All steps before it work with `Dataset.without_test()`. Only here is a worker given the test split.

Which configuration represents an arm depends on the whole record: with more seeds or trials it may be one that was
confirmed long ago. So the final states of all confirmed trials are kept, and a trial whose state is needed but missing
is trained again (`Due.gone`). The scores are the answer: they are committed before the model is exported, and a failure
of the export is one line that affects nothing else.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rungwise.engine.cluster.scoring_process import ScoringProcess
from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.own_models import names, trusted
from rungwise.errors import RungwiseError
from rungwise.results.analysis.answer import CONSTANT_SCORES, Answer, answer
from rungwise.results.analysis.compare import PRODUCTS
from rungwise.results.model.model_folder import FOLDER, difference
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.results.record.writer import Record
from rungwise.trainable.faults import Fault, reason
from rungwise.trainable.messages import UNTUNED
from rungwise.trainable.protocol import SweepData, TestScores
from rungwise.trainable.storage import CheckpointError, MisfitError, install
from rungwise.trainable.worker.checkpoints import Checkpoints, owner

ACCEPT = "with --accept-changed-model the same command repeats the confirmation"
MEND = "to discard damaged files, run: rungwise doctor --fix"
Files = dict[int, tuple[str, str]]  # trial -> file of its final state, SHA-256


@dataclass(frozen=True)
class Due:
    """What is left to do with the confirmed trials. Each field has the final states that it needs."""

    scores: Files  # represent an arm or the defaults, or are the answer's model, and are not scored yet
    model: Files  # of the answer's model, if model/ contains none or another one
    diagnosis: Files  # of the answer's model, if the record does not say where it errs
    gone: tuple[int, ...]  # trials whose final states are needed but missing

    def __bool__(self) -> bool:
        return bool(self.scores or self.model or self.diagnosis or self.gone)


def due(reader: Reader, checkpoints: str, found: Answer | None = None) -> Due:
    """What is left.

    Args:
        reader: of the run.
        checkpoints: path or URI below which the trials' final states lie.
        found: the answer, if it is known already.
    """
    with reader.snapshot():
        found = found or answer(reader)
        known, scored = reader.checkpoints(), reader.scores()
        run, trials, superseded = str(reader.meta("id") or ""), reader.trials(), reader.superseded()
        diagnosed = (reader.meta("test") or {}).get("trial")
        definition = reader.definition()
    chosen = [trial for arm in found.arms for winner in arm.winners.values() for trial in winner.trials.values()]
    configs = {trial.trial: trial.config for trial in trials}
    untuned = [
        trial.trial
        for trial in trials
        if trial.phase == UNTUNED and trial.state is State.COMPLETED and trial.trial not in superseded
    ]
    best = [] if found.model is None else [found.model]
    unscored = [trial for trial in [*chosen, *best, *untuned] if trial not in scored] if definition.has_test else []
    unkept = best if difference(reader, found) else []
    undiagnosed = [trial for trial in best if trial != diagnosed and not definition.is_own]
    files: Files = {}
    for trial in (needed := dict.fromkeys([*unscored, *unkept, *undiagnosed])):
        steps = known.get(trial) or {}
        store = Checkpoints(checkpoints, trial, owner=owner(run, configs[trial]))
        if steps and (file := store.file(max(steps))):
            files[trial] = (file, steps[max(steps)])
    scores, model, diagnosis = (
        {trial: files[trial] for trial in some if trial in files} for some in (unscored, unkept, undiagnosed)
    )
    return Due(scores, model, diagnosis, gone=tuple(trial for trial in needed if trial not in files))


class Unmade(RungwiseError, RuntimeError):
    """A worker failed to score, export or diagnose a model; the message says why, in one line."""

    @classmethod
    def of(cls, cause: BaseException, folder: Path) -> Unmade:
        """The error for an exception of a worker."""
        words = str(cause) if isinstance(cause, Fault) else reason(cause)
        if isinstance(cause, MisfitError):
            return Unfit(f"{words}; {ACCEPT}")
        return cls(f"{words}; {MEND} {shlex.quote(str(folder))}" if isinstance(cause, CheckpointError) else words)


class Unfit(Unmade):
    """A model's file now builds another network than the one that was confirmed."""


class Confirmation:
    """The last step of one session. It does nothing once the sweep is told to stop."""

    def __init__(
        self, record: Record, experiment: Experiment, data: SweepData, process: ScoringProcess, checkpoints: str
    ) -> None:
        """`checkpoints`: as for `due`."""
        self._record, self._data, self._process = record, data, process
        self._training, self._checkpoints, self._folder = experiment.trained_by, checkpoints, record.path.parent
        self._measured = experiment.metric.removeprefix("val_")
        with Reader(self._folder) as reader:
            self._own = names(experiment, reader.trials())  # the user's own models that the sweep names, by function

    def score(self) -> None:
        """Score the trials that represent an arm and are not scored yet, and commit. Raises Unmade."""
        if self._record_lacks_constant_scores() and (constant := self._training.constant_scores(self._data.full)):
            self._record.set_meta(CONSTANT_SCORES, constant)
        files = self._due().scores
        with Reader(self._folder) as reader:
            studies = {trial.trial: trial.study for trial in reader.trials()}
        full = self._data.full
        made = self._on_worker(self._training.score, files, self._configs(files), studies, full) if files else None
        scored = made or TestScores({})
        unfit = scored.unfit
        for trial, of_metric in scored.samples.items():
            measured = self._measured if self._measured in scored.scores[trial] else "accuracy"
            if measured in of_metric:
                self._record.add_sample_scores(trial, "test", measured, *of_metric[measured])
        for trial, metrics in scored.scores.items():
            for metric, value in metrics.items():
                self._record.add_score(trial, "test", metric, value)
        for trial, saved in scored.models.items():
            self._record.add_checkpoint(trial, saved.step, saved.sha256)
        if unfit:
            self._record.event("unfit", trials=sorted(unfit))
        if scored.products:
            self._record.set_meta(PRODUCTS, scored.products)
        self._record.commit()
        if unfit:
            trial, why = next(iter(unfit.items()))
            raise Unfit(f"{self._training.unfit_model(trial)} ({why}); {ACCEPT}")

    def keep(self) -> Iterator[str]:
        """Export the answer's model to model/ and diagnose its errors. Yields a line for each of these that failed."""
        left = self._due()
        configs = self._configs([*left.model, *left.diagnosis])
        with Reader(self._folder) as reader:
            arm, scores = answer(reader).best, reader.scores()
            search = {trial.trial: trial.search for trial in reader.trials()}
        for trial, file in left.model.items():
            about = {"arm": arm, "trial": trial, "test": scores.get(trial, {})}
            data = self._data_of(search[trial])
            try:
                if made := self._on_worker(self._training.export, file, configs[trial], about, data):
                    install(made.files, self._folder / FOLDER)
                    if made.unexported:
                        yield (
                            f"the weights of trial {trial} are kept, but torch.export rejects the model: "
                            f"{made.unexported}"
                        )
            except (Unmade, OSError) as problem:
                if isinstance(problem, Unfit):
                    self._record.event("unfit", trials=[trial])
                yield f"the answer is complete, but the model of trial {trial} could not be kept: {problem}"
        for trial, file in left.diagnosis.items():
            data = self._data_of(search[trial])
            try:
                if diagnosis := self._on_worker(self._training.diagnose, file, configs[trial], data):
                    self._record.set_meta("test", {"arm": arm, "trial": trial, **diagnosis})
            except Unmade as problem:
                yield f"the answer is complete, but where the model of trial {trial} errs could not be said: {problem}"
        self._record.commit()

    def _record_lacks_constant_scores(self) -> bool:
        """Whether the scores are missing that failed seeds of a confirmation count as."""
        with Reader(self._folder) as reader:
            return reader.meta(CONSTANT_SCORES) is None

    def _due(self) -> Due:
        self._record.commit()
        with Reader(self._folder) as reader:
            return due(reader, self._checkpoints)

    def _configs(self, needed: Iterable[int]) -> dict[int, dict[str, Any]]:
        with Reader(self._folder) as reader:
            configs = {trial.trial: trial.config for trial in reader.trials()}
        return {trial: trusted(configs[trial], self._own) for trial in needed}

    def _data_of(self, search: int) -> Any:
        return self._training.data_of(self._data.full, search)

    def _on_worker(self, work: Callable[..., Any], *given: Any) -> Any:
        """Call `work` on a machine that trains. Returns its result, or None once told to stop. Raises Unmade."""
        from ray.exceptions import RayError

        try:
            return self._process.call(work, *given, self._process.resources)
        except (RungwiseError, RayError) as error:
            raise Unmade.of(error, self._folder) from error
