"""The audit of early stopping: what stopped trials score when they are trained to the end afterwards.

An audit repeats a stopped trial with its own seed, so its curve is the one that stopping cut off. Together with the
trials that reached the end by themselves they tell how well a rung foresees the end.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rungwise.results.record.reader import Reader
from rungwise.results.record.types import ReportRow, State

FORESIGHT = 0.7  # rank correlation with the end from which a rung is worth stopping at
FEWEST = 4  # pairs below which a correlation is not worth a number


@dataclass(frozen=True, slots=True)
class Rung:
    """How well the objective at `epoch` foresees the one at the end."""

    epoch: float
    n: int  # trials known at both
    correlation: float | None  # Spearman's rho; None for fewer than FEWEST, or when all are equal


@dataclass(frozen=True, slots=True)
class Audit:
    """`regret`: by how much the best audited trial beat the best that was allowed to finish, in the objective; 0 when
    none did. `grace` in epochs: the first rung that foresees the end well enough, None when none does."""

    stopped: int
    audited: int
    epochs_saved: float  # by stopping, all stopped trials together
    share_saved: float  # of training every trial to the end
    regret: float | None
    winner: int | None  # the stopped trial that would have won
    rungs: tuple[Rung, ...]
    grace: float | None

    def asdict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def audit(reader: Reader) -> Audit | None:
    """The audit of a sweep; None when nothing was audited to the end."""
    with reader.snapshot():
        definition = reader.definition()
        trials, curves = reader.trials(), reader.curves()
    metric, sign = definition.metric, definition.sign
    searched = [trial for trial in trials if trial.phase == "search"]
    stopped = [trial for trial in searched if trial.state is State.STOPPED]
    audits = {t.source: t.trial for t in trials if t.phase == "audit" and t.state is State.COMPLETED and t.source}
    if not audits:
        return None
    finished = [trial.trial for trial in searched if trial.state is State.COMPLETED]
    full = {number: _scores(curves.get(number, {}), metric, sign) for number in [*finished, *audits.values()]}
    full = {number: scores for number, scores in full.items() if scores}
    last = {number: scores[max(scores)] for number, scores in full.items()}
    won = max((last[number] for number in finished if number in last), default=None)
    best = max(((last[number], source) for source, number in audits.items() if number in last), default=None)
    regret = None if won is None or best is None else max(0.0, best[0] - won)
    budget = float(definition.trial_epochs) or max(max(scores) for scores in full.values())
    saved = sum(budget - (trial.stop_rung or 0.0) for trial in stopped)
    epochs = sorted({trial.stop_rung for trial in stopped if trial.stop_rung is not None})
    rungs = tuple(_rung(epoch, full, last) for epoch in epochs)
    return Audit(
        stopped=len(stopped),
        audited=len(audits),
        epochs_saved=saved,
        share_saved=saved / (budget * len(searched)),
        regret=regret,
        winner=best[1] if regret and best else None,
        rungs=rungs,
        grace=next((rung.epoch for rung in rungs if (rung.correlation or 0.0) >= FORESIGHT), None),
    )


def _scores(curve: Mapping[int, ReportRow], metric: str, sign: float) -> dict[float, float]:
    """{epoch: score}, higher is better."""
    scores = {row.metrics["epoch"]: sign * row.metrics.get(metric, math.nan) for row in curve.values()}
    return {epoch: score for epoch, score in scores.items() if math.isfinite(score)}


def _rung(epoch: float, full: Mapping[int, Mapping[float, float]], last: Mapping[int, float]) -> Rung:
    pairs = [(scores[epoch], last[number]) for number, scores in full.items() if epoch in scores]
    return Rung(epoch, len(pairs), rank_correlation(pairs))


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's rho; None for fewer than FEWEST pairs, or when all values of one side are equal."""
    from scipy.stats import spearmanr

    if len(pairs) < FEWEST or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)
