"""The top of the report: the title, the first sentences, and the key figures in tiles."""

from __future__ import annotations

from collections.abc import Sequence

from rungwise.results.analysis.answer import Answer
from rungwise.results.analysis.epochs import again_text
from rungwise.results.analysis.findings import Replicate
from rungwise.results.io.formatting import assignments, count, duration, format_metric, metric_label, percent
from rungwise.results.report import cost
from rungwise.results.report.page import states
from rungwise.results.report.snapshot import Snapshot
from rungwise.text import plural

_REPLICATES = {Replicate.SEED: ("seed", "seeds"), Replicate.SEARCH: ("search", "searches")}


def title_and_lead(snapshot: Snapshot) -> tuple[str, str]:
    """The question, and what follows it; a long text that asks nothing stands below the run's name."""
    question = snapshot.definition.question.strip()
    first, mark, rest = question.partition("?")
    if not mark and len(first) > 120:
        return snapshot.name, question
    return first + mark or snapshot.name, rest.strip()


def headlines(snapshot: Snapshot, answer: Answer) -> tuple[Sequence[str], str]:
    """The answer in large letters, a sentence each, and what belongs to it in smaller ones."""
    if answer.confirmed:
        return answer.headlines, answer.details if answer.comparisons else ""
    best = snapshot.best
    if best is None or best.best is None:
        return [answer.details], ""
    scores = [
        (f"{arm.arm} " if len(answer.arms) > 1 else "") + format_metric(arm.seen, answer.metric)
        for arm in answer.arms
        if arm.seen is not None
    ]
    chosen = assignments(best.trial.params)
    return (
        [f"Best {metric_label(snapshot.metric)} so far: {', '.join(scores)}."],
        f"The best is trial {best.number}" + (f" with {chosen}." if chosen else "."),
    )


def tiles(snapshot: Snapshot, answer: Answer) -> list[tuple[str, str, str]]:
    """(name, value, what explains it) of each. The score is that of the answer; before there is one, the best seen."""
    searched = cost.epochs_of(snapshot.search, snapshot)
    again = again_text((entry.trial, entry.epochs or 0.0) for entry in snapshot.entries)
    planned = snapshot.definition.all_trials
    is_known = snapshot.definition.budget == "trials"  # how many trials a budget of epochs pays for is seen at its end
    planned_text = f" of {planned:,}" if is_known and planned > len(snapshot.search) else ""
    made = [("search trials", f"{len(snapshot.search):,}{planned_text}", states(snapshot.search))]
    if answer.best is not None and (score_of_best := answer.arm(answer.best).score):
        over = f"mean of {plural(score_of_best.n, *_REPLICATES[answer.replicate])}"
        explained = f"{answer.best}, {over}" if len(answer.arms) > 1 else over
        made.append((answer.measure, answer.format.value(score_of_best.mean), explained))
    elif best := snapshot.best:
        score = format_metric(best.best, snapshot.metric)
        made.append((f"best {metric_label(snapshot.metric)}", score, f"seen in the search, trial {best.number}"))
    if searched.saved is not None:
        trained = f"{count(searched.trained)} of {count(searched.full)} trained in the search"
        trained += f"; {again}" if again else ""
        made.append(("epochs saved in the search", percent(searched.saved), trained))
    if snapshot.sessions:
        wall, work = duration(cost.wall_seconds(snapshot)), duration(cost.training_seconds(snapshot.entries))
        made.append(("wall time", wall, f"{work} of training"))
    return made
