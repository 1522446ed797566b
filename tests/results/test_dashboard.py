"""`rungwise dashboard`: optuna-dashboard shows a run that goes on, on loopback, and Ctrl-C ends it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from support.demo import add, attempt
from support.sweeping import wait_until

from rungwise.results.cli.main import main
from rungwise.results.record.types import State
from rungwise.results.record.writer import Record


def test_the_dashboard_shows_studies_that_grow_until_ctrl_c(run: Path) -> None:
    command = [sys.executable, "-m", "rungwise", "dashboard", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert match, f"{line} {process.stderr and process.stderr.read()}"

            def ask(path: str) -> Any:
                with urllib.request.urlopen(f"{match[0]}{path}") as answer:
                    return json.load(answer)

            studies = {one["study_name"]: one["study_id"] for one in ask("/api/studies")["study_summaries"]}
            assert sorted(studies) == ["demo: L2", "demo: no L2"]
            for name, value in (("Host", "evil.example"), ("Host", "["), ("Origin", "http://evil.example")):
                request = urllib.request.Request(f"{match[0]}/api/studies", headers={name: value})
                with pytest.raises(urllib.error.HTTPError, match="403"):
                    urllib.request.urlopen(request)
            page = urllib.request.urlopen(f"{match[0]}/dashboard").read()
            assert b"Optuna Dashboard" in page
            with Record(run) as record:
                record.start_session({})
                add(record, 9)
                attempt(record, 9, 0.9)
                record.end_trial(9, State.COMPLETED)

            def values() -> list[Any]:
                return [trial.get("values") for trial in ask(f"/api/studies/{studies['demo: L2']}?after=0")["trials"]]

            wait_until(lambda: [0.9] in values())
            process.send_signal(signal.SIGINT)
            assert process.wait(600) == 0
            assert process.stderr is not None
            assert process.stderr.read() == ""
        finally:
            process.kill()


def test_a_port_that_is_none_is_refused_in_a_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard", str(run), "--port", "99999"]) == 2
    assert capsys.readouterr().err == "error: --port must be between 0 and 65535, but is 99999\n"
