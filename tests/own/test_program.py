"""Programs as trials: what they are given, what becomes of what they say, and that nothing of them is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.own import program, run_out, said, worker
from support.sweeping import ROOT, Run, interrupt, stopping, wait_until

import rungwise
from rungwise import FloatDistribution, Sweep
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.storage import beside
from rungwise.trainable.messages import StudyKey, TrialEnd
from rungwise.trainable.own.program.command import command
from rungwise.trainable.own.program.supervisor import HEAD, TAIL, Log

STUDIES = {1: StudyKey("all")}

IMPORTS = "import json, os, signal, subprocess, sys, time\n"
CONFIG = {"lr": 1e-05, "batch_size": 32, "nesterov": True, "smote": False, "hidden": [64, 8], "opt": "a b", "x": None}


def reporting(items: str) -> str:
    """The statement that reports a dict with these items."""
    return f"with open(os.environ['RUNGWISE_REPORTS'], 'a') as file: file.write(json.dumps({{{items}}}) + chr(10))"


def python(folder: Path, text: str, **how: Any) -> Any:
    """A training that is this Python program."""
    (folder / "train.py").write_text(f"{IMPORTS}{text}\n")
    return program(folder, "python", "train.py", **how)


def lives(pid: float) -> bool:
    try:
        return Path(f"/proc/{pid:.0f}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# -- what it is given --------------------------------------------------------------------------------------------


def test_hyperparameters_are_flags_a_template_spells_them_and_a_placeholder_takes_one_away() -> None:
    flags = command(["train"], None, CONFIG | {"reports_per_epoch": 1})
    assert flags == [
        "train",
        *["--lr", "1e-05", "--batch_size", "32", "--nesterov", "--hidden", "64", "8", "--opt"],
        "a b",
    ]
    assert command(["x"], "--{dashed}={value}", {"batch_size": 32, "smote": False}) == [
        "x",
        "--batch-size=32",
        "--smote=false",
    ]
    assert command(["x"], "{name} {value}", {"opt": "{value} b"}) == ["x", "opt", "{value} b"]
    assert command(["x", "-c", "f({lr}, {'a': {b}})"], None, {"lr": 0.1, "seed": 7}) == [
        "x", "-c", "f(0.1, {'a': {b}})", "--seed", "7"
    ]  # fmt: skip
    assert command(["x", "{lr}"], "", {"lr": 0.1, "seed": 7}) == ["x", "0.1"]


def test_a_program_is_told_of_its_trial_and_its_reports_and_output_arrive(tmp_path: Path) -> None:
    text = f"""
print("told", sys.argv[1:], flush=True)
print("and warned", file=sys.stderr)
told = {{name: value for name, value in os.environ.items() if name.startswith("RUNGWISE_") and "TESTS" not in name}}
json.dump(told, open("told.json", "w"))
import rungwise
rungwise.report(score=1)
{reporting("'score': 2, 'more': 0.5")}
os.write(os.open(os.environ["RUNGWISE_REPORTS"], os.O_WRONLY), b'{{"score": 3}}')"""
    results = run_out(worker(python(tmp_path, text), tmp_path, {"lr": 0.5}))
    assert [result.metrics["score"] for result in results] == [1, 2, 3]
    assert results[1].metrics["more"] == 0.5
    assert results[-1].state is TrialEnd.COMPLETED
    log = (tmp_path / "logs/1-1.log").read_text()
    assert sorted(log.splitlines()) == ["and warned", "told ['--seed', '7', '--epochs', '3', '--lr', '0.5']"]
    told = json.loads((tmp_path / "told.json").read_text())
    assert {name: told[f"RUNGWISE_{name}"] for name in ("SEED", "EPOCHS", "TRIAL", "ARM", "PHASE", "DEVICE")} == {
        "SEED": "7", "EPOCHS": "3", "TRIAL": "1", "ARM": "all", "PHASE": "search", "DEVICE": "cpu"
    }  # fmt: skip
    assert json.loads(told["RUNGWISE_CONFIG"])["lr"] == 0.5
    assert "RUNGWISE_CHECKPOINT" not in told
    assert Path(told["RUNGWISE_SAVE"]).is_absolute()


def test_report_prints_the_line_without_a_sweep_and_is_silent_on_other_ranks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    rungwise.report({"a": np.float32(0.5)}, b=1)
    monkeypatch.setenv("RANK", "1")
    rungwise.report(a=2)
    assert capsys.readouterr().out == '{"a": 0.5, "b": 1}\n'


# -- checkpoints -------------------------------------------------------------------------------------------------

COUNTING = f"""
first = 0
if folder := os.environ.get("RUNGWISE_CHECKPOINT"):
    first = json.load(open(folder + "/state.json"))
