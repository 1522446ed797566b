"""The same command gives the same record: whatever the order of reports, the concurrency, and the place of a kill."""

from __future__ import annotations

import random
from dataclasses import replace
from math import log10
from pathlib import Path
from typing import Any

import pytest
from support.loop import Loop

from rungwise import FloatDistribution, Sweep
from rungwise.engine.experiment.experiment import resolve
from rungwise.engine.experiment.flags import default_options
from rungwise.engine.search.numbering import Numbering
from rungwise.engine.search.reruns import Repeat, repeats
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.trainable.messages import Failure, FailureKind, StudyKey, TrialEnd

SWEEP = Sweep(
    name="order",
    space={"lr": FloatDistribution(1e-4, 1e-1, log=True), "dropout": FloatDistribution(0.0, 0.5)},
    arms={"plain": {"l2": 0.0}, "decayed": {"l2": 0.5}},
    epochs=4,
    eta=2.0,
)
TRIALS, SEARCHES = 12, 3


def score(config: dict[str, Any], step: int) -> float:
    """The best is lr=0.01 without dropout; seeds differ a little."""
    luck = random.Random(config["seed"]).gauss(0, 0.01)
    return -abs(log10(config["lr"]) + 2) - config["dropout"] - 1 / step + luck


class Command:
    """One command at work on the record in `folder`, whose trials report in an order that `luck` draws."""

    def __init__(
        self, folder: Path, luck: random.Random, *, in_flight: int, trials: int, searches: int, budget: str = "trials"
    ) -> None:
        folder.mkdir(exist_ok=True)
        self._luck, self._flying, self._folder = luck, list[Any](), folder
        asked = replace(SWEEP, trials=trials, searches=searches)
        self._experiment = resolve(asked, replace(default_options(asked), budget=budget))
        self.loop = Loop(
            folder,
            SWEEP,
            trials=trials,
            searches=searches,
            in_flight=in_flight,
            order="fixed",
            repeats=self._repeats,
            budget=budget,
        )
        with Reader(folder) as reader:
            self._steps = {trial: max(curve) for trial, curve in reader.curves().items()}

    def _repeats(self) -> list[Repeat]:
        self.loop.record.commit()
        with Reader(self._folder) as reader:
            return repeats(self._experiment, reader.trials(), reader.curves())

    def run(self, reports: int | None = None) -> None:
        """To the end, or until so many reports were sent: the driver is killed then."""
        while True:
            while not isinstance(trial := self.loop.deal(), str | None):
                self._flying.append(trial)
                searched = [one.config for one in self._flying if one.config["phase"] == "search"]
                assert len({(one["arm"], one["search"]) for one in searched}) == len(searched)
            if not self._flying:
                self.loop.record.commit()
                return
            if reports == 0:
                self.loop.crash()
                return
            reports = None if reports is None else reports - 1
            trial = self._luck.choice(self._flying)
            number, config = trial.config["trial"], trial.config["config"]
            step = self._steps[number] = self._steps.get(number, 0) + 1
            more = {"state": TrialEnd.COMPLETED} if step == SWEEP.epochs else {}
            if self.loop.report(trial, score(config, step), step, **more):
                self._flying.remove(trial)


def table(folder: Path) -> list[tuple[Any, ...]]:
    """What the record says of the trials, but for times, attempts and places."""
    with Reader(folder) as reader:
        rows, curves = reader.trials(), reader.curves()
    return [
        (
            *(row.trial, row.arm, row.search, row.phase, row.source, row.state, row.config, row.stop_rung, row.cutoff),
            [(step, one.metrics) for step, one in sorted(curves[row.trial].items())],
        )
        for row in rows
    ]


def record(folder: Path, seed: int, in_flight: int, kills: tuple[int, ...] = (), **asked: Any) -> list[tuple[Any, ...]]:
    luck, wanted = random.Random(seed), dict[str, Any](trials=TRIALS, searches=SEARCHES) | asked
    for reports in (*kills, None):
        Command(folder, luck, in_flight=in_flight, **wanted).run(reports)
    return table(folder)


def test_by_epochs_each_search_trains_equally_many_whatever_runs_beside_it_and_is_killed(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"trials": 4, "searches": 2, "budget": "epochs"}
    wanted = record(tmp_path / "one at a time", 0, 1, **asked)
    epochs, trials = dict[StudyKey, int](), dict[StudyKey, int]()
    for row in wanted:
        if row[3] == "search":
            study = StudyKey(row[1], row[2])
            epochs[study] = epochs.get(study, 0) + len(row[-1])
            trials[study] = trials.get(study, 0) + 1
    assert epochs == dict.fromkeys(epochs, 4 * SWEEP.epochs)
    assert len(epochs) == 4
    assert min(trials.values()) >= 4 < max(trials.values())  # what early stopping saved went into further trials
    with Reader(tmp_path / "one at a time") as reader:
        reasons = [trial.reason for trial in reader.trials() if trial.state is State.STOPPED]
    assert 1 <= reasons.count("its search has trained all its epochs") <= 4
    for seed, in_flight in enumerate((3, 99)):
        assert record(tmp_path / f"{in_flight}", seed, in_flight, (9, 7), **asked) == wanted
    more = record(tmp_path / "one at a time", 0, 2, **(asked | {"trials": 5}))
    held = {row[0]: row for row in more}
    changed = [row[0] for row in wanted if row[3] == "search" and held[row[0]] != row]
    assert changed == []  # a trial that was cut stays so


