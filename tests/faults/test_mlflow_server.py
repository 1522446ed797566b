"""A real MLflow server that is stopped, killed, or whose answers get lost, and a store that is locked: the exporter
says so in one line, and the next export completes everything without doubles."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.demo import add, attempt, begin, fill
from support.ports import free_port
from support.sweeping import SESSION_SECONDS, Run, assert_nothing_lost, wait_until

from rungwise.results.exporters.live import Follower
from rungwise.results.exporters.mlflow import export
from rungwise.results.exporters.mlflow_client import ExportError
from rungwise.results.record.types import State, SweepState

REQUEST_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
PATIENT = 300.0  # s that an exporter has to start and to print, on a busy machine


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a driver gives the exporter beyond its limit is so much; the limit is what is tested."""
    monkeypatch.setattr("rungwise.results.exporters.live._GRACE", PATIENT)


class Server:
    """`mlflow server` on loopback over one SQLite file."""

    def __init__(self, home: Path, empty_store: Path) -> None:
        self.home, self.store = home, home / "server.db"
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        shutil.copy(empty_store, self.store)  # the tables, before several workers want to make them
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{self.store}"]
        command += ["--artifacts-destination", str(self.home / "artifacts"), "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        with (self.home / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                process_group=0,
                env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )
        assert wait_until(self.answers), (self.home / "server.log").read_text()

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=60) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def send(self, number: int) -> None:
        os.killpg(self.process.pid, number)
        if number == signal.SIGKILL:
            self.process.wait()

    def count(self, sql: str) -> int:
        with closing(sqlite3.connect(self.store)) as db:
            return int(db.execute(sql).fetchone()[0])


@pytest.fixture(scope="module", autouse=True)
def _patient_requests() -> Iterator[None]:
    """A server on a busy machine takes longer for an answer than what an export gives it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(REQUEST_TIMEOUT, f"{PATIENT:.0f}")
        yield


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"), empty_store)
    yield made
    with contextlib.suppress(ProcessLookupError):
        made.send(signal.SIGCONT)
        made.send(signal.SIGKILL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished session's run with a trial in every state."""
    record, session = begin(tmp_path / tmp_path.name[-20:])
    with record:
        fill(record)
        record.end_session(session, SweepState.INTERRUPTED)
    return record.path.parent


def runs_of(server: Server, folder: Path) -> list[tuple[str, int]]:
    """(trial, metrics) of each MLflow run of ours."""
    with closing(sqlite3.connect(server.store)) as db:
        return db.execute(
            "SELECT (SELECT value FROM tags t WHERE t.run_uuid = r.run_uuid AND t.key = 'rungwise.trial') AS trial, "
            "(SELECT count(*) FROM metrics m WHERE m.run_uuid = r.run_uuid) FROM runs r JOIN tags i "
            "ON i.run_uuid = r.run_uuid AND i.key = 'rungwise.run' AND i.value = ? ORDER BY 1",
            (f"id-of-{folder.name}",),
        ).fetchall()


@pytest.fixture(scope="module")
def complete(server: Server, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int]]:
    """What an undisturbed export of the same rows leaves."""
    record, session = begin(tmp_path_factory.mktemp("complete") / "calm")
    with record:
        fill(record)
        record.end_session(session, SweepState.INTERRUPTED)
    export(record.path.parent, server.uri)
    found = runs_of(server, record.path.parent)
    assert len(found) == 8
    return found


class Proxy(threading.Thread):
    """Passes everything on to the server; of the n-th request the answer is lost, after the server has done it."""

    def __init__(self, server: Server, lose: int) -> None:
        super().__init__(daemon=True)
        self._server, self._lose, self.requests, self.lost = server, lose, 0, 0
        self.hold = 10**9  # requests beyond wait for `go`
        self.held, self.go = threading.Event(), threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self._server.port)) as server:
            while request := self._message(client):
                self.requests += 1
                mine = self.requests
                if mine > self.hold:
                    self.held.set()
                    self.go.wait()
                server.sendall(request)
                answer = self._message(server)
                if mine == self._lose:
                    self.lost += 1
                    return
                if not answer:  # the server has died
                    return
                client.sendall(answer)

    @staticmethod
    def _message(source: socket.socket) -> bytes:
        """One HTTP message with a Content-Length."""
        data = b""
        while b"\r\n\r\n" not in data:
            if not (part := source.recv(65536)):
                return b""
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        missing = int(lengths[0].split(b":")[1]) - len(body) if lengths else 0
        while missing > 0:
            part = source.recv(65536)
            data, missing = data + part, missing - len(part)
        return data

    def stop(self) -> None:
        self._socket.close()


