"""A program of the user's in flight: its lines, how it ended, and its end."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from rungwise.errors import RungwiseError

SUPERVISOR = Path(__file__).with_name("supervisor.py")
GRACE_SECONDS = 10.0  # for a program that is told to end (SIGTERM)
LONGEST_LINE = 2**20  # bytes of a report


class ProgramError(RungwiseError, RuntimeError):
    """A program that could not be started, failed, or reports what is no report."""


class Process:
    """A program, from its start to its end; a context manager, at whose end nothing of it is left.

    Attributes:
        reports: A named pipe: what is written into it is what `lines` yields. A program that is far ahead waits.
    """

    def __init__(self, place: Path) -> None:
        """`place`: a folder of this machine for the pipe."""
        self.reports = place / "reports"
        with suppress(FileExistsError):
            os.mkfifo(self.reports, 0o600)
        # Open for both: it then has no end, however often programs open and close it.
        self._reports = os.open(self.reports, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._ended: dict[str, Any] | None = None

    def start(
        self, command: Sequence[str], folder: str, environment: Mapping[str, str], log: Path | None, grace: float
    ) -> None:
        """Start the program.

        Args:
            command: Its words.
            folder: Its working directory.
            environment: All its variables.
            log: File for its output; None: where this process's errors go.
            grace: Seconds between SIGTERM and SIGKILL.
        """
        job = {"command": list(command), "folder": folder, "log": None if log is None else str(log), "grace": grace}
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", str(SUPERVISOR), json.dumps(job)],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def lines(self) -> Iterator[bytes]:
        """Lines of `reports`, until the program has ended.

        Raises:
            ProgramError: A line is too long.
        """
        assert self._supervisor is not None
        assert self._supervisor.stdout is not None
        status, said, buffer = self._supervisor.stdout.fileno(), b"", b""
        while True:
            *lines, buffer = buffer.split(b"\n")
            yield from (line for line in lines if line.strip())
            if self._ended is not None:
                break
            if len(buffer) > LONGEST_LINE:
                raise ProgramError(f"a report must be one line of at most {LONGEST_LINE} bytes, but got more")
            ready, _, _ = select.select([self._reports, status], [], [])
            if status in ready:
                part = os.read(status, 2**16)
                said += part
                self._ended = None if part else json.loads(said or "{}")
            buffer += self._written()
            while self._ended is not None and (rest := self._written()):
                buffer += rest
        if buffer.strip() and not self._ended.get("code"):  # without its end; of one that failed `check` says more
            yield buffer

    def check(self) -> None:
        """After the last line: whether the program ended well. Raises ProgramError."""
        ended = self._ended or {"error": "what supervises it was killed"}
        if error := ended.get("error"):
            raise ProgramError(f"could not run: {error}")
        if code := ended["code"]:
            lines = [line for line in ended["recent"].splitlines() if line.strip()]
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            failure = ProgramError(f"ended with {how}" + (f": {lines[-1].strip()}" if lines else ""))
            failure.add_note("\n".join(["Last lines of its output:", *lines[-20:]]))
            raise failure

    def _written(self) -> bytes:
        """What lies in `reports` now, or a part of it."""
        try:
            return os.read(self._reports, 2**16)
        except BlockingIOError:
            return b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the program if it runs: SIGTERM to its process group and, after the grace, SIGKILL to all of it."""
        try:
            self._end()
        finally:
            os.close(self._reports)

    def stop(self) -> None:
        """Ask for the end of the program, without waiting for it. From any thread."""
        if self._supervisor is not None and self._supervisor.stdin is not None:
            with suppress(BrokenPipeError):
                self._supervisor.stdin.write(b"stop")
                self._supervisor.stdin.flush()

    def _end(self) -> None:
        if self._supervisor is None:
            return
        assert self._supervisor.stdin is not None
        assert self._supervisor.stdout is not None
        self.stop()
        self._supervisor.wait()
        with suppress(BrokenPipeError):
            self._supervisor.stdin.close()
        self._supervisor.stdout.close()
