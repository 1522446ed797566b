"""`report.html`: what a sweep found, on one self-contained page. A view of the record, at any time of the sweep.

The answer comes first; then what it rests on, from the arms down to what made it. The page holds its style, its
script, plotly.js and its data, and asks no other place for anything.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from rungwise.errors import RungwiseError
from rungwise.results.analysis import pareto
from rungwise.results.analysis.answer import Answer, answer
from rungwise.results.analysis.audit import audit
from rungwise.results.analysis.findings import Arm
from rungwise.results.io.files import replacing
from rungwise.results.io.formatting import conjunction, duration, epochs, moment, named, percent, settings, short, shown
from rungwise.results.record.types import State, SweepState
from rungwise.results.report import cost, figures, landscape, pareto_plot
from rungwise.results.report import error_gallery as mistakes
from rungwise.results.report.figures import Bar, Figure, safe
from rungwise.results.report.page import Html, figure, join, page, payload, section, table, tag
from rungwise.results.report.provenance import provenance
from rungwise.results.report.snapshot import Entry, Snapshot, Still, by_state, read
from rungwise.results.report.trial_table import searched, trial_list

FILE = "report.html"


class ReportError(RungwiseError, RuntimeError):
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
    score_format = found.format if found.confirmed else found.objective_format
    drawn = {
        "arms": figures.arms(_bars(now, found), score_format, confirmed=found.confirmed),
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
    confirmed = found.confirmed
    inside = [
        tag("h2", "Answer" if confirmed else "No answer yet", id="answer-title"),
        *_lead(now, found),
        *(tag("p", told, class_="warning", role="note") for told in _warnings(now, found)),
        _tiles(now),
        _listed("Before you believe it", found.note_texts),
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


def _contents(sections: Iterable[tuple[str, str, Html]]) -> Html:
    links = (tag("a", title, href=f"#{key}") for key, title, told in sections if told)
    return tag("nav", *links, aria_label="Contents")


# -- arms ------------------------------------------------------------------------------------------------------


def _bars(now: Snapshot, found: Answer) -> list[Bar]:
    if not found.confirmed:
        able: dict[str, list[Entry]] = {arm: [] for arm in now.arms}
        for entry in now.search:
            if entry.able:
                able[entry.trial.arm].append(entry)
        return [Bar(arm, [entry.best for entry in mine if entry.best is not None]) for arm, mine in able.items()]
    return [
        Bar(arm.arm, list(arm.scores.values()), arm.score.mean, arm.score.low, arm.score.high)
        for arm in found.arms
        if arm.score
    ]


def _arm_table(now: Snapshot, found: Answer) -> Html:
    """Per arm: seen in the search, confirmed, the gap between them, the score that counts, the settings."""
    if not found.arms:
        return Html("")
    heads = ["arm", "trials", "best seen"]
    if found.confirmed:
        heads += ["same settings in the search", "confirmed on validation", "winner's-curse gap"]
        heads += [found.measure] if found.split == "test" else []
        heads += ["95% interval", "sd", "n", "settings"]
    rows = []
    for arm in found.arms:
        row: list[object] = [arm.arm, sum(entry.trial.arm == arm.arm for entry in now.search)]
        row.append(shown(arm.seen, found.metric))
        if found.confirmed:
            row += _confirmed_cells(arm, found) or [_unconfirmed(arm), *[""] * (len(heads) - 4)]
        rows.append(row)
    compared = [
        (f"{one.arm} against {one.against}", one.verdict, found.comparison_text(one)) for one in found.comparisons
    ]
    return join(
        [
            table(heads, rows, "arms in numbers", "figures"),
            table(("comparison", "verdict", "in words"), compared, "comparisons of arms") if len(compared) > 1 else "",
        ]
    )


def _confirmed_cells(arm: Arm, found: Answer) -> list[object]:
    """What the arm's table says of its chosen configuration; nothing without one."""
    chosen, score = arm.chosen, arm.score
    if chosen is None or score is None:
        return []
    objective, optimism = found.objective_format, arm.optimism
    cells: list[object] = [
        shown(chosen.searched, found.metric),
        shown(chosen.validation.mean, found.metric) if chosen.validation else "",
        objective.amount(optimism) if optimism and optimism > 0 else "",
    ]
    cells += [tag("b", found.format.value(score.mean))] if found.split == "test" else []
    if score.low is None or score.high is None:
        cells += ["none: one seed", ""]
    else:
        cells.append(found.format.interval(score.low, score.high))
        cells.append("" if score.sd is None else found.format.amount(score.sd))
    return [*cells, score.n, settings(chosen.params)]


def _unconfirmed(arm: Arm) -> str:
    if not arm.failed:
        return "nothing confirmed"
    return conjunction([f"{count} {state.lower()}" for state, count in arm.failed.items()])


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
