"""How a function takes its hyperparameters: a mapping, a dataclass, a pydantic model, or keywords."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, field_validator
from support.own import Trials

from rungwise import CategoricalDistribution, FloatDistribution, IntDistribution, Sweep
from rungwise.engine.experiment.command_line import parse
from rungwise.engine.experiment.experiment import resolve
from rungwise.engine.validation import fields
from rungwise.engine.validation.check import problems
from rungwise.trainable.messages import TrialEnd
from rungwise.trainable.own.arguments import Arguments, FunctionError, Hyperparameters

CONFIG = {"lr": 0.1, "width": 8, "seed": 7, "epochs": 3, "reports_per_epoch": 1}


@dataclass
class Settings:
    lr: Annotated[float, Field(gt=0, le=1, description="step size")]
    width: int = 64
    kind: Literal["relu", "tanh"] = "relu"


class Model(BaseModel):
    lr: float = Field(gt=0, le=1)
    width: int = 64
    kind: Literal["relu", "tanh"] = "relu"


def of_mapping(config, trial): ...
def of_annotated_mapping(whatever: Mapping[str, Any], trial): ...
def of_dataclass(settings: Settings, trial): ...
def of_pydantic(settings: Model, trial): ...
def of_keywords(lr: Annotated[float, Field(gt=0, le=1)], width: int = 64, kind: Literal["relu", "tanh"] = "relu"): ...
def of_anything(lr, trial, **others): ...


CHECKED: list[Callable[..., Any]] = [of_dataclass, of_pydantic, of_keywords]


@dataclass
class Nested:
    lr: float = 0.1
    inner: Settings = field(default_factory=lambda: Settings(lr=0.5))
    doubled: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.doubled = 2 * self.lr


def test_a_dataclass_may_hold_another_one_and_compute_fields_of_its_own() -> None:
    given: list[Nested] = []

    def train(config: Nested):
        given.append(config)

    train.__annotations__["config"] = Nested
    arguments = Arguments(train)
    values = arguments.parse({"lr": 0.2, "inner": {"lr": 0.25}, "seed": 1})
    assert json.loads(json.dumps(values)) == values
    assert "doubled" not in values
    arguments.bind(values, None)[0]()
    assert given == [Nested(0.2, Settings(lr=0.25))]
    assert given[0].doubled == 0.4
    (line,) = arguments.problems({"doubled": 3.0})
    assert "unknown hyperparameter 'doubled'" in line


@pytest.mark.parametrize("function", CHECKED)
def test_names_types_and_bounds_are_checked(function: Callable[..., Any]) -> None:
    arguments = Arguments(function)
    assert arguments.problems({"lr": 0.1, "seed": 3}) == []
    assert arguments.problems({}) == []  # what is absent is suggested later
    (line,) = arguments.problems({"lr": 2.0})
    assert line == "lr: input should be less than or equal to 1, but got 2.0"
    (line,) = arguments.problems({"widht": 3})
    assert "unknown hyperparameter 'widht'" in line
    assert "width" in line
    assert len(arguments.problems({"lr": "fast", "width": 1.5, "kind": "gelu"})) == 3


@pytest.mark.parametrize("function", CHECKED)
def test_defaults_are_part_of_the_configuration_and_whole_numbers_are_known(function: Callable[..., Any]) -> None:
    arguments = Arguments(function)
    assert arguments.parse(CONFIG) == {**CONFIG, "kind": "relu"}
    assert arguments.whole_numbers() == {"width"}
    assert arguments.describe()["width"]["type"] == "int"
    with pytest.raises(ValueError, match="lr"):
        arguments.parse({"width": 3})


@pytest.mark.parametrize("function", [of_mapping, of_annotated_mapping, of_anything])
def test_a_function_that_declares_nothing_takes_any_name(function: Callable[..., Any]) -> None:
    arguments = Arguments(function)
    assert arguments.problems({"lr": "fast", "anything": [1]}) == []
    assert arguments.parse(CONFIG) == CONFIG


def test_every_form_is_called_with_what_it_asks_for() -> None:
    def call(function: Callable[..., Any]) -> Any:
        return Arguments(function).bind(CONFIG, "the trial")[0]()

    def mapping(config, trial):
        return config.lr, config["width"], dict(config), trial

    def settings(config: Settings):
        return config

    def model(config: Model, trial):
        return config, trial

    def keywords(lr, *, width, trial):
        return lr, width, trial

    def rest(lr, trial, **others):
        return lr, others

    assert call(mapping) == (0.1, 8, {"lr": 0.1, "width": 8}, "the trial")
    assert call(settings) == Settings(0.1, 8)
    assert call(model) == (Model(lr=0.1, width=8), "the trial")
    assert call(keywords) == (0.1, 8, "the trial")
    assert call(rest) == (0.1, {"width": 8})


def test_a_configuration_is_a_dict_with_attributes_that_knows_what_was_read() -> None:
    config = Hyperparameters({"lr": 0.1, "width": 8, "kind": "relu"})
    assert config.read == set()
    assert (config.lr, config["width"]) == (0.1, 8)
    assert config.read == {"lr", "width"}
    with pytest.raises(AttributeError, match=r"unknown hyperparameter 'widht'.*width"):
        _ = config.widht
    assert json.loads(json.dumps(config)) == {"lr": 0.1, "width": 8, "kind": "relu"}
    assert Hyperparameters({"a": 1, "b": 2}) | {"c": 3} == {"a": 1, "b": 2, "c": 3}
    whole = Hyperparameters({"lr": 0.1, "width": 8})
    assert {**whole} == {"lr": 0.1, "width": 8}
    assert whole.read == {"lr", "width"}


@pytest.mark.parametrize("function", [lambda: 0, lambda trial: 0, print.__class__], ids=["nothing", "trial", "type"])
def test_a_function_that_takes_no_hyperparameters_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(FunctionError, match="must"):
        Arguments(function)


def refused(sweep: Sweep, *flags: str) -> list[str]:
    options = parse(sweep, list(flags))
    return problems(resolve(sweep, options), options)


def test_a_misspelt_hyperparameter_ends_the_command_before_ray() -> None:
    space = {"lr": FloatDistribution(1e-3, 0.1), "widht": FloatDistribution(1, 2)}
    (line,) = refused(Sweep("own", space, train=of_dataclass, metric="loss", mode="min"))
    assert "widht" in line
    assert "width" in line
    lines = refused(Sweep("own", {"lr": FloatDistribution(0.5, 2.0)}, train=of_pydantic, metric="loss", mode="min"))
    assert any("lr" in line and "less than or equal to 1" in line for line in lines)


def test_a_hyperparameter_that_nothing_reads_is_named_once_a_trial_has_ended(tmp_path: Path) -> None:
    def train(config, trial):
        for _ in range(trial.epochs):
            yield {"loss": config.lr}

    def passes_all_on(config, trial):
        return {"loss": sum(config.values())}

    last = Trials(train, tmp_path).run({"lr": 0.1, "smote": 1})[-1]
    assert last.state is TrialEnd.COMPLETED
    assert last.notes == ("train never reads the hyperparameter 'smote'",)
    assert Trials(passes_all_on, tmp_path).run({"lr": 0.1, "smote": 1})[-1].notes == ()

    def breaks(config, trial):
        yield {"loss": config.rl}

    last = Trials(breaks, tmp_path).run({"lr": 0.1, "smote": 1})[-1]
    assert (last.state, last.notes) == (TrialEnd.FAILED, ())  # it would have read more


class Raising(BaseModel):
    lr: float

    @field_validator("lr")
    @classmethod
    def check(cls, lr: float) -> float:
        if lr > 0.5:
            raise SystemExit("no")
        raise RuntimeError("never")


def test_whatever_a_check_of_the_users_raises_is_a_line_that_names_it() -> None:
    def train(config: Raising, trial): ...

    arguments = Arguments(train)
    assert arguments.problems({"lr": 0.1})[0].startswith("Raising must check hyperparameters, but RuntimeError: never")
    assert "SystemExit: no" in arguments.problems({"lr": 1.0})[0]
    with pytest.raises(FunctionError, match="never"):
        arguments.parse({"lr": 0.1})


def test_a_hyperparameter_that_nothing_gives_is_named_before_ray() -> None:
    def train(lr, width: int, depth: int = 2, *, trial): ...

    space = {"lr": FloatDistribution(1e-3, 0.1)}
    given: dict[str, Any] = {"train": train, "metric": "loss", "mode": "min"}
    assert refused(Sweep("own", space, **given)) == ["width must be searched, fixed or in an arm"]
    assert refused(Sweep("own", space, arms={"a": {"width": 1}, "b": {"width": 2}}, **given)) == []


@pytest.mark.parametrize(
    "large", [IntDistribution(0, 2**63), CategoricalDistribution([1, 2**64]), 2**64, {"deep": [2**64]}]
)
def test_a_number_that_no_reader_of_the_record_takes_is_refused_before_ray(large: Any) -> None:
    def train(config, trial): ...

    space = {"lr": FloatDistribution(1e-3, 0.1)}
    is_range = isinstance(large, IntDistribution | CategoricalDistribution)
    where: dict[str, Any] = {"space": space | {"n": large}} if is_range else {"space": space, "fixed": {"n": large}}
    lines = refused(Sweep("own", train=train, metric="loss", mode="min", **where))
    assert "values of n must contain integers of 64 bits, but one is larger" in lines


def generator_objective(trial):
    yield 1.0


class Called:
    def __call__(self, settings: Settings, trial):
        return settings.lr


def positional(config, trial, /):
    return config["lr"]


def backwards(trial, config):
    return config["lr"]


@pytest.mark.parametrize("function", [Called(), Called().__call__, positional, backwards])
def test_whatever_can_be_called_is_called_with_its_own_parameters(function: Callable[..., Any]) -> None:
    call, _ = Arguments(function).bind(CONFIG, object())
    assert call() == CONFIG["lr"]


@pytest.mark.parametrize(
    ("objective", "says"),
    [
        (lambda: 1.0, "must be called with a trial alone, but too many positional arguments"),
        (lambda trial, more: 1.0, "must be called with a trial alone, but missing a required argument: 'more'"),
        (generator_objective, "must return its score, but is a generator"),
    ],
)
def test_an_objective_that_cannot_be_called_with_a_trial_is_refused_before_ray(objective: Any, says: str) -> None:
    assert any(says in line for line in refused(Sweep("own", objective=objective, metric="loss", mode="min")))


async def awaits(config, trial):
    return {"loss": 1.0}


async def yields_later(config, trial):
    yield {"loss": 1.0}


def takes(config, trial):
    yield {"loss": 1.0}


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"train": awaits}, "train must be a function or a generator, but is async; call asyncio.run(...)"),
        ({"train": yields_later}, "train must be a function or a generator, but is async; call asyncio.run(...)"),
        ({"train": takes, "test": awaits}, "test must be a function or a generator, but is async"),
        ({"train": takes, "data_per_worker": True}, "data_per_worker is for data as a function, but data is None"),
        ({"train": takes, "metric": " "}, "metric must be a metric's name, but got ' ' (str)"),
        ({"train": takes, "metric": "a\nb"}, "metric must be a metric's name, but got 'a\\nb' (str)"),
    ],
)
def test_what_can_be_no_training_is_one_line_before_anything_starts(changed: dict[str, Any], line: str) -> None:
    (found,) = fields.problems(Sweep(**{"name": "own", "metric": "loss", "mode": "min", **changed}))
    assert found.startswith(line)


def test_a_path_is_a_word_of_a_command() -> None:
    sweep = Sweep(name="own", program=["python", Path("fit.py")], test=[Path("score")], metric="loss", mode="min")
    assert (sweep.program, sweep.test) == (["python", "fit.py"], ["score"])
    assert fields.problems(sweep) == []


def test_annotations_that_only_a_type_checker_resolves_are_no_problem() -> None:
    """As after `if TYPE_CHECKING: from collections.abc import Iterator`."""
    source = "def train(config: Mapping, trial: Trial) -> Iterator: ..."
    space: dict[str, Any] = {}
    exec(f"from __future__ import annotations\n{source}", space)
    assert Arguments(space["train"]).problems({"lr": 1}) == []
    exec("from __future__ import annotations\ndef train(lr: float, trial: Trial) -> Iterator: ...", space)
    assert Arguments(space["train"]).problems({"lr": "x"}) != []
    exec("from __future__ import annotations\ndef train(lr: Rate, trial: Trial): ...", space)
    with pytest.raises(FunctionError, match="the parameters of train must be known, but NameError"):
        Arguments(space["train"])
