"""`--folds`: what it goes with, the unit of rungs, and a whole sweep that is killed between two folds."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import distribution_to_json
from support.sweeping import Run, interrupt, stopping

from rungwise import FloatDistribution, Sweep
from rungwise.engine.experiment.command_line import parse
from rungwise.engine.experiment.experiment import resolve
from rungwise.engine.experiment.resume_check import differences
from rungwise.engine.experiment.space import distributions
from rungwise.engine.forecast import _searched_epochs
from rungwise.engine.schedulers.per_arm import rung_schedule
from rungwise.engine.search.earlier.trial import WarmStartError
from rungwise.engine.search.warm_start import earlier_trials
from rungwise.engine.validation import check
from rungwise.results.analysis.answer import answer
from rungwise.results.exporters.optuna_study import studies
from rungwise.results.record.definition import DatasetSummary, Definition
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.results.record.writer import Record

SPACE = {"lr": FloatDistribution(1e-3, 1e-1)}


def problems(tmp_path: Path, *flags: str, **fields: Any) -> list[str]:
    given: dict[str, Any] = {"space": SPACE, "data": "wine", "epochs": 2, "folds": 5, **fields}
    sweep = Sweep(name="folded", **given)
    options = parse(sweep, ["--out", str(tmp_path), *flags])
    return check.problems(resolve(sweep, options), options)


def own_training(config: Any, trial: Any) -> Any:
    yield {"val_loss": config["lr"] + trial.number}


@pytest.mark.parametrize(
    ("flags", "fields", "says"),
    [
        (("--folds", "1"), {}, "--folds must be 2 or more, or 0 for one split (got 1)"),
        (("--folds", "-3"), {}, "--folds must be 2 or more, or 0 for one split (got -3)"),
        (("--pack", "2"), {}, "--pack trains trials of the same samples, but with --folds each model has other ones"),
        (("--patience", "2"), {}, "--patience does not go with --folds"),
        (("--until-sure", "8"), {"arms": {"a": {}, "b": {}}}, "--until-sure does not go with --folds"),
        ((), {"reports_per_epoch": 2}, "reports_per_epoch does not go with --folds: a report is a fold"),
        (("--grace", "11"), {}, "grace must be at most epochs of all 5 folds together (got grace=11, epochs=10)"),
        ((), {"train": own_training, "data": None, "metric": "val_loss"}, "report the mean after each of its folds"),
        (("--folds", "60"), {}, "needs 75 samples or more of each class"),
    ],
)
def test_what_folds_do_not_go_with_is_one_line(
    tmp_path: Path, flags: tuple[str, ...], fields: dict[str, Any], says: str
) -> None:
    lines = problems(tmp_path, *flags, **fields)
    assert len(lines) == 1
    assert says in lines[0]


def test_rungs_lie_after_folds_and_are_told_in_epochs() -> None:
    sweep = Sweep(name="folded", space=SPACE, data="wine", epochs=7, folds=10, trials=4, eta=3.0)
    experiment = resolve(sweep)
    schedule = rung_schedule(experiment)
    assert schedule.steps() == [1, 3, 9, 10]
    assert schedule.epochs() == [7, 21, 63, 70]
    assert schedule.place(21.0) == "after fold 3"
    assert (experiment.trial_epochs, experiment.repeat_epochs, experiment.epochs_of_search) == (70, 77, 280)
    assert all(7 * 4 <= epochs <= 280 for epochs in _searched_epochs(experiment)[:3])
    twice = rung_schedule(resolve(sweep, parse(sweep, ["--grace", "14", "--scheduler", "asha"])))
    assert twice.steps() == [2, 6, 10]


def test_folds_are_part_of_the_definition_and_records_without_them_open() -> None:
    sweep = Sweep(name="folded", space=SPACE, data="wine", folds=5)
    folded, plain = resolve(sweep), resolve(sweep, parse(sweep, ["--folds", "0"]))
    assert Definition.from_json(folded.to_json()).folds == 5
    assert "folds" not in plain.to_json()
    assert Definition.from_json(plain.to_json()).folds == 0
    assert differences(plain, folded) == ["folds: None -> 5"]
    data = DatasetSummary(test=30, test_parts=5)
    tested = [Definition(searches=searches, data=data).tested_samples for searches in (1, 4, 5, 8)]
    assert tested == [30, 120, 150, 150]


SCRIPT = '''"""Does a wider layer help?"""
from rungwise import FloatDistribution, Sweep, main

SWEEP = Sweep(
    name="tiny",
    question=__doc__,
    space={"lr": FloatDistribution(1e-2, 1e-1, log=True)},
    arms={"narrow": {"hidden": (2,)}, "wide": {"hidden": (8,)}},
    fixed={"batch_size": 32},
    data="wine",
    folds=3,
    trials=1,
    searches=2,
    epochs=2,
)
if __name__ == "__main__":
    main(SWEEP)
'''


def test_a_sweep_by_folds_goes_on_after_a_kill_and_tests_each_search_on_its_own_part(tmp_path: Path) -> None:
    flags = ("--confirm-seeds", "1", "--refit-seeds", "1", "--untuned-seeds", "0", "--checkpoint-seconds", "0")
    with stopping(Run(tmp_path, script=SCRIPT, logged=False)) as run:
        run.allow(2)
        killed = run.start(*flags, "--concurrency", "1")
        assert run.await_pause(killed), run.said  # the first trial has trained its third fold, and has not said so
        assert run.await_reports(killed, 2), run.said
        assert interrupt(killed, signal.SIGKILL) == -signal.SIGKILL
        run.await_silence()
        run.allow(None)
        assert run.finish(*flags) == 0, run.said
        with Reader(run.folder) as reader:
            trials, curves, definition = reader.trials(), reader.curves(), reader.definition()
            found, tested = answer(reader), reader.scores("test")
            restored = [(number, data) for _, kind, number, data in reader.events() if kind == "restored"]
    assert restored == [(1, {"step": 2})]
    assert all(trial.state is State.COMPLETED for trial in trials)
    assert all(sorted(curve) == [1, 2, 3] for curve in curves.values())
    for curve in curves.values():
        folds = [curve[step].metrics["fold_val_accuracy"] for step in (1, 2, 3)]
        assert curve[3].metrics["val_accuracy"] == pytest.approx(sum(folds) / 3)
    assert (definition.folds, definition.data.test_parts, definition.data.test) == (3, 5, 36)
    assert found.comparisons[0].difference is not None
    assert found.comparisons[0].difference.n == 2
    assert "each tested on another fifth of the samples" in found.sentence
    assert {trial.trial for trial in trials if trial.phase == "confirm"} <= tested.keys()
    assert (run.folder / "model" / "model.pt2").exists()


def earlier_run(folder: Path) -> Path:
    """A run by folds with a trial in each of two searches, which have test parts of their own."""
    experiment = resolve(Sweep(name="old", space=SPACE, data="wine", folds=3, epochs=2))
    data = {"name": "wine", "digest": "d", "test": 36, "test_parts": 5}
    kinds = {name: distribution_to_json(kind) for name, kind in distributions(experiment.space_of("all")).items()}
    with Record(folder) as record:
        record.set_meta("definition", {**experiment.to_json(), "data": data, "searches": 2})
        for search in (1, 2):
            params = {"lr": search / 100}
            config = {**experiment.given("all"), **params}
            record.add_trial(
                search, arm="all", phase="search", search=search, config=config, params=params, distributions=kinds
            )
            record.start_attempt(search)
            for step in (1, 2, 3):
                record.add_report(search, 1, step, {"val_accuracy": search / 10})
            record.end_trial(search, State.COMPLETED)
    return folder


def test_a_search_learns_from_earlier_trials_that_had_its_test_part(tmp_path: Path) -> None:
    sweep, notes = Sweep(name="new", space=SPACE, data="wine", folds=3, epochs=2, searches=3), list[str]()
    found = earlier_trials(resolve(sweep), [earlier_run(tmp_path)], "d", notes=notes)
    assert "each search takes those of the search with its number" in notes[0]
    new = tmp_path / "new"
    new.mkdir()
    with Record(new) as record:
        record.set_meta("definition", {"name": "new", "arms": {"all": {}}, "folds": 3, "searches": 3})
        record.set_meta("earlier", found)
    with Reader(new) as reader:
        known = {key.search: [trial.values for trial in study.trials] for key, study in studies(reader).items()}
    assert known == {1: [[0.1]], 2: [[0.2]], 3: []}


def test_folds_of_another_number_of_epochs_are_no_earlier_trials(tmp_path: Path) -> None:
    longer = resolve(Sweep(name="new", space=SPACE, data="wine", folds=3, epochs=4))
    with pytest.raises(WarmStartError, match="as many epochs a fold"):
        earlier_trials(longer, [earlier_run(tmp_path)], "d")
