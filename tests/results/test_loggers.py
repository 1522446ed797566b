"""Loggers beside MLflow, with the real packages: every row once, wherever an exporter was killed."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.demo import add, attempt, begin
from support.sweeping import wait_until

from rungwise.results.cli.doctor import examine
from rungwise.results.exporters.live import Follower
from rungwise.results.exporters.loggers.logger import Logged, LoggerError
from rungwise.results.exporters.loggers.registry import feed_of, problems
from rungwise.results.exporters.loggers.settings import KEY, LogSettings, tag_problems
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State, SweepState
from rungwise.results.record.writer import Record

Points = dict[int, dict[tuple[int, str], float]]  # trial -> {(step, metric): value}


def synced(name: str, run: Path, settings: LogSettings | None = None) -> Logged:
    """One pass of a new exporter."""
    feed = feed_of(name, run, settings or LogSettings())
    done = feed.sync()
    feed.close()
    return done


def recorded(run: Path, *, void: bool = False) -> Points:
    """What the last attempt reported of every step; `void`: without what earlier ones reported of later steps."""
    points: Points = {}
    with Reader(run) as reader:
        for row in reader.reports():
            before = points.setdefault(row.trial, {})
            kept = {key: value for key, value in before.items() if not void or key[0] < row.step}
            points[row.trial] = kept | {(row.step, name): value for name, value in row.metrics.items()}
    return points


# -- TensorBoard ------------------------------------------------------------------------------------------------


def scalars(run: Path) -> Points:
    """What TensorBoard shows, without best values and test scores."""
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer

    found = EventMultiplexer(size_guidance={"tensors": 0}).AddRunsFromDirectory(str(run / "tensorboard"))
    found.Reload()
    points: Points = {}
    for name in found.Runs():
        if not name.startswith("trial-"):
            continue
        trial = points.setdefault(int(name.removeprefix("trial-")), {})
        for tag in found.GetAccumulator(name).Tags()["tensors"]:
            if tag.startswith(("_hparams_", "best_", "test_")):
                continue
            for event in found.Tensors(name, tag):
                assert (event.step, tag) not in trial, "a point is there twice"
                trial[event.step, tag] = float(event.tensor_proto.float_val[0])
    return points


def shown(points: Points) -> dict[int, dict[tuple[int, str], str]]:
    """Points as text, which NaN equals, of the float32 that TensorBoard has."""
    return {
        trial: {key: f"{np.float32(value):.6g}" for key, value in found.items()}
        for trial, found in points.items()
        if found
    }


def test_tensorboard_shows_every_report_of_the_last_attempt(run: Path) -> None:
    done = synced("tensorboard", run)
    assert shown(scalars(run)) == shown(recorded(run, void=True))
    assert done.metrics > 0
    assert done.trials == 7  # trial 8 never started
    assert synced("tensorboard", run).metrics == 0


def test_an_event_file_cut_anywhere_is_completed_and_nothing_is_there_twice(run: Path) -> None:
    synced("tensorboard", run)
    (file,) = (run / "tensorboard/trial-0006").iterdir()
    whole = file.read_bytes()
    for size in range(0, len(whole), 7):  # an exporter killed after so many bytes
        file.write_bytes(whole[:size])
        synced("tensorboard", run)
        assert file.read_bytes() == whole
    file.write_bytes(whole[:-9] + bytes(9))  # what a power failure leaves
    synced("tensorboard", run)
    assert file.read_bytes() == whole


def test_a_sweep_followed_pass_by_pass_gives_the_files_of_one_exported_at_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    record, session = begin(folder)
    feed = feed_of("tensorboard", folder, LogSettings())
    with record:
        add(record, 1)
        attempt(record, 1, 0.5, 0.6)
        feed.sync()
        attempt(record, 1, 0.4, first=2)
        feed.sync()
        record.end_trial(1, State.COMPLETED)
        feed.sync()
        record.add_score(1, "test", "accuracy", 0.75)
        record.end_session(session, SweepState.FINISHED)
    feed.sync()
    assert shown(scalars(folder)) == shown(recorded(folder, void=True))
    followed = {path.name: path.read_bytes() for path in folder.glob("tensorboard/trial-0001/*")}
    assert b"test_accuracy" in next(iter(followed.values()))
    assert synced("tensorboard", folder).metrics == 0
    assert {path.name: path.read_bytes() for path in folder.glob("tensorboard/trial-0001/*")} == followed


def test_the_hparams_plugin_lists_the_trials_with_hyperparameters_and_how_they_ended(run: Path) -> None:
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

    synced("tensorboard", run)
    found = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(run / "tensorboard"))
    found.Reload()
    context = backend_context.Context(TBContext(data_provider=data_provider.MultiplexerDataProvider(found, "")))
    experiment = context.experiment_from_metadata(
        RequestContext(), "", True, context.hparams_metadata(RequestContext(), ""), []
    )
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=100,
        allowed_statuses=[
            api_pb2.STATUS_UNKNOWN,
            api_pb2.STATUS_SUCCESS,
            api_pb2.STATUS_FAILURE,
            api_pb2.STATUS_RUNNING,
        ],
    )
    groups = list_session_groups.Handler(RequestContext(), context, "", request).run().session_groups
    assert {group.name for group in groups} == {f"trial {number}" for number in range(1, 8)}
    one = next(group for group in groups if group.name == "trial 1")
    assert one.hparams["lr"].number_value == 0.01
    assert one.hparams["arm"].string_value == "no L2"
    assert one.sessions[0].status == api_pb2.STATUS_SUCCESS
    assert {info.name.tag for info in experiment.metric_infos} == {"val_accuracy", "best_val_accuracy"}
    values = {metric.name.tag: metric.value for metric in one.metric_values}
    assert values == pytest.approx({"val_accuracy": 0.8, "best_val_accuracy": 0.9})


# -- Weights & Biases, offline ------------------------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))


def blocks(data: bytes) -> Iterator[bytes]:
    """The records of a file of W&B: a log of LevelDB's format behind seven bytes."""
    at, record = 7, b""
    while at + 7 <= len(data):
        if (room := -at % 2**15) and room < 7:  # a block's end is padded
            at += room
        length, kind = struct.unpack("<4xHB", data[at : at + 7])
        record = data[at + 7 : at + 7 + length] if kind in (1, 2) else record + data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield record


