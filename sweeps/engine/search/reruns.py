"""What is trained again once the search is over: confirmations on fresh seeds, and audits of early stopping.

The best of many noisy scores is a lucky one (the winner's curse), so each arm's best few configurations are trained
again, on seeds that no trial of the search had. The same seeds serve all arms.

An audit trains a stopped trial again, with its own seed, to the end: it is what would have become of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.search.seeds import derived_seed
from rungwise.results.record.types import ReportRow, State, Trial

Curves = Mapping[int, Mapping[int, ReportRow]]


@dataclass(frozen=True)
class Repeat:
    """One trial to be trained again."""

    phase: str  # confirm or audit
    source: Trial
    config: dict[str, Any]
    again: Trial | None = None  # the record's trial of it, whose outcome is missing
    why: str = ""  # it is

    @property
    def key(self) -> tuple[str, int, int]:
        """What tells it from all others of its run."""
        return self.phase, self.source.trial, self.config["seed"]


def repeats(experiment: Experiment, trials: Iterable[Trial], curves: Curves) -> list[Repeat]:
    """All that the record `trials` ask for and do not hold yet: audits first, then confirmations, seed by seed.

    LOST is no outcome: such a trial is trained again.
    """
    trials = list(trials)
    held = {(trial.phase, trial.source, trial.config.get("seed")): trial for trial in trials}
    searched = [trial for trial in trials if trial.phase == "search"]
    wanted = [Repeat("audit", trial, _config(trial, experiment)) for trial in audited(searched, experiment)]
    count = experiment.confirm_configs
    best = [trial for arm in experiment.arms for trial in best_of(arm, searched, curves, experiment)[:count]]
    wanted += [
        Repeat(
            "confirm", trial, {**_config(trial, experiment), "seed": derived_seed(experiment.seed, "confirm", number)}
        )
        for number in range(1, experiment.confirm_seeds + 1)
        for trial in best
    ]
    lost = [
        replace(repeat, again=trial, why=f"it was LOST: {trial.reason}")
        for repeat in wanted
        if (trial := held.get(repeat.key)) and trial.state is State.LOST
    ]
    return lost + [repeat for repeat in wanted if repeat.key not in held]


def _config(trial: Trial, experiment: Experiment) -> dict[str, Any]:
    """The configuration of a repetition, with what the trial asked for while it ran."""
    return {**trial.params, **trial.config} if experiment.trained_by.asks else dict(trial.config)


def best_of(arm: str, searched: Iterable[Trial], curves: Curves, experiment: Experiment) -> list[Trial]:
    """The arm's trials, best first: those trained longest first, then by their last objective.

    Only scores after equal training compare, so a trial that was stopped counts when too few reached the end.
    """

    def rank(trial: Trial) -> tuple[int, float]:
        curve = curves.get(trial.trial, {})
        last = max(curve, default=0)
        return last, experiment.sign * curve[last].metrics.get(experiment.metric, math.nan) if last else math.nan

    ranked = [
        (rank(trial), trial)
        for trial in searched
        if trial.arm == arm and trial.state in (State.COMPLETED, State.STOPPED)
    ]
    ranked = [pair for pair in ranked if math.isfinite(pair[0][1])]
    return [trial for _, trial in sorted(ranked, key=lambda pair: pair[0], reverse=True)]


def audited(searched: Iterable[Trial], experiment: Experiment) -> list[Trial]:
    """The stopped trials that are audited: drawn by their number, so that a resumed sweep draws the same ones."""
    return [
        trial
        for trial in searched
        if trial.state is State.STOPPED
        and derived_seed(experiment.seed, "audit", trial.trial) < experiment.audit * 2**31
    ]
