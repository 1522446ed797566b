"""The live exporter: a process of low priority that tails the record, so that nothing slow stands in the loop.

MLflow's imports (2-3 s of CPU) and a server that hangs cost the driver nothing: it starts a `Follower` and, at the
end, gives it so many seconds to finish. The follower lives as long as its standard input is open, so it also makes
the last export of a driver that was killed.

Its whole protocol: a number of seconds on standard input, then end of file; one JSON line on standard output:
`{"parquet": true or error text, "mlflow": "complete" or error text, "trials": 32, "metrics": 1234, "notes": [],
"pages": {}}`, with a key for each logger.
"""

from __future__ import annotations

import gc
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rungwise.results.exporters.loggers.settings import LogSettings
from rungwise.results.io.redaction import redacted
from rungwise.results.io.text import error_line, print_anything, say
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import RecordError

if TYPE_CHECKING:
    from rungwise.results.exporters.loggers.feed import Feed

NICENESS = 15  # trials have 5, the driver 0
EVERY = 2.0  # seconds between two passes of a logger
PARQUET_EVERY = 10.0  # seconds between two Parquet exports
LIMIT = 600.0  # seconds for the last pass when the driver died and no user waits
REPORT_LIMIT = 20.0  # seconds for the last pass below which no user waits for a report
MIRROR_LIMIT = 10.0  # seconds that the last copy may take in any case
_GRACE = 2.0  # of the driver's deadline: what starting and printing may take
_SLOWEST = 60.0  # seconds between two tries while a logger cannot be reached
_SHARE = 10  # an export that took t seconds is not repeated before 10 t have passed