for epoch in range(first, int(os.environ["RUNGWISE_EPOCHS"])):
    folder = os.environ["RUNGWISE_SAVE"] + "/" + str(epoch)
    os.mkdir(folder)
    json.dump(epoch + 1, open(folder + "/state.json", "w"))
    {reporting("'score': epoch, 'began': first, 'checkpoint': str(epoch)")}
"""


def test_a_program_goes_on_from_the_folder_that_it_named(tmp_path: Path) -> None:
    training = python(tmp_path, COUNTING)
    first = worker(training, tmp_path)
    saved = [said(first).checkpoint for _ in range(2)]
    first.stop()
    again = run_out(worker(training, tmp_path, message={"attempt": 2, "reported": 1}))
    assert again[0].restored == 1
    assert saved[1] is not None
    assert saved[1].step == 1  # what comes with a report is kept once its verdict is there
    assert [(result.metrics["score"], result.metrics["began"]) for result in again] == [(1, 1), (2, 1)]
    assert (tmp_path / "logs/1-2.log").exists()


def test_what_a_confirmed_program_named_last_is_what_its_test_is_given(tmp_path: Path) -> None:
    from rungwise.trainable.resources import ONE_CORE
    from rungwise.trainable.worker.checkpoints import Checkpoints

    (tmp_path / "test.py").write_text(
        f"""{IMPORTS}
assert os.environ["RUNGWISE_PHASE"] == "test"
open(os.environ["RUNGWISE_SAVE"] + "/model.txt", "w").write("made by the test")
state = json.load(open(os.environ["RUNGWISE_CHECKPOINT"] + "/state.json"))
{reporting("'test_score': state, 'checkpoint': 'model.txt'")}
"""
    )
    training = python(tmp_path, COUNTING, test=["python", "test.py"])
    trial = worker(training, tmp_path, message={"phase": "confirm"}, checkpoint_seconds=1e9)
    last = run_out(trial)[-1]
    assert last.checkpoint is not None
    assert last.checkpoint.step == 3
    file = Checkpoints(tmp_path / "checkpoints", 1).file(3)
    config = {"seed": 7, "epochs": 3, "reports_per_epoch": 1}
    scores = training.score({1: (file, last.checkpoint.sha256)}, {1: config}, STUDIES, None, ONE_CORE)
    assert scores.scores == {1: {"score": 3.0}}
    assert file is not None
    model = Checkpoints(tmp_path / "checkpoints", 1).file(4)
    saved = training.export((model, scores.models[1].sha256), config, {"trial": 1}, None, ONE_CORE)
    assert saved.files["model.txt"] == b"made by the test"


# -- how it fails ------------------------------------------------------------------------------------------------

FAILURES = {
    "an exit code": ("print('x' * 200_000)\nraise ValueError('no such layer')",
                     "train.py ended with exit code 1: ValueError: no such layer"),
    "a signal": ("os.kill(os.getpid(), signal.SIGKILL)", "train.py ended with signal 9"),
    "an exit code after a report": (reporting("'score': 1") + "\nsys.exit(3)", "train.py ended with exit code 3"),
    "no report": ("pass", "train.py ended and reported nothing: write a line such as"),
    "no JSON": ("open(os.environ['RUNGWISE_REPORTS'], 'a').write('epoch 1: 0.5\\n')",
                "train.py must report one JSON object a line, but wrote 'epoch 1: 0.5'"),
    "a name of two checkpoints": (
        f"""
