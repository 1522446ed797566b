"""Sentences of notes: what a careful reader wants to know before believing an answer."""

from __future__ import annotations

from rungwise.results.analysis.findings import (
    ArmBudgets,
    ArrivalOrder,
    AsGoodAsNone,
    BrokenConstraint,
    BudgetDecides,
    CrossValidation,
    EdgeOfSpace,
    FailedSearches,
    FailedSeeds,
    Findings,
    IntervalScope,
    KeptModel,
    MissingSeeds,
    Note,
    OneSeed,
    RepeatedLooks,
    Replicate,
    SampleError,
    SeedIgnored,
    SupersededSeeds,
    UntilSure,
    WinnersCurse,
)
from rungwise.results.analysis.phrasing.parts import PERCENT, ordinal, states_text
from rungwise.results.analysis.statistics import CONFIDENCE
from rungwise.results.io.formatting import conjunction
from rungwise.results.io.formatting import epochs as epochs_text
from rungwise.results.record.types import State
from rungwise.text import plural

# What `python benchmarks/simulate.py --aa 200` counts: simulated sweeps of two identical arms, and those of which
# the answer said "helps" or "hurts".
IDENTICAL_SWEEPS, FALSE_VERDICTS = 200, 7
UNEQUAL = 1.2  # ratio of two arms' epochs above which the other way to deal is named


def note_texts(findings: Findings) -> tuple[str, ...]:
    """The notes in words, a line each, but for those that the answer's sentences say already."""
    return tuple(note_text(note, findings) for note in findings.notes if not is_of_winner(note))


def note_text(note: Note, findings: Findings) -> str:
    """One note in words."""
    score, objective = findings.format, findings.objective_format
    match note:
        case WinnersCurse(arm, source, searched, confirmed, optimism):
            return (
                f"Winner's curse, {arm}: trial {source} ended with {objective.value(searched)} {objective.measure} in "
                f"the search, the same settings average {objective.value(confirmed)} on fresh seeds: the search was "
                f"optimistic by {objective.amount(optimism)}."
            )
        case FailedSeeds() | MissingSeeds():
            return seed_text(note, findings)
        case SupersededSeeds(arm, source, count):
            return f"Confirmations of {arm}, trial {source}, that do not count: {count} of another network."
        case EdgeOfSpace(arm, name, value, low, high):
            if low == 0 and value < high / 2:  # there is no less
                return f"The best configuration of {arm} has next to no {name} ({value:.3g} of 0 to {high:.3g})."
            return (
                f"The best configuration of {arm} is at the edge of {name} ({value:.3g} of {low:.3g} to {high:.3g}): "
                "another range may change this answer."
            )
        case AsGoodAsNone(arm, name, value, low, high, control):
            return (
                f"The {name} that was found with {arm} ({value:.3g} of {low:.3g} to {high:.3g}) is as good as none, "
                f"which is what {control} has."
            )
        case IntervalScope():
            return _scope(note, findings)
        case SampleError(samples, margins):
            arms = ", ".join(f"{score.change(margin)} ({arm})" for arm, margin in margins.items())
            return (
                f"On another {samples:,} samples an accuracy would differ by about \N{PLUS-MINUS SIGN} "
                f"{arms if len(margins) > 1 else score.change(next(iter(margins.values())))} points. A difference "
                "changes by less, because all arms are scored on the same samples."
            )
        case BrokenConstraint(arm, source, count, seeds, example):
            return f"Trial {source} of {arm} breaks a constraint on {count} of {seeds} fresh seeds: {example}."
        case BudgetDecides(first, until, later, start):
            return (
                f"Up to {plural(until, 'trial')} {first} is ahead, from {start} on {later}: the answer depends on the "
                "budget (best validation score after that many trials, mean over searches)."
            )
        case SeedIgnored(arm, seeds):
            which = "Both" if seeds == 2 else f"All {seeds}"
            return (
                f"{which} seeds of {arm} gave the same number: training seems to ignore trial.seed, so there is "
                "no interval over seeds."
            )
        case OneSeed(arm):
            return f"{arm} has one seed, which has no spread: confirm on two or more for an interval."
        case KeptModel():
            return _kept_model(note, findings)
        case RepeatedLooks(looks):
            counts = conjunction([f"{count}" for count in looks])
            return (
                f"The test split was scored after {counts} searches per arm. Looking several times at a "
                f"{PERCENT} interval misleads in more than {1 - CONFIDENCE:.0%} of the cases."
            )
        case UntilSure(most):
            return (
                f"Searches were added until the answer was sure, up to {most} per arm: differences have wider "
                f"intervals, which hold for all looks together with {PERCENT} (repeated t-tests at a constant level)."
            )
        case FailedSearches(arm, count, searches, counted_as):
            counted = "left out" if counted_as is None else f"each counts as {score.value(counted_as)}"
            return (
                f"Of {plural(searches, 'search', 'searches')} of {arm}, {count} found nothing that trains: {counted}."
            )
        case ArmBudgets(trials, epochs):
            each = [f"{arm}: {plural(trials[arm], 'trial')}, {epochs_text(epochs[arm])}" for arm in trials]
            text = f"Budget of the searches: {'; '.join(each)}."
            if max(epochs.values()) > UNEQUAL * min(epochs.values()):
                text += " --budget epochs gives every search equally many epochs."
            return text
        case CrossValidation(folds, parts):
            text = f"Validation scores are means over {folds} folds; of a trial that was stopped, over fewer."
            if parts is None:
                return f"{text} The models that are tested are trained on all folds."
            return (
                f"{text} Each search has another {ordinal(parts)} of the samples as its test split, and never sees it; "
                "the models that are tested are trained on all the others."
            )
        case ArrivalOrder():
            return (
                "Trials were suggested in the order in which others ended (--order arrival): the same command may "
                "suggest others, and give another answer."
            )


