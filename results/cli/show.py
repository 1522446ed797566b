"""Runs and trials on the terminal: `rungwise list` and `rungwise show`."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.rule import Rule
from rich.table import Table

from rungwise.errors import RungwiseError
from rungwise.results.analysis.answer import answer
from rungwise.results.analysis.pareto import amount
from rungwise.results.io.formatting import duration, format_metric, setting, short
from rungwise.results.io.terminal import Terminal
from rungwise.results.io.text import can_encode
from rungwise.results.record.reader import Reader
from rungwise.results.record.sessions import sweep_state, trial_state_text, worked_seconds
from rungwise.results.record.types import RecordError, ReportRow, State
from rungwise.results.tables.schema import PHASE_ORDER
from rungwise.results.tables.tables import tables
from rungwise.text import REASON as REASON_LENGTH
from rungwise.text import one_line, plural, unknown

if TYPE_CHECKING:
    import pyarrow as pa

_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = "_.-~=+*#"  # where the terminal's encoding has no blocks
_CURVE = 24  # characters a curve takes
CURVE, REASON = "curve", "reason"  # columns that give way on a narrow terminal
ANSWER = "answer"  # a column of `rungwise list`
_REASON = 40  # characters of a reason on a terminal
_PIPED = 10_000  # characters a line at most when the output is piped
_COLOURS = {
    State.COMPLETED: "green",
    State.STOPPED: "dim",
    State.RUNNING: "cyan",
    State.DIVERGED: "yellow",
    State.FAILED: "red",
    State.LOST: "red",
}


def console() -> Terminal:
    """Standard output; wide when it is piped, so that no column is cut."""
    terminal = Terminal()
    return terminal if terminal.is_terminal else Terminal(width=_PIPED)


def run_table(folders: Sequence[Path]) -> Table:
    """One line per run: its state, its trials by state, its answer; why it is damaged, where it is."""
    table = Table("run", "sweep", "state", "trials", "started", "time", ANSWER, box=None, header_style="bold")
    for folder in folders:
        try:
            table.add_row(folder.name, *_run_cells(folder))
        except RecordError as error:
            table.add_row(folder.name, "", "DAMAGED", one_line(error), style="red")
    return table


def _run_cells(folder: Path) -> list[str]:
    with Reader(folder) as reader:
        definition = reader.definition()
        trials, sessions = reader.trials(), reader.sessions()
        state, seconds = sweep_state(reader), worked_seconds(reader)
        found = answer(reader)
    counts = Counter(trial_state_text(trial.state, state) for trial in trials if trial.phase == "search")
    states = [f"{counts[text]} {text}" for each in State if counts[text := trial_state_text(each, state)]]
    repeats = sum(trial.phase != "search" for trial in trials)
    began = sessions[0].started if sessions else None
    return [
        definition.sweep,
        state,
        "; ".join(filter(None, [", ".join(states) or "none", plural(repeats, "repeat") if repeats else ""])),
        "" if began is None else datetime.fromtimestamp(began, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "" if began is None else duration(seconds),
        "; ".join(line.split(". ")[0] for line in found.headlines) if found.confirmed else "none yet",
    ]


@dataclass(frozen=True)
class Selection:
    """Which trials of a run, in which order."""

    arm: str | None = None  # of one arm
    phase: str | None = None  # search, confirm, audit
    sort: str | None = None  # a column, with "-" in front for the largest first; None: by phase and rank

    def rows(self, trials: pa.Table) -> list[dict[str, Any]]:
        """Rows of the table `trials`. Raises SelectionError, which lists what there is."""
        rows: list[dict[str, Any]] = trials.to_pylist()
        for name in ("arm", "phase"):
            if (wanted := getattr(self, name)) is not None:
                there = sorted({str(row[name]) for row in rows})
                if wanted not in there:
                    raise SelectionError(f"--{name} must be one of {', '.join(there) or 'none'} (got {wanted!r})")
                rows = [row for row in rows if row[name] == wanted]
        if self.sort is None:
            return sorted(rows, key=_place)
        name = _column(self.sort.removeprefix("-"), trials.column_names)
        known = [row for row in rows if row[name] is not None]
        return [
            *sorted(known, key=lambda row: row[name], reverse=self.sort.startswith("-")),
            *(row for row in rows if row[name] is None),
        ]


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """By phase, then the best first; what cannot be best comes last."""
    return PHASE_ORDER.get(row["phase"], len(PHASE_ORDER)), row["rank"] is None, row["rank"], row["trial"]


class SelectionError(RungwiseError, ValueError):
    """There are no such trials, or no such column to sort by."""


def _column(name: str, names: Sequence[str]) -> str:
    """The column that a user calls `name`: a hyperparameter goes by its own name, too."""
    for column in (name, f"params_{name}", f"last_{name}"):
        if column in names:
            return column
    short_names = list(dict.fromkeys(column.removeprefix("params_") for column in names))
    raise SelectionError(unknown("--sort", name, short_names))


def show_run(reader: Reader, selection: Selection, top: int) -> None:
    """Print the answer and the first `top` of the selected trials. Raises SelectionError."""
    definition, found = reader.definition(), answer(reader)
    rows = selection.rows(tables(reader, found).trials)
    shown = console()
    table = trial_table(reader, rows, top, brief=shown.is_terminal)
    shown.print(f"{definition.name}: {sweep_state(reader).lower()}", style="bold")
    if definition.question:
        shown.print(definition.question)
    shown.print(f"\n{found.sentence}\n" if found.confirmed else "\nNo answer yet: no trial was confirmed.\n")
    if definition.folds:
        shown.print(f"{definition.metric}: mean over {definition.folds} folds, of a stopped trial over fewer\n")
    shown.print_whole(table, [CURVE, REASON])
    if len(rows) > top:
        shown.print(f"{plural(len(rows) - top, 'more trial')}: --top {len(rows)} shows all", style="dim")


def trial_rows(reader: Reader, selection: Selection) -> tuple[list[str], list[list[Any]]]:
    """The columns of the table `trials`, and the selected rows. Raises SelectionError."""
    trials = tables(reader).trials
    return trials.column_names, [list(row.values()) for row in selection.rows(trials)]


def trial_table(reader: Reader, rows: Sequence[Mapping[str, Any]], top: int, *, brief: bool) -> Table:
    """The first `top` of `rows`: state, objective, curve and what distinguishes them.

    `brief`: long reasons are cut, as a terminal has little room.
    """
    definition, curves, sweep = reader.definition(), reader.curves(), sweep_state(reader)
    chosen = {trial.trial: trial.params for trial in reader.trials()}  # a column has the same null for None as for none
    metric = definition.metric
    varied = [name for name in (rows[0] if rows else {}) if name.startswith("params_") and _varies(rows, name)]
    others = list(definition.objectives)[1:]
    front = ["front"] if others else []
    table = Table("rank", "trial", "arm", "state", metric, *others, *front, "epochs", box=None, header_style="bold")
    bars = _BARS if can_encode(_BARS, sys.stdout) else _ASCII_BARS
    table.add_column(CURVE)
    for name in varied:
        table.add_column(name.removeprefix("params_"))
    table.add_column(REASON)
    shown = rows[:top]
    phases = [phase for phase, _ in groupby(row["phase"] for row in shown)]
    by_phase = len(set(phases)) == len(phases)  # a line parts them
    for previous, row in zip([None, *shown], shown, strict=False):
        phase = "" if row["phase"] == "search" else f" ({row['phase']})"
        if by_phase and previous and previous["phase"] != row["phase"]:
            table.add_row(*(Rule(style="dim") for _ in table.columns))
        table.add_row(
            short(row["rank"]),
            f"{row['trial']}{phase}",
            row["arm"],
            trial_state_text(State(row["state"]), sweep).upper(),
            "" if row["best_value"] is None else format_metric(row["best_value"], metric),
            *("" if row.get(f"last_{name}") is None else amount(row[f"last_{name}"], name) for name in others),
            *("yes" if row["pareto"] else "" for _ in front),
            short(row["epochs"]),
            sparkline(_values(curves.get(row["trial"], {}), metric), bars=bars),
            *(_setting_text(name, row, chosen[row["trial"]]) for name in varied),
            one_line(row["reason"] or "", _REASON if brief else REASON_LENGTH),
            style=_COLOURS[State(row["state"])],
        )
    table.columns = [column for column in table.columns if any(isinstance(cell, str) and cell for cell in column.cells)]
    return table


def _setting_text(column: str, row: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    return (setting if column.removeprefix("params_") in params else short)(row[column])


def sparkline(values: Sequence[float], width: int = _CURVE, bars: str = _BARS) -> str:
    """A curve in one line of at most `width` characters, lowest to highest value; a non-finite value is an x."""
    if len(values) > width:
        values = [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    return "".join(bars[round((value - low) * scale)] if math.isfinite(value) else "x" for value in values)


def _values(curve: Mapping[int, ReportRow], metric: str) -> list[float]:
    return [row.metrics.get(metric, math.nan) for _, row in sorted(curve.items())]


def _varies(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return name != "params_seed" and len({row[name] for row in rows}) > 1