def test_by_epochs_a_search_whose_trials_all_fail_ends(tmp_path: Path) -> None:
    loop = Loop(tmp_path, SWEEP, trials=2, in_flight=1, order="fixed", budget="epochs")
    failed = 0
    while not isinstance(trial := loop.deal(), str | None):
        loop.fail(trial, Failure(FailureKind.EXCEPTION, "no"))
        failed += 1
    assert failed == 2 * 2 * SWEEP.epochs  # of two arms: each trial counts as an epoch


def test_the_record_depends_neither_on_concurrency_nor_on_order_nor_on_kills(tmp_path: Path) -> None:
    wanted = record(tmp_path / "one at a time", 0, in_flight=1)
    states = [row[5] for row in wanted if row[3] == "search"]
    assert len(states) == TRIALS * SEARCHES * 2
    assert min(states.count(State.COMPLETED), states.count(State.STOPPED)) >= 12  # rungs had something to decide
    assert [row[0] for row in wanted] == list(range(1, len(wanted) + 1))
    for seed, in_flight in enumerate((2, 4, 6, 99)):
        assert record(tmp_path / f"{in_flight}", seed, in_flight) == wanted
        kills = tuple(random.Random(seed).choices(range(1, 60), k=2))
        assert record(tmp_path / f"{in_flight}, killed", seed, in_flight, kills) == wanted, kills


def test_each_search_has_suggestions_seeds_and_a_winner_of_its_own(tmp_path: Path) -> None:
    rows = record(tmp_path / "run", 0, in_flight=4)
    configs = [row[6] for row in rows]
    assert len({config["seed"] for config in configs[: -2 * 2]}) >= len(rows) - 2 * SEARCHES  # search 1 shares its two
    assert len({(config["lr"], config["dropout"]) for config in configs[: TRIALS * SEARCHES * 2]}) == 72
    confirmed: dict[tuple[str, int], list[int]] = {}
    for _, arm, search, phase, source, *_ in rows:
        if phase == "confirm":
            confirmed.setdefault((arm, search), []).append(source)
    assert {study: len(sources) for study, sources in confirmed.items()} == dict.fromkeys(
        [(arm, search) for search in (1, 2, 3) for arm in SWEEP.arms], 2
    )
    by_number = {row[0]: row for row in rows}
    for study, (first, second) in confirmed.items():
        assert first == second
        assert by_number[first][1:3] == study


def test_more_searches_and_more_trials_add_theirs_and_change_none(tmp_path: Path) -> None:
    record(tmp_path / "at once", 0, 4)
    small = record(tmp_path / "run", 1, 4, searches=2)
    more = record(tmp_path / "run", 2, 3)
    assert more[: len(small)] == small
    whole = [row[1:4] + row[5:] for row in table(tmp_path / "at once")]  # but for its numbers, and those of sources
    assert sorted(map(repr, (row[1:4] + row[5:] for row in more))) == sorted(map(repr, whole))
    longer = record(tmp_path / "run", 3, 2, trials=TRIALS + 2)
    assert longer[: len(more)] == more
    assert sum(row[3] == "search" for row in longer) == (TRIALS + 2) * SEARCHES * 2


@pytest.mark.parametrize(("trials", "searches"), [(1, 1), (3, 2)])
def test_numbers_follow_from_arm_search_and_place(trials: int, searches: int) -> None:
    asked = replace(SWEEP, trials=trials, searches=searches, confirm_configs=1, confirm_seeds=2)
    experiment = resolve(asked, default_options(asked))
    numbering, other = Numbering(experiment, [], []), Numbering(experiment, [], [])
    studies = [StudyKey(arm, search) for search in range(1, searches + 1) for arm in SWEEP.arms]
    in_turn = [numbering.search_trial(study, place) for place in range(trials) for study in studies]
    one_by_one = {(study, place): other.search_trial(study, place) for study in studies for place in range(trials)}
    assert in_turn == list(range(1, trials * len(studies) + 1))
    assert [one_by_one[study, place] for place in range(trials) for study in studies] == in_turn
    again = [numbering.confirmation(study, 0, seed) for seed in (0, 1) for study in studies]
    assert again == list(range(in_turn[-1] + 1, in_turn[-1] + 1 + 2 * len(studies)))
    groups = range(1, searches + 1)
    beside = [numbering.untuned(search, seed) for seed in range(experiment.untuned_seeds) for search in groups]
    beside += [numbering.refit(seed) for seed in range(experiment.refit_seeds)]
    assert beside == list(range(again[-1] + 1, again[-1] + 1 + (0 if searches == 1 else 2 * searches + 3)))
    last = [*again, *beside][-1]
    assert numbering.confirmation(studies[0], 0, 0) == numbering.next_free() - 1 == last + 1  # that one is taken
