"""What a function may report, and how its trial ends."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.own import Trials, losses

import rungwise
from rungwise import FloatDistribution, Sweep
from rungwise.engine.experiment.command_line import parse
from rungwise.engine.experiment.experiment import resolve
from rungwise.engine.validation import check
from rungwise.results.record.definition import Definition
from rungwise.results.tables.schema import REPORT_FIELDS, metric_about
from rungwise.trainable.messages import FailureKind, StudyKey, TrialEnd, TrialResult
from rungwise.trainable.own import archive
from rungwise.trainable.own.function import FunctionTraining
from rungwise.trainable.own.report_numbers import OUR_NAMES, ReportError
from rungwise.trainable.own.worker_data import OwnData
from rungwise.trainable.resources import ONE_CORE

STUDIES = {1: StudyKey("all")}


def yields(*reports: Any) -> Callable[..., Any]:
    def train(config, trial):
        yield from reports

    return train


def calls(*reports: Any) -> Callable[..., Any]:
    def train(config, trial):
        for report in reports:
            trial.report(report)

    return train


def returns(*reports: Any) -> Callable[..., Any]:
    """The last one is returned."""

    def train(config, trial):
        for report in reports[:-1]:
            trial.report(report)
        return reports[-1]

    return train


DOORS = pytest.mark.parametrize("door", [yields, calls])


@DOORS
@pytest.mark.parametrize(
    "value",
    [1, True, 1.0, np.float32(1), np.int64(1), np.array(1.0), np.array([1.0]), torch.tensor(1.0), torch.tensor([1])],
    ids=lambda value: f"{type(value).__name__}{getattr(value, 'shape', '')}",
)
def test_a_number_is_pythons_numpys_or_a_tensor_of_one(door: Any, value: Any, tmp_path: Path) -> None:
    (result, *_) = Trials(door({"loss": value}), tmp_path).run()
    assert result.metrics["loss"] == 1.0
    assert type(result.metrics["loss"]) is float


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError


class Odd:
    def __repr__(self) -> str:
        return "x" * 1000


@DOORS
@pytest.mark.parametrize(
    ("report", "says"),
    [
        (None, "a report must be a mapping of names to numbers, but got NoneType None"),
        (0.5, "a report must be a mapping of names to numbers, but got float 0.5"),
        ({}, "a report must contain the objective 'loss', but got nothing"),
        ({"los": 1.0}, "a report must contain the objective 'loss', but got 'los'"),
        ({"loss": None}, "a report must contain numbers, but loss is NoneType None"),
        ({"loss": "0.5"}, "a report must contain numbers, but loss is str '0.5'"),
        ({"loss": 1.0, "extra": [1]}, "a report must contain numbers, but extra is list [1]"),
        ({"loss": torch.ones(2)}, "a report must contain numbers, but loss is not a single one"),
        ({"loss": Odd()}, "a report must contain numbers, but loss is Odd xxxx"),
        ({"loss": 1j}, "a report must contain numbers, but loss is complex 1j"),
        ({1: 1.0, "loss": 1.0}, "a report's names must be text, but got int 1"),
        ({"loss": np.ones(0)}, "a report must contain numbers, but loss is not a single one"),
        ({"loss": Unprintable()}, "but loss is Unprintable whose repr raised ValueError"),
        ({"loss": 1.0, "": 1.0}, "a report's names must be one line of 1 to 250 printable characters, but got str ''"),
        ({"loss": 1.0, "a\nb": 1.0}, "a report's names must be one line"),
        ({"loss": 1.0, "a\0b": 1.0}, "a report's names must be one line"),
        ({"loss": 1.0, "a\ud800": 1.0}, "a report's names must be one line"),
        ({"loss": 1.0, "a" * 251: 1.0}, "a report's names must be one line"),
        ({"loss": 1.0, "f1": 1.0, "F1": 1.0}, "in more than upper and lower case, but 'f1' and 'F1' are both 'f1'"),
        ({"loss": 1.0, "epoch": 1.0, "reported_epoch": 1.0}, "'epoch' and 'reported_epoch' are both 'reported_epoch'"),
        (
            {"loss": 1.0} | {f"k{n}": n for n in range(1000)},
            "a report must contain at most 1,000 numbers, but got 1,001",
        ),
        ({"loss": 1.0, "Test_loss": 1.0}, "a report must not contain test scores, but got 'Test_loss'"),
        ({"loss": 1.0, "test_loss": 1.0}, "a report must not contain test scores, but got 'test_loss'"),
    ],
)
def test_what_is_no_report_is_a_failed_trial_with_a_line(door: Any, report: Any, says: str, tmp_path: Path) -> None:
    first, last = Trials(door({"loss": 1.0}, report), tmp_path).run()
    assert (first.state, last.state) == (None, TrialEnd.FAILED)
    assert last.failure is not None
    assert last.failure.kind is FailureKind.EXCEPTION
    assert says in last.failure.message
    assert len(last.failure.message) < 300


@DOORS
@pytest.mark.parametrize(
    "value", [math.nan, math.inf, 10**400, torch.tensor(float("nan")), np.float64("-inf"), np.ma.masked]
)
def test_an_objective_that_is_not_finite_diverged(door: Any, value: Any, tmp_path: Path) -> None:
    first, last = Trials(door({"loss": 1.0}, {"loss": value}, {"loss": 1.0}), tmp_path).run()
    assert (first.state, last.state) == (None, TrialEnd.DIVERGED)
    assert last.failure is not None
    assert "loss is" in last.failure.message
    assert "at epoch 2" in last.failure.message


@DOORS
def test_another_number_may_be_infinite(door: Any, tmp_path: Path) -> None:
    results = Trials(door(*[{"loss": 1.0, "ratio": math.inf}] * 3), tmp_path).run()
    assert [result.state for result in results] == [None, None, TrialEnd.COMPLETED]


@pytest.mark.parametrize("train", [yields(), calls(), returns(None), lambda config: None])
def test_a_function_that_ends_without_a_report_failed(train: Callable[..., Any], tmp_path: Path) -> None:
    (last,) = Trials(train, tmp_path).run()
    assert last.state is TrialEnd.FAILED
    assert last.failure is not None
    assert "ended without a report; yield one, or call trial.report" in last.failure.message


def test_a_function_that_returns_a_list_is_told_so(tmp_path: Path) -> None:
    (last,) = Trials(returns([{"loss": 1.0}]), tmp_path).run()
    assert last.failure is not None
    assert "ended without a report and returned a list; yield one" in last.failure.message


def test_a_returned_mapping_is_the_last_report(tmp_path: Path) -> None:
    results = Trials(returns({"loss": 2.0}, {"loss": 1.0}), tmp_path).run()
    assert losses(results) == [(1, 2.0), (2, 1.0)]
    assert (results[-1].state, results[-1].remembered) == (TrialEnd.COMPLETED, False)


@DOORS
def test_a_function_that_ends_before_its_budget_is_complete_with_its_last_report(door: Any, tmp_path: Path) -> None:
    results = Trials(door({"loss": 2.0}, {"loss": 1.0}), tmp_path).run()
    assert losses(results) == [(1, 2.0), (2, 1.0), (2, 1.0)]
    last = results[-1]
    assert (last.state, last.remembered) == (TrialEnd.COMPLETED, True)  # the report has been sent, and counts once


@pytest.mark.parametrize("door", [yields, calls, returns])
def test_reports_beyond_the_budget_are_not_asked_for(door: Any, tmp_path: Path) -> None:
    results = Trials(door(*[{"loss": float(number)} for number in range(9)]), tmp_path).run()
    assert losses(results) == [(1, 0.0), (2, 1.0), (3, 2.0)]
    assert results[-1].state is TrialEnd.COMPLETED


def test_a_function_that_returns_its_scores_sends_one_report(tmp_path: Path) -> None:
    results = Trials(lambda config: {"loss": config["lr"]}, tmp_path).run({"lr": 0.25})
    assert losses(results) == [(1, 0.25)]


@pytest.mark.parametrize("phase", ["search", "confirm"])
def test_what_the_function_does_after_its_last_report_is_done_and_may_fail(phase: str, tmp_path: Path) -> None:
    def train(config, trial):
        for _ in range(trial.epochs):
            yield {"loss": 1.0}
        raise OSError("no room for the model")

    *_, last = Trials(train, tmp_path).run(phase=phase)
    assert last.state is TrialEnd.FAILED
    assert last.failure is not None
    assert "no room for the model" in last.failure.message


def test_what_rungwise_adds_to_a_report_and_what_the_function_calls_alike_are_both_kept(tmp_path: Path) -> None:
    (first, *_) = Trials(yields({"loss": 1.0}), tmp_path / "a").run({"reports_per_epoch": 2})
    assert first.metrics["epoch"] == 0.5
    assert first.metrics["seconds"] >= 0
    report = {"loss": 1.0} | {name: 40.0 + place for place, name in enumerate(OUR_NAMES)}
    trials = Trials(yields(report), tmp_path / "b")
    (first, *_) = trials.run()
    assert first.metrics["epoch"] == 1
    assert 0 <= first.metrics["seconds"] < 40
    assert first.metrics.keys() == {"loss", "epoch", "seconds", *(f"reported_{name}" for name in OUR_NAMES)}
    assert (first.metrics["reported_epoch"], first.metrics["reported_step"]) == (40.0, 44.0)
    assert OUR_NAMES.keys() == {"epoch", "seconds", "checksum", *REPORT_FIELDS}


@pytest.mark.parametrize("field", ["metric", "objectives", "constraints"])
@pytest.mark.parametrize("flags", [[], ["--one", "{}"]])
def test_a_metric_under_a_name_that_the_tables_have_is_refused_before_ray(
    field: str, flags: list[str], tmp_path: Path
) -> None:
    named = {"metric": {"metric": "seconds"}, "objectives": {"metric": "loss", "objectives": {"seconds": "min"}},
             "constraints": {"metric": "loss", "constraints": {"seconds": ("<=", 5)}}}[field]  # fmt: skip
    space = {"lr": FloatDistribution(0.1, 0.2)}
    sweep = Sweep(name="own", train=yields({"loss": 1.0}), mode="min", space=space, **named)
    options = parse(sweep, ["--out", str(tmp_path), *flags])
    (line,) = (check.one_problems if flags else check.problems)(resolve(sweep, options), options)
    assert line.startswith(f"{field}: a metric must not be called 'seconds', which is the time since the report before")
    assert line.endswith("is called 'reported_seconds'")


def test_one_says_each_problem_once(tmp_path: Path) -> None:
    def train(lr: float, trial: Any): ...

    sweep = Sweep("own", {"lr": FloatDistribution(0.1, 1.0)}, train=train, metric="loss", mode="min")
    options = parse(sweep, ["--out", str(tmp_path), "--one", '{"lrr": 1}'])
    (line,) = check.one_problems(resolve(sweep, options), options)
    assert "did you mean 'lr'?" in line


def test_one_takes_what_the_function_declares_and_the_space_does_not_name(tmp_path: Path) -> None:
    def train(lr: float, power: float = 0.5): ...

    sweep = Sweep("own", {"lr": FloatDistribution(0.1, 1.0)}, train=train, metric="loss", mode="min")
    for given, wanted in (('{"power": 0.3}', []), ('{"powr": 0.3}', ["did you mean 'power'? Known: lr, power"])):
        options = parse(sweep, ["--out", str(tmp_path), "--one", given])
        found = check.one_problems(resolve(sweep, options), options)
        assert [line.partition("; ")[2] for line in found] == wanted


def test_one_refuses_what_only_the_built_in_training_reads(tmp_path: Path) -> None:
    sweep = Sweep(name="own", train=yields({"loss": 1.0}), metric="loss", mode="min", max_parameters=10)
    options = parse(sweep, ["--out", str(tmp_path), "--one", "{}"])
    (line,) = check.one_problems(resolve(sweep, options), options)
    assert line.startswith("max_parameters is for the built-in training, and your training knows its model's size")


def draws() -> tuple[float, float, float]:
    """What a function that asks for no seed draws."""
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_data_is_drawn_alike_everywhere_and_leaves_the_generators_as_they_were(tmp_path: Path) -> None:
    training = FunctionTraining(OwnData(draws), "loss", None, yields({"loss": 1.0}))
    seen = []
    for seed in (1, 2):
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)  # type: ignore[func-returns-value]
        seen.append((training.load().search, draws()))
    (first, one), (again, other) = seen
    assert first == again
    assert not {*one} & {*other}, "the caller's generators were seeded"


def test_the_trial_that_loads_its_process_data_draws_what_the_others_draw(tmp_path: Path) -> None:
    def train(config, trial):
        yield {"loss": 1.0, "drawn": random.random() + np.random.rand(), "data": sum(trial.data)}

    training = FunctionTraining(OwnData(draws, per_worker=True), "loss", None, train)
    trials = Trials(train, tmp_path, training=training)
    first, second = (trials.run({"epochs": 1}, trial=number)[-1].metrics for number in (1, 2))
    assert (first["drawn"], first["data"]) == (second["drawn"], second["data"])


def test_test_is_seeded_as_the_trial_was(tmp_path: Path) -> None:
    def test(config, trial):
        return {"loss": sum(draws())}

    train = yields(*[{"loss": 1.0}] * 3)
    *_, last = Trials(train, tmp_path).run(phase="confirm")
    assert last.checkpoint is not None
    training, (file,) = FunctionTraining(OwnData(), "loss", test, train), (tmp_path / "1").glob("*.tar")
    given = (
        {1: (str(file), last.checkpoint.sha256)},
        {1: {"seed": 7, "epochs": 3, "reports_per_epoch": 1}},
        STUDIES,
    )
    first, again = (training.score(*given, None, ONE_CORE).scores for _ in range(2))
    assert first == again


def test_random_numpy_and_torch_are_seeded_before_the_function_is_called(tmp_path: Path) -> None:
    def train(config, trial):
        yield {"loss": 1.0, "a": random.random(), "b": np.random.rand(), "c": torch.rand(()), "seed": trial.seed}

    trials = Trials(train, tmp_path)

    def drawn(seed: int, number: int) -> list[float]:
        (first, *_) = trials.run({"seed": seed}, trial=number)
        return [first.metrics[name] for name in ("a", "b", "c", "seed")]

    assert drawn(7, 1) == drawn(7, 2)
    assert not set(drawn(7, 3)) & set(drawn(2**32 + 1, 4))


def test_a_generator_may_not_call_report_and_says_what_to_do(tmp_path: Path) -> None:
    def train(config, trial):
        trial.report(loss=1.0)
        yield {"loss": 1.0}

    (last,) = Trials(train, tmp_path).run()
    assert last.failure is not None
    assert "a generator yields its reports" in last.failure.message


@DOORS
def test_a_stopped_trial_cleans_up_and_the_next_one_starts(door: Any, tmp_path: Path) -> None:
    ended: list[int] = []

    def generator(config, trial):
        try:
            while True:
                yield {"loss": 1.0}
        finally:
            ended.append(trial.number)

    def caller(config, trial):
        try:
            while True:
                trial.report(loss=1.0)
        finally:
            ended.append(trial.number)

    trials = Trials(generator if door is yields else caller, tmp_path)
    for number in (1, 2):
        trials.begin(trial=number)
        assert next(trials.results()).step == 1
    assert ended == [1]
    trials.end()
    assert ended == [1, 2]


def test_an_except_exception_around_a_step_does_not_keep_a_stopped_trial_alive(tmp_path: Path) -> None:
    reports = []

    def train(config, trial):
        for _ in range(1000):
            try:
                reports.append(1)
                trial.report(loss=1.0)
            except Exception:
                continue

    trials = Trials(train, tmp_path)
    trials.begin()
    next(trials.results())
    trials.end()
    assert len(reports) == 1


def test_a_function_that_swallows_the_stop_but_ends_is_no_problem(tmp_path: Path) -> None:
    def train(config, trial):
        for _ in range(3):
            try:
                trial.report(loss=1.0)
            except BaseException:
                continue

    trials = Trials(train, tmp_path)
    trials.begin()
    next(trials.results())
    trials.begin(trial=2)
    result: TrialResult = next(trials.results())
    assert result.trial == 2
    trials.end()


@pytest.mark.parametrize("metric", ["val_f1", "val/f1", "validation f1", "f1"])
@pytest.mark.parametrize("returned", ["f1", "test_f1"])
def test_a_test_score_has_the_objectives_name_without_the_split_however_that_is_spelt(
    metric: str, returned: str
) -> None:
    training = FunctionTraining(OwnData(), metric, None, yields())
    kept = metric.removeprefix("val_")  # as the record names it
    assert training._named({returned: 0.5, "val_cost": 3.0}) == {kept: 0.5, "cost": 3.0}
    with pytest.raises(ReportError, match=f"test must return 'f1', which '{metric}' is on the test split"):
        training._named({"F1": 0.5})


@pytest.mark.parametrize(("value", "is_share"), [(0.93, True), (1.00001, True), (1.5, False), (93.5, False)])
def test_an_accuracy_in_percent_is_refused_because_shares_are_shown_in_percent(
    value: float, is_share: bool, tmp_path: Path
) -> None:
    train = yields({"val_accuracy": value, "top5_accuracy": 99.0})
    *_, last = Trials(train, tmp_path, objectives=("val_accuracy",)).run()
    assert last.state is (TrialEnd.COMPLETED if is_share else TrialEnd.FAILED)
    training = FunctionTraining(OwnData(), "val_accuracy", lambda config: {"accuracy": value}, train)
    archive.pack(archive.Snapshot(1), tmp_path / "file.tar")
    files = {1: (str(tmp_path / "file.tar"), hashlib.sha256((tmp_path / "file.tar").read_bytes()).hexdigest())}
    config = {"seed": 1, "epochs": 1, "reports_per_epoch": 1}
    if is_share:
        assert training.score(files, {1: config}, STUDIES, None, ONE_CORE).scores == {1: {"accuracy": value}}
        return
    assert last.failure is not None
    assert "must be a share from 0 to 1" in last.failure.message
    with pytest.raises(ReportError, match="accuracy must be a share from 0 to 1"):
        training.score(files, {1: config}, STUDIES, None, ONE_CORE)


def test_data_of_a_worker_process_that_cannot_be_loaded_fails_its_trial_with_the_reason(tmp_path: Path) -> None:
    calls = []

    def load_shard():
        calls.append(1)
        if len(calls) == 1:
            raise OSError("no such disk")
        return 3.0

    def train(config, trial):
        yield {"loss": trial.data}

    trials = Trials(train, tmp_path, training=FunctionTraining(OwnData(load_shard, True), "loss", None, train))
    (failed,) = trials.run()
    assert failed.state is TrialEnd.FAILED
    assert failed.failure is not None
    assert "data: load_shard raised OSError: no such disk" in failed.failure.message
    for _ in range(2):  # the next trial tries again, and later ones share what it returned
        *_, last = trials.run()
        assert last.metrics["loss"] == 3.0
    assert len(calls) == 2


def test_the_unit_of_a_loss_of_the_users_own_is_not_claimed_to_be_known() -> None:
    own, ours = (Definition(training={"kind": kind}) for kind in ("function", "built-in"))
    assert [metric_about("val_loss", definition)[0] for definition in (own, ours)] == ["", "nats/sample"]
    assert metric_about("seconds", own)[0] == "s"


def test_a_single_trial_cannot_write_into_its_data_either(tmp_path: Path) -> None:
    """As in a sweep, where all trials share it."""

    def train(config: Any, trial: Any) -> Any:
        yield {"score": float(trial.data["x"][0])}
        trial.data["x"][0] = 1.0

    sweep = Sweep("shared", train=train, data=lambda: {"x": np.zeros(3)}, metric="score", mode="max", epochs=1)
    with pytest.raises(ValueError, match="read-only"):
        rungwise.main(sweep, ["--out", str(tmp_path), "--one", "{}"])