for epoch in range(2):
    open(os.environ['RUNGWISE_SAVE'] + '/latest', 'w').close()
    {reporting("'score': 1, 'checkpoint': 'latest'")}""",
        "train.py must give each checkpoint a name of its own, such as one with the epoch, as it is moved away",
    ),
    "no object": ("open(os.environ['RUNGWISE_REPORTS'], 'a').write('0.5\\n')", "but wrote '0.5'"),
    "a line without end": ("open(os.environ['RUNGWISE_REPORTS'], 'a').write('x' * 2**22)", "at most 1048576 bytes"),
    "no objective": (reporting("'loss': 1"), "must contain the objective 'score'"),
    "text": (reporting("'score': 'good'"), "must contain numbers, but score is str 'good'"),
    "a folder that is elsewhere": (reporting("'score': 1, 'checkpoint': '/etc'"), "below $RUNGWISE_SAVE"),
    "a folder that is not there": (reporting("'score': 1, 'checkpoint': 'x'"), "but named 'x'"),
    "a folder that is no path": (reporting("'score': 1, 'checkpoint': 'a\\0b'"), "as its checkpoint, but named 'a"),
    "a folder too long": (reporting("'score': 1, 'checkpoint': 'a' * 5000"), "as its checkpoint, but named 'a"),
    "JSON too deep": ("open(os.environ['RUNGWISE_REPORTS'], 'a').write('[' * 60000)", "must report one JSON object"),
    "half a line": ("open(os.environ['RUNGWISE_REPORTS'], 'a').write('{')\nsys.exit(3)", "ended with exit code 3"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILURES)
def test_a_program_that_fails_is_a_failed_trial_with_the_way_out(tmp_path: Path, case: str) -> None:
    text, reason = FAILURES[case]
    last = run_out(worker(python(tmp_path, text), tmp_path))[-1]
    assert last.state is TrialEnd.FAILED
    assert last.failure is not None
    assert reason in last.failure.message
    assert "\n" not in last.failure.message
    if case == "an exit code":
        assert "raise ValueError('no such layer')" in (last.failure.error or "")


def test_a_program_that_is_gone_fails_its_trial_and_names_it(tmp_path: Path) -> None:
    (last,) = run_out(worker(program(tmp_path, "no-such-program"), tmp_path))
    assert last.failure is not None
    assert "no-such-program could not run: No such file or directory: no-such-program" in last.failure.message


SPACE: Any = {"lr": FloatDistribution(1e-3, 1e-1)}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "not on the PATH": ({"program": ["no-such-program"]}, "program: 'no-such-program' must be on the PATH"),
    "no such file": ({"program": ["./train.sh"]}, "program: './train.sh' must be an executable file"),
    "no such script": ({"program": ["python", "trian.py"]}, "program: 'trian.py' must be a file"),
    "no such test": ({"program": ["true"], "test": ["python", "tset.py"]}, "test: 'tset.py' must be a file"),
    "text": ({"program": "python train.py"}, "program must be a list of words"),
    "no words": ({"program": []}, "program must be a list of words"),
    "a template": ({"program": ["true"], "program_arguments": "--{nmae}={value}"}, "must be a template with {value}"),
    "a template alone": ({"program_arguments": "{name}={value}"}, "program_arguments is for a program"),
    "data": ({"program": ["true"], "data": len}, "a program reads its data itself"),
    "two trainings": ({"program": ["true"], "train": print}, "a sweep has one training, but got train and program"),
    "a test alone": ({"test": print}, "are for a training of your own: say one of train="),
    "a test that is a program": ({"train": dict, "test": ["true"]}, "test must be a function"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_run_is_exit_code_2_before_ray(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fields, reason = REFUSED[case]
    with pytest.raises(SystemExit) as end:
        rungwise.main(Sweep(name="x", space=SPACE, metric="score", mode="max", **fields), [])
    assert end.value.code == 2
    assert reason in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_one_trial_has_its_output_on_the_terminal_and_a_failure_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(
        IMPORTS + "print('its output', flush=True)\n" + reporting("'score': 1") + "\nsys.exit(3)"
    )
    sweep = Sweep(name="x", space=SPACE, metric="score", mode="max", program=["python", "train.py"])
    with pytest.raises(SystemExit) as end:
        rungwise.main(sweep, ["--one", '{"lr": 0.01}'])
    assert end.value.code == 1
    out, err = capfd.readouterr()
    assert out.startswith("step 1  score 1")
    assert err.splitlines() == ["its output", "error: train.py ended with exit code 3"]
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]


# -- its end -----------------------------------------------------------------------------------------------------

# A program that wants to live: so does its child, in a session of its own, and that one's child.
STUBBORN = f'''
signal.signal(signal.SIGTERM, signal.SIG_IGN)
deep = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(1e6)"
wide = """import subprocess, sys, time
deep = subprocess.Popen([sys.executable, "-c", sys.argv[1]], start_new_session=True, stdout=subprocess.PIPE)
deep.stdout.read(1)
print(deep.pid, flush=True)
time.sleep(1e6)"""
child = subprocess.Popen([sys.executable, "-c", wide, deep], start_new_session=True, stdout=subprocess.PIPE)
grandchild = int(child.stdout.readline())
{reporting("'score': 1, 'me': os.getpid(), 'child': child.pid, 'grandchild': grandchild")}
while True:
    time.sleep(1)
'''


def test_a_stopped_program_that_wants_to_live_is_killed_with_all_that_it_has_started(tmp_path: Path) -> None:
    trial = worker(python(tmp_path, STUBBORN), tmp_path)
    metrics = said(trial).metrics
    pids = [metrics[name] for name in ("me", "child", "grandchild")]
    assert all(map(lives, pids))
    trial.stop()
    assert not any(map(lives, pids))


OBEDIENT = """
def end(*_):
    time.sleep(0.2)
    open("tidy", "w").close()
    sys.exit()
