"""What the panel of a trial shows: its outcome, settings and curve, and the last lines of its log."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rungwise.results.io.formatting import duration, epochs, format_metric, metric_label, setting, short
from rungwise.results.io.redaction import redacted
from rungwise.results.record.types import State
from rungwise.results.report.plots.primitives import safe, state_colour
from rungwise.results.report.snapshot import Entry, Snapshot
from rungwise.text import printable, tail

POINTS = 40  # of a curve in the panel
LOGS = 200  # trials whose log is in the page: failed ones first, then the best
LOG_LINES = 20
LOG_LENGTH = 4000  # characters
LOG_READ = 5 * LOG_LENGTH  # bytes at the end of a log: no secret that reaches into what is shown begins before them
_ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
_FAILURES = (State.FAILED, State.LOST, State.DIVERGED)


def panel_data(snapshot: Snapshot, run: Path) -> dict[str, Any]:
    """{"shared": settings of all trials, "metric": its label for plotly.js, "trials": {number: what is shown}}."""
    configs = {entry.number: _settings(entry) for entry in snapshot.entries}
    shared = _shared(list(configs.values()))
    logs = _logs(snapshot.entries, run / "logs")
    trials = {}
    for entry in snapshot.entries:
        own = [pair for pair in configs[entry.number].items() if pair not in shared.items()]
        shown: dict[str, Any] = {"about": _about(entry, snapshot), "settings": own, "curve": _curve(entry)}
        shown["colour"] = state_colour(entry.trial.state)
        if entry.number in logs:
            shown["log"] = logs[entry.number]
        if entry.trial.error:
            shown["error"] = printable(tail(entry.trial.error))
        trials[entry.number] = shown
    return {"shared": list(shared.items()), "metric": safe(metric_label(snapshot.metric)), "trials": trials}


def _about(entry: Entry, snapshot: Snapshot) -> list[tuple[str, str]]:
    trial = entry.trial
    reason = trial.reason
    if reason is None and trial.state is State.COMPLETED and entry.epochs is not None:
        reason = f"it reached {epochs(entry.epochs)}"
    rows = [("arm", trial.arm), ("state", trial.state.lower()), ("why it ended", reason or "")]
    if trial.phase == "search":
        rows.append(("search", str(trial.search)))
    else:
        rows.append(("phase", trial.phase + (f" of trial {trial.source}" if trial.source else "")))
    if entry.best is not None and entry.best_epoch is not None:
        score = f"{format_metric(entry.best, snapshot.metric)} after {epochs(entry.best_epoch)}"
        rows.append((f"best {metric_label(snapshot.metric)}", score))
    rows.append((f"{metric_label(snapshot.metric)} of its folds", ", ".join(entry.of_folds)))
    rows.append(("rank", f"{entry.rank} of its phase" if entry.rank else ""))
    rows.append(("epochs", short(entry.epochs)))
    rows.append(("training time", "" if entry.seconds is None else duration(entry.seconds)))
    rows.append(("attempts", str(trial.attempts) if trial.attempts > 1 else ""))
    rows.append(("worker", " ".join(filter(None, (trial.node, trial.device)))))
    return [(name, printable(text)) for name, text in rows if text]


def _settings(entry: Entry) -> dict[str, str]:
    """Name -> value as text of everything that was set; what the sampler chose comes first."""
    values = {**entry.trial.params, **entry.trial.config}
    return {printable(name): printable(setting(value)) for name, value in values.items()}


def _shared(configs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What all trials have alike; nothing of a single trial."""
    if len(configs) < 2:
        return {}
    counts = Counter(json.dumps(pair) for config in configs for pair in config.items())
    return {name: value for name, value in configs[0].items() if counts[json.dumps((name, value))] == len(configs)}


def _curve(entry: Entry) -> tuple[list[float], list[float]]:
    """(epochs, values); a value that is not finite becomes a gap."""
    step = max(1, -(-len(entry.curve) // POINTS))
    kept = [*entry.curve[:-1:step], *entry.curve[-1:]]
    return [epoch for epoch, _, _ in kept], [value for _, value, _ in kept]


def _logs(entries: Sequence[Entry], folder: Path) -> dict[int, str]:
    """The last lines of what each trial's last attempt printed: of programs, whose output is in the run's folder."""
    if not folder.is_dir():
        return {}
    order = sorted(entries, key=lambda entry: (entry.trial.state not in _FAILURES, entry.rank is None, entry.rank or 0))
    found: dict[int, str] = {}
    for entry in order:
        if len(found) == LOGS:
            break
        try:
            with (folder / f"{entry.number}-{entry.trial.attempts}.log").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_READ))
                text = file.read().decode(errors="replace")
        except OSError:
            continue
        found[entry.number] = printable(_end_of_log(text))
    return found


def _end_of_log(text: str) -> str:
    """The last lines as a terminal would show them: without colours, and of a progress bar its last state.

    Secrets are replaced before anything is cut: the rest of a secret whose beginning is cut off is not known as one.
    """
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in _ESCAPE_SEQUENCE.sub("", text).rstrip().split("\n")]
    return "\n".join(redacted("\n".join(lines)).split("\n")[-LOG_LINES:])[-LOG_LENGTH:]
