"""The top of the report: the question, the answer, what a reader must know at once, and the figures in tiles."""

from __future__ import annotations

from collections.abc import Iterable

from rungwise.results.analysis.answer import Answer
from rungwise.results.io.formatting import duration, epochs, format_metric, metric_label, percent, short
from rungwise.results.record.types import State, SweepState
from rungwise.results.report import cost
from rungwise.results.report.page import Html, tag, unfoldable
from rungwise.results.report.snapshot import Snapshot, by_state


def header(snapshot: Snapshot) -> Html:
    question = snapshot.definition.question.strip()
    first, mark, rest = question.partition("?")
    title = first + mark if mark else question or snapshot.name
    if not mark and len(title) > 120:
        title, rest = snapshot.name, question
    return tag(
        "header",
        tag("p", f"Rungwise · {snapshot.name}", class_="eyebrow"),
        tag("h1", title),
        tag("p", rest.strip(), class_="lead") if rest.strip() else "",
    )


def answer_section(snapshot: Snapshot, answer: Answer) -> Html:
    confirmed = answer.confirmed
    inside = [
        tag("h2", "Answer" if confirmed else "No answer yet", id="answer-title"),
        *_lead(snapshot, answer),
        *(tag("p", warning, class_="warning", role="note") for warning in _warnings(snapshot, answer)),
        _tiles(snapshot),
        unfoldable("Before you believe it", answer.note_texts),
    ]
    return tag("section", *inside, id="answer", aria_labelledby="answer-title", class_="" if confirmed else "open")


def _lead(snapshot: Snapshot, answer: Answer) -> list[Html]:
    """The answer in large letters, what belongs to it in smaller ones."""
    if answer.confirmed:
        details = [tag("p", answer.details)] if answer.comparisons else []
        if len(answer.headlines) == 1:
            return [tag("p", answer.headlines[0], class_="sentence"), *details]
        return [tag("ul", *(tag("li", line) for line in answer.headlines), class_="sentence"), *details]
    if snapshot.best is None or snapshot.best.best is None:
        return [tag("p", answer.details, class_="sentence")]
    scores = [
        f"{arm.arm} {format_metric(arm.seen, answer.metric)}"
        if len(answer.arms) > 1
        else format_metric(arm.seen, answer.metric)
        for arm in answer.arms
        if arm.seen is not None
    ]
    chosen = ", ".join(f"{name} = {short(value)}" for name, value in snapshot.best.trial.params.items())
    return [
        tag("p", f"Best {metric_label(snapshot.metric)} so far: {', '.join(scores)}.", class_="sentence"),
        tag("p", f"The best is trial {snapshot.best.number}" + (f" with {chosen}." if chosen else ".")),
    ]


def _warnings(snapshot: Snapshot, answer: Answer) -> Iterable[str]:
    """What a reader must know at once."""
    states = by_state(snapshot.entries)
    running = len(states.get(State.RUNNING, []))
    if not snapshot.entries:
        yield "This sweep is empty: no trial has been dealt yet."
    elif not answer.confirmed:
        yield (
            "Nothing is confirmed yet. These are the luckiest of many noisy validation scores; "
            "expect less of the same settings on fresh seeds."
        )
    if snapshot.state is SweepState.RUNNING:
        ended = len(snapshot.entries) - running
        yield (
            f"The sweep is still running: {ended} trials have ended, {running} are in flight. "
            "This page does not renew itself."
        )
    elif snapshot.state is SweepState.PLANNED:
        yield "The sweep is planned, and has not begun."
    elif snapshot.state is not SweepState.FINISHED:
        yield (
            f"The sweep was {'interrupted' if snapshot.state is SweepState.INTERRUPTED else 'ended by an error'}: "
            f"{running} trials are unfinished. The same command goes on where it stopped."
        )
    if snapshot.search and not any(entry.rankable for entry in snapshot.search):
        over = {state: entries for state, entries in by_state(snapshot.search).items() if state.ended}
        words = ", ".join(f"{len(entries)} {state.lower()}" for state, entries in over.items())
        yield f"No trial can be called best: {words or 'none has reported'}."
    if len(snapshot.search) == 1:
        yield "One trial compares nothing: there is no curve to compare with, and no importance."


def _tiles(snapshot: Snapshot) -> Html:
    count = cost.epochs_of(snapshot.search, snapshot.epochs)
    again = sum(entry.epochs or 0.0 for entry in snapshot.entries if entry.trial.phase != "search")
    counts = by_state(snapshot.search)
    planned = snapshot.definition.trials
    planned_text = f" of {planned}" if planned > len(snapshot.search) else ""
    tiles: list[tuple[str, object, str]] = [
        (
            "search trials",
            f"{len(snapshot.search)}{planned_text}",
            ", ".join(f"{len(v)} {k.lower()}" for k, v in counts.items()),
        )
    ]
    if snapshot.best:
        best = format_metric(snapshot.best.best, snapshot.metric)
        tiles.append(
            (f"best {metric_label(snapshot.metric)}", best, f"seen in the search, trial {snapshot.best.number}")
        )
    if count.saved is not None:
        more = f"; {epochs(again)} more to confirm and audit" if again else ""
        trained = f"{count.trained:,.6g} of {count.full:,.6g} trained in the search{more}"
        tiles.append(("epochs saved in the search", percent(count.saved), trained))
    if snapshot.sessions:
        work = sum(entry.seconds or 0.0 for entry in snapshot.entries)
        tiles.append(("wall time", duration(cost.wall_seconds(snapshot)), f"{duration(work)} of training"))
    elements = (
        tag("div", tag("dt", name), tag("dd", value), tag("dd", more, class_="more")) for name, value, more in tiles
    )
    return tag("dl", *elements, class_="tiles")