signal.signal(signal.SIGTERM, end)
"""


def test_a_program_that_obeys_has_time_to_end(tmp_path: Path) -> None:
    report = reporting("'score': 1")
    trial = worker(python(tmp_path, f"{OBEDIENT}{report}\ntime.sleep(1e6)", grace=600.0), tmp_path)
    said(trial)
    trial.stop()
    assert (tmp_path / "tidy").exists()


# Its worker is this process, which closes the pipe between them as one that dies does.
PATIENT = """
from rungwise.trainable.own.program import supervisor
supervisor.ORPHANED = 600.0
supervisor.main()
"""


def test_a_program_that_obeys_has_time_to_end_when_its_worker_has_died(tmp_path: Path) -> None:
    script = f"{IMPORTS}{OBEDIENT}open('begun', 'w').close()\ntime.sleep(1e6)"
    job = {"command": [sys.executable, "-c", script], "folder": str(tmp_path), "log": None, "grace": 600.0}
    command = [sys.executable, "-c", PATIENT, json.dumps(job)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert wait_until((tmp_path / "begun").exists)
        ended, _ = process.communicate()
    assert json.loads(ended)["code"] == 0
    assert (tmp_path / "tidy").exists()


def test_what_a_program_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    text = f"""
left = subprocess.Popen(["sleep", "1000000"], start_new_session=True)
{reporting("'score': 1, 'left': left.pid")}"""
    last = run_out(worker(python(tmp_path, text), tmp_path))[-1]
    assert last.state is TrialEnd.COMPLETED
    assert not lives(last.metrics["left"])


KILLED = """
import os, sys, time
from pathlib import Path
from support.own import program, said, worker
folder = Path(sys.argv[1])
metrics = said(worker(program(folder, "python", "train.py"), folder)).metrics
print(*(int(metrics[name]) for name in ("me", "child", "grandchild")), flush=True)
time.sleep(1e6)
"""


def test_a_worker_that_is_killed_leaves_no_program(tmp_path: Path) -> None:
    python(tmp_path, STUBBORN)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 3
        assert all(map(lives, pids))
        process.kill()
    assert wait_until(lambda: not any(map(lives, pids)))


# -- its output --------------------------------------------------------------------------------------------------


def test_a_log_keeps_both_ends_of_whatever_is_written(tmp_path: Path) -> None:
    log, line = Log(str(tmp_path / "log")), b"%07d\n"
    for start in range(0, 300_000, 1000):
        log.write(b"".join(line % number for number in range(start, start + 1000)))
        assert (tmp_path / "log").stat().st_size <= HEAD + 2 * TAIL + 100
    log.close()
    content = (tmp_path / "log").read_bytes()
    head, rest = content.split(b"\n... ")
    left_out, tail = rest.split(b" bytes left out ...\n")
    assert head == b"".join(line % number for number in range(HEAD // 8))
    assert len(head) + int(left_out) + len(tail) == 300_000 * 8
    assert tail.endswith(b"0299998\n0299999\n")


def test_100_mb_of_output_are_read_and_not_kept(tmp_path: Path) -> None:
    text = f"""
