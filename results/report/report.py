"""`report.html`: what a sweep found, on one self-contained page. A view of the record, at any time of the sweep.

The answer comes first; then what it rests on, from the arms down to what made it. The page holds its style, its
script, plotly.js and its data, and asks no other place for anything.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from rungwise.errors import RungwiseError
from rungwise.files import replacing
from rungwise.results.analysis import pareto
from rungwise.results.analysis.answer import answer
from rungwise.results.analysis.audit import audit
from rungwise.results.io.formatting import epochs, moment, short
from rungwise.results.report import cost, error_gallery
from rungwise.results.report.arm_table import arm_bars, arm_table
from rungwise.results.report.importance import ImportanceAnalysis, analyse
from rungwise.results.report.page import Html, figure, join, page, payload, section, tag, unfoldable
from rungwise.results.report.plots.arms import plot_arms
from rungwise.results.report.plots.curves import plot_curves
from rungwise.results.report.plots.history import plot_history
from rungwise.results.report.plots.hyperparameters import plot_contour, plot_slices
from rungwise.results.report.plots.importances import list_missing, plot_importances
from rungwise.results.report.plots.parallel import plot_parallel
from rungwise.results.report.plots.pareto import pareto_table, plot_pareto
from rungwise.results.report.plots.primitives import Figure, safe
from rungwise.results.report.provenance import provenance
from rungwise.results.report.snapshot import Snapshot, Still, read
from rungwise.results.report.summary import answer_section, header
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
    land = analyse(now)
    slices = plot_slices(land, now)
    score_format = found.format if found.confirmed else found.objective_format
    drawn = {
        "arms": plot_arms(arm_bars(now, found), score_format, confirmed=found.confirmed),
        "pareto": plot_pareto(points, now.arms),
        "history": plot_history(now),
        "curves": plot_curves(now),
        "importances": plot_importances(land),
        "contour": plot_contour(land, now),
        "parallel": plot_parallel(land, now),
        "confusion": error_gallery.confusion_plot(now),
    }
    # Every part is here, in the order of the page; one without content leaves no heading.
    parts = [
        ("arms", "Arms", [_figure(drawn["arms"]), arm_table(now, found)]),
        ("pareto", "Pareto front", [_figure(drawn["pareto"]), pareto_table(points)]),
        ("history", "Best so far", [_figure(drawn["history"])]),
        ("curves", "Learning curves", [_figure(drawn["curves"])]),
        (
            "space",
            "Hyperparameters",
            [
                _figure(drawn["importances"], "What matters"),
                unfoldable("Rungs without importances", list_missing(land), unfolded=False),
                _slices(slices, land),
                _figure(drawn["contour"], "The two most important together"),
                _figure(drawn["parallel"], "All together"),
            ],
        ),
        ("trials", "Trials", [trial_list(now)]),
        ("mistakes", "Where the model errs", [_figure(drawn["confusion"]), error_gallery.gallery(now)]),
        ("forecast", "Forecast and actual", [cost.forecast(now, _bytes(run))]),
        ("audit", "Audit of early stopping", [cost.audited(now, seen)]),
        ("cost", "Time and cost", [cost.time_and_cost(now)]),
        ("made", "What made it", [provenance(now)]),
    ]
    sections = [(key, title, section(key, title, *inside)) for key, title, inside in parts]
    body = [
        tag("a", "to the answer", href="#answer", class_="skip"),
        header(now),
        tag("main", answer_section(now, found), _contents(sections), *(told for _, _, told in sections)),
        tag(
            "noscript", tag("p", "The plots and the sorting need JavaScript; all words and tables are here without it.")
        ),
        tag("footer", f"Made by Rungwise from the record of {now.name} on {moment(time.time())}."),
    ]
    every = [each for each in [*drawn.values(), *slices] if each is not None]
    return page(f"{now.name} · Rungwise", body, payload(every, _hover(now)))


def _contents(sections: Iterable[tuple[str, str, Html]]) -> Html:
    links = (tag("a", title, href=f"#{key}") for key, title, told in sections if told)
    return tag("nav", *links, aria_label="Contents")


def _figure(drawn: Figure | None, title: str = "") -> Html:
    return figure(drawn, title) if drawn else Html("")


def _slices(slices: list[Figure], land: ImportanceAnalysis) -> Html:
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
