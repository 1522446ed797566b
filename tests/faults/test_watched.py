"""One sweep of many trials that train next to nothing, watched from outside: memory, files, doors, secrets.

Its MLflow server is not there, and on the way its clock is set back a day: the driver's `time.time`, not the machine's.
(libfaketime 0.9.10 makes every `time.sleep` of Python 3.11 fail, EINVAL, and a container has no clock of its own.)
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from support.sweeping import SCRIPT, Run, assert_nothing_lost, every_process, stopping, write_data

from rungwise.results.exporters.mlflow import export
from rungwise.results.record.types import FILE

SECONDS = 3600.0  # nothing takes so long
PASSWORD, KEY, TOKEN = SECRETS = "sesame-open-7041", "hidden-key-5113", "hidden-token-9226"
LOOPBACK = re.compile(r"(127\.0\.0\.1|\[::ffff:127\.0\.0\.1\]|\[::1\]):")
CLOCK = """import os
import time

_time = time.time
time.time = lambda: _time() - 86_400 * os.path.exists(%r)
"""


@dataclass
class Look:
    """What one sees of a running sweep."""

    ended: int  # trials
    memory: float  # MB that the driver holds
    files: int  # open in the driver
    processes: list[str]  # command lines, without the driver's own


@dataclass
class Watched:
    """A sweep that ran to its end, and what was seen of it before."""

    run: Run
    trials: int
    looks: list[Look]  # when 30 % of the trials have ended, and when 90 % have
    doors: list[str]  # addresses on which a process of ours listened
    modes: dict[str, int]  # of Ray's folder and its token
    leaked: list[str]  # files in Ray's folder in which a secret could be read
    tokens: tuple[int | None, int | None]  # when Ray's own token was written last: before and while it ran

    @property
    def size(self) -> int:
        """Bytes of the run's folder."""
        return sum(path.stat().st_size for path in self.run.folder.rglob("*") if path.is_file())


