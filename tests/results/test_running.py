"""`rungwise watch` and `rungwise stop`: a sweep that another process runs."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.confirmed import two_arms
from support.loop import Loop
from support.sweeping import Run, stopping, wait_until

from rungwise.distributions import FloatDistribution
from rungwise.engine.execution.run_lock import locked
from rungwise.engine.execution.signals import Signals
from rungwise.engine.execution.stopping import STOP_REQUESTED, Stop, requested_before
from rungwise.engine.experiment.sweep import Sweep
from rungwise.results.cli import running
from rungwise.results.cli.main import main
from rungwise.results.io.page_server import serving
from rungwise.results.progress.recorded import META, Expected, RecordedProgress
from rungwise.results.record.reader import Reader
from rungwise.results.record.stop_requests import StopRequests
from rungwise.results.record.types import RecordError, SweepState
from rungwise.results.record.writer import Record

SWEEP = Sweep("short", {"lr": FloatDistribution(0.1, 1.0)}, arms={"a": {}, "b": {}}, epochs=9)


def test_a_board_that_follows_the_record_shows_what_the_drivers_own_does(tmp_path: Path) -> None:
    loop, random_numbers = Loop(tmp_path, SWEEP, trials=6, in_flight=3), random.Random(0)
    loop.record.start_session({})
    loop.record.set_meta(META, Expected(loop.board.rungs, 0, 0.0)._asdict())
    loop.record.commit()
    with Reader(tmp_path) as reader:
        following = RecordedProgress(reader)
        while not isinstance(trial := loop.deal(), str | None):
            loop.train(trial, lambda *_: random_numbers.random())
            loop.record.commit()
            following.update()
            for name in ("states", "reached", "stopped", "best", "epochs", "repeated"):
                assert getattr(following.board, name) == getattr(loop.board, name), name
            assert sorted(following.board.running) == sorted(loop.board.running)
    assert following.board.done == 12
    assert following.board.seconds_left is not None


def test_what_happened_under_an_earlier_driver_counts_and_is_not_this_ones_pace(tmp_path: Path) -> None:
    loop = Loop(tmp_path, SWEEP, trials=3)
    loop.record.start_session({})
    first, second = loop.deal(), loop.deal()
    assert not isinstance(first, str | None)
    assert not isinstance(second, str | None)
    loop.train(first, lambda *_: 0.5)
    loop.report(second, 0.25, 1)
    loop.record.commit()
    loop.record.start_session({})
    loop.report(second, 0.25, 2)
    loop.record.commit()
    with Reader(tmp_path) as reader:
        following = RecordedProgress(reader)
        following.update()
    board = following.board
    assert (board.done, board.epochs, board.epochs_here) == (1, 11.0, 1.0)
    assert board.paces == []
    assert list(board.running) == [2]


def test_a_request_is_taken_once_and_a_look_costs_nothing_in_between(tmp_path: Path) -> None:
    requests, driver = StopRequests(tmp_path), StopRequests(tmp_path)
    assert driver.clear() == []
    requests.ask(7)
    requests.ask()
    assert (requests.is_pending(), requests.is_pending(7), requests.is_pending(8)) == (True, True, False)
    assert driver.take() == [7, None]
    assert not requests.is_pending()
    assert not requests.withdraw(7)
    requests.ask(3)
    assert driver.take() == []  # it looked a moment ago
    assert requests.withdraw(3)


def test_a_trial_that_is_to_stop_is_known_to_the_next_session_too(tmp_path: Path) -> None:
    requests, stop = StopRequests(tmp_path), Stop(Signals(), None, StopRequests(tmp_path))
    requests.ask(7)
    with Record(tmp_path) as record:
        stop.on_request = lambda trial: record.event(STOP_REQUESTED, trial)
        assert not stop.stop_all()
        assert stop.trials == {7}
        record.commit()
        with Reader(tmp_path) as reader:
            assert requested_before(reader) == {7}


def test_what_is_no_request_neither_stops_anything_nor_hides_one(tmp_path: Path) -> None:
    (tmp_path / "stop-1").mkdir()
    for name in ("stop-", "stop-all", "stop--3", "stop-7.tmp", "stop"):
        (tmp_path / name).touch()
    StopRequests(tmp_path).ask(7)
    StopRequests(tmp_path).ask()
    assert StopRequests(tmp_path).take() == [7, None]
    assert (tmp_path / "stop-all").exists()


@pytest.fixture
def running_sweep(tmp_path: Path) -> Iterator[Record]:
    """A record whose driver is this process; trial 1 runs in the search, trial 2 confirms."""
    with Record(tmp_path) as record:
        record.set_meta("definition", {"arms": {"a": {}}, "epochs": 3, "trials": 1})
        record.start_session({"host": os.uname().nodename, "pid": os.getpid()})
        for number, phase in ((1, "search"), (2, "confirm")):
            record.add_trial(number, arm="a", phase=phase, config={}, params={}, distributions={})
            record.start_attempt(number)
        record.commit()
        yield record


def test_only_a_trial_of_the_search_that_runs_can_be_stopped(
    running_sweep: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = running_sweep.path.parent
    for trial in ("2", "99"):
        assert main(["stop", str(folder), trial]) == 2
        assert f"not {trial}; now running: 1" in capsys.readouterr().err
    assert not StopRequests(folder).is_pending()


def test_a_driver_that_does_not_answer_was_not_stopped(
    running_sweep: Record, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "ANSWER_SECONDS", 0.0)
    folder = running_sweep.path.parent
    assert main(["stop", str(folder), "1"]) == 1
    assert "trial 1 was not stopped: its driver has not answered" in capsys.readouterr().err
    assert not StopRequests(folder).is_pending(1)  # nor will it be, when the driver looks again


def test_a_sweep_that_does_not_run_is_not_stopped_and_not_waited_for(
    running_sweep: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    running_sweep.end_session(1, SweepState.FINISHED)
    running_sweep.commit()
    folder = str(running_sweep.path.parent)
    assert main(["stop", folder]) == 2
    assert "only a sweep that runs can be stopped" in capsys.readouterr().err
    assert main(["watch", folder]) == 0
    assert "finished" in capsys.readouterr().out


def test_a_sweep_whose_driver_has_not_begun_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Record(tmp_path) as record, locked(tmp_path):
        record.set_meta("definition", {"arms": {"a": {}}, "epochs": 3, "trials": 1})
        record.commit()
        watching = threading.Thread(target=main, args=(["watch", str(tmp_path)],), daemon=True)
        watching.start()
        wait_until(lambda: "its driver has not begun yet" in capsys.readouterr().err)
        session = record.start_session({"host": os.uname().nodename, "pid": os.getpid()})
        record.end_session(session, SweepState.FINISHED)
        record.commit()
        assert watching.is_alive()
    watching.join()
    assert f"{tmp_path.name}: finished" in capsys.readouterr().out


def test_a_page_is_served_to_this_machine_under_its_own_name_alone() -> None:
    pages = iter([b"<p>one", b"<p>two"])
    with serving(lambda: next(pages)) as address:
        place = address.removeprefix("http://").rstrip("/")
        assert place.startswith("127.0.0.1:")

        def get(path: str, host: str) -> tuple[int, bytes]:
            connection = http.client.HTTPConnection(place)
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            with answer:
                return answer.status, answer.read()

        assert get("/", place) == (200, b"<p>one")
        assert get("/", place.replace("127.0.0.1", "localhost")) == (200, b"<p>two")
        for host in ("evil.example", "[", "[::1", "127.0.0.1@evil.example", ""):
            assert get("/", host)[0] == 403, host
        assert get("/sweep.sqlite", place)[0] == 404
    with pytest.raises(ConnectionRefusedError):
        get("/", place)


def test_neither_a_browser_that_is_closed_nor_a_page_that_cannot_be_made_prints_anything(
    capfd: pytest.CaptureFixture[str],
) -> None:
    asked = threading.Event()

    def page() -> bytes:
        asked.set()
        assert gone.wait(600)
        return bytes(10_000_000)

    def fails() -> bytes:
        raise RecordError("the record is damaged")

    gone = threading.Event()
    with serving(page) as address:
        host, port = address.removeprefix("http://").rstrip("/").split(":")
        with socket.create_connection((host, int(port))) as browser:
            browser.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert asked.wait(600)
            browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by a reset
        gone.set()
        assert wait_until(lambda: not [one for one in threading.enumerate() if "process_request" in one.name])
    with serving(fails) as address:
        connection = http.client.HTTPConnection(address.removeprefix("http://").rstrip("/"))
        connection.request("GET", "/")
        with connection.getresponse() as answer:
            assert answer.status == 503
    assert capfd.readouterr().err == ""


def page_at(address: str) -> bytes:
    with contextlib.closing(http.client.HTTPConnection(address.removeprefix("http://").rstrip("/"))) as connection:
        connection.request("GET", "/")
        with connection.getresponse() as page:
            return page.read()


def renew(address: str, watching: subprocess.Popen[bytes], pages: list[bytes]) -> None:
    """Load the page again and again, as a browser does that shows it."""
    while watching.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            pages.append(page_at(address))
        time.sleep(0.2)


def test_a_browser_gets_the_last_page_before_the_address_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_arms(tmp_path / "run")
    monkeypatch.setattr(running, "PAGE_SECONDS", 0.5)
    page = running._LivePage(tmp_path / "run")
    page.finish()  # nobody has looked
    page = running._LivePage(tmp_path / "run")
    assert b'http-equiv="refresh"' in page()
    renewing = threading.Timer(0.6, page)  # as the browser does then
    renewing.start()
    page.finish()
    renewing.join()
    assert page._last_taken.is_set()
    assert b'http-equiv="refresh"' not in page()


def test_another_terminal_watches_a_sweep_and_its_page_and_stops_a_trial_and_then_the_sweep(tmp_path: Path) -> None:
    with stopping(Run(tmp_path, logged=False)) as run:
        run.allow(2)
        driver = run.start("--concurrency", "1", "--checkpoint-seconds", "0")
        assert run.await_pause(driver), run.said
        rungwise = [sys.executable, "-m", "rungwise"]
        told = tmp_path / "watch"
        with told.open("w") as file:
            command = [*rungwise, "watch", str(run.folder), "--page"]
            watching = subprocess.Popen(command, env=run.environment, stdout=file, stderr=subprocess.STDOUT)
        assert wait_until(lambda: "best val_accuracy" in told.read_text() or watching.poll() is not None)
        address = told.read_text().partition("report  ")[2].split()[0]
        assert b"This page renews itself" in page_at(address)
        pages: list[bytes] = []
        browser = threading.Thread(target=renew, args=(address, watching, pages))
        browser.start()

        (trial,) = run.query("SELECT trial FROM trials WHERE state = 'RUNNING' AND attempts > 0")[0]
        stop = [*rungwise, "stop", str(run.folder)]
        assert subprocess.run([*stop, str(trial)], env=run.environment, check=False).returncode == 0
        run.allow(1)
        ended = f"SELECT 1 FROM trials WHERE trial = {trial} AND state = 'STOPPED' AND reason = 'rungwise stop'"
        assert wait_until(lambda: run.query(ended) or driver.poll() is not None)
        assert run.query(ended), run.said
        assert subprocess.run(stop, env=run.environment, check=False).returncode == 0
        assert driver.wait() == 128 + signal.SIGINT, run.said
        assert watching.wait() == 0
        browser.join()
        assert b"This page renews itself" not in pages[-1]
        assert "tiny: interrupted" in told.read_text()
        run.await_silence()
        with Reader(run.folder) as reader:
            assert reader.state() is SweepState.INTERRUPTED
        assert not list(run.folder.glob("stop*"))
