"""Runs one program for a worker process, and ends it with all that it has started. Standard library only.

    python -I -S supervisor.py '{"command": [...], "folder": "...", "log": "...", "grace": 10}'

A process of its own, because a worker may be killed: descriptor 0 is a pipe from the worker, which closes when that
dies, and on descriptor 1 goes how the program ended, as JSON. Its session is not the worker's, so that whoever ends
Ray's processes does not end it before the program, and it is no child of the worker's, as Ray kills those first.

Processes that the program leaves behind, in groups or sessions of their own as torchrun's are, become children of this
one (`PR_SET_CHILD_SUBREAPER`, Linux), and are killed before it ends. Elsewhere the program's process group is.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time

TYPE_CHECKING = False  # importing `typing` takes longer than all else here
if TYPE_CHECKING:
    from typing import Any

PR_SET_CHILD_SUBREAPER = 36
HEAD, TAIL = 2**18, 3 * 2**17  # bytes of a log's start and end that are kept; at most HEAD + 2 TAIL lie in the file
RECENT = 4096  # bytes of the output that the worker is told
ORPHANED = 2.0  # seconds that a program is given to end when its worker has died
STOP = b"stop"  # what a worker says that wants the program to end; the end of the pipe means that it has died
CHUNKS = 64  # of output, between two looks at the worker and the processes
UNKILLABLE = 10.0  # seconds after which a process that survives SIGKILL, such as another user's, is left behind


class Log:
    """A file of the first and the last bytes of what is written; complete while that is less than 1 MiB."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "w+b", buffering=0)  # noqa: SIM115
        self._size, self._mark, self._left_out = 0, 0, 0

    def write(self, content: bytes) -> None:
        """Append. Raises OSError."""
        self._file.write(content)
        self._size += len(content)
        if self._size <= HEAD + 2 * TAIL:
            return
        self._file.seek(self._size - TAIL)
        end = self._file.read(TAIL)
        self._left_out += self._size - TAIL - HEAD - self._mark
        mark = b"\n... %d bytes left out ...\n" % self._left_out
        self._file.seek(HEAD)
        self._file.write(mark + end)
        self._size, self._mark = HEAD + len(mark) + len(end), len(mark)
        self._file.truncate(self._size)
        self._file.seek(self._size)

    def close(self) -> None:
        self._file.close()


class Supervisor:
    """The program in flight."""

    def __init__(self, job: dict[str, Any]) -> None:
        """Start it. Raises OSError."""
        self._grace = float(job["grace"])
        self.code: int | None = None  # exit code of the program; the negative number of the signal that ended it
        self.recent = b""
        self._log: Log | None = None
        with contextlib.suppress(OSError):  # a full disk ends no trial
            self._log = Log(job["log"]) if job["log"] else None
        self._wakeup, wakeup = os.pipe()  # readable when a child has ended
        os.set_blocking(self._wakeup, False)
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)
        output = 2 if job["log"] is None else subprocess.PIPE
        self._program = subprocess.Popen(
            job["command"],
            cwd=job["folder"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=2 if job["log"] is None else subprocess.STDOUT,
            start_new_session=True,
        )
        self._output: int | None = self._program.stdout.fileno() if self._program.stdout else None
        if self._output is not None:
            os.set_blocking(self._output, False)

    def run(self) -> None:
        """Until the program has ended, by itself or because the worker says so or dies; then nothing of it is left."""
        while self.code is None:
            if 0 in self._wait(None, [0]):
                said_stop = os.read(0, len(STOP)) == STOP
                self._terminate(self._grace if said_stop else min(self._grace, ORPHANED))
        self._kill()
        self._read_output()
        if self._log is not None:
            self._log.close()

    def _terminate(self, grace: float) -> None:
        """SIGTERM to the program's group, and until nothing of it is left or the grace is over, wait."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._program.pid, signal.SIGTERM)
        deadline = time.monotonic() + grace
        while self._reap() and time.monotonic() < deadline:
            self._wait(deadline - time.monotonic(), [])
        self._kill()

    def _kill(self) -> None:
        """SIGKILL to all that is left, and to what that starts meanwhile."""
        deadline = time.monotonic() + UNKILLABLE
        while self._reap() and time.monotonic() < deadline:
            for pid in [self._program.pid] if self.code is None else []:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
            for pid in descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self._wait(0.02, [])
        if self.code is None:
            self.code = -signal.SIGKILL

    def _wait(self, seconds: float | None, others: list[int]) -> list[int]:
        """Wait for output, the end of a child or one of the `others`; returns the descriptors that are ready."""
        watched = [self._wakeup, *others, *([] if self._output is None else [self._output])]
        ready, _, _ = select.select(watched, [], [], seconds if seconds is None else max(0.0, seconds))
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wakeup, 4096):
                continue
        self._read_output()
        self._reap()
        return ready

    def _read_output(self) -> None:
        try:
            for _ in range(CHUNKS):
                if self._output is None:
                    return
                content = os.read(self._output, 2**16)
                if not content:
                    self._output = None  # all who could write have closed it
                    return
                self.recent = (self.recent + content)[-RECENT:]
                if self._log is not None:
                    self._log.write(content)
        except BlockingIOError:
            return
        except OSError:  # a full disk: the output goes on being read, as the program would wait
            self._log = None

    def _reap(self) -> bool:
        """Take note of the children that have ended; returns whether any are left."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self._program.pid:
                    self.code = os.waitstatus_to_exitcode(status)
        return False


def descendants(root: int) -> list[int]:
    """Processes that `root` has started, and those that these have; [] where there is no /proc."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else []):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
            parent = int(file.read().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        young = children.get(waiting.pop(), [])
        found += young
        waiting += young
    return found


def _nothing(*_: object) -> None:
    return


def main() -> None:
    job = json.loads(sys.argv[1])
    if pid := os.fork():  # this one stays until all is over, as the worker's child
        os.close(0)
        os.close(1)
        os.waitpid(pid, 0)
        return
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # not ignored, as the program would inherit that
        signal.signal(number, _nothing)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        supervisor = Supervisor(job)
        supervisor.run()
        ended: dict[str, Any] = {"code": supervisor.code, "recent": supervisor.recent.decode(errors="replace")}
    except OSError as error:
        ended = {"error": f"{error.strerror}: {error.filename}"}
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(ended).encode())


if __name__ == "__main__":
    main()
