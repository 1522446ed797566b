"""The mirror: a copy of one moment, from which the same run goes on elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from rungwise.results.cli.main import main
from rungwise.results.exporters.mirror import ABOUT, Mirror, MirrorError, fetch_if_absent
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import FILE, State
from rungwise.results.record.writer import Record


def start(folder: Path, identity: str = "one") -> Record:
    folder.mkdir(parents=True, exist_ok=True)
    record = Record(folder)
    record.set_meta("id", identity)
    record.start_session({})
    record.add_trial(1, arm="all", phase="search", config={}, params={}, distributions={})
    record.start_attempt(1)
    return record


def test_a_fetched_run_is_the_one_that_was_pushed_while_its_driver_writes(tmp_path: Path) -> None:
    run, mirror = tmp_path / "runs" / "r", Mirror(str(tmp_path / "m"), "r")
    with start(run) as record:
        for step in range(1, 51):
            record.add_report(1, 1, step, {"epoch": step})
            record.commit()
            if step in (20, 40):
                mirror.push(run)
        (run / "model").mkdir()
        (run / "model" / "config.json").write_text("{}")
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / "left").write_text("trials' own")
        mirror.push(run)
    again = tmp_path / "elsewhere" / "r"
    assert fetch_if_absent(str(tmp_path / "m"), again)
    with Reader(again) as reader:
        reader.verify()
        assert [report.step for report in reader.reports()] == list(range(1, 51))
    assert (again / "model" / "config.json").read_text() == "{}"
    assert not (again / "checkpoints").exists()
    with Record(again) as record:  # and it can be gone on with
        record.end_trial(1, State.COMPLETED)


def test_a_copy_made_at_any_time_of_a_busy_driver_is_whole(tmp_path: Path) -> None:
    run, mirror = tmp_path / "runs" / "r", Mirror(str(tmp_path / "m"), "r")
    with start(run) as record:
        record.commit()
        stop = threading.Event()
        found: list[int] = []

        def copy() -> None:
            while not stop.is_set():
                mirror.push(run)
                home = tmp_path / f"home{len(found)}" / "r"
                mirror.fetch(home)
                with Reader(home) as reader:
                    reader.verify()
                    found.append(len(list(reader.reports())))

        thread = threading.Thread(target=copy)
        thread.start()
        for step in count(1):
            record.add_report(1, 1, step, {"epoch": step, f"m{step % 7}": 1.0})
            record.commit()
            if not thread.is_alive() or (step >= 400 and len(found) > 2):
                break
        stop.set()
        thread.join()
    assert len(found) > 2
    assert found == sorted(found)


def test_a_push_copies_what_has_changed_only(tmp_path: Path) -> None:
    run, mirror = tmp_path / "runs" / "r", Mirror(str(tmp_path / "m"), "r")
    start(run).close()
    (run / "report.html").write_text("first")
    mirror.push(run)
    for name in (FILE, ABOUT, "report.html"):
        (tmp_path / "m" / "r" / name).unlink()
    mirror.push(run)
    assert list((tmp_path / "m" / "r").iterdir()) == []
    (run / "report.html").write_text("second, longer")
    mirror.push(run)
    assert [file.name for file in (tmp_path / "m" / "r").iterdir()] == ["report.html"]


def test_a_mirror_of_another_run_or_one_that_is_ahead_is_refused(tmp_path: Path) -> None:
    run, where = tmp_path / "runs" / "r", str(tmp_path / "m")
    start(run).close()
    Mirror(where, "r").push(run)
    assert not fetch_if_absent(where, run)  # its own
    ahead = tmp_path / "other head" / "r"
    Mirror(where, "r").fetch(ahead)
    with Record(ahead) as record:
        record.start_session({})
    Mirror(where, "r").push(ahead)
    with pytest.raises(MirrorError, match="is ahead of"):
        fetch_if_absent(where, run)
    stranger = tmp_path / "strangers" / "r"
    start(stranger, "two").close()
    with pytest.raises(MirrorError, match="another run"):
        fetch_if_absent(where, stranger)


def test_a_damaged_copy_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    run, where = tmp_path / "runs" / "r", str(tmp_path / "m")
    start(run).close()
    Mirror(where, "r").push(run)
    copy = tmp_path / "m" / "r" / FILE
    copy.write_bytes(copy.read_bytes()[:5000])
    with pytest.raises(MirrorError, match="damaged"):
        fetch_if_absent(where, tmp_path / "elsewhere" / "r")
    assert list((tmp_path / "elsewhere").iterdir()) == []


KILLED = """
import os, sys
from pathlib import Path
from rungwise.results.exporters.mirror import fetch_if_absent
where, run, last = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
real, made = Path.rename, []
def rename(self, target):
    if len(made) == last:
        os._exit(9)
    made.append(target)
    return real(self, target)
