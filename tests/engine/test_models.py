"""A user's own models: what is no model is refused before Ray starts; a run goes on with the network it began with."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.tune.experiment import Trial as Tuned
from support.loop import Loop

from rungwise import CategoricalDistribution, FloatDistribution, IntDistribution, Sweep, main
from rungwise.engine.define_run import define_run
from rungwise.engine.errors import CannotRun
from rungwise.engine.experiment import own_models as models
from rungwise.engine.experiment.command_line import parse
from rungwise.engine.experiment.experiment import resolve
from rungwise.engine.experiment.resume_check import differences
from rungwise.engine.search.reruns import Repeat
from rungwise.results.record.definition import Definition
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.results.record.writer import Record
from rungwise.trainable.data.dataset import Dataset, load
from rungwise.trainable.import_path import ModelError
from rungwise.trainable.messages import Failure, FailureKind
from rungwise.trainable.training.builtin import describe_data

SPACE = {"lr": FloatDistribution(1e-3, 1e-1, log=True), "width": IntDistribution(4, 8)}
TOP = """
from torch import nn
from rungwise.trainable.config import Config, hyperparameter

class Wide(Config):
    width: int = hyperparameter(4, "", "", ge=1)

class Net(nn.Module):
    def __init__(self, inputs, width, classes, make=lambda made, training: made):
        super().__init__()
        self.first, self.last, self.make = nn.Linear(inputs, width), nn.Linear(width, classes), make
    def forward(self, x):
        return self.make(self.last(self.first(x.flatten(1)).relu()), self.training)
"""
PLAIN = "def net(config: Wide, shape, classes):\n    return Net(64, config.width, classes)\n"
PRINTS = PLAIN.replace("return", "print('a net')\n    made =") + "    return made\n"
OTHER = TOP.replace(".relu()", ".tanh()").replace("nn.Linear(width, classes)", "nn.Linear(width, classes, bias=False)")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def sweep_of(folder: Path, text: str, **changes: Any) -> Sweep:
    """A sweep whose model is the `net` of a file with this text."""
    folder.mkdir()
    (folder / "nets.py").write_text(text)
    return Sweep(**{"name": "own", "space": SPACE, "model": f"{folder / 'nets.py'}:net", "data": "digits"} | changes)


def begin(folder: Path, sweep: Sweep, data: Dataset) -> Record:
    """The record of a run that has begun: one trial is in it."""
    record = Record(folder)
    go_on(record, sweep, data)
    config = {"model": sweep.model_name, "seed": 1}
    record.add_trial(1, arm="all", phase="search", config=config, params={}, distributions={})
    record.commit()
    return record


def go_on(record: Record, sweep: Sweep, data: Dataset, *flags: str) -> None:
    """What a later driver does with the record. Raises CannotRun."""
    options = parse(sweep, list(flags))
    define_run(record, resolve(sweep, options).with_data(describe_data(data)), options, describe_data(data))


# -- what a run began with ---------------------------------------------------------------------------------------


def test_a_function_written_otherwise_that_builds_the_same_goes_on_with_a_note(
    tmp_path: Path, digits: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    with begin(tmp_path, sweep_of(tmp_path / "a", TOP + PLAIN), digits) as record:
        assert "note" not in capsys.readouterr().err
        go_on(record, sweep_of(tmp_path / "b", TOP + PRINTS), digits)
        said = capsys.readouterr()
        assert "note: nets.py has changed since this run began, but 'net' builds the same network" in said.err
        assert said.out == ""
        go_on(record, replace(sweep_of(tmp_path / "c", TOP + PRINTS)), digits)
        assert "note" not in capsys.readouterr().err  # once


MAIN = """
from torch import nn
from rungwise.trainable.config import Config, hyperparameter
import one.parts, two.parts
from shared import act, Wide

