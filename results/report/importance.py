"""Importance of hyperparameters: Optuna's default (PED-ANOVA) over completed trials, with bootstrap intervals.

The question is the one that optuna-dashboard answers, and so are the figures: which hyperparameters decide whether a
completed trial is among the best tenth. Where too few trials completed, as under early stopping, trials are compared at
the highest rung that enough trials reached, by their scores there: last values of trials that were stopped at different
times cannot be compared.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from rungwise.results.exporters.optuna_study import distributions_of
from rungwise.results.record.types import State
from rungwise.results.report.snapshot import Entry, Snapshot

if TYPE_CHECKING:
    import optuna

ARM = "arm"  # as a hyperparameter of its own, where arms are pooled
ALL_ARMS = "all arms"
EVALUATOR = "PED-ANOVA"
TARGET_QUANTILE = 0.1  # Optuna's default: what decides whether a trial is among the best tenth
LEAST = 20  # trials: the best tenth of fewer is one trial
LEAST_OF_LEVEL = 10  # trials, of a rung at which single hyperparameters are drawn
RESAMPLES = 120  # of the bootstrap, of up to `RESAMPLED` trials; fewer of more trials, whose intervals vary less
RESAMPLED = 200
CONFIDENCE = 0.95

Level = Sequence[tuple[Entry, float]]  # trials with the objective by which they are compared


@dataclass(frozen=True)
class Importance:
    """Shares of one view, which sum to 1. `shares` is empty when `why` says why not."""

    view: str  # an arm, or ALL_ARMS
    completed: int
    rung: float | None  # epochs at which trials are compared; None: completed trials, by their last values
    n: int
    shares: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # of CONFIDENCE
    why: str = ""


@dataclass(frozen=True)
class ImportanceAnalysis:
    """What the trials know about the space: importances, and the level at which everything else is drawn."""

    importances: Sequence[Importance]
    names: Sequence[str]  # hyperparameters that were searched, the most important first
    rung: float | None  # the highest rung that enough trials reached
    level: Level  # the trials that reached it, with their objective there


def analyse(snapshot: Snapshot) -> ImportanceAnalysis:
    """Importances in all arms together and in each arm, and the order of hyperparameters that follows from them."""
    views = {arm: [entry for entry in snapshot.search if entry.trial.arm == arm] for arm in snapshot.arms}
    views = {arm: entries for arm, entries in views.items() if entries}
    if len(views) > 1:
        views = {ALL_ARMS: list(snapshot.search), **views}
    importances = [
        importance for view, entries in views.items() for importance in _importances(view, entries, snapshot)
    ]
    names = list(dict.fromkeys(name for entry in snapshot.search for name in entry.trial.params))
    score: dict[str, float] = {}
    for importance in importances:
        for name, share in importance.shares.items():
            score.setdefault(name, share)  # an arm's own importance counts only for what is not in all arms
    names.sort(key=lambda name: -score.get(name, 0.0))  # stable: the space's order where nothing is known
    rung, level = _highest_level(snapshot.search, snapshot.rungs, LEAST_OF_LEVEL)
    return ImportanceAnalysis(importances, names, rung, level)


def _highest_level(entries: Sequence[Entry], rungs: Sequence[float], fewest: int) -> tuple[float | None, Level]:
    """The highest rung that at least `fewest` trials reached, else the one that most reached, with their scores."""
    rung: float | None = None
    level: Level = []
    for candidate in reversed(rungs):
        reached = [(entry, value) for entry in entries if (value := entry.at(candidate)) is not None]
        if len(reached) > len(level) and len(level) < fewest:
            rung, level = candidate, reached
    return rung, level


def _importances(view: str, entries: Sequence[Entry], snapshot: Snapshot) -> list[Importance]:
    """Of completed trials, or of the highest rung with enough; and of the first rung, before any trial was stopped."""
    completed = [
        (entry, entry.curve[-1][1])
        for entry in entries
        if entry.trial.state is State.COMPLETED and entry.curve and math.isfinite(entry.curve[-1][1])
    ]
    if len(completed) >= LEAST:
        levels: list[tuple[float | None, Level]] = [(None, completed)]
    else:
        highest = _highest_level(entries, snapshot.rungs, LEAST)
        levels = [highest if len(highest[1]) >= LEAST else (None, completed)]
    first = snapshot.rungs[0] if snapshot.rungs else None
    if first is not None and levels[0][0] != first:
        reached = [(entry, value) for entry in entries if (value := entry.at(first)) is not None]
        if len(reached) > len(levels[0][1]) and len(reached) >= LEAST:
            levels.append((first, reached))
    return [_importance(Importance(view, len(completed), rung, len(level)), level, snapshot) for rung, level in levels]


def _importance(empty: Importance, level: Level, snapshot: Snapshot) -> Importance:
    """`empty` with its shares and intervals, or with why there are none."""
    if len(level) < LEAST:
        return replace(empty, why=f"too few to say (n={len(level)}, {LEAST} are needed)")
    if len({value for _, value in level}) < 2:
        return replace(empty, why="all trials have the same value")
    trials = _frozen_trials(level)
    values: dict[str, set[str]] = {}
    for trial in trials:
        for name, value in trial.params.items():
            values.setdefault(name, set()).add(str(value))
    if not any(len(different) > 1 for different in values.values()):
        return replace(empty, why="no hyperparameter has two values")  # PED-ANOVA would say something nonetheless
    shares = _shares(trials, snapshot.sign)
    if not shares:
        return replace(empty, why="no hyperparameter tells the best tenth from the rest")
    return replace(empty, shares=shares, intervals=_bootstrap_intervals(trials, snapshot.sign, shares))


def _frozen_trials(level: Level) -> list[optuna.trial.FrozenTrial]:
    """The trials as COMPLETE ones of Optuna; where arms are pooled, the arm is a hyperparameter, too."""
    import optuna

    arms = tuple(sorted({entry.trial.arm for entry, _ in level}))
    arm_distribution = optuna.distributions.CategoricalDistribution(arms)
    texts = {text for entry, _ in level for text in entry.trial.distributions.values()}
    known = distributions_of({text: text for text in texts})  # one object each: they are compared very often
    trials = []
    for number, (entry, value) in enumerate(level):
        params: dict[str, Any] = {name: entry.trial.params[name] for name in entry.trial.distributions}
        distributions = {name: known[text] for name, text in entry.trial.distributions.items()}
        if len(arms) > 1:
            params[ARM], distributions[ARM] = entry.trial.arm, arm_distribution
        if not all(_contains(distributions[name], setting) for name, setting in params.items()):
            continue
        trial = optuna.trial.create_trial(params=params, distributions=distributions, value=value)
        trial.number = trial._trial_id = number
        trials.append(trial)
    return trials


def _contains(distribution: optuna.distributions.BaseDistribution, value: Any) -> bool:
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except ValueError:
        return False


def _bootstrap_intervals(
    trials: Sequence[optuna.trial.FrozenTrial], sign: float, shares: Mapping[str, float]
) -> dict[str, tuple[float, float]]:
    """Percentile intervals over resampled trials, with a fixed seed: the same record gives the same page.

    A resample holds copies, which PED-ANOVA takes for denser regions; an interval is widened to contain its share.
    """
    luck = random.Random(0)
    count = max(40, RESAMPLES * RESAMPLED // max(RESAMPLED, len(trials)))
    resampled = [_shares(luck.choices(trials, k=len(trials)), sign) for _ in range(count)]
    tail = (1 - CONFIDENCE) / 2
    intervals = {}
    for name, share in shares.items():
        ranked = sorted(found.get(name, 0.0) for found in resampled if found)
        low, high = (ranked[round(quantile * (len(ranked) - 1))] for quantile in (tail, 1 - tail))
        intervals[name] = (min(low, share), max(high, share))
    return intervals


def _shares(trials: Sequence[optuna.trial.FrozenTrial], sign: float) -> dict[str, float]:
    """Hyperparameter -> share of what all of them explain; {} when they explain nothing."""
    import warnings

    from optuna.importance import PedAnovaImportanceEvaluator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns of every hyperparameter that few trials have
        evaluator = PedAnovaImportanceEvaluator(target_quantile=TARGET_QUANTILE)
        raw = evaluator.evaluate(cast("optuna.Study", _TrialsAsStudy(trials, sign)))
    total = sum(value for value in raw.values() if math.isfinite(value))
    return {name: value / total for name, value in raw.items()} if total > 0 else {}


class _TrialsAsStudy:
    """What the evaluator asks of a study; a real one copies every trial that is added, 200 times over."""

    def __init__(self, trials: Sequence[optuna.trial.FrozenTrial], sign: float) -> None:
        from optuna.study import StudyDirection

        self._trials = list(trials)
        self.directions = [StudyDirection.MAXIMIZE if sign > 0 else StudyDirection.MINIMIZE]

    def get_trials(self, deepcopy: bool = False, states: object = None) -> list[optuna.trial.FrozenTrial]:
        return self._trials

    def _is_multi_objective(self) -> bool:
        return False