Path.rename = rename
fetch_if_absent(where, run)
"""


@pytest.mark.parametrize("renamed", [0, 1, 2])
def test_a_head_killed_while_it_brings_the_run_home_does_so_again(tmp_path: Path, renamed: int) -> None:
    from rungwise import FloatDistribution, Sweep
    from rungwise.engine.experiment.command_line import parse
    from rungwise.engine.experiment.experiment import resolve
    from rungwise.engine.validation.check import problems

    run, where = tmp_path / "runs" / "r", str(tmp_path / "m")
    start(run).close()
    (run / "report.html").write_text("a page")
    (run / "model").mkdir()
    (run / "model" / "config.json").write_text("{}")
    Mirror(where, "r").push(run)
    home = tmp_path / "home" / "r"
    command = [sys.executable, "-P", "-c", KILLED, where, str(home), str(renamed)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run(command, env=environment, check=False, timeout=600).returncode == 9
    assert not (home / FILE).exists()
    assert len(list(home.iterdir())) == 1 + renamed

    sweep = Sweep(name="r", space={"lr": FloatDistribution(0.1, 1.0)}, data="digits")
    flags = ["--out", str(home.parent), "--name", "r"]
    assert problems(resolve(sweep), parse(sweep, [*flags, "--mirror", where])) == []
    (problem,) = problems(resolve(sweep), parse(sweep, flags))
    assert problem == f"{home} contains half of a run, and --mirror brings all of it; or choose another --name"
    assert fetch_if_absent(where, home)
    assert sorted(path.name for path in home.iterdir()) == ["model", "report.html", FILE]
    assert (home / FILE).read_bytes() == (tmp_path / "m" / "r" / FILE).read_bytes()


@pytest.mark.parametrize(
    "text", ["[1]", "5", "null", "[" * 60_000, '{"id": ID, "sessions": "many"}', '{"id": ID, "sessions": null}', "{"]
)
def test_a_mirror_that_says_no_sense_is_one_line(tmp_path: Path, text: str) -> None:
    run = tmp_path / "runs" / "r"
    start(run).close()
    (tmp_path / "m" / "r").mkdir(parents=True)
    with Reader(run) as reader:
        (tmp_path / "m" / "r" / "mirror.json").write_text(text.replace("ID", json.dumps(reader.meta("id"))))
    with pytest.raises(MirrorError) as problem:
        fetch_if_absent(str(tmp_path / "m"), run)
    assert len(str(problem.value).splitlines()) == 1


def test_what_is_left_of_an_earlier_record_says_nothing_of_the_one_that_is_brought_home(tmp_path: Path) -> None:
    run, where = tmp_path / "runs" / "r", str(tmp_path / "m")
    start(run).close()
    Mirror(where, "r").push(run)
    with Record(run) as record:  # goes on, and its files but the record are left
        record.event("machines", words="later")
        record.commit()
        left = {suffix: (run / f"{FILE}{suffix}").read_bytes() for suffix in ("-wal", "-shm")}
    (run / FILE).unlink()
    for suffix, content in left.items():
        (run / f"{FILE}{suffix}").write_bytes(content)
    (run / f"{FILE}-mark").write_text("99 99")
    Mirror(where, "r").fetch(run)
    with Reader(run) as reader:
        reader.verify()
        assert "machines" not in [kind for _, kind, _, _ in reader.events()]


def test_pull_brings_a_run_home_from_its_mirror_and_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs" / "r"
    start(run).close()
    assert main(["copy", str(run), str(tmp_path / "m")]) == 0
    assert main(["pull", str(tmp_path / "m"), "r", "--out", str(tmp_path / "home")]) == 0
    assert (tmp_path / "home" / "r" / FILE).exists()
    assert main(["pull", str(tmp_path / "m"), "r", "--out", str(tmp_path / "home")]) == 2
    assert main(["pull", str(tmp_path / "m"), "nobody", "--out", str(tmp_path / "home")]) == 2
    assert main(["pull", str(tmp_path / "no.yaml"), "other", "--out", str(tmp_path / "home")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 1)[1] for line in said] == [
        f"{tmp_path / 'home' / 'r'} contains a run; choose another --out, or move it away",
        f"{tmp_path / 'm'}/nobody contains no {FILE}",
        f"a cluster's YAML file must exist, but {tmp_path / 'no.yaml'} does not",
    ]


@pytest.mark.parametrize(
    "name", ["../up", "a/b", "..", ".hidden", "mlflow.db", "mlartifacts", "x" * 300, "a\nb", "", "C:x"]
)
def test_pull_takes_the_name_of_a_run_and_no_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["pull", str(tmp_path / "m"), name, "--out", str(tmp_path / "home")]) == 2
    said = capsys.readouterr().err
    assert "a run's name must" in said
    assert len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["50% done%20", "what?", "C# lab", 'it\'s "q" a;b&c', "größe"])
def test_a_mirror_may_be_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    run = tmp_path / "runs" / "r"
    start(run).close()
    where = str(tmp_path / name)
    Mirror(where, "r").push(run)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["runs", name])
    assert fetch_if_absent(where, tmp_path / "home" / "r")


class Bucket:
    """An S3 server of this process's own, with a bucket `lab`."""

    def __init__(self, port: int) -> None:
        import boto3

        about = {"endpoint_url": f"http://127.0.0.1:{port}", "region_name": "us-east-1"}
        self.client: Any = boto3.client("s3", **about)
        self.client.create_bucket(Bucket="lab")
        self.where = f"s3://lab/runs?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket="lab", Key=key, Body=content)

    def objects(self) -> list[str]:
        return [found["Key"] for found in self.client.list_objects_v2(Bucket="lab")["Contents"]]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    yield Bucket(server.get_host_and_port()[1])
    server.stop()


