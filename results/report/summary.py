"""The top of the report: the question, the answer, what a reader must know at once, and the figures in tiles."""

from __future__ import annotations

from collections.abc import Iterable

from rungwise.results.analysis.answer import Answer
from rungwise.results.io.formatting import duration, epochs, named, percent, short, shown
from rungwise.results.record.types import State, SweepState
from rungwise.results.report import cost
from rungwise.results.report.page import Html, tag, unfoldable
from rungwise.results.report.snapshot import Snapshot, by_state


def header(now: Snapshot) -> Html:
    question = now.definition.question.strip()
    first, mark, rest = question.partition("?")
    title = first + mark if mark else question or now.name
    if not mark and len(title) > 120:
        title, rest = now.name, question
    return tag(
        "header",
        tag("p", f"Rungwise · {now.name}", class_="eyebrow"),
        tag("h1", title),
        tag("p", rest.strip(), class_="lead") if rest.strip() else "",
    )


def answer_section(now: Snapshot, found: Answer) -> Html:
    confirmed = found.confirmed
    inside = [
        tag("h2", "Answer" if confirmed else "No answer yet", id="answer-title"),
        *_lead(now, found),
        *(tag("p", told, class_="warning", role="note") for told in _warnings(now, found)),
        _tiles(now),
        unfoldable("Before you believe it", found.note_texts),
    ]
    return tag("section", *inside, id="answer", aria_labelledby="answer-title", class_="" if confirmed else "open")


def _lead(now: Snapshot, found: Answer) -> list[Html]:
    """The answer in large letters, what belongs to it in smaller ones."""
    if found.confirmed:
        details = [tag("p", found.details)] if found.comparisons else []
        if len(found.headlines) == 1:
            return [tag("p", found.headlines[0], class_="sentence"), *details]
        return [tag("ul", *(tag("li", line) for line in found.headlines), class_="sentence"), *details]
    if now.best is None or now.best.best is None:
        return [tag("p", found.details, class_="sentence")]
    told = [
        f"{arm.arm} {shown(arm.seen, found.metric)}" if len(found.arms) > 1 else shown(arm.seen, found.metric)
        for arm in found.arms
        if arm.seen is not None
    ]
    chosen = ", ".join(f"{name} = {short(value)}" for name, value in now.best.trial.params.items())
    return [
        tag("p", f"Best {named(now.metric)} so far: {', '.join(told)}.", class_="sentence"),
        tag("p", f"The best is trial {now.best.number}" + (f" with {chosen}." if chosen else ".")),
    ]


def _warnings(now: Snapshot, found: Answer) -> Iterable[str]:
    """What a reader must know at once."""
    states = by_state(now.entries)
    running = len(states.get(State.RUNNING, []))
    if not now.entries:
        yield "This sweep is empty: no trial has been dealt yet."
    elif not found.confirmed:
        yield (
            "Nothing is confirmed yet. These are the luckiest of many noisy validation scores; "
            "expect less of the same settings on fresh seeds."
        )
    if now.state is SweepState.RUNNING:
        ended = len(now.entries) - running
        yield (
            f"The sweep is still running: {ended} trials have ended, {running} are in flight. "
            "This page does not renew itself."
        )
    elif now.state is SweepState.PLANNED:
        yield "The sweep is planned, and has not begun."
    elif now.state is not SweepState.FINISHED:
        yield (
            f"The sweep was {'interrupted' if now.state is SweepState.INTERRUPTED else 'ended by an error'}: "
            f"{running} trials are unfinished. The same command goes on where it stopped."
        )
    if now.search and not any(entry.able for entry in now.search):
        over = {state: mine for state, mine in by_state(now.search).items() if state.ended}
        words = ", ".join(f"{len(mine)} {state.lower()}" for state, mine in over.items())
        yield f"No trial can be called best: {words or 'none has reported'}."
    if len(now.search) == 1:
        yield "One trial compares nothing: there is no curve to compare with, and no importance."


def _tiles(now: Snapshot) -> Html:
    count = cost.epochs_of(now.search, now.epochs)
    again = sum(entry.epochs or 0.0 for entry in now.entries if entry.trial.phase != "search")
    counts = by_state(now.search)
    asked = now.definition.trials
    of = f" of {asked}" if asked > len(now.search) else ""
    told: list[tuple[str, object, str]] = [
        ("search trials", f"{len(now.search)}{of}", ", ".join(f"{len(v)} {k.lower()}" for k, v in counts.items()))
    ]
    if now.best:
        best = shown(now.best.best, now.metric)
        told.append((f"best {named(now.metric)}", best, f"seen in the search, trial {now.best.number}"))
    if count.saved is not None:
        more = f"; {epochs(again)} more to confirm and audit" if again else ""
        trained = f"{count.trained:,.6g} of {count.full:,.6g} trained in the search{more}"
        told.append(("epochs saved in the search", percent(count.saved), trained))
    if now.sessions:
        work = sum(entry.seconds or 0.0 for entry in now.entries)
        told.append(("wall time", duration(cost.wall_seconds(now)), f"{duration(work)} of training"))
    tiles = (
        tag("div", tag("dt", name), tag("dd", value), tag("dd", more, class_="more")) for name, value, more in told
    )
    return tag("dl", *tiles, class_="tiles")