class Follower:
    """The driver's handle on the exporter process: `start()`, `ask()` and `finish()`, once each."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str], loggers: Sequence[str]) -> None:
        self._process = process
        self._errors = errors
        self._loggers = loggers

    @classmethod
    def start(
        cls,
        run: Path,
        tracking_uri: str | None = None,
        mirror: str | None = None,
        settings: LogSettings | None = None,
    ) -> Follower:
        """Start to follow `run`; returns at once. The URI travels in the environment: `ps` shows command lines.

        Args:
            run: The run's folder.
            tracking_uri: MLflow's.
            mirror: A path or URI below which a copy of the run is kept (`results.exporters.mirror`).
            settings: What the sweep is logged to; by default MLflow.
        """
        settings = settings or LogSettings()
        here = str(Path(__file__).absolute().parents[3])  # through the links of rungwise/
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
        if tracking_uri:
            environment["RUNGWISE_TRACKING_URI"] = tracking_uri
        environment["RUNGWISE_MIRROR"] = mirror or ""
        environment[_SETTINGS] = json.dumps(settings.to_json())
        errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by finish)
        # -P: a folder `rungwise` in the user's working directory is not ours.
        # A session of its own: neither Ctrl-C nor `timeout`'s signal to the group may end it before its last pass.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(run.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            start_new_session=True,
        )
        with suppress(OSError):  # it may be gone already
            os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
        return cls(process, errors, settings.loggers)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, timeout: float = 60.0) -> None:
        """Ask for the last pass, which may take `timeout` seconds; returns at once. Once is enough."""
        if self._process.stdin is None:
            return
        self._deadline = time.monotonic() + timeout
        with suppress(BrokenPipeError), self._process.stdin as pipe:  # it may have died
            pipe.write(f"{max(timeout - _GRACE, 0.0)}\n")
        self._process.stdin = None
        self._timeout = timeout

    def finish(self, timeout: float = 60.0, allowed: Callable[[], float] | None = None) -> dict[str, Any]:
        """Wait for what `ask` asked for (and ask first, if that has not been done). Never raises: errors are in the
        answer.

        `allowed`: seconds that the pass may take, asked again while we wait; fewer once a user waits for the prompt.
        """
        self.ask(timeout)
        killed = False
        while self._process.poll() is None:  # its answer is one line, for which the pipe has room
            if allowed and (seconds := allowed()) < self._timeout:
                self._timeout = seconds
                self._deadline = min(self._deadline, time.monotonic() + seconds)
            if not killed and time.monotonic() > self._deadline:
                killed = True
                self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.1)
        output, _ = self._process.communicate()
        with self._errors:
            self._errors.seek(0)
            said = self._errors.read().strip().splitlines()
        try:
            return dict(json.loads(output.strip().splitlines()[-1]))
        except (IndexError, ValueError):
            reason = self._silence(self._timeout if killed else None, said)
            return {"parquet": reason, **dict.fromkeys(self._loggers, reason), "trials": 0, "metrics": 0}

    def _silence(self, waited: float | None, said: list[str]) -> str:
        """Why there was no answer."""
        if waited is not None:
            return f"the exporter gave no answer within {waited:g} s"
        if self._process.returncode < 0:
            return f"the exporter was killed ({signal.Signals(-self._process.returncode).name})"
        return said[-1] if said else f"the exporter ended with exit status {self._process.returncode} and no answer"


COMPLETE = "complete"
_SETTINGS = "RUNGWISE_LOGGING"  # environment variable: LogSettings as JSON


@dataclass(slots=True)
class _Reached:
    """What a logger has reached."""

    state: str = "not reached"  # or "complete", or what went wrong
    trials: int = 0  # that are there
    metrics: int = 0  # that were logged
    notes: tuple[str, ...] = ()  # what it could not take as it is
    page: str = ""  # as in `Logged`


@dataclass(slots=True)
class _Progress:
    """What the exporter has reached."""

    loggers: dict[str, _Reached]
    parquet: bool | str = False
    report: bool | str = False
    mirror: str | None = None  # why the last copy was not made

    def to_json(self) -> dict[str, Any]:
        """The JSON line."""
        return {
            "parquet": self.parquet,
            "report": self.report,
            "mirror": self.mirror,
            **{name: reached.state for name, reached in self.loggers.items()},
            "trials": max((reached.trials for reached in self.loggers.values()), default=0),
            "metrics": sum(reached.metrics for reached in self.loggers.values()),
            "notes": [f"{name}: {line}" for name, reached in self.loggers.items() for line in reached.notes],
            "pages": {name: reached.page for name, reached in self.loggers.items() if reached.page},
        }


def follow(run: Path, every: float = EVERY) -> int:
    """Export until standard input closes, then once more; prints the JSON line. Returns the exit status.

    Parquet is exported by the main thread and each logger by another: a server that hangs holds up nothing else.
    """
    gc.disable()  # until MLflow is imported: imports leave no garbage, and looking for it takes a fifth of their time
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a scheduler that ends all processes of a job waits for the last pass
    asked, answered = _own_streams()
    stop, files_written = threading.Event(), threading.Event()  # the driver is done; so are the files that MLflow keeps
    limit, deadline = [LIMIT], [math.inf]
    threading.Thread(target=_listen, args=(asked, stop, limit, deadline), daemon=True).start()
    threading.Thread(target=_load_report, args=(run, stop), daemon=True).start()
    settings = LogSettings.from_json(json.loads(os.environ.get(_SETTINGS) or "{}"))
    progress = _Progress({name: _Reached() for name in settings.loggers})
    driver = os.getppid()
    feeders = {
        name: threading.Thread(
            target=_feed, args=(run, partial(_open, name, run, settings), every, driver, files_written, reached)
        )
        for name, reached in progress.loggers.items()
    }
    for feeder in feeders.values():
        feeder.daemon = True
        feeder.start()
    where, copied = os.environ.get("RUNGWISE_MIRROR"), threading.Event()
    copier = threading.Thread(target=_copy, args=(run, where, copied, progress), daemon=True)
    if where:
        copier.start()
    _write_tables(run, stop, progress)
    if limit[0] >= REPORT_LIMIT:
        _write_report(run, progress)
    files_written.set()
    copied.set()
    for name, feeder in feeders.items():
        feeder.join(max(deadline[0] - time.monotonic(), 0.0))
        if feeder.is_alive():
            progress.loggers[name].state = f"no answer within {limit[0]:g} s"
    if where:
        copier.join(max(limit[0], MIRROR_LIMIT))
    print(json.dumps(progress.to_json()), file=answered, flush=True)
    complete = progress.parquet is True and all(reached.state == COMPLETE for reached in progress.loggers.values())
    with suppress(AttributeError, OSError, ValueError):  # a user's function may have closed it
        sys.stderr.flush()
    os._exit(0 if complete else 1)  # a thread that hangs in a request would keep the interpreter


def _own_streams() -> tuple[IO[str], IO[str]]:
    """Where the driver asks and is answered. A user's function, and what it starts, reads nothing and prints to
    standard error: what they did to our pipes would be taken for the answer, or fill them."""
    streams = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return streams


def _listen(asked: IO[str], stop: threading.Event, limit: list[float], deadline: list[float]) -> None:
    """Wait for the driver's request, or its end."""
    text = asked.readline()
    if text.strip():
        limit[0] = float(text)
    else:
        asked.read()
    deadline[0] = time.monotonic() + limit[0]
    stop.set()


