"""What a run still lacks: trials of its search, reruns, and models that the answer needs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rungwise.engine.experiment import own_models as models
from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.flags import Options
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import Trial
from rungwise.storage import absolute, below
from rungwise.trainable.messages import StudyKey
from rungwise.trainable.worker.checkpoints import FOLDER

if TYPE_CHECKING:
    from rungwise.engine.execution.test_scoring import Due
    from rungwise.engine.search.reruns import Repeat


def checkpoint_root(options: Options) -> str:
    """Path or URI below which the run's trials keep their checkpoints."""
    return absolute(below(options.mirror or options.out, options.name, FOLDER))


def has_work(folder: Path, experiment: Experiment, checkpoints: str) -> bool:
    """Whether the record in `folder` lacks anything that the experiment asks for."""
    with Reader(folder) as reader:
        trials = reader.trials()
        searched = Counter(trial.study for trial in trials if trial.phase == "search")
        lacking = any(searched[study] < experiment.trials for study in experiment.studies)
        unended = any(not trial.state.ended for trial in trials)
        if lacking or unended:
            return True
        left = _left_to_confirm(reader, experiment, checkpoints)
        return bool(left or _repeats(reader, experiment, left))


def studies_in(folder: Path, experiment: Experiment) -> list[StudyKey]:
    """The searches that are asked for, and those that the record holds besides: they may have a trial in flight."""
    with Reader(folder) as reader:
        held = [trial.study for trial in reader.trials("search")]
    return list(dict.fromkeys([*experiment.studies, *held]))


def missing_repeats(reader: Reader, experiment: Experiment, checkpoints: str) -> list[Repeat]:
    """The reruns that the record does not hold yet, and those whose models are needed and gone."""
    return _repeats(reader, experiment, _left_to_confirm(reader, experiment, checkpoints))


def _left_to_confirm(reader: Reader, experiment: Experiment, checkpoints: str) -> Due | None:
    """What the answer still needs, by the statistics of the whole record; None without a confirmation."""
    from rungwise.engine.execution.test_scoring import due

    return due(reader, checkpoints) if experiment.confirmations else None


def _repeats(reader: Reader, experiment: Experiment, left: Due | None) -> list[Repeat]:
    from rungwise.engine.search.reruns import Repeat, repeats

    trials = {trial.trial: trial for trial in current_trials(reader)}
    names = models.names(experiment, trials.values())
    gone = [trials[number] for number in (left.gone if left else ())]
    wanted = [
        *repeats(experiment, trials.values(), reader.curves(), reader.superseded()),
        *(Repeat("confirm", trials[t.source or 0], t.config, t, "its model is gone") for t in gone),
    ]
    return [replace(repeat, config=models.trusted(repeat.config, names)) for repeat in wanted]


def current_trials(reader: Reader) -> list[Trial]:
    """All trials except confirmations of a network that another one has replaced."""
    superseded = reader.superseded()
    return [trial for trial in reader.trials() if trial.phase != "confirm" or trial.trial not in superseded]
