"""`report.html`: what a sweep found, on one self-contained page. A view of the record, at any time of the sweep.

The answer comes first; then what it rests on, from the arms down to what made it. The page holds its style, its
script, plotly.js and its data, and asks no other place for anything.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from results import cost, figures, landscape, mistakes, pareto, pareto_plot
from results.amounts import difference, duration, epochs, moment, named, percent, short, shown
from results.answer import Answer, answer
from results.audit import audit
from results.figures import Bar, Figure, safe
from results.files import replacing
from results.page import Html, figure, join, page, payload, section, table, tag
from results.provenance import provenance
from results.record import State, SweepState
from results.snapshot import Entry, Snapshot, Still, by_state, read
from results.trial_list import searched, trial_list

FILE = "report.html"


class ReportError(RuntimeError):
    """The page cannot be written; the message names the file and the way out."""


def write(run: Path) -> Path:
    """Make `report.html` in the run's folder. Raises RecordError without a whole record, ReportError without room."""
    path = run / FILE
    whole = render(run).encode()
    try:
        with replacing(path) as file:
            file.write(whole)
    except OSError as error:
        raise ReportError(f"{path} must be writable, but {error}; the record is untouched: make it again") from error
    return path


def render(run: Path) -> str:
    """The page as HTML. Raises RecordError when there is no whole record in `run`."""
    with Still(run) as reader:
        now, found, seen, points = read(reader), answer(reader), audit(reader), pareto.points(reader)
    land = landscape.survey(now)
    slices = landscape.slices(land, now)
    drawn = {
        "arms": figures.arms(_bars(now, found), _measured(found), found.split, confirmed=_confirmed(found)),
        "pareto": pareto_plot.figure(points, now.arms),
        "history": figures.history(now),
        "curves": figures.curves(now),
        "importances": landscape.importances(land),
        "contour": landscape.contour(land, now),
        "parallel": landscape.parallel(land, now),
        "confusion": mistakes.figure(now),
    }
    # Every part is here, in the order of the page; one without content leaves no heading.
    parts = [
        ("arms", "Arms", [_figure(drawn["arms"]), _arm_table(now, found)]),
        ("pareto", "Pareto front", [_figure(drawn["pareto"]), pareto_plot.listed(points)]),
        ("history", "Best so far", [_figure(drawn["history"])]),
        ("curves", "Learning curves", [_figure(drawn["curves"])]),
        (
            "space",
            "Hyperparameters",
            [
                _figure(drawn["importances"], "What matters"),
                _listed("Rungs without importances", landscape.missing(land), unfolded=False),
                _slices(slices, land),
                _figure(drawn["contour"], "The two most important together"),
                _figure(drawn["parallel"], "All together"),
            ],
        ),
        ("trials", "Trials", [trial_list(now)]),
        ("mistakes", "Where the model errs", [_figure(drawn["confusion"]), mistakes.gallery(now)]),
        ("forecast", "Forecast and actual", [cost.forecast(now, _bytes(run))]),
        ("audit", "Audit of early stopping", [cost.audited(now, seen)]),
        ("cost", "Time and cost", [cost.time_and_cost(now)]),
        ("made", "What made it", [provenance(now)]),
    ]
    sections = [(key, title, section(key, title, *inside)) for key, title, inside in parts]
    body = [
        tag("a", "to the answer", href="#answer", class_="skip"),
        _header(now),
        tag("main", _answer(now, found), _contents(sections), *(told for _, _, told in sections)),
        tag(
            "noscript", tag("p", "The plots and the sorting need JavaScript; all words and tables are here without it.")
        ),
        tag("footer", f"Made by Rungwise from the record of {now.name} on {moment(time.time())}."),
    ]
    every = [each for each in [*drawn.values(), *slices] if each is not None]
    return page(f"{now.name} · Rungwise", body, payload(every, _hover(now)))


# -- the top ---------------------------------------------------------------------------------------------------


def _header(now: Snapshot) -> Html:
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


def _answer(now: Snapshot, found: Answer) -> Html:
    confirmed = _confirmed(found)
    inside = [
        tag("h2", "Answer" if confirmed else "No answer yet", id="answer-title"),
        *_lead(now, found),
        *(tag("p", told, class_="warning", role="note") for told in _warnings(now, found)),
        _tiles(now),
        _listed("Before you believe it", found.notes),
    ]
    return tag("section", *inside, id="answer", aria_labelledby="answer-title", class_="" if confirmed else "open")


def _lead(now: Snapshot, found: Answer) -> list[Html]:
    """The answer in large letters, what belongs to it in smaller ones."""
    if _confirmed(found):
        rest = found.sentence
        for one in found.comparisons:
            rest = rest.replace(one.sentence, "").strip()
        if not found.comparisons:
            return [tag("p", rest, class_="sentence")]
        if len(found.comparisons) == 1:
            return [tag("p", found.comparisons[0].sentence, class_="sentence"), tag("p", rest)]
        lines = (tag("li", one.sentence) for one in found.comparisons)
        return [tag("ul", *lines, class_="sentence"), tag("p", rest)]
    if now.best is None or now.best.best is None:
        return [tag("p", found.sentence.removeprefix("No answer yet: ").capitalize(), class_="sentence")]
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
    elif not _confirmed(found):
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
    trained, full = cost.saved(now.search, now.epochs)
    counts = by_state(now.search)
    asked = now.definition.trials
    of = f" of {asked}" if asked > len(now.search) else ""
    told: list[tuple[str, object, str]] = [
        ("search trials", f"{len(now.search)}{of}", ", ".join(f"{len(v)} {k.lower()}" for k, v in counts.items()))
    ]
    if now.best:
        best = shown(now.best.best, now.metric)
        told.append((f"best {named(now.metric)}", best, f"seen in the search, trial {now.best.number}"))
    if full:
        told.append(("epochs saved", percent(1 - trained / full), f"{trained:,.6g} trained, {full:,.6g} if all ran on"))
    if now.sessions:
        work = sum(entry.seconds or 0.0 for entry in now.entries)
        told.append(("wall time", duration(cost.wall_seconds(now)), f"{duration(work)} of training"))
    tiles = (
        tag("div", tag("dt", name), tag("dd", value), tag("dd", more, class_="more")) for name, value, more in told
    )
    return tag("dl", *tiles, class_="tiles")