def _kept_model(note: KeptModel, findings: Findings) -> str:
    count = note.seeds + note.refits
    seeds = "the only seed" if count == 1 else "the better of 2 seeds" if count == 2 else f"the best of {count} seeds"
    text = f"The model that is kept is that of trial {note.trial}"
    if findings.model_score is not None and note.refits:
        text += f" ({findings.format.value(findings.model_score)} {findings.measure})"
    if note.searches > 1:
        text += f": {seeds} of the best configuration that the {note.searches} searches of {note.arm} found, both by "
        text += "validation. Scores of arms are means over searches"
    else:
        text += f", the best by validation of {count} seeds of {note.arm}" if count > 1 else f", {seeds} of {note.arm}"
        text += ". Scores of arms are means over seeds"
    return (
        f"{text}, without the {plural(note.refits, 'seed')} that were added for the model."
        if note.refits
        else f"{text}."
    )


def _scope(scope: IntervalScope, findings: Findings) -> str:
    replicate, comparisons, crossed = scope.replicate, scope.comparisons, scope.crossed
    together = (
        f" Those of differences are widened to hold for all {comparisons} comparisons together (Bonferroni)."
        if comparisons > 1
        else ""
    )
    if scope.ratio:
        paired = " (differences: of searches with the same test split)" if comparisons else ""
        return (
            f"Intervals are {PERCENT} t-intervals over searches{paired}, corrected for the samples that searches share "
            f"(Nadeau and Bengio 2003). They hold for other samples like these, too.{together}"
        )
    if replicate is Replicate.SEARCH:
        split = f"this {findings.split} split"
        where = (
            f"; those of differences hold for other samples like those of {split}, too" if crossed else f", on {split}"
        )
        measured = ""
        if comparisons and findings.split == "test":
            measured = (
                f" In {IDENTICAL_SWEEPS} simulated sweeps of two identical arms the answer said otherwise "
                f"{FALSE_VERDICTS} times (benchmarks/simulate.py --aa {IDENTICAL_SWEEPS})."
            )
        intervals = f"Intervals are {PERCENT} t-intervals over independent searches (differences: Welch's)"
        return f"{intervals}{where}.{together}{measured}"
    return (
        f"Intervals are {PERCENT} t-intervals over training seeds (differences: Welch's), for these configurations "
        f"and this {findings.split} split; another search would add to them.{together}"
    )


def is_of_winner(note: Note) -> bool:
    return isinstance(note, FailedSeeds | MissingSeeds) and note.chosen


def seed_text(note: Note, findings: Findings) -> str:
    """Confirmations that have no score, and what follows."""
    assert isinstance(note, FailedSeeds | MissingSeeds)
    of = f"{plural(note.seeds, 'confirmation')} of {note.arm}"
    if not note.chosen or findings.replicate is Replicate.SEARCH:
        of += f", trial {note.source}"
    if isinstance(note, MissingSeeds):
        until = "until the same command has trained it again" if State.LOST in note.states else "yet"
        return f"Of {of}, {states_text(note.states)}: not counted {until}."
    if note.counted_as is not None:
        counted = f"each counts as {findings.format.value(note.counted_as)}, what a constant prediction scores"
    elif findings.split == "validation":
        counted = "none of them has a score"
    else:
        counted = "left out, as the record does not say what a constant prediction scores"
    return f"Of {of}, {states_text(note.states)}; {counted}."
