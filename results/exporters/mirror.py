"""A copy of a run's folder on a shared disk or an object storage, at most `EVERY` seconds and one copy's time old.

    <where>/<run>/sweep.sqlite     the record at one moment
    <where>/<run>/mirror.json      whose copy this is: {"id": ..., "sessions": ..., "at": ...}
    <where>/<run>/...              tables, report, model; the trials' checkpoints lie here too, and are theirs

A head that dies takes its disk along; the same command on another one begins with `fetch`. Everything goes through
pyarrow's file systems, so `where` is a path or a URI such as s3://bucket/runs.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from rungwise.errors import RungwiseError
from rungwise.results.io.paths import UnsafeName, resolve_below, run_name_problem, shown
from rungwise.results.io.redaction import redacted, redacted_uri, remember
from rungwise.results.model.model_folder import FOLDER as MODEL
from rungwise.results.record.integrity import MARK_SUFFIX
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import FILE, HALF, RecordError
from rungwise.storage import Folder, absolute, below, is_uri

_STAGE = ".rungwise-pull"  # on a cluster's head: a copy of one moment
EVERY = 10.0  # seconds between two looks at the run
ABOUT = "mirror.json"
_LONGEST = 2**16  # bytes of it that are read
# Of a run's folder: this machine's, what lies in the mirror anyway, and a database that is made again from the record,
# of which a copy in the middle of a write would be damaged.
_LEFT = ("lock", "checkpoints", "optuna.db", "optuna.db-wal", "optuna.db-shm")


class MirrorError(RungwiseError, RuntimeError):
    """The mirror cannot be read or written, or holds something else; the message names it."""


class Mirror:
    """The copy of one run below `where`."""

    def __init__(self, where: str, run: str) -> None:
        """`where`: a path, or a URI whose query says how to reach it. Raises MirrorError for a URI without a file
        system."""
        remember(where)
        there = absolute(where)
        shown = redacted_uri(there).partition("?")[0] if is_uri(where) else there
        self.place = f"{shown.rstrip('/')}/{run}"  # for messages
        try:
            self._folder = Folder(below(there, run))
        except OSError as error:
            why = redacted(str(error.__cause__ or error))
            raise MirrorError(f"the mirror must be a path or a URI such as s3://bucket/runs, but {why}") from None
        self._known: dict[str, tuple[int, int]] = {}  # file -> its time and size when it was copied
        self._version = -1

    def push(self, run: Path) -> None:
        """Bring the copy up to the run in `run`: what has changed since this object's last push. Raises MirrorError."""
        try:
            with Reader(run) as reader:
                if (version := _version(run)) != self._version:
                    self._push_record(run, {"id": reader.meta("id"), "sessions": len(reader.sessions())})
                    self._version = version
            for file in sorted(run.rglob("*")):
                name = file.relative_to(run).as_posix()
                top = name.partition("/")[0]
                # Temporary names are hidden; a model's file may be, too.
                is_temporary = "/." in f"/{name}" and top != MODEL
                if not file.is_file() or name.startswith(FILE) or top in _LEFT or is_temporary:
                    continue
                status = file.stat()
                if self._known.get(name) != (stamp := (status.st_mtime_ns, status.st_size)):
                    self._folder.write(name, file.read_bytes())
                    self._known[name] = stamp
        except (OSError, sqlite3.Error) as error:
            raise MirrorError(f"{self.place} could not be brought up to date: {redacted(str(error))}") from error

    def _push_record(self, run: Path, about: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            copy = Path(temporary) / FILE
            there = f"{(run / FILE).absolute().as_uri()}?mode=ro"
            with (
                closing(sqlite3.connect(there, uri=True, timeout=20)) as source,
                closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target)
                target.execute("PRAGMA journal_mode = DELETE")  # one file
            self._folder.write(FILE, copy.read_bytes())
        self._folder.write(ABOUT, json.dumps(about | {"at": time.time()}).encode())

    def about(self) -> dict[str, Any] | None:
        """Whose copy lies there; None when there is none. Raises MirrorError."""
        try:
            about = json.loads(self._folder.read(ABOUT, _LONGEST))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise MirrorError(f"{self.place} cannot be read: {redacted(str(error))}") from error
        if not isinstance(about, dict) or not isinstance(about.get("sessions", 0), int):
            raise MirrorError(f"{self.place}/{ABOUT} must say whose copy this is, but does not")
        return about

    def fetch(self, run: Path) -> None:
        """Make `run`, which holds no record, from the copy, checkpoints left aside. Raises MirrorError, RecordError."""
        with bringing(run) as copy:
            try:
                for name in self._folder.files():
                    if name == ABOUT or name.partition("/")[0] in _LEFT:
                        continue
                    target = resolve_below(copy, name)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(self._folder.read(name))
            except UnsafeName as error:
                raise MirrorError(f"{self.place} contains what no run has: {error}") from None
            except OSError as error:
                raise MirrorError(f"{self.place} cannot be read: {redacted(str(error))}") from error
            if not (copy / FILE).exists():
                raise MirrorError(f"{self.place} contains no {FILE}")

    def require_ours(self, run: Path) -> None:
        """Raises MirrorError when the copy is of another run, or ahead of the one in `run`."""
        about = self.about()
        if about is None:
            return
        with Reader(run) as reader:
            identity, sessions = reader.meta("id"), len(reader.sessions())
        if identity is not None and about.get("id") != identity:
            raise MirrorError(f"{self.place} is the copy of another run; choose another --name or --mirror")
        if about.get("sessions", 0) > sessions:
            raise MirrorError(
                f"{self.place} is ahead of {run}; move {run} away, and the same command resumes from there"
            )


@contextmanager
def bringing(run: Path) -> Iterator[Path]:
    """A folder for all of a run that is brought home; when the block ends well, `run` holds it. The record comes last.

    It lies in `run` under the name `HALF`, and is there as long as the run is not whole: a process that was killed
    half-way begins anew. Raises RecordError when the record that came is damaged.
    """
    run.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(run / HALF, ignore_errors=True)
    (run / HALF).mkdir()
    try:
        yield run / HALF
        with Reader(run / HALF) as reader:
            reader.verify()
        for suffix in ("-wal", "-shm", MARK_SUFFIX):  # of a record that was here before: they say nothing of this one
            (run / f"{FILE}{suffix}").unlink(missing_ok=True)
        for child in sorted((run / HALF).iterdir(), key=lambda child: child.name == FILE):
            target = run / child.name
            shutil.rmtree(target, ignore_errors=True) if child.is_dir() else None
            child.rename(target)
    finally:
        shutil.rmtree(run / HALF, ignore_errors=True)
        with suppress(OSError):
            run.rmdir()  # when it is empty


def fetch_if_absent(where: str, run: Path) -> bool:
    """Begin with the copy when there is one and `run` holds no record; whether that was so.

    Raises MirrorError, also when both are there and do not belong together.
    """
    mirror = Mirror(where, run.name)
    if (run / FILE).exists():
        mirror.require_ours(run)
        return False
    if mirror.about() is None:
        return False
    try:
        mirror.fetch(run)
    except RecordError as error:
        raise MirrorError(f"the copy in {mirror.place} is damaged: {error}") from error
    return True


def _version(run: Path) -> int:
    """Changes when the record does: SQLite writes to one of these two files."""
    return sum(path.stat().st_mtime_ns for path in (run / FILE, run / f"{FILE}-wal") if path.exists())


def pull(source: str, name: str, out: Path) -> Path:
    """Make out/NAME from the copy below `source` (a path or URI), or, of a cluster's YAML file, from its head's ~/runs.

    Raises MirrorError when out/NAME holds a record, or the run cannot be had; RecordError when the copy is damaged.
    """
    if problem := run_name_problem(name):
        raise MirrorError(f"{problem}, but got {shown(name)}")
    try:
        folder = resolve_below(out, name)
    except UnsafeName as error:
        raise MirrorError(str(error)) from None
    if (folder / FILE).exists():
        raise MirrorError(f"{folder} contains a run; choose another --out, or move it away")
    if not source.endswith((".yaml", ".yml")):
        Mirror(source, name).fetch(folder)
        return folder
    if not Path(source).is_file():
        raise MirrorError(f"a cluster's YAML file must exist, but {source} does not")
    stage = f"~/{_STAGE}"
    run = f"python -P -m rungwise copy {shlex.quote(f'runs/{name}')} {_STAGE}"
    _ray("exec", source, f"rm -rf {stage} && cd ~ && {run}")
    with bringing(folder) as copy:
        _ray("rsync-down", source, f"{stage}/{name}/", f"{copy}/")
        (copy / ABOUT).unlink(missing_ok=True)
    return folder


def _ray(*words: str) -> None:
    ray = shutil.which("ray") or str(Path(sys.executable).with_name("ray"))
    done = subprocess.run([ray, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr + done.stdout).strip().splitlines()
        raise MirrorError(f"ray {words[0]} {words[1]} failed: {redacted(said[-1]) if said else 'no output'}")