def records(run: Path) -> Iterator[tuple[Path, Any]]:
    """(file, record) of W&B's files."""
    from wandb.proto.wandb_internal_pb2 import Record as WandbRecord

    for file in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        for data in blocks(file.read_bytes()):
            yield file, WandbRecord.FromString(data)


def history(run: Path) -> dict[str, list[tuple[int, dict[str, float]]]]:
    """{id of a W&B run: (step, metrics)}"""
    found: dict[str, list[tuple[int, dict[str, float]]]] = {}
    for file, record in records(run):
        rows = found.setdefault(file.stem, [])
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            metrics = {name: float(value) for name, value in items.items() if not name.startswith("_")}
            rows.append((record.history.step.num, metrics))
    return found


@pytest.mark.usefixtures("offline")
def test_wandb_has_a_run_for_each_trial_in_the_sweeps_group(run: Path) -> None:
    settings = LogSettings(project="vision/net", tags={"team": "a"})
    done = synced("wandb", run, settings)
    there = history(run)
    expected = recorded(run)
    assert len(there) == done.trials == 7
    for trial, points in expected.items():
        rows = there[f"run-id-of-demo-{trial}"]
        assert [step for step, _ in rows] == sorted({step for step, _ in points})  # each once
        flat = {trial: {(step, name): value for step, metrics in rows for name, value in metrics.items()}}
        assert shown(flat) == shown({trial: points})
    begun = [record.run for _, record in records(run) if record.WhichOneof("record_type") == "run"]
    assert {one.run_group for one in begun} == {"demo"}
    assert {one.project for one in begun} == {"vision_net"}
    assert {"team=a", "L2"} <= {tag for one in begun for tag in one.tags}
    assert done.notes == ("the project 'vision/net' is stored as 'vision_net'",)
    ends = [record.exit.exit_code for _, record in records(run) if record.WhichOneof("record_type") == "exit"]
    assert Counter(ends) == {0: 3, 1: 3, 255: 1}  # completed and stopped; diverged, failed, lost; still in flight


@pytest.mark.usefixtures("offline")
def test_a_wandb_run_that_was_not_finished_is_written_anew_and_a_finished_one_stays(run: Path) -> None:
    synced("wandb", run)
    before = history(run)
    folders = {path.name for path in run.glob("wandb/offline-run-*")}
    finished = run / "wandb/trials.json"
    kept = json.loads(finished.read_text())
    del kept["1"]  # as if killed after trial 1's rows, before it was noted
    finished.write_text(json.dumps(kept))
    (file,) = run.glob("wandb/offline-run-*-1/*.wandb")
    file.write_bytes(file.read_bytes()[:-100])
    synced("wandb", run)
    assert history(run) == before or shown_rows(history(run)) == shown_rows(before)
    again = {path.name for path in run.glob("wandb/offline-run-*")}
    assert len(again) == len(folders)
    assert {name for name in folders if not name.endswith(("demo-1", "demo-7"))} <= again