def test_runs_below_one_uri_with_a_query_do_not_collide_and_no_key_leads_out_of_a_run(
    tmp_path: Path, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    from rungwise.storage import Folder, below, read

    for name in ("one", "two"):
        start(tmp_path / "runs" / name, name).close()
        Mirror(bucket.where, name).push(tmp_path / "runs" / name)
        assert Mirror(bucket.where, name).about() is not None
        checkpoints = Folder(below(bucket.where, name, "checkpoints", "1"))
        checkpoints.write("5-1.sha256", name.encode())
        assert read(below(checkpoints.where, "5-1.sha256")) == name.encode()
    assert {key.rpartition("/")[0] for key in bucket.objects()} == {
        "runs/one", "runs/two", "runs/one/checkpoints/1", "runs/two/checkpoints/1",
    }  # fmt: skip
    assert main(["pull", bucket.where, "one", "--out", str(tmp_path / "home")]) == 0
    capsys.readouterr()
    for key in ("runs/one/../../../evil", "runs/one/a/../b", "runs/one//etc/evil"):
        bucket.put(key, b"evil")
        assert main(["pull", bucket.where, "one", "--out", str(tmp_path / "other")]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: s3://lab/runs/one contains what no run has: a name must")
        assert list((tmp_path / "other").iterdir()) == []
        bucket.client.delete_object(Bucket="lab", Key=key)
    assert sorted(path.name for path in tmp_path.rglob("*evil*")) == []


def test_a_mirrors_keys_are_in_no_message(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "r"
    start(run).close()
    where = "s3://AKIAIOSFODNN7EXAMPLE:wJa/lrXUtn@bucket/runs?region=eu&nonsense=1&secret_key=sesame"
    with pytest.raises(MirrorError) as caught:
        Mirror(where, "r").push(run)
    for secret in ("AKIA", "lrXUtn", "sesame"):
        assert secret not in str(caught.value)
        assert caught.value.__cause__ is None
