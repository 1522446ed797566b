"""What a command asks for is one value, and what a record keeps of it reads back, of earlier versions too."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rungwise import CategoricalDistribution, Columns, FloatDistribution, Sweep, main
from rungwise.engine.define_run import define_run
from rungwise.engine.experiment.command_line import parse
from rungwise.engine.experiment.experiment import Experiment, resolve
from rungwise.engine.experiment.flags import OWN, Options, default_options, named_options
from rungwise.engine.experiment.resume_check import differences, widening_problems
from rungwise.engine.search.numbering import Numbering
from rungwise.results.io.redaction import Verbatim
from rungwise.results.record.definition import DatasetSummary, Definition
from rungwise.results.record.reader import Reader
from rungwise.results.record.writer import Record
from rungwise.trainable.data.dataset import Dataset, load
from rungwise.trainable.messages import StudyKey
from rungwise.trainable.training.builtin import describe_data

SPACE = {"lr": FloatDistribution(1e-4, 0.1, log=True)}
SWEEP = Sweep(name="demo", space=SPACE, question="Does L2\n  help?", data="digits", trials=4, epochs=3)
# As version 0.1 kept a sweep before samplers, patience and models of one's own came: each key, in its order.
FIRST_KEYS = (
    "name", "sweep", "question", "metric", "mode", "trials", "epochs", "reports_per_epoch", "grace", "eta", "scheduler",
    "sampler", "seed", "arms", "fixed", "space", "data",
)  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def asked(data: Dataset, *flags: str, **changes: Any) -> Experiment:
    sweep = replace(SWEEP, **changes)
    return resolve(sweep, parse(sweep, list(flags))).with_data(describe_data(data))


def first_definition(data: Dataset) -> dict[str, Any]:
    """The definition of `SWEEP` as the first version wrote it, written out by hand."""
    lr = '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.1, "log": true}}'
    about = {"name": "digits", "digest": data.digest, "source": data.source, "shape": [1, 8, 8],
             "classes": [str(digit) for digit in range(10)], "train": len(data.train),
             "validation": len(data.validation), "test": len(data.test or ())}  # fmt: skip
    values = ("demo", "demo", "Does L2 help?", "val_accuracy", "max", 4, 3, 1, 1.0, 3.0, "asha", "tpe", 0, {"all": {}},
              {}, {"lr": lr}, about)  # fmt: skip
    return dict(zip(FIRST_KEYS, values, strict=True))


def test_a_plain_sweep_is_kept_as_the_first_version_kept_it(digits: Dataset) -> None:
    kept = asked(digits).to_json()
    assert tuple(kept) == FIRST_KEYS
    assert json.loads(json.dumps(kept)) == first_definition(digits)


def test_what_is_kept_reads_back_as_the_same_definition(digits: Dataset) -> None:
    rich = asked(
        digits, "--patience", "2", "--max-parameters", "999", "--sampler-options", '{"n_startup_trials": 5}',
        arms={"a": {"l2": 0.0}, "b": {"l2": FloatDistribution(1e-6, 1e-2, log=True)}}, fixed={"hidden": (8, 4)},
        sampler={"a": "random", "b": lambda seed: seed}, objectives=["val_loss"],
    )  # fmt: skip
    text = json.dumps(rich.to_json())
    read = Experiment.from_json(json.loads(text))
    assert type(read) is Definition
    assert json.dumps(read.to_json()) == text
    assert differences(read, rich) == []
    assert read.samplers == {"a": "random", "b": OWN}
    assert read.objectives == {"val_accuracy": "max", "val_loss": "min"}
    assert (read.patience, read.max_parameters, read.fixed) == (2.0, 999, {"hidden": [8, 4]})
    assert '"low": 1e-06' in read.arms["b"]["l2"]


def test_a_key_of_another_version_is_kept_and_told_as_a_difference(digits: Dataset) -> None:
    read = Definition.from_json(first_definition(digits) | {"fidelity": "epochs"})
    assert read.to_json()["fidelity"] == "epochs"
    assert differences(read, asked(digits)) == ["fidelity: epochs -> None"]


def test_a_record_of_the_first_version_goes_on_with_more_trials(tmp_path: Path, digits: Dataset) -> None:
    sweep = replace(SWEEP, trials=8)
    options = parse(sweep, ["--out", str(tmp_path)])
    (tmp_path / "demo").mkdir()
    with Record(tmp_path / "demo") as record:
        record.set_meta("id", "theirs")
        record.set_meta("definition", Verbatim(first_definition(digits)))
        record.add_trial(1, arm="all", phase="search", config={}, params={}, distributions={})
        record.commit()
        define_run(record, resolve(sweep, options).with_data(describe_data(digits)), options, describe_data(digits))
    with Reader(tmp_path / "demo") as reader:
        assert reader.meta("id") == "theirs"
        assert reader.meta("definition") == first_definition(digits) | {"trials": 8}


@pytest.mark.parametrize(("total", "each"), [(32, 16), (33, 17), (0, 0)])
def test_the_total_of_an_earlier_version_is_divided_by_its_arms(total: int, each: int) -> None:
    arms: dict[str, Any] = {"a": {}, "b": {}}
    read = Definition.from_json({"trials": total, "arms": arms})
    assert (read.trials, read.searches, read.order, read.all_trials) == (each, 1, "arrival", 2 * each)
    again = Definition.from_json(json.loads(json.dumps(read.to_json())))
    assert again == read  # what this version writes is not divided again
    assert Definition.from_json({"trials": total, "arms": {"all": {}}}).trials == total


def test_a_run_of_two_arms_of_an_earlier_version_goes_on_with_one_search_and_is_told_so(
    tmp_path: Path, digits: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    arms: dict[str, Any] = {"a": {"l2": 0.0}, "b": {"l2": 0.5}}
    sweep = replace(SWEEP, arms=arms, trials=4, searches=1)
    options = parse(sweep, ["--out", str(tmp_path)])
    (tmp_path / "demo").mkdir()
    with Record(tmp_path / "demo") as record:
        record.set_meta("id", "theirs")
        record.set_meta("definition", Verbatim(first_definition(digits) | {"arms": arms, "trials": 8}))
        for number, arm in enumerate("abababab", 1):
            record.add_trial(number, arm=arm, phase="search", config={}, params={}, distributions={})
        record.commit()
        experiment = resolve(sweep, options).with_data(describe_data(digits))
        define_run(record, experiment, options, describe_data(digits))
    with Reader(tmp_path / "demo") as reader:
        definition, trials = reader.definition(), reader.trials()
    assert (definition.trials, definition.searches, definition.order) == (4, 1, "arrival")
    told = (
        "--trials is now of each search of each arm, --searches asks for several; this run contains one search of 4 "
        "trials"
    )
    assert told in capsys.readouterr().err
    numbering = Numbering(replace(experiment, trials=5, searches=2), [], trials)
    fresh = [numbering.search_trial(study, place) for place in range(5) for study in map(StudyKey, "ab", (2, 2))]
    assert fresh == [*range(9, 17), 19, 20]
    assert [numbering.search_trial(StudyKey(arm), 4) for arm in "ab"] == [17, 18]


def test_what_a_record_does_not_say_has_one_set_of_defaults(tmp_path: Path) -> None:
    folder = tmp_path / "unnamed"
    folder.mkdir()
    for meta in (None, {}, {"metric": None, "data": {}, "model": None}):
        with Record(folder) as record:
            record.set_meta("definition", meta)
        with Reader(folder) as reader:
            found = reader.definition()
        assert found == Definition(name="unnamed")
        assert (found.metric, found.mode, found.objectives) == ("val_accuracy", "max", {"val_accuracy": "max"})
        assert (found.model, found.reports_per_epoch, found.data) == ("mlp", 1, DatasetSummary())
        assert not found.is_regression  # it does not say so


def test_of_no_classes_is_a_regression_and_of_unknown_ones_is_not() -> None:
    assert Definition.from_json({"data": {"classes": []}}).is_regression
    assert not Definition.from_json({"data": {"classes": ["cat"]}}).is_regression
    assert not Definition.from_json({"data": {"train": 5}}).is_regression


# Flags whose values decide what is tried or trained: what each makes of the definition.
DEFINING = {
    "trials": ("--trials", "7", {"trials": 7}),
    "searches": ("--searches", "3", {"searches": 3, "order": "fixed"}),
    "budget": ("--budget", "epochs", {"budget": "epochs"}),
    "order": ("--order", "fixed", {"order": "fixed"}),
    "until_sure": ("--until-sure", "12", {"until_sure": 12}),
    "worth": ("--worth", "0.5", {"worth": 0.5}),
    "epochs": ("--epochs", "5", {"epochs": 5}),
    "grace": ("--grace", "2", {"grace": 2.0}),
    "eta": ("--eta", "2", {"eta": 2.0}),
    "name": ("--name", "other", {"name": "other"}),
    "model": ("--model", "cnn", {"model": "cnn"}),
    "sampler": ("--sampler", "random", {"sampler": "random"}),
    "sampler_options": ("--sampler-options", '{"seed": 3}', {"sampler_options": {"seed": 3}}),
    "scheduler": ("--scheduler", "median", {"scheduler": "median"}),
    "patience": ("--patience", "1.5", {"patience": 1.5}),
    "max_parameters": ("--max-parameters", "10", {"max_parameters": 10}),
    "seed": ("--seed", "9", {"seed": 9}),
    "preprocess": ("--preprocess", "none", {"training": {"kind": "built-in", "preprocess": "none"}}),
    "folds": ("--folds", "5", {"folds": 5}),
    "precision": ("--precision", "bf16", {"fixed": {"precision": "bf16"}}),
}
# What is trained again after the search: the experiment's, and no part of the definition.
AFTERWARDS = {"confirm_configs", "confirm_seeds", "refit_seeds", "untuned_seeds", "confirm", "audit"}
# Where and how it runs. The data is in the definition as what was read; --warm-start and --enqueue are kept beside it.
COLUMNS = {field.name for field in dataclasses.fields(Columns)}
RUNNING = {
    *COLUMNS, "data", "out", "concurrency", "cpus_per_trial", "gpus_per_trial", "device", "pack", "address",
    "mirror",
    "loggers", "experiment", "tags", "tracking_uri", "data_root", "time_budget", "trial_timeout", "checkpoint_seconds",
    "retries", "warm_start", "enqueue", "widen",
    "accept_changed_model", "fresh", "plan", "price_per_hour", "one", "quiet",
}  # fmt: skip


@pytest.mark.parametrize("flag", DEFINING)
def test_a_flag_that_changes_what_is_asked_shows_up_in_the_definition(flag: str, digits: Dataset) -> None:
    name, value, change = DEFINING[flag]
    before, after = asked(digits).to_json(), asked(digits, name, value).to_json()
    assert {key: after[key] for key in after if after[key] != before.get(key)} == change
    assert before.keys() <= after.keys()


def test_every_flag_is_known_to_change_the_definition_or_not() -> None:
    groups = [set(DEFINING), AFTERWARDS, RUNNING]
    assert set.union(*groups) == {field.name for field in dataclasses.fields(Options)}
    assert sum(map(len, groups)) == len(set.union(*groups))


def test_flags_of_the_confirmation_are_the_experiments_and_not_the_records(digits: Dataset) -> None:
    flags = ["--confirm-configs", "2", "--confirm-seeds", "4", "--audit", "0.5"]
    more = asked(digits, *flags, arms={"a": {}, "b": {}})
    assert (more.confirm_configs, more.confirm_seeds, more.audit, more.confirmations) == (2, 4, 0.5, 2 * 5 * 2 * 4)
    assert asked(digits, *flags, "--no-confirm").repeats == 0
    assert more.repeats == more.confirmations + 3 + 5 * 2  # the model's seeds, and the defaults of five searches
    assert asked(digits, *flags).to_json() == asked(digits).to_json()


def test_a_value_of_the_script_is_the_experiments_unless_a_flag_says_otherwise() -> None:
    sweep = replace(SWEEP, eta=4.0, sampler=lambda seed: seed, fixed={"precision": "bf16", "l2": 0.1})
    plain = resolve(sweep)
    assert (plain.eta, plain.sampler, plain.sampler_of("all")) == (4.0, OWN, sweep.sampler)
    assert plain.given("all") == {"precision": "bf16", "l2": 0.1}
    told = resolve(sweep, replace(default_options(sweep), sampler="random", precision="fp32", model="cnn"))
    assert told.sampler_of("all") == "random"
    assert told.given("all") == {"model": "cnn", "precision": "fp32", "l2": 0.1}


def test_an_arm_searches_its_own_range_and_not_what_it_fixes() -> None:
    dropout = CategoricalDistribution([0.0, 0.5])
    both = resolve(replace(SWEEP, arms={"fixed": {"lr": 0.1}, "more": {"dropout": dropout, "l2": 0.5}}))
    assert both.space_of("fixed") == {}
    assert both.space_of("more") == {**SPACE, "dropout": dropout}
    assert both.given("more") == {"l2": 0.5}


def test_a_dict_never_contains_the_space_that_a_function_was(digits: Dataset) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {"lr": trial.suggest_float("lr", 0.1, 0.2)}

    before = Definition.from_json(asked(digits, space=space).to_json())
    assert widening_problems(SPACE, before, []) == ["the old space is a function, the new one must be one too"]


OLD_FLAG = "note: --like is now --warm-start; the old name will be removed in version 0.3\n"


@pytest.mark.parametrize("arguments", [["--like", "runs/a", "runs/b"], ["--like=runs/a", "runs/b"]])
def test_the_old_name_of_a_flag_works_and_a_note_says_the_new_one(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = Sweep(name="s", space={"lr": FloatDistribution(0.01, 0.1)})
    paths = (Path("runs/a"), Path("runs/b"))
    assert parse(sweep, ["--warm-start", "runs/a", "runs/b"]).warm_start == ("runs/a", "runs/b")
    assert capsys.readouterr().err == ""
    assert parse(sweep, arguments).warm_start == ("runs/a", "runs/b")
    assert capsys.readouterr().err == OLD_FLAG
    assert named_options(sweep, {"like": paths}).warm_start == paths
    assert capsys.readouterr().err == OLD_FLAG


@pytest.mark.parametrize(
    "words",
    [
        ["--drop", "a", "b", "--trials", "3"],
        ["--drop", "a", "--trials", "3", "--drop", "b"],
        ["--drop=a", "--drop", "b", "--trials=3"],
    ],
)
def test_columns_may_be_named_behind_one_flag_or_several(words: list[str]) -> None:
    options = parse(Sweep(name="s", space={"lr": FloatDistribution(1e-3, 1e-1)}, data="t.csv"), words)
    assert (options.drop, options.trials) == (("a", "b"), 3)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--trails", "8"], "unknown flag --trails; did you mean --trials?"),
        (
            ["--searchs", "4", "--epoch=2"],
            "unknown flag --searchs; did you mean --searches? unknown flag --epoch; did you mean --epochs?",
        ),
        (["--no-confrim"], "unknown flag --no-confrim; did you mean --no-confirm?"),
        (["--concurency=2"], "unknown flag --concurency; did you mean --concurrency?"),
        (["--trials", "many"], "--trials must be a whole number (got 'many')"),
        (["--untuned-seeds", "1.5"], "--untuned-seeds must be a whole number (got '1.5')"),
        (["--patience", "x"], "--patience must be a number (got 'x')"),
        (["--eta", "x"], "--eta must be a number (got 'x')"),
        (["--resume"], "unknown flag --resume; a run that exists resumes without a flag."),
        (["--lr=0.1"], "unknown flag --lr; lr is searched as the script says; --enqueue names a value to try first."),
        (["--metric", "val_loss"], "unknown flag --metric; it is set in the script."),
        (["--trials"], "--trials needs a value"),
        (["--trials", "3", "4"], "unexpected argument '4'"),
    ],
)
def test_a_wrong_flag_is_refused_in_one_line_with_the_nearest(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(Sweep(name="s", space={"lr": FloatDistribution(0.01, 0.1)}), arguments)
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: {problem} (see --help)\n"


@pytest.mark.parametrize("also", [{"parameters": "min"}, ["parameters"]])
def test_the_old_name_of_objectives_works_and_a_note_says_the_new_one(
    also: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    new = Sweep(name="s", space={}, objectives=also)
    assert capsys.readouterr().err == ""
    old = Sweep(name="s", space={}, also=also)
    assert (
        capsys.readouterr().err
        == "note: `also` of a Sweep is now `objectives`; the old name will be removed in version 0.3\n"
    )
    assert replace(old, trials=3).all_objectives == new.all_objectives == {"val_accuracy": "max", "parameters": "min"}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("metric", "mode"),
    [
        *dict.fromkeys(
            ("val_loss", "val_rmse", "eval_loss", "validation_0-logloss", "val/WER", "dice_loss"), "min"
        ).items(),
        *dict.fromkeys(("val_r2", "macro_f1", "roc_auc", "top_1_accuracy"), "max").items(),
        *dict.fromkeys(("neg_mean_squared_error", "reward", "lr", "loss_reduction", "score", ""), None).items(),
    ],
)
def test_the_name_of_a_metric_in_general_use_says_which_way_is_better(metric: str, mode: str | None) -> None:
    assert Sweep(name="s", space={}, metric=metric).mode == mode
    assert Sweep(name="s", space={}, metric=metric, mode="max").mode == "max"
