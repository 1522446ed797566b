"""`--plan`: its probes are processes of their own, that know what the script knows; and a plan binds nobody."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rungwise import FloatDistribution, Sweep
from rungwise.engine.define_run import define_run
from rungwise.engine.errors import CannotRun
from rungwise.engine.experiment.command_line import parse
from rungwise.engine.experiment.experiment import Experiment, resolve
from rungwise.engine.experiment.flags import Options
from rungwise.engine.forecast import forecast
from rungwise.results.record.reader import Reader
from rungwise.results.record.writer import Record
from rungwise.trainable.data.dataset import load
from rungwise.trainable.training.builtin import describe_data

SPACE = {"lr": FloatDistribution(1e-3, 1e-1)}
BESIDE = {
    "planned_net.py": """from planned_block import block  # a sibling


def net(config, shape, classes):
    print("a line that is no JSON")
    return block(shape[0] * shape[1] * shape[2], classes)


def broken(config, shape, classes):
    raise ValueError("no such width")
""",
    "planned_block.py": """from torch import nn


def block(inputs, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs))
""",
}


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules beside the script: Python puts its folder first on the path."""
    for name, text in BESIDE.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in BESIDE:
        sys.modules.pop(name.removesuffix(".py"), None)


def planned(function: str, *flags: str) -> tuple[Experiment, Options]:
    sweep = Sweep(name="planned", model=f"planned_net:{function}", data="digits", space=SPACE, trials=2, epochs=1)
    options = parse(sweep, ["--concurrency", "1", *flags])
    return resolve(sweep, options), options


@pytest.mark.usefixtures("modules")
def test_probes_find_a_model_beside_the_script_and_are_not_confused_by_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "trainable").mkdir(parents=True)  # of the user's, where he stands: not ours
    (elsewhere / "trainable" / "__init__.py").touch()
    monkeypatch.chdir(elsewhere)
    expected = forecast(*planned("net"))
    assert expected.seconds_an_epoch > 0
    assert expected.epochs_range[0] <= expected.epochs <= expected.epochs_range[1]
    assert expected.seconds_range[0] < expected.seconds < expected.seconds_range[1]
    assert " to " in expected.lines()
    assert set(expected.asdict()) == {"epochs", "seconds", "device_hours", "bytes", "money", "seconds_an_epoch"}


@pytest.mark.usefixtures("modules")
def test_a_model_that_fails_in_a_probe_is_one_line_with_its_reason() -> None:
    with pytest.raises(CannotRun, match="one could not be trained: ValueError: no such width"):
        forecast(*planned("broken"))


@pytest.mark.long
def test_a_plan_counts_the_states_of_confirmed_models() -> None:
    fixed = {"hidden": (1000,), "optimizer": "adamw"}
    sweep = Sweep(name="planned", data="digits", space=SPACE, fixed=fixed, trials=2, epochs=1)
    flags = ["--concurrency", "1", "--confirm-configs", "1", "--confirm-seeds", "4"]
    asked = (parse(sweep, [*flags, *more]) for more in ([], ["--no-confirm"]))
    with_models, without = (forecast(resolve(sweep, options), options) for options in asked)
    state = 3 * 4 * (64 * 1000 + 1000 * 10)  # weights and Adam's two numbers beside each, in bytes
    assert with_models.bytes - without.bytes > 4 * state


def test_a_definition_binds_from_the_first_trial_on(tmp_path: Path) -> None:
    data = load("digits")

    def define(record: Record, high: float) -> Any:
        sweep = Sweep(name="planned", data="digits", space={"lr": FloatDistribution(1e-3, high)}, trials=2, epochs=1)
        options = parse(sweep, ["--out", str(tmp_path), "--plan"])
        define_run(record, resolve(sweep, options).with_data(describe_data(data)), options, describe_data(data))
        with Reader(tmp_path) as reader:
            return reader.meta("definition")["space"], reader.meta("id")

    with Record(tmp_path) as record:
        (_, first), (_, again), (space, still) = define(record, 0.1), define(record, 0.1), define(record, 0.2)
        assert first == again == still
        assert "0.2" in str(space)
        record.add_trial(1, arm="all", phase="search", config={}, params={}, distributions={})
        record.commit()
        define(record, 0.2)
        with pytest.raises(CannotRun, match="a run of another definition"):
            define(record, 0.1)
