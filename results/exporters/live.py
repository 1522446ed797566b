"""The live exporter: a process of low priority that tails the record, so that nothing slow stands in the loop.

MLflow's imports (2-3 s of CPU) and a server that hangs cost the driver nothing: it starts a `Follower` and, at the
end, gives it so many seconds to finish. The follower lives as long as its standard input is open, so it also makes
the last export of a driver that was killed.

Its whole protocol: a number of seconds on standard input, then end of file; one JSON line on standard output:
`{"parquet": true or error text, "mlflow": "complete" or error text, "trials": 32, "metrics": 1234}`.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from rungwise.results.io.redaction import redacted, without_secrets
from rungwise.results.io.text import print_anything, say
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import RecordError

NICENESS = 15  # trials have 5, the driver 0
EVERY = 2.0  # seconds between two MLflow passes
PARQUET_EVERY = 10.0  # seconds between two Parquet exports
LIMIT = 600.0  # seconds for the last pass when the driver died and no user waits
REPORT_LIMIT = 20.0  # seconds for the last pass below which no user waits for a report
MIRROR_LIMIT = 10.0  # seconds that the last copy may take in any case
_GRACE = 2.0  # of the driver's deadline: what starting and printing may take
_SLOWEST = 60.0  # seconds between two tries while MLflow cannot be reached
_SHARE = 10  # an export that took t seconds is not repeated before 10 t have passed


class Follower:
    """The driver's handle on the exporter process: `start()`, `ask()` and `finish()`, once each."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self._process = process
        self._errors = errors

    @classmethod
    def start(cls, run: Path, tracking_uri: str | None = None, mirror: str | None = None) -> Follower:
        """Start to follow `run`; returns at once. The URI travels in the environment: `ps` shows command lines.

        `mirror`: a path or URI below which a copy of the run is kept (`results.exporters.mirror`).
        """
        here = str(Path(__file__).absolute().parents[3])  # through the links of rungwise/
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
        if tracking_uri:
            environment["RUNGWISE_TRACKING_URI"] = tracking_uri
        environment["RUNGWISE_MIRROR"] = mirror or ""
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
        return cls(process, errors)

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
            return {"parquet": reason, "mlflow": reason, "trials": 0, "metrics": 0}

    def _silence(self, waited: float | None, said: list[str]) -> str:
        """Why there was no answer."""
        if waited is not None:
            return f"the exporter gave no answer within {waited:g} s"
        if self._process.returncode < 0:
            return f"the exporter was killed ({signal.Signals(-self._process.returncode).name})"
        return said[-1] if said else f"the exporter ended with exit status {self._process.returncode} and no answer"


@dataclass(slots=True)
class _Progress:
    """What the exporter has reached; the JSON line."""

    parquet: bool | str = False
    report: bool | str = False
    mlflow: str = "not reached"
    mirror: str | None = None  # why the last copy was not made
    trials: int = 0
    metrics: int = 0


COMPLETE = "complete"


def follow(run: Path, every: float = EVERY) -> int:
    """Export until standard input closes, then once more; prints the JSON line. Returns the exit status.

    Parquet is exported by the main thread and MLflow by another: a server that hangs holds up nothing else.
    """
    gc.disable()  # until MLflow is imported: imports leave no garbage, and looking for it takes a fifth of their time
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a scheduler that ends all processes of a job waits for the last pass
    stop, files_written = threading.Event(), threading.Event()  # the driver is done; so are the files that MLflow keeps
    limit = [LIMIT]
    threading.Thread(target=_listen, args=(stop, limit), daemon=True).start()
    threading.Thread(target=_load_report, args=(run, stop), daemon=True).start()
    progress = _Progress()
    driver = os.getppid()
    feeder = threading.Thread(target=_feed, args=(run, every, driver, files_written, progress), daemon=True)
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
    feeder.join(limit[0])
    if where:
        copier.join(max(limit[0], MIRROR_LIMIT))
    if feeder.is_alive():
        progress.mlflow = f"no answer within {limit[0]:g} s"
    print(json.dumps(asdict(progress)), flush=True)
    complete = progress.parquet is True and progress.mlflow == COMPLETE
    sys.stderr.flush()
    os._exit(0 if complete else 1)  # a thread that hangs in a request would keep the interpreter


def _listen(stop: threading.Event, limit: list[float]) -> None:
    """Wait for the driver's request, or its end."""
    text = sys.stdin.readline()
    if text.strip():
        limit[0] = float(text)
    else:
        sys.stdin.read()
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


def _feed(run: Path, every: float, driver: int, stop: threading.Event, progress: _Progress) -> None:
    """MLflow's imports wait for the first report: until then trials need the processor for their own."""
    with Reader(run) as reader:
        while next(reader.reports(), None) is None and not stop.wait(every):
            pass
    from rungwise.results.exporters.mlflow import Exporter
    from rungwise.results.exporters.mlflow_client import ExportError

    try:
        exporter = Exporter(run)
    except ExportError as error:
        progress.mlflow = _told(error)
        _collect_garbage()
        return

    def export() -> str | None:
        try:
            done = exporter.sync(dead=driver if stop.is_set() else None)
        except Exception as error:  # as above
            progress.mlflow = without_secrets(_told(error), exporter.uri)
            return progress.mlflow
        finally:
            _collect_garbage()
        progress.mlflow, progress.trials = COMPLETE, done.trials
        progress.metrics += done.metrics
        return None

    _repeat(run, stop, every, export)


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


def _told(error: Exception) -> str:
    """One line; the names of errors that are not our own say more than their text."""
    text = redacted((str(error).splitlines() or [""])[0])
    return text if type(error).__module__.startswith("rungwise.") else f"{type(error).__name__}: {text}"


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
