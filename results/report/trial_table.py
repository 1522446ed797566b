"""The report's table of all trials: best first, sortable by click and by keyboard, failed ones with their reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rungwise.results.io.formatting import duration, format_metric, metric_label, short
from rungwise.results.record.types import State
from rungwise.results.report.page import Html, join, raw, tag
from rungwise.results.report.snapshot import Entry, Snapshot

MOST_COLUMNS = 14  # of hyperparameters
TRACEBACK = 4000  # characters of a traceback that the page keeps: its end
_PHASES = ("search", "confirm", "audit")


def trial_list(snapshot: Snapshot) -> Html:
    """All trials of all phases; nothing when there are none."""
    if not snapshot.entries:
        return Html("")
    phased = any(entry.trial.phase != "search" for entry in snapshot.entries)
    varied = searched(snapshot)
    units = {name: snapshot.about.get(name, {}).get("unit", "") for name in varied}
    heads = ["rank", "trial", metric_label(snapshot.metric), "state", "arm", *(["phase"] if phased else [])]
    heads += ["epochs", "time", *varied, "why it ended"]
    head = tag("tr", *(_head(name, units.get(name, "")) for name in heads))
    rows = join(_row(entry, snapshot, varied, phased) for entry in sorted(snapshot.entries, key=_order))
    label = f"{len(snapshot.entries)} trials, best first"
    element = tag(
        "table", tag("caption", label, class_="unseen"), tag("thead", head), tag("tbody", rows), class_="sortable"
    )
    find = tag(
        "label",
        "Show trials that contain ",
        tag("input", type="search", class_="find", autocomplete="off"),
        class_="tools",
    )
    note = tag(
        "p",
        "Best first by the best validation score of each phase. A column's name sorts by it; trials that diverged, "
        "failed or were lost have no rank.",
    )
    frame = tag("div", element, class_="scroll tall", tabindex=0, role="region", aria_label=label)
    return join([note, find, frame, tag("p", class_="count", aria_live="polite")])


def searched(snapshot: Snapshot) -> list[str]:
    """Names of all hyperparameters that any trial's sampler chose, in the order of the space."""
    names = dict.fromkeys([*_space(snapshot), *(name for entry in snapshot.entries for name in entry.trial.params)])
    return list(names)[:MOST_COLUMNS]


def _space(snapshot: Snapshot) -> list[str]:
    space = snapshot.definition.space
    return [] if isinstance(space, str) else list(space)


def _head(name: str, unit: str) -> Html:
    button = tag("button", name, tag("span", class_="arrow", aria_hidden="true"), type="button", title=unit or None)
    return tag("th", button, scope="col", aria_sort="ascending" if name == "rank" else "none")


def _order(entry: Entry) -> tuple[Any, ...]:
    phase = _PHASES.index(entry.trial.phase) if entry.trial.phase in _PHASES else len(_PHASES)
    running = entry.trial.state is State.RUNNING
    return (phase, entry.rank is None, entry.rank or 0, not running, entry.number)


def _row(entry: Entry, snapshot: Snapshot, varied: Sequence[str], phased: bool) -> Html:
    trial = entry.trial
    chosen = {**trial.config, **trial.params}
    fixed = {name for name in varied if name not in trial.params}
    cells = [
        _cell(entry.rank),
        _cell(trial.trial),
        _cell(entry.best, format_metric(entry.best, snapshot.metric) if entry.best is not None else ""),
        tag("td", tag("span", trial.state.lower(), class_=f"state {trial.state.lower()}")),
        _cell(trial.arm),
        *([_cell(trial.phase)] if phased else []),
        _cell(entry.epochs),
        _cell(entry.seconds, duration(entry.seconds) if entry.seconds is not None else ""),
        *(_cell(chosen.get(name), faint=name in fixed) for name in varied),
        tag("td", _why(entry), class_="why", title=trial.reason),
    ]
    return tag("tr", *cells)


def _why(entry: Entry) -> Html:
    trial = entry.trial
    if not trial.error:
        return join([trial.reason])
    return tag(
        "details", tag("summary", trial.reason or "error"), tag("pre", raw(trial.error[-TRACEBACK:]), tabindex=0)
    )


def _cell(value: object, words: str | None = None, faint: bool = False) -> Html:
    """A cell; `data-v` is what it is sorted by."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if words is None:
        words = short(value)
    sort = f"{value!r}" if number and words != str(value) else None
    classes = " ".join(name for name, on in (("n", number), ("given", faint)) if on)
    return tag("td", words, data_v=sort, class_=classes or None)