class Net(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.first, self.last = one.parts.Layer(64, width), two.parts.Layer(width, classes)
    def forward(self, x):
        return self.last(act(self.first(x.flatten(1))))

def net(config: Wide, shape, classes):
    return Net(config.width, classes)
"""
LAYER = "from torch import nn\nclass Layer(nn.Linear):\n    pass\n"
SHARED = """
import functools
from rungwise.trainable.config import Config, hyperparameter
from one import slopes

class Wide(Config):
    width: int = hyperparameter(4, "", "", ge=1)

act = functools.partial(lambda x, by: x.relu() * by, by=slopes.SLOPE)
"""
FILES = {
    "nets.py": MAIN, "shared.py": SHARED, "one/__init__.py": "", "one/parts.py": LAYER, "one/slopes.py": "SLOPE = 0.1",
    "two/__init__.py": "", "two/parts.py": LAYER,
}  # fmt: skip


@pytest.mark.parametrize("changed", ["shared.py", "one/parts.py", "two/parts.py", "one/slopes.py", "one/__init__.py"])
def test_a_change_in_any_file_that_the_model_imports_is_a_note(
    changed: str, tmp_path: Path, digits: Dataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(folder: Path) -> Sweep:
        for name in [name for name in sys.modules if name.partition(".")[0] in ("shared", "one", "two")]:
            del sys.modules[name]
        monkeypatch.syspath_prepend(str(folder))
        for name, text in (FILES | ({changed: FILES[changed] + "\n# changed"} if folder.name == "b" else {})).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return Sweep(name="own", space=SPACE, model=f"{folder / 'nets.py'}:net", data="digits")

    with begin(tmp_path, written(tmp_path / "a"), digits) as record:
        capsys.readouterr()
        go_on(record, written(tmp_path / "b"), digits)
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note")]
    assert notes == [f"note: {changed} has changed since this run began, but 'net' builds the same network"]


def test_another_class_in_the_same_function_is_another_network_until_it_is_accepted(
    tmp_path: Path, digits: Dataset
) -> None:
    with begin(tmp_path, sweep_of(tmp_path / "a", TOP + PLAIN), digits) as record:
        changed = sweep_of(tmp_path / "b", OTHER + PLAIN)
        with pytest.raises(CannotRun) as refusal:
            go_on(record, changed, digits)
        assert refusal.value.code == 2
        lines = str(refusal.value).splitlines()
        assert lines[0].startswith("--name 'own' contains trials of another network")
        assert "  model net at lr=0.001, width=4: last.bias: float32 (10,) -> absent" in lines
        assert any(
            "width=8: last: Linear(in_features=8, out_features=10, bias=True) -> Linear(" in line for line in lines
        )
        go_on(record, changed, digits, "--accept-changed-model")
        record.commit()
        with Reader(tmp_path) as reader:
            (event,) = [data for _, kind, _, data in reader.events() if kind == "model changed"]
        assert any("last.bias" in line for line in event["accepted"])
        go_on(record, changed, digits)


def test_a_wider_space_still_compares_what_was_built_at_the_old_one(tmp_path: Path, digits: Dataset) -> None:
    with begin(tmp_path, sweep_of(tmp_path / "a", TOP + PLAIN), digits) as record:
        wider = {**SPACE, "width": IntDistribution(2, 16)}
        go_on(record, sweep_of(tmp_path / "b", TOP + PLAIN, space=wider), digits, "--widen")
        with pytest.raises(CannotRun, match="contains trials of another network"):
            go_on(record, sweep_of(tmp_path / "c", OTHER + PLAIN, space=wider), digits, "--widen")


def test_a_run_of_an_earlier_version_which_kept_only_the_source_goes_on_with_a_note(
    tmp_path: Path, digits: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = sweep_of(tmp_path / "a", TOP + PLAIN)
    with begin(tmp_path, sweep, digits) as record:
        old = resolve(sweep).with_data(describe_data(digits)).to_json()
        record.set_meta("definition", old | {"model": {"function": "net", "source": PLAIN.rstrip("\n")}})
        record.set_meta("models", {})
        record.commit()
        go_on(record, sweep_of(tmp_path / "b", OTHER + PRINTS), digits)
        assert "note: the function 'net' has changed since this run began" in capsys.readouterr().err


def test_what_a_space_function_draws_is_the_space_and_not_how_it_is_written(digits: Dataset) -> None:
    def written(text: str) -> Any:
        made: dict[str, Any] = {}
        exec(text, made)
        return made["space"]

    def defined(text: str) -> Definition:
        return resolve(Sweep(name="s", space=written(text), data="digits")).with_data(describe_data(digits))

    first = defined("def space(trial):\n    return {'lr': trial.suggest_float('lr', 0.1, 0.2)}")
    same = defined("def space(trial):\n    lr = trial.suggest_float('lr', 0.1, 0.2)\n    return dict(lr=lr)")
    other = defined("def space(trial):\n    return {'lr': trial.suggest_float('lr', 0.1, 0.3)}")
    assert first.space["source"] != same.space["source"]
    assert differences(first, same) == []
    assert differences(first, other) == [
        "space: the function suggests other ranges or other values than when the run began"
    ]


# -- a record says nothing of what is imported ---------------------------------------------------------------------


def test_a_record_is_read_with_the_models_that_the_script_names(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path / "a", TOP + PLAIN, arms={"own": {}, "plain": {"model": "mlp", "width": 4}})
    known = models.names(resolve(sweep))
    assert known == {"net": sweep.model}
    assert models.trusted({"model": "/elsewhere/nets.py:net", "lr": 0.1}, known) == {"model": sweep.model, "lr": 0.1}
    assert models.trusted({"model": "mlp"}, known) == {"model": "mlp"}
    for model in ("os:system", "/elsewhere/evil.py:other"):
        with pytest.raises(ModelError, match="nothing is imported because a record names it"):
            models.trusted({"model": model}, known)


def test_functions_of_one_name_in_two_files_are_two_models(tmp_path: Path, digits: Dataset) -> None:
    one, two = (str(sweep_of(tmp_path / name, text + PLAIN).model) for name, text in (("a", TOP), ("b", OTHER)))
    (tmp_path / "b" / "nets.py").rename(tmp_path / "b" / "others.py")
    two = two.replace("nets.py", "others.py")
    arms = {"one": {"model": one}, "two": {"model": two}}
    sweep = Sweep(name="own", space=SPACE, arms=arms, data="digits")
    known = models.names(resolve(sweep))
    assert known == {"nets.py:net": one, "others.py:net": two}
    assert [models.trusted({"model": model}, known)["model"] for model in (one, two)] == [one, two]
    assert models.trusted({"model": "/elsewhere/others.py:net"}, known) == {"model": two}
    with pytest.raises(ModelError, match="nothing is imported because a record names it"):
        models.trusted({"model": "/elsewhere/third.py:net"}, known)
    (tmp_path / "run").mkdir()
    with Record(tmp_path / "run") as record:
        go_on(record, sweep, digits)
        record.add_trial(1, arm="one", phase="search", config={"model": one}, params={}, distributions={})
        record.commit()
        go_on(record, sweep, digits)  # and is not taken for another network


def test_a_model_that_no_random_draw_named_is_known_by_the_parameters_of_its_trial(tmp_path: Path) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {"model": f"{tmp_path / 'nets.py'}:net{trial.suggest_int('which', 0, 99)}"}

    sweep = Sweep(name="own", space=space, data="digits")
    rare = next(number for number in range(100) if f"net{number}" not in models.names(resolve(sweep)))
    with Record(tmp_path) as record:
        for number, which, model in ((1, rare, f"/moved/nets.py:net{rare}"), (2, 100, "os:system")):
            record.add_trial(
                number, arm="all", phase="search", config={"model": model}, params={"which": which}, distributions={}
            )
    with Reader(tmp_path) as reader:
        ours, foreign = reader.trials()
        known = models.names(resolve(sweep), [ours, foreign])
    assert models.trusted(ours.config, known) == {"model": f"{tmp_path / 'nets.py'}:net{rare}"}
    with pytest.raises(ModelError, match="nothing is imported because a record names it"):
        models.trusted(foreign.config, known)


def test_what_is_trained_again_has_the_scripts_model_and_not_the_records(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path / "a", TOP + PLAIN, trials=1)
    config = {"model": "/elsewhere/nets.py:net", "seed": 7}
    with Record(tmp_path) as record:
        record.add_trial(1, arm="all", phase="search", config=config, params={}, distributions={})
        record.add_trial(2, arm="all", phase="confirm", config=config, params={}, distributions={}, source=1)
        record.end_trial(1, State.COMPLETED)
        record.end_trial(2, State.LOST, failure=Failure(FailureKind.LOST, "its process died"))
    with Reader(tmp_path) as reader:
        source, lost = reader.trials()
    repeat = Repeat.of(
        "confirm", source, models.trusted(lost.config, models.names(resolve(sweep))), again=lost, why="it was LOST"
    )
    loop = Loop(tmp_path, sweep, trials=1, repeats=lambda: [repeat])
    trial = loop.deal()
    loop.record.close()
    assert isinstance(trial, Tuned)
    assert trial.config["trial"] == 2
    assert trial.config["config"] == {"model": sweep.model, "seed": 7}


def test_a_resumed_run_imports_nothing_that_its_record_alone_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "imported"
    (tmp_path / "evil.py").write_text(f"open({str(mark)!r}, 'w')\ndef net(config): ...\ndef other(config): ...\n")
    sweep = Sweep(name="plain", space={"lr": SPACE["lr"]}, data="digits", trials=1, epochs=1)
    (tmp_path / "runs" / "plain").mkdir(parents=True)
    with begin(tmp_path / "runs" / "plain", sweep, load("digits")) as record:
        record.add_trial(
            2, arm="all", phase="search", config={"model": f"{tmp_path / 'evil.py'}:other"}, params={}, distributions={}
        )
        record.commit()
    with pytest.raises(SystemExit) as end:
        main(sweep, ["--out", str(tmp_path / "runs"), "--no-confirm"])
    assert end.value.code == 2
    assert "nothing is imported because a record names it" in capsys.readouterr().err
    assert not mark.exists()


# -- what is no model ----------------------------------------------------------------------------------------------


def making(make: str) -> str:
    how = f"lambda made, training: {make}"
    return f"{TOP}\ndef net(config: Wide, shape, classes):\n    return Net(64, config.width, classes, {how})\n"


WRONG = [
    (making("(made, made)"), "returns a tuple of (2, 10), (2, 10) for B = 2"),
    (making("(made, made) if training else made"), "returns a tuple of (8, 10), (8, 10) for B = 8"),
    (making("{'logits': made}"), "returns a dict of 'logits' for B = 2"),
    (making("None"), "returns None for B = 2"),
    (making("made[:, 0]"), "returns (2,) for B = 2"),
    (making("made.softmax(1)"), "makes probabilities; leave its last softmax out"),
    (TOP + "def net(config: Wide, shape, classes):\n    return Net\n", "returned the class Net, not an instance of it"),
    (
        TOP + "\nLOADED = Net(64, 16, 10)\ndef net(config: Wide, shape, classes):\n    return LOADED\n",
        "new weights at each",
    ),
]


@pytest.mark.parametrize("flags", [[], ["--plan"], ["--one", "{}"]], ids=["sweep", "plan", "one"])
@pytest.mark.parametrize(("text", "says"), WRONG, ids=[says for _, says in WRONG])
def test_what_makes_no_logits_is_one_line_and_exit_code_2_before_ray(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str, flags: list[str]
) -> None:
    sweep = sweep_of(tmp_path / "a", text)
    with pytest.raises(SystemExit) as end:
        main(sweep, ["--out", str(tmp_path / "runs"), *flags])
    said = capsys.readouterr()
    assert end.value.code == 2, said.err
    (line,) = said.err.splitlines()
    assert line.startswith("error: a model")
    assert says in line
    assert said.out == ""
    assert not ray.is_initialized()


@pytest.mark.parametrize("flags", [[], ["--plan"]], ids=["sweep", "plan"])
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise ValueError('no\\nsecond line')", "it raised ValueError: no (nets.py:16)"),
        ("import sys; sys.exit('bye')", "it raised SystemExit: bye (nets.py:16)"),
        ("raise KeyboardInterrupt", "it raised KeyboardInterrupt (nets.py:16)"),
        ("import os; os._exit(3)", "it raised Fault: os._exit(3) was called, which ends a process without a word"),
        ("return Net(63, config.width, classes)", "it raised RuntimeError: mat1 and mat2 shapes"),
    ],
)
def test_a_model_that_can_be_trained_nowhere_is_refused_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str, says: str, flags: list[str]
) -> None:
    sweep = sweep_of(tmp_path / "a", f"{TOP}\ndef net(config: Wide, shape, classes):\n    {body}\n")
    with pytest.raises(SystemExit) as end:
        main(sweep, ["--out", str(tmp_path / "runs"), *flags])
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2
    assert line.startswith("error: the model 'net' must train, but at lr=0.001, width=4 ")
    assert says in line


def test_a_model_that_refuses_some_configurations_is_tried_and_left_to_its_trials(
    tmp_path: Path, digits: Dataset
) -> None:
    body = "    if config.width > 6: raise ValueError('too wide')\n    return Net(64, config.width, classes)\n"
    sweep = sweep_of(tmp_path / "a", f"{TOP}\ndef net(config: Wide, shape, classes):\n{body}")
    tries = models.tried(resolve(sweep), digits)
    assert [(one.problem or "")[:20] for one in tries] == ["", "ValueError: too wide"]
    assert models.problems(tries) == []
    assert len(models.kept(tries)["net"]["built"]) == 1


def test_models_that_only_an_arm_or_a_choice_names_are_tried_too(tmp_path: Path, digits: Dataset) -> None:
    own = sweep_of(tmp_path / "a", TOP + PLAIN).model
    arm = Sweep(name="s", space={"lr": SPACE["lr"]}, arms={"mlp": {}, "own": {"model": own}}, data="digits")
    choice = Sweep(name="s", space={"model": CategoricalDistribution(["mlp", str(own)])}, data="digits")
    function = Sweep(name="s", space=lambda trial: {"model": trial.suggest_categorical("model", ["mlp", own])})
    for sweep in (arm, choice, function):
        assert models.names(resolve(sweep)) == {"net": own}
        assert {one.function for one in models.tried(resolve(sweep), digits)} == {"net"}
