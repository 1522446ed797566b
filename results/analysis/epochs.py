"""Trials asked for, epochs trained, and epochs that a sweep without early stopping would have trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rungwise.results.io.formatting import count, percent
from rungwise.results.record.definition import Definition
from rungwise.results.record.types import State, Trial
from rungwise.text import plural


@dataclass(frozen=True, slots=True)
class EpochCount:
    """Epochs of the trials that ended; a FAILED one counts in neither number."""

    trained: float
    full: float  # had every trial run to the end

    @property
    def saved(self) -> float | None:
        """Share of `full` that early stopping left out."""
        return 1 - self.trained / self.full if self.full else None


def epoch_count(trials: Iterable[tuple[Trial, float]], budget: float, folds: int = 0) -> EpochCount:
    """Count. Where `epochs` is searched, a small budget of a trial's own is nothing that early stopping saved.

    Args:
        trials: each with the epochs that it reached.
        budget: epochs of a trial that runs to the end, where its configuration has none of its own.
        folds: for which each trial trains a model; 0: it trains one.
    """
    ended = [(trial, reached) for trial, reached in trials if trial.state.ended and trial.state is not State.FAILED]
    models = folds or 1
    full = [max(reached, float(trial.config.get("epochs", budget / models) * models)) for trial, reached in ended]
    return EpochCount(sum(reached for _, reached in ended), sum(full))


def trials_text(definition: Definition) -> str:
    """'160: 16 in each of 5 searches of 2 arms, 5 folds each'; of one search of one arm '32'."""
    arms, searches = len(definition.arms), definition.searches
    if definition.budget == "epochs":
        each = definition.epochs_of_search
        of = plural(searches * arms, "search", "searches")
        return f"as many as {each * searches * arms:,} epochs take: {each:,} in each of {of}"
    where = f"{arms} arms" if searches == 1 else f"{searches} searches"
    where += f" of {arms} arms" if searches > 1 and arms > 1 else ""
    total, folds = f"{definition.all_trials:,}", f", {definition.folds} folds each" if definition.folds else ""
    return (total if arms * searches <= 1 else f"{total}: {definition.trials:,} in each of {where}") + folds


def again_text(trials: Iterable[tuple[Trial, float]]) -> str:
    """'180 more to confirm and audit': epochs trained besides the search, and what for; "" without any.

    Args:
        trials: those of all phases, each with the epochs that it reached.
    """
    again = [(trial, reached) for trial, reached in trials if trial.phase != "search" and reached]
    audits = [trial.phase == "audit" for trial, _ in again]
    purposes = [*(["confirm"] if not all(audits) else []), *(["audit"] if any(audits) else [])]
    return f"{count(sum(reached for _, reached in again))} more to {' and '.join(purposes)}" if again else ""


def cost_text(search: EpochCount, again: str) -> str:
    """'101 of 192 trained in the search (early stopping saved 47%), 180 more to confirm'"""
    if search.saved is None:
        return "no trial has ended yet"
    saved = f"early stopping saved {percent(search.saved)}"
    text = f"{count(search.trained)} of {count(search.full)} trained in the search ({saved})"
    return f"{text}, {again}" if again else text
