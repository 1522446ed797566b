"""The files of a user's code: a run goes on with the program that it began with, and a cluster's machines get them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.own import program, run_out, worker

from rungwise import FloatDistribution, Sweep
from rungwise.engine.cluster import user_code
from rungwise.engine.cluster.attach import Unusable
from rungwise.engine.define_run import define_run
from rungwise.engine.errors import CannotRun
from rungwise.engine.experiment.command_line import parse
from rungwise.engine.experiment.experiment import resolve
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.results.record.writer import Record
from rungwise.trainable.data.data_source import DataSource
from rungwise.trainable.own.program.sources import BROUGHT
from rungwise.trainable.protocol import SweepData
from rungwise.trainable.training.builtin import BuiltInTraining

REPORTS = "import json, os\nopen(os.environ['RUNGWISE_REPORTS'], 'a').write(json.dumps({'score': 1}) + chr(10))\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, which is the working directory."""
    (tmp_path / "fit.py").write_text(REPORTS)
    (tmp_path / "score.sh").write_text("true\n")
    (tmp_path / "settings.yaml").write_text("depth: 3\n")
    (tmp_path / "runs/mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep(**changed: Any) -> Sweep:
    given: dict[str, Any] = {
        "program": ["python", "fit.py", "--settings", "settings.yaml"],
        "test": ["sh", "score.sh"],
        "space": {"lr": FloatDistribution(0.1, 0.2)},
    }
    return Sweep(name="mine", metric="val_loss", trials=1, **given | changed)


def define(asked: Sweep, *flags: str) -> None:
    options = parse(asked, ["--out", "runs", *flags])
    with Record(Path("runs/mine")) as record:
        define_run(record, resolve(asked, options), options, SweepData(None, None))


@pytest.fixture
def begun(project: Path) -> Path:
    """The same, with a run that holds a trial of the search and one of the confirmation in flight."""
    define(sweep())
    with Record(Path("runs/mine")) as record:
        for number, phase in ((1, "search"), (2, "confirm")):
            record.add_trial(number, arm="all", phase=phase, config={}, params={}, distributions={})
            record.start_attempt(number)
    return project


def edit(folder: Path) -> Sweep:
    (folder / "fit.py").write_text(f"{REPORTS}# changed\n")
    return sweep()


OTHER = {
    "arguments": (lambda _: sweep(program=["python", "fit.py"]), "program: python fit.py --settings settings.yaml -> "),
    "another script": (lambda _: sweep(program=["sh", "score.sh"]), "-> sh score.sh"),
    "template": (lambda _: sweep(program_arguments="{name}={value}"), "program_arguments: absent -> '{name}={value}'"),
    "test": (lambda _: sweep(test=["sh", "score.sh", "-v"]), "test: sh score.sh -> sh score.sh -v"),
    "file": (edit, "the file fit.py is another than when the run began"),
}


@pytest.mark.parametrize("what", OTHER)
def test_a_run_goes_on_with_the_program_that_it_began_with_until_another_is_accepted(begun: Path, what: str) -> None:
    change, words = OTHER[what]
    define(sweep())  # the same program goes on
    other = change(begun)
    with pytest.raises(CannotRun) as refused:
        define(other)
    assert refused.value.code == 2
    assert words in str(refused.value)
    assert "--accept-changed-model" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 2
    define(other, "--accept-changed-model")
    define(other)  # it is the run's now
    with Reader(Path("runs/mine")) as reader:
        assert reader.superseded() == {1, 2}
        search, confirmation = reader.trials()
    assert search.state is State.RUNNING
    assert (confirmation.state, confirmation.reason) == (State.FAILED, "another program was accepted")


def test_data_settings_and_the_place_of_the_folder_may_change(
    begun: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (begun / "settings.yaml").write_text("depth: 4\n")  # it may be what the program writes
    define(sweep())
    define(sweep(program=[sys.executable, str(begun / "fit.py"), "--settings", str(begun / "settings.yaml")]))
    moved = tmp_path_factory.mktemp("moved") / "project"
    begun.rename(moved)
    monkeypatch.chdir(moved)
    define(sweep(program=["python", str(moved / "fit.py"), "--settings", "settings.yaml"]))


def test_a_record_that_says_nothing_of_its_program_goes_on_and_says_it_from_then_on(begun: Path) -> None:
    with Record(Path("runs/mine")) as record:
        with Reader(Path("runs/mine")) as reader:
            definition = reader.meta("definition")
        definition["training"] = {"kind": "program", "name": "fit.py", "test": True}  # as the last version wrote it
        record.set_meta("definition", definition)
    define(sweep(program=["python", "fit.py"]))
    with pytest.raises(CannotRun, match="another program"):
        define(sweep())


def test_a_password_in_a_programs_arguments_is_not_kept(project: Path) -> None:
    define(sweep(program=["python", "fit.py", "--to", "postgresql://me:hunter2@host/db"]))
    define(sweep(program=["python", "fit.py", "--to", "postgresql://me:hunter2@host/db"]))
    assert b"hunter2" not in b"".join(file.read_bytes() for file in (project / "runs/mine").iterdir() if file.is_file())


# -- on the machines of a cluster --------------------------------------------------------------------------------


def test_a_program_runs_where_its_files_are_as_the_driver_has_them_and_else_in_the_copy(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    where = tmp_path_factory.mktemp("scratch") / "where"
    monkeypatch.setenv("WHERE", str(where))
    (project / "fit.py").write_text(f"{REPORTS}open(os.environ['WHERE'], 'w').write(os.getcwd())\n")
    training = program(project, "python", str(project / "fit.py"))
    definition = training.definition()
    copy = user_code.gather(training, tmp_path_factory.mktemp("code"))
    assert copy is not None
    assert definition["program"] == ["python", "fit.py"]
    monkeypatch.chdir(copy)  # the working directory of a process on a cluster

    def place() -> Path:
        run_out(worker(training, project, {"epochs": 2}))
        return Path(where.read_text())

    assert place() == project
    (project / "fit.py").write_text(REPORTS)  # an older one lies there
    assert place() == copy / BROUGHT
    (project / "fit.py").unlink()
    assert place() == copy / BROUGHT


SCRIPT = """
import json, sys
from pathlib import Path
sys.path.insert(0, "elsewhere")
import beside, deep.part, plain.part, path_module
from rungwise.engine.cluster import user_code
from rungwise.trainable.own.function import FunctionTraining
from rungwise.trainable.own.worker_data import OwnData
from rungwise.trainable.training.builtin import BuiltInTraining

def train(config, trial):
    yield {}

own = user_code.gather(FunctionTraining(OwnData(), "loss", None, train), Path("own"))
ours = user_code.gather(BuiltInTraining("digits"), Path("ours"))
print(json.dumps([sorted(p.relative_to(f).as_posix() for p in f.rglob("*") if p.is_file()) for f in (own, ours)]))
"""


def test_all_modules_of_the_users_are_brought_and_none_that_is_installed(project: Path) -> None:
    files = {
        "beside.py": "", "later.py": "", "deep/__init__.py": "", "deep/part.py": "", "deep/words.json": "{}",
        "plain/part.py": "", "elsewhere/path_module.py": "", "unused/__init__.py": "", "unused/data.csv": "1",
    }  # fmt: skip
    for name, text in files.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text)
    (project / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=False)
    assert not done.stderr
    own, ours = json.loads(done.stdout)
    imported = ["beside.py", "deep/__init__.py", "deep/part.py", "deep/words.json", "path_module.py", "plain/part.py"]
    assert [file for file in ours if "__pycache__" not in file] == imported  # a function of the loop may be there
    beside = ["fit.py", "later.py", "script.py", "unused/__init__.py", "unused/data.csv"]
    assert own == sorted([*imported, *beside])


def test_code_that_is_too_large_or_is_brought_by_ray_itself(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(user_code, "MOST_BYTES", 10)
    training = program(project, "python", "fit.py")
    with pytest.raises(Unusable, match=r"at most 0 MiB, but takes more with .*: install it there"):
        user_code.gather(training, tmp_path_factory.mktemp("code"))
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"runtime_env": {"working_dir": "gcs://x.zip"}}')
    assert user_code.gather(training, project / "code") is None
    assert not BuiltInTraining(DataSource("digits")).files()
