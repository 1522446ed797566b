"""Reruns of trials after a search: confirmations on fresh seeds, and audits of early stopping.

The best of many noisy scores is a lucky one (the winner's curse), so each search's best configurations are trained
again, on seeds that no trial of the search had. The confirmation of a search begins when that search ends, whatever the
others do, and has seeds of its own: searches are compared as independent ones. (The first search of every arm has the
same seeds, as in runs of earlier versions.)

A refit trains the best configuration of all on further seeds, once all confirmations have ended: the more seeds, the
better the best model of them. No comparison looks at it, as the others have no such seeds.

The untuned control trains with the defaults what the first arm tunes, on as many groups of fresh seeds as there are
searches: what tuning gained shows against it.

An audit trains a stopped trial again, with its own seed, to the end: it is what would have become of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any, Self

from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.schedulers.budget import SearchBudget
from rungwise.engine.search.seeds import derived_seed
from rungwise.results.record.types import ReportRow, State, Trial, last_metrics
from rungwise.trainable.messages import UNTUNED, StudyKey

Curves = Mapping[int, Mapping[int, ReportRow]]


@dataclass(frozen=True)
class Repeat:
    """One trial to be trained besides the searches."""

    phase: str  # confirm, refit, untuned or audit
    source: Trial | None  # the search trial that it repeats; None of the defaults
    config: dict[str, Any]
    study: StudyKey
    again: Trial | None = None  # the record's trial of it, whose outcome is missing
    why: str = ""  # it is
    rank: int = 0  # of a confirmed configuration in its search, the best one first
    repetition: int = 0  # which of its fresh seeds, from 0

    @property
    def key(self) -> tuple[str, int, int]:
        """What tells it from all others of its run."""
        return self.phase, self.source.trial if self.source else 0, self.config["seed"]

    @classmethod
    def of(cls, phase: str, source: Trial, config: dict[str, Any], **more: Any) -> Self:
        """A repetition of the search trial `source`."""
        return cls(phase, source, config, source.study, **more)


def repeats(
    experiment: Experiment,
    trials: Iterable[Trial],
    curves: Curves,
    superseded: Set[int] = frozenset(),
    *,
    is_over: bool = False,
) -> list[Repeat]:
    """All that the record `trials` ask for and do not hold yet: confirmations of the searches that have ended, seed by
    seed, the defaults, and when all have ended audits.

    LOST is no outcome: such a trial is trained again. `is_over`: the time budget has ended all searches.
    """
    trials = list(trials)
    searched = [trial for trial in trials if trial.phase == "search"]
    steps = {number: max(curve) for number, curve in curves.items() if curve}
    in_flight = {trial.study for trial in searched if not trial.state.ended}
    budget = SearchBudget.of_record(experiment, searched, steps)
    budget.is_over = is_over
    ended = budget.ended_studies(in_flight)
    count = experiment.confirm_configs
    best = [
        (rank, trial)
        for study in ended
        for rank, trial in enumerate(best_of(study, searched, curves, experiment, superseded)[:count])
    ]
    wanted = [
        Repeat.of(
            "confirm",
            trial,
            {**_config(trial, experiment), "seed": confirmation_seed(experiment, trial.study, repetition)},
            rank=rank,
            repetition=repetition,
        )
        for repetition in range(experiment.confirm_seeds)
        for rank, trial in best
    ]
    wanted += _untuned(experiment)
    if len(ended) == len(experiment.studies):
        wanted += [Repeat.of("audit", trial, _config(trial, experiment)) for trial in audited(searched, experiment)]
    return _without_held(wanted, trials)


def refits(experiment: Experiment, trials: Iterable[Trial], best: Trial) -> list[Repeat]:
    """The refits of the search trial `best` that the record does not hold yet, or LOST."""
    wanted = [
        Repeat.of(
            "refit",
            best,
            {**_config(best, experiment), "seed": derived_seed(experiment.seed, "refit", repetition + 1)},
            repetition=repetition,
        )
        for repetition in range(experiment.refit_seeds)
    ]
    return _without_held(wanted, trials)


def _untuned(experiment: Experiment) -> list[Repeat]:
    """Trainings with the defaults, of all searches."""
    if not experiment.untuned_seeds or (defaults := experiment.untuned_config) is None:
        return []
    return [
        Repeat(
            UNTUNED,
            None,
            {**defaults, "seed": derived_seed(experiment.seed, UNTUNED, search, repetition + 1)},
            StudyKey(UNTUNED, search),
            repetition=repetition,
        )
        for search in range(1, experiment.searches + 1)
        for repetition in range(experiment.untuned_seeds)
    ]


def _without_held(wanted: Iterable[Repeat], trials: Iterable[Trial]) -> list[Repeat]:
    """Those of which the record has no outcome."""
    wanted = list(wanted)
    held = {(trial.phase, trial.source or 0, trial.config.get("seed")): trial for trial in trials}
    lost = [
        replace(repeat, again=trial, why=f"it was LOST: {trial.reason}")
        for repeat in wanted
        if (trial := held.get(repeat.key)) and trial.state is State.LOST
    ]
    return lost + [repeat for repeat in wanted if repeat.key not in held]


def _config(trial: Trial, experiment: Experiment) -> dict[str, Any]:
    """The configuration of a repetition, with what the trial asked for while it ran."""
    return {**trial.params, **trial.config} if experiment.trained_by.asks else dict(trial.config)


def confirmation_seed(experiment: Experiment, study: StudyKey, repetition: int) -> int:
    """The fresh seed of a confirmation; `repetition` counts from 0."""
    of_search = () if study.search == 1 else study
    return derived_seed(experiment.seed, "confirm", *of_search, repetition + 1)


def best_of(
    study: StudyKey,
    searched: Iterable[Trial],
    curves: Curves,
    experiment: Experiment,
    superseded: Set[int] = frozenset(),
) -> list[Trial]:
    """The search's trials that break no constraint, best first: those trained to their end first, then those trained
    longest, then by their last objective.

    Only scores after equal training compare, so a trial that was stopped counts when too few reached the end. A trial
    whose budget is its own (a search over `epochs`), or whose training ended by itself, is trained to its end, too.
    Trials of a network that another one has replaced (`superseded`) come after all others.
    """
    ranked = []
    for trial in searched:
        if trial.study != study or trial.state not in (State.COMPLETED, State.STOPPED):
            continue
        curve = curves.get(trial.trial, {})
        metrics = last_metrics(curve)
        value = experiment.sign * metrics.get(experiment.metric, math.nan)
        if math.isfinite(value) and experiment.breach(metrics) is None:
            trained = math.inf if trial.state is State.COMPLETED else max(curve, default=0)
            ranked.append(((trial.trial not in superseded, trained, value), trial))
    return [trial for _, trial in sorted(ranked, key=lambda pair: pair[0], reverse=True)]


def audited(searched: Iterable[Trial], experiment: Experiment) -> list[Trial]:
    """The stopped trials that are audited: drawn by their number, so that a resumed sweep draws the same ones."""
    return [
        trial
        for trial in searched
        if trial.state is State.STOPPED
        and derived_seed(experiment.seed, "audit", trial.trial) < experiment.audit * 2**31
    ]
