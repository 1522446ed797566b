"""What a run still lacks: trials of its search, reruns, and models that the answer needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rungwise.engine.experiment import own_models as models
from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.flags import Options
from rungwise.engine.schedulers.budget import SearchBudget
from rungwise.results.analysis.answer import answer
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import Trial
from rungwise.storage import absolute, below
from rungwise.trainable.messages import SCORED_PHASES, StudyKey
from rungwise.trainable.worker.checkpoints import FOLDER

if TYPE_CHECKING:
    from rungwise.engine.search.reruns import Repeat


def checkpoint_root(options: Options) -> str:
    """Path or URI below which the run's trials keep their checkpoints."""
    return absolute(below(options.mirror or options.out, options.name, FOLDER))


def has_work(folder: Path, experiment: Experiment, checkpoints: str) -> bool:
    """Whether the record in `folder` lacks anything that the experiment asks for."""
    with Reader(folder) as reader:
        from rungwise.engine.execution.test_scoring import due

        trials = reader.trials()
        if any(not trial.state.ended for trial in trials):
            return True
        steps = {number: max(curve) for number, curve in reader.curves().items()}
        ended = SearchBudget.of_record(experiment, trials, steps).ended_studies(())
        if len(ended) < len(experiment.studies):
            return True
        if missing_repeats(reader, experiment, checkpoints):
            return True
        return bool(experiment.confirmations and due(reader, checkpoints))


def studies_in(folder: Path, experiment: Experiment) -> list[StudyKey]:
    """The searches that are asked for, and those that the record holds besides: they may have a trial in flight."""
    with Reader(folder) as reader:
        held = [trial.study for trial in reader.trials("search")]
    return list(dict.fromkeys([*experiment.studies, *held]))


def missing_repeats(reader: Reader, experiment: Experiment, checkpoints: str, *, is_over: bool = False) -> list[Repeat]:
    """The reruns that the record does not hold yet. Those that follow from the answer, which takes a while to compute,
    come when all others have ended: the refits, and what the answer needs whose model is gone.

    `is_over`: the time budget has ended all searches.
    """
    from rungwise.engine.search.reruns import repeats

    trials = {trial.trial: trial for trial in current_trials(reader)}
    names = models.names(experiment, trials.values())
    wanted = repeats(experiment, trials.values(), reader.curves(), reader.superseded(), is_over=is_over)
    if not wanted and experiment.confirmations and all(trial.state.ended for trial in trials.values()):
        wanted = _repeats_for_answer(reader, experiment, checkpoints, trials)
    return [replace(repeat, config=models.trusted(repeat.config, names)) for repeat in wanted]


def _repeats_for_answer(
    reader: Reader, experiment: Experiment, checkpoints: str, trials: Mapping[int, Trial]
) -> list[Repeat]:
    from rungwise.engine.execution.test_scoring import due
    from rungwise.engine.search.reruns import Repeat, refits

    found = answer(reader)
    source = found.model_source
    if source is not None and (wanted := refits(experiment, trials.values(), trials[source])):
        return wanted
    gone = [trials[number] for number in due(reader, checkpoints, found).gone]
    return [
        Repeat(each.phase, trials.get(each.source or 0), each.config, each.study, each, "its model is gone")
        for each in gone
    ]


def current_trials(reader: Reader) -> list[Trial]:
    """All trials except those on fresh seeds of a network that another one has replaced."""
    superseded = reader.superseded()
    return [trial for trial in reader.trials() if trial.phase not in SCORED_PHASES or trial.trial not in superseded]
