"""Importance of hyperparameters at equal epochs: fANOVA or PED-ANOVA over the scores at each rung.

Trials are compared at a rung, by the objective that each trial that reached it reported there. The last values of
trials that were stopped at different times cannot be compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rungwise.results.exporters.optuna_study import distributions_of, quiet_optuna
from rungwise.results.report.snapshot import Entry, Snapshot

if TYPE_CHECKING:
    import optuna

ARM = "arm"  # as a hyperparameter of its own, where arms are pooled
FANOVA_MOST = 64  # trials; beyond, fANOVA's trees take seconds, and PED-ANOVA has enough trials to count
FANOVA_LEAST = 10
PED_LEAST = 30
QUANTILE = 0.25  # PED-ANOVA: what decides whether a trial is among the best quarter
TREES = 16


@dataclass(frozen=True)
class Importance:
    """Shares of one rung in one view. `shares` is empty when `why` says why not."""

    view: str  # an arm, or "all arms"
    rung: float
    n: int
    shares: Mapping[str, float]
    why: str = ""


@dataclass(frozen=True)
class ImportanceAnalysis:
    """What the rungs know about the space: importances, and the level at which everything else is drawn."""

    method: str
    importances: Sequence[Importance]
    names: Sequence[str]  # hyperparameters that were searched, the most important first
    rung: float | None  # the highest rung that enough trials reached
    level: Sequence[tuple[Entry, float]]  # the trials that reached it, with their objective there


def analyse(snapshot: Snapshot) -> ImportanceAnalysis:
    """Importances of every rung, and the order of hyperparameters that follows from them."""
    use_fanova = len(snapshot.search) <= FANOVA_MOST
    fewest = FANOVA_LEAST if use_fanova else PED_LEAST
    views = {arm: [entry for entry in snapshot.search if entry.trial.arm == arm] for arm in snapshot.arms}
    views = {arm: entries for arm, entries in views.items() if entries}
    if len(views) > 1:
        views = {"all arms": list(snapshot.search), **views}
    importances = [
        _importance(view, entries, rung, fewest, use_fanova, snapshot)
        for view, entries in views.items()
        for rung in snapshot.rungs
    ]
    names = list(dict.fromkeys(name for entry in snapshot.search for name in entry.trial.params))
    score: dict[str, float] = {}
    for view in views:
        computed = [importance for importance in importances if importance.view == view and importance.shares]
        for name, share in (computed[-1].shares if computed else {}).items():
            score.setdefault(name, share)  # an arm's own importance counts only for what is not in all arms
    names.sort(key=lambda name: -score.get(name, 0.0))  # stable: the space's order where nothing is known
    rung: float | None = None
    level: list[tuple[Entry, float]] = []
    for candidate in reversed(snapshot.rungs):
        reached = [(entry, value) for entry in snapshot.search if (value := entry.at(candidate)) is not None]
        if len(reached) > len(level) and len(level) < fewest:
            rung, level = candidate, reached
    return ImportanceAnalysis("fANOVA" if use_fanova else "PED-ANOVA", importances, names, rung, level)


def _importance(
    view: str, entries: Sequence[Entry], rung: float, fewest: int, use_fanova: bool, snapshot: Snapshot
) -> Importance:
    level = [(entry, value) for entry in entries if (value := entry.at(rung)) is not None]
    if len(level) < fewest:
        return Importance(view, rung, len(level), {}, f"n={len(level)} is too few, {fewest} are needed")
    if len({value for _, value in level}) < 2:
        return Importance(view, rung, len(level), {}, "all trials have the same value")
    pooled = len({entry.trial.arm for entry, _ in level}) > 1
    common = _common(entry for entry, _ in level)
    if not common:
        return Importance(view, rung, len(level), {}, "the trials share no searched hyperparameter")
    study = _study(level, common, pooled, snapshot)
    return Importance(view, rung, len(level), _shares(study, use_fanova))


def _common(entries: Iterator[Entry]) -> dict[str, str]:
    """Hyperparameters with one and the same distribution in every trial; of one that was widened, the last."""
    first, *others = entries
    common = dict(first.trial.distributions)
    for entry in others:
        distributions = entry.trial.distributions
        common = {name: distributions[name] for name in common if name in distributions}
    return common


@quiet_optuna()
def _study(
    level: Sequence[tuple[Entry, float]], common: Mapping[str, str], pooled: bool, snapshot: Snapshot
) -> optuna.Study:
    import optuna

    distributions = distributions_of(common)
    if pooled:
        distributions[ARM] = optuna.distributions.CategoricalDistribution(
            tuple(sorted({entry.trial.arm for entry, _ in level}))
        )
    study = optuna.create_study(direction="maximize" if snapshot.sign > 0 else "minimize")
    for entry, value in level:
        params = {name: entry.trial.params[name] for name in common} | ({ARM: entry.trial.arm} if pooled else {})
        if not all(_contains(distributions[name], value) for name, value in params.items()):
            continue
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
    return study


def _contains(distribution: optuna.distributions.BaseDistribution, value: Any) -> bool:
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except ValueError:
        return False


def _shares(study: optuna.Study, use_fanova: bool) -> dict[str, float]:
    """Hyperparameter -> share of what all of them explain, summing to 1."""
    import warnings

    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns that an evaluator is experimental
        if use_fanova:
            raw = FanovaImportanceEvaluator(n_trees=TREES, seed=0).evaluate(study)
        else:
            raw = PedAnovaImportanceEvaluator(target_quantile=QUANTILE).evaluate(study)
    total = sum(value for value in raw.values() if math.isfinite(value) and value > 0)
    return {name: max(0.0, value) / total for name, value in raw.items()} if total > 0 else {}
