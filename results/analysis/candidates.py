"""The configurations that were trained again on fresh seeds: what each scored, and in which order they rank."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

from rungwise.results.analysis.best import LARGEST
from rungwise.results.analysis.findings import Candidate, seeds_by_state
from rungwise.results.analysis.statistics import estimate
from rungwise.results.record.definition import DatasetSummary, Definition
from rungwise.results.record.types import ReportRow, State, Trial, last_metrics

Curves = Mapping[int, Mapping[int, ReportRow]]


def collect_candidates(
    trials: Sequence[Trial], superseded: Set[int], curves: Curves, tested: Mapping[int, float], definition: Definition
) -> list[Candidate]:
    """An arm's configurations that were trained again. Of another network than the one that was accepted since
    (`superseded`) no seed counts, nor what it scored in the search."""
    by_source: dict[int, list[Trial]] = {}
    for trial in trials:
        if trial.phase == "confirm" and trial.source is not None:
            by_source.setdefault(trial.source, []).append(trial)
    sources = {trial.trial: trial for trial in trials}
    return [
        replace(
            collect_seeds(repeats, superseded, curves, tested, definition),
            source=source,
            params=sources[source].params if source in sources else repeats[0].params,
            searched=None if source in superseded else _last(curves.get(source, {}), definition.metric),
        )
        for source, repeats in sorted(by_source.items())
    ]


def collect_seeds(
    repeats: Sequence[Trial], superseded: Set[int], curves: Curves, tested: Mapping[int, float], definition: Definition
) -> Candidate:
    """Trials of one configuration on several seeds, at least one, without what found it."""
    metric = definition.metric
    values: dict[int, float] = {}
    numbers: dict[int, int] = {}
    failed: dict[int, State] = {}
    missing: dict[int, State] = {}
    breaches: dict[int, str] = {}
    other_network = 0
    for trial in repeats:
        value = _last(curves.get(trial.trial, {}), metric)
        configured = trial.config.get("seed")
        seed = configured if isinstance(configured, int) else trial.trial
        if trial.trial in superseded:
            other_network += 1
        elif trial.state is State.COMPLETED and value is not None:
            values[seed], numbers[seed] = value, trial.trial
            if breach := definition.breach(last_metrics(curves[trial.trial])):
                breaches[seed] = breach
        elif trial.state in (State.LOST, State.RUNNING):
            missing[seed] = trial.state
        else:
            failed[seed] = trial.state
    return Candidate(
        source=0,
        params=repeats[0].params,
        config={name: value for name, value in repeats[0].config.items() if name != "seed"},
        searched=None,
        trials=numbers,
        values=values,
        validation=estimate(list(values.values()), share="accuracy" in metric) if values else None,
        test={seed: tested[trial] for seed, trial in numbers.items() if trial in tested},
        failed=failed,
        missing=missing,
        superseded=other_network,
        breaches=breaches,
        search=repeats[0].search,
    )


def refit_values(
    source: int, trials: Sequence[Trial], superseded: Set[int], curves: Curves, metric: str
) -> dict[int, float]:
    """{trial: last validation objective} of the refits of the configuration that search trial `source` found."""
    values = {
        trial.trial: _last(curves.get(trial.trial, {}), metric)
        for trial in trials
        if trial.phase == "refit" and trial.source == source and trial.state is State.COMPLETED
        if trial.trial not in superseded
    }
    return {trial: value for trial, value in values.items() if value is not None}


def rank_candidates(candidates: Sequence[Candidate], mode: str) -> list[Candidate]:
    """Best first: those whose seeds mostly keep the constraints; the fewest seeds that failed, as a share; then the
    best mean, less one standard error of it.

    The record grows, so candidates may have different numbers of seeds: a mean of few is a luckier one, and a seed that
    is missing is not the configuration's fault. All share one standard deviation, so that with equal numbers the mean
    decides.
    """
    spread = [c.validation for c in candidates if c.validation and c.validation.n > 1]
    freedom = sum(validation.n - 1 for validation in spread)
    sd = (
        math.sqrt(sum((validation.n - 1) * (validation.sd or 0.0) ** 2 for validation in spread) / freedom)
        if freedom
        else 0.0
    )

    def rank(candidate: Candidate) -> tuple[bool, float, float, int]:
        validation = candidate.validation
        if validation is None:
            return True, math.inf, math.inf, candidate.source
        failed = len(candidate.failed)
        mean = validation.mean if mode == "min" else -validation.mean
        return (
            candidate.is_infeasible,
            failed / (failed + validation.n),
            mean + sd / math.sqrt(validation.n),
            candidate.source,
        )

    return sorted(candidates, key=rank)


def find_winners(candidates: Sequence[Candidate], mode: str) -> dict[int, Candidate]:
    """{search: its best candidate that has a validation score}."""
    searches = sorted({candidate.search for candidate in candidates})
    ranked = {search: rank_candidates([one for one in candidates if one.search == search], mode) for search in searches}
    winners = {search: next((one for one in some if one.validation), None) for search, some in ranked.items()}
    return {search: winner for search, winner in winners.items() if winner}


def find_failed_searches(trials: Sequence[Trial], winners: Mapping[int, Candidate]) -> list[int]:
    """An arm's searches of which nothing trained to a score, and nothing will."""
    searches = sorted({trial.search for trial in trials} - winners.keys())
    return [search for search in searches if count_failed([trial for trial in trials if trial.search == search])]


def select_scores(candidate: Candidate | None, split: str, constant_score: float | None) -> dict[int, float]:
    """Seed -> score on the split. On the test split failed seeds count, where it is known as what."""
    if candidate is None or split == "validation":
        return dict(candidate.values) if candidate else {}
    failed = {} if constant_score is None else dict.fromkeys(candidate.failed, constant_score)
    return candidate.test | failed


def find_constant_score(
    measured: str, constant: Mapping[str, float], diagnosis: Mapping[str, Any], data: DatasetSummary
) -> float | None:
    """What a constant prediction scores on the test split; of an earlier version's record as far as it says so."""
    if measured in constant:
        return float(constant[measured])
    if measured == "accuracy" and (confusion := diagnosis.get("confusion")):
        of_class = [int(sum(row)) for row in confusion]  # test samples
        return max(of_class) / sum(of_class) if any(of_class) else None
    classes = len(data.classes or ())
    return {"accuracy": 1 / classes, "loss": math.log(classes)}.get(measured) if classes else None


def compute_optimism(chosen: Candidate | None, mode: str) -> float | None:
    if chosen is None or chosen.searched is None or chosen.validation is None:
        return None
    return (chosen.searched - chosen.validation.mean) * (1 if mode == "max" else -1)


def count_failed(trials: Sequence[Trial]) -> dict[State, int]:
    """How an arm's trials ended of which none gave a score; {} while one may still do so."""
    confirmed = {trial.trial: trial.state for trial in trials if trial.phase == "confirm"}
    ended = confirmed or {trial.trial: trial.state for trial in trials if trial.phase == "search"}
    hopeless = all(state in (State.DIVERGED, State.FAILED) for state in ended.values())
    return seeds_by_state(ended) if hopeless else {}


def _last(curve: Mapping[int, ReportRow], metric: str) -> float | None:
    value = last_metrics(curve).get(metric, math.nan)
    return value if abs(value) <= LARGEST else None
