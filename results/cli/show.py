"""Runs and trials on the terminal: `rungwise list` and `rungwise show`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.rule import Rule
from rich.table import Table

from rungwise.results.analysis.pareto import amount
from rungwise.results.io.formatting import duration, format_metric, short
from rungwise.results.io.terminal import Terminal
from rungwise.results.record.reader import Reader
from rungwise.results.record.sessions import ended_at, sweep_state
from rungwise.results.record.types import RecordError, ReportRow, State, SweepState
from rungwise.results.tables.schema import PHASE_ORDER
from rungwise.results.tables.tables import tables
from rungwise.text import REASON as REASON_LENGTH
from rungwise.text import one_line

_BARS = "▁▂▃▄▅▆▇█"
_CURVE = 24  # characters a curve takes
CURVE, REASON = "curve", "reason"  # columns that give way on a narrow terminal
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
    """One line per run: its state, its trials by state, its best value; why it is damaged, where it is."""
    table = Table("run", "sweep", "state", "trials", "best", "started", "time", box=None, header_style="bold")
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
        state, end = sweep_state(reader), ended_at(reader)
        both = tables(reader)
    counts = Counter(trial.state for trial in trials)
    began = sessions[0].started if sessions else None
    return [
        definition.sweep,
        state,
        ", ".join(f"{counts[trial_state]} {_now(trial_state, state)}" for trial_state in State if counts[trial_state])
        or "none",
        _best(both.trials.select(["phase", "rank", "best_value"]).to_pylist(), definition.metric),
        "" if began is None else datetime.fromtimestamp(began, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "" if began is None or end is None else duration(end - began),
    ]


def _now(trial: State, sweep: SweepState) -> str:
    """A trial's state in words: one that is in flight runs while the sweep does, and else goes on with it."""
    return "to go on" if trial is State.RUNNING and sweep is not SweepState.RUNNING else trial.lower()


def _best(rows: Sequence[Mapping[str, Any]], metric: str) -> str:
    best = [row["best_value"] for row in rows if row["phase"] == "search" and row["rank"] == 1]
    return f"{metric} {format_metric(best[0], metric)}" if best else ""


def trial_table(reader: Reader, top: int, *, brief: bool = True) -> Table:
    """The `top` best trials, then those that cannot be best: state, objective, curve and what distinguishes them.

    `brief`: long reasons are cut, as a terminal has little room.
    """
    definition = reader.definition()
    metric = definition.metric
    both, curves = tables(reader), reader.curves()
    rows = both.trials.to_pylist()
    rows.sort(
        key=lambda row: (
            PHASE_ORDER.get(row["phase"], len(PHASE_ORDER)),
            row["rank"] is None,
            row["rank"],
            row["trial"],
        )
    )
    varied = [name for name in both.trials.column_names if name.startswith("params_") and _varies(rows, name)]
    others = list(definition.objectives)[1:]
    front = ["front"] if others else []
    table = Table("rank", "trial", "arm", "state", metric, *others, *front, "epochs", box=None, header_style="bold")
    table.add_column(CURVE)
    for name in varied:
        table.add_column(name.removeprefix("params_"))
    table.add_column(REASON)
    shown = rows[:top]
    for previous, row in zip([None, *shown], shown, strict=False):
        phase = "" if row["phase"] == "search" else f" ({row['phase']})"
        if previous and previous["phase"] != row["phase"]:
            table.add_row(*(Rule(style="dim") for _ in table.columns))
        table.add_row(
            short(row["rank"]),
            f"{row['trial']}{phase}",
            row["arm"],
            row["state"],
            "" if row["best_value"] is None else format_metric(row["best_value"], metric),
            *("" if row.get(f"last_{name}") is None else amount(row[f"last_{name}"], name) for name in others),
            *("yes" if row["pareto"] else "" for _ in front),
            short(row["epochs"]),
            sparkline(_values(curves.get(row["trial"], {}), metric)),
            *(short(row[name]) for name in varied),
            one_line(row["reason"] or "", _REASON if brief else REASON_LENGTH),
            style=_COLOURS[State(row["state"])],
        )
    return table


def sparkline(values: Sequence[float], width: int = _CURVE) -> str:
    """A curve in one line of at most `width` characters, lowest to highest value; a non-finite value is an x."""
    if len(values) > width:
        values = [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] if math.isfinite(value) else "x" for value in values)


def _values(curve: Mapping[int, ReportRow], metric: str) -> list[float]:
    return [row.metrics.get(metric, math.nan) for _, row in sorted(curve.items())]


def _varies(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return name != "params_seed" and len({row[name] for row in rows}) > 1