def shown_rows(rows: dict[str, list[tuple[int, dict[str, float]]]]) -> str:
    return repr(rows)  # which NaN equals


# -- a function ---------------------------------------------------------------------------------------------------

FUNCTION = """
import json, os
from pathlib import Path

def log(batch):
    with (Path(__file__).parent / "told.jsonl").open("a") as file:
        for report in batch.reports:
            print(json.dumps([batch.number, batch.repeated, report.number, report.trial, report.step]), file=file)
        for trial, state in batch.ended.items():
            print(json.dumps([batch.number, batch.repeated, "ended", trial, state]), file=file)
    if os.environ.get("DIE") == str(batch.number):
        os._exit(9)

def store(batch):
    file = Path(__file__).parent / f"batch-{batch.number:05}.json"
    file.with_suffix(".new").write_text(json.dumps([report.number for report in batch.reports]))
    file.with_suffix(".new").replace(file)

def wrong(batch):
    raise ValueError("no")
"""


@pytest.fixture
def function(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(FUNCTION)
    return f"{tmp_path / 'mine.py'}:log"


def told(function: str) -> list[list[Any]]:
    return [json.loads(line) for line in Path(function).with_name("told.jsonl").read_text().splitlines()]


def test_a_function_gets_each_report_and_each_end_once(run: Path, function: str) -> None:
    synced(function, run)
    synced(function, run)
    with Reader(run) as reader:
        numbers = [row.seq for row in reader.reports()]
    assert [line[2] for line in told(function) if line[2] != "ended"] == numbers
    assert {line[3]: line[4] for line in told(function) if line[2] == "ended"}[1] == "COMPLETED"
    with Record(run) as record:
        record.start_session({})
        attempt(record, 7, 0.9, first=2)
    synced(function, run)
    assert [line[2:] for line in told(function)][-1] == [numbers[-1] + 1, 7, 2]


def exporting(run: Path, *names: str, passes: int = 10**9, **environment: str) -> subprocess.Popen[bytes]:
    """Another process that brings loggers up to date so many times."""
    code = (
        "import sys; from pathlib import Path; from rungwise.results.exporters.loggers.registry import feed_of\n"
        "from rungwise.results.exporters.loggers.settings import LogSettings\n"
        "feeds = [feed_of(name, Path(sys.argv[1]), LogSettings()) for name in sys.argv[3:]]\n"
        "for _ in range(int(sys.argv[2])):\n    for feed in feeds: feed.sync()"
    )
    command = [sys.executable, "-c", code, str(run), str(passes), *names]
    return subprocess.Popen(command, env={**os.environ, **environment})


def test_the_batch_in_which_an_exporter_died_comes_again_and_says_so(run: Path, function: str) -> None:
    died = exporting(run, function, passes=1, DIE="1")
    assert died.wait(600) == 9
    synced(function, run)
    lines = told(function)
    first = [line[2:] for line in lines if line[0] == 1 and not line[1]]
    again = [line[2:] for line in lines if line[0] == 1 and line[1]]
    assert first == again
    with Reader(run) as reader:
        numbers = [row.seq for row in reader.reports()]
    assert [line[2] for line in lines if line[2] != "ended" and not line[1]] == numbers
    assert {line[0] for line in lines if line[1]} == {1}


def test_a_function_that_raises_is_named_and_gets_the_batch_again(run: Path, function: str) -> None:
    with pytest.raises(LoggerError, match="wrong raised ValueError: no"):
        synced(function.replace(":log", ":wrong"), run)
    with pytest.raises(LoggerError, match="could not be imported: AttributeError"):
        synced(function.replace(":log", ":absent"), run)


def test_what_is_no_logger_is_refused(function: str) -> None:
    assert list(problems(["mlflow", "tensorboard", "wandb", function])) == []
    assert "mlflow" in next(problems(["mlfow"]))
    assert list(problems(["nowhere.py:log"])) == ["--loggers nowhere.py:log: the file nowhere.py does not exist"]
    assert "module:function" in next(problems(["a:b c"]))
    assert tag_problems(("team=a", "b=", "x", "mlflow.user=a")) == [
        "--tags takes KEY=VALUE, but got 'x'",
        "--tags: keys must not begin with mlflow. or rungwise., but got 'mlflow.user'",
    ]


# -- the follower -------------------------------------------------------------------------------------------------


def test_the_follower_feeds_all_loggers_and_one_that_fails_holds_up_none(run: Path, function: str) -> None:
    settings = LogSettings(loggers=("tensorboard", function, function.replace(":log", ":wrong")))
    answer = Follower.start(run, settings=settings).finish(timeout=600)
    assert answer["tensorboard"] == answer[function] == "complete"
    assert "ValueError: no" in answer[function.replace(":log", ":wrong")]
    assert "mlflow" not in answer
    assert not (run.parent / "mlflow.db-wal").exists()
    assert shown(scalars(run)) == shown(recorded(run, void=True))


ODD_FUNCTIONS = """
import os, sys
from pathlib import Path

class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError

def prints(batch):
    print("x" * 200_000, end="", flush=True)
    sys.stdout.close()
    sys.stderr = None
    os.close(1)

def starts(batch):
    Path(__file__).with_name("pid").write_text(str(os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "600")))
def reads(batch): Path(__file__).with_name("read").write_text(sys.stdin.read())
def leaves(batch): sys.exit(3)
def interrupts(batch): raise KeyboardInterrupt
def says_nothing(batch): raise ValueError
def unspeakable(batch): raise Unspeakable
"""


def test_whatever_a_function_does_to_its_process_the_driver_gets_its_answer(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    file.write_text(ODD_FUNCTIONS)
    (tmp_path / "leaves.py").write_text("raise SystemExit('at import')")
    names = ["prints", "starts", "reads", "leaves", "interrupts", "says_nothing", "unspeakable"]
    functions = [*(f"{file}:{name}" for name in names), f"{tmp_path / 'leaves.py'}:log"]
    answer = Follower.start(run, settings=LogSettings(loggers=(*functions, "optuna"))).finish(timeout=600)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)  # it holds none of the pipes
    assert answer["parquet"] is True
    assert answer["report"] is True
    assert answer["optuna"] == "complete"
    assert [answer[name] for name in functions[:3]] == ["complete"] * 3
    assert [answer[name].removeprefix(f"{name} raised ") for name in functions[3:7]] == [
        "SystemExit: 3",
        "KeyboardInterrupt",
        "ValueError",
        "Unspeakable: its text raised RuntimeError",
    ]
    assert answer[functions[7]].endswith("could not be imported: SystemExit: at import")
    assert (tmp_path / "read").read_text() == ""


def test_an_exporter_killed_while_trials_report_loses_and_doubles_nothing(tmp_path: Path, function: str) -> None:
    run, store = tmp_path / "demo", function.replace(":log", ":store")
    record, _ = begin(run)
    with record:
        for turn in range(1, 4):
            child = exporting(run, "tensorboard", store)
            for trial in range(100 * turn, 100 * turn + 30):
                add(record, trial)
                attempt(record, trial, *(0.1 * step for step in range(1, 6)))
                if trial % 100 == 20:
                    wait_until(lambda turn=turn: list(run.glob(f"tensorboard/trial-0{turn}*/*")))
            child.kill()
            child.wait()
    for name in ("tensorboard", store):
        synced(name, run)
    assert shown(scalars(run)) == shown(recorded(run, void=True))
    # A batch in which the exporter was killed comes again, whether or not the function had stored it by then.
    stored = [number for file in sorted(tmp_path.glob("batch-*.json")) for number in json.loads(file.read_text())]
    with Reader(run) as reader:
        assert stored == [row.seq for row in reader.reports()]


def test_the_doctor_misses_no_mlflow_of_a_sweep_that_was_not_logged_there(run: Path) -> None:
    def areas(uri: str | None) -> set[str]:
        return {found.area for found in examine(run, uri)}

    assert "mlflow" in areas(None)
    with Record(run) as record:
        record.set_meta(KEY, LogSettings(loggers=("tensorboard",)).to_json())
    assert "mlflow" not in areas(None)
    assert "mlflow" in areas(f"sqlite:///{run.parent}/mlflow.db")


def test_settings_of_a_session_that_resumes_keep_what_it_does_not_name() -> None:
    first = LogSettings.chosen(("mlflow",), "vision", ("team=a",), "", {"MLFLOW_RUN_ID": "r1"})
    again = LogSettings.chosen(("wandb",), None, ("data=v2",), "", {"WANDB_PROJECT": "p"}).resuming(first)
    assert (again.loggers, again.experiment, again.parent, again.project) == (("wandb",), "vision", "r1", "p")
    assert again.tags == {"team": "a", "data": "v2"}
    assert LogSettings.from_json(json.loads(json.dumps(again.to_json()))) == again