@pytest.mark.parametrize("lose", [2, 3, 4, 5, 7, 10])
def test_an_answer_lost_after_the_server_has_done_it_makes_no_doubles(
    server: Server, folder: Path, complete: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch, lose: int
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # else MLflow's own retry might hide the loss
    proxy = Proxy(server, lose)
    with contextlib.suppress(ExportError):
        export(folder, proxy.uri)
    assert proxy.lost == 1
    export(folder, proxy.uri)
    assert runs_of(server, folder) == complete
    proxy.stop()


@pytest.mark.usefixtures("patient")
def test_a_stopped_server_is_left_at_the_deadline_and_completed_when_it_goes_on(
    server: Server, folder: Path, complete: list[tuple[str, int]]
) -> None:
    server.send(signal.SIGSTOP)
    follower = Follower.start(folder, server.uri)
    answer = follower.finish(timeout=PATIENT + 2)
    server.send(signal.SIGCONT)
    assert answer["parquet"] is True
    assert answer["mlflow"] == "no answer within 2 s"
    assert wait_until(server.answers)
    export(folder, server.uri)
    assert runs_of(server, folder) == complete


def test_a_server_killed_while_it_is_fed_is_completed_by_the_next_export(server: Server, tmp_path: Path) -> None:
    record, session = begin(tmp_path / "fed")
    with record:
        for trial in range(1, 31):
            add(record, trial)
            attempt(record, trial, *(step / 100 for step in range(1, 51)))
            record.end_trial(trial, State.COMPLETED)
        record.end_session(session, SweepState.FINISHED)
    before = server.count("SELECT count(*) FROM metrics")
    proxy = Proxy(server, lose=0)
    proxy.hold = 40
    follower = Follower.start(tmp_path / "fed", proxy.uri)
    assert proxy.held.wait(SESSION_SECONDS)
    assert server.count("SELECT count(*) FROM metrics") > before
    server.send(signal.SIGKILL)
    proxy.go.set()
    answer = follower.finish(timeout=PATIENT)
    assert "cannot be reached" in answer["mlflow"] or "must accept" in answer["mlflow"]
    assert "\n" not in answer["mlflow"]
    assert server.count("SELECT count(*) FROM metrics") < before + 30 * 50 * 6
    server.start()
    export(tmp_path / "fed", server.uri)
    found = runs_of(server, tmp_path / "fed")
    assert [trial for trial, _ in found if trial] == sorted(map(str, range(1, 31)))
    assert {count for trial, count in found if trial} == {50 * 6 + 1}  # and the best
    assert export(tmp_path / "fed", server.uri).metrics == 0


@pytest.mark.usefixtures("patient")
def test_a_locked_store_holds_up_nothing_and_is_completed_when_it_is_free(tmp_path: Path, empty_store: Path) -> None:
    record, session = begin(tmp_path / "demo")
    with record:
        fill(record)
        record.end_session(session, SweepState.INTERRUPTED)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        answer = Follower.start(tmp_path / "demo").finish(timeout=PATIENT + 2)
        assert answer["parquet"] is True
        assert answer["mlflow"] != "complete"
        db.execute("ROLLBACK")
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    export(tmp_path / "demo")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as db:
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (8,)


@pytest.mark.long
def test_a_sweep_whose_server_stops_half_way_trains_on_as_fast_and_is_completed_later(server: Server, run: Run) -> None:
    """All reports after the stop are in the record while the server is still stopped."""
    flags = ("--trials", "2", "--epochs", "54", "--scheduler", "none", "--tracking-uri", server.uri)
    del run.environment[REQUEST_TIMEOUT]  # as a user's sweep has it
    run.allow(2 * 54)
    driver = run.start(*flags)
    assert run.await_pause(driver), run.said
    assert wait_until(lambda: server.count("SELECT count(*) FROM metrics") > 0)
    server.send(signal.SIGSTOP)
    run.allow(None)
    assert wait_until(lambda: driver.poll() is not None or run.reports() == 4 * 54)
    assert driver.wait(SESSION_SECONDS) == 0, run.said
    assert run.reports() == 4 * 54
    server.send(signal.SIGCONT)
    (line,) = [line for line in run.said.splitlines() if line.startswith("mlflow")]
    assert re.search(r"later: \S*rungwise export", line)
    assert wait_until(server.answers)
    export(run.folder, server.uri)
    assert_nothing_lost(run.folder, 4, 54, store=server.store)