def _contents(sections: Iterable[tuple[str, str, Html]]) -> Html:
    links = (tag("a", title, href=f"#{key}") for key, title, told in sections if told)
    return tag("nav", *links, aria_label="Contents")


# -- arms ------------------------------------------------------------------------------------------------------


def _confirmed(found: Answer) -> bool:
    return any(arm.score is not None for arm in found.arms)


def _measured(found: Answer) -> str:
    return found.measure.rpartition(" ")[2] if found.split == "test" else found.metric


def _bars(now: Snapshot, found: Answer) -> list[Bar]:
    if not _confirmed(found):
        able: dict[str, list[Entry]] = {arm: [] for arm in now.arms}
        for entry in now.search:
            if entry.able:
                able[entry.trial.arm].append(entry)
        return [Bar(arm, [entry.best for entry in mine if entry.best is not None]) for arm, mine in able.items()]
    bars = []
    for arm in found.arms:
        if arm.chosen and arm.score:
            values = arm.chosen.test if found.split == "test" else arm.chosen.values
            bars.append(Bar(arm.arm, list(values.values()), arm.score.mean, arm.score.low, arm.score.high))
    return bars


def _arm_table(now: Snapshot, found: Answer) -> Html:
    """Per arm: seen in the search, confirmed, the gap between them, the score that counts, the settings."""
    if not found.arms:
        return Html("")
    measured, scored = found.measure, _measured(found)
    heads = ["arm", "trials", "best seen"]
    if confirmed := _confirmed(found):
        heads += ["same settings in the search", "confirmed on validation", "winner's-curse gap"]
        heads += [measured] if found.split == "test" else []
        heads += ["95 % interval", "sd", "n", "settings"]
    rows = []
    for arm in found.arms:
        row: list[object] = [arm.arm, sum(entry.trial.arm == arm.arm for entry in now.search)]
        row.append(shown(arm.seen, found.metric))
        if confirmed:
            gap = "" if not arm.flattered or arm.flattered < 0 else difference(arm.flattered, found.metric)
            if arm.chosen and arm.score:
                valid, score = arm.chosen.validation, arm.score
                ends = () if score.low is None or score.high is None else found.wording.bounds(score.low, score.high)
                row += [shown(arm.chosen.searched, found.metric), shown(valid.mean, found.metric) if valid else "", gap]
                row += [tag("b", shown(score.mean, scored))] if found.split == "test" else []
                row.append(" to ".join(ends) + (" %" if found.wording.share else "") if ends else "none: one seed")
                row.append("" if score.sd is None else difference(score.sd, scored))
                row += [score.n, ", ".join(f"{name} = {short(value)}" for name, value in arm.chosen.params.items())]
            else:
                row += ["nothing confirmed", *[""] * (len(heads) - 4)]
        rows.append(row)
    compared = [(f"{one.arm} against {one.against}", one.verdict, one.sentence) for one in found.pairs]
    return join(
        [
            table(heads, rows, "arms in numbers", "figures"),
            table(("comparison", "verdict", "in words"), compared, "comparisons of arms") if compared else "",
        ]
    )


# -- pieces ----------------------------------------------------------------------------------------------------


def _figure(drawn: Figure | None, title: str = "") -> Html:
    return figure(drawn, title) if drawn else Html("")


def _slices(slices: list[Figure], land: landscape.Landscape) -> Html:
    if not slices or land.rung is None:
        return Html("")
    return join(
        [
            tag("h3", "One at a time"),
            tag(
                "p",
                f"The score at {epochs(land.rung)} of the {len(land.level)} trials that got there, over each "
                "hyperparameter; the most important first.",
            ),
            tag("div", *(figure(one) for one in slices), class_="grid"),
        ]
    )


def _listed(title: str, lines: Iterable[str], unfolded: bool = True) -> Html:
    """Lines below a title that unfolds; nothing without lines."""
    items = [tag("li", line) for line in lines]
    return tag("details", tag("summary", title), tag("ul", *items), open=unfolded) if items else Html("")


def _hover(now: Snapshot) -> dict[int, str]:
    """What a plot says of a trial under the pointer, in plotly.js's own markup."""
    names = searched(now)[:10]
    told = {}
    for entry in now.entries:
        trial = entry.trial
        lines = [f"trial {trial.trial} · {trial.arm} · {trial.state.lower()}"]
        lines += [f"{name} = {short(trial.params[name])}"[:80] for name in names if name in trial.params]
        if trial.reason:
            lines.append(trial.reason[:80])
        told[trial.trial] = "<br>".join(map(safe, lines))
    return told


def _bytes(run: Path) -> int:
    """What the run's folder takes on the disk, but for this page."""
    return sum(path.stat().st_size for path in run.rglob("*") if path.is_file() and path.name != FILE)
