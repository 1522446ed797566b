"""Bad input ends with exit code 2 before Ray starts, and names every problem at once: rule, value, valid choices."""

import fcntl
import math
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import ray
import torch

from rungwise import CategoricalDistribution, FloatDistribution, IntDistribution, Sweep, main
from rungwise.engine.execution.run_lock import Locked, locked
from rungwise.engine.experiment.command_line import parse
from rungwise.engine.experiment.experiment import Experiment, resolve
from rungwise.engine.experiment.resume_check import differences
from rungwise.engine.validation.hints import failed_notes, gpu_notes, idle_flags, print_wait
from rungwise.results.record.sessions import LOCK
from rungwise.results.record.types import State
from rungwise.results.record.writer import Record
from rungwise.trainable import granted_resources
from rungwise.trainable.data.dataset import load
from rungwise.trainable.messages import Failure, FailureKind
from rungwise.trainable.training.builtin import describe_data

SPACE = {"lr": FloatDistribution(1e-4, 1e-1, log=True), "l2": FloatDistribution(1e-7, 1e-2, log=True)}
SWEEP = Sweep(name="demo", space=SPACE, data="digits", trials=4, epochs=3)


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """refused(sweep, *arguments) -> the lines on standard error of a command that must not get as far as Ray."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def refuse(sweep: Sweep, *arguments: str) -> list[str]:
        with pytest.raises(SystemExit) as end:
            main(sweep, ["--out", str(tmp_path / "runs"), *arguments])
        said = capsys.readouterr()
        assert end.value.code == 2, said
        assert said.out == ""
        return said.err.splitlines()

    yield refuse
    assert not ray.is_initialized()
    assert list(temporary.glob("rw-*")) == []  # Ray's folder is the first thing that starting it makes


BAD_FLAGS = [
    (["--trials", "0"], ["--trials must be at least 1", "got 0"]),
    (["--eta", "1"], ["--eta must be a number from 1.1 up", "got 1.0"]),
    (["--eta", "1.0000001"], ["--eta must be a number from 1.1 up", "got 1.0000001"]),
    (["--eta", "inf"], ["--eta must be a number from 1.1 up", "got inf"]),
    (["--seed", str(2**63)], ["--seed must be from 0 to 2**63 - 1", f"got {2**63}"]),
    (["--price-per-hour", "-1"], ["--price-per-hour must be at least 0", "got -1.0"]),
    (["--model", "os:system"], ["must be a function of a Config, but 'os:system' is a builtin_function_or_method"]),
    (["--eta", "nan"], ["--eta must be a number from 1.1 up", "got nan"]),
    (["--seed", "-1"], ["--seed must be from 0 to 2**63 - 1", "got -1"]),
    (["--concurrency", "-2"], ["--concurrency must be at least 0", "got -2"]),
    (["--confirm-configs", "0"], ["--confirm-configs must be at least 1 (or --no-confirm)", "got 0"]),
    (["--confirm-seeds", "0"], ["--confirm-seeds must be at least 1 (or --no-confirm)", "got 0"]),
    (["--audit", "1.5"], ["--audit takes a share from 0 to 1", "got 1.5"]),
    (["--audit", "nan"], ["--audit takes a share from 0 to 1", "got nan"]),
    (["--retries", "-1"], ["--retries must be at least 0", "got -1"]),
    (["--checkpoint-seconds", "nan"], ["--checkpoint-seconds must be at least 0", "got nan"]),
    (["--time-budget", "0"], ["--time-budget must be greater than 0", "got 0.0"]),
    (["--grace", "9"], ["grace must be at most epochs", "grace=9, epochs=3"]),
    (["--grace", "nan"], ["grace must be at most epochs", "grace=nan, epochs=3"]),
    (["--grace", "0.5"], ["grace must be at least one report", "got grace=0.5, and 1 report per epoch"]),
    (["--cpus-per-trial", "100000"], ["--cpus-per-trial: this machine has", "CPUs, but got 100000", "--address"]),
    (["--gpus-per-trial", "1"], ["--gpus-per-trial: this machine has", "GPUs, but got 1", "--address"]),
    (["--gpus-per-trial", "2", "--address", "auto"], ["the built-in training uses one GPU", "but got 2"]),
    (["--gpus-per-trial", "1.5", "--address", "auto"], ["the built-in training uses one GPU", "but got 1.5"]),
    (["--cpus-per-trial", "-1"], ["--cpus-per-trial must be at least 0", "got -1"]),
    (["--cpus-per-trial", "nan"], ["--cpus-per-trial must be at least 0", "got nan"]),
    (["--cpus-per-trial", "0"], ["a trial needs a CPU or a GPU"]),
    (["--data", "digit"], ["unknown dataset 'digit'", "did you mean 'digits'?", "mnist", ".arrow, .feather"]),
    (["--data", "no/such/file.npz"], ["a data file must exist", "'no/such/file.npz'"]),
    (["--data", "no/such/file.csv"], ["a data file must exist", "'no/such/file.csv'"]),
    (["--model", "cn"], ["unknown model 'cn'", "did you mean 'cnn'?", "module:function"]),
    (["--model", "ResNet"], ["model: unknown model 'ResNet'. Known: cnn, mlp; or module:function"]),
    (["--model", "nowhere:net"], ["named module:function or file.py:function", "'nowhere:net' could not be found"]),
    (["--sampler", "tp"], ["unknown --sampler 'tp'", "did you mean 'tpe'?", "random"]),
    (["--sampler", "grid"], ["grid needs a finite choice for every hyperparameter, but lr is a range"]),
    (["--sampler", "gp"], ["gp learns from trials that ran to the end only", "--scheduler none"]),
    (["--sampler", "cmaes"], ["cmaes learns from trials that ran to the end only", "--scheduler none"]),
    (["--sampler", "nsga2"], ["nsga2 learns from trials that ran to the end only", "--scheduler none"]),
    (["--sampler", "own"], ["--sampler own is what the script's Sweep(sampler=...) makes", "names none"]),
    (["--sampler-options", "[]"], ["--sampler-options takes a JSON object (got '[]')"]),
    (["--sampler-options", '{"n_startup_trials": "ten"}'], ["tpe refuses its options {'n_startup_trials': 'ten'}"]),
    (["--sampler-options", "{"], ["--sampler-options takes a JSON object (got '{')"]),
    (["--sampler-options", '{"startup": 3}'], ["unknown option of --sampler tpe 'startup'", "n_startup_trials"]),
    (["--pack", "some"], ["--pack takes auto, off, or how many trials a process trains at once", "got 'some'"]),
    (["--pack", "0"], ["--pack takes auto, off, or how many trials a process trains at once", "got '0'"]),
    (["--pack", "2", "--trial-timeout", "3"], ["with --pack that of all others", "--trial-timeout 3 and --pack 2"]),
    (["--pack", "2", "--model", "cnn"], ["--pack trains model='mlp' only", "model='cnn'", "leave it off"]),
    (["--precision", "fp16"], ["precision: ", "'fp32' or 'bf16'", "got 'fp16'"]),
    (["--patience", "0"], ["--patience must be greater than 0", "got 0.0"]),
    (["--max-parameters", "0"], ["--max-parameters must be at least 1", "got 0"]),
    (["--enqueue", '{"lr": 5}'], ["--enqueue must be within the space", "got {\"lr\": 5}"]),
    (["--enqueue", "lr=5"], ["--enqueue takes a JSON object (got 'lr=5'"]),
    (["--enqueue", '{"lr": "fast"}'], ["--enqueue must be within the space", 'got {"lr": "fast"}']),
    (["--enqueue", '{"l1": 0.1}'], ["--enqueue: unknown hyperparameter of the space 'l1'; did you mean"]),
    (["--warm-start", "no/such/run"], ["--warm-start takes the folder of a run", "no/such/run"]),
    (["--scheduler", "asah"], ["unknown --scheduler 'asah'", "did you mean 'asha'?", "none"]),
    (["--name", "a/b"], ["--name: a run's name must have letters, digits", "got 'a/b'"]),
    (["--name", "../up"], ["--name: a run's name must have letters, digits", "got '../up'"]),
    (["--name", ""], ["--name: a run's name must have letters, digits", "got ''"]),
    (["--name", ".hidden"], ["--name: a run's name must have letters, digits", "got '.hidden'"]),
    (["--name", "a\nb"], ["--name: a run's name must have letters, digits", "got 'a\\nb'"]),
    (["--name", "x" * 300], ["--name: a run's name must have at most 200 characters"]),
    (["--name", "x" * 300, "--fresh"], ["--name: a run's name must have at most 200 characters"]),
    (["--name", "mlflow.db"], ["--name: a run's name must not be mlartifacts nor begin with mlflow.db"]),
    (["--name", "MLartifacts"], ["--name: a run's name must not be mlartifacts nor begin with mlflow.db"]),
    (["--tracking-uri", "sqlite:///what?/x.db"], ["a file's name must have %3F for '?' in a SQLite tracking URI"]),
    (["--tracking-uri", "ftp://host/x"], ["a tracking URI must be sqlite:///FILE, http(s)://HOST", "'ftp://host/x'"]),
    (["--tracking-uri", "./mlruns"], ["no runs in plain folders", "sqlite:///FILE", "'./mlruns'"]),
    (["--tracking-uri", "http://"], ["must name a host", "'http://'"]),
    (["--tracking-uri", "sqlite:////no/such/folder/x.db"], ["the folder of sqlite:////no/such/folder/x.db must exist"]),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "says"), BAD_FLAGS, ids=lambda value: " ".join(value[:2]))
def test_a_bad_flag_is_refused(refused: Any, arguments: list[str], says: list[str]) -> None:
    (line,) = refused(SWEEP, *arguments)
    for part in ("error: ", *says):
        assert part in line


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fixed": {"dorpout": 0.1}}, ["unknown hyperparameter 'dorpout'", "did you mean 'dropout'?", "momentum"]),
        ({"fixed": {"dropout": 1.0}}, ["dropout: ", "less than 1", "got 1.0"]),
        (
            {"arms": {"a\x1b[31m": {}}},
            ["an arm's name must be one line without control", "got 'a\\x1b[31m'"],
        ),
        (
            {"space": {"model": CategoricalDistribution(["mlp", "caf\udce9.py:net"])}},
            ["a value of model must be", "caf\\udce9"],
        ),
        ({"fixed": {"lr": 0.1}}, ["either searched or fixed, but lr is both (fixed=0.1)"]),
        ({"fixed": {"epochs": 3}}, ["epochs is the sweep's budget"]),
        ({"space": {"lr": FloatDistribution(0.0, 0.1, log=True)}}, ["lr: a log range cannot contain 0", "low=0.0"]),
        ({"space": {"lr": FloatDistribution(0.2, 0.1)}}, ["lr: low must be at most high", "low=0.2, high=0.1"]),
        ({"space": {"lr": CategoricalDistribution([])}}, ["lr: choices must not be empty"]),
        ({"space": {}}, ["a space must contain at least one hyperparameter"]),
        ({"space": lambda _: {"lr": -1.0}}, ["lr: ", "greater than 0", "got -1.0"]),
        ({"arms": {}}, ["a sweep has at least one arm"]),
        ({"arms": {"a": {"batch": 8}}}, ["unknown hyperparameter 'batch'", "did you mean 'batch_size'?"]),
        ({"fixed": {"l1": 0.5}, "arms": {"a": {"l1": 0.0}}}, ["arm 'a' says l1=0.0 and fixed 0.5"]),
        ({"model": lambda _: None}, ["a model must be a function at the top level of a file", "<lambda>"]),
        ({"data": "iris", "fixed": {"model": "cnn"}}, ["model='cnn' needs images, but a sample is 4 numbers"]),
        ({"data": "iris", "fixed": {"flip": 0.5}}, ["flip needs images, but a sample is 4 numbers"]),
        ({"fixed": {"model": "cnn", "channels": "4-4-4-4"}}, ["halves an image, but 8x8 cannot be halved 4 times"]),
        (
            {"fixed": {"model": "cnn"}, "space": {"channels": CategoricalDistribution(["4-4", "4-4-4-4"])}},
            ["halves an image, but 8x8 cannot be halved 4 times"],
        ),
        ({"data": "wine", "space": {"shift": FloatDistribution(0.0, 2.0)}}, ["shift needs images, but a sample is 13"]),
        ({"space": lambda _: {"lr": 0.1}, "arms": {"a": {"l2": SPACE["l2"]}}}, ["arm 'a' has one for l2"]),
        ({"data": "diabetes"}, ["labels are real numbers, so there is no val_accuracy; say metric='val_r2'"]),
        (
            {"data": "iris", "metric": "val_r2"},
            ["labels are classes, so there is no val_r2"],
        ),
        ({"epochs": 0}, ["--epochs must be at least 1", "got 0"]),
        (
            {"metric": "val_loss"},
            ["mode must be 'min' for val_loss, of which less is better", "got 'max'", "leave it out"],
        ),
        ({"mode": "min"}, ["mode must be 'max' for val_accuracy, of which more is better", "got 'min'"]),
        ({"metric": "lr", "mode": None}, ["mode must be 'max' or 'min', because lr may be either"]),
        ({"objectives": {"val_loss": "max"}}, ["an objective's mode must be 'min' for val_loss", "val_loss has 'max'"]),
        ({"objectives": ["epoch"]}, ["an objective's mode must be 'max' or 'min', because epoch may be either"]),
        (
            {"space": {"kernel": IntDistribution(1, 5)}, "fixed": {"model": "cnn"}},
            ["kernel must be odd", "got kernel=2"],
        ),
        (
            {"space": {"batch_size": FloatDistribution(16, 128)}},
            ["batch_size takes whole numbers, but its range is one of real numbers; say IntDistribution"],
        ),
        ({"space": {"dropout": FloatDistribution(0, 2, step=0.5)}}, ["dropout: ", "less than 1", "got 2"]),
        ({"space": {"lr": FloatDistribution("1e-4", 1e-1)}}, ["lr: low must be a number, but got '1e-4' (str)"]),  # type: ignore[arg-type]
        ({"space": {"lr": FloatDistribution(1e-4, None)}}, ["lr: high must be a number, but got None (NoneType)"]),  # type: ignore[arg-type]
        ({"space": {"lr": FloatDistribution(1e-4, math.nan)}}, ["lr: high must be a number, but got nan (float)"]),
        ({"space": {"batch_size": IntDistribution(16, 64.5)}}, ["batch_size: high must be a whole number", "64.5"]),  # type: ignore[arg-type]
        ({"space": {"lr": (1e-4, 1e-1)}}, ["lr: a range must be a FloatDistribution", "got (0.0001, 0.1) (tuple)"]),
        ({"space": {"lr": FloatDistribution}}, ["lr: a range must be a FloatDistribution", "(type)"]),
        ({"space": {1: FloatDistribution(0, 1)}}, ["space must be a dict of ranges, or a function of a trial"]),
        ({"space": dict}, ["space must be a dict of ranges, or a function of a trial, but got <class 'dict'> (type)"]),
        (
            {"space": {"hidden": CategoricalDistribution([(64, 32), (8,)])}},  # type: ignore[list-item]
            ["hidden: a choice must be a boolean, a number or text, but got (64, 32) (tuple); write '64-32'"],
        ),
        ({"space": {"activation": CategoricalDistribution("relu")}}, ["activation: choices must be a list, but got"]),
        ({"space": {"l2": CategoricalDistribution([0, 0.0])}}, ["l2: choices must differ, but got [0, 0.0]"]),
        ({"trials": "8"}, ["trials must be a whole number, but got '8' (str)"]),
        ({"trials": 2.5}, ["trials must be a whole number, but got 2.5 (float)"]),
        ({"trials": True}, ["trials must be a whole number, but got True (bool)"]),
        ({"epochs": None}, ["epochs must be a whole number, but got None (NoneType)"]),
        ({"grace": "1"}, ["grace must be a number, but got '1' (str)"]),
        ({"eta": math.inf}, ["eta must be a number, but got inf (float)"]),
        ({"eta": 1.0000001}, ["--eta must be a number from 1.1 up (got 1.0000001)"]),
        ({"patience": (3,)}, ["patience must be a number, but got (3,) (tuple)"]),
        ({"metric": 3}, ["metric must be a metric's name, but got 3 (int)"]),
        ({"metric": ["val_loss"]}, ["metric must be a metric's name, but got ['val_loss'] (list)"]),
        ({"mode": max}, ["mode must be 'max' or 'min', or left out, but got <built-in function max>"]),
        ({"objectives": "val_loss"}, ["objectives must be a dict of metrics and 'max' or 'min', or a list of metrics"]),
        ({"fixed": [("l2", 1)]}, ["fixed must be a dict of names and values, but got"]),
        (
            {"fixed": {"lr": float}, "space": {"l2": SPACE["l2"]}},
            ["fixed: lr must be a finite number, text, a boolean or"],
        ),
        ({"arms": {"caf\udce9": {}}}, ["an arm's name must be one line", r"got 'caf\udce9'"]),
        ({"arms": {"\x1b[2J": {}}}, ["an arm's name must be one line", r"got '\x1b[2J'"]),
        (
            {"space": {"activation": CategoricalDistribution(["\u202eulr"])}},
            ["a value of activation", r"got '\u202eulr'"],
        ),
        ({"arms": {"a": None}}, ["arm 'a' must be a dict of names and values, but got None"]),
        ({"arms": ["a", "b"]}, ["arms must be a dict of names and values, but got ['a', 'b'] (list)"]),
        ({"arms": {"a": {"l2": np.array([1, {}], dtype=object)}}}, ["l2: input should be a valid number"]),
        ({"name": None}, ["name must be text, but got None"]),
        ({"data": Path("digits")}, ["data must be a dataset's name, or a function without arguments, but got"]),
        ({"model": 3}, ["model must be a model's name, or a function of a Config, but got 3 (int)"]),
        ({"sampler": None}, ["sampler must be a sampler's name, a function of a seed, or a dict of one for each arm"]),
        ({"scheduler": None}, ["scheduler must be text, but got None"]),
        (
            {"sampler_options": {"seed": object}},
            ["sampler_options: seed must be a finite number, text, a boolean or a"],
        ),
        ({"sampler_options": {"n_startup_trials": math.nan}}, ["n_startup_trials must be a finite number", "got nan"]),
        ({"mode": "best"}, ["mode must be 'max' or 'min', but got 'best'"]),
        ({"metric": "val_acuracy"}, ["unknown metric 'val_acuracy'", "did you mean 'val_accuracy'?", "val_loss"]),
        ({"objectives": {"parametrs": "min"}}, ["unknown objective 'parametrs'", "did you mean 'parameters'?"]),
        (
            {"objectives": {"parameters": "less"}},
            ["an objective's mode must be 'max' or 'min', but parameters has 'less'"],
        ),
        ({"objectives": {"val_accuracy": "max"}}, ["objectives must differ, but val_accuracy is listed twice"]),
        (
            {"objectives": {"parameters": "min"}, "sampler": "cmaes", "scheduler": "none"},
            ["--sampler cmaes takes one objective, but got 2"],
        ),
        (
            {"space": {"activation": CategoricalDistribution(["relu"])}, "sampler": "cmaes", "scheduler": "none"},
            ["cmaes moves in continuous spaces, but activation is a choice of categories"],
        ),
        ({"sampler": {"al": "tpe"}}, ["unknown arm of sampler 'al'; did you mean 'all'? Known: all"]),
        ({"sampler": {"all": "tp"}}, ["unknown --sampler 'tp'; did you mean 'tpe'?"]),
        ({"sampler": lambda _: 3}, ["sampler must make an optuna.samplers.BaseSampler of a seed, but made 3"]),
        (
            {"sampler": lambda seed: optuna.samplers.RandomSampler(seed), "sampler_options": {"group": True}},
            ["--sampler-options are for samplers of a name"],
        ),
        ({"sampler": lambda _: sys.exit("no")}, ["sampler must be a function of a seed, but raised SystemExit: no"]),
        ({"space": lambda _: sys.exit("no")}, ["the space function '<lambda>' raised SystemExit: no (test_check.py:"]),
        ({"reports_per_epoch": 0, "grace": 1.0}, ["reports_per_epoch must be at least 1", "got 0"]),
    ],
    ids=lambda value: re.sub(r" at 0x\w+", "", str(value)),  # xdist: the same names in every process
)
def test_a_bad_sweep_is_refused(refused: Any, changes: dict[str, Any], says: list[str]) -> None:
    for plan in ([], ["--plan"]):
        lines = refused(replace(SWEEP, **changes), *plan)
        for part in says:
            assert part in lines[0]


@pytest.mark.parametrize("bad", ["\x1b[31mred", "caf\udce9", "\ud800", "two\nlines", "a\ttab", "\u202edesrever"])
def test_a_name_that_no_record_could_hold_as_it_is_is_refused_in_one_line(refused: Any, bad: str) -> None:
    lr = FloatDistribution(1e-4, 1e-1, log=True)

    def names_one(trial: Any) -> dict[str, Any]:
        return {"lr": trial.suggest_float(bad, 1e-4, 1e-1)}

    def makes_one(trial: Any) -> dict[str, Any]:
        return {"lr": trial.suggest_float("lr", 1e-4, 1e-1), bad: 1}

    def chooses_one(trial: Any) -> dict[str, Any]:
        return {"activation": trial.suggest_categorical("activation", ["relu", bad])}

    for what, changes in [
        ("an arm's name", {"arms": {bad: {"l2": 0.0}, "L2": {}}}),
        ("a hyperparameter's name", {"space": {bad: lr}}),
        ("a hyperparameter's name", {"space": names_one}),
        ("a hyperparameter's name", {"space": makes_one}),
        ("a value of activation", {"space": {"lr": lr, "activation": CategoricalDistribution(["relu", bad])}}),
        ("a value of activation", {"space": chooses_one}),
        ("a sweep's name", {"name": bad}),
    ]:
        lines = refused(replace(SWEEP, **changes), "--name", "good")
        told = [line for line in lines if f"{what} must be one line without control characters" in line]
        assert len(told) == 1, lines
        assert all(line.isprintable() for line in lines)


def test_an_arm_has_a_name_that_can_be_seen(refused: Any) -> None:
    lines = refused(replace(SWEEP, arms={"": {"l2": 0.0}, " ": {}}))
    assert lines == [f"error: an arm's name must not be blank, but got {name!r}" for name in ("", " ")]


def test_a_grid_takes_no_points_and_no_earlier_trials(refused: Any) -> None:
    gridded = replace(SWEEP, space={"batch_size": CategoricalDistribution([16, 32, 64, 128])}, sampler="grid")
    (line,) = refused(gridded, "--enqueue", '{"batch_size": 32}')
    assert line.startswith(
        "error: --sampler grid tries its points in an order of its own, but got --warm-start or --enqueue"
    )


def test_a_run_that_has_begun_takes_no_points_to_begin_with(refused: Any, tmp_path: Path) -> None:
    options = parse(SWEEP, ["--out", str(tmp_path / "runs")])
    folder = tmp_path / "runs" / "demo"
    folder.mkdir(parents=True)
    with Record(folder) as record:
        record.set_meta("definition", resolve(SWEEP, options).with_data(describe_data(load("digits"))).to_json())
        record.add_trial(1, arm="all", phase="search", config={}, params={}, distributions={})
    assert "error: --warm-start and --enqueue say how a run begins" in refused(SWEEP, "--enqueue", '{"lr": 0.01}')[0]


def test_a_name_given_twice_is_refused(refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "twice.py"
    script.write_text('from rungwise import Sweep\n\nSweep(name="a", arms={"L2": {"l2": 0.0}, "L2": {}})\n')
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert refused(SWEEP) == ["error: a name must be given once, but arms says 'L2' twice (line 3)"]


def test_every_problem_is_named_at_once_and_nothing_is_left_behind(refused: Any, tmp_path: Path) -> None:
    space = {"lr": FloatDistribution(0.0, 0.1, log=True), "dorpout": FloatDistribution(0.5, 0.1)}
    flags = ["--trials", "0", "--grace", "9", "--gpus-per-trial", "1000", "--data", "digit", "--sampler", "tp"]
    lines = refused(replace(SWEEP, space=space), *flags, "--tracking-uri", "ftp://host/x")
    for part in (
        "--trials",
        "grace",
        "GPUs",
        "dataset 'digit'",
        "--sampler",
        "log range",
        "low must be at most high",
        "ftp:",
    ):
        assert sum(part in line for line in lines) == 1, (part, lines)
    assert len(lines) == 8
    assert all(line.startswith("error: ") for line in lines)
    assert not (tmp_path / "runs").exists()


def test_a_password_in_a_refused_tracking_uri_is_not_printed(refused: Any) -> None:
    (line,) = refused(SWEEP, "--tracking-uri", "ftp://someone:secret@host/x")
    assert "secret" not in line
    assert "ftp://***@host/x" in line


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"PAR1 torn PAR1"])
@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_an_unreadable_data_file_is_refused(refused: Any, tmp_path: Path, content: bytes, suffix: str) -> None:
    file = tmp_path / f"data{suffix}"
    file.write_bytes(content)
    (line,) = refused(SWEEP, "--data", str(file))
    assert line.startswith(f"error: a data file must be readable and whole, but '{file}' is not")


def test_a_data_file_without_labels_is_refused(refused: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros((8, 3)))
    (line,) = refused(SWEEP, "--data", str(tmp_path / "data.npz"))
    assert "must contain the arrays x, y" in line
    assert "but contains x" in line


def test_an_output_folder_that_cannot_be_written_is_refused(refused: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    (line,) = refused(SWEEP, "--out", str(tmp_path / "file" / "runs"))
    assert line.startswith("error: --out must be a folder that can be written, but ")
    assert line.endswith(f"because of {tmp_path / 'file'}")


def test_an_output_folder_that_the_kernel_refuses_is_refused(refused: Any) -> None:
    (line,) = refused(SWEEP, "--out", "/proc/runs")
    assert line.startswith("error: --out must be a folder that can be written, but /proc/runs/demo")


def test_a_run_name_taken_by_another_sweep_is_refused(refused: Any, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "taken"
    folder.mkdir(parents=True)
    with Record(folder) as record:
        record.set_meta("definition", {"sweep": "other"})
    (line,) = refused(SWEEP, "--name", "taken")
    assert "--name 'taken' is taken by a run of sweep 'other'" in line
    assert "choose another" in line


def test_a_folder_of_something_else_is_refused_and_untouched(refused: Any, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "demo"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("years of work")
    (line,) = refused(SWEEP)
    assert "contains thesis.tex but no sweep.sqlite; choose another --name" in line
    assert [child.name for child in folder.iterdir()] == ["thesis.tex"]


# -- one trial in this process ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{"], ["--one takes a JSON object (got '{'"]),
        (["[0.1]"], ["--one takes a JSON object such as", "got '[0.1]'"]),
        (['{"lr": -1}'], ["lr: ", "greater than 0", "got -1"]),
        (['{"lr": NaN}'], ["lr: ", "finite", "got nan"]),
        (['{"learning_rate": 1}'], ["unknown hyperparameter 'learning_rate'"]),
        (['{"channels": "4-4-4-4"}', "--model", "cnn"], ["halves an image, but 8x8 cannot be halved 4 times"]),
        (['{"kernel": 4}', "--model", "cnn"], ["kernel must be odd with model='cnn', but got kernel=4"]),
        (['{"epochs": 2}'], ["epochs is the sweep's budget; say --epochs"]),
        (["{}", "--epochs", "0"], ["epochs: ", "greater than or equal to 1", "got 0"]),
        (["{}", "--seed", "-1"], ["seed: ", "greater than or equal to 0", "got -1"]),
        (['{"hidden": [8]}', "--max-parameters", "100"], ["parameters must be at most 100, but got 6"]),
        (["{}", "--plan"], ["--one runs a trial and --plan none: say one of them"]),
        (["{}", "--data", "digit"], ["unknown dataset 'digit'", "did you mean 'digits'?"]),
    ],
)
def test_a_bad_single_trial_is_refused(refused: Any, arguments: list[str], says: list[str]) -> None:
    (line,) = refused(SWEEP, "--one", *arguments)
    for part in says:
        assert part in line


# -- the command line ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--tirals", "3"], ["--tirals", "--trials"]), (["--trials", "many"], ["--trials", "many"]), (["x"], ["x"])],
)
def test_a_wrong_flag_is_refused(refused: Any, arguments: list[str], says: list[str]) -> None:
    lines = " ".join(refused(SWEEP, *arguments))
    for part in says:
        assert part in lines


def test_whoever_has_a_gpu_is_told_of_the_flags_that_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data, convolution = load("digits"), replace(SWEEP, fixed={"model": "cnn"})

    def told(sweep: Sweep, *arguments: str) -> list[str]:
        options = parse(sweep, list(arguments))
        return gpu_notes(resolve(sweep, options), options, describe_data(data))

    monkeypatch.setattr(granted_resources, "gpus", lambda: 0)
    assert told(SWEEP) == []
    monkeypatch.setattr(granted_resources, "gpus", lambda: 1)
    assert "--gpus-per-trial 1 --pack auto" in told(SWEEP)[0]
    assert "--pack" not in told(convolution)[0]
    assert "--pack auto" in told(SWEEP, "--gpus-per-trial", "1")[0]
    assert told(SWEEP, "--gpus-per-trial", "1", "--pack", "auto") == []
    assert told(convolution, "--gpus-per-trial", "1") == []
    assert told(SWEEP, "--address", "auto") == []  # its machines are others
    regression = describe_data(replace(data, classes=(), target=(0.0, 1.0)))
    assert "--pack" not in gpu_notes(resolve(SWEEP), parse(SWEEP, []), regression)[0]
    assert [parse(SWEEP, flags).resources.device for flags in ([], ["--gpus-per-trial", "0.5"])] == ["cpu", "auto"]


def test_a_macs_gpu_is_refused_where_there_is_none_and_beside_flags_of_other_gpus(
    refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = refused(SWEEP, "--device", "mps")
    assert "--device mps needs Metal" in line
    assert "without the flag trials train on the CPU" in line
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)  # as on a Mac
    lines = refused(SWEEP, "--device", "mps", "--pack", "2", "--concurrency", "2")
    assert [line.rpartition(" ")[2] for line in lines] == ["--pack", "--concurrency"]
    assert parse(SWEEP, ["--device", "mps"]).resources.device == "mps"
    (line,) = refused(SWEEP, "--device", "cuda")
    assert "unknown --device 'cuda'" in line


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--scheduler", "none", "--eta", "2"], "--eta has no effect here: --scheduler none has no rungs"),
        (["--scheduler", "median", "--eta", "2"], "--eta has no effect here: --scheduler median has no rungs"),
        (
            ["--scheduler", "none", "--grace", "2"],
            "--grace has no effect here: with --scheduler none no trial is stopped",
        ),
        (["--no-confirm", "--confirm-seeds", "2"], "--confirm-seeds has no effect here: --no-confirm retrains nothing"),
        (
            ["--no-confirm", "--confirm-configs", "2"],
            "--confirm-configs has no effect here: --no-confirm retrains nothing",
        ),
        (["--scheduler", "none", "--audit", "0.5"], "--audit has no effect here: no trial is stopped early"),
        (["--price-per-hour", "2"], "--price-per-hour has no effect here: it is for --plan"),
        (["--fresh", "--widen"], "--widen has no effect here: --fresh starts a new run"),
    ],
)
def test_a_flag_that_does_nothing_beside_others_is_told(flags: list[str], says: str) -> None:
    (note,) = idle_flags(SWEEP, parse(SWEEP, flags))
    assert note.startswith(says)


def test_a_users_command_with_bad_input_exits_with_2_and_never_loads_ray(tmp_path: Path) -> None:
    script = tmp_path / "question.py"
    script.write_text(
        "from rungwise import FloatDistribution, Sweep, main\n"
        "if __name__ == '__main__':\n"
        "    main(Sweep(name='q', space={'lr': FloatDistribution(0.0, 0.1, log=True)}, fixed={'drop': 0.1}))\n"
    )
    command = [sys.executable, "-X", "importtime", str(script), "--out", str(tmp_path / "runs"), "--trials", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert [line.partition(":")[0] for line in said] == ["error"] * 3
    assert "rungwise.engine.validation.check" in modules  # the walk works
    assert not any(module == "ray" or module.startswith("ray.") for module in modules)
    assert not (tmp_path / "runs").exists()


# -- one run, one definition -----------------------------------------------------------------------------------


def asked(sweep: Sweep, *flags: str) -> Experiment:
    return resolve(sweep, parse(sweep, list(flags))).with_data(describe_data(load("digits")))


def test_the_definition_of_the_same_sweep_has_no_differences() -> None:
    before, more = asked(SWEEP), asked(SWEEP, "--trials", "99", "--sampler", "random")
    assert differences(before, before) == []
    assert differences(before, more) == []  # extending a run is no change of it
    changed = asked(replace(SWEEP, fixed={"hidden": (8, 4)}))
    assert differences(before, changed) == ["fixed.hidden: absent -> [8, 4]"]
    assert differences(before, asked(SWEEP, "--budget", "epochs")) == ["budget: trials -> epochs"]


def test_what_changed_between_two_definitions_is_told_line_by_line() -> None:
    changed = replace(
        SWEEP, space={"lr": FloatDistribution(1e-4, 0.5, log=True)}, arms={"a": {}}, epochs=4, metric="val_loss"
    )
    found = differences(asked(SWEEP), asked(changed))
    assert [line.partition(":")[0] for line in found] == [
        "arms.a", "arms.all", "epochs", "metric", "space.l2", "space.lr",
    ]  # fmt: skip
    assert "epochs: 3 -> 4" in found
    assert "metric: val_accuracy -> val_loss" in found
    assert any(line.startswith("space.l2: ") and line.endswith("-> absent") for line in found)
    assert '"high": 0.1' in found[-1].partition(" -> ")[0]
    assert '"high": 0.5' in found[-1].partition(" -> ")[2]


# -- one run, one driver ---------------------------------------------------------------------------------------


def test_a_second_driver_of_a_run_is_refused_and_told_who_holds_it(refused: Any, tmp_path: Path) -> None:
    with locked(tmp_path / "runs" / "demo"):
        (line,) = refused(SWEEP)
    assert f"is being written by pid {os.getpid()} on " in line
    assert "one driver a run" in line


def _hold(folder: Path, ready: Any) -> None:
    with locked(folder):
        ready.set()
        signal.pause()


def test_of_two_drivers_in_the_same_instant_one_runs_and_the_other_is_told_who_does(tmp_path: Path) -> None:
    """The first one holds the lock, but the file names nobody yet, or a driver that was killed."""
    for before in ("", f"pid {ended_process()} on {socket.gethostname()}"):
        with (tmp_path / LOCK).open("w") as file, ThreadPoolExecutor(1) as pool:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(before)
            file.flush()
            second = pool.submit(locked(tmp_path).__enter__)
            assert not wait([second], 0.2).done
            file.truncate(0)
            file.seek(0)
            file.write("pid 1 on another")
            file.flush()
            assert "is being written by pid 1 on another" in str(second.exception(60))


def ended_process() -> int:
    done = subprocess.Popen(["true"])
    done.wait()
    return done.pid


def test_a_killed_drivers_run_is_free_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    driver = context.Process(target=_hold, args=(tmp_path, ready))
    driver.start()
    assert ready.wait(600)
    with pytest.raises(Locked, match=f"pid {driver.pid} on "), locked(tmp_path):
        pass
    driver.kill()
    driver.join()
    with locked(tmp_path):
        assert (tmp_path / "lock").read_text().startswith(f"pid {os.getpid()} on ")


def test_the_help_of_no_confirm_reads_as_what_the_flag_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(SWEEP, ["--help-all"])
    _, _, about = " ".join(re.sub("[│|]", " ", capsys.readouterr().out).split()).partition("--no-confirm")
    about = about.partition(" --")[0]
    assert about.split("(")[0].strip() == "Skip the confirmation: the sweep ends after the search, without an answer."
    assert "True" not in about


@pytest.mark.parametrize(
    ("flags", "terminal", "said"), [([], True, "loading ...\n"), (["--quiet"], True, ""), ([], False, "")]
)
def test_what_takes_a_while_is_told_on_a_terminal_only(
    flags: list[str],
    terminal: bool,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    print_wait(parse(SWEEP, flags), "loading")
    assert capsys.readouterr().err == said


def test_whoever_resumes_is_told_of_trials_that_failed_and_count(tmp_path: Path) -> None:
    with Record(tmp_path) as record:
        for number, kind in enumerate([FailureKind.EXCEPTION, FailureKind.INFEASIBLE, None], 1):
            record.add_trial(number, arm="all", phase="search", config={}, params={}, distributions={})
            failure = None if kind is None else Failure(kind, "why")
            record.end_trial(number, State.FAILED if failure else State.COMPLETED, failure=failure)
    (note,) = failed_notes(tmp_path)
    assert note == "1 trial of this run FAILED before, and will not be trained again; --fresh starts over"
