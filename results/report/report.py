"""`report.html`: the results of a sweep on one self-contained page. A view of the record, at any time of the sweep.

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
from rungwise.results.report.snapshot import FrozenReader, Snapshot, read
from rungwise.results.report.summary import answer_section, header
from rungwise.results.report.trial_table import searched, trial_list

FILE = "report.html"


class ReportError(RungwiseError, RuntimeError):
    """The page cannot be written; the message names the file and the way out."""


def write(run: Path) -> Path:
    """Make `report.html` in the run's folder. Raises RecordError without a whole record, ReportError without room."""
    path = run / FILE
    page_bytes = render(run).encode()
    try:
        with replacing(path) as file:
            file.write(page_bytes)
    except OSError as error:
        raise ReportError(f"{path} must be writable, but {error}; the record is untouched: make it again") from error
    return path


def render(run: Path) -> str:
    """The page as HTML. Raises RecordError when there is no whole record in `run`."""
    with FrozenReader(run) as reader:
        snapshot, findings, audit_result, points = read(reader), answer(reader), audit(reader), pareto.points(reader)
    analysis = analyse(snapshot)
    slices = plot_slices(analysis, snapshot)
    score_format = findings.format if findings.confirmed else findings.objective_format
    drawn = {
        "arms": plot_arms(arm_bars(snapshot, findings), score_format, confirmed=findings.confirmed),
        "pareto": plot_pareto(points, snapshot.arms),
        "history": plot_history(snapshot),
        "curves": plot_curves(snapshot),
        "importances": plot_importances(analysis),
        "contour": plot_contour(analysis, snapshot),
        "parallel": plot_parallel(analysis, snapshot),
        "confusion": error_gallery.confusion_plot(snapshot),
    }
    # Every part is here, in the order of the page; one without content leaves no heading.
    parts = [
        ("arms", "Arms", [_figure(drawn["arms"]), arm_table(snapshot, findings)]),
        ("pareto", "Pareto front", [_figure(drawn["pareto"]), pareto_table(points)]),
        ("history", "Best so far", [_figure(drawn["history"])]),
        ("curves", "Learning curves", [_figure(drawn["curves"])]),
        (
            "space",
            "Hyperparameters",
            [
                _figure(drawn["importances"], "What matters"),
                unfoldable("Rungs without importances", list_missing(analysis), unfolded=False),
                _slices(slices, analysis),
                _figure(drawn["contour"], "The two most important together"),
                _figure(drawn["parallel"], "All together"),
            ],
        ),
        ("trials", "Trials", [trial_list(snapshot)]),
        ("mistakes", "Where the model errs", [_figure(drawn["confusion"]), error_gallery.gallery(snapshot)]),
        ("forecast", "Forecast and actual", [cost.forecast(snapshot, _bytes(run))]),
        ("audit", "Audit of early stopping", [cost.audited(snapshot, audit_result)]),
        ("cost", "Time and cost", [cost.time_and_cost(snapshot)]),
        ("made", "What made it", [provenance(snapshot)]),
    ]
    sections = [(key, title, section(key, title, *inside)) for key, title, inside in parts]
    body = [
        tag("a", "to the answer", href="#answer", class_="skip"),
        header(snapshot),
        tag("main", answer_section(snapshot, findings), _contents(sections), *(html for _, _, html in sections)),
        tag(
            "noscript", tag("p", "The plots and the sorting need JavaScript; all words and tables are here without it.")
        ),
        tag("footer", f"Made by Rungwise from the record of {snapshot.name} on {moment(time.time())}."),
    ]
    every = [each for each in [*drawn.values(), *slices] if each is not None]
    return page(f"{snapshot.name} · Rungwise", body, payload(every, _hover(snapshot)))


def _contents(sections: Iterable[tuple[str, str, Html]]) -> Html:
    links = (tag("a", title, href=f"#{key}") for key, title, html in sections if html)
    return tag("nav", *links, aria_label="Contents")


def _figure(drawn: Figure | None, title: str = "") -> Html:
    return figure(drawn, title) if drawn else Html("")


def _slices(slices: list[Figure], analysis: ImportanceAnalysis) -> Html:
    if not slices or analysis.rung is None:
        return Html("")
    return join(
        [
            tag("h3", "One at a time"),
            tag(
                "p",
                f"The score at {epochs(analysis.rung)} of the {len(analysis.level)} trials that got there, over each "
                "hyperparameter; the most important first.",
            ),
            tag("div", *(figure(slice_plot) for slice_plot in slices), class_="grid"),
        ]
    )


def _hover(snapshot: Snapshot) -> dict[int, str]:
    """What a plot says of a trial under the pointer, in plotly.js's own markup."""
    names = searched(snapshot)[:10]
    texts = {}
    for entry in snapshot.entries:
        trial = entry.trial
        lines = [f"trial {trial.trial} · {trial.arm} · {trial.state.lower()}"]
        lines += [f"{name} = {short(trial.params[name])}"[:80] for name in names if name in trial.params]
        if trial.reason:
            lines.append(trial.reason[:80])
        texts[trial.trial] = "<br>".join(map(safe, lines))
    return texts


def _bytes(run: Path) -> int:
    """What the run's folder takes on the disk, but for this page."""
    return sum(path.stat().st_size for path in run.rglob("*") if path.is_file() and path.name != FILE)