def watch(run: Run, trials: int) -> Watched:
    """Watch a sweep of so many trials: half of them in each of two arms."""
    switch = run.home / "set back"
    run.script.write_text(CLOCK % str(switch) + SCRIPT % {"data": str(write_data(run.home / "data.npz", samples=30))})
    run.environment |= {"MLFLOW_TRACKING_TOKEN": TOKEN, "AWS_SECRET_ACCESS_KEY": KEY}
    before = rays_own_token()
    run.allow(3 * trials // 10)
    driver = run.start(
        *("--trials", str(trials // 2), "--epochs", "1", "--scheduler", "none", "--sampler", "random"),
        *("--tracking-uri", f"http://ada:{PASSWORD}@127.0.0.1:9"),
    )
    assert run.await_pause(driver, SECONDS), run.said
    looks = [look(run)]
    (private,) = run.temporary.glob("rw-*")
    watched = Watched(
        run,
        trials,
        looks,
        doors=listening(set(run.processes())),
        modes={path.name: stat.S_IMODE(path.stat().st_mode) for path in (private, private / "token")},
        leaked=containing(run.temporary, *SECRETS),
        tokens=(before, rays_own_token()),
    )
    switch.touch()
    run.allow(6 * trials // 10)
    assert run.await_pause(driver, SECONDS), run.said
    looks.append(look(run))
    run.allow(None)
    assert driver.wait(SECONDS) == 0, run.said
    return watched


def look(run: Run) -> Look:
    ((ended,),) = run.query("SELECT count(*) FROM trials WHERE state != 'RUNNING'")
    mine, driver = run.processes(), run.drivers[-1].pid
    pages = int(Path(f"/proc/{driver}/statm").read_text().split()[1])
    return Look(
        ended,
        memory=pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        files=len(list(Path(f"/proc/{driver}/fd").iterdir())),
        processes=[line for pid, line, _ in every_process() if pid in mine and pid != driver],
    )


def listening(pids: set[int]) -> list[str]:
    """The address of every TCP socket that one of `pids` listens on."""
    lines = subprocess.run(["ss", "-H", "-ltnp"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.split()[3] for line in lines if pids & {int(pid) for pid in re.findall(r"pid=(\d+)", line)}]


def containing(folder: Path, *secrets: str) -> list[str]:
    """The files below `folder` in which one of the secrets can be read."""
    found = []
    for path in folder.rglob("*"):
        try:
            content = path.read_bytes() if path.is_file() else b""
        except OSError:
            continue
        found += [f"{path}: {secret}" for secret in secrets if secret.encode() in content]
    return found


def rays_own_token() -> int | None:
    """When Ray last wrote the token that it leaves readable by everybody; None when there is none."""
    token = Path.home() / ".ray/auth_token"
    return token.stat().st_mtime_ns if token.exists() else None


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with stopping(Run(tmp_path_factory.mktemp("watched"))) as run:
        yield watch(run, 100)


def assert_bounded(watched: Watched) -> None:
    earlier, later = watched.looks
    per_trial = (later.memory - earlier.memory) / (later.ended - earlier.ended)
    print(f"{watched.trials} trials: {1000 * per_trial:.0f} kB of memory and {watched.size / watched.trials / 1000:.1f}"
          f" kB of disk a trial, {later.memory:.0f} MB and {later.files} open files near the end")  # fmt: skip
    assert per_trial < 0.15
    assert later.files <= earlier.files + 8
    assert len(later.processes) <= len(earlier.processes) + 3
    assert watched.size < 3_000_000 + 6_000 * watched.trials  # the report alone has 2 MB
    assert (watched.run.folder / FILE).stat().st_size < 200_000 + 3_000 * watched.trials


def test_100_trials_that_train_nothing_leave_memory_files_and_folder_bounded(watched: Watched) -> None:
    assert_bounded(watched)


@pytest.mark.long
@pytest.mark.parametrize("trials", [2000, 5000])
def test_thousands_of_trials_that_train_nothing_leave_memory_files_and_folder_bounded(run: Run, trials: int) -> None:
    assert_bounded(watch(run, trials))
    export(run.folder)
    assert_nothing_lost(run.folder, trials, 1)


def test_a_sweep_listens_on_loopback_keeps_its_folder_private_and_shows_no_secret(watched: Watched) -> None:
    run = watched.run
    assert len(watched.doors) >= 4, watched.doors  # control store, raylet, workers: the look works
    assert [door for door in watched.doors if not LOOPBACK.match(door)] == []
    assert list(watched.modes.values()) == [0o700, 0o600]
    assert watched.tokens[0] == watched.tokens[1]
    lines = watched.looks[0].processes
    assert len(lines) > 5, lines  # the look works
    assert [line for line in lines if any(secret in line for secret in SECRETS)] == []
    # The driver's environment travels to its own processes; on disk it must not be, not even in Ray's logs.
    assert watched.leaked == []
    assert "http://***@127.0.0.1:9" in run.said  # what is shown instead
    assert containing(run.out, *SECRETS) == []
    assert not any(secret in run.said for secret in SECRETS)
    assert [path.name for path in run.folder.rglob("*") if path.is_file() and path.read_bytes()[:1] == b"\x80"] == []


def test_a_clock_set_back_a_day_and_no_mlflow_server_lose_nothing_and_the_next_export_completes_it(
    watched: Watched, empty_store: Path
) -> None:
    run = watched.run
    times = [at for (at,) in run.query("SELECT at FROM reports ORDER BY seq")]
    assert min(later - earlier for earlier, later in pairwise(times)) < -80_000  # it was set back
    (line,) = [line for line in run.said.splitlines() if line.startswith("mlflow")]
    assert re.search(r"later: \S*rungwise export", line)
    (run.out / "mlflow.db").write_bytes(empty_store.read_bytes())
    export(run.folder)
    assert_nothing_lost(run.folder, watched.trials, 1)
    run.await_silence()
