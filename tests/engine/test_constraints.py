"""Constraints on reported metrics: told to the sampler, and a trial that breaks one is never the best."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.confirmed import asked, begun
from support.loop import Loop

from rungwise import FloatDistribution, Sweep
from rungwise.engine.experiment.experiment import resolve
from rungwise.engine.search.reruns import best_of
from rungwise.results.analysis.answer import answer
from rungwise.results.progress.summary import summarise
from rungwise.results.record.definition import Definition
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import SweepState
from rungwise.results.tables.tables import tables
from rungwise.trainable.messages import StudyKey, TrialEnd

SWEEP = Sweep(
    "limited",
    {"lr": FloatDistribution(1e-3, 1e-1, log=True)},
    constraints={"seconds": ("<=", 5), "val_loss": (">=", 0.5)},
    scheduler="none",
    epochs=1,
)
REPORTS = [  # accuracy, seconds, loss
    (0.9, 7.0, 1.0),  # the best accuracy, and too slow
    (0.8, 4.0, 0.4),  # the loss is too low
    (0.7, 4.0, 1.0),
    (0.6, 5.0, 0.5),  # on both limits
]


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    loop = Loop(tmp_path, SWEEP, trials=len(REPORTS))
    experiment = resolve(SWEEP)
    definition = Definition(metric="val_accuracy", mode="max", arms={"all": {}}, constraints=experiment.constraints)
    loop.record.set_meta("definition", definition.to_json())
    loop.recorder.breach = experiment.breach
    for accuracy, seconds, loss in REPORTS:
        trial: Any = loop.deal()
        metrics = {"epoch": 1.0, "val_accuracy": accuracy, "seconds": seconds, "val_loss": loss}
        assert loop.report(trial, accuracy, 1, metrics=metrics, state=TrialEnd.COMPLETED)
    return loop


def test_a_violation_is_positive_where_the_constraint_is_broken() -> None:
    definition = Definition(constraints={"seconds": ["<=", 5], "f1": [">=", 0.5]})
    assert definition.violations({"seconds": 7.0, "f1": 0.75}) == {"seconds": 2.0, "f1": -0.25}
    assert definition.breach({"seconds": 7.0}) == "seconds must be at most 5, but got 7"
    assert definition.breach({"f1": 0.25, "seconds": 5.0}) == "f1 must be at least 0.5, but got 0.25"
    assert definition.breach({"seconds": float("nan")}) is None  # its objective says that it diverged
    assert Definition.from_json(definition.to_json()).constraints == definition.constraints


def test_the_sampler_is_told_by_how_much_and_a_later_driver_rebuilds_it(loop: Loop) -> None:
    wanted = [{"seconds": s - 5, "val_loss": 0.5 - loss} for _, s, loss in REPORTS]
    assert [trial.constraints for trial in loop.live()] == [pytest.approx(one) for one in wanted]
    assert [trial.constraints for trial in loop.rebuilt()] == [pytest.approx(one) for one in wanted]


def test_the_progress_names_no_trial_that_breaks_one_as_best(loop: Loop) -> None:
    assert loop.board.best == {"all": (0.7, 3)}
    with Reader(loop.record.path.parent) as reader:
        later = replace(loop.board, scores={}, running={})
        later.replay(reader.trials(), reader.curves(), resolve(SWEEP))
    assert later.best == {"all": (0.7, 3)}


def test_a_trial_that_breaks_one_says_it_and_is_neither_ranked_nor_confirmed_nor_best(loop: Loop) -> None:
    reasons = [row.reason for row in loop.rows().values()]
    assert reasons == ["seconds must be at most 5, but got 7", "val_loss must be at least 0.5, but got 0.4", None, None]
    folder = loop.record.path.parent
    with Reader(folder) as reader:
        searched, curves = reader.trials("search"), reader.curves()
        best = best_of(StudyKey("all"), searched, curves, resolve(SWEEP))
        (arm,) = answer(reader).arms
    assert [trial.trial for trial in best] == [3, 4]
    assert arm.best_seen is not None
    assert arm.best_seen.trial == 3
    with Reader(folder) as reader:
        ranks = tables(reader).trials["rank"].to_pylist()
    assert ranks == [None, None, 1, 2]


def test_an_arm_that_breaks_a_constraint_on_most_seeds_is_not_best_and_the_model_is_a_seed_that_keeps_it(
    tmp_path: Path,
) -> None:
    made = begun(tmp_path / "run", 2, constraints={"val_accuracy": ["<=", 0.985]})
    kept = []
    for search in (1, 2):
        source = made.search("no L2", 0.97, 0.98, lr=0.01, search=search)
        kept += [made.confirm("no L2", source, search, 0.97, search=search)]
        made.confirm("no L2", source, 10 + search, 0.96, search=search)
        broken = made.search("L2", 0.97, 0.99, lr=0.003, search=search)
        source = made.search("L2", 0.975, lr=0.002, search=search)
        for seed, value in ((20 + search, 0.984), (30 + search, 0.988), (40 + search, 0.989)):
            made.confirm("L2", source, seed, value, search=search)
    made.record.end_session(1, SweepState.FINISHED)
    made.record.close()
    found = asked(tmp_path / "run")
    assert (found.best, found.model) == ("no L2", kept[0])
    seen = found.arm("L2").best_seen
    assert seen is not None
    assert (seen.value, seen.trial != broken) == (0.975, True)
    assert any("breaks a constraint on 2 of 3 fresh seeds" in note for note in found.note_texts)
    with Reader(tmp_path / "run") as reader:
        summary = summarise(reader, tmp_path / "run", {"mlflow": "complete"})
    words = " ".join(summary.split())  # lines are as long as the terminal is wide
    assert "note Trial 5 of L2 breaks a constraint on 2 of 3 fresh seeds: val_accuracy must be at most" in words