for _ in range(1600):
    sys.stdout.write("x" * 65535 + chr(10))
print("the end", flush=True)
{reporting("'score': 1")}"""
    assert run_out(worker(python(tmp_path, text), tmp_path))[-1].state is TrialEnd.COMPLETED
    log = tmp_path / "logs/1-1.log"
    assert log.stat().st_size < 2**20 + 1000
    assert log.read_text().endswith("the end\n")


def test_the_log_lies_beside_the_checkpoints_under_a_uri_too(tmp_path: Path) -> None:
    trial = worker(
        python(tmp_path, "print('said')\n" + reporting("'score': 1")),
        tmp_path,
        checkpoints=f"file://{tmp_path}/run/checkpoints",
    )
    assert run_out(trial)[-1].state is TrialEnd.COMPLETED
    assert (tmp_path / "run/logs/1-1.log").read_text() == "said\n"
    assert beside("s3://bucket/run/checkpoints?region=x", "logs") == "s3://bucket/run/logs?region=x"


# -- a whole sweep -----------------------------------------------------------------------------------------------

SWEEP = '''"""Does it survive?"""
from rungwise import FloatDistribution, Sweep, main

SWEEP = Sweep(name="tiny", question=__doc__, program=["python", "train.py"], metric="val_loss",
              space={"lr": FloatDistribution(0.1, 1.0)}, trials=3, epochs=4, scheduler="none")
if __name__ == "__main__":
    main(SWEEP)
'''
# It waits before its third report until the test lets it go on, and has a child in a session of its own.
WAITING = f"""
child = subprocess.Popen(["sleep", "1000000"], start_new_session=True)
first = 0
if folder := os.environ.get("RUNGWISE_CHECKPOINT"):
    first = json.load(open(folder + "/state.json"))
for epoch in range(first, 4):
    while epoch == 2 and not os.path.exists("go"):
        time.sleep(0.02)
    folder = os.environ["RUNGWISE_SAVE"] + "/" + str(epoch)
    os.mkdir(folder)
    json.dump(epoch + 1, open(folder + "/state.json", "w"))
    {reporting("'val_loss': 1 / (epoch + 1), 'began': first, 'checkpoint': str(epoch)")}
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    (tmp_path / "train.py").write_text(IMPORTS + WAITING)
    with stopping(Run(tmp_path, script=SWEEP, logged=False)) as run:
        yield run


def in_flight(run: Run) -> list[tuple[int, int]]:
    """(attempt, process) of the trial that waits before its third report with a checkpoint."""
    rows = run.query(
        "SELECT attempts, node FROM trials t WHERE state = 'RUNNING' AND node IS NOT NULL AND "
        "(SELECT count(*) FROM reports r WHERE r.trial = t.trial AND r.attempt = t.attempts AND step = 2) = 1"
    )
    return [(int(attempt), int(node.rpartition(":")[2])) for attempt, node in rows]


def test_a_killed_worker_goes_on_from_the_programs_checkpoint_and_ctrl_c_leaves_no_process(run: Run) -> None:
    flags = ("--concurrency", "1", "--checkpoint-seconds", "0")
    driver = run.start(*flags)
    assert wait_until(lambda: driver.poll() is not None or in_flight(run)), run.said
    ((attempt, pid),) = in_flight(run)
    assert attempt == 1
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: driver.poll() is not None or run.query("SELECT 1 FROM trials WHERE attempts = 2"))
    # An attempt is recorded before its program is started.
    assert wait_until(lambda: any("train.py" in line for line in run.processes().values()))
    assert interrupt(driver) == 130
    run.await_silence(except_for=f"{sys.executable} -m rungwise.results.exporters")
    (run.home / "go").touch()
    assert run.finish(*flags) == 0, run.said
    run.await_silence()
    with Reader(run.folder) as reader:
        rows, curves = reader.trials(), reader.curves()
        began = [report.metrics["began"] for report in reader.reports() if report.trial == 1 and report.step == 4]
    assert [(row.state, sorted(curves[row.trial])) for row in rows] == [(State.COMPLETED, [1, 2, 3, 4])] * 3
    assert began[-1] >= 1  # from a checkpoint, not from the start
    assert rows[0].attempts >= 2
    assert (run.folder / "logs/1-1.log").exists()
