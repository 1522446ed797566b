"""`report.html`: the results of a sweep on one self-contained page. A view of the record, at any time of the sweep.

The answer comes first; then what it rests on, from the arms down to what made it. The page holds its style, its
script, plotly.js and its data, and asks no other place for anything.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rungwise.errors import RungwiseError
from rungwise.files import replacing
from rungwise.results.analysis import pareto
from rungwise.results.analysis.answer import answer
from rungwise.results.analysis.audit import audit
from rungwise.results.analysis.budget.curves import read_budget_curves
from rungwise.results.io.formatting import setting
from rungwise.results.record.types import State
from rungwise.results.report import cost, error_gallery, summary
from rungwise.results.report.arm_table import arm_table, comparison_table
from rungwise.results.report.importance import analyse
from rungwise.results.report.page import render_page
from rungwise.results.report.plots.arms import plot_arms, plot_differences
from rungwise.results.report.plots.budget import plot_budget
from rungwise.results.report.plots.curves import plot_curves
from rungwise.results.report.plots.history import plot_history
from rungwise.results.report.plots.pareto import pareto_table, plot_pareto
from rungwise.results.report.plots.primitives import safe
from rungwise.results.report.plots.residuals import plot_residuals
from rungwise.results.report.plots.rungs import plot_rungs
from rungwise.results.report.plots.space.hyperparameters import plot_contour, plot_slices
from rungwise.results.report.plots.space.importances import list_missing, plot_importances
from rungwise.results.report.plots.space.pairs import plot_pairs
from rungwise.results.report.plots.space.parallel import plot_parallel
from rungwise.results.report.plots.timeline import plot_timeline
from rungwise.results.report.provenance import provenance
from rungwise.results.report.snapshot import Entry, FrozenReader, Snapshot, read
from rungwise.results.report.trial_panel import panel_data
from rungwise.results.tables.schema import PHASE_ORDER

MOST_COLUMNS = 14  # of hyperparameters
FILE = "report.html"


class ReportError(RungwiseError, RuntimeError):
    """The page cannot be written; the message names the file and the way out."""


def write(run: Path, renewed: int | None = None) -> Path:
    """Make `report.html` in the run's folder. `renewed`: seconds after which a browser loads the page anew.

    Raises RecordError without a whole record, ReportError without room.
    """
    path = run / FILE
    page_bytes = render(run, renewed).encode()
    try:
        with replacing(path) as file:
            file.write(page_bytes)
    except OSError as error:
        raise ReportError(f"{path} must be writable, but {error}; the record is untouched: make it again") from error
    return path


def render(run: Path, renewed: int | None = None) -> str:
    """The page as HTML. Raises RecordError when there is no whole record in `run`."""
    with FrozenReader(run) as reader:
        snapshot, findings, audit_result, points = read(reader), answer(reader), audit(reader), pareto.points(reader)
        budget_curves = read_budget_curves(reader)
    analysis = analyse(snapshot)
    slices = plot_slices(analysis, snapshot)
    plots = {
        "differences": plot_differences(findings),
        "arms": plot_arms(snapshot, findings),
        "budget": plot_budget(budget_curves, snapshot, findings),
        "pareto": plot_pareto(points, snapshot.arms),
        "history": plot_history(snapshot),
        "curves": plot_curves(snapshot),
        "rungs": plot_rungs(snapshot),
        "importances": plot_importances(analysis),
        "contour": plot_contour(analysis, snapshot),
        "pairs": plot_pairs(analysis, snapshot),
        "parallel": plot_parallel(analysis, snapshot),
        "timeline": plot_timeline(snapshot),
        "confusion": error_gallery.confusion_plot(snapshot),
        "residuals": plot_residuals(snapshot.meta["test"] or {}),
    }
    searched, mistakes = _searched(snapshot), error_gallery.gallery(snapshot)
    title, lead = summary.title_and_lead(snapshot)
    return render_page(
        [plot for plot in (*plots.values(), *slices) if plot],
        _hover(snapshot),
        panel_data(snapshot, run),
        snapshot=snapshot,
        answer=findings,
        title=title,
        lead=lead,
        headlines=summary.headlines(snapshot, findings),
        tiles=summary.tiles(snapshot, findings),
        plots=plots,
        slices=slices,
        analysis=analysis,
        missing_importances=list_missing(analysis),
        arm_table=arm_table(snapshot, findings),
        comparison_table=comparison_table(findings),
        pareto_table=pareto_table(points),
        ranked=sorted(snapshot.entries, key=_rank_order),
        searched=searched[:MOST_COLUMNS],
        columns_left_out=max(0, len(searched) - MOST_COLUMNS),
        mistakes=mistakes,
        mistake_table=error_gallery.mistake_table(mistakes),
        forecast_table=cost.forecast_table(snapshot, _bytes(run)),
        audit=audit_result,
        audit_table=cost.audit_table(audit_result),
        cost=cost.totals(snapshot),
        phase_table=cost.phase_table(snapshot),
        session_table=cost.session_table(snapshot),
        made=provenance(snapshot),
        now=time.time(),
        renewed=renewed,
    )


def _searched(snapshot: Snapshot) -> list[str]:
    """Names of the hyperparameters that any trial's sampler chose, in the order of the space."""
    space = snapshot.definition.space
    names = [*({} if isinstance(space, str) else space), *(name for e in snapshot.entries for name in e.trial.params)]
    return list(dict.fromkeys(names))


def _rank_order(entry: Entry) -> tuple[Any, ...]:
    trial = entry.trial
    phase = PHASE_ORDER.get(trial.phase, len(PHASE_ORDER))
    return (phase, entry.rank is None, entry.rank or 0, trial.state is not State.RUNNING, entry.number)


def _hover(snapshot: Snapshot) -> dict[int, str]:
    """What a plot says of a trial under the pointer, in plotly.js's own markup."""
    names = _searched(snapshot)[:10]
    texts = {}
    for entry in snapshot.entries:
        trial = entry.trial
        lines = [f"trial {trial.trial} · {trial.arm} · {trial.state.lower()}"]
        lines += [f"{name} = {setting(trial.params[name])}"[:80] for name in names if name in trial.params]
        if trial.reason:
            lines.append(trial.reason[:80])
        texts[trial.trial] = "<br>".join(map(safe, lines))
    return texts


def _bytes(run: Path) -> int:
    """What the run's folder takes on the disk, but for this page. A sweep renames and removes files meanwhile."""
    total = 0
    for folder, _, names in os.walk(run):
        for name in names:
            with suppress(OSError):
                total += os.stat(os.path.join(folder, name)).st_size if name != FILE else 0
    return total
