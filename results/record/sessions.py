"""The state of a sweep, corrected for drivers that were killed and could not record their end."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rungwise.results.record.reader import Reader
from rungwise.results.record.types import Session, State, SweepState

LOCK = "lock"  # a file in a run's folder; while a driver holds the run, it says "pid 4711 on HOST"


def sweep_state(reader: Reader, dead: int | None = None) -> SweepState:
    """The state of the last session; INTERRUPTED when it says RUNNING, but its driver is no more; PLANNED without one.

    `dead`: process id of a driver that is known to be gone. Else the driver is looked for when it ran on this host;
    on another host it is believed to live.
    """
    sessions = reader.sessions()
    if not sessions:
        return SweepState.PLANNED
    last = sessions[-1]
    if last.state is SweepState.RUNNING and _gone(last.info, dead):
        return SweepState.INTERRUPTED
    return last.state


def is_held(run: Path) -> bool:
    """Whether a driver on this host has locked the run's folder, be it before its session begins."""
    try:
        pid = local_holder((run / LOCK).read_text().strip())
    except OSError:
        return False
    return pid is not None and _lives(pid)


def local_holder(says: str) -> int | None:
    """The process on this host that a lock's file names; None when it names none, or one on another host."""
    pid, _, host = says.removeprefix("pid ").partition(" on ")
    return int(pid) if pid.isdigit() and host == socket.gethostname() else None


def ended_at(reader: Reader) -> float | None:
    """Seconds since the epoch at which the last session ended; of a killed one, the last thing it recorded."""
    sessions = reader.sessions()
    if sessions and sessions[-1].ended is not None:
        return sessions[-1].ended
    started = sessions[-1].started if sessions else None
    return max((at for at in (started, reader.last_at()) if at is not None), default=None)


def session_spans(
    sessions: Sequence[Session], ended: float | None, last_report: Callable[[float], float | None]
) -> list[tuple[float, float]]:
    """(start, end) of each session, seconds since the epoch; a killed one ends with its last report.

    Args:
        sessions: in order.
        ended: when the last of them ended (`ended_at`).
        last_report: the time of the last report before a time; None without one.
    """
    spans = []
    for session, later in zip(sessions, [*sessions[1:], None], strict=False):
        end = session.ended
        if end is None:
            end = ended if later is None else last_report(later.started)
        spans.append((session.started, max(session.started, end or session.started)))
    return spans


def worked_seconds(reader: Reader) -> float:
    """Seconds that drivers worked on the run, all sessions together: what the summary, `list` and the report say."""
    return sum(end - start for start, end in session_spans(reader.sessions(), ended_at(reader), reader.last_report))


def _gone(info: Mapping[str, Any], dead: int | None) -> bool:
    pid = info.get("pid")
    if not isinstance(pid, int) or info.get("host") != socket.gethostname():
        return False
    return pid == dead or not _lives(pid)


def _lives(pid: int) -> bool:
    import psutil  # takes 20 ms

    try:  # a zombie is dead, but not yet buried by its parent
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except (psutil.NoSuchProcess, ValueError):
        return False
    except psutil.Error:  # another user's
        return True


def trial_state_text(trial: State, sweep: SweepState) -> str:
    """A trial's state in words: a RUNNING trial of a sweep that does not run is 'to resume'."""
    return "to resume" if trial is State.RUNNING and sweep is not SweepState.RUNNING else trial.lower()