def _repeat(run: Path, stop: threading.Event, every: float, export: Callable[[], str | None]) -> None:
    """Export when the record has changed and not too often; at the end, when `stop` is set, in any case.

    `export` returns what went wrong: then it is called again later and later.
    """
    pause, exported, last = every, -1, False
    with Reader(run) as reader:
        while not last:
            last = stop.wait(pause)
            version = reader.version()
            if version == exported and not last:
                continue
            began = time.monotonic()
            if export() is None:
                exported, pause = version, max(every, _SHARE * (time.monotonic() - began))
            else:
                pause = min(2 * pause, _SLOWEST)


def _write_tables(run: Path, stop: threading.Event, progress: _Progress) -> None:
    from rungwise.results.tables import parquet

    def export() -> str | None:
        try:
            parquet.export(run)
        except Exception as error:  # it is reported: an exporter that dies reports nothing
            progress.parquet = _told(error)
            return progress.parquet
        progress.parquet = True
        return None

    _repeat(run, stop, PARQUET_EVERY, export)


def _load_report(run: Path, stop: threading.Event) -> None:
    """Import what the report needs while trials run, which would delay the end of the sweep: scikit-learn, for
    importances, takes a second, and is imported once there are enough trials for them."""
    if stop.wait(PARQUET_EVERY):
        return
    import rungwise.results.report.report  # noqa: F401
    from rungwise.results.report.importance import LEAST

    with Reader(run) as reader:
        while len(reader.trials("search")) < LEAST:
            if stop.wait(PARQUET_EVERY):
                return
    import optuna.importance  # noqa: F401


def _write_report(run: Path, progress: _Progress) -> None:
    from rungwise.results.report import report

    try:
        report.write(run)
        progress.report = True
    except Exception as error:  # as above: the other views do not depend on it
        progress.report = _told(error)


def _open(name: str, run: Path, settings: LogSettings) -> Feed:
    from rungwise.results.exporters.loggers.registry import feed_of

    return feed_of(name, run, settings)


def _feed(
    run: Path, make: Callable[[], Feed], every: float, driver: int, stop: threading.Event, reached: _Reached
) -> None:
    """A logger's imports wait for the first report: until then trials need the processor for their own."""
    with Reader(run) as reader:
        while next(reader.reports(), None) is None and not stop.wait(every):
            pass
    try:
        feed = make()
    except BaseException as error:  # a user's function may raise anything, and an exporter that dies reports nothing
        reached.state = _told(error)
        _collect_garbage()
        return

    def export() -> str | None:
        try:
            done = feed.sync(dead=driver if stop.is_set() else None)
        except BaseException as error:  # as above
            reached.state = _told(error)
            return reached.state
        finally:
            _collect_garbage()
        reached.state, reached.trials, reached.notes, reached.page = COMPLETE, done.trials, done.notes, done.page
        reached.metrics += done.metrics
        return None

    _repeat(run, stop, every, export)
    feed.close()


def _collect_garbage() -> None:
    """From now on, and never look at what was imported so far."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _copy(run: Path, where: str, stop: threading.Event, progress: _Progress) -> None:
    """The mirror: every `mirror.EVERY` seconds, and once more when all other views are made."""
    from rungwise.results.exporters.mirror import EVERY as PAUSE
    from rungwise.results.exporters.mirror import Mirror

    mirror, last = None, False
    while not last:
        last = stop.wait(PAUSE if mirror else 0.1)  # the first copy at once: it says whose place this is
        try:
            mirror = mirror or Mirror(where, run.name)
            mirror.push(run)
            progress.mirror = None
        except Exception as error:  # as above
            progress.mirror = _told(error)


def _told(error: BaseException) -> str:
    """One line; the names of errors that are not our own say more than their text."""
    if type(error).__module__.startswith("rungwise."):
        return redacted((str(error).splitlines() or [""])[0])
    return error_line(error)


def main(folder: Path) -> int:
    """Follow the run in `folder`, which holds a record. Returns the exit status; 2 without a record."""
    print_anything()
    try:
        with Reader(folder):
            pass
    except RecordError as error:
        say(error, sys.stderr)
        return 2
    return follow(folder)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
